// In a cell tagged "linked-listing", each line of code leads to the chapter that builds it. A comment such as
// "# 02 Attention" heads the lines of chapter 02; its page is found in the contents at the side.
// One stop of the Tab key a group: the comment. The lines below it answer to the pointer alone.
document.addEventListener("DOMContentLoaded", () => {
  const chapters = {};
  for (const link of document.querySelectorAll("nav.bd-links a[href]")) {
    const number = link.getAttribute("href").match(/(?:^|\/)(\d\d)_\w+\.html$/)?.[1];
    if (number) chapters[number] ??= link.getAttribute("href");
  }
  for (const code of document.querySelectorAll(".tag_linked-listing .cell_input pre")) {
    let target = null;
    for (const line of lines(code)) {
      const heading = line.textContent.match(/^# (\d\d) /)?.[1];
      if (heading) target = chapters[heading];
      if (!target || !line.textContent.trim()) continue;
      const link = document.createElement("a");
      link.className = "listing-line";
      link.href = target;
      link.draggable = false;                                  // dragging selects text, as in any listing
      if (heading) link.title = `Chapter ${heading} builds this`;
      else link.tabIndex = -1;
      link.append(...line.childNodes);
      line.append(link);
    }
  }

  // The lines of highlighted code, each put into an element of its own; the line breaks stay between them.
  function lines(code) {
    const all = [document.createElement("span")], content = [];
    for (const node of [...code.childNodes]) {
      node.textContent.split("\n").forEach((text, i) => {
        if (i) {
          content.push(all.at(-1), "\n");
          all.push(document.createElement("span"));
        }
        const piece = node.cloneNode();
        if (text) piece.textContent = text, all.at(-1).append(piece);
      });
    }
    code.replaceChildren(...content, all.at(-1));
    return all;
  }
});
