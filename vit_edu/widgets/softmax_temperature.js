// SoftmaxTemperature: scores q·k of random queries and keys, divided and put through a softmax. Needs common.js.

const sum = (values) => values.reduce((a, b) => a + b, 0);

function softmaxOf(scores, divisor) {
  const largest = Math.max(...scores), powers = scores.map((s) => Math.exp((s - largest) / divisor));
  return powers.map((power) => power / sum(powers));
}

// What a weight gains when its own score rises a little: the diagonal of softmax's derivative.
const slopes = (weights) => weights.map((p) => p * (1 - p));

function startSoftmaxTemperature(root, data) {
  const {widths, scores} = data, nKeys = scores[0][0].length, uniform = Math.log2(nKeys);
  let width = widths.indexOf(64), rule = "one", own = 4, draw = 0;
  const divisor = (d) => ({one: 1, root: Math.sqrt(d), own})[rule];

  // ---- Controls
  const slider = (label, attributes, changed) => {
    const shown = element("output"), input = element("input", {type: "range", ...attributes});
    input.addEventListener("input", () => { changed(+input.value); update(); });
    return {row: element("label", {}, element("span", {}, label, shown), input), shown, input};
  };
  const d = slider("Width ", {min: 0, max: widths.length - 1, step: 1, value: width}, (v) => (width = v));
  const t = slider("Own divisor ", {min: -2, max: 6, step: 0.25, value: 2}, (v) => (own = 2 ** v));
  const again = element("button", {type: "button"}, "Other random vectors");
  again.addEventListener("click", () => { draw = (draw + 1) % scores.length; update(); });
  const rules = choice("Divide by", [["one", "1", "1, no division"], ["root", "√d", "the square root of d"], ["own", "own", "a divisor of your own"]], rule,
    (value) => { rule = value; update(); });

  // ---- Charts: one bar for each key in each row
  const WIDE = 400, LEFT = 34, rows = [
    {title: "score / divisor", height: 96}, {title: "weight: softmax of these", height: 96}, {title: "gradient: weight · (1 − weight)", height: 70}];
  const bars = shape("svg", {viewBox: `0 0 ${WIDE} 352`, role: "img"});
  const law = shape("svg", {viewBox: "0 0 260 250", role: "img"});
  const verdict = element("p", {class: "verdict", "aria-live": "polite"});
  root.append(element("div", {class: "controls"}, d.row, rules, t.row, again), verdict,
    element("div", {class: "charts"},
      element("figure", {}, bars, element("figcaption", {}, `One random query against ${nKeys} keys. Each score is a sum of d products, so it spreads like √d.`)),
      element("figure", {}, law, element("figcaption", {}, `The largest gradient, mean over ${scores.length} draws. Undivided, it falls towards zero as d grows; divided by √d, it stays.`))));

  const text = (x, y, content, attributes = {}) => shape("text", {x, y, ...attributes}, content);
  const line = (d, attributes = {}) => shape("path", {d, class: "line", ...attributes});

  function drawRow(top, {title, height}, values, low, high, format) {
    const y = (v) => top + 22 + ((high - v) / (high - low)) * height, step = (WIDE - LEFT) / nKeys;
    const parts = [text(LEFT, top + 12, title, {class: "title"}), line(`M${LEFT} ${y(0)}H${WIDE}`)];
    for (const tick of low < 0 ? [low, 0, high] : [0, high]) parts.push(text(LEFT - 5, y(tick) + 4, format(tick), {"text-anchor": "end"}));
    values.forEach((v, i) => parts.push(shape("rect", {class: "bar", x: LEFT + 3 + i * step, y: Math.min(y(v), y(0)), width: step - 6, height: Math.max(Math.abs(y(v) - y(0)), 0.8)})));
    return parts;
  }

  function drawLaw() {
    const X = (i) => 40 + (i * 200) / (widths.length - 1), Y = (v) => 200 - v * 640;
    const mean = (i, divide) => sum(scores.map((s) => Math.max(...slopes(softmaxOf(s[i], divide(widths[i])))))) / scores.length;
    const curve = (divide) => widths.map((_, i) => [X(i), Y(mean(i, divide))]);
    const path = (points, attributes) => shape("path", {d: `M${points.map((p) => p.map((v) => v.toFixed(1)).join(" ")).join("L")}`, ...attributes});
    const undivided = curve(() => 1), divided = curve(Math.sqrt), current = mean(width, divisor);
    const ticks = [0, 2, 4, 6, 8].map((i) => text(X(i), 218, widths[i], {"text-anchor": "middle"}));
    law.replaceChildren(text(40, 14, "largest gradient", {class: "title"}), line("M40 30V200H244"), ...ticks, text(142, 238, "width d", {"text-anchor": "middle"}),
      text(35, 204, "0", {"text-anchor": "end"}), text(35, Y(0.25) + 4, "0.25", {"text-anchor": "end"}),
      path(undivided, {class: "curve"}), path(divided, {class: "curve dashed"}),
      text(X(3) - 8, undivided[3][1] + 14, "÷ 1", {"text-anchor": "end"}), text(X(8), divided[8][1] - 10, "÷ √d", {"text-anchor": "end"}),
      line(`M${X(width)} 30V200`, {"stroke-dasharray": "2 4"}), shape("circle", {class: "here", cx: X(width), cy: Y(current), r: 6}));
    law.setAttribute("aria-label", `Mean largest gradient at width ${widths[width]}: ${current.toFixed(3)}. `
      + `Undivided it falls from ${mean(0, () => 1).toFixed(2)} at d = 4 to ${mean(8, () => 1).toFixed(2)} at 1024; divided by √d it goes from ${mean(0, Math.sqrt).toFixed(2)} to ${mean(8, Math.sqrt).toFixed(2)}.`);
  }

  function update() {
    const dim = widths[width], by = divisor(dim), raw = scores[draw][width], weights = softmaxOf(raw, by), slope = slopes(weights);
    const scaled = raw.map((s) => s / by), reach = Math.max(3, ...scaled.map(Math.abs)), nice = reach < 10 ? Math.ceil(reach) : Math.ceil(reach / 10) * 10;
    const entropy = -sum(weights.map((p) => (p > 0 ? p * Math.log2(p) : 0))), best = weights.indexOf(Math.max(...weights));
    const number = (v) => `${+v.toFixed(2)}`.replace("-", "−");
    d.shown.textContent = `d = ${dim}`;
    d.input.setAttribute("aria-valuetext", `${dim}`);
    t.shown.textContent = number(own);
    t.input.setAttribute("aria-valuetext", number(own));
    t.input.disabled = rule !== "own";
    bars.replaceChildren(...drawRow(0, rows[0], scaled, -nice, nice, number), ...drawRow(130, rows[1], weights, 0, 1, number), ...drawRow(260, rows[2], slope, 0, 0.25, number));
    bars.setAttribute("aria-label", `${nKeys} keys. Weights: ${weights.map((p) => p.toFixed(2)).join(", ")}`);
    verdict.textContent = `Largest weight ${percent(weights[best])} · entropy ${entropy.toFixed(1)} of ${uniform.toFixed(1)} bits · largest gradient ${Math.max(...slope).toFixed(3)}`;
    drawLaw();
  }
  update();
}
