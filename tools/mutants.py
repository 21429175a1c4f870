"""Are the exercises' checks any good? `python tools/mutants.py [--survivors] [CHAPTER ...]` prints a table.

Each solution is taken from its chapter, changed in one point (an operator, a number, a comparison, a line left out),
and given to its check. A mutant is caught if it gets anything but the check mark.
"""

import argparse
import ast
import contextlib
import copy
import importlib
import io
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from chapters import ROOT, code_cells, module_of, read, twins

# Mutants that do what the solution does: (exercise, changed code) and why. All others have to be caught.
EQUIVALENT: dict[tuple[str, str], str] = {
    ("attention_in_pieces", "average = torch.ones(values.shape[1])"): "the first piece multiplies it by e^(−∞) = 0",
    ("attention_in_pieces", "largest, total = (torch.tensor(-torch.inf), torch.tensor(1.0))"): "the same",
    ("some_grey", "chosen = torch.rand(B, 1, 1, 1) <= probability"): "a draw that hits the probability has measure 0",
}
SECONDS = 5  # for one mutant; some never end

OPERATORS = {
    ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div, ast.Add], ast.Div: [ast.Mult], ast.FloorDiv: [ast.Mult],
    ast.Mod: [ast.FloorDiv], ast.Pow: [ast.Mult], ast.MatMult: [ast.Mult], ast.USub: [ast.UAdd],
    ast.Lt: [ast.LtE, ast.Gt], ast.LtE: [ast.Lt], ast.Gt: [ast.GtE, ast.Lt], ast.GtE: [ast.Gt], ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is], ast.In: [ast.NotIn], ast.And: [ast.Or],
    ast.Or: [ast.And],
}  # fmt: skip
NAMES = {
    "mean": "sum", "sum": "mean", "max": "min", "maximum": "minimum", "exp": "abs", "cat": "stack",
    "zeros": "ones", "ones": "zeros", "transpose": "unsqueeze_", "weight": "bias", "bias": "weight",
    "fc1": "fc2", "fc2": "fc1", "norm1": "norm2", "norm2": "norm1",
}  # fmt: skip


@dataclass(frozen=True)
class Exercise:
    """A check of a function, the chapter that it belongs to, and that chapter's solution."""

    chapter: str
    known: object
    tree: ast.FunctionDef
    names: dict


def checks_of(chapter: str) -> list:
    """The checks of a chapter, "02_attention"; none if it has no file in vit_edu/exercises."""
    name = chapter.split("_", 1)[-1]
    if not (ROOT / "vit_edu" / "exercises" / f"{name}.py").exists():
        return []
    return importlib.import_module(f"vit_edu.exercises.{name}").CHECKS


def parsed(source: str) -> list[ast.stmt]:
    """A cell's statements, IPython's own lines left out."""
    return ast.parse(re.sub(r"^(\s*)[%!?].*", r"\1pass", source, flags=re.M)).body


def solutions(twin) -> dict[str, list[ast.stmt]]:
    """Of each exercise with code in its solution: label → the statements of the cells between its two marks."""
    label, found = None, {}
    for cell in read(twin).cells:
        if cell.cell_type == "code" and label:
            found.setdefault(label, []).extend(parsed(cell.source))
        for line in cell.source.split("\n") if cell.cell_type == "markdown" else ():
            if line.startswith(":::{solution-start}"):
                label = line.split()[-1]
            elif line.startswith(":::{solution-end}"):
                label = None
    return found


def definitions(twin) -> dict:
    """The names that a chapter's imports, functions and classes give its solutions."""
    names = {"__name__": "chapter"}
    kinds = ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef
    for _, cell in code_cells(read(twin)):
        body = [node for node in parsed(cell.source) if module_of(cell) or isinstance(node, kinds)]
        exec(compile(ast.Module(body, []), twin.name, "exec"), names)
    return names


def exercises(chapters: list[str] = ()) -> list[Exercise]:
    """All exercises with a function to write, in reading order, each with its chapter's solution."""
    found = []
    for twin in twins(names=chapters):
        functions = {
            node.name: node
            for body in solutions(twin).values()
            for node in body
            if isinstance(node, ast.FunctionDef)
        }
        to_write = [known for known in checks_of(twin.stem) if hasattr(known, "reference")]
        names = definitions(twin) if to_write else {}
        for known in to_write:
            if known.name not in functions:
                raise SystemExit(f"{twin.name}: no solution defines {known.name}")
            found.append(Exercise(twin.stem, known, functions[known.name], names))
    return found


def built(exercise: Exercise, tree: ast.FunctionDef) -> Callable:
    """The function that a (changed) solution defines, among its chapter's names."""
    names = dict(exercise.names)
    exec(compile(ast.fix_missing_locations(ast.Module([tree], [])), "solution", "exec"), names)
    return names[tree.name]


