// A Vision Transformer's forward pass, step for step the one of vit_edu/model.py.
//
//   const weights = decodeWeights(names, "data:application/octet-stream;base64,...");
//   const {logits, early, attention} = vitForward(config, weights, image);
//
// Tensors are flat Float32Arrays, the last axis contiguous, shapes in comments: N tokens, D width,
// h heads, d = D/h. `weights` maps PyTorch's parameter names to arrays; a name that is absent
// (a bias, the class token, registers, positions, a norm, the head) is a part that this model has not got.

// The value of a float16 from its 16 bits: 1 sign, 5 exponent, 10 fraction.
function halfToNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;                 // zero and subnormals
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

// Little-endian float16 in a base64 data URI, tensors one after the other, to {name: Float32Array}.
// `names` is [[name, length], ...] in the order of the bytes.
function decodeWeights(names, uri) {
  const text = atob(uri.slice(uri.indexOf(",") + 1));
  const half = (i) => halfToNumber(text.charCodeAt(i) | (text.charCodeAt(i + 1) << 8));
  const weights = {};
  let at = 0;
  for (const [name, length] of names) {
    weights[name] = Float32Array.from({length}, (_, i) => half(at + 2 * i));
    at += 2 * length;
  }
  return weights;
}

// x (N, D_in) times the transpose of weight (D_out, D_in), plus bias: (N, D_out).
function linear(x, weight, bias, N) {
  const dIn = x.length / N, dOut = weight.length / dIn, y = new Float32Array(N * dOut);
  for (let n = 0; n < N; n++) {
    for (let o = 0; o < dOut; o++) {
      let sum = bias ? bias[o] : 0;
      for (let i = 0, a = n * dIn, b = o * dIn; i < dIn; i++) sum += x[a + i] * weight[b + i];
      y[n * dOut + o] = sum;
    }
  }
  return y;
}

// Each token (row) to mean 0 and variance 1, then scale and shift: (N, D) to (N, D).
function layerNorm(x, scale, shift, N, eps) {
  const D = x.length / N, y = new Float32Array(x.length);
  for (let n = 0; n < N; n++) {
    const row = x.subarray(n * D, (n + 1) * D);
    let mean = 0, variance = 0;
    for (const v of row) mean += v / D;
    for (const v of row) variance += (v - mean) ** 2 / D;
    const inverse = 1 / Math.sqrt(variance + eps);
    for (let i = 0; i < D; i++) y[n * D + i] = (row[i] - mean) * inverse * scale[i] + shift[i];
  }
  return y;
}

// The error function to 1.5e-7 (Abramowitz and Stegun, formula 7.1.26).
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const polynomial = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return Math.sign(x) * (1 - polynomial * Math.exp(-x * x));
}

const gelu = (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2));

function add(x, y) {
  for (let i = 0; i < x.length; i++) x[i] += y[i];
}

// softmax(q k^T / sqrt(d)) v for every head: {y (N, D), maps: h arrays (N, N)}, from qkv (N, 3 D).
function attend(qkv, N, heads) {
  const D = qkv.length / N / 3, d = D / heads, y = new Float32Array(N * D), maps = [];
  for (let h = 0; h < heads; h++) {
    const map = new Float32Array(N * N), q = h * d, k = D + h * d, v = 2 * D + h * d;  // columns in qkv
    for (let i = 0; i < N; i++) {
      const row = map.subarray(i * N, (i + 1) * N);
      for (let j = 0; j < N; j++) {
        let score = 0;
        for (let c = 0; c < d; c++) score += qkv[i * 3 * D + q + c] * qkv[j * 3 * D + k + c];
        row[j] = score / Math.sqrt(d);
      }
      softmax(row);
      for (let j = 0; j < N; j++) {
        for (let c = 0; c < d; c++) y[i * D + h * d + c] += row[j] * qkv[j * 3 * D + v + c];
      }
    }
    maps.push(map);
  }
  return {y, maps};
}

// In place; the largest score is subtracted first, so that exp never overflows.
function softmax(row) {
  let largest = -Infinity, sum = 0;
  for (const v of row) largest = Math.max(largest, v);
  for (let i = 0; i < row.length; i++) sum += row[i] = Math.exp(row[i] - largest);
  for (let i = 0; i < row.length; i++) row[i] /= sum;
  return row;
}

// image (C, H, W) to patches (N, C·P_h·P_w), row by row, as `patchify` does.
function patchify(image, [H, W], [ph, pw]) {
  const C = image.length / (H * W), patches = new Float32Array(image.length);
  let k = 0;
  for (let top = 0; top < H; top += ph) {
    for (let left = 0; left < W; left += pw) {
      for (let c = 0; c < C; c++) {
        for (let y = top; y < top + ph; y++) {
          for (let x = left; x < left + pw; x++) patches[k++] = image[(c * H + y) * W + x];
        }
      }
    }
  }
  return patches;
}

// Class token, registers, patches, in this order; positions belong to the class token and the patches.
function embed(config, w, image) {
  const {imgSize, patchSize} = config, n = (imgSize[0] / patchSize[0]) * (imgSize[1] / patchSize[1]);
  const patches = linear(patchify(image, imgSize, patchSize), w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], n);
  const cls = Float32Array.from(w.cls_token ?? []), registers = w.reg_token ?? [], positions = w.pos_embed;
  if (positions) {
    add(cls, positions);
    add(patches, positions.subarray(cls.length));
  }
  const tokens = new Float32Array(cls.length + registers.length + patches.length);
  tokens.set(cls);
  tokens.set(registers, cls.length);
  tokens.set(patches, cls.length + registers.length);
  return tokens;                                                          // (N, D)
}

// One image (C, H, W) to {logits (K), early: depth + 1 times (K), attention: [block][head] (N, N)}. `early` are the logits
// if the model ended before the first block, and after each (early_logits in Python); the last are the model's own.
// config: imgSize [H, W], patchSize [P_h, P_w], embedDim, depth, nHeads, pool "cls" | "mean", eps.
function vitForward(config, w, image) {
  const {embedDim: D, depth, nHeads, pool, eps} = config;
  const x = embed(config, w, image), N = x.length / D, attention = [];
  const norm = (name, t, n) => (w[`${name}.weight`] ? layerNorm(t, w[`${name}.weight`], w[`${name}.bias`], n, eps) : t);
  const dense = (name, t, n) => linear(t, w[`${name}.weight`], w[`${name}.bias`], n);
  function answer() {
    const tokens = norm("norm", x, N);
    let pooled = tokens.subarray(0, D);                                   // the class token
    if (pool === "mean") {
      const first = (w.reg_token ?? []).length / D;
      pooled = new Float32Array(D);
      for (let n = first; n < N; n++) for (let i = 0; i < D; i++) pooled[i] += tokens[n * D + i] / (N - first);
    }
    const y = norm("fc_norm", pooled, 1);
    return w["head.weight"] ? dense("head", y, 1) : y.slice();            // without a head: features
  }
  const early = [answer()];
  for (let i = 0; i < depth; i++) {
    const block = `blocks.${i}`;
    const {y, maps} = attend(dense(`${block}.attn.qkv`, norm(`${block}.norm1`, x, N), N), N, nHeads);
    add(x, dense(`${block}.attn.proj`, y, N));                            // eq. 2
    const hidden = dense(`${block}.mlp.fc1`, norm(`${block}.norm2`, x, N), N).map(gelu);
    add(x, dense(`${block}.mlp.fc2`, hidden, N));                         // eq. 3
    attention.push(maps);
    early.push(answer());
  }
  return {logits: early[depth], early, attention};
}
