// AttentionExplorer: where each patch of a picture looks, in any block and head, and a walk that follows one of them from
// its pixels to the answer. Needs common.js, viridis.js, stage.js and vit.js.

// ---- The numbers of one picture: attention[block][head], an array (N, N) whose row i says where token i looks; `early`,
// the logits before the first block and after each; and the last of them, `logits`.

// The bytes of pack_maps in Python: each row's largest weight, the logits, then the weights in 1/255 of the largest.
function unpackMaps(uri, depth, nHeads, N, nClasses) {
  const bytes = Uint8Array.from(atob(uri.slice(uri.indexOf(",") + 1)), (c) => c.charCodeAt(0)), nRows = depth * nHeads * N;
  const floats = new Float32Array(bytes.buffer, 0, nRows + (depth + 1) * nClasses), levels = bytes.subarray(floats.byteLength);
  const map = (m) => {
    const weights = new Float32Array(N * N);
    for (let k = 0; k < N * N; k++) weights[k] = (levels[m * N * N + k] / 255) * floats[m * N + Math.floor(k / N)];
    return weights;
  };
  const blocks = [...Array(depth).keys()], heads = [...Array(nHeads).keys()];
  const early = [...blocks, depth].map((l) => floats.slice(nRows + l * nClasses, nRows + (l + 1) * nClasses));
  return {logits: early[depth], early, attention: blocks.map((l) => heads.map((h) => map(l * nHeads + h)))};
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

// The pixels of a picture in the page.
async function pixelsOf(src) {
  const image = Object.assign(new Image(), {src});
  await image.decode();
  const {width, height} = image, context = Object.assign(document.createElement("canvas"), {width, height}).getContext("2d");
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, width, height);
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
  const {grid: [rows, columns], size, channels, width, depth, nHeads, nRegisters, hasClassToken, classes, own} = data;
  const nPatches = rows * columns, prefix = +hasClassToken + nRegisters, N = prefix + nPatches, range = (n) => [...Array(n).keys()];
  const pictures = data.pictures.map(({src, label, maps}) => ({src, label, maps}));
  const numbersOf = (i) => (pictures[i].attention ? pictures[i] : Object.assign(pictures[i], unpackMaps(pictures[i].maps, depth, nHeads, N, classes.length)));

  // What is shown. `query`: a token, or "all" for the mean of the patches. `head`: a number, "mean" or "rollout".
  // `tiles`: the scale of the small maps, "shared" by all or each its "own".
  const reader = hasClassToken ? 0 : "all", together = nHeads > 1 ? "mean" : 0;   // whose tokens the answer is read from; all heads
  const state = {picture: 0, query: reader, block: depth - 1, head: together, strength: 0.7, tiles: "shared"};
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
  const hands = {
    asking: () => (at !== null ? followed() : state.query !== "all" && state.query >= prefix ? state.query - prefix : null),
    last: () => patch,
    ask: (i) => {
      if (i === hands.asking()) return;
      if (at !== null) chosenOnWalk = i;
      set(at === null ? {query: prefix + i} : {});
    },
    read: (i, speak) => { probe = i; drawMarks(); if (speak) spoken.textContent = readout.textContent; },
    leave: () => (at === null ? set({query: reader}) : leave()),
  };
  // Two boards: the picture as it is, for the pointer alone, and the map over it. Each has a layer for outlines.
  const outlines = [shape("svg"), shape("svg")].map((layer) => fill(layer, {class: "outlines", viewBox: `0 0 ${columns} ${rows}`, "aria-hidden": true}, []));
  const plain = element("div", {class: "photo"}), twin = patchStage(rows, columns, hands, plain, outlines[0]);
  fill(twin.stage, {role: "img"}, []);
  for (const name of ["tabindex", "aria-roledescription"]) twin.stage.removeAttribute(name);
  const {stage, mark} = patchStage(rows, columns, hands, photo, map, outlines[1]), zoom = shape("svg", {class: "zoom", role: "img"});
  const title = element("p", {class: "title"}), readout = element("p", {class: "readout"}), elsewhere = element("p", {class: "elsewhere"});
  const evenNote = element("p", {class: "even-share"}, `White line: an even share, ${inPercent(1 / N)}.`);
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

  // The walk's own pieces: where it stands, its words, and what a step shows besides.
  const button = (text, pressed) => { const node = element("button", {type: "button"}, text); node.addEventListener("click", pressed); return node; };
  const start = button("Follow one patch through the blocks", () => go(0)), back = button("Back", () => go(at - 1)), next = button("Next", () => go(at + 1));
  const counter = element("span", {class: "counter"}), heading = element("p", {class: "heading"}), words = element("p", {class: "words"}), besides = element("div", {class: "besides"});
  const strip = element("fieldset", {class: "strip", "aria-label": "Block"}), stripGroup = `vit-strip-${Math.random().toString(36).slice(2)}`;
  const frames = range(depth).map((l) => {
    const input = element("input", {type: "radio", name: stripGroup, "aria-label": `block ${l}`}), canvas = element("canvas", {width: columns, height: rows});
    input.addEventListener("change", () => set({block: l}));
    strip.append(element("label", {}, input, canvas, element("span", {}, `block ${l}`)));
    return {input, canvas};
  });
  const walk = element("div", {class: "walk", role: "group", "aria-label": "Follow one patch through the blocks"},
    element("div", {}, element("div", {class: "buttons"}, back, next, button("Leave", () => leave()), counter), heading, words), besides);
  walk.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const turn = event.target.tagName === "BUTTON" ? {ArrowLeft: -1, ArrowRight: 1}[event.key] : 0;
    if (turn) go(Math.min(at + turn, walkSteps.length - 1));
    else if (event.key === "Escape") leave();
    else return;
    event.preventDefault();
  });

  const controls = element("div", {class: "controls"}, who, block, head, kind, element("label", {class: "strength"}, element("span", {}, "Map over picture"), strength));
  const shelf = element("div", {class: "pictures"}, thumbs);
  root.append(shelf, title,
    element("div", {class: "boards"}, element("div", {}, twin.stage, readout), element("div", {class: "of-map"}, element("div", {class: "face"}, stage, zoom), bar.node, evenNote)),
    walk, element("div", {class: "explorer"},
      element("div", {}, element("p", {class: "start"}, start, ` ${classes.length ? "Five" : "Three"} steps, a minute.`), controls),
      element("div", {}, element("div", {class: "lists"}, element("div", {}, element("p", {class: "heading"}, "Looks most at"), topList, elsewhere),
        ...(classes.length ? [element("div", {}, element("p", {class: "heading"}, "The answer"), answers)] : [])), only)),
    element("div", {class: "all"}, element("p", {class: "heading"}, "Every head at a glance"), element("div", {class: "scales"}, tilesScale, tilesBar.node),
      element("div", {class: "tiles"}, atlas), tilesNote), spoken);

  // ---- The walk: what each step shows (a part of the state), says, and puts beside its words
  let at = null, before = null, chosenOnWalk = null;                          // the step; the state before the walk; the patch that the reader chose
  const shares = (logits) => [...softmax(Float32Array.from(logits))];
  const best = (values) => values.indexOf(Math.max(...values));
  const lookOf = (query, block) => weightsOf({...state, query, block, head: together}).subarray(prefix);
  const followed = () => chosenOnWalk ?? best(lookOf(reader, depth - 1));     // at first the patch that the answer's tokens look at most
  const most = (weights) => `${inPercent(Math.max(...weights))} at ${place(best(weights))}`;
  const sharpest = () => best(range(depth).map((l) => Math.max(...lookOf(prefix + followed(), l))));
  const [high, wide] = [size[0] / rows, size[1] / columns], nNumbers = high * wide * channels;
  const walkSteps = [
    {title: "From pixels to a patch", shows: () => ({query: prefix + followed(), block: 0}),
      says: () => `The picture is ${size[0]} × ${size[1]} pixels, cut into ${rows} × ${columns} patches. We follow one of them, in ${place(followed())}: `
        + `${high} × ${wide} pixels${channels === 3 ? ", each of red, green and blue" : ""}, ${nNumbers} numbers from 0 to 255. Press another patch to follow that one.`},
    {title: "A token looks around", shows: () => ({query: prefix + followed(), block: 0}),
      says: () => `A matrix turns the ${nNumbers} numbers into a token, a vector of ${width}. In block 0 it looks at all ${N} tokens, itself included: `
        + `most at ${top[0] === followed() ? "itself" : place(top[0])}, with ${inPercent(weights[prefix + top[0]])} of its attention. What it reads there is added to it.`},
    {title: "Block after block", shows: () => ({query: prefix + followed(), block: sharpest()}),
      says: () => `Each block looks anew, with what the blocks before it have gathered. This patch is most decided in block ${sharpest()}: `
        + `${most(lookOf(prefix + followed(), sharpest()))}; an even share would be ${inPercent(1 / N)}. Press a map to see it large.`,
      besides: () => [strip]},
    {title: "The answer after every block", shows: () => ({query: prefix + followed(), block: depth - 1}),
      says: () => {
        const guesses = numbersOf(state.picture).early.map(best), answer = guesses[depth], wrong = guesses.findLastIndex((guess) => guess !== answer);
        const when = wrong < 0 ? "from the start" : wrong === depth - 1 ? "only after the last block" : `after block ${wrong}, and stays with it`;
        return `What would the model say if it ended earlier? Its head learned to read the last block's tokens, so the first answers are rough. It says ${classes[answer]} ${when}.`;
      },
      besides: () => [element("ul", {class: "answers"}, ...numbersOf(state.picture).early.map((logits, l) => {
        const p = shares(logits), k = best(p);
        return row([element("span", {}, l ? `after block ${l - 1}: ` : "before block 0: ", element("b", {}, classes[k])), element("b", {}, inPercent(p[k]))], p[k]);
      }))]},
    {title: "The answer", shows: () => ({query: reader, block: depth - 1}),
      says: () => {
        const {logits, label} = numbersOf(state.picture), p = shares(logits), k = best(p);
        return `${hasClassToken ? "The class token has looked at the patches in every block; the head reads it alone" : `After the last block the ${nPatches} patches' tokens are averaged; the head reads their mean`}: `
          + `a score for each of ${classes.length} classes, of which softmax makes shares. The answer: ${classes[k]}, ${inPercent(p[k])}${label === null ? "" : label === k ? ", and so says the label" : `; the label says ${classes[label]}`}. `
          + `The map shows where ${hasClassToken ? "the class token looks" : "all patches look"} in the last block.`;
      },
      besides: () => [element("ul", {class: "answers"}, ...answerRows(numbersOf(state.picture)))]},
  ].slice(0, classes.length ? 5 : 3);

  function go(to) {
    if (to < 0) return;
    if (to === walkSteps.length) return leave();
    before ??= {query: state.query, block: state.block, head: state.head};
    const starts = at === null;
    if (starts) chosenOnWalk = hands.asking();                                // a patch that already looks is followed
    at = to;
    root.dataset.step = at + 1;
    if (document.activeElement !== back || !at) next.focus({preventScroll: true});
    set({});
    if (starts) root.scrollIntoView({block: "nearest"});                      // picture and words in one window
  }

  function leave() {
    const was = before;
    at = before = chosenOnWalk = null;
    delete root.dataset.step;
    set(was);
    start.focus({preventScroll: true});
  }

  function drawWalk() {
    if (at === null) return;
    const step = walkSteps[at];
    back.disabled = at === 0;
    next.textContent = at === walkSteps.length - 1 ? "Done" : "Next";
    counter.textContent = `${at + 1} of ${walkSteps.length}`;
    heading.textContent = step.title;
    words.textContent = step.says();
    frames.forEach(({input, canvas}, l) => {
      const seen = lookOf(prefix + followed(), l);
      paintMap(canvas, seen, Math.max(...seen));
      input.checked = l === state.block;
    });
    const shown = step.besides?.() ?? [];
    if (shown[0] !== besides.firstChild) besides.replaceChildren(...shown);   // the strip stays: it may have the focus
    if (at === 0) enlarge(numbersOf(state.picture), followed());
  }

  // The pixels of a patch over the second board, with their numbers where there is room.
  async function enlarge(of, i) {
    const {data} = await (of.pixels ??= pixelsOf(of.src)), U = 100, parts = [];
    for (let y = 0; y < high; y++) {
      for (let x = 0; x < wide; x++) {
        const k = 4 * ((Math.floor(i / columns) * high + y) * size[1] + (i % columns) * wide + x), colour = [...data.subarray(k, k + 3)];
        const ink = 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2] > 128 ? "#000" : "#fff";
        parts.push(shape("rect", {x: U * x, y: U * y, width: U + 1, height: U + 1, fill: `rgb(${colour})`}));
        if (high * wide <= 16) colour.slice(0, channels).forEach((v, c) => parts.push(shape("text", {x: U * (x + 0.5), y: U * (y + 0.5) + 27 * (c - (channels - 1) / 2), fill: ink}, `${v}`)));
      }
    }
    fill(zoom, {viewBox: `0 0 ${U * wide} ${U * high}`, "aria-label": `The patch in ${place(i)}, enlarged to its ${high} by ${wide} pixels`}, []).replaceChildren(...parts);
  }

  // ---- Draw what the state says
  function set(change, speak = true) {
    Object.assign(state, change);
    if (at !== null) Object.assign(state, walkSteps[at].shows(), {head: together}, change);
    if (state.head !== "rollout") rawHead = state.head;
    if (state.query !== "all" && state.query >= prefix) patch = state.query - prefix;
    draw();
    if (speak) spoken.textContent = say();
  }

  let weights, top;
  function draw() {
    const from = numbersOf(state.picture);
    weights = weightsOf(state);
    const seen = weights.subarray(prefix), largest = Math.max(...seen);
    top = range(nPatches).sort((a, b) => seen[b] - seen[a] || a - b).slice(0, 5);
    plain.style.backgroundImage = photo.style.backgroundImage = `url(${from.src})`;
    photo.style.filter = `grayscale(${Math.min(2 * state.strength, 1)})`;
    map.style.opacity = state.strength;
    paintMap(map, seen, largest);
    bar.show(largest, false);
    title.textContent = at === 0 ? `The picture, and its patch in ${place(followed())}` : `Where ${nameOf(state.query)} ${verb(state.query)}: ${layer(state)}`;
    twin.stage.setAttribute("aria-label", `${about(from, state.picture)}${at === 0 ? "" : `, outlined at ${top.map(place).join("; ")}`}`);
    topList.replaceChildren(...top.map((i) => row([element("span", {}, place(i)), element("b", {}, inPercent(seen[i]))], seen[i] / (largest || 1))));
    const parts = [...(hasClassToken ? [`to the class token ${inPercent(weights[0])}`] : []),
      ...(nRegisters ? [`to ${nRegisters > 1 ? `${nRegisters} registers` : "the register"} ${inPercent(weights.slice(+hasClassToken, prefix).reduce((a, b) => a + b, 0))}`] : [])];
    elsewhere.textContent = parts.length ? `The rest: ${parts.join(", ")}, to other patches ${inPercent(1 - weights.slice(0, prefix).reduce((a, b) => a + b, 0) - top.reduce((a, i) => a + seen[i], 0))}.`
      : `Together ${inPercent(top.reduce((a, i) => a + seen[i], 0))}; shared evenly, five would get ${inPercent(5 / N)}.`;
    drawMarks();
    drawTiles();
    drawAnswers(from);
    drawWalk();
    check(thumbs, state.picture);
    check(who, state.query === "all" || state.query < prefix ? state.query : "patch");
    check(block, state.block);
    check(head, rawHead);
    check(kind, state.head === "rollout" ? "rollout" : "raw");
    check(tilesScale, state.tiles);
    head.disabled = state.head === "rollout";
    stage.setAttribute("aria-label", `${about(from, state.picture)}, ${rows} by ${columns} patches. Arrow keys choose the patch that looks, `
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

  // Around the five patches attended most, one line where they touch.
  function outline(patches) {
    const edges = [[0, -1, "h1"], [-1, 0, "v1"], [0, 1, "m0 1h1"], [1, 0, "m1 0v1"]];
    return patches.flatMap((i) => {
      const x = i % columns, y = Math.floor(i / columns), joined = ([dx, dy]) => patches.some((j) => j % columns === x + dx && Math.floor(j / columns) === y + dy);
      return edges.filter((edge) => !joined(edge)).map((edge) => `M${x} ${y}${edge[2]}`);
    }).join("");
  }

  function drawMarks() {
    const shown = at === 0 ? [] : top, d = outline(shown);
    for (const layer of outlines) layer.replaceChildren(...["under", ""].map((name) => shape("path", {class: name, d})));
    mark(new Map(shown.map((i, k) => [i, `${k + 1}`])), probe);
    twin.mark(new Map(), probe);
    readout.textContent = probe === null || at === 0 ? (at === null ? "Press a patch to see where it looks. " : "Press a patch to follow it. ") + (at === 0 ? "" : "Outlined: the five that are looked at most.")
      : `Row${place(probe).slice(3)}: ${inPercent(weights[prefix + probe])}`;
  }

  function drawAnswers(from) {
    only.hidden = !from.own || classes.length < 2;
    if (classes.length) answers.replaceChildren(...answerRows(from));         // a model without a head has none
  }

  function answerRows({logits, label}) {
    const p = shares(logits), order = range(classes.length).sort((a, b) => p[b] - p[a] || a - b).slice(0, 5);
    const rows = order.map((k) => {
      const item = row([element("span", {}, classes[k]), element("b", {}, inPercent(p[k]))], p[k]);
      if (k === label) item.firstChild.append(element("em", {}, " ✓"), element("span", {class: "vit-spoken"}, " (its label)"));
      return item;
    });
    return label === null || order.includes(label) ? rows : [...rows, element("li", {class: "missed"}, `The label is ${classes[label]}.`)];
  }

  const say = () => (at !== null ? `Step ${counter.textContent}: ${heading.textContent}. ${words.textContent}` : `${title.textContent}. Most at ${top.slice(0, 3).map((i) => `${place(i)}, ${inPercent(weights[prefix + i])}`).join("; ")}.`);

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
    event.detail.answer = {state: {...state}, weights: [...weightsOf(asked)], logits: [...numbersOf(asked.picture).logits], early: numbersOf(asked.picture).early.map((logits) => [...logits])};
  });
  set({}, false);
}
