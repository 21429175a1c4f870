"""The pipeline from text to notebook to package: that it keeps everything, notices everything, and changes no byte in vain."""

import builtins
import dis
import importlib
import importlib.util
import inspect
import json
import re
import shutil
import sys
import textwrap
import types
from pathlib import Path

import address
import chapters
import check
import export
import import_picture
import nbformat
import pytest
import record
import setup_env
import sync
from chapters import ChapterError

ROOT = Path(__file__).resolve().parents[1]
COLAB = """
try:
    import vit_edu
except ImportError:
    %pip install -q --no-deps git+https://github.com/OWNER/vit-edu
"""
TIME = "import time\nprint(f'one forward: {time.perf_counter():.9f} ms')"
MEASURED = "print('ratio', time.perf_counter())"


def code(source: str, options: str = "") -> str:
    return f"```{{code-cell}} ipython3\n{options}{textwrap.dedent(source).strip()}\n```\n\n"


FIRST = code(COLAB, ":tags: [remove-cell]\n")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A small project of two chapters, the second using the module of the first; not yet executed."""
    tmp_path = tmp_path_factory.mktemp("original")
    (tmp_path / "book" / "text").mkdir(parents=True)
    (tmp_path / "vit_edu").mkdir()
    (tmp_path / "vit_edu" / "__init__.py").write_text("")
    (tmp_path / "README.md").write_text("https://github.com/OWNER/vit-edu and https://OWNER.github.io/vit-edu/x\n")
    (tmp_path / "_config.yml").write_text("url: https://github.com/OWNER/vit-edu\n")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    sync.write_address(tmp_path)
    write(
        tmp_path,
        "01_first",
        "# First\n\n"
        + FIRST
        + code("# vit_edu/first.py\nSIZE = 2")
        + code("print(SIZE)")
        + code(TIME)
        + code(MEASURED, ":tags: [nbval-ignore-output]\n"),
    )
    second = code("from vit_edu.first import SIZE\nprint(SIZE)") + code(
        "# vit_edu/second.py\nfrom vit_edu.first import SIZE"
    )
    write(tmp_path, "02_second", "# Second\n\n" + FIRST + second)
    sync.write_address(tmp_path)
    export.export(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def executed(original, tmp_path_factory):
    """The same after `make sync`."""
    folder = shutil.copytree(original, tmp_path_factory.mktemp("executed") / "project")
    assert len(sync.sync(folder)) == 2
    return folder


@pytest.fixture
def project(original, tmp_path):
    return shutil.copytree(original, tmp_path / "project")


@pytest.fixture
def synced(executed, tmp_path):
    return shutil.copytree(executed, tmp_path / "project")


def write(project: Path, name: str, text: str) -> Path:
    path = project / "book" / "text" / f"{name}.md"
    path.write_text(text)
    return path


def files(project: Path) -> dict[str, tuple[bytes, int]]:
    """Every file's content and time of last change."""
    return {
        str(p): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in project.rglob("*.*")
        if p.is_file() and "__pycache__" not in p.parts
    }


# The project itself


@pytest.mark.parametrize("function", check.CHECKS, ids=lambda f: f.__name__)
def test_project(function):
    assert function(ROOT) == []


