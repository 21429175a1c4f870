// DigitReader: the reader draws a digit, the trained model reads it. Needs common.js and vit.js.
//
// A drawing becomes an image as in the data set (NIST's normalisation, then 4 by 4 counts): stretched
// to 20 by 32 dots, brought to a common stroke width, straightened, and counted in blocks: 8 by 8.

const FIELD = 32, BOX_WIDTH = 20, INK = 340, MAX_STRETCH = 3, BLOCK = 4, GRID = 8;

// Distance of every dot of the 32 by 32 field to the drawing, its box scaled to 20 by 32 less the pen.
function distances(strokes, radius) {
  const points = strokes.flat(), xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  let sx = (BOX_WIDTH - 2 * radius) / Math.max(right - left, 1e-3);
  let sy = (FIELD - 2 * radius) / Math.max(bottom - top, 1e-3);
  [sx, sy] = [Math.min(sx, MAX_STRETCH * sy), Math.min(sy, MAX_STRETCH * sx)];  // a bare bar stays a bar
  const place = ([x, y]) => [(x - (left + right) / 2) * sx + FIELD / 2, (y - (top + bottom) / 2) * sy + FIELD / 2];
  const nearest = new Float32Array(FIELD * FIELD).fill(Infinity);
  for (const stroke of strokes.map((s) => s.map(place))) {
    stroke.forEach(([ax, ay], i) => {
      const [bx, by] = stroke[Math.max(i - 1, 0)], dx = bx - ax, dy = by - ay, length = dx * dx + dy * dy || 1;
      for (let k = 0; k < nearest.length; k++) {
        const px = (k % FIELD) + 0.5 - ax, py = Math.floor(k / FIELD) + 0.5 - ay;
        const t = Math.min(Math.max((px * dx + py * dy) / length, 0), 1);
        nearest[k] = Math.min(nearest[k], (px - t * dx) ** 2 + (py - t * dy) ** 2);
      }
    });
  }
  return nearest.map(Math.sqrt);
}

// The 32 by 32 bitmap (0 or 1), with a pen just wide enough for INK dots.
function bitmap(strokes) {
  let radius = 3, field;
  for (let pass = 0; pass < 2; pass++) {
    field = distances(strokes, radius);
    radius = field.slice().sort()[INK - 1];
  }
  return straighten(Uint8Array.from(field, (distance) => distance <= radius));
}

// Shift rows so that the left edges near the top and near the bottom stand above each other.
function straighten(dots) {
  const row = (y) => dots.subarray(y * FIELD, (y + 1) * FIELD);
  const inked = [...Array(FIELD).keys()].filter((y) => row(y).includes(1));
  const top = inked[0] + 2, bottom = inked[inked.length - 1] - 2;
  if (bottom - top < 3 || !row(top).includes(1) || !row(bottom).includes(1)) return dots;
  const slope = (row(top).indexOf(1) - row(bottom).indexOf(1)) / (bottom - top), out = new Uint8Array(dots.length);
  for (let k = 0; k < dots.length; k++) {
    const y = Math.floor(k / FIELD), x = (k % FIELD) + Math.round((y - FIELD / 2) * slope);
    if (dots[k] && x >= 0 && x < FIELD) out[y * FIELD + x] = 1;
  }
  return out;
}

// How many dots are on in each 4 by 4 block: 64 numbers from 0 to 16.
function countBlocks(dots) {
  const counts = new Float32Array(GRID * GRID);
  dots.forEach((on, k) => (counts[Math.floor(k / FIELD / BLOCK) * GRID + Math.floor((k % FIELD) / BLOCK)] += on));
  return counts;
}

