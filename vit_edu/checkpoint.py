"""A run you can trust.

Written by tools/export.py from book/text/08_checkpoint.md: edit that file, then `make sync`.
"""

import csv
import os
import pickle
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vit_edu.optimizer import TrainingConfig
from vit_edu.training import Batch, Forgetful, TrainingState, check_finite, train
from vit_edu.weights import load_state, save_weights, unwrapped, written_beside

NUMBERS = "step", "history", "images", "seconds"
MODULES = "model", "optimizer", "averaged"
DAMAGED = EOFError, RuntimeError, LookupError, TypeError, ValueError, AttributeError


def plain(value: Any, where: str, tensors: bool = True) -> Any:
    """`value` of Python's own kinds, which a state can hold, and `tensors`, if allowed.

    NumPy's numbers, paths and enumerations become such; for anything else a ValueError
    names `where` it stands.
    """
    if value is None or isinstance(value, bool):
        return value
    if tensors and isinstance(value, Tensor):
        return value
    if isinstance(value, dict):
        parts = {k: plain(v, f"{where}[{k!r}]", tensors) for k, v in value.items()}
        return {plain(k, where): v for k, v in parts.items()}
    if isinstance(value, (list, tuple)):
        kind = list if isinstance(value, list) else tuple
        return kind(plain(v, f"{where}[{i}]", tensors) for i, v in enumerate(value))
    if isinstance(value, os.PathLike):
        return str(value)
    if hasattr(value, "item") and not getattr(value, "shape", ()):
        return value.item()
    for kind in str, int, float:
        if isinstance(value, kind):
            return kind.__str__(value) if kind is str else kind(value)
    raise ValueError(
        f"{where} is of kind {type(value).__name__}, which a saved state cannot hold; "
        "use a number, a string, or a list or dictionary of such"
    )


def read_state(path: Path) -> dict:
    """What `Checkpoint.save` wrote to `path`; ValueError if it is anything else."""
    try:
        saved = dict(torch.load(path, map_location="cpu", weights_only=True))
        dict(saved["run"])
        return {name: saved[name] for name in ("run", *NUMBERS, *MODULES, "losses")}
    except (*DAMAGED, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{path} is not the state of a training run; move it away to start anew"
        ) from error


class Checkpoint(Forgetful):
    """Keeps a run in a folder, so that it goes on exactly where it was.

    out: gets `state.pt`, saved at the start, after each epoch and every `save_every`
        steps, and `metrics.csv`, a row for each epoch
    resume: go on from the state in `out`, if there is one
    identity: names and plain values that must be the same for a state to be resumed,
        besides the settings and the model's: the data, the recipe
    leads: False where another process writes the files
    """

    def __init__(
        self,
        out: str | os.PathLike,
        *,
        resume: bool = False,
        save_every: int | None = None,
        identity: dict | None = None,
        leads: bool = True,
    ) -> None:
        self.path = Path(out).expanduser() / "state.pt"
        self.resume, self.save_every, self.leads = resume, save_every, leads
        self.identity = identity or {}

    def begin(self, state: TrainingState) -> None:
        """Load the saved state, or save the first one and read it back."""
        state.path = self.path
        if self.path.exists() and self.resume:
            self.load(state)
            return
        if not self.leads:
            return
        for name in (self.path.name, "run.json", "metrics.csv"):
            if self.path.with_name(name).exists():
                raise FileExistsError(
                    f"{self.path.parent} holds a run's {name}, nothing is overwritten; "
                    "resume=True goes on from state.pt, another out starts anew"
                )
        self.save(state)    # now, not after an epoch, is the time to find that it fails
        read_state(self.path)

    def after_step(self, state: TrainingState) -> None:
        """Save every so many steps."""
        if self.save_every and state.step % self.save_every == 0:
            self.save(state)

    def after_epoch(self, state: TrainingState) -> None:
        """Write the table of all epochs, and save."""
        if self.leads:
            write_csv(self.path.with_name("metrics.csv"), state.history)
            self.save(state)

    def run(self, state: TrainingState) -> dict:
        """What must be the same for a state to be resumed."""
        bare = unwrapped(state.model)
        model = {"model": type(bare).__name__}
        if isinstance(config := getattr(bare, "config", None), dict):
            model |= config
        rest = {"steps_per_epoch": state.steps_per_epoch}
        rest["averaged"] = state.averaged is not None
        settings = asdict(state.config)
        del settings["accumulate"]    # changes memory alone
        return plain(settings | rest | model | self.identity, "identity", tensors=False)

    def save(self, state: TrainingState) -> None:
        """Write the state beside the old file, then rename: one is always whole."""
        if not self.leads:
            return
        check_finite(state)
        content = {name: getattr(state, name) for name in NUMBERS}
        content["run"] = self.run(state)
        losses = torch.stack(state.losses) if state.losses else torch.zeros(0)
        content["losses"] = losses.cpu()
        for name in MODULES:
            part = getattr(state, name)
            part = unwrapped(part) if name == "model" else part
            content[name] = part.state_dict() if part else {}
        with written_beside(self.path) as temporary:
            torch.save(plain(content, "state"), temporary)

    def load(self, state: TrainingState) -> None:
        """Go back to the saved state; ValueError where it belongs to another run."""
        saved, now = read_state(self.path), self.run(state)
        before = saved["run"]
        differ = [
            f"{name} was {before.get(name)!r}, now {now.get(name)!r}"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name)
        ]
        if differ:
            raise ValueError(
                f"{self.path} is of another run ({'; '.join(differ)}); "
                "resume with its settings, or choose another folder"
            )
        load_state(unwrapped(state.model), saved["model"], source=str(self.path))
        state.optimizer.load_state_dict(saved["optimizer"])
        if state.averaged:
            load_state(state.averaged, saved["averaged"], source=str(self.path))
        for name in NUMBERS:
            setattr(state, name, saved[name])
        device = next(state.model.parameters()).device
        state.losses = list(saved["losses"].to(device))


