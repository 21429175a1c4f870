"""Checks for the exercises: is the reader's answer right and, if it is not, which mistake is it?

    from vit_edu.exercises import check
    check(attention_in_pieces)                                  # a function that the reader wrote
    check("ex-attention-shapes", answer=((1, 197, 2304), ...))  # a prediction; `...` is not answered yet

`check` prints what it found and returns nothing. An untouched stub and an empty answer get one calm line.

**To add an exercise** to chapter NN_name, write into this folder's `name.py` and put the check into its `CHECKS`.
A check of a function is a `Code`: the function's name, the task (the stub's docstring), the cases (a function that
gives tuples of arguments, the smallest first: the first that fails is the example the reader sees), a reference
(another way to the same result, with the same arguments), a few words on what was tried, and the known mistakes.
A `Mistake` has words, and one way to be recognised: `like`, a function that makes this mistake, compared with the
reader's on all cases; or `when(function, *arguments)`, true if the mistake shows. Where a result is a module,
`observe(result, *arguments)` turns it into numbers. A check of a number or a word is a `Prediction` of `Part`s,
each with the right value and the usual wrong ones with their words. Say what is wrong, not what is right.

The stub stands inside the exercise, before its end, and is executed as it is; the folded solution defines the same
name and calls `check` again. A file here imports only what its own and earlier chapters wrote. The tests take each
solution from the chapter: it must pass, four wrong answers must get their words, and one-point mutants of the
solution must be caught (`python tools/mutants.py` prints the table).
"""

import contextlib
import copy
import difflib
import dis
import importlib
import inspect
import linecache
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vit_edu.exercises._compare import difference, is_number, place, same, show

__all__ = ["Code", "Mistake", "Part", "Prediction", "check", "find", "report"]


@dataclass(frozen=True)
class Mistake:
    """A known mistake: what to say, and a function that makes it or a question that finds it."""

    words: str
    like: Callable | None = None  # the same arguments as the exercise, a wrong result
    when: Callable | None = None  # (function, *arguments): is this mistake made?


def as_it_is(result: Any, *arguments: Any) -> Any:
    return result


@dataclass(frozen=True)
class Code:
    """The check of a function that the reader writes; the module's docstring tells what the fields are."""

    name: str
    task: str
    cases: Callable[[], Iterable[tuple]]
    reference: Callable
    tried: str
    mistakes: list[Mistake]
    observe: Callable = as_it_is
    returns: type | tuple[type, ...] | None = None
    tolerance: float = 1e-4


@dataclass(frozen=True)
class Part:
    """One thing to predict: its name, the right value, usual wrong values with their words, how near is right."""

    what: str
    right: Any
    wrong: dict[Any, str] = field(default_factory=dict)
    within: float = 0.0

    def equals(self, answer: Any, value: Any) -> bool:
        if is_number(answer) and is_number(value):
            return abs(answer - value) <= self.within
        if isinstance(answer, str) and isinstance(value, str):
            return answer.strip().casefold() == value.casefold()
        if isinstance(answer, (list, tuple)) and isinstance(value, (list, tuple)):
            return len(answer) == len(value) and all(map(self.equals, answer, value))
        return type(answer) is type(value) and answer == value


@dataclass(frozen=True)
class Prediction:
    """The check of a number, a shape or a word that the reader predicts, in one part or several."""

    name: str
    task: str
    parts: list[Part]


def check(exercise: Callable | str, answer: Any = ...) -> None:
    """Print whether a function, or the answer to a prediction, is right and, if not, which mistake it looks like.

    exercise: the reader's function, known by its name, or an exercise's label such as "ex-attention-shapes"
    answer: for a label; a tuple where several things are asked, `...` for what is not answered yet
    """
    print(report(exercise, answer))


def report(exercise: Callable | str, answer: Any = ...) -> str:
    """What `check` prints. ValueError if there is no such exercise, TypeError if it is given something else."""
    if isinstance(exercise, str):
        known = find(exercise)
        if isinstance(known, Prediction):
            return judge_answer(known, answer)
        raise TypeError(f"{exercise} is a function to write: check({exercise}), without quotes")
    if not callable(exercise):
        raise TypeError(f"check takes a function or an exercise's label, not {show(exercise)}")
    known = find(getattr(exercise, "__name__", type(exercise).__name__))
    if isinstance(known, Prediction):
        raise TypeError(f'{known.name} is a prediction: check("{known.name}", answer=...)')
    with torch.random.fork_rng(devices=[]):    # the CPU's chance alone: no GPU's is touched here
        return judge_code(known, exercise)


