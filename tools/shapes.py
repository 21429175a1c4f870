"""What the lines of a chapter's cells assign: noted in the kernel by the very run that makes the outputs.

What `starting` gives is executed in the kernel, silently, before the first cell. From then on each cell is compiled with a call
of `__shapes__` around (or after) what it assigns, takes as arguments and returns: names, shapes, dtypes and, for
small tensors, the range of values become words at once, so that no tensor is kept. What a cell prints, its line
numbers in tracebacks, and its source stay what they are; a tensor is only looked at, by no operation of PyTorch.

An entry is text: `LINES[ call N][ pass N]: NAME: WORDS; NAME: WORDS`, with the lines of the cell counted from 1:

    "3: q: (2, 17, 192) float32, -2.1 to 3.4; k: (2, 17, 192) float32, -3 to 2.9"
    "5-6 pass 1: loss: () float32, 2.3"      the first pass of a loop ...
    "5-6 pass 8: loss: () float32, 0.4"      ... and the last
    "9 call 2: returns: (2, 17, 192) float32"    a line that the function's first call did not come to
    "9 check: returns: (3,) float32"             a line that only a check of an exercise came to

A function's lines show one call: the first of the chapter's own that came to the line.
A cell tagged `no-shapes` is left as it is.
"""

import ast
import builtins
import ctypes
import functools
import hashlib
import json
import math
import re
import sys

LEAVE = "no-shapes"  # the tag
RANGE_UP_TO = 4096  # numbers in a tensor whose range is told
LOOKED_INTO = 100  # passes of a loop in which values and containers are looked into; later ones give shapes
NOTED = 10_000  # passes that are noted at all
CALLS = 1000  # calls of a function that are noted at all
WORDS = 160  # characters of an entry's words

# Words for values


def number(value) -> str:
    """A whole number, or another with two digits, as short as possible."""
    if isinstance(value, int):
        return str(value)
    text = f"{float(f'{value:.2g}'):.9g}" if 1e-3 <= abs(value) < 1e6 else f"{value:.2g}"
    return re.sub(r"e([+-])0*", lambda m: "e-" if m[1] == "-" else "e", text)


def extent(shape) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def spread(values) -> str:
    """The range of a NumPy array's values, or nothing."""
    if values.dtype.kind not in "fiu" or not 0 < values.size <= RANGE_UP_TO:
        return ""
    import numpy as np

    with np.errstate(all="ignore"):  # of NaN, too
        low, high = number(values.min().item()), number(values.max().item())
    return f", {low}" if values.size == 1 or low == high else f", {low} to {high}"


def numbers_of(tensor):
    """A small CPU tensor's numbers as a NumPy array on the same memory, read past PyTorch; None if that cannot be.

    No operation is dispatched: no mode, hook, profiler or autograd sees that somebody looked.
    """
    import numpy as np
    import torch

    known = {torch.float32: "f4", torch.float64: "f8", torch.float16: "f2", torch.int64: "i8", torch.int32: "i4",
             torch.int16: "i2", torch.int8: "i1", torch.uint8: "u1"}  # fmt: skip
    dtype = known.get(tensor.dtype)
    if dtype is None or tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.is_neg():
        return None
    if not 0 < tensor.numel() <= RANGE_UP_TO or torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return None
    address, size, strides = tensor.data_ptr(), int(dtype[1]), tensor.stride()
    reach = sum((n - 1) * step for n, step in zip(tensor.shape, strides, strict=True)) + 1
    if not address or reach > 64 * RANGE_UP_TO:
        return None
    memory = np.frombuffer((ctypes.c_char * (reach * size)).from_address(address), dtype)
    return np.lib.stride_tricks.as_strided(memory, tensor.shape, [step * size for step in strides], writeable=False)


def tensor_words(tensor, torch, values: bool) -> str:
    if torch._C._is_tracing():  # asking for a shape would be an operation of the trace
        return ""
    with torch._C.DisableTorchFunction():  # a mode that watches operations does not see this
        shape = tensor.shape
        if not all(type(n) is int for n in shape):
            return ""
        words = f"{extent(shape)} {str(tensor.dtype).removeprefix('torch.')}"
        numbers = numbers_of(tensor) if values else None
        return words if numbers is None else words + spread(numbers)


