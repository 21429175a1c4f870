"""The boxes of the Predict exercises, in a browser: they say what `check` says, and show nothing before an answer."""

import importlib
import math
import random
import re
from pathlib import Path

import pytest
from accessible import SILENTLY
from chapters import ROOT, code_cells, read, twins
from predict_boxes import ASKS, box, data
from quiet_pages import soon

from vit_edu.exercises import Part, Prediction, find, judge_answer
from vit_edu.exercises._compare import is_number, show

SCRIPT = (ROOT / "book" / "assets" / "predict.js").read_text("utf-8")
CHAPTERS = {twin.stem: names for twin in twins() if (names := list(dict.fromkeys(
    name for _, cell in code_cells(read(twin)) for name in ASKS.findall(cell.source))))}  # fmt: skip
FILES = sorted(path.stem for path in (ROOT / "vit_edu" / "exercises").glob("[a-z]*.py"))
PREDICTIONS = [
    known
    for name in FILES
    for known in importlib.import_module(f"vit_edu.exercises.{name}").CHECKS
    if isinstance(known, Prediction)
]
CHAPTER = next(iter(CHAPTERS))
EXAMPLE = Prediction("ex-example", "Kinds that the chapters may come to need.", [
    Part("ordered", ("q", "k"), {("k", "q"): "the other way round"}),
    Part("true?", True, {False: "it is"}),
    Part("a word or none", "none", {0: "that is a number", "all": "not all"}),
    Part("one", (5,), {(6,): "one less"}),
    Part("none", [], {(1,): "not even this"}),
    Part("near", 0.1, {0.3: "three of them"}, within=0.02),
])  # fmt: skip


@pytest.fixture(scope="module")
def script(browser):
    """Call the script's functions: script("predictBoxes.show(x)", x=3)."""
    page = browser.new_page()

    def call(expression: str, **values):
        body = f"{SCRIPT}\nreturn {expression}"
        run = "([names, values, body]) => new Function(...names, body)(...values)"
        return page.evaluate(run, [list(values), list(values.values()), body])

    yield call
    page.close()