def find(name: str) -> Code | Prediction:
    """The check of this name; only the chapter's own file, the one that holds the name, is imported."""
    names = []
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        found = re.findall(r'(?:Code|Prediction)\(\s*(?:name=)?"([\w-]+)"', path.read_text("utf-8"))
        if name in found:
            module = importlib.import_module(f"{__name__}.{path.stem}")
            return next(known for known in module.CHECKS if known.name == name)
        names += found
    near = ", ".join(difflib.get_close_matches(name, names, n=3, cutoff=0.5))
    raise ValueError(f"no exercise is called {name!r}{f'; near to it: {near}' if near else ''}: keep the stub's name")


# Predictions


def judge_answer(known: Prediction, answer: Any) -> str:
    """The verdict on a prediction, a line for each part that was answered."""
    parts = known.parts
    answers = (answer,) if len(parts) == 1 or answer is ... else answer
    names = ", ".join(part.what for part in parts)
    if answer is not ... and (not isinstance(answers, (list, tuple)) or len(answers) != len(parts)):
        return f"✗ {known.name} asks for {len(parts)} things, in this order: {names}"
    if all(item is ... for item in answers):
        return f"not answered yet: {known.name}"
    lines = []
    for part, item in zip(parts, answers):
        item = item.tolist() if isinstance(item, torch.Tensor) else item
        if item is ...:
            lines.append(f"· {part.what}: not answered yet")
        elif part.equals(item, part.right):
            lines.append(f"✓ {part.what}: {show(item)}")
        else:
            lines.append(f"✗ {part.what}: {words_for(part, item)}")
    return "\n".join(lines)


def words_for(part: Part, item: Any) -> str:
    """What to say of a wrong value: the known mistake, or at least its direction."""
    for value, words in part.wrong.items():
        if part.equals(item, value):
            return f"{show(item)}? {words}"
    if is_number(part.right) and is_number(item):
        return f"{show(item)} is too {'large' if item > part.right else 'small'}"
    if isinstance(part.right, (list, tuple)) and not isinstance(item, (list, tuple)):
        return f"{show(item)} is one thing; a list or a tuple is asked for"
    if isinstance(part.right, (list, tuple)) and len(item) != len(part.right):
        return f"{show(item)} has {len(item)} numbers, it should have {len(part.right)}"
    if isinstance(part.right, str):
        choices = sorted({part.right, *(value for value in part.wrong if isinstance(value, str))})
        return f"{show(item)} is none of {', '.join(choices)}"
    return f"{show(item)} is not it"


# Functions


class Complaint(Exception):
    """The reader's function gave nothing that could be compared; the message is for the reader."""


def is_stub(function: Callable) -> bool:
    """Whether a function does nothing at all: a docstring, `...`, `pass`."""
    code = getattr(function, "__code__", None)
    idle = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE", "COPY_FREE_VARS"}
    returns_none = code is not None and all(
        step.argval is None for step in dis.get_instructions(code) if step.opname in ("LOAD_CONST", "RETURN_CONST")
    )
    return returns_none and {step.opname for step in dis.get_instructions(code)} <= idle


def judge_code(known: Code, function: Callable) -> str:
    """The verdict on the reader's function."""
    if is_stub(function):
        return f"not written yet: {known.name}"
    tried, complaint = [], None
    for arguments in known.cases():
        try:
            tried.append((arguments, attempt(known, function, arguments), expected(known, arguments)))
        except NotImplementedError:
            return f"not written yet: {known.name}"
        except Complaint as error:
            complaint = complaint or (arguments, str(error))
    wrong = next((case for case in tried if not same(case[1], case[2], known.tolerance)), None)
    if wrong:
        words = diagnosis(known, function, tried, wrong)
        return f"✗ {known.name}: {words}\n{example(function, wrong[0])}\n  {place(*wrong[1:], known.tolerance)}"
    if complaint:
        return f"✗ {known.name} {complaint[1]}\n{example(function, complaint[0])}"
    for mistake in known.mistakes:
        for arguments, _, _ in tried:
            if mistake.when and asks(mistake, function, arguments):
                return f"✗ {known.name}: {mistake.words}\n{example(function, arguments)}"
    return f"✓ {known.name}: {len(tried)} cases, {known.tried}"