def module_words(module, torch) -> str:
    parameters = dict(module.named_parameters())
    name = type(module).__name__
    if len(parameters) <= 2:
        shapes = ", ".join(f"{key} {extent(value.shape)}" for key, value in parameters.items())
        return f"{name}, {shapes}" if shapes else ""
    return f"{name}, {sum(value.numel() for value in parameters.values()):,} parameters"


def several_words(kind: str, values, inner) -> str:
    """A list or tuple: its numbers if they are a few whole ones, or what all of its items are."""
    n = len(values)
    if not 0 < n <= 1000:
        return ""
    if any(type(value) is int and abs(value) >= 10**12 for value in values):
        return ""
    if n <= 8 and all(type(value) is int for value in values):
        return extent(values) if kind == "tuple" else str(list(values))
    if all(type(value) is int for value in values):
        return f"{kind} of {n}, {number(min(values))} to {number(max(values))}"
    words = [inner(value, values=n == 1) for value in values]
    if not all(words):
        return ""
    if len(set(words)) == 1:
        return f"{kind} of {n}, {'each ' if n > 1 else ''}{words[0]}"
    return f"{kind} of {n}{': ' + ', '.join(words) if n <= 3 else ''}"  # of many, which are first may be chance


def describe(value, values: bool = True, thorough: bool = True, deep: int = 2) -> str:
    """What is to be said of a value; nothing for most kinds. `thorough` may look into containers and modules."""
    kind = type(value)
    if kind is int:
        return f"{value:,}" if abs(value) < 10**12 else ""
    if kind in (str, float, bool, type(None)):
        return ""
    if (torch := sys.modules.get("torch")) and kind in (torch.Tensor, torch.nn.Parameter):
        return tensor_words(value, torch, values and thorough)
    if (numpy := sys.modules.get("numpy")) and kind is numpy.ndarray:
        if value.dtype.kind not in "fiubc":
            return ""
        return f"{extent(value.shape)} {value.dtype}{spread(value) if values and thorough else ''}, NumPy"
    if numpy and isinstance(value, numpy.integer):
        return f"{value:,}"
    if not thorough:
        return ""
    inner = functools.partial(describe, deep=deep - 1)
    if torch and isinstance(value, torch.nn.Module):
        return module_words(value, torch)
    if isinstance(value, tuple) and kind.__module__ != "builtins" and not (torch and kind is torch.Size):
        names = getattr(value, "_fields", None)
        return several_words("tuple" if names is None else kind.__name__, value, inner) if deep else ""
    if kind in (list, tuple) or (torch and kind is torch.Size):
        return several_words("list" if kind is list else "tuple", value, inner) if deep else ""
    if kind is dict and deep and 0 < len(value) <= 1000 and all(type(key) is str for key in value):
        words = {key: "" if type(item) in (int, dict) else inner(item, values=False) for key, item in value.items()}
        if len(set(words.values())) == 1 and len(value) > 1:
            return f"dict of {len(value)}, each {(*words.values(),)[0]}" if all(words.values()) else ""
        told = [f"{key} {text}" for key, text in words.items() if text]
        return f"dict of {len(value)}: {', '.join(told[:2])}{', …' if len(told) > 2 else ''}" if told else ""
    if (image := sys.modules.get("PIL.Image")) and isinstance(value, image.Image):
        return f"{value.mode} picture, {value.width} × {value.height}"
    return ""


# Notes of lines


class Function:
    """A function that a cell defines: which of its calls runs. 1, 2, ... are the chapter's own; -1, -2, ... checks'.

    In call 0 nothing is noted. A cell's own lines belong to one call.
    """

    __slots__ = ("call", "own", "checks")

    def __init__(self, call=0):
        self.call, self.own, self.checks = call, 0, 0

    def enter(self, frame) -> None:
        if self.own + self.checks == CALLS:
            self.call = 0
        elif in_check(frame):
            self.checks += 1
            self.call = -self.checks
        else:
            self.own += 1
            self.call = self.own


