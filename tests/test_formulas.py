"""Formulas: MathML made at build time, read by browsers and screen readers without any script."""

import re
import sys
from html import unescape

import pytest
from chapters import ROOT
from formulas import mathml

sys.path.insert(0, str(ROOT / "tools" / "vendor"))


def words(made: str) -> list[str]:
    """What the elements of some MathML hold, in their order."""
    return re.findall(r">([^<]+)<", unescape(made))


def test_what_a_screen_reader_finds():
    """A function is one word, a number is one number, bold is a letter of its own, indices hang at their letters."""
    assert words(mathml(r"\operatorname{softmax}(z)")) == ["softmax", "\u2061", "(", "z", ")"]
    assert words(mathml(r"\mathrm{Attention}(Q)"))[0] == "Attention"
    assert words(mathml(r"e^{24} \approx 18{,}000")) == ["e", "24", "≈", "18,000"]
    assert mathml(r"\mathbf z_0") == "<math><msub><mi>𝐳</mi><mn>0</mn></msub></math>"
    assert re.search(r"<mfrac><mi>H</mi><mi>P</mi></mfrac>", mathml(r"N = \frac{H}{P}", display=True))


def test_lines_that_belong_together_are_rows_of_a_table():
    made = mathml(r"\begin{aligned} h &= x W_1 \\ y &= h W_2 \end{aligned}", display=True)
    assert made.count("<mtr>") == 2 and made.count("<mtd") == 4


def test_spaces_around_functions_and_tall_fences():
    """`ln` keeps off an index before it; the fence of \\bigl takes no room of its own wherever it stands."""
    assert re.search(r"</msub><mrow><mspace[^>]*></mspace><mi>ln</mi>", mathml(r"t_k \ln p_k"))
    fences = re.findall(r"<mo[^>]*>\|</mo>", mathml(r"\Delta = \bigl| f - g \bigr| ,"))
    assert len(fences) == 2 and all('lspace="0em" rspace="0em"' in fence for fence in fences)


def test_a_mistake_is_named():
    with pytest.raises(ValueError, match=r"\\foo at position 5"):
        mathml(r"x + \foo")
    with pytest.raises(ValueError, match="expected .}. at end"):
        mathml(r"\frac{1}{2")


def test_the_font_has_every_letter(site):
    """What a formula of the book holds, the font in the pages holds: none is set in two fonts."""
    subset = pytest.importorskip("fontTools.subset")
    from font import KEPT

    kept = set(subset.parse_unicodes(KEPT))
    formulas = [
        formula
        for name in site.pages
        for formula in re.findall(r"<math.*?</math>", (site.folder / name).read_text("utf-8"), re.S)
    ]
    assert len(formulas) > 400
    used = {letter for formula in formulas for word in words(formula) for letter in word if not letter.isspace()}
    assert sorted(letter for letter in used if ord(letter) not in kept and letter != "\u2061") == []


def test_no_page_loads_a_script_for_formulas(site):
    pages = [path.read_text("utf-8") for path in site.folder.rglob("*.html")]
    assert not any(re.search(r"<script[^>]*mathjax|window\.MathJax", page) for page in pages)
    assert not list((ROOT / "book" / "assets").rglob("*mathjax*"))


def test_without_scripts_formulas_are_set(browser, site):
    """Equation 2.1 where JavaScript is off: its fraction is one, its root covers, and the font is the pages' own."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    with page.expect_response("**/STIXTwoMath.woff2*"):
        page.goto(f"{site.http}/book/02_attention.html")
    equation = page.locator("#equation-eq-attention")
    numerator, denominator, root, inside = (
        equation.locator(part).first.bounding_box()
        for part in ("mfrac > :first-child", "mfrac > :last-child", "msqrt", "msqrt > *")
    )
    assert numerator["y"] + numerator["height"] <= denominator["y"] + 1
    assert abs(numerator["x"] + numerator["width"] / 2 - denominator["x"] - denominator["width"] / 2) < 2
    assert root["x"] < inside["x"] and root["y"] < inside["y"]
    assert root["x"] + root["width"] - inside["x"] - inside["width"] < 2, "room beside a root: tools/vendor/font.py"
    context.close()
