"""What the tools share: where chapters are, how a chapter is read, what it exports and what it depends on."""

import ast
import copy
import functools
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

import jupytext
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]

# A chapter is executed with these, by `make sync` and by the tests alike; without a GPU, whose last digits differ.
ENVIRONMENT = {
    "VIT_EDU_SCALE": "smoke",
    "VIT_EDU_DOWNLOAD": "0",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
NEEDS_DATA = "needs-data"  # the tag of a cell whose output depends on CIFAR-10

MARK = re.compile(r"# vit_edu/(\w+)\.py")
ADDRESS = re.compile(r"https://github\.com/[\w.-]+/vit-edu\b")
PAGES = re.compile(r"https://[\w.-]+\.github\.io/vit-edu\b")


class ChapterError(Exception):
    """Something in a chapter that its author has to mend."""


def twins(root: Path = ROOT, names: Iterable[str] = ()) -> list[Path]:
    """The chapters' texts in reading order (the introduction first), or those in `names` ("02_attention")."""
    found = {path.stem: path for path in (root / "book" / "text").glob("*.md")}
    names = [Path(name).stem for name in names] or list(found)
    if unknown := [name for name in names if name not in found]:
        raise ChapterError(f"no chapter {', '.join(unknown)}; there are {', '.join(sorted(found))}")
    return sorted((found[name] for name in names), key=lambda path: (path.stem != "intro", path.stem))


def notebook_of(twin: Path) -> Path:
    return twin.parents[1] / f"{twin.stem}.ipynb"


def read(twin: Path) -> NotebookNode:
    """A chapter's text as a notebook without outputs, which is the caller's own."""
    try:
        return copy.deepcopy(parsed(twin.read_text("utf-8")))
    except Exception as error:
        raise ChapterError(f"{twin.name}: not readable as MyST Markdown: {error}") from error


@functools.lru_cache
def parsed(text: str) -> NotebookNode:
    """A text is parsed once; a copy is far quicker."""
    return jupytext.reads(text, fmt="md:myst")


def code_cells(notebook: NotebookNode) -> list[tuple[int, NotebookNode]]:
    """The code cells with their numbers, counted from 1 among all cells."""
    return [(i, cell) for i, cell in enumerate(notebook.cells, 1) if cell.cell_type == "code"]


def title(notebook: NotebookNode) -> str:
    """The text of the chapter's first heading."""
    return next(
        iter(
            re.findall(r"^# (.+?)\s*$", "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown"), re.M)
        ),
        "",
    )


def module_of(cell: NotebookNode) -> str | None:
    """The module of `vit_edu` that a code cell belongs to, named by its first line; None for most cells."""
    mark = MARK.fullmatch(cell.source.split("\n", 1)[0].rstrip())
    return mark.group(1) if mark else None


def is_colab_cell(cell: NotebookNode) -> bool:
    """Whether this is the cell that opens every chapter and installs `vit_edu` where it is missing (in Colab)."""
    return cell.cell_type == "code" and "%pip install" in cell.source and "vit-edu" in cell.source


def needs_data(cell: NotebookNode) -> bool:
    """Whether a cell's output is another one where CIFAR-10 is absent and digits stand in."""
    return NEEDS_DATA in cell.metadata.get("tags", [])


def has_data() -> bool:
    """Whether CIFAR-10 is where the chapters look for it."""
    from vit_edu.data import data_folder

    return any((data_folder() / name).exists() for name in ("cifar10.safetensors", "cifar-10-batches-py"))


def compare_where_data_is(items: Iterable) -> None:
    """Of nbval's test items: without CIFAR-10, cells that depend on it run, keep their asserts, and are not compared."""
    dependent = [item for item in items if hasattr(item, "cell") and needs_data(item.cell)]
    if dependent and not has_data():
        for item in dependent:
            item.options["check"] = False


@functools.cache
def imports(source: str) -> frozenset[str]:
    """Every module imported anywhere in Python source, in dotted form; `from a import b` gives "a.b"."""
    lines = (re.sub(r"^(\s*)[%!?].*", r"\1pass", line) for line in source.split("\n"))  # IPython's own lines
    found = set()
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def package_files(sources: Iterable[str], package: Path) -> list[Path]:
    """The files of `vit_edu` that these sources rest on: modules, transitively, widgets, exercises and records."""
    modules = {path.stem: path for path in package.glob("*.py")}
    files: set[Path] = set()
    sources = list(sources)
    checks = exercise_files(sources, package)
    seen: list[str] = []
    while sources:
        source = sources.pop()
        seen.append(source)
        for parts in (name.split(".") for name in imports(source)):
            if parts[0] != package.name:
                continue
            name = parts[1] if len(parts) > 1 else "__init__"
            if name == "widgets":
                new = {path for path in (package / "widgets").rglob("*") if path.suffix in (".py", ".js", ".css")}
            elif name == "exercises":
                new = checks
            else:
                new = (
                    {modules[name if name in modules else "__init__"]}
                    if "__init__" in modules or name in modules
                    else set()
                )
            sources += [path.read_text("utf-8") for path in new - files if path.suffix == ".py"]
            files |= new
    return sorted(files | record_files("\n".join(seen), package))


def record_files(source: str, package: Path) -> set[Path]:
    """The records that source reads: of those whose names begin with a word that it has, such as `tiny` or `digits`."""
    if "recorded" not in source:
        return set()
    words = set(re.findall(r"[A-Za-z0-9]+(?!\w)", source))
    kinds = ".json", ".csv", ".safetensors"
    paths = (package / "recorded").glob("*/*")
    return {path for path in paths if path.suffix in kinds and path.parent.name.split("-")[0] in words}


def exercise_files(sources: Iterable[str], package: Path) -> set[Path]:
    """The files of `vit_edu.exercises` that hold the checks which these sources ask for, and what all checks share."""
    asked = {name for source in sources for name in re.findall(r"\bcheck\(\s*[\"']?([\w-]+)", source)}
    files = set((package / "exercises").glob("*.py"))
    return {path for path in files if path.stem[0] == "_" or any(f'"{n}"' in path.read_text("utf-8") for n in asked)}


def digest(notebook: NotebookNode, package: Path) -> str:
    """A fingerprint of all that a chapter's outputs depend on: its code and the package files that it rests on."""
    sources = [cell.source for _, cell in code_cells(notebook) if not is_colab_cell(cell)]
    content = [[cell.source, cell.metadata.get("tags", [])] for _, cell in code_cells(notebook)]
    total = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for path in package_files(sources, package):
        total.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()
