"""The Chromium that the tests look through, and that prints the book."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The headless shell first: the same pages without the windows, for less processor time.
NAMES = "chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"
ADVICE = (
    "no Chromium found: install one (`apt install chromium`, or `.venv/bin/playwright install chromium`), "
    "or set VIT_EDU_BROWSER to the path of a Chrome or Chromium"
)
# Chromium's own background traffic is off; what a page asks for is still seen. There is room for what
# scripts soon forget: axe makes much of that.
OPTIONS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--js-flags=--min-semi-space-size=64",
)


def find_browser(own: str) -> str | None:
    """Path of a Chromium: VIT_EDU_BROWSER, else one on the PATH, else playwright's `own`; None if there is none."""
    candidates = [os.environ.get("VIT_EDU_BROWSER"), *map(shutil.which, NAMES), own]
    return next((path for path in candidates if path and Path(path).exists()), None)


@contextmanager
def chromium() -> Iterator:
    """A headless Chromium driven by playwright's synchronous interface; RuntimeError where there is none."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = find_browser(playwright.chromium.executable_path)
        if path is None:
            raise RuntimeError(ADVICE)
        running = playwright.chromium.launch(executable_path=path, args=list(OPTIONS))
        try:
            yield running
        finally:
            running.close()