def as_python(value, part):
    """A value of the page's as a notebook would have it: whole numbers are integers, sequences what the part has."""
    if isinstance(value, list):
        return (list if isinstance(part.right, list) else tuple)(as_python(item, part) for item in value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def answers(part: Part, seed: str) -> list:
    """Right, wrong, near to them, and far away."""
    found = [part.right, *part.wrong]
    if is_number(part.right):
        chance = random.Random(seed)
        found += [part.right + sign * part.within * by for by in (0.5, 0.999, 1, 1.001, 2) for sign in (-1, 1)]
        found += [0, -1, 3.5, 10**7, 12345.678, 1e-7, 2.0**60, -part.right, 1000.5, 100.25, 100.75]
        found += [chance.uniform(-2, 2) * 10 ** chance.randint(-6, 18) for _ in range(20)]
    if isinstance(part.right, (list, tuple)):
        found += [(), (1,), (1, 2, 3, 4, 5), tuple(part.right)[::-1], (0.5, 1 / 3), 3]
    return [*found, "", "quite different", True]


def typed(value) -> str:
    """A value as a reader would type it, as precisely as it is."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(typed, value)) or "()"
    return value if isinstance(value, str) else repr(value)


@pytest.mark.parametrize("known", [*PREDICTIONS, EXAMPLE], ids=lambda known: known.name)
def test_the_page_says_what_python_says(script, known):
    """For right, wrong and odd answers, one part at a time, and for all right ones together."""
    nothing = [None] * len(known.parts)
    asked = [(nothing, "nothing")]
    for n, part in enumerate(known.parts):
        asked += [(nothing[:n] + [value] + nothing[n + 1 :], value) for value in answers(part, f"{known.name} {n}")]
    asked.append(([part.right for part in known.parts], "all"))
    told = script("asked.map(all => predictBoxes.report(known, all.map(one => one ?? undefined)))",
                  asked=[all for all, _ in asked], known=data(known))  # fmt: skip
    for (given, what), words in zip(asked, told, strict=True):
        given = tuple(
            ... if one is None else as_python(list(one) if isinstance(one, tuple) else one, part)
            for one, part in zip(given, known.parts)
        )
        assert words == judge_answer(known, given if len(given) > 1 else given[0]), what


@pytest.mark.parametrize("known", [*PREDICTIONS, EXAMPLE], ids=lambda known: known.name)
def test_every_known_answer_can_be_given(script, known):
    """What can be typed, or chosen, holds the right answer and each of the usual wrong ones."""
    for part, described in zip(known.parts, data(known)["parts"], strict=True):
        for value in (part.right, *part.wrong):
            if is_number(part.right) or isinstance(part.right, (list, tuple)):
                got = script("predictBoxes.parse(text, part)", text=typed(value), part=described)
            else:
                got = next(c for c in script("predictBoxes.choices(part)", part=described) if c == value)
            assert got is not None and part.equals(as_python(got, part), value), typed(value)


def test_numbers_are_shown_as_python_shows_them(script):
    chance = random.Random(0)
    numbers = [chance.choice([-1, 1]) * math.exp(chance.uniform(-40, 60)) for _ in range(2000)]
    numbers += [n / 8 for n in range(-9000, 90000, 7)] + [10.0**n for n in range(-12, 23)]
    numbers += [9999.5, 99999.4, 0.99995, 1e-4, 9.9999e-5, 123456.5, 1e9 + 0.5]
    shown = script("numbers.map(x => predictBoxes.show(x, {}))", numbers=numbers)
    assert shown == [show(as_python(number, None)) for number in numbers]


NUMBER, SHAPE, SIZES = data(Prediction("ex", "", [Part("n", 1.5), Part("s", (1, 2)), Part("l", [1, 2])]))["parts"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("197", 197), (" 0.25 ", 0.25), ("0,25", 0.25), (".5", 0.5), ("5.", 5), ("1,536", 1536),
        ("1,234,567.5", 1234567.5),
        ("465_708", 465708), ("25 %", 0.25), ("1/17", 1 / 17), ("12 * 197**2", 12 * 197**2), ("4·768^2 + 4×768", 2362368),
        ("-2**2", -4), ("2**-1", 0.5), ("2**3**2", 512), ("(1 + 2) * 3 - 4", 5), ("8/2/2", 2), ("√768", 768**0.5),
        ("768**0.5", 768**0.5), ("1e-3", 0.001), ("−3", -3), ("25, 39", [25, 39]), ("(25, 39)", [25, 39]),
        ("", "nothing"), ("   ", "nothing"), ("many", None), ("1/0", None), ("(1", None), ("1)", None),
        ("()", None), ("1..2", None), ("5 apples", None), ("alert(1)", None),
    ],
)  # fmt: skip
def test_numbers_are_read(script, text, value):
    """As in a notebook, and as people write them; "nothing" is an empty field, None what cannot be read."""
    got = script("[predictBoxes.parse(text, part)].map(x => x === undefined ? 'nothing' : x)[0]", text=text, part=NUMBER)
    assert got == (pytest.approx(value, rel=1e-15) if is_number(value) else value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1, 197, 2304", [1, 197, 2304]), ("(1, 197, 2304)", [1, 197, 2304]), ("[1,197,2304]", [1, 197, 2304]),
        ("torch.Size([1, 197, 2304])", [1, 197, 2304]), ("1 × 197 × 2304", [1, 197, 2304]), ("1x2", [1, 2]),
        ("1 197 2304", [1, 197, 2304]), ("12,197,197", [12, 197, 197]), ("1, 3*768", [1, 2304]), ("5", [5]), ("(5,)", [5]),
        ("1; 2", [1, 2]), ("-1, 0.5", [-1, 0.5]), ("()", []), ("1, two", None), ("a shape", None),
    ],
)  # fmt: skip
def test_shapes_are_read(script, text, value):
    assert script("predictBoxes.parse(text, part)", text=text, part=SHAPE) == value
    assert script("predictBoxes.parse(text, part)", text=text, part=SIZES) == value


def test_nothing_of_an_answer_escapes_from_its_box():
    html = box(Prediction("ex-odd", "", [Part("</script>", "<b>", {"&": "</script><script>alert(1)</script>"})]))
    assert html.count("</script>") == 1 and "<b>" not in html and "alert" in html
    with pytest.raises(ValueError):
        box(Prediction("ex-odd", "", [Part("n", math.inf)]))


# In the built pages


@pytest.fixture
def visit(windows, site):
    """Open a chapter's page; it must stay silent and ask for nothing elsewhere."""
    opened = []
    with windows.borrowed() as window:

        def open_page(name=CHAPTER, width=1280, **options):
            page, heard = window(viewport={"width": width, "height": 844}, reduced_motion="reduce", **options)
            opened.append(heard)
            page.goto(f"{site.http}/book/{name}.html")
            return page

        yield open_page
        heard = [one for heard in opened for one in heard if one[0] in ("error", "request")]
    assert [one for one in heard if not one[1].startswith((site.http, "data:"))] == []


def solution(page, name):
    return page.locator(f".solution:has(> .admonition-title a[href='#{name}'])")


def fill(form, known: Prediction, right: bool):
    """Give an answer to every part of a box."""
    for n, part in enumerate(known.parts, 1):
        value = part.right if right else next(iter(part.wrong))
        if is_number(part.right) or isinstance(part.right, (list, tuple)):
            form.locator(f"#predict-{known.name}-{n}").fill(typed(value))
        else:
            form.get_by_role("radio", name=value if isinstance(value, str) else show(value), exact=True).locator(
                f"xpath=self::*[@name='predict-{known.name}-{n}']"
            ).check()


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_prediction_of_a_chapter_has_its_box(visit, name):
    """Wrong answers and right ones get their words; until then the solution waits."""
    page = visit(name)
    assert page.locator(".predict:not([hidden])").count() == len(CHAPTERS[name])
    for exercise in CHAPTERS[name]:
        known, form = find(exercise), page.locator(f"[id='{exercise}'] .predict-form")
        assert form.count() == 1
        fold = solution(page, exercise)
        assert fold.count() == 0 or not fold.is_visible()
        for right in False, True:
            fill(form, known, right)
            form.get_by_role("button", name="check").click()
            given = tuple(part.right if right else next(iter(part.wrong)) for part in known.parts)
            given = tuple(as_python(list(v) if isinstance(v, tuple) else v, p) for v, p in zip(given, known.parts))
            told = [text for text in form.locator(".predict-part .predict-verdict").all_text_contents()]
            assert "\n".join(told) == judge_answer(known, given if len(given) > 1 else given[0])
        if fold.count():
            assert fold.is_visible() and "toggle-hidden" in fold.get_attribute("class")


def test_by_keyboard(visit):
    """Tab reaches the fields and both buttons; Enter checks; "show me" opens the solution and leads to it."""
    page = visit("02_attention")
    field = page.locator("#predict-ex-attention-silent-1")
    field.focus()
    page.keyboard.press("Enter")
    form = page.locator("#ex-attention-silent .predict-form")
    assert form.locator(".predict-verdict").all_text_contents() == ["", "", "not answered yet"]
    assert not solution(page, "ex-attention-silent").is_visible()
    page.keyboard.type("one half")
    page.keyboard.press("Enter")
    assert form.locator(".predict-verdict").first.text_content().startswith("? each weight: a number")
    assert not solution(page, "ex-attention-silent").is_visible()    # nothing that can be read, so no answer
    page.keyboard.press("Control+a")
    page.keyboard.type("1/16")
    assert form.locator(".predict-verdict").first.text_content() == ""    # what was said was said of another answer
    page.keyboard.press("Enter")
    assert "a token attends to itself" in form.locator(".predict-verdict").first.text_content()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.evaluate("document.activeElement.checked") is True
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert "✓ it takes home: 'mean'" in form.locator(".predict-verdict").all_text_contents()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    fold = solution(page, "ex-attention-silent")
    assert fold.is_visible() and "toggle-hidden" not in fold.get_attribute("class")
    assert fold.evaluate("fold => fold.contains(document.activeElement)")


def test_show_me_needs_no_answer(visit):
    page = visit("02_attention")
    page.locator("#ex-attention-flops").get_by_role("button", name="show me").click()
    assert solution(page, "ex-attention-flops").locator("p").nth(1).is_visible()
    assert not solution(page, "ex-attention-silent").is_visible()    # one box speaks for its own exercise


def test_what_a_screen_reader_gets(visit):
    page = visit("02_attention")
    form = page.get_by_role("form", name="Your prediction").nth(1)
    assert form.get_by_role("textbox", name="each weight").count() == 1
    group = form.get_by_role("group", name="it takes home")
    assert group.get_by_role("radio").count() == len(find("ex-attention-silent").parts[1].wrong) + 1
    for field in form.locator("input").all():
        described = page.locator(f"[id='{field.get_attribute('aria-describedby')}']")
        assert described.get_attribute("aria-live") == "polite"


BOXES = "all => all.map(one => one.getBoundingClientRect()).map(box => [box.height, box.right])"


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390), ("light", 320)])
def test_after_an_answer_the_page_is_still_in_order(visit, theme, width):
    """No sideways scrolling, targets for fingers, nothing serious for axe; by touch where the window is small."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit("02_attention", width, color_scheme=theme, has_touch=width < 500)
    for exercise in CHAPTERS["02_attention"]:
        form = page.locator(f"[id='{exercise}'] .predict-form")
        fill(form, find(exercise), right=exercise == CHAPTERS["02_attention"][0])
        button = form.get_by_role("button", name="check")
        button.tap() if width < 500 else button.click()
        soon(page, form.locator(".predict-verdict").first.inner_text)
        boxes = form.locator("button, input[type=text], label:has(input)").evaluate_all(BOXES)
        assert boxes and all(height >= 44 and right <= width for height, right in boxes)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = axe.run(page, context={"include": [[".predict"]]}, options=SILENTLY).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")] == []


def test_nothing_is_kept(visit):
    """An answer leaves no trace in the browser."""
    page = visit("02_attention")
    kept = "[JSON.stringify(localStorage), JSON.stringify(sessionStorage), document.cookie]"
    before = page.evaluate(kept)
    form = page.locator("#ex-attention-bias .predict-form")
    fill(form, find("ex-attention-bias"), right=True)
    form.get_by_role("button", name="check").click()
    assert page.evaluate(kept) == before and "predict" not in page.url


def test_on_paper_the_exercise_is_plain(visit):
    page = visit("02_attention")
    page.emulate_media(media="print")
    assert page.locator(".predict:visible").count() == 0
    assert solution(page, "ex-attention-silent").locator("p").nth(1).is_visible()
    assert page.locator("#ex-attention-silent .cell_output").is_visible()


def test_without_javascript_the_exercise_is_plain(visit):
    page = visit("02_attention", java_script_enabled=False)
    assert page.locator(".predict:visible").count() == 0 and page.locator(".predict").count() == 5
    assert solution(page, "ex-attention-silent").is_visible()
    assert page.locator("#ex-attention-silent .cell_output").is_visible()


def test_answers_are_not_found_by_the_search(site):
    """The words of a box are no part of what the page says: the search does not know them."""
    index = (site.folder / "searchindex.js").read_text("utf-8").lower()
    pages = "\n".join((site.folder / page).read_text("utf-8") for page in site.pages).lower()
    seen = re.sub("<script.*?</script>", "", pages, flags=re.S)
    wrong = "\n".join(words for known in PREDICTIONS for part in known.parts for words in part.wrong.values())
    words = set(re.findall("[a-z]{8,}", wrong))
    rare = {word for word in words if word[:6] not in seen}
    found = set(re.findall(r'"([a-z]+)": \[?\d', index))    # the index's stems that lead to a page
    assert len(found) > 1000 and rare and not {stem for word in rare for stem in found if stem.startswith(word[:6])}


def test_the_script_asks_for_nothing():
    assert not re.search(r"\b(fetch|XMLHttpRequest|sendBeacon|localStorage|sessionStorage|cookie|eval|Function)\b", SCRIPT)
    assert Path(ROOT / "_config.yml").read_text().count("predict.js") == 1
