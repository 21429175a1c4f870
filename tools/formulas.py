"""A Sphinx extension: every formula is turned into MathML when the pages are built.

Browsers set MathML themselves, and screen readers read it: a page needs no script for its formulas, offline and on
paper neither. Temml (tools/vendor/temml.js) does the turning, run by QuickJS inside this process. The pages' share is a
font and a style sheet in book/assets/vendor. A formula that Temml cannot read is a warning, which stops `make book`.
"""

import json
import re
from functools import cache
from pathlib import Path

import quickjs
from docutils import nodes
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)
TEMML = Path(__file__).with_name("vendor") / "temml.js"
MENDED = (  # what Temml leaves undone
    # Fences made tall by \bigl and \bigr have no form: in the middle of a row they would get room of their own.
    (r'<mo (fence="true" stretchy="true" symmetric="true" minsize)', r'<mo lspace="0em" rspace="0em" \1'),
    # A function's name keeps a thin space from what stands before it, an index or power included.
    (r"(</msu(?:b|p|bsup)><mrow>)(<mi>\w+</mi><mo>\u2061</mo>)", r'\1<mspace width="0.1667em"></mspace>\2'),
)


@cache
def temml():
    """Temml's function of TeX and whether it is displayed. Formulas in the text may break after a relation, as in TeX.

    It answers in JSON: a string that QuickJS has joined from pieces cannot leave it otherwise.
    """
    context = quickjs.Context()
    context.eval(TEMML.read_text("utf-8"))
    function = context.eval(
        "(tex, display) => JSON.stringify("
        "temml.renderToString(tex, { displayMode: display, throwOnError: true, wrap: 'tex' }))"
    )
    return context, function  # the context lives as long as the function


@cache
def mathml(tex: str, display: bool = False) -> str:
    """The MathML of a formula; ValueError says what is wrong with the formula, and where in it."""
    try:
        made = json.loads(temml()[1](tex.strip(), display))
    except quickjs.JSException as error:
        raise ValueError(str(error).partition("\n    at ")[0].strip()) from None
    for pattern, replacement in MENDED:
        made = re.sub(pattern, replacement, made)
    return made


def put(translator, node, display: bool) -> None:
    tex = node.astext()
    if display and r"\\" in tex and not tex.strip().startswith(r"\begin"):
        tex = rf"\begin{{split}}{tex}\end{{split}}"  # as Sphinx does: lines without an environment
    try:
        translator.body.append(mathml(tex, display))
    except ValueError as error:
        logger.warning("this formula cannot be set: %s", error, location=node)
        translator.body.append(f"<code>{translator.encode(tex)}</code>")


def visit_math(translator, node: nodes.math):
    translator.body.append(translator.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    put(translator, node, display=False)
    translator.body.append("</span>")
    raise nodes.SkipNode


def visit_math_block(translator, node: nodes.math_block):
    # A wide formula scrolls in its box on a narrow window, by keyboard, too.
    translator.body.append(translator.starttag(node, "div", CLASS="math notranslate nohighlight", tabindex="0"))
    if node["number"]:
        translator.body.append(f'<span class="eqno">({get_node_equation_number(translator, node)})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    put(translator, node, display=True)
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