@pytest.mark.parametrize("path", sorted((ROOT / "vit_edu").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_module_stands_alone(path):
    """No function of a module uses a name that only the notebook had."""
    known = {*vars(importlib.import_module(f"vit_edu.{path.stem}")), *vars(builtins)}

    def unknown(code):
        for step in dis.get_instructions(code):
            if step.opname == "LOAD_GLOBAL" and step.argval not in known:
                yield f"{code.co_name}: {step.argval}"
        for constant in filter(inspect.iscode, code.co_consts):
            yield from unknown(constant)

    assert list(unknown(compile(path.read_text(), path.name, "exec"))) == []


# Export


def test_export_keeps_everything(project):
    """Constants, decorators, comments, strings, `from __future__` and imports after definitions survive, in order."""
    cells = [
        "# vit_edu/first.py\nfrom __future__ import annotations\n\nimport math\n\nTAU = 2 * math.pi  # a constant\nTEXT = '''one\n\n\n%two'''",
        "# vit_edu/first.py\nimport functools\n\n\n@functools.cache\ndef half(x: Unknown) -> float:\n    # why\n    return x / 2",
        "print('not exported')",
        "# vit_edu/first.py\n\nfrom __future__ import (\n    generator_stop,\n)\nfrom dataclasses import dataclass\n\n\n@dataclass\nclass Pair:\n    left: int = 1",
    ]
    write(project, "01_first", "# The first chapter\n\n" + FIRST + "".join(map(code, cells)))
    (path,) = export.export(project)
    source = path.read_text()
    assert source == textwrap.dedent('''\
        """The first chapter.

        Written by tools/export.py from book/text/01_first.md: edit that file, then `make sync`.
        """

        from __future__ import annotations, generator_stop

        import math

        TAU = 2 * math.pi  # a constant
        TEXT = \'\'\'one


        %two\'\'\'


        import functools


        @functools.cache
        def half(x: Unknown) -> float:
            # why
            return x / 2


        from dataclasses import dataclass


        @dataclass
        class Pair:
            left: int = 1
        ''')
    spec = importlib.util.spec_from_file_location("exported_first", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.half(3) == 1.5 and module.Pair().left == 1 and "%two" in module.TEXT
    assert export.export(project) == []


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("# vit_edu/first.py\n%pip install x", "01_first.md, cell 3, line 2: IPython magics"),
        ("# vit_edu/first.py\nx = 1\n!ls", "01_first.md, cell 3, line 3: IPython magics"),
        ("# vit_edu/first.py\ndef broken(:", "01_first.md, cell 3, line 2"),
        ("# vit_edu/first.py (continued)\nx = 1", "01_first.md, cell 3: the first line must be"),
        ("# vit_edu/first.py\nfrom __future__ import annotations; x = 1", "01_first.md, cell 3: give each"),
    ],
)
def test_export_refuses_what_it_cannot_keep(project, cell, message):
    write(project, "01_first", "# First\n\n" + FIRST + code(cell))
    before = files(project)
    with pytest.raises(ChapterError, match=message):
        export.export(project)
    assert files(project) == before


def test_export_refuses_a_module_of_two_chapters(project):
    write(project, "02_second", "# Second\n\n" + FIRST + code("# vit_edu/first.py\nSIZE = 3"))
    with pytest.raises(ChapterError, match="first.py is marked in 01_first.md and in 02_second.md"):
        export.export(project)


# Sync


def test_sync_writes_once_and_executes_only_what_changed(synced):
    before = files(synced)
    assert sync.sync(synced) == [] == sync.sync(synced, check=True)
    assert files(synced) == before

    sync.sync(synced, force=True)  # the same bytes again, whatever the clock says in between
    assert {name: content for name, (content, _) in files(synced).items()} == {
        name: content for name, (content, _) in before.items()
    }

    write(synced, "03_third", "# Third\n\n" + FIRST + code("1 + 1"))
    assert sync.sync(synced) == ["book/03_third.ipynb: written"]

    text = synced / "book" / "text" / "01_first.md"  # a change of the package reaches the chapters that use it
    text.write_text(text.read_text().replace("SIZE = 2", "SIZE = 5"))
    assert sync.sync(synced, check=True) == ["vit_edu/first.py: out of step", "book/01_first.ipynb: out of step"]
    assert sync.sync(synced) == [
        "vit_edu/first.py: written",
        "book/01_first.ipynb: written",
        "book/02_second.ipynb: written",
    ]
    notebook = nbformat.read(synced / "book" / "02_second.ipynb", as_version=4)
    assert "5" in [output.text.strip() for cell in notebook.cells for output in cell.get("outputs", [])]


def test_sync_names_the_failing_cell_and_keeps_the_notebook(synced):
    stored = (synced / "book" / "02_second.ipynb").read_bytes()
    write(synced, "02_second", "# Second\n\n" + FIRST + code("1 + 1") + code("1 / 0"))
    with pytest.raises(ChapterError, match="(?s)02_second.md, cell 4.*ZeroDivisionError"):
        sync.sync(synced)
    assert (synced / "book" / "02_second.ipynb").read_bytes() == stored


def test_sync_of_one_chapter_leaves_broken_others_alone(project):
    write(project, "01_first", "# First\n\n" + FIRST + code("# vit_edu/first.py\ndef broken(:"))
    assert sync.sync(project, ["02_second"]) == ["book/02_second.ipynb: written"]
    with pytest.raises(ChapterError, match="no chapter 04_none"):
        sync.sync(project, ["04_none"])


def test_address_has_one_source(project):
    pyproject = project / "pyproject.toml"
    urls = 'Repository = "https://github.com/somebody/vit-edu"\nDocumentation = "https://somebody.github.io/vit-edu"\n'
    text = pyproject.read_text()
    pyproject.write_text(text[: text.index("Repository")] + urls + text[text.index("[tool.setuptools") :])
    assert len(check.address_is_one(project)) == 4
    sync.write_address(project)
    assert (
        project / "README.md"
    ).read_text() == "https://github.com/somebody/vit-edu and https://somebody.github.io/vit-edu/x\n"
    assert "git+https://github.com/somebody/vit-edu" in (project / "book" / "text" / "01_first.md").read_text()
    assert check.address_is_one(project) == []


def test_outputs_that_need_data_are_not_made_without(project, tmp_path, monkeypatch):
    """A chapter with such cells is executed only where CIFAR-10 is; others are executed anywhere."""
    monkeypatch.setenv("VIT_EDU_DATA", str(tmp_path / "data"))
    write(project, "02_second", "# Second\n\n" + FIRST + code("print(1)", ":tags: [needs-data]\n"))
    with pytest.raises(ChapterError, match="02_second.md: its outputs show CIFAR-10: set VIT_EDU_DATA"):
        sync.sync(project)
    assert (project / "book" / "01_first.ipynb").exists() and not (project / "book" / "02_second.ipynb").exists()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cifar10.safetensors").touch()
    sync.sync(project)
    assert (project / "book" / "02_second.ipynb").exists()


def test_outputs_that_need_data_are_compared_only_where_it_is(monkeypatch):
    def checked() -> list:
        items = []
        for tags in [["needs-data"], []]:
            cell = nbformat.v4.new_code_cell("print(1)", metadata={"tags": tags})
            items.append(types.SimpleNamespace(cell=cell, options={"check": True}))
        chapters.compare_where_data_is([*items, object()])
        return [item.options["check"] for item in items]

    monkeypatch.setattr(chapters, "has_data", lambda: False)
    assert checked() == [False, True]
    monkeypatch.setattr(chapters, "has_data", lambda: True)
    assert checked() == [True, True]


@pytest.mark.parametrize(
    "text, found",
    [
        ("It reaches 93.6 % in the end.", 1),
        ("Fine. It takes 4 minutes, we found. Others {cite}`a` say so.", 1),
        ("It gains 2.5 points {cite}`a`.", 0),
        ("| ours | 90 % |\n| theirs {cite}`a` | 80 % |", 1),
        ("*Cost: about 20 minutes of reading.*", 0),
        ("at 1,200 images/s\n\nas {cite}`a` says", 1),
        ("two points, 4 patches, 16 pixels and 100 steps", 0),
    ],
)
def test_figures_without_a_source_are_noticed(text, found, project):
    write(project, "02_second", f"# Second\n\n{FIRST}{text}\n")
    assert len(check.figures_have_sources(project)) == found


def test_a_chapter_depends_on_what_it_imports(project):
    package = project / "vit_edu"
    (package / "widgets").mkdir()
    (package / "exercises").mkdir()
    for name in "widgets/__init__.py", "widgets/a.js", "unrelated.py", "exercises/__init__.py":
        (package / name).write_text("")
    (package / "exercises" / "one.py").write_text('from vit_edu.first import SIZE\nNAMES = "cut", "ex-one-size"')
    (package / "exercises" / "two.py").write_text('NAMES = "join"')
    (package / "recorded" / "run").mkdir(parents=True)
    (package / "recorded" / "run" / "run.json").write_text("{}")

    def depends(source):
        return [str(path.relative_to(package)) for path in chapters.package_files([source], package)]

    assert depends("import torch") == []
    assert depends("import vit_edu.second") == ["first.py", "second.py"]
    assert depends("def f():\n    from vit_edu import second") == ["first.py", "second.py"]
    assert depends("%time 1\nfrom vit_edu import create_vit") == ["__init__.py"]
    assert depends("from vit_edu.widgets import A") == ["widgets/__init__.py", "widgets/a.js"]
    for asked in "check(cut)", 'check("ex-one-size", answer=...)', 'check(\n    "ex-one-size")':
        source = f"from vit_edu.exercises import check\n{asked}"
        assert depends(source) == ["exercises/__init__.py", "exercises/one.py", "first.py"]
    assert depends("from vit_edu import first\nrun = 'recorded/run'") == ["first.py", "recorded/run/run.json"]


# The checks notice what they are for


def plant(project: Path, name: str, old: str, new: str) -> None:
    path = project / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


SVG = '<svg class="fig" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">\n<style>\n.fig text {}\n</style>\n<path id="a-x"/>\n</svg>'


def test_imports_are_drawn_without_what_follows_from_others():
    drawn, names = import_picture.graph(), list(import_picture.modules())
    assert drawn["block"] == {"attention", "mlp"} and drawn["patches"] == set()
    assert sorted(drawn) == sorted(names) == sorted(path.stem for path in (ROOT / "vit_edu").glob("[a-z]*.py"))


@pytest.mark.parametrize(
    ("function", "name", "old", "new", "problem"),
    [
        (
            check.notebooks_in_step,
            "book/01_first.ipynb",
            "print(SIZE)",
            "print(SIZE + 1)",
            "01_first.ipynb is out of step",
        ),
        (check.notebooks_in_step, "book/text/01_first.md", "# First", "# Other", "01_first.ipynb is out of step"),
        (check.notebooks_in_step, "vit_edu/first.py", "SIZE = 2", "SIZE = 3", "02_second.ipynb is out of step"),
        (check.modules_in_step, "vit_edu/first.py", "SIZE = 2", "SIZE = 3", "vit_edu/first.py is not what"),
        (
            check.modules_in_step,
            "book/text/01_first.md",
            "# vit_edu/first.py",
            "# no mark",
            "vit_edu/first.py is exported by no",
        ),
        (
            check.modules_in_reading_order,
            "vit_edu/first.py",
            "SIZE",
            "import vit_edu.second\nSIZE",
            "imports vit_edu.second",
        ),
        (
            check.modules_in_reading_order,
            "vit_edu/first.py",
            "SIZE",
            "from vit_edu.widgets import A\nSIZE",
            "imports vit_edu.widgets",
        ),
        (check.notebooks_run_in_colab, "book/text/01_first.md", "print(SIZE)", "import pandas", "imports pandas"),
        (check.notebooks_run_in_colab, "book/text/01_first.md", "remove-cell", "keep-cell", "tagged remove-cell"),
        (
            check.outputs_are_clean,
            "book/01_first.ipynb",
            '"name": "stdout"',
            '"name": "stderr"',
            "printed on stderr: 2",
        ),
        (check.address_is_one, "_config.yml", "OWNER", "elsewhere", "_config.yml gives another address"),
        (check.drawings_share_the_palette, "book/assets/a.svg", 'id="a-x"', 'id="x"', "the id x must begin"),
        (check.drawings_share_the_palette, "book/assets/a.svg", "<path", '<path fill="#fff"', "colours #fff do not"),
        (
            check.drawings_share_the_palette,
            "book/assets/a.svg",
            ".fig text {}",
            "",
            "a.svg: its <style> is not the one of",
        ),
        (check.drawings_share_the_palette, "book/assets/a.svg", "</svg>", "", "a.svg is not well-formed"),
        (check.a_chapter_is_an_evening, "book/text/01_first.md", "# First", "word " * 6000, "01_first.md has 6,0"),
        (check.a_chapter_is_an_evening, "vit_edu/first.py", "SIZE = 2", "SIZE = 2\n" * 350, "vit_edu/first.py has 35"),
    ],
)
def test_check_notices(synced, function, name, old, new, problem):
    if "drawings" in function.__name__:
        (synced / "book" / "assets").mkdir()
        for letter in "abc":
            (synced / "book" / "assets" / f"{letter}.svg").write_text(SVG.replace("a-x", f"{letter}-x"))
    assert function(synced) == []
    if name == "_config.yml":
        (synced / name).write_text("url: https://github.com/elsewhere/vit-edu\n")
    else:
        plant(synced, name, old, new)
    assert any(problem in found for found in function(synced)), function(synced)


def test_check_notices_errors_and_pictures_without_words(synced):
    write(
        synced,
        "03_third",
        "# Third\n\n"
        + FIRST
        + code("1 / 0", ":tags: [raises-exception]\n")
        + code("from IPython.display import SVG\nSVG('<svg/>')"),
    )
    sync.sync(synced)
    (problem,) = check.outputs_are_clean(synced)
    assert "03_third.ipynb, cell 4 shows a picture" in problem
    plant(synced, "book/03_third.ipynb", "raises-exception", "other-tag")
    assert any("holds an error: ZeroDivisionError" in found for found in check.outputs_are_clean(synced))


# Adopting a run into the package


def run_folder(parent, table="epoch,train_loss\n1,0.5\n2,0.4\n", **changes):
    """A finished training run of two epochs; `changes` of its facts, None takes one away."""
    facts = dict(recipe="small", seed=0, epochs=2, config={}, data="none", seconds=1.0, final={"epoch": 2})
    facts |= dict(commit="0123456789ab", versions={}, hardware="none") | changes
    folder = parent / "runs" / "small-0"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({k: v for k, v in facts.items() if v is not None}))
    if table:
        (folder / "metrics.csv").write_text(table)
    return folder


