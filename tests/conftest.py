"""Fixtures for tests in a real browser: `browser` (Chromium) and `site` (the built book, over http and file://)."""

import functools
import http.server
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser import ADVICE, OPTIONS, find_browser
from filelock import FileLock
from kernels import forked
from pages import MOVED
from windows import Windows

ROOT = Path(__file__).resolve().parents[1]

@pytest.fixture(scope="module")
def browser():
    """A headless Chromium driven by playwright's synchronous interface, one for each test file."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        path = find_browser(playwright.chromium.executable_path)
        if path is None:
            (pytest.fail if os.environ.get("VIT_EDU_BROWSER_REQUIRED") else pytest.skip)(ADVICE)
        running = playwright.chromium.launch(executable_path=path, args=list(OPTIONS))
        yield running
        running.close()


@pytest.fixture(scope="module")
def windows(browser):
    """Windows to borrow."""
    return Windows(browser)


@pytest.fixture
def quick_kernels():
    """Kernels that are started meanwhile have imported torch already."""
    with forked():
        yield


@dataclass(frozen=True)
class Site:
    """The built book: its folder, and the address at which it is served on loopback."""

    folder: Path
    http: str

    @property
    def file(self) -> str:
        return self.folder.as_uri()

    @property
    def pages(self) -> list[str]:
        """Every page of the book, as a path inside the folder."""
        pages = (self.folder / "book").glob("*.html")
        return sorted(str(p.relative_to(self.folder)) for p in pages if p.stem not in MOVED)


def build_book() -> None:
    """Build _build/html, warnings as errors, exactly as `make book` does."""
    command = [Path(sys.executable).with_name("jupyter-book"), "build", ".", "-W", "-n", "--keep-going"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"the book does not build:\n{done.stdout[-3000:]}\n{done.stderr[-5000:]}"


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The book, built once for each test run (also when several processes share the run) and served."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = tmp_path_factory.getbasetemp().parent
        with FileLock(shared / "book.lock"):
            if not (shared / "book.built").exists():
                build_book()
                (shared / "book.built").touch()
    else:
        build_book()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    folder = ROOT / "_build" / "html"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Site(folder, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
