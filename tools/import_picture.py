"""Draw who imports whom: `python tools/import_picture.py [--check]` writes book/assets/imports.svg from the package.

Modules stand in reading order, a chapter after the other; an arc leads from each to those that it builds on. An arc
that others already imply is left out: `model` imports `patches`, but it also imports `block`, which does. No arc leads
downwards: the table of contents is the import graph.
"""

import argparse
import re
import sys
from pathlib import Path

import yaml

from chapters import ROOT, code_cells, imports, module_of, read, title, twins

ROW, TOP, LEFT = 26, 24, 160
PARTS = "abcd"


def modules(root: Path = ROOT) -> dict[str, str]:
    """Each module with the chapter that writes it, in reading order."""
    return {name: twin.stem for twin in twins(root) for _, cell in code_cells(read(twin)) if (name := module_of(cell))}


def graph(root: Path = ROOT) -> dict[str, set[str]]:
    """The modules that each module imports, without those that follow from the others; builders before users."""
    written, direct, below, order = modules(root), {}, {}, []
    for name in written:
        used = (found.split(".") for found in imports((root / "vit_edu" / f"{name}.py").read_text("utf-8")))
        direct[name] = {parts[1] for parts in used if parts[0] == "vit_edu" and len(parts) > 1 and parts[1] in written}

    def visit(name: str) -> None:
        """Everything below `name`; a chapter may write a module before one of its own that it imports."""
        if name not in below:
            for other in sorted(direct[name], key=list(written).index):
                visit(other)
            below[name] = direct[name].union(*(below[other] for other in direct[name]))
            order.append(name)

    for name in written:
        visit(name)
    return {n: {o for o in direct[n] if not any(o in below[p] for p in direct[n] - {o})} for n in order}


def parts_of(root: Path = ROOT) -> dict[str, int]:
    """The number of the part, from 0, of each chapter."""
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf-8"))
    return {
        Path(chapter["file"]).stem: number
        for number, part in enumerate(toc["parts"])
        for chapter in part["chapters"]
    }


def picture(root: Path = ROOT) -> str:
    """The drawing, as the text of an SVG file in the drawings' common style."""
    style = re.search(r"<style>.*?</style>", (root / "book/assets/block.svg").read_text("utf-8"), re.S)
    written, below, parts = modules(root), graph(root), parts_of(root)
    heads = {twin.stem: title(read(twin)).partition(":")[0] for twin in twins(root)}
    order = sorted(below, key=lambda name: written[name])
    y = {name: TOP + ROW * number for number, name in enumerate(order)}
    lines, last = [], None
    for name in order:
        for other in sorted(below[name], key=y.get):
            reach = 14 + 0.42 * (y[name] - y[other])
            up = y[other] - y[name]
            lines.append(f'<path class="soft" d="M{LEFT} {y[name]}c-{reach:.0f} 0-{reach:.0f} {up} 0 {up}"/>')
    for name in order:
        chapter = written[name]
        kind = PARTS[parts[chapter] % len(PARTS)]
        lines.append(f'<rect class="{kind}" x="{LEFT}" y="{y[name] - 11}" width="150" height="22" rx="4"/>')
        lines.append(f'<text class="mono mid" x="{LEFT + 75}" y="{y[name] + 5}" style="font-size:14px">{name}</text>')
        if chapter != last:
            words = f"{chapter[:2]} {heads[chapter]}"
            lines.append(f'<text class="muted" x="{LEFT + 162}" y="{y[name] + 5}" style="font-size:14px">{words}</text>')
        last = chapter
    height = TOP + ROW * len(order) - 8
    head = f'<svg class="fig" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 {height}">'
    return "\n".join([head, style[0], *lines, "</svg>", ""])


def write(root: Path = ROOT, check: bool = False) -> list[Path]:
    """Write the drawing, or with `check` only compare; the file, if it was (or is) another."""
    path, drawn = root / "book" / "assets" / "imports.svg", picture(root)
    if path.exists() and path.read_text("utf-8") == drawn:
        return []
    if not check:
        path.write_text(drawn, "utf-8")
    return [path]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the drawing is another")
    sys.exit(1 if write(check=(check := parser.parse_args().check)) and check else 0)
