"""A Sphinx extension: the introduction's first screen.

The output of a cell tagged `shown-first` stands in the page where its text has the comment `<!-- shown first -->`: the
reader of a page meets the drawing pad before the code that trains its model, while a notebook keeps the order in which
it runs. The list after `<!-- doors -->` is drawn as doors (book.css). And a bare link to Colab opens the page's own
notebook there, as the button at its top does.
"""

from docutils import nodes
from sphinx.util import logging

logger = logging.getLogger(__name__)
COLAB = "https://colab.research.google.com"


def marked(doctree, name: str) -> list[nodes.raw]:
    """The comments with a name: Markdown keeps them as HTML, which no notebook shows."""
    return [node for node in doctree.findall(nodes.raw) if node.astext().strip() == f"<!-- {name} -->"]


def hang_doors(app, doctree):
    """Give the list after a mark the class that draws it as doors."""
    for mark in marked(doctree, "doors"):
        after = mark.parent[mark.parent.index(mark) + 1]
        if not isinstance(after, nodes.bullet_list):
            logger.warning("after the mark for doors comes no list", location=doctree)
        after["classes"].append("doors")
        mark.parent.remove(mark)


def move_output(app, doctree):
    """Put the output of the cell tagged `shown-first` in the place that is marked for it."""
    places = marked(doctree, "shown first")
    cells = [node for node in doctree.findall(nodes.container) if "tag_shown-first" in node.get("classes", [])]
    if len(places) != len(cells) or len(cells) > 1:
        logger.warning("%d places for the output of %d cells tagged shown-first", len(places), len(cells), location=doctree)
    for place, cell in zip(places, cells):
        for output in [node for node in cell.findall(nodes.container) if node.get("nb_element") == "cell_code_output"]:
            output.parent.remove(output)
            frame = nodes.container("", output, classes=["cell", "shown-first"])    # the style of outputs is that of cells
            place.parent.insert(place.parent.index(place) + 1, frame)
        place.parent.remove(place)


def complete_link(app, page, template, context, doctree):
    """Lead a link to Colab to this page's notebook, at the address that the configuration states."""
    options = app.config.html_theme_options
    notebook = f"{options.get('repository_url', '').replace('https://github.com', '/github')}/blob/{options.get('repository_branch', 'main')}/{page}.ipynb"
    context["body"] = context.get("body", "").replace(f'href="{COLAB}"', f'href="{COLAB}{notebook}"')


def setup(app):
    app.connect("doctree-read", hang_doors)
    app.connect("doctree-read", move_output)
    app.connect("html-page-context", complete_link)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
