"""A Sphinx extension: a page's *Predict* exercises take an answer before they show theirs.

After each cell that calls `check("ex-...", answer=...)` stands a box with the exercise's data, read at build time from
its `Prediction` in `vit_edu.exercises`, so that nothing is written twice. book/assets/predict.js makes the box: a field
for each part, and the words that `check` would print. The solution waits for an answer, or for "show me". Without
JavaScript, and on paper, the page is the plain exercise with its fold; a notebook has the cell alone.
"""

import json
import re
from pathlib import Path

from docutils import nodes
from sphinx.util import logging

logger = logging.getLogger(__name__)
ASKS = re.compile(r'\bcheck\(\s*"(ex-[\w-]+)"')


def data(known) -> dict:
    """What the page has to know of a `Prediction`; ValueError if a value cannot be written as JSON."""
    return {
        "name": known.name,
        "parts": [
            {
                "what": part.what,
                "right": part.right,
                "list": isinstance(part.right, list),  # else a sequence is shown as a tuple
                "wrong": list(part.wrong.items()),
                "within": part.within,
            }
            for part in known.parts
        ],
    }


def box(known) -> str:
    """The HTML of one exercise's box, empty until the script fills it."""
    content = json.dumps(data(known), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return f'<div class="predict" hidden><script type="application/json">{content}</script></div>'


def add_boxes(app, doctree):
    """Put a box after each cell that asks for a prediction; after the first one if a solution asks again."""
    seen = set()
    for cell in [node for node in doctree.findall(nodes.container) if node.get("nb_element") == "cell_code"]:
        code = "\n".join(
            block.astext()
            for part in cell.findall(nodes.container)
            if part.get("nb_element") == "cell_code_source"
            for block in part.findall(nodes.literal_block)
        )
        for name in reversed([name for name in dict.fromkeys(ASKS.findall(code)) if name not in seen]):
            from vit_edu.exercises import Prediction, find  # here: it imports PyTorch, which other pages do not need

            try:
                known = find(name)
            except ValueError as error:
                logger.warning("%s", error, location=cell)
                continue
            if not isinstance(known, Prediction):
                logger.warning("%s is no prediction, and has no box", name, location=cell)
                continue
            seen.add(name)
            cell.parent.insert(cell.parent.index(cell) + 1, nodes.raw("", box(known), format="html"))
    if seen:
        for path in (Path(app.srcdir) / "vit_edu" / "exercises").glob("*.py"):
            app.env.note_dependency(str(path.relative_to(app.srcdir)))


def setup(app):
    app.connect("doctree-read", add_boxes)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
