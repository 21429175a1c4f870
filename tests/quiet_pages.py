"""HTML opened in a browser as a page, which must stay silent and ask for nothing beyond its folder."""

import functools
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HEAD = (
    '<!doctype html><html lang="en"{}><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>A page</title><style>@media (prefers-color-scheme: dark) {{ body {{ background: #111; color: #eee }} }}</style>"
)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def quiet_pages(windows, folder: Path, width: int = 900) -> Iterator[Callable]:
    """`open_page(*html)` opens HTML from the disk, or with base="http" from a server; at the end, no page made noise."""
    opened, usual = [], width
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()    # looks so often whether to end
    bases = {"file": folder.as_uri(), "http": f"http://127.0.0.1:{server.server_port}"}
    with windows.borrowed() as window:

        def open_page(*html: str, width: int = usual, base: str = "file", page_attributes: str = "", **options):
            page, heard = window(viewport={"width": width, "height": 900}, **options)
            opened.append(heard)
            path = folder / f"page{len(opened)}.html"
            path.write_text(HEAD.format(page_attributes) + '<link rel="icon" href="data:,">' + "".join(html), encoding="utf-8")
            page.goto(f"{bases[base]}/{path.name}")
            return page

        yield open_page
        own = (*bases.values(), "data:", "blob:")
        noise = [one for heard in opened for one in heard if one[0] != "request" or not one[1].startswith(own)]
    server.shutdown()
    assert noise == []


def soon(page, read: Callable, seconds: float = 10):
    """Wait until `read()` is true: a browser turns a tap into a click when it finds the time."""
    end = time.monotonic() + seconds
    while not (value := read()):
        assert time.monotonic() < end, f"still {value!r} after {seconds} seconds"
        page.wait_for_timeout(20)
