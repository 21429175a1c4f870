"""The whole book as one PDF that one would print: `make pdf`.

The articles of the built pages are put one after the other, with print's own style sheet (pdf.css), and Chromium makes
pages of them. Chromium knows no page numbers of what lies elsewhere: the contents, and the notes that say where a
solution stands, are filled in from a first printing, and the second shows them.
"""

import ctypes
import re
import sys
from html import escape, unescape
from pathlib import Path

import yaml
from pypdfium2 import PdfDocument, raw

from browser import chromium
from chapters import ROOT
from offline import PDF, state_pdf

STYLES = "pygments.css", "sphinx-design.min.css", "vendor/formulas.css", "book.css"

# Runs in the merged page: what paper wants otherwise than a screen. Returns the contents: level, place, words.
ARRANGE = """() => {
  const make = (tag, className, text) => Object.assign(document.createElement(tag), { className, textContent: text });
  const note = (words, place) => {
    const line = make("p", "where", words + " "), number = make("span", "number", "000");
    number.dataset.of = place;
    const link = document.createElement("a");
    link.href = "#" + place;
    link.append("page ", number);
    line.append(link);
    return line;
  };
  const GONE = ".predict, .headerlink, button, details.above-input, .tag_remove-cell";
  for (const gone of document.querySelectorAll(GONE)) gone.remove();
  for (const fold of document.querySelectorAll("details")) fold.open = true;
  for (const chapter of document.querySelectorAll("article.chapter")) {
    const solutions = [...chapter.querySelectorAll(".solution")];
    if (!solutions.length) continue;
    const end = make("section", "solutions", ""), heading = make("h2", "", "Solutions");
    heading.id = chapter.id + "--solutions";
    end.append(heading);
    solutions.forEach((solution, i) => {
      solution.id ||= `${chapter.id}--solution-${i}`;
      solution.before(note("Solution:", solution.id));
      end.append(solution);
    });
    chapter.append(end);
  }
  const contents = document.querySelector("#contents"), places = [];
  const HEADINGS = ".part-title, .chapter h1, .chapter > section > section > h2, .solutions > h2";
  for (const heading of document.querySelectorAll(HEADINGS)) {
    if (heading.parentElement.id.endsWith("--summary")) continue;  // every chapter has one
    const level = heading.matches(".part-title") ? 0 : heading.tagName === "H1" ? 1 : 2;
    const place = level === 1 ? heading.closest("article").id : heading.id || heading.closest("[id]").id;
    const entry = make("p", `entry level-${level}`, ""), link = document.createElement("a");
    const number = make("span", "number", "000");
    number.dataset.of = place;
    link.href = "#" + place;
    link.append(make("span", "words", heading.innerText), make("span", "dots", ""), number);
    entry.append(link);
    contents.append(entry);
    places.push([level, place, heading.innerText]);
  }
  return places;
}"""
LOADED = "Promise.all([document.fonts.ready, ...[...document.images].map(image => image.decode())]).then(() => 1)"
FILL = """pages => {
  for (const number of document.querySelectorAll(".number")) number.textContent = pages[number.dataset.of] ?? "?";
}"""


def order(root: Path = ROOT) -> list[tuple[str, str]]:
    """The book's pages in reading order: (the part that begins with it or "", the page's name)."""
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf-8"))
    pages = [("", Path(toc["root"]).name)]
    for part in toc["parts"]:
        for i, chapter in enumerate(part["chapters"]):
            pages.append((part["caption"] if i == 0 else "", Path(chapter["file"]).name))
    return pages


def article(html: str, name: str, known: set[str], part: str = "") -> str:
    """A page's article without scripts, its places named for the whole book: `#x` of page 02 becomes `#02--x`.

    Where a part of the book begins with it, the part's title stands above.
    """

    def link(match: re.Match) -> str:
        page, _, place = match.group(1).partition("#")
        page = page.removesuffix(".html") or name
        if page.startswith("../") or "/" in page or page not in known:
            return match.group()
        return f'href="#{page}--{place}"' if place else f'href="#{page}"'

    text = re.search(r'<article class="bd-article">(.*?)</article>', html, re.S).group(1)
    text = re.sub(r"<script\b.*?</script>|<style>\s*\.vit-.*?</style>", "", text, flags=re.S)
    parts = re.split(r"(<svg\b.*?</svg>)", text, flags=re.S)  # a drawing's places are its own
    for i in range(0, len(parts), 2):
        piece = re.sub(r'(<(?!a\b)[^>]*?) href="[^"]*"', r"\1", parts[i])
        piece = re.sub(r'\bid="([^"]*)"', rf'id="{name}--\1"', piece)
        piece = re.sub(r'\bhref="(?!\w+:)([^"]*)"', link, piece)
        parts[i] = re.sub(r'\bsrc="\.\./', 'src="../html/', piece)
    above = f'<p class="part-title" id="{name}--part">{escape(part)}</p>' if part else ""
    return f'<article class="chapter" id="{name}">{above}{"".join(parts)}</article>'


