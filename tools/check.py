"""Is everything in step, and in order? `python tools/check.py` prints what is not; the tests call the same functions.

Each check takes the project's folder and returns a list of problems, each a sentence that says where.
"""

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import nbformat

import chapters
import costs
import import_picture
import questions
import sync
from chapters import ROOT, code_cells, imports, is_colab_cell, module_of, notebook_of, read, twins
from export import export

# What a notebook may import: Python's own modules, what Colab brings, and the package.
COLAB = {
    "IPython", "PIL", "filelock", "ipywidgets", "matplotlib", "numpy", "safetensors", "sklearn", "timm", "torch", "torchvision",
    "tqdm", "vit_edu", *sys.stdlib_module_names,
}  # fmt: skip


def notebooks_in_step(root: Path = ROOT) -> list[str]:
    """Each notebook says what its text says, and was executed with this text and this package."""
    texts = twins(root)
    problems = [
        f"{notebook_of(t).name} is out of step with {t.name} or with vit_edu: run `make sync`"
        for t in texts
        if not sync.in_step(t)
    ]
    lonely = {path.stem for path in (root / "book").glob("*.ipynb")} - {t.stem for t in texts}
    return problems + [f"{name}.ipynb has no text: write book/text/{name}.md" for name in sorted(lonely)]


def modules_in_step(root: Path = ROOT) -> list[str]:
    """`vit_edu` is exactly what the chapters export (beside its hand-written __init__ and widgets)."""
    problems = [
        f"vit_edu/{path.name} is not what its chapter exports: run `make sync`" for path in export(root, check=True)
    ]
    foreign = {path.stem for path in (root / "vit_edu").glob("*.py")} - {"__init__"} - set(module_order(root))
    return problems + [f"vit_edu/{name}.py is exported by no chapter" for name in sorted(foreign)]


def module_order(root: Path) -> dict[str, int]:
    """The place in the book of the chapter that writes each module."""
    return {
        name: place
        for place, twin in enumerate(twins(root))
        for _, cell in code_cells(read(twin))
        if (name := module_of(cell))
    }


def modules_in_reading_order(root: Path = ROOT) -> list[str]:
    """A module imports only from modules of earlier chapters and of its own."""
    place, problems = module_order(root), []
    for name in place:
        path = root / "vit_edu" / f"{name}.py"
        used = {
            parts[1] if len(parts) > 1 else ""
            for parts in map(lambda i: i.split("."), imports(path.read_text("utf-8")))
            if parts[0] == "vit_edu"
        }
        for other in sorted(used - {""}):
            if place.get(other, len(place)) > place[name]:
                problems.append(
                    f"vit_edu/{name}.py imports vit_edu.{other}, which is not of its own or an earlier chapter"
                )
        if "" in used:
            problems.append(f"vit_edu/{name}.py imports vit_edu as a whole: name the module")
    return problems


def notebooks_run_in_colab(root: Path = ROOT) -> list[str]:
    """The first cell installs the package in Colab, and no cell imports what is not there."""
    problems = []
    for twin in twins(root):
        cells = [cell for _, cell in code_cells(read(twin))]
        if not cells or not is_colab_cell(cells[0]) or "remove-cell" not in cells[0].metadata.get("tags", []):
            problems.append(
                f"{twin.name}: the first code cell must be the one that installs vit_edu in Colab, tagged remove-cell"
            )
        used = {name.split(".")[0] for cell in cells for name in imports(cell.source)}
        problems += [f"{twin.name} imports {name}, which Colab does not bring" for name in sorted(used - COLAB)]
    return problems


def outputs_are_clean(root: Path = ROOT) -> list[str]:
    """No stored error, no warning, no trace of the first cell, and every picture has alternative text."""
    problems = []
    for path in filter(Path.exists, map(notebook_of, twins(root))):
        for number, cell in code_cells(nbformat.read(path, as_version=4)):
            where = f"{path.name}, cell {number}"
            expected = {"raises-exception", "nbval-raises-exception"} & set(cell.metadata.get("tags", []))
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "").strip()
            for output in cell.outputs:
                if output.output_type == "error" and not expected:
                    problems.append(f"{where} holds an error: {output.ename}: {output.evalue}")
                if output.get("name") == "stderr":
                    problems.append(f"{where} printed on stderr: {output.text.strip().splitlines()[-1]}")
                if any(kind.startswith("image/") for kind in output.get("data", {})) and not alt:
                    problems.append(f"{where} shows a picture and has no `mystnb: image: alt:`")
            if is_colab_cell(cell) and cell.outputs:
                problems.append(f"{where} did something here, though vit_edu is installed")
    return problems


def address_is_one(root: Path = ROOT) -> list[str]:
    """The address in pyproject.toml stands everywhere."""
    return [
        f"{path.relative_to(root)} gives another address than pyproject.toml: run `make sync`"
        for path in sync.write_address(root, check=True)
    ]


