// TrainingCalculator: hours, price and disk of a run on ImageNet. Needs common.js.

// What a run takes: rates in images a second, time in hours.
function costOf({flops, peak, images, fileBytes, gpus, epochs, utilisation, loader, price}) {
  const asked = gpus * (utilisation / 100) * peak * 1e12 / flops, rate = Math.min(asked, loader);
  const hours = epochs * images / rate / 3600;
  return {asked, rate, hours, gpuHours: gpus * hours, price: gpus * hours * price,
    disk: rate * fileBytes / 1e9, room: images * fileBytes / 1e9, reached: 100 * rate * flops / (gpus * peak * 1e12)};
}

function startTrainingCalculator(root, data) {
  const now = {...data.first}, inputs = {}, flops = new Map(data.flops), peaks = new Map(data.peaks);
  const grouped = (value) => {    // three digits and a comma, whatever the reader's language
    const places = value < 10 ? 2 : value < 100 ? 1 : 0, [whole, rest] = value.toFixed(places).split(".");
    return whole.replace(/\B(?=(\d{3})+$)/g, ",") + (rest ? `.${rest}` : "");
  };

  // ---- Fields
  const pick = (legend, name, names) =>
    choice(legend, names.map((n) => [n, n]), now[name], (value) => { now[name] = value; update(); });
  const field = (name, label, attributes) => {
    const input = element("input", {type: "number", min: 0, value: now[name], inputmode: "decimal", ...attributes});
    input.addEventListener("input", () => { now[name] = input.value === "" ? NaN : +input.value; update(); });
    inputs[name] = {input, label};
    return element("label", {}, element("span", {}, label), input);
  };
  const shown = element("output"), slider = element("input", {type: "range", min: 1, max: 100, step: 1, value: now.utilisation});
  slider.addEventListener("input", () => { now.utilisation = +slider.value; update(); });
  const fields = element("div", {class: "fields"},
    field("epochs", "Epochs", {step: 10}), field("gpus", "GPUs", {step: 1}),
    element("label", {}, element("span", {}, "Share of the peak (MFU) ", shown), slider),
    field("loader", "Loader, images/s in all", {step: 500}), field("price", "Price of a GPU-hour", {step: 0.1}));

  // ---- Answers
  const verdict = element("p", {class: "verdict", "aria-live": "polite"});
  const bars = {}, row = (name, label) => {
    bars[name] = {bar: element("i"), number: element("b")};
    return [element("span", {}, label), element("div", {}, bars[name].bar), bars[name].number];
  };
  const rates = element("div", {class: "rates"}, ...row("asked", "GPUs ask for"), ...row("loader", "loader gives"));
  const list = element("dl");
  root.append(pick("Model", "model", [...flops.keys()]), pick("GPU", "gpu", [...peaks.keys()]), fields, verdict, rates, list);

  function update() {
    shown.textContent = `${now.utilisation} %`;
    slider.setAttribute("aria-valuetext", `${now.utilisation} percent`);
    const wrong = Object.entries(inputs).filter(([name]) => !(now[name] > 0));
    for (const [name, {input}] of Object.entries(inputs)) input.setAttribute("aria-invalid", !(now[name] > 0));
    if (wrong.length) {
      verdict.textContent = `${wrong.map(([, {label}]) => label).join(", ")}: a number above 0, please.`;
      list.replaceChildren();
      return;
    }
    const cost = costOf({...data, ...now, flops: flops.get(now.model), peak: peaks.get(now.gpu)});
    const many = now.gpus === 1 ? `One ${now.gpu}` : `${grouped(now.gpus).replace(/\.0+$/, "")} ${now.gpu}`;
    const waits = cost.asked > now.loader * 1.005;
    verdict.textContent = `${grouped(cost.hours)} hours. `
      + (waits ? `The loader decides: ${many} would take ${grouped(cost.asked)} images/s and get ${grouped(now.loader)}, so they reach ${grouped(cost.reached)} % of their peak.`
        : `The GPUs decide: the loader has ${grouped(now.loader / cost.asked)} times the images/s that they take.`);
    const most = Math.max(cost.asked, now.loader);
    for (const [name, value] of [["asked", cost.asked], ["loader", now.loader]]) {
      bars[name].bar.style.width = `${100 * value / most}%`;
      bars[name].number.textContent = grouped(value);
    }
    list.replaceChildren(...[["GPU-hours", grouped(cost.gpuHours)], ["price", grouped(cost.price)],
      ["read from disk", `${grouped(cost.disk)} GB/s`], ["room on disk", `${grouped(cost.room)} GB`]]
      .flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, value)]));
    root.dataset.hours = cost.hours;
  }
  update();
}
