"""The shape lens: what a run notes of a cell's lines, that noting changes nothing, and that a page shows just that."""

import ast
import builtins
import json
import re
import traceback
import weakref

import chapters
import nbformat
import pytest
import shapes
import sync
import torch
from accessible import SILENTLY
from bs4 import BeautifulSoup
from chapters import ROOT
from quiet_pages import soon
from test_pipeline import FIRST, code, executed, original, synced, write  # noqa: F401  (fixtures)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

ENTRY = re.compile(r"(\d+)(?:-(\d+))?(?: call ([2-9]|\d\d+)| check)?(?: pass (\d+)(?:\+(\d+))?)?: (\S.*)")


def run(source: str, monkeypatch, **names):
    """Run a cell with its calls in a namespace of its own: the namespace, and the entries."""
    monkeypatch.setattr(builtins, "__shapes__", shapes.note, raising=False)
    monkeypatch.setattr(shapes, "compiling", torch.compiler.is_compiling)
    noting = shapes.Noting()
    tree = noting.visit(ast.parse(source))
    names |= {"torch": torch, "__name__": "cell"}
    exec(compile(tree, "<cell>", "exec"), names)
    return names, lambda: [entry for line in sorted(noting.lines, key=lambda line: line.lines) for entry in line.told()]


@pytest.mark.parametrize(
    "source, entries",
    [
        ("x = torch.arange(6.).reshape(2, 3)", ["1: x: (2, 3) float32, 0 to 5"]),
        ("x = y = torch.zeros(3,\n  2)", ["1-2: x = y: (3, 2) float32, 0"]),
        ("q, (k, *r) = torch.ones(1), torch.zeros(3, 2)",
         ["1: q: (1,) float32, 1; k: (2,) float32, 0; r: list of 2, each (2,) float32"]),
        ("B, _, D = torch.zeros(2, 17, 192).shape", ["1: B: 2; D: 192"]),
        ("class A: pass\na = A()\na.n, _, a.m = 1 + 1, torch.ones(1), torch.ones(2)",
         ["3: a.n: 2; a.m: (2,) float32, 1"]),
        ("a, b = 1, [2]\na, b[0] = b[0], torch.ones(a)\nseeds = [(0, 10**15)]", ["2: a: 2"]),
        ("x = 3\nx += 1", ["2: x: 4"]),
        ("n: int = len('four')", ["1: n: 4"]),
        ("x = torch.tensor([True]).to(torch.int64) * 1200", ["1: x: (1,) int64, 1200"]),
        ("x = torch.zeros(100, 100)", ["1: x: (100, 100) float32"]),
        ("x = torch.empty(3)", ["1: x: (3,) float32"]),
        ("x = torch.tensor([float('nan'), 1])\ny = torch.tensor([-1e-7, float('inf')])",
         ["1: x: (2,) float32, nan", "2: y: (2,) float32, -1e-7 to inf"]),
        ("a = torch.zeros(2, 3).numpy()", ["1: a: (2, 3) float32, 0, NumPy"]),
        ("a = {'x': torch.ones(2), 'y': [torch.ones(3)], 'n': 3}",
         ["1: a: dict of 3: x (2,) float32, y list of 1, (3,) float32, 1"]),
        ("m = torch.nn.Linear(3, 2)\nm = torch.nn.Sequential(m, m, torch.nn.Linear(2, 1))",
         ["1: m: Linear, weight (2, 3), bias (2,)", "2: m: Sequential, 11 parameters"]),
        ("a = [torch.ones(i) for i in range(2)]\nb = [torch.ones(i) for i in range(9)]",
         ["1: a: list of 2: (0,) float32, (1,) float32", "2: b: list of 9"]),
        ("size = torch.zeros(2, 3).shape\nlength = list(range(9))",
         ["1: size: (2, 3)", "2: length: list of 9, 0 to 8"]),
        ("words, share, yes = 'a b'.split(), 0.5 * 1, not 1\nnone = print()", []),
        ("for i in range(3):\n  x = torch.ones(i)", ["2 pass 1: x: (0,) float32", "2 pass 3: x: (2,) float32, 1"]),
        ("for row in torch.ones(4, 2):\n  pass", ["1 pass 1+4: row: (2,) float32, 1"]),
        ("for i in range(200):\n  x = torch.ones(2)", ["2 pass 1: x: (2,) float32, 1", "2 pass 200: x: (2,) float32"]),
        ("i = 0\nwhile i < 20_000:\n  i = i + 1", ["3 pass 1: i: 1"]),
        ("def f(x, n=2):\n  '''Words.'''\n  y = x[:n]\n  return y\nf(torch.ones(3)), f(torch.ones(4, 5))",
         ["1: x: (3,) float32, 1; n: 2", "3: y: (2,) float32, 1", "4: returns: (2,) float32, 1"]),
        ("def f(n):\n  if n > 1:\n    return torch.ones(n)\n  return torch.zeros(n, n)\nf(1), f(2), f(3)",
         ["1: n: 1", "3 call 2: returns: (2,) float32, 1", "4: returns: (1, 1) float32, 0"]),
        ("def f(n):\n  for i in range(n):\n    x = torch.ones(i)\nf(2), f(3)",
         ["1: n: 2", "3 pass 1: x: (0,) float32", "3 pass 2: x: (1,) float32, 1"]),
        ("class M(torch.nn.Module):\n  def __init__(self, dim):\n    super().__init__()\n"
         "    self.w = torch.nn.Parameter(torch.zeros(dim))\n"
         "  def forward(self, x):\n    return x @ self.w\nM(3)(torch.ones(2, 3))",
         ["2: dim: 3", "4: self.w: (3,) float32, 0", "5: x: (2, 3) float32, 1", "6: returns: (2,) float32, 0"]),
        ("def never(x):\n  return x + torch.ones(1)\nmake = lambda n: torch.ones(n)\nmake(2)", []),
    ],
)  # fmt: skip
def test_what_is_noted(source, entries, monkeypatch):
    assert run(source, monkeypatch)[1]() == entries
    assert all(ENTRY.fullmatch(entry) for entry in entries)


