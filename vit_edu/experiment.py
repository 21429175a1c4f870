"""A run you can trust.

Written by tools/export.py from book/text/08_checkpoint.md: edit that file, then `make sync`.
"""

import argparse
import importlib.util
import math
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from vit_edu import digits
from vit_edu.checkpoint import train_resumably
from vit_edu.model import VisionTransformer, count_parameters
from vit_edu.optimizer import TrainingConfig
from vit_edu.records import Record, recorded, surroundings, write_record
from vit_edu.training import evaluate
from vit_edu.weights import save_weights


def uncompiled(model: nn.Module) -> AbstractContextManager:
    """Runs a model that is compiled on a GPU as it is, for batches of other shapes."""
    on_gpu = next(model.parameters()).device.type == "cuda"
    return torch.compiler.set_stance("force_eager") if on_gpu else nullcontext()


@contextmanager
def stop_request(minutes: float | None = None) -> Iterator[Callable[[], bool]]:
    """A function that says whether to stop: after Ctrl-C, SIGTERM, or so many minutes.

    The first signal asks; a second one ends the program at once.
    """
    end = math.inf if minutes is None else time.monotonic() + 60 * minutes
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    signals = signal.SIGINT, signal.SIGTERM
    before = [signal.signal(number, note) for number in signals]
    try:
        yield lambda: bool(received) or time.monotonic() > end
    finally:
        for number, handler in zip(signals, before):
            signal.signal(number, handler)


def write_run(
    out: str | os.PathLike,
    model: nn.Module,
    averaged: AveragedModel | None,
    recipe: Any,
    history: list[dict[str, float]],
    final: dict[str, float],
    **facts,
) -> None:
    """Write a finished run's weights and its record, of any kind of recipe.

    `weights.safetensors` holds the averaged weights if there are any. `facts` join
    the record's, such as `data` and the `surroundings` in which the run began.
    """
    save_weights(averaged or model, Path(out) / "weights.safetensors")
    if (Path(out) / "run.json").exists():
        return    # finished before: what was recorded then stays
    write_record(
        out,
        recipe=recipe.label,
        command=recipe.command,
        purpose=recipe.purpose,
        seed=recipe.training.seed,
        epochs=recipe.training.epochs,
        config=asdict(recipe),
        parameters=count_parameters(model),
        seconds=sum(row["seconds"] for row in history),
        final=final,
        weights="averaged" if averaged else "last",
        **facts,
    )


def changed_numbers(recipe: Any, usual: Any) -> list[str]:
    """Options for the numbers that are not a recipe's usual ones: ["--epochs 60"]."""
    names = "seed", "epochs", "lr", "matrix_lr", "accumulate", "precision"
    pairs = [
        (name.replace("_", "-"), getattr(recipe.training, name), getattr(usual.training, name))
        for name in names
    ]
    pairs.append(("batch-size", recipe.batch_size, usual.batch_size))
    return [f"--{name} {value}" for name, value, known in pairs if value != known]


def chosen_training(args: argparse.Namespace, config: TrainingConfig) -> TrainingConfig:
    """A recipe's training with what a command line changes in it."""
    epochs = args.epochs or config.epochs
    return replace(
        config,
        seed=args.seed,
        epochs=epochs,
        lr=config.lr if args.lr is None else args.lr,
        matrix_lr=config.matrix_lr if args.matrix_lr is None else args.matrix_lr,
        precision=args.precision or config.precision,
        warmup_epochs=min(config.warmup_epochs, epochs / 10),
        accumulate=args.accumulate,
    )


def positive(text: str) -> int:
    """A whole number from 1 on, from a command line."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return number


def training_options(
    program: str, recipes: Collection[str], default: str, purpose: str | None
) -> argparse.ArgumentParser:
    """A command line with what every training command takes."""
    parser = argparse.ArgumentParser(f"python -m {program}", description=purpose)
    option = parser.add_argument
    option("--recipe", choices=recipes, default=default)
    option("--seed", type=int, default=0)
    option("--epochs", type=positive, help="instead of the recipe's")
    option("--lr", type=float, help="instead of the recipe's")
    option("--matrix-lr", type=float, help="Muon's rate, instead of the recipe's")
    option("--precision", choices=("float32", "bfloat16"), help="of matrix products")
    option("--batch-size", type=positive, help="instead of the recipe's")
    option("--accumulate", type=positive, default=1, help="parts of a batch")
    option("--minutes", type=float, help="stop then; --resume goes on")
    option("--out", help="folder of the run (default: runs/NAME-SEED)")
    option("--resume", action="store_true", help="go on where the run stopped")
    option("--list", action="store_true", help="recipes, and what to expect of them")
    option("--eval", action="store_true", help="measure a run's weights again")
    return parser


def describe_figures(final: dict[str, float]) -> str:
    """A finished run's accuracies in one line."""
    names = [name for name in final if name.endswith("accuracy")]
    return ", ".join(f"{name.replace('_', ' ')} {final[name]:.2%}" for name in names)


