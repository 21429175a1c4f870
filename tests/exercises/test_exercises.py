"""Do the checks know right from wrong? Solutions pass, wrong answers get their words, mutants are caught."""

import ast
import functools
import importlib
import re
import time
from pathlib import Path

import mutants
import pytest
import torch
from chapters import ROOT, code_cells, imports, read, twins
from check import module_order
from right_answers import RIGHT
from wrong_answers import WRONG

from vit_edu.exercises import Code, Prediction, check, find, report

for path in sorted(Path(__file__).parent.glob("wrong_*.py")):
    importlib.import_module(path.stem)

CHAPTERS = [twin for twin in twins() if mutants.checks_of(twin.stem)]
CHECKS = [known for twin in CHAPTERS for known in mutants.checks_of(twin.stem)]
FUNCTIONS = [known.name for known in CHECKS if isinstance(known, Code)]
PREDICTIONS = [known for known in CHECKS if isinstance(known, Prediction)]

by_name = pytest.mark.parametrize("exercise", FUNCTIONS, indirect=True)
by_chapter = pytest.mark.parametrize("twin", CHAPTERS, ids=lambda twin: twin.stem)


@functools.cache
def exercises() -> dict[str, mutants.Exercise]:
    return {exercise.known.name: exercise for exercise in mutants.exercises([twin.stem for twin in CHAPTERS])}


@pytest.fixture
def exercise(request) -> mutants.Exercise:
    return exercises()[request.param]


def test_every_function_to_write_has_its_solution():
    assert list(exercises()) == FUNCTIONS


@by_name
def test_the_chapters_solution_passes(exercise):
    start = time.process_time()
    words = report(mutants.built(exercise, exercise.tree))
    assert words.startswith(f"✓ {exercise.known.name}: {len(list(exercise.known.cases()))} cases, "), words
    assert time.process_time() - start < 2


@by_name
def test_a_solution_stays_quiet_and_leaves_no_trace(exercise, capsys):
    state, mode, kind = torch.get_rng_state(), torch.is_grad_enabled(), torch.get_default_dtype()
    check(mutants.built(exercise, exercise.tree))
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 1 and printed.err == ""
    assert torch.equal(state, torch.get_rng_state())
    assert (mode, kind) == (torch.is_grad_enabled(), torch.get_default_dtype())