def test_a_call_of_the_chapters_own_is_told_rather_than_a_checks(monkeypatch):
    check = {"__name__": "vit_edu.exercises"}
    exec("def check(function, *cases):\n  for case in cases: function(case)", check)
    source = "def f(x):\n  return 2 * x\nprint(check(f, torch.ones(1), torch.ones(2)))"
    entries = run(source, monkeypatch, check=check["check"])[1]()
    assert entries == ["1 check: x: (1,) float32, 1", "2 check: returns: (1,) float32, 2"]
    entries = run(source + "\nf(torch.ones(5))\nf(torch.ones(6))", monkeypatch, check=check["check"])[1]()
    assert entries == ["1: x: (5,) float32, 1", "2: returns: (5,) float32, 2"]


def test_noting_performs_no_operation_and_keeps_no_tensor(monkeypatch):
    """Modes that watch PyTorch see what the code does and no more; a tensor goes when the code lets it go."""

    class Dispatched(TorchDispatchMode):
        seen = []

        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            self.seen.append(function)
            return function(*arguments, **options or {})

    class Called(TorchFunctionMode):
        seen = []

        def __torch_function__(self, function, types, arguments=(), options=None):
            self.seen.append(function)
            return function(*arguments, **options or {})

    names, entries = run("def f(x):\n  y = 2 * x\n  a, b = y.chunk(2)\n  return a + b", monkeypatch)
    x = torch.ones(4)
    with Dispatched(), Called():
        result = weakref.ref(names["f"](x))
    assert [len(mode.seen) for mode in (Dispatched, Called)] == [3, 3]
    assert entries()[-1] == "4: returns: (2,) float32, 4" and result() is None


def test_noting_leaves_compiled_exported_traced_and_mapped_code_alone(monkeypatch):
    source = "def f(x):\n  y = 2 * x\n  a, b = y.chunk(2)\n  return a + b"
    names, entries = run(source, monkeypatch)
    f, x = names["f"], torch.arange(8.0).reshape(4, 2)
    module = type("M", (torch.nn.Module,), {"forward": lambda self, x: f(x)})()
    explained = torch._dynamo.explain(f)(x)
    assert explained.graph_break_count == 0 and explained.graph_count == 1
    assert torch.equal(torch.compile(f, backend="eager", fullgraph=True)(x), 2 * (x[:2] + x[2:]))
    batch = 2 * torch.export.Dim("half", min=2)
    exported = torch.export.export(module, (torch.ones(8, 2),), dynamic_shapes=({0: batch},)).module()
    assert exported(torch.ones(12, 2)).shape == (6, 2)
    assert entries() == []  # what only a compiler saw is no example
    plain = {"__name__": "cell"}
    exec(source, plain)
    kinds = [[node.kind() for node in torch.jit.trace(g, x).graph.nodes()] for g in (f, plain["f"])]
    assert kinds[0] == kinds[1]
    assert torch.equal(torch.func.vmap(f)(x), torch.stack([f(row) for row in x]))
    assert torch.equal(torch.func.grad(lambda x: f(x).sum())(x), torch.full_like(x, 2))