// An SVG path through a stroke, its corners rounded: from midpoint to midpoint.
function curve(stroke) {
  const text = ([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`;
  const middle = (i) => text([0, 1].map((k) => (stroke[i][k] + stroke[i + 1][k]) / 2));
  const bends = stroke.slice(1, -1).map((point, i) => `Q${text(point)} ${middle(i + 1)}`);
  return `M${text(stroke[0])}${bends.join("")}L${text(stroke.at(-1))}l0 0.01`;  // a dot, too, has a length
}

function startDigitReader(root, data) {
  const {config, names, examples, sample} = data, weights = decodeWeights(names, data.weights);
  const [patch] = config.patchSize, side = GRID / patch;                   // side * side patches
  let strokes = sample.map((stroke) => stroke.map((point) => [...point])), isSample = true;
  let example = null, nextExample = 0, head = "mean", times = [];

  // ---- The pieces of the picture
  const ink = shape("g"), cursor = shape("circle", {class: "cursor", r: 3.5, "data-pen": "up"});
  const pad = element("div", {class: "pad", tabindex: 0, role: "application", "aria-roledescription": "drawing pad",
    "aria-label": "Drawing pad. Arrow keys move the pen, space puts it down or lifts it, Backspace takes back a stroke, Delete clears."},
    shape("svg", {viewBox: "0 0 100 100", "aria-hidden": true}, ink, cursor));
  const button = (label, action) => {
    const node = element("button", {type: "button"}, label);
    node.addEventListener("click", action);
    return node;
  };
  const undoButton = button("Undo", undo), clearButton = button("Clear", clear), note = element("p", {class: "note"});
  const buttons = element("div", {class: "buttons"}, undoButton, clearButton);
  if (examples) buttons.append(button("Try an example", showExample));
  const view = (size, label) => shape("svg", {viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": label});
  const dotsView = view(FIELD, "The drawing as 32 by 32 dots"), imageView = view(GRID, ""), attentionView = view(GRID, "");
  const figure = (picture, caption, ...more) => element("figure", {}, picture, element("div", {}, element("figcaption", {}, caption), ...more));
  const dotsCaption = element("span");
  const scale = element("span"), verdict = element("strong"), sure = element("span"), timing = element("p", {class: "timing"});
  const bars = [...Array(10)].map(() => element("i")), chart = element("div", {class: "bars", role: "img"});
  bars.forEach((bar, k) => chart.append(element("span", {}, element("div", {}, bar), `${k}`)));
  const heads = [["mean", "mean", "mean of all heads"], ...[...Array(config.nHeads).keys()].map((h) => [h, `${h}`, `head ${h}`])];
  const spoken = element("p", {class: "vit-spoken", "aria-live": "polite"});
  const rainbow = element("i", {style: `background: linear-gradient(90deg, ${[0, 0.25, 0.5, 0.75, 1].map(viridis).join(", ")})`});
  const asker = config.pool === "cls" ? "The class token, from which the answer is read, looks" : "The patches look on average";
  root.append(
    element("div", {class: "reader"},
      element("div", {}, pad, buttons),
      element("div", {class: "answer"}, element("p", {class: "verdict"}, verdict, sure), chart, timing, note, spoken)),
    element("div", {class: "views"},
      figure(dotsView, dotsCaption),
      figure(imageView, `What the model sees: the dots counted in blocks of 4\u00a0×\u00a04, and its ${side * side} patches.`),
      figure(attentionView, `Attention of the last block. ${asker} at the bright patches.`,
        element("p", {class: "legend"}, "0 %", rainbow, scale),
        choice("Head", heads, "mean", (value) => { head = value; draw(read()); }))));

  // ---- From the drawing to the answer
  function read() {
    if (!example && !strokes.length) return null;
    const dots = example ? null : bitmap(strokes);
    const counts = example ? Float32Array.from(example.counts) : countBlocks(dots);
    return {dots, counts, ...timed(counts.map((count) => count / 16))};
  }

  function timed(image) {
    const start = performance.now(), result = vitForward(config, weights, image);
    times = [...times, performance.now() - start].slice(-15);
    return {...result, probabilities: softmax(result.logits.slice())};
  }

  // Attention to every patch, of the class token or (mean pooling) of all patches together.
  function looks(attention) {
    const maps = head === "mean" ? attention.at(-1) : [attention.at(-1)[head]];
    const n = side * side, N = Math.sqrt(maps[0].length), first = N - n, rows = config.pool === "cls" ? [0] : [...Array(n).keys()].map((i) => first + i);
    return [...Array(n).keys()].map((patch) => {
      let sum = 0;
      for (const map of maps) for (const row of rows) sum += map[row * N + first + patch];
      return sum / maps.length / rows.length;
    });
  }

  const square = (x, y, size, attributes) => shape("rect", {x, y, width: size, height: size, ...attributes});
  const pixels = (counts) => [...counts].map((count, k) => square(k % GRID, Math.floor(k / GRID), 1.01, {class: "ink", "fill-opacity": count / 16}));
  function grid() {
    const lines = [...Array(side - 1).keys()].map((i) => `M${(i + 1) * patch} 0V${GRID}M0 ${(i + 1) * patch}H${GRID}`);
    return shape("path", {class: "patches", d: lines.join(""), "stroke-width": 0.12});
  }

  function draw(result) {
    ink.replaceChildren(...(example ? pixels(example.counts) : strokes.map((s) => shape("path", {d: curve(s)}))));
    ink.setAttribute("transform", example ? "scale(12.5)" : "scale(1)");
    undoButton.disabled = !strokes.length || !!example;
    clearButton.disabled = !strokes.length && !example;
    note.textContent = example ? `A digit that the model was not trained on; its writer meant ${example.label}. Draw over it.`
      : isSample ? "A drawing to start with: draw your own over it." : "Draw one digit, as large or small as you like.";
    dotsCaption.textContent = example ? "The data set kept only the counts of its dots." : "Your drawing in 32\u00a0×\u00a032 dots: stretched to the same box, pen and slant as the training digits.";
    const dots = result?.dots ? [...result.dots].flatMap((on, k) => (on ? [`M${k % FIELD} ${Math.floor(k / FIELD)}h1v1h-1z`] : [])) : [];
    dotsView.replaceChildren(shape("path", {class: "ink", d: dots.join("")}));
    imageView.replaceChildren(...(result ? pixels(result.counts) : []), grid());
    imageView.setAttribute("aria-label", `The 8 by 8 image the model sees, in ${side * side} patches`);
    const weight = result ? looks(result.attention) : [], most = Math.max(...weight, 1e-9);
    const tiles = weight.map((w, i) => square((i % side) * patch, Math.floor(i / side) * patch, patch, {fill: viridis(w / most)}));
    // The digit over the map, as discs that are light on dark tiles and dark on light ones.
    const discs = result ? [...result.counts].map((count, k) => {
      const x = k % GRID, y = Math.floor(k / GRID), w = weight[Math.floor(y / patch) * side + Math.floor(x / patch)];
      return shape("circle", {cx: x + 0.5, cy: y + 0.5, r: 0.4 * Math.sqrt(count / 16), fill: w / most > 0.6 ? "#0008" : "#fff9"});
    }) : [];
    attentionView.replaceChildren(...tiles, ...discs);
    scale.textContent = result ? `${percent(most)}` : "";
    attentionView.setAttribute("aria-label", result ? `Attention over ${side * side} patches, row by row: ${weight.map(percent).join(", ")}` : "No attention yet");
    const p = result ? [...result.probabilities] : Array(10).fill(0), best = p.indexOf(Math.max(...p));
    bars.forEach((bar, k) => (bar.style.height = `${100 * p[k]}%`));
    chart.setAttribute("aria-label", result ? `Probabilities: ${p.map((v, k) => `${k}: ${percent(v)}`).join(", ")}` : "No probabilities yet");
    verdict.textContent = result ? `${best}` : "–";
    sure.textContent = result ? percent(p[best]) : "";
    root.dataset.reading = result ? best : "";
    const median = [...times].sort((a, b) => a - b)[Math.floor(times.length / 2)];
    timing.textContent = result ? `One forward pass here: ${median.toFixed(1)} ms (median).` : "";
    return result && `Reads ${best}, ${percent(p[best])}.`;
  }

  // Once for each frame while the pen moves; spoken when the stroke ends.
  let waiting = false;
  function changed(speak = false) {
    if (speak) return void (spoken.textContent = draw(read()) ?? "Empty.");
    if (!waiting) requestAnimationFrame(() => { waiting = false; draw(read()); });
    waiting = true;
  }

  function clear() {
    strokes = []; example = null; isSample = false; lift();
    changed(true);
  }

  function undo() {
    if (isSample || example) return clear();
    strokes.pop(); lift();
    changed(true);
  }

  function showExample() {
    const {images, labels} = examples, k = nextExample++ % labels.length;
    clear();
    example = {counts: images[k], label: labels[k]};
    changed(true);
  }

  // ---- The pen: a pointer, or the arrow keys and space
  function startStroke(point) {
    if (isSample || example) { strokes = []; example = null; isSample = false; }
    strokes.push([point]);
  }

  function moveTo([x, y]) {
    const stroke = strokes.at(-1), [lastX, lastY] = stroke.at(-1);
    if (Math.hypot(x - lastX, y - lastY) >= 1) stroke.push([x, y]);
  }

  let pointer = null;
  const where = (event) => {
    const box = pad.getBoundingClientRect(), inside = (v) => Math.min(Math.max(100 * v, 2), 98);
    return [inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)];
  };
  pad.addEventListener("pointerdown", (event) => {
    if (pointer !== null || event.button) return;
    pointer = event.pointerId;
    pad.setPointerCapture(pointer);
    delete cursor.dataset.keys;
    lift();
    startStroke(where(event));
    changed();
  });
  pad.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pointer) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) moveTo(where(each));
    changed();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    pad.addEventListener(end, (event) => {
      if (event.pointerId === pointer) { pointer = null; changed(true); }
    });
  }

  let at = [50, 15], pen = false;
  const STEPS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}, held = new Set();
  function lift() {
    pen = false;
    cursor.dataset.pen = "up";
  }
  function showCursor() {
    cursor.dataset.keys = "";
    cursor.setAttribute("cx", at[0]);
    cursor.setAttribute("cy", at[1]);
  }
  pad.addEventListener("focus", showCursor);
  pad.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in STEPS) {
      held.add(event.key);                                                // two keys at once: a diagonal
      for (const key of held) at = at.map((v, i) => Math.min(Math.max(v + (event.shiftKey ? 1 : 3) * STEPS[key][i], 4), 96));
      if (pen) { moveTo(at); changed(); }
    } else if (event.key === " ") {
      pen = !pen;
      cursor.dataset.pen = pen ? "down" : "up";
      if (pen) { startStroke([...at]); changed(); spoken.textContent = "Pen down."; } else changed(true);
    } else if (event.key === "Backspace") undo();
    else if (event.key === "Delete") clear();
    else return;
    event.preventDefault();
    showCursor();
  });
  pad.addEventListener("keyup", (event) => held.delete(event.key));
  pad.addEventListener("blur", () => { held.clear(); lift(); });

  // For tests: dispatch CustomEvent("vit-forward", {detail: {image}}) on the root, read detail.answer.
  root.addEventListener("vit-forward", (event) => {
    event.detail.answer = vitForward(config, weights, Float32Array.from(event.detail.image));
  });

  for (let i = 0; i < 8; i++) read();                                      // let the browser compile first
  times = [];
  for (let i = 0; i < 7; i++) read();
  draw(read());
}