@pytest.mark.parametrize(
    ("name", "words", "function"),
    [(name, words, function) for name, answers in WRONG.items() for words, function in answers],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_answer_gets_its_words(name, words, function):
    told = report(function)
    assert told.startswith(f"✗ {name}") and words in told, told
    assert "it shows with" in told


@pytest.mark.parametrize("function", RIGHT, ids=lambda function: function.__name__)
def test_another_right_answer_passes_too(function):
    assert report(function).startswith(f"✓ {function.__name__}")


@by_name
def test_every_exercise_has_wrong_answers_of_four_kinds(exercise):
    assert len({words for words, _ in WRONG[exercise.known.name]}) >= 4


@by_name
def test_nearly_all_mutants_are_caught(exercise):
    caught, _, survived = mutants.sweep(exercise)
    assert caught >= 5 and caught >= 0.95 * (caught + len(survived)), survived


def test_mutants_said_to_be_equal_exist():
    """The list of mutants that do what the solution does holds none that is gone, and a reason for each."""
    made = {(e.known.name, words) for e in exercises().values() for words, _ in mutants.mutants(e.tree)}
    assert set(mutants.EQUIVALENT) <= made and all(mutants.EQUIVALENT.values())


@by_name
def test_words_are_for_people(exercise):
    """Each mistake says one thing in a sentence of its own, and is recognised in one way."""
    known = exercise.known
    words = [mistake.words for mistake in known.mistakes]
    assert len(words) == len(set(words)) >= 4
    for mistake in known.mistakes:
        assert (mistake.like is None) != (mistake.when is None)
        assert 20 < len(mistake.words) < 160 and not mistake.words[0].isupper() and mistake.words[-1] != "."


# In the chapter


def stubs(twin) -> dict[str, ast.FunctionDef]:
    """The functions of a chapter that hold nothing but a docstring and `...`."""
    nodes = [node for _, cell in code_cells(read(twin)) for node in mutants.parsed(cell.source)]
    return {n.name: n for n in nodes if isinstance(n, ast.FunctionDef) and ast.unparse(n.body[-1]) == "..."}


def calls(twin) -> list[tuple[str, bool]]:
    """What a chapter gives to `check`: (name, whether it is a prediction), in order."""
    found = []
    for _, cell in code_cells(read(twin)):
        for node in ast.walk(ast.Module(mutants.parsed(cell.source), [])):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check":
                (first,) = node.args
                found.append((first.value, True) if isinstance(first, ast.Constant) else (first.id, False))
    return found


@by_chapter
def test_every_check_has_its_stub_and_every_stub_its_check(twin):
    known = mutants.checks_of(twin.stem)
    functions = {c.name: c for c in known if isinstance(c, Code)}
    assert set(stubs(twin)) == set(functions)
    for name, node in stubs(twin).items():
        assert " ".join(ast.get_docstring(node).split()) == functions[name].task
        right = exercises()[name].tree
        assert ast.unparse(node.args) == ast.unparse(right.args)
    used = calls(twin)
    assert {name for name, _ in used} == {c.name for c in known}
    for name, is_prediction in used:
        assert isinstance(find(name), Prediction) == is_prediction
        if not is_prediction:
            assert used.count((name, False)) == 2    # once for the reader, once under the solution


@by_chapter
def test_a_check_stands_in_the_exercise_of_its_name(twin):
    """A prediction's check bears its exercise's label, and stands between its start and its end."""
    label, seen = None, {}
    for cell in read(twin).cells:
        if cell.cell_type == "markdown":
            for line in cell.source.split("\n"):
                label = line.split()[-1] if line.startswith(":label:") else label
                label = None if line.startswith((":::{exercise-end}", ":::{solution-end}")) else label
        elif "check(" in cell.source:
            for name in re.findall(r'check\(\s*"([\w-]+)"', cell.source):
                seen.setdefault(name, label)
    assert all(name == label for name, label in seen.items()), seen


@by_chapter
def test_untouched_stubs_say_so_calmly(twin, capsys):
    for name, node in stubs(twin).items():
        names = {}
        exec(compile(ast.Module([node], []), "stub", "exec"), names)
        check(names[name])
        assert capsys.readouterr().out == f"not written yet: {name}\n"
    for known in mutants.checks_of(twin.stem):
        if isinstance(known, Prediction):
            check(known.name, answer=...)
            check(known.name, answer=(..., ...) if len(known.parts) == 2 else ...)
            assert capsys.readouterr().out == 2 * f"not answered yet: {known.name}\n"


@by_chapter
def test_checks_import_only_what_was_read(twin):
    place = module_order(ROOT)
    here = list(twins()).index(twin)
    source = (ROOT / "vit_edu" / "exercises" / f"{twin.stem.split('_', 1)[-1]}.py").read_text("utf-8")
    for parts in (name.split(".") for name in imports(source)):
        if parts[0] == "vit_edu" and parts[1] != "exercises":
            assert place[parts[1]] <= here, ".".join(parts)


def test_every_file_of_checks_belongs_to_a_chapter():
    files = {path.stem for path in (ROOT / "vit_edu" / "exercises").glob("[a-z]*.py")}
    assert files <= {twin.stem.split("_", 1)[-1] for twin in twins()}


# Predictions


@pytest.mark.parametrize("known", PREDICTIONS, ids=lambda known: known.name)
def test_predictions(known):
    """The right answer is right, every usual wrong one gets its words, and these give nothing right away."""
    right = tuple(part.right for part in known.parts)
    told = report(known.name, right if len(right) > 1 else right[0])
    assert told.count("✓") == len(right) and "✗" not in told
    for n, part in enumerate(known.parts):
        assert len(part.wrong) >= 2
        for value, words in part.wrong.items():
            assert not part.equals(value, part.right)
            answer = [..., *[...] * (len(right) - 1)]
            answer[n] = value
            told = report(known.name, tuple(answer) if len(right) > 1 else value)
            assert f"✗ {part.what}" in told and words in told
            assert told.count("not answered yet") == len(right) - 1


def test_other_answers_to_predictions():
    name = "ex-attention-shapes"
    assert "(1, 197) has 2 numbers, it should have 3" in report(name, ((1, 197),) + (...,) * 5)
    assert "number of weights: 5 is too small" in report(name, (..., ..., ..., 5, ..., ...))
    assert "number of weights: 10000000 is too large" in report(name, (..., ..., ..., 10**7, ..., ...))
    assert "is one thing; a list or a tuple is asked for" in report(name, (3, ..., ..., ..., ..., ...))
    assert report(name, 3).startswith(f"✗ {name} asks for 6 things, in this order: shape of qkv(x), shape of q, ")
    assert report("ex-attention-bias", "w") == "✗ the idle bias: 'w' is none of k, q, v"
    assert report("ex-attention-bias", " K ") == "✓ the idle bias: ' K '"
    assert report(name, (torch.Size([1, 197, 2304]), ..., ..., ..., ..., ...)).startswith("✓ shape of qkv(x)")


# The reader's own errors


def test_an_error_is_shown_at_the_readers_line():
    def attention_in_pieces(query, keys, values, piece=5):
        scores = keys @ query
        return scores.sotfmax(0)

    told = report(attention_in_pieces).split("\n")
    line = attention_in_pieces.__code__.co_firstlineno + 2
    assert told[0] == f"✗ attention_in_pieces stops in line {line}: return scores.sotfmax(0)"
    assert told[1].startswith("  AttributeError: 'Tensor' object has no attribute 'sotfmax'")
    assert told[2] == "  it shows with query = [1], keys = [[1]], values = [[1]], piece = 1"


def test_an_error_inside_the_library_is_shown_at_the_readers_line():
    def attention_in_pieces(query, keys, values, piece=5):
        weights = torch.nn.functional.softmax(keys @ query, dim=7)
        return weights @ values

    assert "weights = torch.nn.functional.softmax(keys @ query, dim=7)\n  IndexError" in report(attention_in_pieces)


def test_other_arguments_are_named():
    def attention_in_pieces(query, keys):
        return query

    assert "cannot be called with (query, keys): TypeError" in report(attention_in_pieces)


def test_not_implemented_is_not_written():
    def attention_in_pieces(query, keys, values, piece=5):
        raise NotImplementedError

    assert report(attention_in_pieces) == "not written yet: attention_in_pieces"


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("ex-attention-shape",), ValueError, "'ex-attention-shape'; near to it: ex-attention-shapes"),
        ((len,), ValueError, "no exercise is called 'len'"),
        (("attention_in_pieces",), TypeError, r"check\(attention_in_pieces\), without quotes"),
        ((3,), TypeError, "not 3"),
    ],
)
def test_what_is_no_exercise_is_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        check(*arguments)
