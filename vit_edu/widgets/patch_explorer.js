// PatchExplorer: an image cut into patches, the sequence they make, one of them as a vector. Needs common.js and stage.js.

function startPatchExplorer(root, data) {
  const {shape: [channels, height, width], sizes} = data, range = (n) => [...Array(n).keys()];
  const text = atob(data.pixels.slice(data.pixels.indexOf(",") + 1)), byte = (c, y, x) => text.charCodeAt((c * height + y) * width + x);
  const state = {size: data.size, order: [], at: 0};                        // order[place] is the patch that lies there
  let rows, columns, board, tiles, beads;

  // The whole image once; every patch shows its part of it.
  const pixels = new ImageData(width, height);
  for (const i of range(height * width)) {
    const y = Math.floor(i / width), x = i % width, colour = range(channels).map((c) => byte(c, y, x));
    pixels.data.set([...(channels === 1 ? [colour[0], colour[0], colour[0]] : colour), 255], 4 * i);
  }
  root.style.setProperty("--picture", `url(${toPng(pixels)})`);

  const slider = element("input", {type: "range", min: 0, max: sizes.length - 1, step: 1, value: sizes.indexOf(data.size)});
  const shown = element("output"), button = (label, action) => {
    const node = element("button", {type: "button"}, label);
    node.addEventListener("click", action);
    return node;
  };
  const shuffleButton = button("Shuffle", shuffle), backButton = button("Put back", back);
  slider.addEventListener("input", () => { state.size = sizes[slider.value]; cut(); say(); });
  const place = element("div", {class: "left"}), one = element("canvas", {role: "img"}), vector = element("p", {class: "vector"});
  const facts = element("p", {class: "facts"}), order = element("p", {class: "order"}), strip = element("div", {class: "strip", "aria-hidden": true});
  const spoken = element("p", {class: "vit-spoken", "aria-live": "polite"});
  root.append(
    element("div", {class: "controls"}, element("label", {}, element("span", {}, "Patch size ", shown), slider), shuffleButton, backButton),
    element("div", {class: "patches"}, place, element("div", {class: "right"}, facts, element("div", {class: "one"}, one, vector), order)),
    element("p", {class: "heading"}, "The sequence, as the model gets it"), strip, spoken);
  strip.addEventListener("click", (event) => { const i = beads.indexOf(event.target); if (i >= 0) choose(i); });

  // A piece of the image as background: patch i of rows × columns.
  function piece(i) {
    const part = (v, n) => `${n > 1 ? (100 * v) / (n - 1) : 0}%`;
    return `background-size: ${100 * columns}% ${100 * rows}%; background-position: ${part(i % columns, columns)} ${part(Math.floor(i / columns), rows)}`;
  }

  // Another size: new patches, in order.
  function cut() {
    [rows, columns] = [height / state.size, width / state.size];
    state.order = range(rows * columns);
    state.at = Math.floor(rows / 2) * columns + Math.floor(columns / 2);
    tiles = state.order.map((i) => element("i", {style: piece(i)}));
    beads = state.order.map(() => element("i"));
    board = patchStage(rows, columns, {asking: () => state.at, last: () => state.at, ask: choose, leave: back,
      read: (i, byKey) => { if (byKey) choose(i); }}, element("div", {class: "tiles"}, ...tiles));
    place.replaceChildren(board.stage);
    strip.replaceChildren(...beads);
    draw();
  }

  function shuffle() {
    for (let i = state.order.length - 1; i > 0; i--) {
      const j = Math.floor(Math.random() * (i + 1));
      [state.order[i], state.order[j]] = [state.order[j], state.order[i]];
    }
    draw(); say();
  }

  function back() {
    state.at = state.order[state.at];                                        // stay with the patch
    state.order = range(rows * columns);
    draw(); say();
  }

  function choose(i) {
    if (i === state.at) return;
    state.at = i;
    draw(); say();
  }

  function vectorOf(patch) {
    const [top, left] = [Math.floor(patch / columns) * state.size, (patch % columns) * state.size];
    return range(channels).flatMap((c) => range(state.size).flatMap((y) => range(state.size).map((x) => byte(c, top + y, left + x) / 255)));
  }

  function draw() {
    const n = rows * columns, {size, at} = state, patch = state.order[at], whole = (v) => v.toLocaleString("en-GB"), length = size * size * channels;
    shown.textContent = `${size}\u00a0×\u00a0${size} pixels`;
    slider.setAttribute("aria-valuetext", shown.textContent);
    state.order.forEach((i, slot) => {
      Object.assign(tiles[i].style, {left: `calc(${(100 * (slot % columns)) / columns}% + var(--gap) / 2)`, top: `calc(${(100 * Math.floor(slot / columns)) / rows}% + var(--gap) / 2)`,
        width: `calc(${100 / columns}% - var(--gap))`, height: `calc(${100 / rows}% - var(--gap))`});
      beads[slot].style = piece(i);
      beads[slot].className = slot === at ? "here" : "";
    });
    const moved = state.order.some((i, slot) => i !== slot);
    backButton.disabled = !moved;
    shuffleButton.disabled = n < 2;
    facts.textContent = `${rows}\u00a0×\u00a0${columns} patches: a sequence of ${whole(n)} vectors. Each holds ${size}\u00a0×\u00a0${size} pixels`
      + `${channels > 1 ? ` in ${channels} colours` : ""}: ${whole(length)} numbers. In attention, every head weighs ${whole(n)}\u00a0×\u00a0${whole(n)}\u00a0=\u00a0${whole(n * n)} pairs.`;
    order.textContent = moved ? "Shuffled: the same vectors in another order. Attention alone would not notice; only the positions say where each belongs."
      : "In order: row by row, from the top left.";
    const values = vectorOf(patch), few = values.slice(0, 6).map((v) => v.toFixed(2)).join(", ");
    vector.textContent = `Vector ${at} (from 0 to ${whole(n - 1)})${moved ? `, number ${patch} of the image` : ""}: ${few}${length > 6 ? ", …" : ""}`;
    [one.width, one.height] = [size, size];
    one.getContext("2d").putImageData(pixels, -(patch % columns) * size, -Math.floor(patch / columns) * size);
    one.setAttribute("aria-label", `The chosen patch, from ${placeOf(patch, columns)} of the image`);
    board.mark(new Map(), null);
    board.stage.setAttribute("aria-label", `The image in ${rows} by ${columns} patches${moved ? ", shuffled" : ""}. Arrow keys choose one, Home and End the first and last of the row, with Ctrl of all; Escape puts all back.`);
    Object.assign(root.dataset, {order: state.order, vector: values.map((v) => Math.round(255 * v))});
  }

  function say() {
    spoken.textContent = `${shown.textContent}: ${rows * columns} patches${backButton.disabled ? "" : ", shuffled"}. ${vector.textContent}`;
  }
  cut();
}
