"""Stands in for Colab: the wheel holds all that a chapter needs.

The chapters themselves run with the installed wheel, each from an empty folder: see `AsInColab` in conftest.py.
"""

import os
import subprocess
import sys
import zipfile

import pytest
from chapters import ROOT, code_cells, read, twins
from library import library, source, wheel


def test_wheel_holds_everything(tmp_path):
    """All modules, the interactive pictures' scripts and styles, and the records."""
    package = ROOT / "vit_edu"
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in package.rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and (path.suffix in (".py", ".js", ".css") or "recorded" in path.parts)
    }
    assert expected <= set(zipfile.ZipFile(wheel(tmp_path)).namelist())


def test_a_chapter_imports_the_wheel(tmp_path):
    """With the library's folder in PYTHONPATH, as chapters run, `vit_edu` is the wheel's, not the checkout's."""
    folder = library(tmp_path)
    command = [sys.executable, "-c", "import vit_edu; print(vit_edu.__file__)"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(folder)}, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.startswith(str(folder)), done.stderr


def test_pip_installs_the_same(tmp_path):
    """What the chapters run with is, file by file, what pip makes of the project."""

    def files(folder):
        paths = [path for path in folder.glob("vit_edu/**/*") if path.is_file() and "__pycache__" not in path.parts]
        return {path.relative_to(folder): path.read_bytes() for path in paths}

    options = ["-q", "--no-deps", "--no-index", "--no-build-isolation", "--target", tmp_path / "by-pip"]
    pip = [sys.executable, "-m", "pip", "install", *options]
    subprocess.run([*pip, source(tmp_path / "project")], check=True, capture_output=True, text=True)
    installed = files(tmp_path / "by-pip")
    assert installed and installed == files(library(tmp_path))


@pytest.mark.parametrize("twin", twins(), ids=lambda path: path.stem)
def test_no_chapter_reads_the_checkout(twin):
    """Code cells name no file of the project outside the package: Colab has the notebook and the wheel alone."""
    code = "\n".join(cell.source for _, cell in code_cells(read(twin)))
    assert not [name for name in ("book/", "tools/", "tests/", "benchmarks/") if f'"{name}' in code or f"Path({name!r}" in code]
