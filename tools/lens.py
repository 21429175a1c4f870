"""A Sphinx extension: the shape lens. A page shows what a line of code assigned, where the reader points at the line.

What it shows was noted by the run that made the cell's outputs (tools/shapes.py) and stands in the cell's metadata.
It goes into the page as data beside the code; book/assets/lens.js shows it. Without that script, and on paper,
nothing of it is seen.
"""

import json

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform


def data(entries: list[str]) -> str:
    """The HTML that carries a cell's entries."""
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    return f'<script type="application/json" class="lens-data">{text}</script>'


class PutShapes(SphinxPostTransform):
    default_priority = 190  # before the listings that are folded get their folds
    formats = ("html",)

    def run(self, **kwargs):
        for cell in list(self.document.findall(nodes.container)):
            if cell.get("nb_element") != "cell_code":
                continue
            entries = cell["cell_metadata"].get("vit_edu", {}).get("shapes")
            source = next((part for part in cell.children if part.get("nb_element") == "cell_code_source"), None)
            if entries and source is not None:
                source += nodes.raw("", data(entries), format="html")


def setup(app):
    app.add_post_transform(PutShapes)
    app.add_js_file("lens.js")
    app.add_css_file("lens.css")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
