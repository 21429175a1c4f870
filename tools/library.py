"""The package as `pip install git+https://...` makes it: what a chapter has in Colab, and what the tests run it with."""

import compileall
import shutil
import subprocess
import sys
from pathlib import Path

from chapters import ROOT

BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"    # as pip asks for it


def source(folder: Path) -> Path:
    """Nothing but the package's own files."""
    shutil.copytree(ROOT / "vit_edu", folder / "source" / "vit_edu", ignore=shutil.ignore_patterns("__pycache__"))
    for name in "pyproject.toml", "README.md", "LICENSE":
        shutil.copy(ROOT / name, folder / "source")
    return folder / "source"


def wheel(folder: Path) -> Path:
    """Build the wheel; RuntimeError with the words of what failed."""
    done = subprocess.run([sys.executable, "-c", BUILD, folder], cwd=source(folder), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the wheel cannot be built:\n{done.stderr}")
    (path,) = folder.glob("*.whl")
    return path


def library(folder: Path) -> Path:
    """A folder to import `vit_edu` from: its wheel unpacked, as pip does it."""
    shutil.unpack_archive(wheel(folder), folder / "library", "zip")
    compileall.compile_dir(folder / "library", quiet=1)
    return folder / "library"