def write_csv(path: Path, rows: list[dict]) -> None:
    """Write rows with the same keys as CSV, complete or not at all."""
    with written_beside(path) as temporary:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)


def train_resumably(
    model: nn.Module,
    batches: Iterable[Batch],
    config: TrainingConfig,
    *,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    save_every: int | None = None,
    identity: dict | None = None,
    leads: bool = True,
    **others,
) -> list[dict[str, float]]:
    """`training.train`, kept in the folder `out` by a `Checkpoint`; None: nowhere.

    A run that is interrupted and resumed ends with the weights of one that is not (to
    the bit on a CPU; GPUs add in an order of their own). For that, all chance (order,
    dropout, augmentation) must come from torch, not from `random` or numpy, and the
    loader's workers must not be persistent.
    """
    if getattr(batches, "persistent_workers", False):
        raise ValueError(
            "persistent workers keep their own chance from epoch to epoch, which no "
            "state can hold; build the DataLoader with persistent_workers=False"
        )
    checkpoint = None
    if out is not None:
        options = dict(resume=resume, save_every=save_every, identity=identity)
        checkpoint = Checkpoint(out, leads=leads, **options)
    return train(model, batches, config, checkpoint=checkpoint, leads=leads, **others)


class MovingAverage(AveragedModel):
    """An exponential moving average (EMA) of the weights, quicker at the start.

    After n updates the average keeps min(decay, (1 + n) / (10 + n)) of itself: the
    random start is soon forgotten. Buffers are averaged as well, whole numbers copied.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(
                f"decay {decay} is not in [0, 1); 0.999 averages 1,000 steps"
            )
        super().__init__(model, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take the weights of `model` in, after a step."""
        n = int(self.n_averaged)
        kept = min(self.decay, (1 + n) / (10 + n)) if n else 0.0
        tensors = ((*m.parameters(), *m.buffers()) for m in (self.module, model))
        floats: tuple[list[Tensor], list[Tensor]] = [], []
        for average, current in zip(*tensors):
            if average.is_floating_point():
                floats[0].append(average)
                floats[1].append(current)
            else:
                average.copy_(current)
        get_ema_multi_avg_fn(kept)(*floats, self.n_averaged)
        self.n_averaged += 1


class Keeper:
    """Keeps the weights of the last `last` epochs and of the best one, in `out`.

    The best is chosen on the validation images, which flatters it: a run reports its
    last epoch.
    """

    def __init__(
        self, model: nn.Module, out: str | os.PathLike | None, last: int
    ) -> None:
        self.model, self.last, self.best = model, last, -1.0
        self.out = out and Path(out).expanduser()    # None: nothing is kept
        prefix = "averaged_" if isinstance(model, AveragedModel) else ""
        self.figure = f"{prefix}val_accuracy"
        if self.out and (table := self.out / "metrics.csv").exists():    # resumed
            with open(table, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            known = (float(row.get(self.figure, -1)) for row in rows)
            self.best = max(known, default=-1.0)

    def __call__(self, row: dict[str, float]) -> None:
        """Called after each epoch with its row."""
        if self.out is None:
            return
        if self.last:
            path = self.out / f"weights-epoch-{row['epoch']:04d}.safetensors"
            save_weights(self.model, path)
            kept = sorted(self.out.glob("weights-epoch-*.safetensors"))
            for old in kept[: -self.last]:
                old.unlink()
        if row[self.figure] > self.best:
            self.best = row[self.figure]
            save_weights(self.model, self.out / "best.safetensors")
