"""The recall questions: gathered as the chapters ask them, and those that cannot be are noticed."""

import re

import check
import questions
from chapters import ROOT, twins

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
