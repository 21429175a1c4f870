"""What axe-core finds in an open page; every kind of text is looked at once."""

import pytest

# Runs in the page. axe takes a millisecond for the contrast of each element, and a chapter has thousands of words of
# code. A kind is a colour and a size on the same backgrounds, and of each kind the first stands for all. What is not the
# first of its kind in listings and formulas becomes plain text, for the other rules walk every element.
ONE_OF_EACH_KIND = """() => {
  const backgrounds = new Map(), kinds = new Set(), classes = new Map();
  const behind = element => {
    if (!element) return "";
    if (!backgrounds.has(element)) {
      const { position, backgroundColor, backgroundImage, opacity, filter, mixBlendMode } = getComputedStyle(element);
      const over = position === "static" || position === "relative" ? "" : element.className;
      const own = [over, backgroundColor, backgroundImage, opacity, filter, mixBlendMode].join();
      const plain = own === ",rgba(0, 0, 0, 0),none,1,none,normal";
      backgrounds.set(element, behind(element.parentElement) + (plain ? "" : own + ";"));
    }
    return backgrounds.get(element);
  };
  for (const element of document.body.querySelectorAll("*")) {
    const text = [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim());
    const field = element.matches("input, select, textarea, button");
    if (!text && !field || element.matches("script, style, title")) continue;
    if (element.matches("pre span")) {  // thousands; those of a class beside each other are of one kind
      const known = classes.get(element.parentElement) ?? new Set(), own = element.className + element.style.cssText;
      if (known.has(own)) continue;
      classes.set(element.parentElement, known.add(own));
    }
    const { color, fontSize, fontWeight, textShadow } = getComputedStyle(element);
    const kind = [field, color, fontSize, fontWeight, textShadow, behind(element)].join();
    if (!kinds.has(kind)) element.dataset.firstOfItsKind = "";
    kinds.add(kind);
  }
  const first = "[data-first-of-its-kind]";
  for (const one of document.querySelectorAll("pre, pre span, math"))
    if (one.isConnected && !one.matches(first) && !one.querySelector(first))
      one.matches("span") ? one.replaceWith(one.textContent) : one.replaceChildren(one.textContent);
  axe.configure({ rules: [{ id: "color-contrast", selector: first }] });
}"""


SILENTLY = {"resultTypes": ["violations"], "preload": False}    # axe asks for no style sheet itself


def violations(page) -> list[dict]:
    """What axe-core finds, as it reports it; changes the page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.evaluate(axe.axe_script)
    page.evaluate(ONE_OF_EACH_KIND)
    return page.evaluate("axe.run({ resultTypes: ['violations'] })")["violations"]