def changes(node: ast.AST) -> Iterator[tuple[str, object]]:
    """The one-point changes of one node: (field, new value)."""
    if isinstance(node, (ast.BinOp, ast.UnaryOp, ast.BoolOp)):
        yield from (("op", other()) for other in OPERATORS.get(type(node.op), []))
    elif isinstance(node, ast.Compare):
        yield from (("ops", [other(), *node.ops[1:]]) for other in OPERATORS.get(type(node.ops[0]), []))
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "value", not node.value
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield from (("value", node.value + step) for step in (1, -1))
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        yield "value", 2 * node.value if node.value else 1.0
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield "attr", NAMES[node.attr]
    elif isinstance(node, ast.Call) and len(node.args) >= 3:
        for i in range(len(node.args) - 1):
            if ast.dump(node.args[i]) != ast.dump(node.args[i + 1]):
                yield "args", [*node.args[:i], node.args[i + 1], node.args[i], *node.args[i + 2 :]]
    elif isinstance(node, ast.If):
        yield "test", ast.UnaryOp(ast.Not(), node.test)


def mutants(tree: ast.FunctionDef) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every function whose body differs in one point: (the changed code, the function)."""
    body = tree.body[1:] if ast.get_docstring(tree) else tree.body
    plain = copy.deepcopy(tree)
    plain.body = copy.deepcopy(body)
    statements = [node for node in ast.walk(plain) if isinstance(node, ast.stmt) and node is not plain]
    signature = {id(node) for node in ast.walk(plain.args)}
    for number, node in enumerate(ast.walk(plain)):
        for name, value in changes(node) if id(node) not in signature else ():
            changed = copy.deepcopy(plain)
            twin = next(n for i, n in enumerate(ast.walk(changed)) if i == number)
            setattr(twin, name, value)
            around = [n for n in ast.walk(changed) if isinstance(n, ast.stmt) and any(m is twin for m in ast.walk(n))]
            yield ast.unparse(around[-1]).split("\n")[0], changed
    for number in range(len(statements)):
        changed = copy.deepcopy(plain)
        gone = [n for n in ast.walk(changed) if isinstance(n, ast.stmt) and n is not changed][number]
        words = f"without: {ast.unparse(gone)}".split("\n")[0]
        for parent in ast.walk(changed):
            for field in "body", "orelse":
                block = getattr(parent, field, None)
                if isinstance(block, list) and gone in block:
                    block[block.index(gone)] = ast.Pass()
        yield words, changed


def verdict(exercise: Exercise, tree: ast.FunctionDef) -> str:
    """What the check says of a mutant, or of one that never ends."""
    from vit_edu.exercises import report

    def late(*_):
        raise TimeoutError(f"no result within {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return report(built(exercise, tree))
    except TimeoutError as error:
        return f"✗ {error}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def sweep(exercise: Exercise) -> tuple[int, list[str], list[str]]:
    """How many mutants were caught, which do what the solution does, and which survived though they should not."""
    caught, equal, survived = 0, [], []
    for words, tree in mutants(exercise.tree):
        if not verdict(exercise, tree).startswith("✓"):
            caught += 1
        elif (exercise.known.name, words) in EQUIVALENT:
            equal.append(words)
        else:
            survived.append(words)
    return caught, equal, survived


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("`")[0])
    parser.add_argument("chapters", nargs="*", help="for example 02_attention; all if none is named")
    parser.add_argument("--survivors", action="store_true", help="print the mutants that were not caught")
    options = parser.parse_args()
    print("chapter        exercise               cases  known mistakes  mutants  caught  equal  survived")
    total, lines = [0, 0, 0], []
    for exercise in exercises(options.chapters):
        known, (caught, equal, survived) = exercise.known, sweep(exercise)
        counts = [caught + len(equal) + len(survived), caught, len(equal), len(survived)]
        total = [total[0] + caught, total[1] + len(equal), total[2] + len(survived)]
        sizes = f"{len(list(known.cases())):5}  {len(known.mistakes):14}"
        print(f"{exercise.chapter:14} {known.name:22} {sizes}  " + "  ".join(
            f"{n:{width}}" for n, width in zip(counts, (7, 6, 5, 8))))  # fmt: skip
        lines += [f"{known.name}: {words}" for words in survived]
    share = total[0] / max(total[0] + total[2], 1)
    print(f"\n{sum(total)} mutants, {total[1]} do what the solution does; of the others {share:.1%} are caught")
    if options.survivors:
        print(*lines, sep="\n")
    answers = [known for twin in twins(names=options.chapters) for known in checks_of(twin.stem)]
    answers = [known for known in answers if not hasattr(known, "reference")]
    parts = [part for known in answers for part in known.parts]
    print(f"{len(answers)} predictions, {len(parts)} parts, {sum(len(p.wrong) for p in parts)} known mistakes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