def in_check(frame) -> bool:
    """Whether a frame runs on behalf of a check of the reader's answer."""
    while frame:
        if frame.f_globals.get("__name__", "").startswith("vit_edu.exercises"):
            return True
        frame = frame.f_back
    return False


class Line:
    """What one statement assigned, in words: in the first pass and in the last, of one call of its function."""

    __slots__ = ("lines", "names", "function", "call", "passes", "first", "last", "values", "whole")

    def __init__(self, lines, names, function, values=True, whole=True):
        self.lines, self.names, self.function, self.values, self.whole = lines, names, function, values, whole
        self.call, self.passes, self.first, self.last = 0, 0, "", ""

    def note(self, values) -> None:
        """Note what was assigned, if it is of the call that the line shows, or of a better one."""
        now = self.function.call
        if now != self.call:
            if not now or self.call > 0 or now < 0 > self.call:
                return
            self.call, self.passes = now, 0
        self.passes += 1
        if self.passes > NOTED:
            self.last = ""
            return
        words = []
        for name, value in zip(self.names, values):
            if not name or (not self.whole and type(value) is int):
                continue
            try:
                text = describe(value, self.values, self.passes <= LOOKED_INTO)
            except Exception:  # a value that cannot be looked at is not told of
                text = ""
            if text:
                words.append(f"{name}: {text}")
        self.last = "; ".join(words)
        if self.passes == 1:
            self.first = self.last

    def told(self) -> list[str]:
        lines = "-".join(map(str, dict.fromkeys(self.lines)))
        where = f"{lines} call {self.call}" if self.call > 1 else f"{lines} check" if self.call < 0 else lines
        if self.passes < 2 or not self.last:
            entries = [(f"{where} pass 1" if self.passes > 1 else where, self.first)]
        elif self.first == self.last:
            entries = [(f"{where} pass 1+{self.passes}", self.first)]
        else:
            entries = [(f"{where} pass 1", self.first), (f"{where} pass {self.passes}", self.last)]
        return [f"{place}: {shortened(words)}" for place, words in entries if words]


def shortened(words: str) -> str:
    if len(words) <= WORDS:
        return words
    return words[: WORDS - 3].rpartition(" ")[0].rstrip(";,") + " …"


LINES: list[Line] = []


def compiling() -> bool:
    """Whether what runs is being compiled or exported: then nothing is noted, and nothing noticed."""
    return False


def note(number, value):
    """Around what is assigned: the value itself, noted."""
    if compiling():
        return value
    LINES[number].note((value,))
    return value


def several(number, *values):
    """After what assigns several names."""
    if compiling():
        return
    LINES[number].note(values)


def enter(number, *values):
    """At the start of a function: one call more, and its arguments."""
    if compiling():
        return
    line = LINES[number]
    line.function.enter(sys._getframe(2))
    line.note(values)


def parts(number, values):
    """Around a tuple that is assigned part by part: the tuple itself, noted."""
    if not compiling():
        LINES[number].note(values)
    return values


note.several, note.enter, note.parts = several, enter, parts

# The calls in a cell's code


def is_plain(node) -> bool:
    """Whether an expression says its value itself: a literal."""
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return isinstance(node, (ast.Constant, ast.JoinedStr, ast.Lambda))
    return True


def is_idle(body) -> bool:
    """Whether a function's body does nothing, as that of an exercise's stub."""
    return all(
        isinstance(step, ast.Pass)
        or (isinstance(step, (ast.Expr, ast.Return)) and (step.value is None or is_plain(step.value)))
        for step in body
    )


def is_unmade(node) -> bool:
    """Whether an expression makes a tensor of whatever the memory held before."""
    return any(isinstance(part, ast.Attribute) and "empty" in part.attr for part in ast.walk(node))


def names_in(target) -> list[ast.Name]:
    """The plain names that a target of an assignment binds."""
    if isinstance(target, ast.Name):
        return [] if target.id == "_" else [target]
    if isinstance(target, ast.Starred):
        return names_in(target.value)
    return [name for part in getattr(target, "elts", []) for name in names_in(part)]


