"""A run you can trust.

Written by tools/export.py from book/text/08_checkpoint.md: edit that file, then `make sync`.
"""

import csv
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch

from vit_edu.weights import written_beside

RECORDED = Path(str(resources.files("vit_edu"))) / "recorded"


def code_version() -> str:
    """The commit of the source: from git, else from VIT_EDU_COMMIT, else "unknown"."""
    folder = Path(__file__).parent if "__file__" in globals() else Path.cwd()

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        how = dict(capture_output=True, encoding="utf-8", check=True)
        done = subprocess.run(command, **how)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "training.py")    # not a repository around us
        changed = "+changes" if git("status", "--porcelain", "--", "*.py") else ""
        return git("rev-parse", "--short=12", "HEAD") + changed
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("VIT_EDU_COMMIT", "unknown")


def hardware() -> str:
    """The GPU's name, or the processor's and how many threads torch uses of it."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        text = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
        for line in text.splitlines():
            if line.startswith("model name"):
                cpu = line.split(": ", 1)[1]
    n = torch.get_num_threads()
    return f"{cpu}, {n} thread{'s' if n > 1 else ''}"


def surroundings() -> dict:
    """Where a run took place: commit, versions and hardware, for its record."""
    packages = ("torch", "torchvision", "numpy")
    versions = {"python": platform.python_version()}
    for name in packages:
        with suppress(importlib.metadata.PackageNotFoundError):    # not all are needed
            versions[name] = importlib.metadata.version(name)
    return {"commit": code_version(), "versions": versions, "hardware": hardware()}


def write_record(out: str | os.PathLike, **facts) -> None:
    """Write `run.json` into the folder of a run."""

    def readable(value: object) -> object:    # NumPy's numbers; a path, anything else
        return value.tolist() if hasattr(value, "tolist") else str(value)

    text = json.dumps(facts, indent=1, ensure_ascii=False, default=readable) + "\n"
    with written_beside(Path(out).expanduser() / "run.json") as temporary:
        temporary.write_text(text, "utf-8")


@dataclass(frozen=True)
class Record:
    """A run as it was: its facts, and a row of figures for each epoch, if it trained."""

    name: str
    facts: dict
    metrics: list[dict[str, float]]


def read_record(folder: str | os.PathLike) -> Record:
    """Read `run.json`, and `metrics.csv` if there is one, from the folder of a run."""
    folder, rows = Path(folder).expanduser(), []
    facts = json.loads((folder / "run.json").read_text("utf-8"))
    if (table := folder / "metrics.csv").exists():
        with open(table, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    metrics = [{name: float(value) for name, value in row.items()} for row in rows]
    return Record(folder.name, facts, metrics)


def recorded(prefix: str = "") -> Iterator[Record]:
    """The runs that came with the package and whose names begin with `prefix`."""
    for path in sorted(RECORDED.glob(f"{prefix}*/run.json")):
        yield read_record(path.parent)
