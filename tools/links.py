"""The links that lead out of the book: their form, and with `--visit` whether somebody answers (a scheduled job does).

`python tools/links.py` prints what is out of order, each with its place.
"""

import re
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from chapters import ROOT

READ = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "book/*.md",
    "book/text/*.md",
    "book/references.bib",
    "vit_edu/*.py",
    "vit_edu/*/*.py",
)
LINK = re.compile(r"https?://[^\s<>\"'`{}|\\^]+")
FORMS = (  # (whose address, what it looks like)
    ("arxiv.org", re.compile(r"https://arxiv\.org/abs/(\d{4}\.\d{4,5}|[a-z-]+/\d{7})(v\d+)?")),
    ("doi.org", re.compile(r"https://doi\.org/10\.\d{4,9}/\S+")),
    ("github.com", re.compile(r"https://github\.com/[\w-]+(/[\w.-]+(/\S*)?)?")),
)
NO_LINKS = {"https://git-lfs", "http://www.w3.org/2000/svg"}  # names in code, which nobody follows
SHY = {401, 403, 405, 406, 418, 429, 503}  # answers of a server that is there and does not like programs


def links(root: Path = ROOT) -> dict[str, str]:
    """Every outside address that a reader meets, and the place where it stands first."""
    found = {}
    for pattern in READ:
        for path in sorted(root.glob(pattern)):
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                for address in LINK.findall(line):
                    while address[-1] in ".,;:!?" or (
                        address[-1] in ")]" and address.count("(") < address.count(")") + address.count("]")
                    ):
                        address = address[:-1]
                    if address not in NO_LINKS and "/OWNER/" not in address and "//OWNER." not in address:
                        found.setdefault(address, f"{path.relative_to(root)}:{number}")
    return found


def malformed(root: Path = ROOT) -> list[str]:
    """Addresses that cannot be right, seen without asking anybody."""
    problems = []
    for address, place in links(root).items():
        host = address.split("/")[2]
        form = next((form for name, form in FORMS if host == name), None)
        if not re.fullmatch(r"[\w-]+(\.[\w-]+)+(:\d+)?", host) and host != "localhost":
            problems.append(f"{place}: {address} names no host")
        elif address.startswith("http:") and not host.startswith(("127.", "localhost")):
            problems.append(f"{place}: {address} should begin with https")
        elif form and not form.fullmatch(address):
            problems.append(f"{place}: {address} is no address as {host} writes them")
    return problems


def entries(root: Path = ROOT) -> dict[str, dict[str, str]]:
    """The fields of each entry of references.bib, by its key."""
    text = (root / "book" / "references.bib").read_text("utf-8")
    return {
        entry.group(1): dict(re.findall(r"^\s*(\w+)\s*=\s*[{\"](.*?)[}\"],?$", entry.group(2), re.M))
        for entry in re.finditer(r"^@\w+\{([^,\s]+),(.*?)^\}", text, re.S | re.M)
    }


def untraceable(root: Path = ROOT) -> list[str]:
    """Citations that a reader cannot follow: without DOI, arXiv number or address; and DOIs that are none."""
    problems = []
    for key, fields in entries(root).items():
        if not {"doi", "eprint", "url"} & fields.keys():
            problems.append(f"references.bib: {key} has no doi, eprint or url")
        if "doi" in fields and not re.fullmatch(r"10\.\d{4,9}/\S+", fields["doi"]):
            problems.append(f"references.bib: the doi of {key}, {fields['doi']!r}, is none")
        if "eprint" in fields and not re.fullmatch(r"(\d{4}\.\d{4,5}|[a-z-]+/\d{7})(v\d+)?", fields["eprint"]):
            problems.append(f"references.bib: the eprint of {key}, {fields['eprint']!r}, is no arXiv number")
    return problems


def answer(address: str, tries: int = 2) -> str:
    """What is wrong with an address when it is asked for; nothing if it answers, or is only shy of programs."""
    for attempt in range(tries):
        request = urllib.request.Request(
            address.partition("#")[0], headers={"User-Agent": "Mozilla/5.0 (link check of a book)"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30):
                return ""
        except urllib.error.HTTPError as error:
            if error.code in SHY:
                return ""
            problem = f"answers {error.code}"
        except (OSError, ValueError) as error:
            problem = str(error)
    return problem


def visit(root: Path = ROOT) -> list[str]:
    """Addresses, those of DOIs included, that nobody answers at."""
    asked = links(root) | {
        f"https://doi.org/{fields['doi']}": f"references.bib: {key}"
        for key, fields in entries(root).items()
        if "doi" in fields
    }
    asked |= {
        f"https://arxiv.org/abs/{fields['eprint']}": f"references.bib: {key}"
        for key, fields in entries(root).items()
        if "eprint" in fields
    }
    outside = {
        address: place
        for address, place in asked.items()
        if not address.split("/")[2].startswith(("127.", "localhost"))
    }
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(answer, outside))
    return [
        f"{place}: {address} {problem}"
        for (address, place), problem in zip(outside.items(), answers, strict=True)
        if problem
    ]


if __name__ == "__main__":
    problems = malformed() + untraceable() + (visit() if "--visit" in sys.argv[1:] else [])
    print("\n".join(problems) or f"{len(links())} links out of the book, {len(entries())} citations: all in order")
    sys.exit(bool(problems))
