// The boxes of the Predict exercises. tools/predict_boxes.py writes the data of each, taken from vit_edu.exercises;
// what a box says of an answer is what `check` says in a notebook. Nothing is stored, nothing is sent.
const predictBoxes = (() => {
  const isNumber = value => typeof value === "number";
  const isWord = value => typeof value === "string";

  // Values as Python shows them: four digits, a tuple or a list, words in quotes.
  function show(value, part) {
    if (Array.isArray(value)) {
      const items = value.map(item => show(item, part)).join(", ");
      return part.list ? `[${items}]` : `(${items}${value.length === 1 ? "," : ""})`;
    }
    if (isNumber(value)) return Number.isInteger(value) ? BigInt(value).toString() : decimal(fourDigits(value));
    if (isWord(value)) return value.includes("'") && !value.includes('"') ? `"${value}"` : `'${value.replace(/'/g, "\\'")}'`;
    return value ? "True" : "False";
  }

  function fourDigits(x) {
    const tie = x.toExponential(50).match(/^(-?\d\.\d{3})50*e(.+)$/);
    return Number(tie && "02468".includes(tie[1].at(-1)) ? `${tie[1]}e${tie[2]}` : x.toPrecision(4));
  }

  function decimal(x) {
    const [digits, power] = x.toExponential().split("e");
    if (power >= -4 && power < 16) return Number.isInteger(x) ? `${x}.0` : String(x);
    return `${digits}e${power[0]}${power.slice(1).padStart(2, "0")}`;
  }

  // What the verdict is. Part.equals, words_for and judge_answer of vit_edu.exercises, line by line.
  function equals(part, answer, value) {
    if (isNumber(answer) && isNumber(value)) return Math.abs(answer - value) <= part.within;
    if (isWord(answer) && isWord(value)) return answer.trim().toLowerCase() === value.toLowerCase();
    if (Array.isArray(answer) && Array.isArray(value))
      return answer.length === value.length && answer.every((item, i) => equals(part, item, value[i]));
    return answer === value;
  }

  function wordsFor(part, item) {
    const shown = show(item, part), { right } = part;
    const known = part.wrong.find(([value]) => equals(part, item, value));
    if (known) return `${shown}? ${known[1]}`;
    if (isNumber(right) && isNumber(item)) return `${shown} is too ${item > right ? "large" : "small"}`;
    if (Array.isArray(right) && !Array.isArray(item)) return `${shown} is one thing; a list or a tuple is asked for`;
    if (Array.isArray(right) && item.length !== right.length)
      return `${shown} has ${item.length} numbers, it should have ${right.length}`;
    if (isWord(right)) return `${shown} is none of ${choices(part).filter(isWord).join(", ")}`;
    return `${shown} is not it`;
  }

  function verdict(part, item) {
    if (item === undefined) return ["·", "not answered yet"];
    return equals(part, item, part.right) ? ["✓", show(item, part)] : ["✗", wordsFor(part, item)];
  }

  // All that `check` prints; an answer that is undefined is not given yet.
  function report({ name, parts }, answers) {
    if (answers.every(item => item === undefined)) return `not answered yet: ${name}`;
    return parts.map((part, i) => verdict(part, answers[i])).map(([mark, words], i) => `${mark} ${parts[i].what}: ${words}`).join("\n");
  }

  // What there is to choose from, if the answer is a word; the usual wrong ones in one order with the right one.
  function choices({ right, wrong }) {
    const words = new Set([right, ...wrong.map(([value]) => value).filter(value => !Array.isArray(value))]);
    return [...words].sort((a, b) => (String(a) < String(b) ? -1 : 1));
  }

  // What was typed, as a value: undefined if nothing, null if it cannot be read.
  function parse(text, part) {
    text = text.trim().replace(/[−–]/g, "-");
    if (!text) return undefined;
    return Array.isArray(part.right) ? sequence(text, part) : calculate(text, true) ?? sequence(text, part);
  }

  function sequence(text, part) {
    const inside = text.replace(/^(?:torch\.Size)?[(\[{]+(.*?)[)\]}]+$/, "$1");
    const items = inside.split(/[,;]/.test(inside) ? /[,;]/ : /\s*[×x]\s*|\s+/).map(item => item.trim()).filter(Boolean);
    if (items.length < 2 && !Array.isArray(part.right)) return null;
    const words = [part.right].flat(2).some(isWord);
    const values = items.map(item => calculate(item, false) ?? (words ? item.replace(/^["'](.*)["']$/, "$1") : null));
    return values.includes(null) ? null : values;
  }

  // A number, or a sum such as 12 * 5**2 or 1/17; with `commas` also 1,536 and 0,5. Null if it is none.
  function calculate(text, commas) {
    const numbers = commas ? "[1-9]\\d{0,2}(?:[,_]\\d{3})+(?![\\d,])(?:\\.\\d+)?|\\d+,\\d+|" : "";
    const tokens = text.match(new RegExp(`${numbers}(?:\\d+\\.?\\d*|\\.\\d+)(?:e[+-]?\\d+)?|\\*\\*|[^\\s]`, "gi")) ?? [];
    const next = (...signs) => (signs.includes(tokens[0]) ? tokens.shift() : null);
    let sign;

    function sum() {
      let total = product();
      while ((sign = next("+", "-"))) total += (sign === "-" ? -1 : 1) * product();
      return total;
    }
    function product() {
      let total = signed();
      while ((sign = next("*", "·", "×", "/", "÷"))) "/÷".includes(sign) ? (total /= signed()) : (total *= signed());
      return total;
    }
    function signed() {
      if (next("-")) return -signed();
      if (next("√")) return Math.sqrt(signed());
      const base = atom();
      return next("**", "^") ? base ** signed() : base;
    }
    function atom() {
      if (next("(")) {
        const total = sum();
        return next(")") ? total : NaN;
      }
      const token = tokens.shift() ?? "";
      if (!/^[\d.]/.test(token)) return NaN;
      const thousands = /^[1-9]\d{0,2}([,_]\d{3})+(\.|$)/.test(token);
      const value = Number(thousands ? token.replace(/[,_]/g, "") : token.replace(",", "."));
      return next("%") ? value / 100 : value;
    }
    const value = sum();
    return tokens.length || !Number.isFinite(value) ? null : value;
  }

  // The box itself.
  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  // A part's row: { row, read() gives its value, tell() shows a verdict, focus() }.
  function field(part, id, change) {
    const said = element("p", { class: "predict-verdict", id: `${id}-verdict`, "aria-live": "polite" });
    const tell = (mark = "", words = "") => {
      said.replaceChildren(...(mark ? [mark, " ", element("span", { class: "sr-only" }, `${part.what}: `), words] : []));
      said.dataset.mark = mark;
    };
    if (isNumber(part.right) || Array.isArray(part.right)) {
      const several = Array.isArray(part.right);
      const input = element("input", { id, type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false",
        "aria-describedby": said.id, ...(several ? { placeholder: "with commas" } : {}) });
      input.addEventListener("input", () => tell());
      const row = element("div", { class: "predict-part" }, element("label", { for: id }, part.what), input, said);
      return { row, tell, read: () => parse(input.value, part), focus: () => input.focus() };
    }
    const values = choices(part);
    const buttons = values.map(() => element("input", { type: "radio", name: id, "aria-describedby": said.id }));
    const labels = values.map((value, i) => element("label", {}, buttons[i], isWord(value) ? value : show(value, part)));
    buttons.forEach(button => button.addEventListener("change", () => tell()));
    const row = element("fieldset", { class: "predict-part" }, element("legend", {}, part.what),
      element("div", { class: "predict-choices" }, ...labels), said);
    return { row, tell, read: () => values[buttons.findIndex(button => button.checked)], focus: () => buttons[0].focus() };
  }

  function open(place) {
    const known = JSON.parse(place.querySelector("script").textContent), { name, parts } = known;
    const link = [...document.querySelectorAll(".solution > .admonition-title a")].find(a => a.hash === `#${name}`);
    const solution = link?.closest(".solution");
    const fields = parts.map((part, i) => field(part, `predict-${name}-${i + 1}`));
    const all = element("p", { class: "predict-verdict", "aria-live": "polite" });
    const showMe = element("button", { type: "button" }, "show me");
    const form = element("form", { class: "predict-form", "aria-label": "Your prediction" },
      element("p", { class: "predict-title" }, "Your prediction"), ...fields.map(({ row }) => row),
      element("div", { class: "predict-buttons" }, element("button", { type: "submit" }, "check"), ...(solution ? [showMe] : []), all));

    form.addEventListener("submit", event => {
      event.preventDefault();
      const answers = fields.map(({ read }) => read());
      if (answers.every(item => item === undefined)) {
        all.textContent = "not answered yet";
        return fields[0].focus();
      }
      all.textContent = "";
      answers.forEach((item, i) => fields[i].tell(...(item === null ? ["?", unreadable(parts[i])] : verdict(parts[i], item))));
      if (answers.some(item => item !== undefined && item !== null)) free();
    });
    const unreadable = ({ right }) => Array.isArray(right) ? "numbers, with commas between them: 3, 32, 32"
      : "a number, or a sum that gives it: 0.25, 1/4, 3 * 2**5";
    const free = () => solution?.classList.remove("predict-waits");
    showMe.addEventListener("click", () => {
      free();
      if (solution.classList.contains("toggle-hidden")) solution.querySelector("button.toggle-button").click();
      solution.querySelector("button.toggle-button")?.focus();
    });
    solution?.classList.add("predict-waits");
    const output = place.previousElementSibling?.querySelector(".cell_output");
    const printed = [...(output?.querySelectorAll("pre") ?? [])].map(block => block.textContent).join("").trim();
    if (printed === report(known, parts.map(() => undefined))) output.classList.add("predict-output");
    place.replaceChildren(form);
    place.hidden = false;
  }

  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".predict[hidden]").forEach(open));
  return { parse, report, show, choices };
})();
