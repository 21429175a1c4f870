// A board of patches: one is chosen by pointer, touch or arrow keys, another is read. Needs common.js.

const placeOf = (i, columns) => `row ${Math.floor(i / columns)}, column ${i % columns}`;

const inside = (v, n) => Math.min(Math.max(v, 0), n - 1);

// Where a key leads from place i of a grid: arrows to the next place, Home and End to the first and the last of the row,
// with Ctrl of all. Undefined for any other key, which stays the browser's.
function gridKey(event, i, rows, columns) {
  if (event.metaKey || event.altKey) return;
  if (event.ctrlKey) return {Home: 0, End: rows * columns - 1}[event.key];
  const y = Math.floor(i / columns), x = i % columns;
  const to = {ArrowLeft: [y, x - 1], ArrowRight: [y, x + 1], ArrowUp: [y - 1, x], ArrowDown: [y + 1, x], Home: [y, 0], End: [y, columns - 1]}[event.key];
  return to && inside(to[0], rows) * columns + inside(to[1], columns);
}

// The board over `layers` (elements that fill it), and `mark(texts, read)`, which frames the chosen and the read patch
// and writes the texts, a Map from patch to text. `hands` says what happens: asking() is the patch that is chosen, or
// null; last() the patch to which the first arrow key leads, and from whose row Home and End count; ask(i) chooses;
// read(i or null, by key) reads; leave() is Escape.
function patchStage(rows, columns, hands, ...layers) {
  const U = 100, [W, H] = [columns * U, rows * U];                            // a patch is 100 units wide
  const along = (n, line) => [...Array(n - 1).keys()].map((i) => line((i + 1) * U)).join("");
  const lines = shape("path", {class: "lines", d: along(columns, (x) => `M${x} 0V${H}`) + along(rows, (y) => `M0 ${y}H${W}`)});
  const marks = shape("g"), stage = element("div", {class: "stage", tabindex: 0, role: "application",
    "aria-roledescription": "picture in patches", style: `aspect-ratio: ${columns} / ${rows}`}, ...layers,
    shape("svg", {viewBox: `0 0 ${W} ${H}`, "aria-hidden": true}, lines, marks));
  let reading = null;

  const corner = (i) => [(i % columns) * U, Math.floor(i / columns) * U];
  function frame(i, name) {
    if (i === null) return [];
    const [x, y] = corner(i);
    return [`${name} under`, name].map((each) => shape("rect", {class: each, x, y, width: U, height: U}));
  }
  function mark(texts, read) {
    reading = read;
    const words = [...texts].map(([i, text]) => shape("text", {x: corner(i)[0] + U / 2, y: corner(i)[1] + U / 2, "font-size": W * 0.042}, text));
    marks.replaceChildren(...words, ...frame(hands.asking(), "query"), ...frame(read === hands.asking() ? null : read, "probe"));
  }

  const under = (event) => {
    const box = stage.getBoundingClientRect(), at = (v, size, n) => inside(Math.floor((v / size) * n), n);
    return at(event.clientY - box.top, box.height, rows) * columns + at(event.clientX - box.left, box.width, columns);
  };
  stage.addEventListener("pointerdown", (event) => { if (event.pointerType !== "touch" && !event.button) hands.ask(under(event)); });
  stage.addEventListener("click", (event) => {                               // a finger that scrolls does not click
    hands.ask(under(event));
    if (event.pointerType === "touch") hands.read(under(event), false);
  });
  stage.addEventListener("pointermove", (event) => {
    const i = under(event);
    if (event.buttons & 1) hands.ask(i);
    if (i !== reading) hands.read(i, false);
  });
  stage.addEventListener("pointerleave", () => hands.read(null, false));
  stage.addEventListener("keydown", (event) => {
    const from = hands.asking() ?? hands.last(), to = gridKey(event, event.shiftKey ? reading ?? from : from, rows, columns);
    const leaves = event.key === "Escape" && !(event.ctrlKey || event.metaKey || event.altKey);
    if (to === undefined && !leaves) return;
    event.preventDefault();                                                  // Home and End would move the page
    if (!leaves && event.shiftKey) return hands.read(to, true);
    hands.read(null, false);
    if (leaves) return hands.leave();
    hands.ask(hands.asking() === null && event.key.startsWith("Arrow") ? from : to);  // the first arrow goes back to the last patch
  });
  return {stage, mark};
}

// ImageData as a data URI.
function toPng(pixels) {
  const canvas = Object.assign(document.createElement("canvas"), {width: pixels.width, height: pixels.height});
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas.toDataURL();
}
