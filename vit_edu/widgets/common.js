// Small helpers that the interactive pictures share.

// An element with attributes and children: element("button", {type: "button"}, "Clear").
function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function shape(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Names for radio groups: several pictures may stand on one page.
let groups = 0;

// A row of labelled radio buttons; `changed(value)` is called on every choice.
function choice(legend, options, chosen, changed) {
  const name = `vit-choice-${Math.random().toString(36).slice(2)}-${groups++}`;
  const row = element("fieldset", {class: "vit-choice"}, element("legend", {}, legend));
  for (const [value, label, spoken] of options) {
    const input = element("input", {type: "radio", name, value, "aria-label": spoken ?? label});
    input.checked = value === chosen;
    input.addEventListener("change", () => changed(value));
    row.append(element("label", {}, input, element("span", {}, label)));
  }
  return row;
}

// Viridis, a perceptually even and colour-blind-safe scale, at eight even steps; between them, a mix.
const VIRIDIS = [[68, 1, 84], [70, 50, 127], [54, 92, 141], [39, 127, 142], [31, 161, 135], [74, 194, 109], [159, 218, 58], [253, 231, 37]];

function viridis(t) {
  const at = Math.min(Math.max(t, 0), 1) * (VIRIDIS.length - 1), i = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return `rgb(${VIRIDIS[i].map((v, c) => Math.round(v + (VIRIDIS[i + 1][c] - v) * (at - i))).join(" ")})`;
}

const percent = (p) => `${p >= 0.995 || p < 0.0005 ? Math.round(100 * p) : (100 * p).toFixed(p < 0.0995 ? 1 : 0)} %`;
