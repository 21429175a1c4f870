"""Windows that a test borrows and gives back empty: a new one costs Chromium a process."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Windows:
    """Those of one browser that nobody uses, by their options."""

    def __init__(self, browser) -> None:
        self.browser, self.free = browser, defaultdict(list)

    def new(self, options: dict) -> tuple:
        page, heard = self.browser.new_context(**options).new_page(), []
        page.on("console", lambda message: heard.append((message.type, message.text)))
        page.on("pageerror", lambda error: heard.append(("error", str(error))))
        page.on("request", lambda request: heard.append(("request", request.url)))    # not page.route: it is slower
        return page, heard

    @contextmanager
    def borrowed(self) -> Iterator[Callable]:
        """`window(**options)` is an empty page with playwright's options, and all that it will say, miss and ask for.

        That is a growing list: ("request", address), ("error", words), or another type of console message.
        """
        taken = []

        def window(**options):
            free = self.free[repr(sorted(options.items()))]
            page, heard = free.pop() if free else self.new(options)
            taken.append((free, page, heard))
            heard.clear()
            return page, heard

        try:
            yield window
        finally:
            for free, page, heard in taken:
                page.emulate_media(media="null")
                page.goto("about:blank")
                free.append((page, heard))
