"""The recall questions: gathered as the chapters ask them, and those that cannot be are noticed."""

import re

import check
import pytest
import questions
from chapters import ROOT, twins
from quiet_pages import soon

CHAPTER = """# Dogs and `cats`

## Questions to come back to

{folds}
## Summary

Nothing.
"""
FOLD = ":::{{dropdown}} What is {n}, and $\\sqrt {n}$?\n:class-container: question\n{n} is\n\na number.\n:::\n\n"


def project(tmp_path, *counts, change=("", "")):
    (tmp_path / "book" / "text").mkdir(parents=True)
    for number, count in enumerate(counts, 1):
        folds = "".join(FOLD.format(n=10 * number + n) for n in range(count))
        text = CHAPTER.format(folds=folds).replace(*change) if count else "# Quiet\n\nNo question.\n"
        (tmp_path / "book" / "text" / f"0{number}_name.md").write_text(text)
    return tmp_path


def test_all_questions_stand_on_one_page_in_reading_order(tmp_path):
    root = project(tmp_path, 5, 0, 6)
    assert questions.write(root, check=True) == [root / "book" / "questions.md"]
    assert not (root / "book" / "questions.md").exists()
    questions.write(root)
    text = (root / "book" / "questions.md").read_text()
    assert re.findall(r"What is (\d+)", text) == [str(n) for n in [*range(10, 15), *range(30, 36)]]
    assert text.count("\n## ") == 2 and "32 is\n\na number." in text
    assert questions.write(root) == [] == check.questions_are_gathered(root)


def test_what_cannot_be_gathered_is_noticed(tmp_path):
    root = project(tmp_path / "few", 4)
    questions.write(root)
    assert check.questions_are_gathered(root) == ["01_name.md asks 4 questions to come back to; five to eight are good"]
    root = project(tmp_path / "markup", 5, change=(":class-container: question\n12", ":class: question\n12"))
    questions.write(root)
    assert check.questions_are_gathered(root) == ["01_name.md: 4 of 5 questions stand as tools/questions.py wants them"]
    root = project(tmp_path / "stale", 5)
    assert check.questions_are_gathered(root) == ["questions.md is not what the chapters ask: run `make sync`"]


def test_a_project_without_questions_has_no_such_page(tmp_path):
    root = project(tmp_path, 0)
    assert questions.write(root) == [] and check.questions_are_gathered(root) == []


def test_part_one_asks():
    for twin in [twin for twin in twins() if re.match("0[1-5]_", twin.stem)]:
        text = twin.read_text("utf-8")
        assert text.index("\n## Exercises\n") < text.index(f"\n{questions.HEADING}\n") < text.index("\n## Summary\n")
        assert 5 <= len(questions.questions(twin)) <= 8
    assert "book/questions" in (ROOT / "_toc.yml").read_text()


# The page's script, in a small page of the same structure, and in the built one


SCRIPT = (ROOT / "book" / "assets" / "questions.js").read_text("utf-8")
STYLE = (ROOT / "book" / "assets" / "book.css").read_text("utf-8")
ASKED = [["A one?", "A two?"], ["B one?", "B two?", "B three?", "B four?"]]
LIST = "".join(
    f"<section><h2>Chapter {n}</h2>"
    + "".join(f"<details class=question><summary><span>{q}</span></summary><p>Answer to {q}</p></details>" for q in asked)
    + "</section>"
    for n, asked in enumerate(ASKED)
)
NO_STORAGE = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('denied', 'SecurityError') }})"


