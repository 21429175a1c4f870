"""A learner's copy of each chapter: `python tools/learner.py [--to FOLDER] [--execute] [CHAPTER ...]`.

The chapter's notebook with its stubs and checks, without solutions and without outputs, made from book/text like the
chapter itself. `make learner` writes them, and a zip of all, into _build/learner; the pages offer the same files
(this file is also the Sphinx extension that puts them there). Hints and questions are plain folds, drawings are
inside the notebook, so that one file is enough.

**Does it run from the first cell to the last?** What is proved, and how:

- Up to the first solution a copy's code is the chapter's, cell by cell (a test compares them), and the chapter is
  executed by every `pytest --nbval`. So far the copy does what the chapter does.
- After that it has only what stands outside the solutions: nearly always a stub and its check. No name there may be
  one that only a solution defines: `problems` says so, and nothing is written. This is a reading of the code; it
  cannot see what a solution does to an object that the chapter made.
- Those cells are executed by tests/test_learner.py, each chapter's in order, with the earlier cells that define the
  names that they need, and with those that these need. What an earlier cell does without defining a name is missing.
- The quickest chapter's copy is executed whole. `--execute` does this for all, in as many minutes as the book takes.
"""

import argparse
import base64
import builtins
import re
import symtable
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from chapters import ROOT, ChapterError, code_cells, read, title, twins

ZIP = "vit-edu-learner.zip"
SOLUTION = re.compile(r"^:::\{solution-start\}.*?^:::\{solution-end\}\n:::\n?", re.M | re.S)
START = re.compile(r"^:::\{exercise-start\} *([^\n]*)\n(?::[\w-]+:[^\n]*\n)*:::$", re.M)
END = re.compile(r"^:::\{exercise-end\}\n:::\n?", re.M)
FOLD = re.compile(r"^:::\{dropdown\} *([^\n]+)\n(?::[\w-]+:[^\n]*\n)*(.*?)\n:::$", re.M | re.S)
DRAWING = re.compile(r"(!\[[^\]]*\]\()assets/([\w-]+\.svg)\)")


def outside(notebook: NotebookNode) -> list[tuple[int, NotebookNode]]:
    """The cells, with their numbers in the chapter, that are left without solutions; the chapter is not changed."""
    left, inside = [], False
    for number, cell in enumerate(notebook.cells, 1):
        cell = cell.copy()
        if cell.cell_type == "code":
            if not inside:
                left.append((number, cell))
            continue
        starts, text = inside, cell.source
        if starts:
            text = ":::{solution-start}\n" + text
        inside = text.count(":::{solution-start}") > text.count(":::{solution-end}")
        if inside:
            text += "\n:::{solution-end}\n:::\n"
        cell.source = SOLUTION.sub("", text).strip("\n")
        if cell.source.strip():
            left.append((number, cell))
    return left


def names(source: str) -> tuple[set[str], set[str]]:
    """Of a cell: the names that it defines for those that follow, and those that it uses, in functions, too."""
    lines = (re.sub(r"^(\s*)[%!?].*", r"\1pass", line) for line in source.split("\n"))  # IPython's own lines
    top = symtable.symtable("\n".join(lines), "cell", "exec")
    defines = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    uses = {s.get_name() for s in top.get_symbols() if s.is_referenced()}
    tables = list(top.get_children())
    while tables:
        table = tables.pop()
        tables += table.get_children()
        uses |= {s.get_name() for s in table.get_symbols() if s.is_global() and s.is_referenced()}
        defines |= {s.get_name() for s in table.get_symbols() if s.is_declared_global() and s.is_assigned()}
    return defines, uses


def problems(notebook: NotebookNode, name: str) -> list[str]:
    """The names that cells of the learner's copy use and only a solution defines."""
    kept = {number for number, cell in outside(notebook) if cell.cell_type == "code"}
    found, here, solutions = [], set(dir(builtins)) | {"__name__", "get_ipython", "display"}, {}
    for number, cell in code_cells(notebook):
        defines, uses = names(cell.source)
        if number not in kept:
            solutions |= {defined: number for defined in defines}
            continue
        here |= defines
        found += [
            f"{name}, cell {number} uses {used}, which only the solution in cell {solutions[used]} defines"
            for used in sorted(uses - here)
            if used in solutions
        ]
    return found


def needed(notebook: NotebookNode) -> tuple[list[str], list[str]]:
    """The code after the first solution, and before it the earlier code that defines what it needs, in order."""
    cells = {number: cell.source for number, cell in outside(notebook) if cell.cell_type == "code"}
    first = min((number for number, _ in code_cells(notebook) if number not in cells), default=len(notebook.cells) + 1)
    before, after = {n: s for n, s in cells.items() if n < first}, {n: s for n, s in cells.items() if n > first}
    taken, wanted, here = set(), [], set()
    for source in after.values():
        defines, uses = names(source)
        wanted += uses - here - defines
        here |= defines
    while wanted:
        name = wanted.pop()
        for number in [n for n, source in before.items() if n not in taken and name in names(source)[0]]:
            taken.add(number)
            wanted += names(before[number])[1]
    return [before[n] for n in sorted(taken)], list(after.values())