MEASUREMENT = dict(recipe=None, seed=None, epochs=None, data=None, final=None)


@pytest.mark.parametrize("facts", [{}, dict(table="tokens\n65\n", **MEASUREMENT), dict(table="", **MEASUREMENT)])
def test_runs_and_measurements_are_adopted(facts, tmp_path):
    run = run_folder(tmp_path, **facts)
    record.check(run)
    adopted = record.adopt(run, weights=False, to=tmp_path / "recorded")
    assert adopted == tmp_path / "recorded" / "small-0"
    assert {p.name: p.read_text() for p in adopted.iterdir()} == {p.name: p.read_text() for p in run.iterdir()}


@pytest.mark.parametrize(
    "facts, message",
    [
        (dict(final=None), "says nothing of final"),
        (dict(hardware=None, **MEASUREMENT, table=""), "says nothing of hardware"),
        (dict(commit="0123456789ab+changes"), "commit the code, then run it again"),
        (dict(epochs=3), "3 epochs were to be, 2 are in metrics.csv"),
        (dict(table=""), "2 epochs were to be, 0 are in metrics.csv"),
        (dict(final={"epoch": 1}), "final figures are of epoch 1"),
    ],
)
def test_what_is_not_complete_is_not_adopted(facts, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        record.check(run_folder(tmp_path, **facts))


# The environment's repair


MISMATCH = (1, "None\n", "Traceback ...\nRuntimeError: operator torchvision::nms does not exist\n")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (MISMATCH, True),
        ((0, "None\n", ""), False),
        ((1, "12.8\n", MISMATCH[2]), False),
        ((1, "None\n", "ModuleNotFoundError: No module named 'torchvision'"), False),
        ((1, "", "ModuleNotFoundError: No module named 'torch'"), False),
    ],
)
def test_repair_only_of_precisely_that_failure(found, expected):
    assert setup_env.is_mismatch(*found) is expected


