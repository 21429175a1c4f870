"""Stands in for Colab: the wheel alone, without its dependencies' pins, runs every chapter from an empty folder."""

import shutil
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
    """The package as `pip install git+https://...` would make it, of nothing but its own files."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "vit_edu", source / "vit_edu", ignore=shutil.ignore_patterns("__pycache__"))
    for name in "pyproject.toml", "README.md", "LICENSE":
        shutil.copy(ROOT / name, source)
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
