// The shape lens: a line of code shows the shapes of what it assigned when the page's outputs were made.
// By pointer: rest on a line. By finger: tap it. By keyboard: Tab to a listing's marks, arrows from line to line.
// Escape, or a tap elsewhere, puts it away. The code itself is not touched: all of this lies over it.
document.addEventListener("DOMContentLoaded", () => {
  const ENTRY = /^(\d+)(?:-(\d+))?(?: call (\d+)| (check))?(?: pass (\d+)(?:\+(\d+))?)?: (.*)$/;
  const SOON = 120, GRACE = 250;                    // milliseconds before the lens comes, and before it goes
  let shown = null, pinned = false, timer = 0;      // one line of one listing at a time

  function make(kind, className, text = "") {
    const element = document.createElement(kind);
    element.className = className;
    element.textContent = text;
    return element;
  }

  // The entries of a cell, by statement: its lines, and rows of [when, [name, words], ...].
  function statements(entries) {
    const found = new Map();
    for (const entry of entries) {
      const match = entry.match(ENTRY);
      if (!match) continue;
      const [, first, last = first, call, check, pass, same, words] = match;
      const when = [
        call && `call ${call}`,
        check && "in the check",
        pass && (same ? `pass 1 and pass ${same}` : `pass ${pass}`),
      ].filter(Boolean).join(", ");
      const items = words.replace(/(^|[\s([])-(?=[\d.i])/g, "$1−").split("; ").map(item => {
        const at = item.indexOf(": ");
        return at < 0 ? ["", item] : [item.slice(0, at), item.slice(at + 2)];
      });
      const statement = found.get(first) ?? { first: +first, last: +last, rows: [] };
      statement.rows.push({ when, items });
      found.set(first, statement);
    }
    return [...found.values()].sort((a, b) => a.first - b.first);
  }

  function spoken({ first, rows }) {
    const words = rows.map(({ when, items }) =>
      (when && `${when}: `) + items.map(([name, words]) => `${name} ${words}`.trim()).join("; "));
    return `Line ${first}: ${words.join(". ")}`;
  }

  function bubble({ rows }) {
    const box = make("div", "lens-words");
    box.ariaHidden = "true";                        // the mark's label says the same
    for (const { when, items } of rows) {
      if (when) box.append(make("div", "lens-when", when));
      for (const [name, words] of items) box.append(make("b", "", name), make("span", "", words));
    }
    return box;
  }

  function hide() {
    clearTimeout(timer);
    shown?.box.remove();
    shown?.bar.remove();
    shown = null;
    pinned = false;
  }

  function later(action, wait) {
    clearTimeout(timer);
    timer = setTimeout(action, wait);
  }

  function show(listing, statement) {
    clearTimeout(timer);
    if (shown?.statement === statement) return;
    hide();
    const box = bubble(statement), bar = make("div", "lens-bar");
    bar.style.setProperty("--first", statement.first - 1);
    bar.style.setProperty("--lines", statement.last - statement.first + 1);
    listing.lens.append(bar, box);
    const line = bar.getBoundingClientRect(), bounds = listing.lens.getBoundingClientRect();
    const header = document.querySelector(".bd-header-article")?.getBoundingClientRect().bottom ?? 0;
    const above = line.top - box.offsetHeight > Math.max(0, header);
    box.style.top = `${(above ? line.top - box.offsetHeight : line.bottom) - bounds.top}px`;
    box.addEventListener("pointerenter", () => clearTimeout(timer));
    box.addEventListener("pointerleave", () => pinned || later(hide, GRACE));
    shown = { listing, statement, box, bar };
  }

  for (const data of document.querySelectorAll("script.lens-data")) {
    const pre = data.parentElement.querySelector("pre");
    const all = statements(JSON.parse(data.textContent));
    if (!pre || !all.length) continue;
    const n = pre.textContent.replace(/\n$/, "").split("\n").length;
    const lens = make("div", "lens"), listing = { lens };
    lens.role = "group";
    lens.ariaLabel = "Shapes, line by line";

    const marks = all.map((statement, i) => {
      const mark = make("button", "lens-mark");
      mark.type = "button";
      mark.tabIndex = i ? -1 : 0;
      mark.ariaLabel = spoken(statement);
      mark.style.setProperty("--first", statement.first - 1);
      mark.addEventListener("focus", () => {
        marks.forEach(other => { other.tabIndex = other === mark ? 0 : -1; });
        show(listing, statement);
      });
      mark.addEventListener("blur", hide);
      mark.addEventListener("click", () => shown ? hide() : show(listing, statement));
      return mark;
    });
    lens.append(...marks);
    lens.addEventListener("keydown", event => {
      const at = marks.indexOf(event.target);
      const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: marks.length - 1 }[event.key];
      if (at < 0 || to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      marks[to]?.focus();
    });
    pre.after(lens);

    // All lines are equally high: where they are is asked again whenever the listing changes its size.
    let top = 0, height = 1;
    new ResizeObserver(() => {
      const style = getComputedStyle(pre), box = pre.getBoundingClientRect();
      const padding = parseFloat(style.paddingTop);
      height = (pre.clientHeight - padding - parseFloat(style.paddingBottom)) / n;
      top = pre.clientTop + padding;
      lens.style.setProperty("--top", `${box.top - lens.parentElement.getBoundingClientRect().top + top}px`);
      lens.style.setProperty("--line", `${height}px`);
    }).observe(pre);

    const at = event => {
      const line = Math.floor((event.clientY - pre.getBoundingClientRect().top - top) / height) + 1;
      return all.findLast(({ first, last }) => first <= line && line <= last);
    };
    pre.addEventListener("pointermove", event => {
      if (event.pointerType === "touch" || pinned) return;
      const statement = event.buttons ? null : at(event);               // a pressed button selects text
      if (statement && statement === shown?.statement) clearTimeout(timer);
      else if (statement) later(() => show(listing, statement), shown ? 0 : SOON);
      else if (shown) later(hide, event.buttons ? 0 : GRACE);
      else clearTimeout(timer);
    });
    pre.addEventListener("pointerleave", () => pinned || later(hide, GRACE));
    pre.addEventListener("click", event => {
      if (event.target.closest("a") || !getSelection().isCollapsed) return;
      const statement = at(event), again = pinned && shown?.statement === statement;
      if (!statement || again) return hide();
      show(listing, statement);
      pinned = true;
    });
  }

  document.addEventListener("keydown", event => event.key === "Escape" && hide());
  document.addEventListener("click", event => {
    if (shown && !shown.box.contains(event.target) && !shown.listing.lens.parentElement.contains(event.target)) hide();
  });
});
