"""A run you can trust.

Written by tools/export.py from book/text/08_checkpoint.md: edit that file, then `make sync`.
"""

import argparse
import importlib.util
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
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


PATIENCE = 2.0    # seconds


@contextmanager
def stop_request(minutes: float | None = None) -> Iterator[Callable[[], bool]]:
    """A function that says whether to stop: after Ctrl-C, SIGTERM, or so many minutes.

    Signals ask, however many arrive; only a Ctrl-C well after the first one ends the
    program at once. Outside the main thread only the minutes count.
    """
    end = math.inf if minutes is None else time.monotonic() + 60 * minutes
    asked: list[float] = []    # when, by Ctrl-C
    terminated: list[int] = []

    def note(number: int, frame: object) -> None:
        if number != signal.SIGINT:
            terminated.append(number)
        elif asked and time.monotonic() - asked[0] > PATIENCE:
            raise KeyboardInterrupt
        else:
            asked.append(time.monotonic())

    names = ("SIGINT", "SIGTERM") if in_main_thread() else ()
    signals = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = [signal.signal(number, note) for number in signals]
    try:
        yield lambda: bool(asked or terminated) or time.monotonic() > end
    finally:
        for number, handler in zip(signals, before):
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def in_main_thread() -> bool:
    """Whether this is the thread that receives the program's signals."""
    return threading.current_thread() is threading.main_thread()


def write_run(
    out: str | os.PathLike,
    model: nn.Module,
    averaged: AveragedModel | None,
    recipe: Any,
    history: list[dict[str, float]],
    final: dict[str, float],
    /,
    *,
    preparation: dict | None = None,
    **facts,
) -> None:
    """Write a finished run's weights and its record, of any kind of recipe.

    `weights.safetensors` holds the averaged weights if there are any, and `preparation`,
    as in `weights.save_weights`. `facts` join the record's, such as `data` and the
    `surroundings` in which the run began.
    """
    out = Path(out).expanduser()
    path = out / "weights.safetensors"
    save_weights(averaged or model, path, preparation=preparation)
    if (out / "run.json").exists():
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
    ours, theirs = asdict(recipe.training), asdict(usual.training)
    changed = {name: ours[name] for name in names if ours[name] != theirs[name]}
    if recipe.batch_size != usual.batch_size:
        changed["batch_size"] = recipe.batch_size
    return [f"--{name.replace('_', '-')} {value}" for name, value in changed.items()]


def chosen_training(args: argparse.Namespace, config: TrainingConfig) -> TrainingConfig:
    """A recipe's training with what a command line changes in it."""
    names = "epochs", "lr", "matrix_lr", "precision"
    asked = {name: getattr(args, name) for name in names}
    given = {name: value for name, value in asked.items() if value is not None}
    epochs = given.get("epochs", config.epochs)
    warmup = min(config.warmup_epochs, epochs / 10)
    given |= dict(seed=args.seed, accumulate=args.accumulate, warmup_epochs=warmup)
    return replace(config, **given)


def whole(text: str, least: int = 1) -> int:
    """A whole number from `least` on, from a command line."""
    if not text.strip().isdecimal() or int(text) < least:
        what = f"a whole number from {least} on"
        raise argparse.ArgumentTypeError(f"{text} is not {what}")
    return int(text)


