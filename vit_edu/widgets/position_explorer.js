// PositionExplorer: cosine similarity of one position's embedding with all others. Needs common.js, viridis.js, stage.js.

function startPositionExplorer(root, data) {
  const {grid: [rows, columns]} = data, n = rows * columns, range = (m) => [...Array(m).keys()];
  const maps = data.maps.map(([name, uri]) => {
    const bytes = Uint8Array.from(atob(uri.slice(uri.indexOf(",") + 1)), (c) => c.charCodeAt(0));
    return {name, cosines: Float32Array.from(new Int8Array(bytes.buffer), (v) => v / 127)};
  });
  const state = {model: 0, at: Math.floor(rows / 2) * columns + Math.floor(columns / 2)}, middle = state.at;
  let probe = null;
  const number = (v) => v.toFixed(2).replace("-", "−"), row = () => maps[state.model].cosines.subarray(state.at * n, (state.at + 1) * n);
  const shade = (v) => (v + 1) / 2;

  const map = element("canvas", {width: columns, height: rows}), readout = element("p", {class: "readout"});
  const {stage, mark} = patchStage(rows, columns, {asking: () => state.at, last: () => state.at, ask: (i) => i !== state.at && set({at: i}),
    read: (i, speak) => { probe = i; marks(); if (speak) spoken.textContent = readout.textContent; }, leave: () => set({at: middle})}, map);
  const scale = element("canvas"), title = element("p", {class: "title"}), nearest = element("p", {class: "nearest"});
  paintScale(scale);
  const bar = element("div", {class: "scale", role: "img", "aria-label": "Colours from dark, −1, to bright, 1"}, element("div", {}, scale),
    element("p", {}, ...["−1", "0", "1"].map((text) => element("span", {}, text))));
  const spoken = element("p", {class: "vit-spoken", "aria-live": "polite"});

  // All positions' maps, each at its own place in the grid, one pixel apart.
  const all = element("canvas", {width: columns * (columns + 1) - 1, height: rows * (rows + 1) - 1}), here = element("i");
  const gallery = element("div", {class: "gallery", role: "img", "aria-label": `The maps of all ${n} positions, each at its place`}, all, here);
  gallery.addEventListener("pointerdown", (event) => {
    const box = gallery.getBoundingClientRect(), at = (v, m) => Math.min(Math.max(Math.floor(v * m), 0), m - 1);
    set({at: at((event.clientY - box.top) / box.height, rows) * columns + at((event.clientX - box.left) / box.width, columns)});
  });
  const which = choice("Model", maps.map(({name}, k) => [`${k}`, name]), "0", (value) => set({model: +value}));
  root.append(...(maps.length > 1 ? [which] : []), title, element("div", {class: "positions"},
    element("figure", {}, stage, bar, readout),
    element("figure", {}, gallery, element("figcaption", {}, "All maps, each at its own position. Press one to see it large."), nearest)), spoken);

  function drawAll() {
    const context = all.getContext("2d"), image = context.createImageData(all.width, all.height), {cosines} = maps[state.model];
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) {
        const y = Math.floor(i / columns) * (rows + 1) + Math.floor(j / columns), x = (i % columns) * (columns + 1) + (j % columns);
        image.data.set([...colourOf(shade(cosines[i * n + j])), 255], 4 * (y * all.width + x));
      }
    }
    context.putImageData(image, 0, 0);
  }

  function marks() {
    mark(new Map(), probe);
    readout.textContent = probe === null ? "Press a position to compare it with the others." : `Row${placeOf(probe, columns).slice(3)}: ${number(row()[probe])}`;
  }

  function set(change) {
    const before = state.model;
    Object.assign(state, change);
    if (state.model !== before) drawAll();
    draw();
    spoken.textContent = `${title.textContent}. ${nearest.textContent}`;
  }

  function draw() {
    const values = row(), others = range(n).filter((i) => i !== state.at).sort((a, b) => values[b] - values[a] || a - b);
    paintMap(map, values.map(shade), 1);
    title.textContent = `Similarity with ${placeOf(state.at, columns)}${maps.length > 1 ? `, ${maps[state.model].name}` : ""}`;
    const name = (i) => `${placeOf(i, columns)} (${number(values[i])})`;
    nearest.textContent = n > 1 ? `Most similar: ${others.slice(0, 3).map(name).join("; ")}. Least: ${name(others.at(-1))}.` : "";
    Object.assign(here.style, {left: `${(100 * (state.at % columns) * (columns + 1)) / all.width}%`, top: `${(100 * Math.floor(state.at / columns) * (rows + 1)) / all.height}%`,
      width: `${(100 * columns) / all.width}%`, height: `${(100 * rows) / all.height}%`});
    stage.setAttribute("aria-label", `${rows} by ${columns} positions. Arrow keys choose one, Home and End the first and last of the row, with Ctrl of all; with Shift they choose the one whose value is read. ${title.textContent}.`);
    root.dataset.at = state.at;
    marks();
  }
  drawAll();
  draw();
}
