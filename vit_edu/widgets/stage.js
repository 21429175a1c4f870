// A board of patches: one is chosen by pointer, touch or arrow keys, another is read. Needs common.js.

const placeOf = (i, columns) => `row ${Math.floor(i / columns) + 1}, column ${(i % columns) + 1}`;

// The board over `layers` (elements that fill it), and `mark(texts, read)`, which frames the chosen and the read patch
// and writes the texts, a Map from patch to text. `hands` says what happens: asking() is the patch that is chosen, or
// null; last() where the first arrow key goes; ask(i) chooses; read(i or null, by key) reads; leave() is Escape.
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

  const inside = (v, n) => Math.min(Math.max(v, 0), n - 1);
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
    const step = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || !(step || event.key === "Escape")) return;
    event.preventDefault();
    const move = (i) => inside(Math.floor(i / columns) + step[0], rows) * columns + inside((i % columns) + step[1], columns);
    if (step && event.shiftKey) return hands.read(move(reading ?? hands.asking() ?? hands.last()), true);
    hands.read(null, false);
    if (!step) return hands.leave();
    hands.ask(hands.asking() === null ? hands.last() : move(hands.asking()));  // the first press goes back to the last patch
  });
  return {stage, mark};
}

// ImageData as a data URI.
function toPng(pixels) {
  const canvas = Object.assign(document.createElement("canvas"), {width: pixels.width, height: pixels.height});
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas.toDataURL();
}
