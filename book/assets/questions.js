// The questions to come back to: on request one at a time, shuffled, with "again" and "known". What is known is kept in
// this browser alone. Without this script the page is the plain list; so it is on paper.
document.addEventListener("DOMContentLoaded", () => {
  const KEY = "vit-edu-known-questions";
  const all = [...document.querySelectorAll(".bd-article details.question")];
  const first = all[0]?.closest("section");
  if (!first) return;
  const text = question => question.querySelector("summary").textContent.replace(/\s+/g, " ").trim();
  const known = new Set(stored());
  let queue = [];    // the questions to come, the one that is shown first

  const begin = button("shuffle", start), stop = button("stop", end), forget = button("forget what I know", reset);
  const again = button("again", () => queue.splice(4, 0, queue.shift()) && show());
  const know = button("known", () => {
    known.add(text(queue.shift()));
    save();
    show();
  });
  const status = document.createElement("p");
  status.setAttribute("role", "status");
  const bar = group("All questions", begin, stop, forget, status), answer = group("This question", again, know);
  first.before(bar);
  idle();

  function button(label, action) {
    const made = Object.assign(document.createElement("button"), { type: "button", textContent: label });
    made.addEventListener("click", action);
    return made;
  }
  function group(label, ...children) {
    const made = Object.assign(document.createElement("div"), { className: "recall" });
    made.setAttribute("role", "group");
    made.setAttribute("aria-label", label);
    made.append(...children);
    return made;
  }

  // Where a browser stores nothing, or holds what is no list, the page begins anew each time.
  function stored() {
    try {
      const list = JSON.parse(localStorage.getItem(KEY));
      return Array.isArray(list) ? list : [];
    } catch {
      return [];
    }
  }
  function save() {
    try {
      localStorage.setItem(KEY, JSON.stringify([...known]));
    } catch {}
  }

  function start() {
    queue = all.filter(question => !known.has(text(question)));
    for (let i = queue.length - 1; i > 0; i--) {
      const j = Math.floor(Math.random() * (i + 1));
      [queue[i], queue[j]] = [queue[j], queue[i]];
    }
    show();
  }

  function show() {
    const current = queue[0];
    if (!current) return end();
    for (const question of all) {
      question.hidden = question !== current;
      question.open = false;
    }
    for (const section of new Set(all.map(question => question.closest("section")))) section.hidden = !section.contains(current);
    current.after(answer);
    stop.hidden = false;
    begin.hidden = true;
    mark();
    current.querySelector("summary").focus();
  }

  function end() {
    idle();
    (begin.disabled ? forget : begin).focus();
  }
  function idle() {
    for (const question of all) {
      question.hidden = question.open = false;
      question.closest("section").hidden = false;
    }
    queue = [];
    answer.remove();
    stop.hidden = true;
    begin.hidden = false;
    mark();
  }
  function reset() {
    known.clear();
    save();
    if (queue.length) return start();
    mark();
    begin.focus();
  }

  function mark() {
    for (const question of all) question.classList.toggle("known", known.has(text(question)));
    const count = all.filter(question => question.classList.contains("known")).length;
    begin.disabled = count === all.length;
    forget.hidden = !count;
    const left = queue.length ? `, ${queue.length} to go` : count === all.length ? ": all of them" : "";
    status.textContent = `${count} of ${all.length} known${left}.`;
  }
});