def plain(text: str, chapter: str, numbers) -> str:
    """A cell's Markdown where nobody reads directives: exercises have headings, folds are HTML's."""

    def heading(found: re.Match) -> str:
        return f"### Exercise {chapter}{next(numbers)}: {found[1]}"

    text = FOLD.sub(r"<details><summary>\1</summary>\n\n\2\n\n</details>", text)
    return END.sub("", START.sub(heading, text)).strip("\n")


def with_drawings(cell: NotebookNode, assets: Path) -> None:
    """Put a cell's drawings into it."""
    used = set(name for _, name in DRAWING.findall(cell.source))
    if used:
        cell.source = DRAWING.sub(r"\1attachment:\2)", cell.source)
        content = {name: base64.b64encode((assets / name).read_bytes()).decode() for name in used}
        cell.attachments = {name: {"image/svg+xml": content[name]} for name in sorted(used)}


def copy(twin: Path) -> NotebookNode:
    """The learner's copy of a chapter. ChapterError if a cell of it needs what only a solution defines."""
    from sync import prepared  # here: it brings what executes notebooks

    notebook = prepared(twin)
    if found := problems(notebook, twin.name):
        raise ChapterError("\n".join(found))
    root = twin.parents[2]
    pages = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Documentation"]
    note = (
        f"*This is the learner's copy of [{title(notebook)}]({pages}/book/{twin.stem}.html): run it, and write where "
        "it says `# yours`. The checks tell you what is right; the solutions stand in the page.*"
    )
    chapter = f"{int(twin.stem[:2])}." if twin.stem[:2].isdigit() else ""
    numbers, cells = iter(range(1, 1000)), []
    for _, cell in outside(notebook):
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source, chapter, numbers)
            with_drawings(cell, root / "book" / "assets")
            if note and re.match(r"# ", cell.source):
                first, _, rest = cell.source.partition("\n")
                cell.source, note = f"{first}\n\n{note}\n{rest}", ""
            if not cell.source.strip():
                continue
        cells.append(cell)
    notebook.cells = cells
    return notebook


def write(folder: Path, root: Path = ROOT, chapters: list[str] = ()) -> list[Path]:
    """Write the learner's copies of all chapters that have solutions, and their zip; the files that were written."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for twin in twins(root, chapters):
        if "{solution-start}" in twin.read_text("utf-8"):
            notebook = copy(twin)
            del notebook.metadata["vit_edu"]  # says how the chapter's outputs were made; here are none
            paths.append(folder / f"{twin.stem}.ipynb")
            nbformat.write(notebook, paths[-1])
    with zipfile.ZipFile(folder / ZIP, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            info = zipfile.ZipInfo(f"vit-edu-learner/{path.name}", (1980, 1, 1, 0, 0, 0))  # the same bytes each time
            archive.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return [*paths, folder / ZIP]


# In the pages

LINK = (
    '<p class="learner-link">To work through: <a href="../_static/learner/{name}.ipynb" download>this notebook without '
    'its solutions</a>, or <a href="../_static/learner/' + ZIP + '" download>all of them</a>.</p>'
)


def add_link(app, doctree):
    """Below the heading "Exercises", where the chapter can be had without its solutions."""
    from docutils import nodes

    for section in doctree.findall(nodes.section):
        if "exercises" in section["ids"]:
            link = LINK.format(name=Path(app.env.docname).name)
            section.insert(1, nodes.raw("", link, format="html"))


def write_copies(app, exception):
    if not exception and app.builder.format == "html":
        write(Path(app.outdir) / "_static" / "learner", Path(app.srcdir))


def setup(app):
    app.connect("doctree-read", add_link)
    app.connect("build-finished", write_copies)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("chapters", nargs="*", help="for example 02_attention; all if none is named")
    parser.add_argument("--to", type=Path, default=ROOT / "_build" / "learner", help="the folder to write to")
    parser.add_argument("--execute", action="store_true", help="run each copy from its first cell to its last")
    options = parser.parse_args()
    try:
        paths = write(options.to, ROOT, options.chapters)
        for twin in twins(ROOT, options.chapters) if options.execute else ():
            from sync import execute

            print(f"executing the learner's copy of {twin.stem} ...", flush=True)
            with tempfile.TemporaryDirectory() as folder:
                execute(copy(twin), twin.name, Path(folder), ROOT)
    except ChapterError as error:
        sys.exit(f"{error}")
    print(f"{options.to}: {len(paths) - 1} notebooks, and {ZIP} with all of them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
