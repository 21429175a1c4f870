"""Stands in for Colab: the wheel alone, without its dependencies' pins, runs every chapter from an empty folder."""

import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
import sync
from chapters import ROOT, twins


def pip(*arguments) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The package as `pip install git+https://...` would make it, of the files that git would have."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "vit_edu", "pyproject.toml", "README.md", "LICENSE"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip("wheel", "-q", "--no-deps", "--no-build-isolation", "-w", out, source)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def library(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    pip("install", "-q", "--no-deps", "--no-index", "--target", folder, wheel)
    return folder


def test_wheel_holds_everything(wheel):
    """All modules, the interactive pictures' scripts and styles, and the records."""
    package = ROOT / "vit_edu"
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in package.rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and (path.suffix in (".py", ".js", ".css") or "recorded" in path.parts)
    }
    assert expected <= set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.parametrize("twin", twins(), ids=lambda path: path.stem)
def test_chapter_runs_with_the_wheel_alone(twin, library, tmp_path):
    notebook = sync.prepared(twin)
    probe = f"import vit_edu\nassert vit_edu.__file__.startswith({str(library)!r}), vit_edu.__file__"
    notebook.cells.append(nbformat.v4.new_code_cell(probe))
    sync.execute(notebook, twin.name, tmp_path, library)
