"""The book in one file: the PDF that `make pdf` prints, and the zip that `make offline` packs."""

import re
import subprocess
import sys
import zipfile

import offline
import pdf
import pytest
from browser import ADVICE
from chapters import ROOT
from pypdfium2 import PdfDocument, raw


@pytest.fixture(scope="module")
def book(site, tmp_path_factory):
    """The PDF of the built pages: the document, the words of each page, and the page of each place."""
    target = tmp_path_factory.mktemp("pdf") / "vit-edu.pdf"
    # In a process of its own, since playwright's interface does not nest in the one of the `browser` fixture.
    call = f"import pdf; from pathlib import Path; print(pdf.write(Path({str(site.folder)!r}), Path({str(target)!r})))"
    done = subprocess.run([sys.executable, "-c", call], cwd=ROOT / "tools", capture_output=True, text=True)
    if ADVICE in done.stderr:
        pytest.skip(ADVICE)
    assert done.returncode == 0, done.stderr
    document = PdfDocument(target)
    assert len(document) == int(done.stdout)
    return document, [" ".join(page.get_textpage().get_text_bounded().split()) for page in document], pdf.places_of(target)


def title(site, name: str) -> str:
    return pdf.title((site.folder / "book" / f"{name}.html").read_text("utf-8"))


def squeezed(text: str) -> str:
    """Without spaces, which a PDF's text has where lines break and letters are set apart."""
    return re.sub(r"\s", "", text)


def test_the_pdf_is_the_whole_book(book, site):
    """Each page of the book begins a page of the PDF, in the order of the contents, under its title."""
    _, pages, places = book
    begins = [places[name] for _, name in pdf.order()]
    assert begins == sorted(set(begins))
    for _, name in pdf.order():
        assert squeezed(title(site, name)) in squeezed(pages[places[name] - 1])[:200], name


def test_a_pdf_that_one_would_print(book):
    """As long as a book, A4, no empty page, a number at the foot of each page but the cover."""
    document, pages, _ = book
    assert 200 < len(pages) < 400
    assert {tuple(map(round, page.get_size())) for page in document} == {(595, 842)}
    pictures = [any(page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE])) for page in document]
    assert [number for number, text in enumerate(pages, 1) if len(text) < 40 and not pictures[number - 1]] == []
    assert [number for number, text in enumerate(pages, 1) if number > 1 and str(number) not in text.split()[:20]] == []


def test_the_contents_say_the_pages(book, site):
    """Every chapter's title stands in the contents with the page where it begins, and leads there."""
    document, pages, places = book
    contents = squeezed("".join(pages[1 : places["intro"] - 1]))
    for _, name in pdf.order():
        assert f"{squeezed(title(site, name))}{places[name]}" in contents, name
    leads = sum(raw.FPDFPage_GetAnnotCount(document[number]) for number in range(1, places["intro"] - 1))
    assert leads > len(pdf.order())
    assert len(list(document.get_toc())) >= len(pdf.order())


def test_solutions_stand_at_the_end_of_each_chapter(book, site):
    """Behind everything else of the chapter; where the exercise is, the page of its solution is named."""
    _, pages, places = book
    order = [name for _, name in pdf.order()]
    checked = 0
    for name, following in zip(order, [*order[1:], None], strict=True):
        html = (site.folder / "book" / f"{name}.html").read_text("utf-8")
        count = html.count('class="solution dropdown admonition"')
        if not count:
            continue
        end = places[following] if following else len(pages) + 1
        chapter = " ".join(pages[places[name] - 1 : end - 1])
        before, _, after = chapter.rpartition(" Solutions ")
        assert after.count("Solution to") >= count and "Solution to" not in before, name
        named = [int(page) for page in re.findall(r"Solution: page (\d+)", before)]
        assert len(named) == count and all(places[f"{name}--solutions"] <= page < end for page in named), name
        checked += 1
    assert checked > 15


def test_code_stays_on_its_page(book):
    """The class of chapter 02 fits a page, and stands on one; so does every line of it, up to 88 letters wide."""
    _, pages, places = book
    squeezed_pages = [squeezed(page) for page in pages[places["02_attention"] - 1 : places["03_mlp"] - 1]]
    module = (ROOT / "vit_edu" / "attention.py").read_text("utf-8")
    listing = module[module.index("class Attention(") :].split("\n\n\n")[0]
    lines = [squeezed(line) for line in listing.splitlines() if line.strip()]
    assert len(lines) > 20
    assert any(all(line in page for line in lines) for page in squeezed_pages)


def test_nothing_in_the_pdf_waits_for_a_finger(book, site):
    """Interactive pictures are there as their first frame; no button, no empty frame, no script's data is."""
    _, pages, _ = book
    merged = pdf.merged(site.folder)
    assert merged.count("vit-first-frame") >= 6 and "<script" not in merged and "<canvas" not in merged
    assert not any("Click to show" in page or "Copy to clipboard" in page or '{"name":' in page for page in pages)


def test_the_zip_opens_from_disk(browser, site, tmp_path):
    """Unpacked, its pages are all there; the first opens by itself, leads on, and asks nothing of anybody."""
    target = tmp_path / "pages.zip"
    count = offline.write(site.folder, target)
    with zipfile.ZipFile(target) as pack:
        assert pack.testzip() is None and len(pack.namelist()) == count
        assert {name.partition("/")[0] for name in pack.namelist()} == {"vit-edu"}
        pack.extractall(tmp_path)
    page, troubles = browser.new_page(), []
    page.on("requestfailed", lambda request: troubles.append(f"failed: {request.url}"))
    page.on(
        "request", lambda request: request.url.startswith(("file:", "data:", "blob:")) or troubles.append(request.url)
    )
    page.on("console", lambda message: message.type == "error" and troubles.append(message.text))
    page.goto((tmp_path / "vit-edu" / "index.html").as_uri())
    page.wait_for_url("**/book/intro.html")
    page.locator("a.right-next").click()
    page.wait_for_url("**/book/01_patches.html")
    assert page.evaluate("document.fonts.ready.then(() => document.fonts.check('1em STIX2'))")
    assert page.evaluate("[...document.images].every(image => image.loading === 'lazy' || image.naturalWidth > 0)")
    assert troubles == []
    page.close()


def test_the_same_pages_make_the_same_zip(tmp_path):
    (tmp_path / "site" / "book").mkdir(parents=True)
    (tmp_path / "site" / "book" / "a.html").write_text("a")
    (tmp_path / "site" / ".buildinfo").write_text("not for readers")
    for name in "one", "two":
        assert offline.write(tmp_path / "site", tmp_path / f"{name}.zip") == 1
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_sizes_are_stated_once(tmp_path):
    """Behind the introduction's link to a file stands how large the last one made was."""
    page = tmp_path / "book" / "intro.html"
    page.parent.mkdir()
    page.write_text(
        '<p>As <a class="x" href="https://a.example/releases/latest/download/vit-edu.pdf">a PDF</a>.</p>', "utf-8"
    )
    assert offline.state(tmp_path, "vit-edu.pdf", "9 pages, 1 MB") and offline.state(
        tmp_path, "vit-edu.pdf", "8 pages, 2 MB"
    )
    assert page.read_text("utf-8").endswith('vit-edu.pdf">a PDF</a><span class="size"> (8 pages, 2 MB)</span>.</p>')
    assert not offline.state(tmp_path, "other.zip", "3 MB")