def test_errors_point_to_the_same_places(monkeypatch):
    """A traceback's lines and marked parts are those of the code as it is written."""
    source = "def f(x):\n    y = x + 1\n    z = (y\n         @ torch.ones(2))\n    return z\n\na = f(torch.ones(3))"
    tree = ast.parse(source)
    found = []
    for cell in tree, shapes.Noting().visit(ast.parse(source)):
        monkeypatch.setattr(builtins, "__shapes__", shapes.note, raising=False)
        with pytest.raises(RuntimeError) as caught:
            exec(compile(cell, "<cell>", "exec"), {"torch": torch, "__name__": "cell"})
        steps = traceback.extract_tb(caught.tb)[1:]
        found.append([(s.name, s.lineno, s.end_lineno, s.colno, s.end_colno) for s in steps])
    assert found[0] == found[1] and len(found[0]) == 2


def test_a_stub_stays_a_stub(monkeypatch):
    from vit_edu.exercises import is_stub

    for body in "...", "'''Words.'''\n  ...", "pass", "return None":
        names, _ = run(f"def f(x):\n  {body}", monkeypatch)
        assert is_stub(names["f"])
    assert not is_stub(run("def f(x):\n  return x + 1", monkeypatch)[0]["f"])


# A chapter

THIRD = (
    code("import inspect\nimport torch\n\n\ndef double(x):\n    y = 2 * x    # (2, 3)\n    return y")
    + code("x = torch.arange(6.0).reshape(2, 3)\nz = double(x)")
    + code("print(z.sum())\nprint(inspect.getsource(double))\nw = torch.rand(2) * 0 + 0.25\nw")
    + code("secret = torch.ones(7)", ":tags: [no-shapes]\n")
    + code("%time late = torch.ones(3)", ":tags: [nbval-ignore-output]\n")
    + code("sorted({*globals()} - {'In', 'Out', 'exit', 'quit', 'open'})")
)


def test_a_chapter_stores_what_its_run_noted(synced, quick_kernels, monkeypatch):  # noqa: F811
    """Entries stand beside the outputs, which are those of a run without them; a change of text keeps them."""
    write(synced, "03_third", "# Third\n\n" + FIRST + THIRD)
    twin = synced / "book" / "text" / "03_third.md"
    sync.sync(synced, ["03_third"])
    notebook = nbformat.read(chapters.notebook_of(twin), as_version=4)
    cells = [cell for _, cell in chapters.code_cells(notebook)][1:]
    stored = [sync.shapes_of(cell) for cell in cells]
    assert stored == [
        ["5: x: (2, 3) float32, 0 to 5", "6: y: (2, 3) float32, 0 to 10", "7: returns: (2, 3) float32, 0 to 10"],
        ["1: x: (2, 3) float32, 0 to 5", "2: z: (2, 3) float32, 0 to 10"],
        ["3: w: (2,) float32, 0.25"],
        [],
        [],
        [],
    ]
    assert sync.sync(synced, check=True) == [] and sync.in_step(twin)

    for cell in cells:  # a chapter from before the lens is in step, too
        cell.metadata.pop("vit_edu", None)
    nbformat.write(notebook, chapters.notebook_of(twin))
    assert sync.in_step(twin)
    with monkeypatch.context() as patched:
        patched.setattr(shapes, "starting", lambda cells: "")
        patched.setattr(shapes, "answer", lambda reply: [])  # nothing is noted
        sync.sync(synced, ["03_third"], force=True)
    plain = nbformat.read(chapters.notebook_of(twin), as_version=4)
    assert [cell.outputs for _, cell in chapters.code_cells(plain)][1:] == [cell.outputs for cell in cells]

    sync.sync(synced, ["03_third"], force=True)
    before = nbformat.read(chapters.notebook_of(twin), as_version=4)
    twin.write_text(twin.read_text().replace("# Third", "# The third"))
    monkeypatch.setattr(sync, "execute", None)
    sync.sync(synced, ["03_third"])
    after = nbformat.read(chapters.notebook_of(twin), as_version=4)
    assert [cell for _, cell in chapters.code_cells(after)] == [cell for _, cell in chapters.code_cells(before)]
    assert any(sync.shapes_of(cell) for cell in after.cells)