def test_repair_is_written_verified_and_taken_away(tmp_path):
    path = tmp_path / "torchvision_on_cpu.pth"

    def probe():  # fails as known until the repair stands
        return (0, "None\n", "") if path.exists() else MISMATCH

    assert setup_env.repair(tmp_path, probe) and path.exists()
    assert setup_env.repair(tmp_path, lambda: (0, "None\n", "")) == "" and not path.exists()
    with pytest.raises(RuntimeError, match="did not help"):
        setup_env.repair(tmp_path, lambda: MISMATCH)
    assert list(tmp_path.iterdir()) == []


# The map from the paper to the code


def test_the_map_names_what_exists_and_the_chapter_that_writes_it():
    """Each `module.name`, and the argument after it, exists; one of the row's chapters writes the module."""
    text, found = (ROOT / "book" / "paper_to_code.md").read_text("utf-8"), []
    writer = {name: twin.stem for twin in chapters.twins() for name in export.modules(twin)}
    for row in text.splitlines():
        named = set()
        for module, path, argument in re.findall(r"`([a-z_0-9]+)\.([\w.]+)`(?:: `(\w+)`)?", row):
            thing = importlib.import_module(f"vit_edu.{module}")
            for part in path.split("."):
                thing = getattr(thing, part)
            if argument:
                owner = getattr(importlib.import_module(f"vit_edu.{module}"), path.split(".")[0])
                assert argument in inspect.signature(owner).parameters, (path, argument)
            named.add(writer[module])
            found.append(path)
        if linked := set(re.findall(r"\{doc\}`\d\d <(\d\d_\w+)>`", row)) if named else None:
            assert linked & named, row
    assert len(found) > 40


