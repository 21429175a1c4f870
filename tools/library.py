"""The package as `pip install git+https://...` makes it: what a chapter has in Colab, and what the tests run it with."""

import shutil
import subprocess
import sys
from pathlib import Path

from chapters import ROOT


def pip(*arguments) -> None:
    """Run pip without a network, quietly; RuntimeError with its words if it fails."""
    done = subprocess.run([sys.executable, "-m", "pip", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"pip {arguments[0]} failed:\n{done.stderr}")


def wheel(folder: Path) -> Path:
    """Build the wheel of nothing but the package's own files."""
    source = folder / "source"
    shutil.copytree(ROOT / "vit_edu", source / "vit_edu", ignore=shutil.ignore_patterns("__pycache__"))
    for name in "pyproject.toml", "README.md", "LICENSE":
        shutil.copy(ROOT / name, source)
    pip("wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source)
    (path,) = folder.glob("*.whl")
    return path


def library(folder: Path) -> Path:
    """A folder to import `vit_edu` from, installed from its wheel."""
    pip("install", "-q", "--no-deps", "--no-index", "--target", folder / "library", wheel(folder))
    return folder / "library"