def test_entries_are_alike_up_to_rounding():
    one = ["3: x: (2, 17) float32, -2.1 to 3; n: list of 12, 0 to 11", "4 pass 1: y: (3,) float32, 1e-7"]
    assert shapes.alike(one, [one[0].replace("-2.1", "-2.2"), one[1].replace("1e-7", "-3e-6")])
    changes = ("17", "18"), ("12", "13"), ("float32", "float64"), ("3: x", "2: x"), ("-2.1", "-3.1"), ("x:", "z:")
    for old, new in changes:
        assert not shapes.alike(one, [one[0].replace(old, new), one[1]]), (old, new)
    assert shapes.alike(one, [one[0].replace("-2.1", "-3.1"), one[1]], values=False)
    assert not shapes.alike(one, one[:1])

    counts = ["10-11 pass 6: below: [2, 0]; n: 1,234"]
    assert shapes.alike(counts, [counts[0].replace("2, 0", "1, 10")], values=False)
    assert not shapes.alike(counts, [counts[0].replace("2, 0", "1, 10")]), "of what is no measurement, numbers stay"
    for old, new in ("2, 0", "2, 0, 0"), ("[2, 0]", "(2, 0)"), ("1,234", "56"), ("10-11", "10-12"), ("pass 6", "pass 5"):
        assert not shapes.alike(counts, [counts[0].replace(old, new)], values=False), (old, new)


# The book's chapters; that a fresh run notes the same is tested where nbval runs them (conftest.py)


@pytest.mark.parametrize("twin", chapters.twins(), ids=lambda twin: twin.stem)
def test_every_chapter_has_shapes(twin):
    """Entries have the one form, and name what stands on the lines that they name."""
    notebook = nbformat.read(chapters.notebook_of(twin), as_version=4)
    total = 0
    for number, cell in chapters.code_cells(notebook):
        lines = cell.source.split("\n")
        for entry in sync.shapes_of(cell):
            match = ENTRY.fullmatch(entry)
            assert match, (number, entry)
            first, last = int(match[1]), int(match[2] or match[1])
            assert 1 <= first <= last <= len(lines), (number, entry)
            assert match[5] is None or match[4] == "1", (number, entry)
            said = " ".join(lines[first - 1 : last]).replace('"', "'")
            name = match[6].split(": ")[0].split(" = ")[0]
            assert (name if name != "returns" else "return") in said or "[" in name, (number, entry)
            total += 1
    assert total > 5
    assert sum(len(entry.encode()) for cell in notebook.cells for entry in sync.shapes_of(cell)) < 16_000


# The pages


def pages_data(site, name: str) -> list[tuple[str, list[str]]]:
    """Code and entries of each listing in a built page."""
    page = BeautifulSoup((site.folder / "book" / f"{name}.html").read_text("utf-8"), "html.parser")
    return [
        (data.parent.find("pre").get_text().strip("\n"), json.loads(data.string))
        for data in page.find_all("script", class_="lens-data")
    ]


@pytest.mark.parametrize("twin", chapters.twins(), ids=lambda twin: twin.stem)
def test_the_page_holds_what_the_run_noted(site, twin):
    notebook = nbformat.read(chapters.notebook_of(twin), as_version=4)
    hidden = {"remove-cell", "remove-input"}
    expected = [
        (cell.source.strip("\n"), sync.shapes_of(cell))
        for _, cell in chapters.code_cells(notebook)
        if sync.shapes_of(cell) and not hidden & set(cell.metadata.get("tags", []))
    ]
    assert pages_data(site, twin.stem) == expected


PAGE = "02_attention"
LISTING = "def attention_weights"


@pytest.fixture
def opened(windows, site):
    """Open the page with some kind of window; it must stay silent."""
    noise = []
    with windows.borrowed() as window:

        def open_page(scheme: str = "http", width: int = 1280, **options):
            page, heard = window(viewport={"width": width, "height": 844}, **options)
            noise.append(heard)
            page.goto(f"{getattr(site, scheme)}/book/{PAGE}.html")
            return page

        yield open_page
        assert [one for heard in noise for one in heard if one[0] in ("error", "warning")] == []


