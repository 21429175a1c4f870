"""The built pages in a real browser: every page, over http and file://, light and dark, on a phone and on a desk."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from accessible import violations
from chapters import ROOT, twins
from pages import MOVED

PAGES = [f"book/{path.stem}.html" for path in (*twins(), *sorted((ROOT / "book").glob("*.md")))]
CHAPTERS = [f"book/{path.stem}.html" for path in twins()]
THEMES = "light", "dark"
WIDTHS = 390, 1280

# Runs in the page: what a reader would see to be wrong, as a list of sentences.
LOOK = """async theme => {
  await document.fonts.ready;
  const problems = [], article = document.querySelector(".bd-article") ?? document.body;
  const expect = (good, problem) => good || problems.push(problem);
  const name = element => element.outerHTML.slice(0, 120);

  expect(document.documentElement.dataset.theme === theme, `the theme is ${document.documentElement.dataset.theme}`);
  expect(article.innerText.trim().length > 5, "the page is empty");
  expect(!article.innerText.includes("Traceback (most recent call last)"), "a traceback");
  const { scrollWidth, clientWidth } = document.documentElement;
  expect(scrollWidth <= clientWidth, `the page is ${scrollWidth} wide in a window of ${clientWidth}`);
  for (const formula of article.querySelectorAll(".math")) {
    expect(formula.querySelector("math") && !formula.querySelector("merror") && !formula.textContent.includes("\\\\"), `not typeset: ${name(formula)}`);
    const { scrollWidth, clientWidth, scrollHeight, clientHeight } = formula;  // the theme cuts off what is larger
    const high = scrollHeight > clientHeight + 1 && getComputedStyle(formula).overflowY !== "visible";
    expect(!clientWidth || scrollWidth <= clientWidth + 1 && !high, `cut off: ${name(formula)}`);
  }
  for (const image of document.images) {
    image.loading = "eager";
    await image.decode().catch(() => {});
    expect(image.naturalWidth > 0, `not loaded: ${name(image)}`);
    if (!article.contains(image) || image.closest(".logo")) continue;  // the mark stands beside its words
    expect(image.alt.trim().length > 9, `no alternative text: ${name(image)}`);
    expect(getComputedStyle(image).filter === "none", `altered: ${name(image)}`);
  }
  for (const drawing of article.querySelectorAll(".drawing > svg")) {
    expect(drawing.getAttribute("aria-label").length > 9, `no alternative text: ${name(drawing)}`);
    const text = drawing.querySelector("text");
    const size = text ? parseFloat(getComputedStyle(text).fontSize) * drawing.clientWidth / drawing.viewBox.baseVal.width : 16;
    expect(size > 9, `a drawing with text of ${size.toFixed(1)} pixels: ${name(drawing)}`);
    for (const text of drawing.querySelectorAll("text")) {
      const inside = text.getBoundingClientRect(), box = drawing.getBoundingClientRect();
      expect(inside.left >= box.left - 1 && inside.right <= box.right + 1, `cut off in a drawing: ${text.textContent}`);
    }
  }
  return problems;
}"""


@pytest.fixture(scope="module")
def reader(browser, site):
    """Open a page as a reader with a theme and a window width would: the page, and what goes wrong in it."""
    windows = {}

    def window(theme, width):
        context = browser.new_context(
            color_scheme=theme, viewport={"width": width, "height": 844}, has_touch=width < 500, reduced_motion="reduce"
        )
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page, troubles = context.new_page(), []

        def heard(request):    # not page.route: it would switch the browser's cache off
            if not request.url.startswith((site.http, site.file, "data:", "blob:", "about:")):
                troubles.append(f"asks for {request.url}")

        page.on("request", heard)
        page.on("console", lambda message: message.type == "error" and troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("requestfailed", lambda request: troubles.append(f"failed: {request.url}"))
        return page, troubles

    def open_page(address, theme="light", width=1280):
        if (theme, width) not in windows:
            windows[theme, width] = window(theme, width)
        page, troubles = windows[theme, width]
        page.goto("about:blank")
        page.emulate_media(color_scheme=theme)
        troubles.clear()
        page.goto(address)
        return page, troubles

    yield open_page
    for page, _ in windows.values():
        page.context.close()


def test_every_page_is_built(site):
    assert sorted(PAGES) == site.pages


@pytest.mark.parametrize("scheme", ["http", "file"])
@pytest.mark.parametrize("name", [*PAGES, "search.html"])
def test_page(reader, site, name, scheme):
    """Nothing from elsewhere, no errors, mathematics and pictures there and unaltered, no sideways scrolling.

    Over http the page is opened in light and narrow, in dark and wide, from disk the other way round; then the theme
    turns under the open page. And axe-core finds nothing serious or critical, once in either theme and width.
    """
    for theme, width in zip(THEMES if scheme == "http" else reversed(THEMES), WIDTHS):
        page, troubles = reader(f"{getattr(site, scheme)}/{name}", theme, width)
        assert (theme, width, troubles + page.evaluate(LOOK, theme)) == (theme, width, [])
        (other,) = {*THEMES} - {theme}
        page.emulate_media(color_scheme=other)    # as a system does at night
        page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=other)
        assert (other, width, troubles + page.evaluate(LOOK, other)) == (other, width, [])
        if scheme == "http":
            assert (other, width, inaccessible(page)) == (other, width, [])


def inaccessible(page) -> list:
    """What axe-core finds serious or critical."""
    found = [v for v in violations(page) if v["impact"] in ("serious", "critical")]
    return [(v["id"], v["help"], v["nodes"][0]["html"][:200]) for v in found]


@pytest.mark.parametrize("place", ["div.highlight .n", "math mi", "p", "h2", "td, li", "input, button"])
def test_one_pale_word_is_found(reader, site, place):
    """The last of its kind on a page, in a colour of its own."""
    page, _ = reader(f"{site.http}/{CHAPTERS[1]}")
    word = page.locator(f":is({place}):visible").last
    word.evaluate("word => word.style.setProperty('color', '#c8c8c8', 'important')")
    word.evaluate("word => word.append(' pale')")
    assert [rule for rule, *_ in inaccessible(page)] == ["color-contrast"]


class Links(HTMLParser):
    """The ids and links of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids |= {attributes[key] for key in ("id", "name") if key in attributes}
        self.links += [attributes[key] for key in ("href", "src") if attributes.get(key) and tag != "use"]