@pytest.fixture
def listed(browser, tmp_path):
    """Open a small page of questions; nothing may go wrong in it."""
    path, noise = tmp_path / "questions.html", []
    path.write_text(
        f"<!doctype html><meta charset=utf-8><style>{STYLE}</style><article class='bd-article bd-content'>{LIST}</article>"
        f"<script>{SCRIPT}</script>", "utf-8"
    )  # fmt: skip
    contexts = []

    def open_page(before: str = "", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.add_init_script(before)
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert noise == []


def shown(page) -> list[str]:
    return page.locator("summary:visible").all_inner_texts()


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def test_one_at_a_time_until_all_are_known(listed):
    page = listed()
    assert len(shown(page)) == 6 and page.get_by_role("status").inner_text() == "0 of 6 known."
    press(page, "shuffle")
    met = []
    for n in range(6):
        (question,) = shown(page)
        met.append(question)
        assert page.locator("h2:visible").count() == 1
        assert page.evaluate("document.activeElement.innerText") == question    # a screen reader reads it
        assert page.get_by_role("status").inner_text() == f"{n} of 6 known, {6 - n} to go."
        assert page.locator("p:visible", has_text="Answer").count() == 0
        page.keyboard.press("Enter")
        assert page.locator("p:visible", has_text="Answer").inner_text() == f"Answer to {question}"
        press(page, "known")
    assert sorted(met) == sorted(sum(ASKED, []))
    assert len(shown(page)) == 6 and page.get_by_role("status").inner_text() == "6 of 6 known: all of them."
    assert page.get_by_role("button", name="shuffle").is_disabled()
    assert page.evaluate("document.activeElement.innerText") == "forget what I know"
    page.reload()
    assert page.get_by_role("status").inner_text() == "6 of 6 known: all of them."
    press(page, "forget what I know")
    page.reload()
    assert page.get_by_role("status").inner_text() == "0 of 6 known."


def test_again_comes_again_soon_and_is_not_known(listed):
    page = listed()
    press(page, "shuffle")
    (question,) = shown(page)
    press(page, "again")
    met = []
    for _ in range(5):
        met += shown(page)
        press(page, "known")
    assert met[4] == question and question not in met[:4]    # four others come before it
    press(page, "again")
    assert len(shown(page)) == 1    # the last one, at once again
    press(page, "stop")
    assert len(shown(page)) == 6 and page.get_by_role("status").inner_text() == "5 of 6 known."


def test_orders_differ(listed):
    page, firsts = listed(), set()
    for _ in range(30):
        press(page, "shuffle")
        firsts.update(shown(page))
        press(page, "stop")
    assert len(firsts) > 2


@pytest.mark.parametrize("before", [NO_STORAGE, "localStorage.setItem('vit-edu-known-questions', '{oh')",
                                    "localStorage.setItem('vit-edu-known-questions', '7')"])  # fmt: skip
def test_without_storage_it_works_until_the_page_is_left(listed, before):
    page = listed(before)
    press(page, "shuffle")
    press(page, "known")
    press(page, "stop")
    assert page.get_by_role("status").inner_text() == "1 of 6 known."


def test_without_javascript_and_on_paper_it_is_a_plain_list(listed):
    page = listed(java_script_enabled=False)
    assert len(shown(page)) == 6 and page.locator("button").count() == 0
    page = listed()
    press(page, "shuffle")
    page.emulate_media(media="print")
    assert len(shown(page)) == 6 and page.locator("button:visible").count() == 0


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 320)])
def test_in_the_built_page(browser, site, theme, width):
    """With a real chapter's questions: one is shown, fingers find the buttons, axe finds nothing serious."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(color_scheme=theme, viewport={"width": width, "height": 844}, has_touch=width < 500)
    page = context.new_page()
    page.goto(f"{site.http}/book/questions.html")
    total = page.locator("details.question").count()
    assert total == (ROOT / "book" / "questions.md").read_text("utf-8").count("{dropdown}") > 0
    page.get_by_role("button", name="shuffle").click()
    page.locator("summary:visible").first.press("Enter")
    for button in page.locator(".recall button:visible").all():
        assert button.bounding_box()["height"] >= 44
    found = axe.run(page, context={"include": [["article"]]}).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")] == []
    known = page.get_by_role("button", name="known", exact=True)
    known.tap() if width < 500 else known.click()
    soon(page, lambda: page.locator("details.question:visible").count() == 1)
    assert page.locator(".recall [role=status]").inner_text() == f"1 of {total} known, {total - 1} to go."
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