def title(html: str) -> str:
    """The title of a page as its article gives it, number included."""
    heading = re.search(r'<article class="bd-article">.*?<h1>(.*?)<a class="headerlink', html, re.S).group(1)
    return " ".join(unescape(re.sub(r"<[^>]+>", "", heading)).split())


def merged(site: Path, root: Path = ROOT) -> str:
    """One page of the whole book; each chapter carries its title in the page's head, by a named page of its own."""
    config = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    pages = order(root)
    known = {name for _, name in pages}
    heads, body = [], []
    for part, name in pages:
        html = (site / "book" / f"{name}.html").read_text("utf-8")
        sheet = f"p{name.replace('_', '-')}"
        words = title(html).replace("\\", "").replace('"', "'").replace("<", "")
        heads.append(f'@page {sheet} {{ @top-left {{ content: "{words}"; }} }} [id="{name}"] {{ page: {sheet}; }}')
        body.append(article(html, name, known, part))
    drawing = (root / "book" / "assets" / "vision_transformer.svg").read_text("utf-8")
    drawing = drawing[drawing.index("<svg") :]
    links = "".join(f'<link rel="stylesheet" href="../html/_static/{style}">' for style in STYLES)
    address = config["repository"]["url"]
    return f"""<!DOCTYPE html>
<html lang="en" data-theme="light"><head><meta charset="utf-8"><title>{escape(config["title"])}</title>
{links}<link rel="stylesheet" href="{(root / "tools" / "pdf.css").as_uri()}">
<style>{"".join(heads)}</style></head><body class="bd-content">
<div id="cover"><p class="title">{escape(config["title"])}</p><p>{escape(config["author"])}</p>{drawing}
<p>The pages of this book answer when they are touched: its pictures move, and its code runs. On paper, pictures stand
as they first appear, solutions stand at the end of each chapter, and code that only draws a figure is left out.</p>
<p>{escape(address)}</p></div>
<div id="contents"><p class="title">Contents</p></div>
{"".join(body)}</body></html>"""


def write(site: Path, target: Path, root: Path = ROOT) -> int:
    """Print the built pages under `site` to `target`; the number of pages."""
    folder = site.parent / "pdf"
    folder.mkdir(exist_ok=True)
    page_of_all = folder / "book.html"
    page_of_all.write_text(merged(site, root), "utf-8")
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(0)
        page.emulate_media(media="print", color_scheme="light")
        page.goto(page_of_all.as_uri())
        page.evaluate(ARRANGE)
        page.evaluate(LOADED)
        wanted = set(page.evaluate("[...document.querySelectorAll('.number')].map(number => number.dataset.of)"))
        found = {}
        for _ in range(3):  # the second printing shows the first one's numbers; a third if they moved anything
            last = bool(found)  # a PDF with an outline and tags takes twice as long
            page.pdf(path=target, prefer_css_page_size=True, print_background=True, outline=last, tagged=last)
            places = places_of(target)
            if missing := wanted - places.keys():
                raise RuntimeError(f"not found in the PDF: {', '.join(sorted(missing)[:5])}")
            if places == found:
                break
            found = places
            page.evaluate(FILL, found)
        else:
            raise RuntimeError("the page numbers of the contents do not settle")
    return len(PdfDocument(target))


def places_of(pdf: Path) -> dict[str, int]:
    """Every place that a link of the PDF leads to, and its page, counted from 1."""
    document, places = PdfDocument(pdf), {}
    for number in range(raw.FPDF_CountNamedDests(document)):
        size = ctypes.c_long()
        raw.FPDF_GetNamedDest(document, number, None, size)  # says how long the name is
        name = ctypes.create_string_buffer(size.value)
        place = raw.FPDF_GetNamedDest(document, number, name, size)
        words = name.raw.decode("utf-16-le").rstrip("\0").lstrip("/")
        places[words] = raw.FPDFDest_GetDestPageIndex(document, place) + 1
    return places


if __name__ == "__main__":
    site = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "_build" / "html"
    target = site.parent / PDF
    try:
        write(site, target)
    except RuntimeError as error:
        sys.exit(str(error))
    print(f"{target}: {state_pdf(site)}")