def test_no_broken_links(site):
    """Every link inside the book leads to a file, and to a place in it, that exists."""
    pages = {path: Links(path) for path in site.folder.rglob("*.html") if "_static" not in path.parts}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            if urlsplit(link).scheme or link.startswith("//"):
                continue
            address, place = urldefrag(link.split("?")[0] if "#" not in link else link)
            target = (path.parent / unquote(urlsplit(address).path)).resolve() if address else path
            if not target.exists() or (place and target in pages and unquote(place) not in pages[target].ids):
                broken.append(f"{path.relative_to(site.folder)} → {link}")
    assert broken == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_solutions_and_buttons(reader, site, name):
    """Every solution is closed at first and opens by keyboard; one that waits for a prediction, by "show me".

    Search, download, theme, copy, and Colab, which opens this very notebook.
    """
    page, _ = reader(f"{site.http}/{name}")
    solutions = page.locator(".solution.dropdown, details.solution, .solution.toggle")
    for i in range(solutions.count()):
        solution = solutions.nth(i)
        button = solution.locator("button.toggle-button, summary").first
        body = solution.locator("div.highlight, .solution-content, p:not(.admonition-title)").first
        assert not body.is_visible()
        if not button.is_visible():
            exercise = page.locator(solution.locator(".admonition-title a").get_attribute("href"))
            button = exercise.get_by_role("button", name="show me")
        button.press("Enter")
        body.wait_for(state="visible")
    notebook = f"book/{Path(name).stem}.ipynb"
    colab = page.locator("a[href^='https://colab.research.google.com/']").first.get_attribute("href")
    assert colab.startswith("https://colab.research.google.com/github/") and colab.endswith(
        f"/vit-edu/blob/main/{notebook}"
    )
    assert (ROOT / notebook).exists()
    assert page.locator("button.search-button__button:visible").count() == 1
    assert page.locator(".btn-download-source-button").first.get_attribute("href").endswith(".ipynb")
    before = page.evaluate("document.documentElement.dataset.mode")
    page.locator("button.theme-switch-button:visible").click()
    assert page.evaluate("document.documentElement.dataset.mode") != before
    page.evaluate("localStorage.clear()")
    block = page.locator("div.cell_input:visible").first
    block.hover()
    block.locator("button.copybtn").click()
    code = block.locator("pre").first.inner_text().strip()
    assert code and page.evaluate("navigator.clipboard.readText()").strip() == code


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_old_addresses_lead_to_the_new_ones(reader, site, scheme):
    """Pages that moved are still found, at the very place that a link named."""
    for old, new in MOVED.items():
        address = f"{getattr(site, scheme)}/book/{old}.html"
        page, troubles = reader(f"{address}#exercises")
        page.wait_for_url(f"**/book/{new}.html#exercises")
        left_early = f"failed: {address}"    # the old page, when the way on is quicker than its end
        assert set(troubles) <= {left_early} and page.locator("h1").first.inner_text()


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_search_finds(reader, site, scheme):
    page, _ = reader(f"{getattr(site, scheme)}/search.html?q=token")
    page.locator("#search-results li a[href*='glossary']").first.wait_for()