def place_of(page, line: int) -> tuple[float, float]:
    """A point on a line of the listing, which is brought to the middle of the window."""
    listing = page.locator("div.cell_input pre", has_text=LISTING).first
    listing.evaluate("pre => pre.scrollIntoView({block: 'center', behavior: 'instant'})")
    return tuple(listing.evaluate(
        """(pre, line) => {
          const node = document.createTreeWalker(pre, NodeFilter.SHOW_TEXT), range = document.createRange();
          for (let before = 0; node.nextNode(); ) for (let i = 0; i < node.currentNode.length; i++) {
            if (before === line - 1 && node.currentNode.data[i].trim()) {
              range.setStart(node.currentNode, i); range.setEnd(node.currentNode, i + 1);
              const box = range.getBoundingClientRect();
              return [box.left + 2, box.top + box.height / 2];
            }
            before += node.currentNode.data[i] === "\\n";
          }
        }""",
        line,
    ))  # fmt: skip


def words(page) -> list[str]:
    """What the lens shows; it is one line's, or nothing."""
    boxes = page.locator(".lens-words")
    assert boxes.count() <= 1 == page.locator(".lens-bar").count() + (boxes.count() == 0)
    return boxes.first.inner_text().split("\n") if boxes.count() else []


def entries_of_listing(site) -> dict[int, str]:
    entries = next(entries for source, entries in pages_data(site, PAGE) if LISTING in source)
    return {int(entry.split(":")[0]): entry.split(": ", 1)[1] for entry in entries}


def as_shown(entry: str) -> list[str]:
    return entry.replace("-", "−").replace("; ", "\n").replace(": ", "\n").split("\n")


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_by_pointer(opened, site, scheme):
    page = opened(scheme)
    told = entries_of_listing(site)
    assert len(told) == 3
    height = page.evaluate("document.documentElement.scrollHeight")
    for line, entry in told.items():
        page.mouse.move(*place_of(page, line))
        page.locator(".lens-words").wait_for()
        page.wait_for_timeout(400)
        assert words(page) == as_shown(entry)
        bar, box = page.locator(".lens-bar").bounding_box(), page.locator(".lens-words").bounding_box()
        assert bar["y"] < place_of(page, line)[1] < bar["y"] + bar["height"]
        assert abs(box["y"] + box["height"] - bar["y"]) < 2  # right above the line, which stays in sight
    page.mouse.move(box["x"] + 9, box["y"] + 9)
    page.wait_for_timeout(500)
    assert words(page)  # the words themselves can be pointed at, and selected
    page.keyboard.press("Escape")
    assert words(page) == []
    page.mouse.move(*place_of(page, line))
    page.locator(".lens-words").wait_for()
    page.mouse.move(5, 5)
    page.locator(".lens-words").wait_for(state="detached")
    x, y = place_of(page, 3)  # a line of the docstring has nothing to show
    page.mouse.move(x, y)
    page.wait_for_timeout(300)
    assert words(page) == []
    assert page.evaluate("document.documentElement.scrollHeight") == height  # nothing moved


def test_by_finger(opened, site):
    page = opened("http", 390, has_touch=True, is_mobile=True)
    for line, entry in entries_of_listing(site).items():
        page.touchscreen.tap(*place_of(page, line))
        soon(page, lambda: words(page) == as_shown(entry))
        box = page.locator(".lens-words").bounding_box()
        assert 0 <= box["x"] and box["x"] + box["width"] <= 390
    page.touchscreen.tap(*place_of(page, line))  # again: away
    soon(page, lambda: words(page) == [])
    page.touchscreen.tap(*place_of(page, line))
    soon(page, lambda: words(page))
    page.locator(".bd-article h1").first.tap()
    soon(page, lambda: words(page) == [])


def test_by_keyboard(opened, site):
    """One stop of the Tab key a listing; arrows lead from line to line, and each says its words."""
    page = opened()
    told = entries_of_listing(site)
    lens = page.locator("div.cell_input", has_text=LISTING).first.locator(".lens")
    marks = lens.get_by_role("button")
    assert lens.get_attribute("role") == "group" and lens.get_attribute("aria-label")
    assert lens.locator("[tabindex='0']").count() == 1 and marks.count() == len(told)
    marks.first.focus()
    for i, (line, entry) in enumerate(told.items()):
        said = page.evaluate("document.activeElement.ariaLabel")
        assert said == f"Line {line}: " + entry.replace(": ", " ").replace("-", "−")
        assert words(page) == as_shown(entry)
        page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.ariaLabel") == said  # the last line stays
    page.keyboard.press("Home")
    assert words(page) == as_shown(told[min(told)])
    page.keyboard.press("Escape")
    assert words(page) == [] and page.evaluate("document.activeElement.className") == "lens-mark"
    page.keyboard.press("Enter")
    assert words(page) == as_shown(told[min(told)])
    page.keyboard.press("Tab")
    assert words(page) == [] or not lens.evaluate("lens => lens.contains(document.activeElement)")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.ariaLabel").startswith(f"Line {min(told)}: ")


