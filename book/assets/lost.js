// The button that opens an issue asks for the form "I was lost here" (.github/ISSUE_TEMPLATE/lost.yml), with the place
// filled in: the chapter, and the section whose heading the reader has scrolled past last.
document.addEventListener("DOMContentLoaded", () => {
  const button = document.querySelector("a.btn-source-issues-button");
  if (!button) return;
  const form = button.href.replace(/\/issues\/new.*/, "/issues/new");
  const text = button.querySelector(".btn__text-container");
  if (text) text.textContent = "I was lost here";
  button.title = "Report a place that you could not follow";
  button.href = `${form}?template=lost.yml`;

  // What a heading says, roots and the theme's link sign included or not.
  function words(heading) {
    const copy = heading.cloneNode(true);
    for (const link of copy.querySelectorAll(".headerlink")) link.remove();
    for (const root of copy.querySelectorAll("msqrt")) root.prepend("√");
    return copy.textContent.replace(/\s+/g, " ").trim();
  }

  function fillIn() {
    const headings = [...document.querySelectorAll("article.bd-article :is(h1, h2, h3)")].filter(heading => heading.checkVisibility());
    if (!headings.length) return;
    const line = Math.min(innerHeight / 3, 250);
    const passed = headings.filter(heading => heading.getBoundingClientRect().top < line).at(-1) ?? headings[0];
    const place = [...new Set([words(headings[0]), words(passed)])].join(" › ");
    button.href = `${form}?${new URLSearchParams({ template: "lost.yml", title: `Lost in: ${words(passed)}`, place })}`;
  }

  // Only now: where a heading stands is known when the whole page is laid out, and a page that opens should not wait.
  for (const event of ["pointerdown", "focus", "click"]) button.addEventListener(event, fillIn);
});
