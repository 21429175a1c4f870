"""The built pages as one zip that opens from disk: `make offline`. And what the introduction says of such files."""

import re
import sys
import zipfile
from pathlib import Path

from pypdfium2 import PdfDocument

from chapters import ROOT

OUT, PDF = "vit-edu-pages.zip", "vit-edu.pdf"
LEFT_OUT = {".buildinfo", ".nojekyll", "objects.inv"}  # of use to Sphinx and to GitHub Pages alone
DATE = (2026, 1, 1, 0, 0, 0)  # of every file: the same pages make the same zip


def write(site: Path, target: Path) -> int:
    """Put the pages under `site` into the zip `target`, in one folder; how many files they are."""
    files = sorted(path for path in site.rglob("*") if path.is_file() and path.name not in LEFT_OUT)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as pack:
        for path in files:
            entry = zipfile.ZipInfo(f"vit-edu/{path.relative_to(site).as_posix()}", DATE)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            pack.writestr(entry, path.read_bytes())
    return len(files)


def state(site: Path, name: str, words: str) -> bool:
    """Say in the introduction, behind its link to the file `name`, what `words` say; whether there is such a link."""
    page = site / "book" / "intro.html"
    text = page.read_text("utf-8")
    link = rf'(<a [^>]*href="[^"]*/{re.escape(name)}"[^>]*>.*?</a>)(?:<span class="size">[^<]*</span>)?'
    stated, count = re.subn(link, rf'\1<span class="size"> ({words})</span>', text, flags=re.S)
    page.write_text(stated, "utf-8")
    return count > 0


def megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.0f} MB"


def state_pdf(site: Path) -> str:
    """What there is to say of the PDF beside the pages, if it was made; also said in the introduction."""
    target = site.parent / PDF
    if not target.exists():
        return ""
    words = f"{len(PdfDocument(target))} pages, {megabytes(target)}"
    state(site, PDF, words)
    return words


if __name__ == "__main__":
    site = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "_build" / "html"
    target = site.parent / OUT
    state_pdf(site)
    count = write(site, target)
    state(site, OUT, megabytes(target))
    print(f"{target}: {count} files, {megabytes(target)}; unpack it and open vit-edu/index.html")