def above_zero(text: str) -> float:
    """A number above 0, from a command line."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def training_options(
    program: str, recipes: Collection[str], default: str, purpose: str | None
) -> argparse.ArgumentParser:
    """A command line with what every training command takes."""
    parser = argparse.ArgumentParser(f"python -m {program}", description=purpose)
    option = parser.add_argument
    option("--recipe", choices=recipes, default=default)
    option("--seed", type=partial(whole, least=0), default=0)
    option("--epochs", type=whole, help="instead of the recipe's")
    option("--lr", type=above_zero, help="instead of the recipe's")
    option("--matrix-lr", type=above_zero, help="Muon's rate, instead of the recipe's")
    option("--precision", choices=("float32", "bfloat16"), help="of matrix products")
    option("--batch-size", type=whole, help="instead of the recipe's")
    option("--accumulate", type=whole, default=1, help="parts of a batch")
    option("--minutes", type=above_zero, help="stop then; --resume goes on")
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

    writer = SummaryWriter(Path(out).expanduser() / "tensorboard")

    def write(row: dict[str, float]) -> None:
        for name, value in row.items():
            if math.isfinite(value):
                writer.add_scalar(name, value, int(row["epoch"]))
        writer.flush()

    return write


def train_on_digits(
    name: str,
    seed: int = 0,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    epochs: int | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[VisionTransformer, list[dict[str, float]]]:
    """Train a recipe from the beginning or, with `resume`, from where it stopped.

    Returns the model and a row of figures for each epoch; with `out`, that folder gets
    the run's state and, at its end, its record (`run.json`, `metrics.csv`) and weights.
    """
    recipe = digits.RECIPES[name]
    epochs = recipe.training.epochs if epochs is None else epochs
    warmup = min(recipe.training.warmup_epochs, epochs)
    config = replace(recipe.training, seed=seed, epochs=epochs, warmup_epochs=warmup)
    (train_set, test_set), around = digits.load_digits_split(), surroundings()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = digits.build_model(recipe, seed).to(device)

    def test(model: nn.Module) -> dict[str, float]:
        figures = evaluate(model, DataLoader(test_set, batch_size=360))
        figures = {f"test_{name}": value for name, value in figures.items()}
        if recipe.positions == "learned":
            figures["positions"] = model.pos_embed.detach().std().item()
        return figures

    history = train_resumably(
        model,
        DataLoader(train_set, batch_size=64, shuffle=True, drop_last=True),
        config,
        evaluate=test,
        should_stop=should_stop,
        out=out,
        resume=resume,
        identity={"recipe": name},
    )
    if out and len(history) == epochs:
        known = evaluate(model, DataLoader(train_set, batch_size=500))
        final = history[-1] | {"train_accuracy": known["accuracy"]}
        done = replace(recipe, training=config)
        facts = dict(model=model.config, data=digits.DATA) | around
        how = digits.preparation()
        write_run(out, model, None, done, history, final, preparation=how, **facts)
    return model, history


def main() -> None:
    """Train one recipe of the digits, or all of them with three seeds each."""
    program = "python -m vit_edu.experiment"
    parser = argparse.ArgumentParser(program, description=main.__doc__)
    option = parser.add_argument
    option("--recipe", choices=digits.RECIPES, default="baseline")
    option("--seed", type=partial(whole, least=0), default=0)
    option("--epochs", type=whole, help="instead of the recipe's")
    option("--out", help="folder of the run (default: runs/digits-RECIPE-SEED)")
    option("--resume", action="store_true", help="go on where the run stopped")
    option("--all", action="store_true", help="every recipe, seeds 0 to 2, resumed")
    args = parser.parse_args()
    todo = [(args.recipe, args.seed)]
    if args.all:
        todo = [(recipe, seed) for recipe in digits.RECIPES for seed in range(3)]
    with stop_request() as should_stop:
        for recipe, seed in todo:
            out = args.out or f"runs/digits-{recipe}-{seed}"
            purpose = digits.RECIPES[recipe].purpose
            print(f"{recipe}, seed {seed}: {purpose}; writing to {out}", flush=True)
            how = dict(resume=args.resume or args.all, epochs=args.epochs)
            train_on_digits(recipe, seed, out, should_stop=should_stop, **how)
            if should_stop():
                print(f"stopped; {out} holds the state, --resume goes on from it")
                return


if __name__ == "__main__" and "__file__" in globals():    # not in a notebook
    try:
        main()
    except (OSError, ValueError, FloatingPointError) as error:
        sys.exit(f"vit_edu.experiment: {error}")
