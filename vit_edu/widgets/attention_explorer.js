// AttentionExplorer: where each patch of a picture looks, in any block and head. Needs common.js, viridis.js,
// stage.js and, for the reader's own pictures, vit.js.

// ---- The numbers of one picture: attention[block][head], an array (N, N) whose row i says where token i looks.

// The bytes of pack_maps in Python: each row's largest weight and the logits, then the weights in 1/255 of the largest.
function unpackMaps(uri, depth, nHeads, N, nClasses) {
  const bytes = Uint8Array.from(atob(uri.slice(uri.indexOf(",") + 1)), (c) => c.charCodeAt(0)), nRows = depth * nHeads * N;
  const floats = new Float32Array(bytes.buffer, 0, nRows + nClasses), levels = bytes.subarray(floats.byteLength);
  const map = (m) => {
    const weights = new Float32Array(N * N);
    for (let k = 0; k < N * N; k++) weights[k] = (levels[m * N * N + k] / 255) * floats[m * N + Math.floor(k / N)];
    return weights;
  };
  const blocks = [...Array(depth).keys()], heads = [...Array(nHeads).keys()];
  return {logits: floats.slice(nRows), attention: blocks.map((l) => heads.map((h) => map(l * nHeads + h)))};
}

function meanOfHeads(maps) {
  const mean = new Float32Array(maps[0].length);
  for (const map of maps) for (let k = 0; k < mean.length; k++) mean[k] += map[k] / maps.length;
  return mean;
}

// One step of rollout (Abnar and Zuidema, 2020): half the mean of the heads, half the residual path; rows sum to 1.
function rolloutStep(mean, N) {
  const step = new Float32Array(N * N);
  for (let i = 0; i < N; i++) {
    let sum = 0.5;
    for (let j = 0; j < N; j++) sum += 0.5 * mean[i * N + j];
    for (let j = 0; j < N; j++) step[i * N + j] = (0.5 * mean[i * N + j] + (i === j ? 0.5 : 0)) / sum;
  }
  return step;
}

// A row vector times a matrix (N, N).
function times(row, matrix) {
  const N = row.length, out = new Float32Array(N);
  for (let i = 0; i < N; i++) {
    if (row[i]) for (let j = 0; j < N; j++) out[j] += row[i] * matrix[i * N + j];
  }
  return out;
}

// ---- The reader's own picture

// The middle of a picture file, averaged down to height × width: red, green, blue, opacity of every pixel.
async function shrink(file, height, width) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(bitmap.width / width, bitmap.height / height);      // its pixels in one of ours
  const k = Math.min(Math.max(Math.round(scale), 1), 16), [W, H] = [width * k, height * k];
  const context = Object.assign(document.createElement("canvas"), {width: W, height: H}).getContext("2d");
  context.fillStyle = "#fff";                                                // behind what is transparent
  context.fillRect(0, 0, W, H);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, (bitmap.width - width * scale) / 2, (bitmap.height - height * scale) / 2,
    width * scale, height * scale, 0, 0, W, H);
  const fine = context.getImageData(0, 0, W, H).data, pixels = new ImageData(width, height);
  for (let i = 0; i < pixels.data.length; i++) {
    const c = i % 4, x = Math.floor(i / 4) % width, y = Math.floor(i / 4 / width);
    let sum = 0;
    for (let dy = 0; dy < k; dy++) for (let dx = 0; dx < k; dx++) sum += fine[4 * ((y * k + dy) * W + x * k + dx) + c];
    pixels.data[i] = Math.round(sum / k / k);
  }
  return pixels;
}

// The model's input (C, H, W): colours, or their brightness where the model takes one channel.
function toInput({data, width, height}, mean, std) {
  const n = width * height, input = new Float32Array(mean.length * n);
  for (let i = 0; i < n; i++) {
    const [red, green, blue] = data.subarray(4 * i, 4 * i + 3);
    const values = mean.length === 1 ? [0.299 * red + 0.587 * green + 0.114 * blue] : [red, green, blue];
    values.forEach((value, c) => (input[c * n + i] = (value / 255 - mean[c]) / std[c]));
  }
  return input;
}

// The file of write_weights in Python: a script that hands over the model. (From the disk, fetch would be refused.)
function loadModel(address) {
  return new Promise((resolve, reject) => {
    const script = element("script", {src: address});
    script.addEventListener("vit-model", (event) => resolve(event.detail));
    for (const end of ["load", "error"]) script.addEventListener(end, () => { script.remove(); reject(new Error("no model")); });
    document.head.append(script);
  });
}

