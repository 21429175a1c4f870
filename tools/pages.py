"""A Sphinx extension: what the pages need that Sphinx and its theme do not give.

The book's own drawings (book/assets/*.svg) are put inline, so that they follow the page's theme; in the text they
are ordinary Markdown images, and work as such on GitHub and in Jupyter.
"""

import functools
import gc
import re
from html import escape
from pathlib import Path

import pybtex.plugin
from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

logger = logging.getLogger(__name__)
READABLE = 0.65  # a drawing shrinks to this part of its size; on narrower pages it scrolls in a box of its own


def inlined(svg: str, alt: str) -> str:
    """The HTML that stands in the page for the drawing `svg`, described by `alt`."""
    width = float(re.search(r'viewBox="\S+ \S+ (\S+)', svg).group(1))
    drawing = svg[svg.index("<svg") :].replace(
        "<svg",
        f'<svg role="img" aria-label="{escape(alt)}" style="max-width: {width:g}px; min-width: {READABLE * width:g}px"',
        1,
    )
    scrolls = ' tabindex="0"' if READABLE * width > 340 else ""  # so that the keyboard can scroll it
    return f'<div class="drawing"{scrolls}>{drawing.strip()}</div>'


class InlineSvg(SphinxPostTransform):
    default_priority = 400
    formats = ("html",)

    def run(self, **kwargs):
        for image in list(self.document.findall(nodes.image)):
            uri, alt = image["uri"], image.get("alt", "").strip()
            path = Path(self.env.srcdir) / uri
            if not (uri.startswith("book/assets/") and path.suffix == ".svg" and path.exists()):
                continue  # Sphinx's own business, a missing file included
            if not alt:
                logger.warning("the drawing %s has no alternative text", uri, location=image)
            image.replace_self(nodes.raw("", inlined(path.read_text("utf-8"), alt), format="html"))


def mend_citations(app, page, template, context, doctree):
    """Docutils calls a bibliography a list of items that are none, which confuses screen readers."""
    context["body"] = context.get("body", "").replace(
        '<div role="list" class="citation-list">', '<div class="citation-list">'
    )


def add_scripts(app, page, template, context, doctree):
    """What one page alone needs."""
    if page == "book/questions":
        app.add_js_file("questions.js")  # one at a time, shuffled


def outdated_by_assets(app, env, added, changed, removed):
    """Every page, where a style sheet or script has changed since: a page names them with their sums."""
    written, assets = Path(app.outdir, ".buildinfo"), Path(app.srcdir, "book", "assets")
    if written.exists() and any(path.stat().st_mtime > written.stat().st_mtime for path in assets.rglob("*.*s")):
        return sorted(env.found_docs)
    return []


# Pages that have moved, and where: published addresses go on to work.
MOVED = {
    "08_data": "09_data",
    "09_cifar10": "11_cifar10",
    "10_imagenet": "14_imagenet",
    "11_attention_maps": "15_attention_maps",
    "12_inspection": "17_inspection",
    "13_predict": "18_predict",
}


def write_moved(app, exception):
    """At a page's old address, one that leads to the new one, its place in the page included."""
    if exception or app.builder.format != "html":
        return
    for old, new in MOVED.items():
        page = (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>This page has moved</title>\n'
            f'<meta name="robots" content="noindex"><link rel="canonical" href="{new}.html">\n'
            f'<script>location.replace("{new}.html" + location.search + location.hash)</script>\n'
            f'<noscript><meta http-equiv="refresh" content="0; url={new}.html"></noscript></head>\n'
            f'<body><p>This page is now <a href="{new}.html">{new}.html</a>.</p></body></html>\n'
        )
        (Path(app.outdir) / "book" / f"{old}.html").write_text(page, "utf-8")


# Where a reader's browser denies storage (blocked cookies, a sandboxed frame), the theme's scripts find a short memory.
MEMORY = """<script>for (const name of ["localStorage", "sessionStorage"]) try { window[name].length } catch {
  const kept = new Map(), value = { getItem: key => kept.get(key) ?? null, setItem: (key, text) => kept.set(key, String(text)),
    removeItem: key => kept.delete(key), clear: () => kept.clear(), key: () => null, length: 0 };
  Object.defineProperty(window, name, { value });
}</script>"""


# A megabyte and a half on every page, to draw a dozen icons that the theme's style sheet and font draw as well.
ICONS = re.compile(r'\s*<script [^>]*src="[^"]*/scripts/fontawesome\.js[^"]*"></script>')


def mend_heads(app, exception):
    """Put MEMORY before every other script of a page, and take ICONS out; the theme has no place for that."""
    if exception or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        text = ICONS.sub("", before := path.read_text("utf-8"))
        if MEMORY not in text:
            text = text.replace("<head>", f"<head>\n{MEMORY}", 1)
        if text != before:
            path.write_text(text, "utf-8")
    for path in Path(app.outdir, "_static", "scripts").glob("fontawesome.js*"):
        path.unlink()


def hasten(app):
    """The trees of a build stay to its end, and no collector need walk them; pybtex looks for the same plugins again."""
    gc.disable()
    app.connect("build-finished", lambda app, error: gc.enable())
    pybtex.plugin.entry_points = functools.cache(pybtex.plugin.entry_points)


def setup(app):
    hasten(app)
    app.add_post_transform(InlineSvg)
    app.connect("env-get-outdated", outdated_by_assets)
    app.connect("html-page-context", mend_citations)
    app.connect("html-page-context", add_scripts)
    app.connect("build-finished", write_moved)
    app.connect("build-finished", mend_heads)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