def result(record: Record, figure: str = "test_accuracy") -> float:
    """A figure of a record's final epoch, of the weights that it kept."""
    prefix = "averaged_" if record.facts["weights"] == "averaged" else ""
    return record.facts["final"][prefix + figure]


def runs_of(label: str, family: str = "") -> list[Record]:
    """The recorded runs of a recipe, a seed each; `family` begins their names."""
    found = recorded(f"{family}{label}-")
    return [record for record in found if record.facts["recipe"] == label]


def expectation(
    label: str, figure: str = "test_accuracy", family: str = ""
) -> str:
    """What the records say of a recipe: accuracy, minutes and hardware to expect."""
    lines = [
        f"{result(record, figure):.1%} in {record.facts['seconds'] / 60:.0f} min on "
        f"{record.facts['hardware']} ({record.facts['epochs']} epochs)"
        for record in runs_of(label, family)
    ]
    return "; ".join(lines)


def tensorboard(out: str | os.PathLike | None) -> Callable[[dict[str, float]], None]:
    """A function that shows an epoch's figures in TensorBoard, if it is installed."""
    if out is None or importlib.util.find_spec("tensorboard") is None:
        return lambda row: None
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(Path(out) / "tensorboard")

    def write(row: dict[str, float]) -> None:
        for name, value in row.items():
            if math.isfinite(value):
                writer.add_scalar(name, value, int(row["epoch"]))
        writer.flush()

    return write


def train_on_digits(
    name: str,
    seed: int = 0,
    out: str | None = None,
    resume: bool = False,
    epochs: int | None = None,
) -> tuple[VisionTransformer, list[dict[str, float]]]:
    """Train a recipe from the beginning or, with `resume`, from where it stopped.

    Returns the model and a row of figures for each epoch; with `out`, that folder gets
    the run's record (`run.json`, `metrics.csv`), its weights and its state.
    """
    recipe = digits.RECIPES[name]
    epochs = epochs or recipe.training.epochs
    warmup = min(recipe.training.warmup_epochs, epochs)
    config = replace(recipe.training, seed=seed, epochs=epochs, warmup_epochs=warmup)
    train_set, test_set = digits.load_digits_split()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = digits.build_model(recipe, seed).to(device)

    def test(model: nn.Module) -> dict[str, float]:
        figures = evaluate(model, DataLoader(test_set, batch_size=360))
        return {f"test_{name}": value for name, value in figures.items()}

    history = train_resumably(
        model,
        DataLoader(train_set, batch_size=64, shuffle=True, drop_last=True),
        config,
        evaluate=test,
        out=out,
        resume=resume,
        identity={"recipe": name},
    )
    if out and not Path(out, "run.json").exists():    # a finished run keeps its record
        known = evaluate(model, DataLoader(train_set, batch_size=500))
        save_weights(model, Path(out) / "weights.safetensors")
        write_record(
            out,
            recipe=name,
            seed=seed,
            epochs=epochs,
            config=asdict(replace(recipe, training=config)),
            model=model.config,
            parameters=count_parameters(model),
            data="scikit-learn's handwritten digits: 1,437 to train on, 360 to test",
            seconds=sum(row["seconds"] for row in history),
            final=history[-1] | {"train_accuracy": known["accuracy"]},
            **surroundings(),
        )
    return model, history


def main() -> None:
    """Train one recipe, or all of them with three seeds each."""
    parser = argparse.ArgumentParser("python -m vit_edu.experiment", description=main.__doc__)
    option = parser.add_argument
    option("--recipe", choices=digits.RECIPES, default="baseline")
    option("--seed", type=int, default=0)
    option("--epochs", type=int, help="instead of the recipe's")
    option("--out", help="folder of the run (default: runs/digits-RECIPE-SEED)")
    option("--resume", action="store_true", help="go on where the run stopped")
    option("--all", action="store_true", help="every recipe, seeds 0 to 2, resumed")
    args = parser.parse_args()
    todo = [(args.recipe, args.seed)]
    if args.all:
        todo = [(recipe, seed) for recipe in digits.RECIPES for seed in range(3)]
    for recipe, seed in todo:
        out = args.out or f"runs/digits-{recipe}-{seed}"
        print(f"{recipe}, seed {seed}: {digits.RECIPES[recipe].purpose}; writing to {out}")
        train_on_digits(recipe, seed, out, args.resume or args.all, args.epochs)


if __name__ == "__main__" and "__file__" in globals():    # not in a notebook
    main()