def test_a_copys_address_is_written_in_one_step(synced):
    """The owner stands everywhere, and no chapter is out of step for it; a name that cannot be one is refused."""
    before = {twin: nbformat.read(chapters.notebook_of(twin), as_version=4) for twin in chapters.twins(synced)}
    assert all(map(sync.in_step, before))
    with pytest.raises(ValueError, match="'my name' is no account's name"):
        address.set_owner("my name", synced)
    owner = "somebody" if "somebody" not in (synced / "pyproject.toml").read_text() else "another"
    address.set_owner(owner, synced)
    assert f"github.com/{owner}/vit-edu" in (synced / "pyproject.toml").read_text()
    assert not address.is_placeholder(synced) and check.address_is_one(synced) == []
    for twin, notebook in before.items():
        after = nbformat.read(chapters.notebook_of(twin), as_version=4)
        assert sync.in_step(twin)
        assert [cell.get("outputs") for cell in after.cells] == [cell.get("outputs") for cell in notebook.cells]


def test_no_page_says_that_something_is_not_recorded():
    """A table has a row where there is a record; what could be run is a command in a list of its own."""
    found = []
    for twin in chapters.twins():
        notebook = nbformat.read(chapters.notebook_of(twin), as_version=4)
        for number, cell in enumerate(notebook.cells, 1):
            texts = [cell.source, *(output.get("text", "") for output in cell.get("outputs", []))]
            if any(re.search("not (yet )?recorded", text) for text in texts):
                found.append(f"{twin.stem}, cell {number}")
    assert found == []
