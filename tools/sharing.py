"""A Sphinx extension: what a page says of itself where its address is shared, a description and a picture.

The description is the page's own first sentences. The picture is made at build time from the page's title and its first
figure (chapter 02's where it has none), and lies with the pages in _static/sharing.
"""

import re
import textwrap
import tomllib
from functools import cache
from html import escape, unescape
from pathlib import Path

from docutils import nodes
from PIL import Image, ImageDraw, ImageFont

SIZE = 1200, 630  # what sites that show such pictures ask for
LENGTH = 200  # letters of a description
FACE = "book/02_attention"  # whose first figure stands for pages without one


def description(doctree: nodes.document) -> str:
    """The first sentences of a page: what stands before its first heading below the title, the costs left out."""
    text = ""
    for paragraph in doctree.findall(nodes.paragraph):
        if not isinstance(paragraph.parent, nodes.section | nodes.document):
            continue  # lists, exercises and captions say little alone
        words = " ".join(paragraph.astext().split())
        if words.startswith("Cost:") or len(words) < 30:
            continue
        text = f"{text} {words}".strip()
        if len(text) >= LENGTH / 2:
            break
    if len(text) <= LENGTH:
        return text
    sentences = re.match(rf"(.{{60,{LENGTH - 1}}}[.!?])\s", text)
    return sentences.group(1) if sentences else textwrap.shorten(text, LENGTH, placeholder=" …")


def figure(srcdir: Path, doctree: nodes.document) -> Path | None:
    """The first picture of a page that a cell drew, what a solution gives away left out."""
    for image in doctree.findall(nodes.image):
        path, above = srcdir / image["uri"], image.parent
        while above and "solution" not in above.get("classes", []):
            above = above.parent
        if above is None and path.suffix == ".png" and path.exists() and Image.open(path).width >= 250:
            return path
    return None


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    from matplotlib import get_data_path  # brings a font along, the same everywhere

    return ImageFont.truetype(
        Path(get_data_path()) / "fonts" / "ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size
    )


def card(title: str, book: str, drawing: Path | None) -> Image.Image:
    """The picture for sharing: the title at the left, the figure at the right, the book's name below."""
    picture = Image.new("RGB", SIZE, "white")
    pen = ImageDraw.Draw(picture)
    width = 560 if drawing else SIZE[0] - 120
    pen.rectangle((0, 0, 16, SIZE[1]), fill="#0f5f9e")
    for size in (60, 52, 44, 36):  # the largest that lets the title stand in five lines
        lines = wrapped(title, font(size, bold=True), width)
        if len(lines) <= 5 and all(pen.textlength(line, font(size, bold=True)) <= width for line in lines):
            break
    pen.multiline_text((60, 70), "\n".join(lines), "#1f2328", font(size, bold=True), spacing=size * 0.25)
    if title != book:
        pen.text((60, SIZE[1] - 80), book, "#57606a", font(28))
    if drawing:
        shown = Image.open(drawing).convert("RGBA")
        scale = min(520 / shown.width, 510 / shown.height)
        shown = shown.resize((round(shown.width * scale), round(shown.height * scale)), Image.Resampling.LANCZOS)
        place = 640 + (520 - shown.width) // 2, 40 + (510 - shown.height) // 2
        picture.paste(shown, place, shown)
    return picture.quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def wrapped(text: str, face: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and face.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def describe(app, page, template, context, doctree):
    """Put the description and the picture of a page into its head."""
    if doctree is None or app.builder.format != "html":
        return
    book = app.config.html_title or app.config.project
    title = unescape(re.sub(r"<[^>]+>", "", context.get("title", ""))) or book
    address = tomllib.loads((Path(app.srcdir) / "pyproject.toml").read_text("utf-8"))["project"]["urls"][
        "Documentation"
    ]
    written = app.env.get_doctree(page)  # the writer has given the pictures of `doctree` other addresses
    drawing = figure(Path(app.srcdir), written) or figure(Path(app.srcdir), app.env.get_doctree(FACE))
    name = Path(page).name
    folder = Path(app.outdir) / "_static" / "sharing"
    folder.mkdir(parents=True, exist_ok=True)
    card(title, book, drawing).save(folder / f"{name}.png", optimize=True)
    said = {
        "og:type": "article", "og:site_name": book, "og:title": title, "og:description": description(written),
        "og:url": f"{address}/{page}.html", "og:image": f"{address}/_static/sharing/{name}.png",
        "og:image:width": SIZE[0], "og:image:height": SIZE[1], "og:image:alt": f"{title}: the page's first figure",
    }  # fmt: skip
    tags = [f'<meta name="description" content="{escape(said["og:description"])}">']
    tags += [f'<meta property="{key}" content="{escape(str(value))}">' for key, value in said.items()]
    tags += ['<meta name="twitter:card" content="summary_large_image">']
    context["metatags"] = context.get("metatags", "") + "\n".join(["", *tags, ""])


def setup(app):
    app.connect("html-page-context", describe)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
