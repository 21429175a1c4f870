"""Write the modules of `vit_edu` from the chapters: `python tools/export.py [--check] [CHAPTER ...]`.

A code cell whose first line is `# vit_edu/NAME.py` is part of that module; cells follow each other verbatim.
"""

import argparse
import ast
import sys
from pathlib import Path

from chapters import ROOT, ChapterError, code_cells, module_of, read, title, twins

HEADER = '''"""{title}.

Written by tools/export.py from book/text/{name}: edit that file, then `make sync`.
"""'''


def split_cell(source: str, where: str) -> tuple[list[str], str]:
    """Take the mark and the `from __future__` lines off a marked cell: (names from __future__, the rest verbatim)."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        what = (
            "IPython magics and shell lines cannot be exported"
            if error.text and error.text.strip()[:1] in "%!?"
            else error.msg
        )
        raise ChapterError(f"{where}, line {error.lineno}: {what}: {(error.text or '').strip()}") from None
    lines = source.split("\n")
    lines[0] = None
    names = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            names += [alias.name for alias in node.names]
            lines[node.lineno - 1 : node.end_lineno] = [None] * (node.end_lineno - node.lineno + 1)
    rest = "\n".join(line for line in lines if line is not None).strip("\n")
    tree.body = [n for n in tree.body if not (isinstance(n, ast.ImportFrom) and n.module == "__future__")]
    if ast.dump(ast.parse(rest)) != ast.dump(tree):
        raise ChapterError(f"{where}: give each `from __future__ import` a line of its own")
    return names, rest


def modules(twin: Path) -> dict[str, str]:
    """The modules that one chapter writes: name → source."""
    notebook, parts = read(twin), {}
    for number, cell in code_cells(notebook):
        where = f"{twin.name}, cell {number}"
        if name := module_of(cell):
            parts.setdefault(name, []).append(split_cell(cell.source, where))
        elif cell.source.startswith("# vit_edu/"):
            raise ChapterError(f"{where}: the first line must be `# vit_edu/NAME.py` and no more, to mark a module")
    sources = {}
    for name, cells in parts.items():
        future = dict.fromkeys(n for names, _ in cells for n in names)
        body = [HEADER.format(title=title(notebook).rstrip("."), name=twin.name)]
        body += [f"from __future__ import {', '.join(future)}"] if future else []
        code = "\n\n\n".join(text for _, text in cells if text)
        sources[name] = "\n\n".join([*body, code]) + "\n"
    return sources


def export(root: Path = ROOT, names: list[str] = (), check: bool = False) -> list[Path]:
    """Write the modules of all chapters (or of `names`) that differ from their files, or only list them."""
    owner, different = {}, []
    for twin in twins(root, names):
        for name, source in modules(twin).items():
            if name in owner:
                raise ChapterError(
                    f"vit_edu/{name}.py is marked in {owner[name]} and in {twin.name}; one chapter writes a module"
                )
            owner[name] = twin.name
            path = root / "vit_edu" / f"{name}.py"
            if not path.exists() or path.read_text("utf-8") != source:
                different.append(path)
                if not check:
                    path.parent.mkdir(exist_ok=True)
                    path.write_text(source, "utf-8")
    return different


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("chapters", nargs="*", help="for example 02_attention; all if none is named")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a module is out of step")
    options = parser.parse_args()
    try:
        different = export(ROOT, options.chapters, options.check)
    except ChapterError as error:
        sys.exit(f"{error}")
    for path in different:
        print(f"{path.relative_to(ROOT)} {'is out of step: run `make sync`' if options.check else 'written'}")
    return 1 if different and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