def attempt(known: Code, function: Callable, arguments: tuple) -> Any:
    """What the reader's function gives for a copy of these arguments; a Complaint if there is nothing to compare."""
    given = fresh(arguments)
    torch.default_generator.manual_seed(0)
    try:
        result = function(*given)
    except NotImplementedError:
        raise
    except Exception as error:
        raise Complaint(at_the_readers_line(function, error)) from None
    if result is None:
        raise Complaint("returns nothing: is the `return` missing?")
    for name, before, after in zip(names_of(function), arguments, given):
        if not same(before, after, 0.0, nan=True):
            raise Complaint(f"changes its argument `{name}`, which belongs to the caller: work on a copy")
    if known.returns and not isinstance(result, known.returns):
        raise Complaint(f"returns a {type(result).__name__}; the task asks for {wanted(known.returns)}")
    try:
        return observed(known, result, arguments)
    except Exception as error:
        raise Complaint(f"returns something that fails in use: {type(error).__name__}: {error}") from None


def fresh(arguments: tuple) -> tuple:
    """A copy of the arguments; modules keep the gradients that are in them, which `deepcopy` alone forgets."""
    copies = copy.deepcopy(arguments)
    for old, new in zip(arguments, copies):
        if isinstance(old, torch.nn.Module):
            for p, q in zip(old.parameters(), new.parameters()):
                q.grad = None if p.grad is None else p.grad.clone()
    return copies


def wanted(kinds: type | tuple[type, ...]) -> str:
    return " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))


def expected(known: Code, arguments: tuple, instead: Callable | None = None) -> Any:
    """What the reference (or another function `instead`) gives for a copy of these arguments."""
    torch.default_generator.manual_seed(0)
    return observed(known, (instead or known.reference)(*fresh(arguments)), arguments)


def observed(known: Code, result: Any, arguments: tuple) -> Any:
    """What of a result is compared."""
    return detached(result if known.observe is as_it_is else known.observe(result, *fresh(arguments)))


def detached(result: Any) -> Any:
    if isinstance(result, (list, tuple)):
        return type(result)(map(detached, result)) if type(result) in (list, tuple) else tuple(map(detached, result))
    return result.detach() if isinstance(result, torch.Tensor) else result


def diagnosis(known: Code, function: Callable, tried: list[tuple], wrong: tuple) -> str:
    """The words of the known mistake that explains all results, or else a plain description of the first wrong one."""
    for mistake in known.mistakes:
        if mistake.when and asks(mistake, function, wrong[0]):
            return mistake.words
        if mistake.like:
            with contextlib.suppress(Exception):
                if all(same(expected(known, a, mistake.like), got, known.tolerance, nan=True) for a, got, _ in tried):
                    return mistake.words
    return difference(wrong[1], wrong[2], known.tolerance)


def asks(mistake: Mistake, function: Callable, arguments: tuple) -> bool:
    """Whether a mistake's question is answered with yes; a question that cannot be asked is answered with no."""
    with contextlib.suppress(Exception):
        return bool(mistake.when(function, *fresh(arguments)))
    return False


def names_of(function: Callable) -> list[str]:
    with contextlib.suppress(TypeError, ValueError):
        return list(inspect.signature(function).parameters)
    return []


def example(function: Callable, arguments: tuple) -> str:
    names = names_of(function) + ["?"] * len(arguments)
    return "  it shows with " + ", ".join(f"{name} = {show(value)}" for name, value in zip(names, arguments))


def at_the_readers_line(function: Callable, error: Exception) -> str:
    """An error, and the line of the reader's own function in which it arose."""
    what = f"{type(error).__name__}: {error}"
    code = inspect.unwrap(function).__code__ if hasattr(inspect.unwrap(function), "__code__") else None
    line, step = None, error.__traceback__
    while step:
        if code and step.tb_frame.f_code.co_filename == code.co_filename:
            line = step.tb_lineno
        step = step.tb_next
    if line is None:
        return f"cannot be called with ({', '.join(names_of(function))}): {what}"
    source = linecache.getline(code.co_filename, line).strip()
    return f"stops in line {line}{f': {source}' if source else ''}\n  {what}"
