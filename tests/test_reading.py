"""Readers whose browser is not like ours: on paper, enlarged fourfold, without storage."""

import pytest
from test_pages import PAGES

CUT = """() => [...document.querySelectorAll(".bd-content pre")].filter(code => code.clientWidth && code.scrollWidth > code.clientWidth + 1)
  .map(code => code.innerText.slice(0, 80))"""
FOLDED = """() => [...document.querySelectorAll(".bd-content .admonition.toggle-hidden > :not(.admonition-title, button), .bd-content details > :not(summary)")]
  .filter(part => part.innerText?.trim() && !part.checkVisibility({ contentVisibilityAuto: true, visibilityProperty: true }))
  .map(part => part.innerText.slice(0, 80))"""


@pytest.fixture(scope="module")
def page(browser):
    context = browser.new_context(viewport={"width": 320, "height": 640}, reduced_motion="reduce")
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_enlarged_and_on_paper(page, site, name):
    """At 320 pixels, as a window of 1,280 is at 400 %, nothing scrolls sideways but boxes of their own.

    On A4, no code is cut off at the right, and what is folded on the screen is open.
    """
    page.set_viewport_size({"width": 320, "height": 640})
    page.goto(f"{site.http}/{name}")
    page.evaluate("document.fonts.ready.then(() => true)")
    width, window = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width <= window
    page.set_viewport_size({"width": 700, "height": 1000})
    page.emulate_media(media="print")
    try:
        assert page.evaluate(CUT) == []
        assert page.evaluate(FOLDED) == []
    finally:
        page.emulate_media(media="screen")


def test_without_storage(browser, site):
    """Where storage is denied, pages say nothing on the console, and the theme's button still works."""
    context = browser.new_context(viewport={"width": 1280, "height": 844})
    context.add_init_script(
        """for (const name of ["localStorage", "sessionStorage"]) Object.defineProperty(Window.prototype, name,
        { configurable: true, get() { throw new DOMException("denied", "SecurityError") } });"""
    )
    page, troubles = context.new_page(), []
    page.on("console", lambda message: message.type == "error" and troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(f"{site.http}/book/02_attention.html")
    before = page.evaluate("document.documentElement.dataset.mode")
    page.locator("button.theme-switch-button:visible").click()
    assert page.evaluate("document.documentElement.dataset.mode") != before
    assert troubles == []
    context.close()
