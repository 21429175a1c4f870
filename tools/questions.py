"""Gather the chapters' recall questions: `python tools/questions.py [--check]` writes book/questions.md.

A chapter asks five to eight short questions in a section of its own, before its summary. Each is a fold whose title
is the question and whose body is the answer, one or two sentences; in a notebook it reads well as it stands:

    ## Questions to come back to

    :::{dropdown} Over which axis is the softmax?
    :class-container: question
    Over the keys: each query's weights sum to 1.
    :::

The class `question` is what the page's script (book/assets/questions.js: one at a time, shuffled) and this tool know
them by. The page is a plain list in reading order, a heading for each chapter, made from the texts alone and never
edited by hand.
"""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from chapters import ROOT, read, title, twins

HEADING = "## Questions to come back to"
FOLD = re.compile(
    r"^:::\{dropdown\} (?P<question>[^\n]+)\n:class-container: question\n(?P<answer>.+?)\n:::$", re.M | re.S
)
HEAD = """# Questions to come back to

<!-- Written by tools/questions.py from the chapters: edit them, then `make sync`. -->

All the chapters' questions on one page. Answer each in your own words before you unfold the answer; come back to
those that you had to unfold.
"""


@dataclass(frozen=True)
class Question:
    """A question and its answer, both in MyST."""

    question: str
    answer: str


def questions(twin: Path) -> list[Question]:
    """A chapter's questions, in their order."""
    prose = "\n\n".join(cell.source for cell in read(twin).cells if cell.cell_type == "markdown")
    return [Question(found["question"].strip(), found["answer"].strip()) for found in FOLD.finditer(prose)]


def fold(question: Question) -> str:
    return f":::{{dropdown}} {question.question}\n:class-container: question\n{question.answer}\n:::\n"


def page(root: Path = ROOT) -> str:
    """The page that holds all questions."""
    parts = [HEAD]
    for twin in twins(root):
        if asked := questions(twin):
            parts.append(f"## {{doc}}`{title(read(twin))} <{twin.stem}>`\n")
            parts += map(fold, asked)
    return "\n".join(parts)


def write(root: Path = ROOT, check: bool = False) -> list[Path]:
    """Write book/questions.md, if it differs (or with `check` only tell)."""
    path, new = root / "book" / "questions.md", page(root)
    if new == "\n".join([HEAD]) or (path.exists() and path.read_text("utf-8") == new):
        return []
    if not check:
        path.write_text(new, "utf-8")
    return [path]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is out of step")
    options = parser.parse_args()
    different = write(ROOT, options.check)
    for path in different:
        print(f"{path.relative_to(ROOT)}: {'out of step: run `make sync`' if options.check else 'written'}")
    return 1 if different and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