def test_loops_tell_their_passes(opened, site):
    page = opened()
    source, entries = next((s, e) for s, e in pages_data(site, PAGE) if any(" pass 5" in entry for entry in e))
    mark = page.locator("div.cell_input", has_text=source.split("\n")[0]).locator(
        ".lens-mark[aria-label*='pass 1:'][aria-label*='pass 5:']").first  # fmt: skip
    mark.focus()
    shown = words(page)
    assert "pass 1" in shown and "pass 5" in shown


def test_every_mark_lies_on_its_line(opened):
    """In every listing, once it is open, marks and lines of text agree, with larger text, too."""
    page = opened()
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true })")
    for size in "100%", "200%":
        page.evaluate("size => { document.documentElement.style.fontSize = size }", size)
        pixels = 13 if size == "100%" else 26
        page.add_style_tag(content=f".bd-content div.cell pre {{ font-size: {pixels}px !important }}")
        page.wait_for_timeout(200)
        off = page.evaluate(
            """() => [...document.querySelectorAll(".lens")].filter(lens => lens.checkVisibility()).flatMap(lens => {
              const pre = lens.parentElement.querySelector("pre"), lines = pre.textContent.split("\\n");
              const range = document.createRange();
              return [...lens.querySelectorAll(".lens-mark")].filter(mark => {
                let before = Number(mark.style.getPropertyValue("--first"));
                const walker = document.createTreeWalker(pre, NodeFilter.SHOW_TEXT);
                while (walker.nextNode()) for (let i = 0; i < walker.currentNode.length; i++) {
                  if (!before && walker.currentNode.data[i].trim()) {
                    range.setStart(walker.currentNode, i); range.setEnd(walker.currentNode, i + 1);
                    const text = range.getBoundingClientRect(), box = mark.getBoundingClientRect();
                    const middle = (text.top + text.bottom) / 2;
                    return !(box.top < middle && middle < box.bottom);
                  }
                  before -= walker.currentNode.data[i] === "\\n";
                }
                return true;
              }).map(mark => mark.ariaLabel);
            })"""
        )
        assert (size, off) == (size, [])


def test_selecting_and_copying_code_is_as_before(opened):
    page = opened()
    listing = page.locator("div.cell_input pre", has_text=LISTING).first
    x, y = place_of(page, 8)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 120, y, steps=5)
    page.mouse.up()
    page.wait_for_timeout(300)
    selected = page.evaluate("getSelection().toString()")
    assert selected and selected in listing.inner_text() and words(page) == []
    assert listing.locator("button, .lens").count() == 0  # the lens lies over the code, not in it


def test_nothing_without_a_script_and_nothing_on_paper(opened):
    page = opened(java_script_enabled=False)
    assert page.locator(".lens, .lens-mark").count() == 0
    assert page.locator("script.lens-data").count() > 5
    page = opened()
    page.locator(".lens-mark").first.focus()
    assert page.locator(".lens").first.is_visible() and words(page)
    page.emulate_media(media="print")
    assert page.locator(".lens >> visible=true").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessible_when_shown(opened, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = opened(color_scheme=theme)
    for i in 0, 3:
        page.locator(".lens-mark[tabindex='0']").nth(i).focus()
        assert words(page)
        report = axe.run(page, context={"include": [[".cell_input:has(.lens-words)"]]}, options=SILENTLY).response
        assert [(v["id"], v["nodes"][0]["html"][:200]) for v in report["violations"]] == []
    ratio = page.evaluate(
        """() => {
          const light = text => {
            const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
              .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const box = document.querySelector(".lens-words"), back = light(getComputedStyle(box).backgroundColor);
          return Math.min(...[...box.children].map(part => {
            const front = light(getComputedStyle(part).color);
            return (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
          }));
        }"""
    )
    assert ratio > 4.5