def is_part_by_part(node: ast.Assign) -> bool:
    """Whether an assignment is of the form `a, b.c = x, y`."""
    target, value = node.targets[0], node.value
    return (
        len(node.targets) == 1
        and isinstance(target, ast.Tuple)
        and isinstance(value, ast.Tuple)
        and len(target.elts) == len(value.elts)
        and all(isinstance(part, (ast.Name, ast.Attribute)) for part in target.elts)
        and not any(isinstance(part, ast.Starred) for part in value.elts)
    )


class Noting(ast.NodeTransformer):
    """Puts the calls into a cell's syntax tree; every node keeps its place in the source."""

    def __init__(self):
        self.function, self.lines = Function(1), []

    def line(self, first, last, names, *options) -> int:
        made = Line((first, last), names, self.function, *options)
        LINES.append(made)
        self.lines.append(made)
        return len(LINES) - 1

    def call(self, place, how, number, *values):
        name = ast.Name("__shapes__", ast.Load())
        function = ast.Attribute(name, how, ast.Load()) if how else name
        made = ast.Call(function, [ast.Constant(number), *values], [])
        for node in (name, function, made, made.args[0]):
            ast.copy_location(node, place)
        return made

    def after(self, place, how, number, names):
        values = [ast.copy_location(ast.Name(name, ast.Load()), place) for name in names]
        return ast.copy_location(ast.Expr(self.call(place, how, number, *values)), place)

    def around(self, node, name):
        """Note a statement's value."""
        if node.value is not None and not is_plain(node.value):
            number = self.line(node.lineno, node.end_lineno, [name], not is_unmade(node.value))
            node.value = self.call(node.value, "", number, node.value)
        return node

    def visit_Assign(self, node):
        names = [name.id for target in node.targets for name in names_in(target)]
        if is_part_by_part(node) and not is_plain(node.value):
            written = ["" if ast.unparse(part) == "_" else ast.unparse(part) for part in node.targets[0].elts]
            number = self.line(node.lineno, node.end_lineno, written, not is_unmade(node.value))
            node.value = self.call(node.value, "parts", number, node.value)
            return node
        if any(isinstance(target, (ast.Tuple, ast.List)) for target in node.targets):
            if not names or is_plain(node.value):
                return node
            number = self.line(node.lineno, node.end_lineno, names, not is_unmade(node.value))
            return [node, self.after(node, "several", number, names)]
        written = " = ".join(map(ast.unparse, node.targets))
        return self.around(node, written) if len(written) <= 40 and written != "_" else node

    def visit_AnnAssign(self, node):
        return self.around(node, ast.unparse(node.target))

    def visit_AugAssign(self, node):
        if not isinstance(node.target, ast.Name):
            return node
        number = self.line(node.lineno, node.end_lineno, [node.target.id])
        return [node, self.after(node, "several", number, [node.target.id])]

    def visit_Return(self, node):
        return self.around(node, "returns")

    def visit_For(self, node):
        names = [name.id for name in names_in(node.target)]
        number = self.line(node.lineno, node.iter.end_lineno, names, True, False) if names else None
        self.generic_visit(node)
        if names:
            node.body.insert(0, self.after(node.target, "several", number, names))
        return node

    def visit_FunctionDef(self, node):
        has_docstring = ast.get_docstring(node, clean=False) is not None
        body = node.body[has_docstring:]
        if is_idle(body):
            return node
        outer, self.function = self.function, Function()
        given = node.args
        names = [a.arg for a in (*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs) if a]
        if names and names[0] in ("self", "cls"):
            names = names[1:]
        last = max([node.lineno, *(part.end_lineno for part in ast.walk(given) if hasattr(part, "end_lineno"))])
        number = self.line(node.lineno, last, names)
        node.body = [step for old in node.body for step in self.listed(self.visit(old))]
        node.body.insert(has_docstring, self.after(body[0], "enter", number, names))
        self.function = outer
        return node

    visit_AsyncFunctionDef = visit_Lambda = lambda self, node: node

    @staticmethod
    def listed(made):
        return made if isinstance(made, list) else [made]


# The kernel