def drawings_share_the_palette(root: Path = ROOT) -> list[str]:
    """All drawings carry the same style, leave colours to it, and cannot disturb each other on one page."""
    problems, styles = [], {}
    for path in sorted((root / "book" / "assets").glob("*.svg")):
        text = path.read_text("utf-8")
        try:
            svg = ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            problems.append(f"{path.name} is not well-formed: {error}")
            continue
        style = re.search(r"<style>\n?(.*?)\n?</style>", text, re.S)
        styles.setdefault(style.group(1) if style else "", []).append(path.name)
        if svg.get("class") != "fig" or not svg.get("viewBox") or svg.get("width") or svg.get("id"):
            problems.append(f'{path.name}: the root must be <svg class="fig" viewBox="..."> without width or id')
        problems += [
            f"{path.name}: the id {found} must begin with the file's name"
            for found in re.findall(r'\sid="([^"]*)"', text)
            if not found.startswith(path.stem)
        ]
        if colours := sorted(set(re.findall(r'(?:fill|stroke)="(#[^"]*|rgb[^"]*|black|white)"', text))):
            problems.append(
                f"{path.name}: colours {', '.join(colours)} do not follow the theme: use the classes of the style"
            )
    if len(styles) > 1:
        common = max(styles.values(), key=len)
        problems += [
            f"{name}: its <style> is not the one of {common[0]}"
            for names in styles.values()
            if names is not common
            for name in names
        ]
    return problems


def imports_are_drawn(root: Path = ROOT) -> list[str]:
    """The drawing of who imports whom is the one of today's imports."""
    return [f"{path.name} shows other imports than the package has: run `make sync`" for path in import_picture.write(root, check=True)]


WORDS, LINES = 6000, 350


def a_chapter_is_an_evening(root: Path = ROOT) -> list[str]:
    """No chapter has more than 6,000 words, code, stubs and solutions included; no module more than 350 lines."""
    sizes = [(path.name, len(path.read_text("utf-8").split()), WORDS, "words") for path in twins(root) if path.stem[0].isdigit()]
    sizes += [
        (f"vit_edu/{name}.py", len((root / "vit_edu" / f"{name}.py").read_text("utf-8").splitlines()), LINES, "lines")
        for name in module_order(root)
    ]
    return [f"{name} has {size:,} {what}, {most:,} at most" for name, size, most, what in sizes if size > most]


FIGURE = re.compile(r"\d[\d.,]*\s*(?:%|per ?cent\b|(?:percentage )?points?\b|minutes?\b|images/s|TFLOP/s)")


def figures_have_sources(root: Path = ROOT) -> list[str]:
    """In Markdown a number with %, points, minutes, images/s or TFLOP/s shares its sentence with a citation.

    Our own results are outputs of cells that read a record. What a chapter costs its reader is no result.
    """
    problems = []
    for twin in twins(root):
        for number, cell in enumerate(read(twin).cells, 1):
            if cell.cell_type != "markdown":
                continue
            for sentence in re.split(r"(?<=[.!?:;])\s+(?=[A-Z*_`\[(])|\n\n|\n(?=[|\-*]|\d+\. )", cell.source):
                figure = FIGURE.search(sentence)
                if figure and "{cite" not in sentence and not sentence.startswith(("*Cost:", "| {doc}")):
                    problems.append(f"{twin.name}, cell {number}: {figure.group()!r} has no {{cite}} in its sentence")
    return problems


def costs_are_stated(root: Path = ROOT) -> list[str]:
    """What a chapter says that it costs, in minutes, is what was counted and measured."""
    return costs.problems(root)


def questions_are_gathered(root: Path = ROOT) -> list[str]:
    """Each chapter that asks recall questions asks five to eight, and their page holds all of them."""
    problems = [f"{path.name} is not what the chapters ask: run `make sync`" for path in questions.write(root, check=True)]
    for twin in twins(root):
        section = twin.read_text("utf-8").partition(f"\n{questions.HEADING}\n")[2].partition("\n## ")[0]
        asked, folds = questions.questions(twin), section.count(":::{dropdown}")
        if section and not 5 <= folds <= 8:
            problems.append(f"{twin.name} asks {folds} questions to come back to; five to eight are good")
        if len(asked) != folds:
            problems.append(f"{twin.name}: {len(asked)} of {folds} questions stand as tools/questions.py wants them")
    return problems


CHECKS = (
    notebooks_in_step, modules_in_step, modules_in_reading_order, notebooks_run_in_colab, outputs_are_clean,
    address_is_one, drawings_share_the_palette, figures_have_sources, costs_are_stated,
    questions_are_gathered, imports_are_drawn, a_chapter_is_an_evening,
)  # fmt: skip


def main() -> int:
    problems = [problem for check in CHECKS for problem in check(ROOT)]
    print("\n".join(problems) or f"{len(CHECKS)} checks: everything is in step and in order")
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except chapters.ChapterError as error:
        sys.exit(f"{error}")
