"""The spelling of what people read: the words that neither the dictionary nor the book's own list (words.txt) knows.

`python tools/words.py` prints them, each with the place where it stands first. A word that is right and new goes
into words.txt; what is code stands in backticks.
"""

import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from chapters import ROOT
from spellchecker import SpellChecker

OWN = Path(__file__).with_name("words.txt")
READ = "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "book/*.md"
# What stands in prose and is none: code, formulas, addresses, roles with a target, names of fields and HTML.
NO_PROSE = re.compile(
    r"```(?:\{(?:code-cell|code-block|math|bibliography)\b|\w*\n).*?```|```(?:\{[\w-]+\})?"
    r"|\$\$.*?\$\$(?: *\([\w-]+\))?|\$[^$\n]+\$|`+[^`]+`+|https?://[^\s)>]+|\]\([^)]*\)|<[^>]+>|\{[^}]*\}|\([\w-]+\)="
    r"|^:[\w-]+:[^\n]*|:{3,}\{(?:solution-start|figure|figure-md|include)\}[^\n]*|:{3,}(?:\{[\w-]+\})?|\A---$.*?^---$"
    r"|\b\w+_\w+\b|\b[\w/-]+\.(?:py|md|js|svg|html|ipynb)\b|@\w+",
    re.DOTALL | re.MULTILINE,
)
WORD = re.compile(r"[A-Za-zÀ-ž]+(?:['’][a-z]+)?")


def prose(root: Path = ROOT) -> Iterator[tuple[Path, int, str]]:
    """Every word of prose: (file, line, word)."""
    files = [path for pattern in READ for path in sorted(root.glob(pattern))] + sorted(
        (root / "book" / "text").glob("*.md")
    )
    for path in files:
        text = path.read_text("utf-8")
        text = NO_PROSE.sub(lambda match: "\n" * match.group().count("\n") or " ", text)
        for number, line in enumerate(text.splitlines(), 1):
            for word in WORD.findall(line):
                yield path, number, word


@cache
def known() -> tuple[SpellChecker, frozenset[str]]:
    own = {line.strip() for line in OWN.read_text("utf-8").splitlines()} - {""}
    return SpellChecker(distance=1), frozenset(own)


def is_known(word: str) -> bool:
    """Whether the dictionary or the book's own list has the word; a capital in the list is wanted in the text, too."""
    dictionary, own = known()
    word = word.replace("’", "'").removesuffix("'s").removesuffix("s'")
    if len(word) < 3 or word.isupper() or word in own or word.lower() in own:
        return True
    return bool(dictionary.known([word.lower()]))


def unknown(root: Path = ROOT) -> dict[str, str]:
    """Each unknown word, and where it stands first."""
    found = {}
    for path, number, word in prose(root):
        if not is_known(word):
            found.setdefault(word, f"{path.relative_to(root)}:{number}")
    return found


if __name__ == "__main__":
    for word, place in sorted(unknown().items(), key=lambda item: item[0].lower()):
        print(f"{word:24} {place}")
    sys.exit(bool(unknown()))