class Cells:
    """What IPython tells of the cells that it runs, and the tree of each."""

    def __init__(self, leave=()):
        self.leave, self.told, self.next = set(leave), [], False

    def before(self, info):
        """A cell is about to run."""
        global compiling
        if torch := sys.modules.get("torch"):
            compiling = getattr(getattr(torch, "compiler", None), "is_compiling", compiling)
        self.name = fingerprint(info.raw_cell or "")
        self.next = self.name not in self.leave and not info.raw_cell.lstrip().startswith("%%")

    def visit(self, tree):
        """What IPython asks of a transformer; only a cell's own tree, the first after `before`, gets the calls."""
        if not self.next:
            return tree
        self.next = False
        noting = Noting()
        tree = noting.visit(tree)
        self.told.append((self.name, noting.lines))
        return tree

    def entries(self) -> list:
        """Of each cell in the order of running: its fingerprint, and its entries by line."""
        found = []
        for name, lines in self.told:
            entries = [entry for line in sorted(lines, key=lambda line: line.lines) for entry in line.told()]
            found.append([name, entries])
        return found


def fingerprint(source: str) -> str:
    return hashlib.sha256(source.strip().encode()).hexdigest()[:16]


def start(leave=()) -> None:
    """In the kernel: note from now on, but in cells whose fingerprints are in `leave`."""
    from IPython import get_ipython

    shell, cells = get_ipython(), Cells(leave)
    note.entries = lambda: json.dumps(cells.entries())
    builtins.__shapes__ = note
    shell.events.register("pre_run_cell", cells.before)
    shell.ast_transformers.append(cells)


# The executor's side


TOLD = {"shapes": "__shapes__.entries()"}


def starting(cells) -> str:
    """Code that starts the notes in a kernel; `cells` are the notebook's."""
    from pathlib import Path

    leave = [fingerprint(cell.source) for cell in cells if LEAVE in cell.metadata.get("tags", [])]
    source = Path(__file__).read_text("utf-8") + f"\nstart({leave!r})\n"
    return f"exec(compile({source!r}, 'shapes', 'exec'), {{'__name__': 'shapes'}})"


def answer(reply: dict) -> list:
    """The entries in a kernel's reply to a request with the expressions `TOLD`."""
    told = reply["content"]["user_expressions"]["shapes"]
    if told["status"] != "ok":
        raise RuntimeError(f"the kernel noted no shapes: {told['ename']}: {told['evalue']}")
    return json.loads(ast.literal_eval(told["data"]["text/plain"]))


def by_cell(cells, told: list) -> list[list[str]]:
    """The entries of each of these code cells, from `answer`; a cell that did not run has none."""
    told, found = list(told), []
    for cell in cells:
        name = fingerprint(cell.source)
        at = next((i for i, (ran, _) in enumerate(told) if ran == name), None)
        found.append([] if at is None else told.pop(at)[1])
    return found


# Comparing

NUMBER = r"(-?[\d.]+(?:e-?\d+)?|-?inf|nan)"
VALUE = re.compile(rf"(?<=\w\d, ){NUMBER}(?: to {NUMBER})?(?=$|[;,])")  # after a dtype or the length of a list
LISTED = re.compile(r"(?<=[\[ ])-?\d+(?=[^\[]*\])")  # a whole number in a list


def alike(one: list[str], other: list[str], values: bool = True) -> bool:
    """Whether entries agree: in all words, and with `values` in ranges up to rounding on another machine.

    Without `values`, as for a cell that prints what it has measured, whole numbers in a list may be others, too: counts.
    """
    if len(one) != len(other):
        return False
    for a, b in zip(one, other):
        if not values:
            a, b = LISTED.sub("#", a), LISTED.sub("#", b)
        if VALUE.sub("#", a) != VALUE.sub("#", b):
            return False
        if values and not all(map(close, VALUE.findall(a), VALUE.findall(b))):
            return False
    return True


def close(one: tuple[str, str], other: tuple[str, str]) -> bool:
    pairs = [(float(a or 0), float(b or 0)) for a, b in zip(one, other)]
    size = max((abs(x) for pair in pairs for x in pair if math.isfinite(x)), default=0)
    return all(a == b or (math.isnan(a) and math.isnan(b)) or abs(a - b) <= 1e-4 + size / 10 for a, b in pairs)