// ---- The component

function startAttentionExplorer(root, data) {
  const {grid: [rows, columns], depth, nHeads, nRegisters, hasClassToken, classes, own} = data;
  const nPatches = rows * columns, prefix = +hasClassToken + nRegisters, N = prefix + nPatches, range = (n) => [...Array(n).keys()];
  const pictures = data.pictures.map(({src, label, maps}) => ({src, label, maps}));
  const numbersOf = (i) => (pictures[i].attention ? pictures[i] : Object.assign(pictures[i], unpackMaps(pictures[i].maps, depth, nHeads, N, classes.length)));

  // What is shown. `query`: a token, or "all" for the mean of the patches. `head`: a number, "mean" or "rollout".
  // `tiles`: the scale of the small maps, "shared" by all or each its "own".
  const state = {picture: 0, query: hasClassToken ? 0 : "all", block: depth - 1, head: nHeads > 1 ? "mean" : 0, strength: 0.6, tiles: "shared"};
  let patch = Math.floor(rows / 2) * columns + Math.floor(columns / 2);      // the query when a patch is asked
  let probe = null, rawHead = state.head;                                        // the patch whose value is read; the head before rollout

  // ---- From the state to weights over all tokens
  const steps = (picture) => (picture.steps ??= picture.attention.map((maps) => rolloutStep((meanOfHeads(maps)), N)));
  const means = (picture) => (picture.means ??= picture.attention.map(meanOfHeads));
  function weightsOf({picture, query, block, head}) {
    const from = numbersOf(picture), start = new Float32Array(N);
    if (query === "all") start.fill(1 / nPatches, prefix);
    else start[query] = 1;
    if (head === "rollout") return steps(from).slice(0, block + 1).reduceRight(times, start);
    return times(start, head === "mean" ? means(from)[block] : from.attention[block][head]);
  }

  // ---- Words
  const place = (i) => placeOf(i, columns);
  const nameOf = (query) => (query === "all" ? "all patches" : query >= prefix ? `the patch in ${place(query - prefix)}`
    : hasClassToken && query === 0 ? "the class token" : `register ${query - hasClassToken}`);
  const inPercent = (p) => percent(p).replace(" ", "\u00a0");
  const verb = (query) => (query === "all" ? "look on average" : "looks");
  const layer = ({block, head}) => (head === "rollout" ? (block ? `rollout through blocks 0 to ${block}` : "rollout through block 0")
    : `block ${block}, ${head === "mean" ? "mean of the heads" : `head ${head}`}`);

  // ---- The pieces of the picture
  const photo = element("div", {class: "photo"}), map = element("canvas", {width: columns, height: rows});
  const {stage, mark} = patchStage(rows, columns, {
    asking: () => (state.query !== "all" && state.query >= prefix ? state.query - prefix : null),
    last: () => patch,
    ask: (i) => { if (state.query !== prefix + i) set({query: prefix + i}); },
    read: (i, speak) => { probe = i; drawMarks(); if (speak) spoken.textContent = readout.textContent; },
    leave: () => set({query: hasClassToken ? 0 : "all"}),
  }, photo, map);
  const title = element("p", {class: "title"}), readout = element("p", {class: "readout"}), elsewhere = element("p", {class: "elsewhere"});
  const bar = colourBar(), tilesBar = colourBar();
  const spoken = element("p", {class: "vit-spoken", "aria-live": "polite"}), status = element("p", {class: "status", role: "status"});

  const asked = [...(hasClassToken ? [["0", "class token"]] : []), ["all", "all patches", "all patches, on average"], ["patch", "one patch"],
    ...range(nRegisters).map((r) => [`${r + hasClassToken}`, `register ${r}`])];
  const who = choice("Who looks?", asked, "", (value) => set({query: value === "patch" ? prefix + patch : value === "all" ? value : +value}));
  const block = choice("Block", range(depth).map((l) => [`${l}`, `${l}`, `block ${l}`]), "", (value) => set({block: +value}));
  const head = choice("Head", [...(nHeads > 1 ? [["mean", "mean", "mean of the heads"]] : []), ...range(nHeads).map((h) => [`${h}`, `${h}`, `head ${h}`])], "",
    (value) => set({head: value === "mean" ? value : +value}));
  const kind = choice("Map", [["raw", "raw", "raw: one block alone"], ["rollout", "rollout", "rollout: all blocks up to this one"]], "",
    (value) => set({head: value === "rollout" ? value : rawHead}));
  const strength = element("input", {type: "range", min: 0, max: 100, step: 5, value: 100 * state.strength});
  strength.addEventListener("input", () => set({strength: strength.value / 100}, false));
  const check = (row, value) => row.querySelectorAll("input").forEach((input) => (input.checked = input.value === `${value}`));

  // The colours from 0 to `largest` (null: it differs), with the value in their middle and a line at an even share.
  function colourBar() {
    const scale = element("canvas"), most = element("span"), middle = element("span"), even = element("i", {class: "even"}), caption = element("p", {class: "caption"});
    const node = element("div", {class: "scale", role: "img"}, caption, element("div", {}, scale, even), element("p", {}, element("span", {}, "0\u00a0%"), middle, most));
    paintScale(scale);
    return {node, show(largest, byRoots, words = "") {
      const known = largest !== null;
      caption.textContent = words;
      middle.textContent = known ? inPercent(largest * (byRoots ? 0.25 : 0.5)) : "";
      most.textContent = known ? inPercent(largest) : "its largest weight";
      even.hidden = !known;
      const share = Math.min(1 / N / (largest || 1), 1);
      even.style.left = `${100 * (byRoots ? Math.sqrt(share) : share)}%`;
      node.setAttribute("aria-label", `${words && `${words}: `}colours from dark, 0 %, to bright, ${most.textContent}${known ? `; an even share would be ${inPercent(1 / N)}` : ""}`);
    }};
  }

  // Thumbnails: one for each picture, the reader's own at the end.
  const thumbs = choice("Picture", [], "", () => {});
  const group = `vit-pictures-${Math.random().toString(36).slice(2)}`;
  const about = (picture, i) => (picture.own ? "your picture" : `picture ${i}${picture.label === null ? "" : `: ${classes[picture.label]}`}`);
  function addThumb(picture, i) {
    const input = element("input", {type: "radio", name: group, value: i, "aria-label": about(picture, i)});
    input.addEventListener("change", () => set({picture: i}));
    const image = element("span");
    image.style.backgroundImage = `url(${picture.src})`;
    thumbs.append(element("label", {title: about(picture, i)}, input, image));
  }
  thumbs.classList.add("thumbs");
  pictures.forEach(addThumb);

  // The five patches attended most, and the answer.
  const topList = element("ol", {class: "top", "aria-label": "The five patches attended most"}), answers = element("ul", {class: "answers", "aria-label": "The model\u2019s answer"});
  const only = element("p", {class: "only"}, `The model knows only ${classes.length} classes${classes.length > 12 ? "" : ` (${classes.join(", ")})`}: a picture of anything else gets one of them all the same.`);
  const row = (parts, share) => element("li", {}, ...parts, element("i", {style: `--share: ${share}`}));

  // Every head of every block: radio buttons in a grid, so that one Tab enters it and the arrow keys walk in it.
  const kinds = [...range(nHeads), ...(nHeads > 1 ? ["mean"] : []), "rollout"], tiles = [];
  const atlasGroup = `vit-atlas-${Math.random().toString(36).slice(2)}`;
  const atlas = element("fieldset", {class: "atlas", style: `--blocks: ${depth}`, "aria-label": "Every head at a glance"}, element("span", {class: "corner", "aria-hidden": true}, "block"),
    ...range(depth).map((l) => element("span", {class: "column", "aria-hidden": true}, `${l}`)));
  for (const each of kinds) {
    atlas.append(element("span", {class: "head", "aria-hidden": true}, typeof each === "number" ? `head ${each}` : each));
    for (const l of range(depth)) {
      const input = element("input", {type: "radio", name: atlasGroup, "aria-label": layer({block: l, head: each})});
      const canvas = element("canvas", {width: columns, height: rows}), number = element("span", {class: "largest"}), at = {block: l, head: each};
      input.addEventListener("change", () => set(at));
      tiles.push({input, canvas, number, at});
      atlas.append(element("label", {}, input, canvas, number));
    }
  }
  atlas.addEventListener("keydown", (event) => {
    const at = tiles.findIndex(({input}) => input === event.target), to = gridKey(event, at, kinds.length, depth);
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    if (to === at) return;
    tiles[to].input.focus();
    set(tiles[to].at);
  });
  const tilesScale = choice("Scale", [["shared", "one for all", "one scale for all tiles"], ["own", "each its own", "each tile on a scale of its own"]], "shared",
    (value) => { set({tiles: value}, false); spoken.textContent = tilesNote.textContent; });
  const tilesNote = element("p", {class: "note"});

  const chosen = element("div", {class: "controls"}, who, block, head, kind, element("label", {class: "strength"}, element("span", {}, "Map over picture"), strength));
  const shelf = element("div", {class: "pictures"}, thumbs);
  root.append(shelf, title, element("div", {class: "explorer"},
    element("div", {class: "left"}, stage, bar.node, readout),
    element("div", {class: "right"}, chosen,
      element("div", {class: "lists"}, element("div", {}, element("p", {class: "heading"}, "Looks most at"), topList, elsewhere),
        ...(classes.length ? [element("div", {}, element("p", {class: "heading"}, "The answer"), answers)] : [])), only)),
    element("div", {class: "all"}, element("p", {class: "heading"}, "Every head at a glance"), element("div", {class: "scales"}, tilesScale, tilesBar.node),
      element("div", {class: "tiles"}, atlas), tilesNote), spoken);

  // ---- Draw what the state says
  function set(change, speak = true) {
    Object.assign(state, change);
    if (state.head !== "rollout") rawHead = state.head;
    if (state.query !== "all" && state.query >= prefix) patch = state.query - prefix;
    draw();
    if (speak) spoken.textContent = say();
  }

  let weights, top;
  function draw() {
    const picture = numbersOf(state.picture);
    weights = weightsOf(state);
    const seen = weights.subarray(prefix), largest = Math.max(...seen);
    top = range(nPatches).sort((a, b) => seen[b] - seen[a] || a - b).slice(0, 5);
    photo.style.backgroundImage = `url(${picture.src})`;
    photo.style.filter = `grayscale(${Math.min(2 * state.strength, 1)})`;
    map.style.opacity = state.strength;
    paintMap(map, seen, largest);
    bar.show(largest, false);
    title.textContent = `Where ${nameOf(state.query)} ${verb(state.query)}: ${layer(state)}`;
    topList.replaceChildren(...top.map((i) => row([element("span", {}, place(i)), element("b", {}, inPercent(seen[i]))], seen[i] / (largest || 1))));
    const parts = [...(hasClassToken ? [`to the class token ${inPercent(weights[0])}`] : []),
      ...(nRegisters ? [`to ${nRegisters > 1 ? `${nRegisters} registers` : "the register"} ${inPercent(weights.slice(+hasClassToken, prefix).reduce((a, b) => a + b, 0))}`] : [])];
    elsewhere.textContent = parts.length ? `The rest: ${parts.join(", ")}, to other patches ${inPercent(1 - weights.slice(0, prefix).reduce((a, b) => a + b, 0) - top.reduce((a, i) => a + seen[i], 0))}.`
      : `Together ${inPercent(top.reduce((a, i) => a + seen[i], 0))}; shared evenly, five would get ${inPercent(5 / N)}.`;
    drawMarks();
    drawTiles();
    drawAnswers(picture);
    check(thumbs, state.picture);
    check(who, state.query === "all" || state.query < prefix ? state.query : "patch");
    check(block, state.block);
    check(head, rawHead);
    check(kind, state.head === "rollout" ? "rollout" : "raw");
    check(tilesScale, state.tiles);
    head.disabled = state.head === "rollout";
    stage.setAttribute("aria-label", `${about(picture, state.picture)}, ${rows} by ${columns} patches. Arrow keys choose the patch that looks, `
      + `Home and End the first and last of the row, with Ctrl of all; with Shift they choose the patch whose value is read; Escape goes back to ${hasClassToken ? "the class token" : "all patches"}. ${say()}`);
  }

  // The small maps. On one scale, an even share can be so small beside the largest weight that most tiles are dark:
  // where it is less than a quarter of it, colours go with the square root.
  function drawTiles() {
    const own = state.tiles === "own", maps = tiles.map(({at}) => weightsOf({...state, ...at}).subarray(prefix)), each = maps.map((values) => Math.max(...values));
    const largest = Math.max(...each), byRoots = !own && 1 / N < largest / 4;
    tiles.forEach(({input, canvas, number, at}, i) => {
      if (byRoots) paintMap(canvas, maps[i].map(Math.sqrt), Math.sqrt(largest));
      else paintMap(canvas, maps[i], own ? each[i] : largest);
      number.textContent = own ? inPercent(each[i]) : "";
      input.checked = at.block === state.block && at.head === state.head;
    });
    atlas.classList.toggle("own", own);
    if (own) tilesBar.show(null, false, "Each tile its own scale");
    else tilesBar.show(largest, byRoots, byRoots ? "One scale for all tiles, by square roots" : "One scale for all tiles");
    tilesNote.textContent = (own ? "Bright is the largest weight in a tile, the number below it: compare places, not brightness."
      : `The same colour is the same weight in every tile${byRoots ? "; square roots give small weights more room" : ""}.`) + " Press a tile to see it large, on its own scale.";
  }

  function drawMarks() {
    mark(new Map(top.map((i, k) => [i, `${k + 1}`])), probe);
    readout.textContent = probe === null ? `Press a patch to see where it looks. White line: an even share, ${inPercent(1 / N)}.`
      : `Row${place(probe).slice(3)}: ${inPercent(weights[prefix + probe])}`;
  }

  function drawAnswers({logits, label, own}) {
    only.hidden = !own || classes.length < 2;
    if (!classes.length) return;                                              // a model without a head
    const largest = Math.max(...logits), powers = [...logits].map((v) => Math.exp(v - largest)), total = powers.reduce((a, b) => a + b, 0);
    const order = range(classes.length).sort((a, b) => powers[b] - powers[a] || a - b).slice(0, 5);
    answers.replaceChildren(...order.map((k) => {
      const item = row([element("span", {}, classes[k]), element("b", {}, inPercent(powers[k] / total))], powers[k] / total);
      if (k === label) item.firstChild.append(element("em", {}, " ✓"), element("span", {class: "vit-spoken"}, " (its label)"));
      return item;
    }));
    if (label !== null && !order.includes(label)) answers.append(element("li", {class: "missed"}, `The label is ${classes[label]}.`));
  }

  const say = () => `${title.textContent}. Most at ${top.slice(0, 3).map((i) => `${place(i)}, ${inPercent(weights[prefix + i])}`).join("; ")}.`;

  // ---- A picture of the reader's own
  const home = document.documentElement.dataset.content_root;                // where a built book keeps its files
  if (own && (own.model || home !== undefined)) {
    const input = element("input", {type: "file", accept: "image/*"}), words = element("span", {}, own.model ? "Your own picture" : `Your own picture (loads ${(own.bytes / 1e6).toFixed(1)}\u00a0MB)`);
    status.textContent = "Choose one or drop it here; it stays on this device.";
    shelf.append(element("label", {class: "file"}, input, words), status);
    let model;
    async function take(file) {
      let pixels, loaded;
      status.textContent = "One moment …";
      try {
        loaded = model ?? own.model ?? (await loadModel(new URL(`${home}_static/${own.file}`, document.baseURI).href));
      } catch {
        return void (status.textContent = `The model is not beside this page: ${own.file} is missing.`);
      }
      model ??= {config: loaded.config, weights: decodeWeights(loaded.names, loaded.weights)};
      const [height, width] = model.config.imgSize;
      try {
        pixels = await shrink(file, height, width);
      } catch {
        return void (status.textContent = "This browser cannot read that file as a picture.");
      }
      const image = toInput(pixels, own.mean, own.std);
      if (!root.dataset.forward) vitForward(model.config, model.weights, image);  // let the browser compile first
      const start = performance.now(), result = vitForward(model.config, model.weights, image);
      const time = performance.now() - start, mine = pictures.findIndex((picture) => picture.own), i = mine < 0 ? pictures.length : mine;
      pictures[i] = {...result, src: toPng(pixels), label: null, own: true};
      if (mine < 0) addThumb(pictures[i], i);
      thumbs.querySelectorAll("label > span")[i].style.backgroundImage = `url(${pictures[i].src})`;
      status.textContent = `Your picture: its middle, in ${width}\u00a0×\u00a0${height} pixels. One forward pass here: ${time.toFixed(0)}\u00a0ms.`;
      words.textContent = "Another picture";
      root.dataset.forward = time;
      set({picture: i});
    }
    input.addEventListener("change", () => { if (input.files[0]) take(input.files[0]); input.value = ""; });
    root.addEventListener("dragover", (event) => { event.preventDefault(); root.dataset.drop = ""; });
    root.addEventListener("dragleave", () => delete root.dataset.drop);
    root.addEventListener("drop", (event) => {
      event.preventDefault();
      delete root.dataset.drop;
      if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
    });
  }

  // For tests: dispatch CustomEvent("vit-explore", {detail}) with any part of the state, read detail.answer.
  root.addEventListener("vit-explore", (event) => {
    const asked = {...state, ...event.detail};
    event.detail.answer = {state: {...state}, weights: [...weightsOf(asked)], logits: [...numbersOf(asked.picture).logits]};
  });
  set({}, false);
}
