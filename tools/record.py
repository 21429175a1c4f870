"""Adopt finished runs into the package: `python tools/record.py RUN [RUN ...] [--weights]`.

A run's folder becomes vit_edu/recorded/<its name>, if each run named is complete and says which commit made it.
Weights keep their `preparation`; where the file has none, the record's words on its data give it.
"""

import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from vit_edu.model import VisionTransformer
from vit_edu.predict import CIFAR10
from vit_edu.records import RECORDED, read_record
from vit_edu.weights import load_model, save_weights

FACTS = {"config", "seconds", "commit", "versions", "hardware"}
TRAINED = {"recipe", "seed", "epochs", "data", "final"}  # more facts, of a training run
LIMIT = 6_000_000  # bytes of weights that a run may add to the package


def check(run: Path) -> None:
    """ValueError unless the run is complete and its commit is known."""
    record = read_record(run)
    trained = "epochs" in record.facts or any("epoch" in row for row in record.metrics)  # else it measured
    if missing := (FACTS | (TRAINED if trained else set())) - record.facts.keys():
        raise ValueError(f"run.json says nothing of {', '.join(sorted(missing))}")
    if trained:
        epochs, final, rows = record.facts["epochs"], record.facts["final"].get("epoch"), len(record.metrics)
        if not epochs == final == rows:
            raise ValueError(
                f"{epochs} epochs were to be, {rows} are in metrics.csv, final figures are of epoch {final}"
            )
    if not re.fullmatch(r"[0-9a-f]{7,40}", record.facts["commit"]):
        raise ValueError(f"its commit is {record.facts['commit']!r}: commit the code, then run it again")


def prepared(run: Path) -> VisionTransformer:
    """A run's model, with what it was trained on: as its file says, or else as its record does."""
    model = load_model(run / "weights.safetensors")
    if model.preparation is None:
        data = read_record(run).facts["data"]
        if not data.startswith("CIFAR-10"):
            raise ValueError(f"its weights do not say how pictures are prepared, and {data!r} is not known here")
        model.preparation = CIFAR10
    return model


def adopt(run: Path, weights: bool, to: Path = RECORDED) -> Path:
    """Copy a run into the package, complete or not at all, in place of an older one of its name."""
    to.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to) as temporary:
        new = Path(temporary, run.name)
        new.mkdir()
        for name in "run.json", "metrics.csv":
            if (run / name).exists():
                shutil.copyfile(run / name, new / name)
        if weights:
            path = new / "weights.safetensors"
            save_weights(prepared(run), path, torch.float16)
            if (size := path.stat().st_size) > LIMIT:
                raise ValueError(f"its weights have {size:,} bytes as float16; the package takes {LIMIT:,}")
        shutil.rmtree(to / run.name, ignore_errors=True)
        return new.rename(to / run.name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="for example runs/digits-baseline-0")
    parser.add_argument("--weights", action="store_true", help="adopt the weights, too, as float16")
    options = parser.parse_args()
    for action in check, lambda run: print(adopt(run, options.weights)):
        for run in options.runs:
            try:
                action(run)
            except (OSError, TypeError, ValueError) as error:
                sys.exit(f"{run} is not adopted: {error}")
