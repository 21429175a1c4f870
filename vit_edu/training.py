"""A first training run.

Written by tools/export.py from book/text/07_training.md: edit that file, then `make sync`.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from vit_edu.evaluation import Batch, check_targets, evaluate, pair, predict_logits
from vit_edu.optimizer import Optimizer, TrainingConfig, learning_rate, make_optimizer


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Matrix products in bfloat16 where wanted, the rest in float32."""
    if precision not in ("auto", "float32", "bfloat16"):
        raise ValueError(
            f"unknown precision {precision!r}; choose 'auto', 'float32' or 'bfloat16'"
        )
    enabled = precision == "bfloat16"
    if precision == "auto" and device.type == "cuda":
        enabled = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def training_step(
    model: nn.Module,
    optimizer: Optimizer,
    batch: Batch,
    config: TrainingConfig,
) -> Tensor:
    """One step of the optimiser on a batch; returns its mean loss.

    Targets are class numbers (B,), int64, or probabilities (B, K).
    """
    images, targets = batch
    k, smoothing = config.accumulate, config.label_smoothing
    optimizer.zero_grad(set_to_none=True)
    loss = torch.zeros((), device=images.device)
    parts = list(zip(images.chunk(k), targets.chunk(k)))
    for place, (x, y) in enumerate(parts, 1):
        alone = place == len(parts) or not hasattr(model, "no_sync")
        with nullcontext() if alone else model.no_sync():    # copies agree at the end
            with autocast(images.device, config.precision):
                logits = model(x)
                check_targets(y, logits)
                part = F.cross_entropy(logits, y, label_smoothing=smoothing)
            part = part * (len(x) / len(images))    # its share of the mean
            part.backward()                         # adds to the gradients
        loss += part.detach()
    if config.clip_norm:
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    optimizer.step()
    return loss


def seed_for(*numbers: int) -> int:
    """A 32-bit seed from all `numbers`; neighbours give unrelated streams."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seed_torch(seed: int) -> None:
    """`torch.manual_seed`, which is slow where no GPU is."""
    chance = torch if torch.accelerator.is_available() else torch.default_generator
    chance.manual_seed(seed)


def epoch_batches(
    batches: Iterable[Batch], seed: int, epoch: int, done: int
) -> Iterator[Batch]:
    """The batches of an epoch after the first `done`; chance depends on the place."""
    sampler = getattr(batches, "sampler", None)
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)
    seed_torch(seed_for(seed, 0, epoch))    # seeds of worker processes
    for owner in (batches, sampler):        # a generator of their own
        if generator := getattr(owner, "generator", None):
            generator.manual_seed(seed_for(seed, 0, epoch))
    first = 0
    if hasattr(sampler, "start_batch"):            # it can begin in the middle
        sampler.start_batch = first = done
    iterator = iter(batches)                       # workers read ahead from here on
    for place in itertools.count(first):
        seed_torch(seed_for(seed, 0, epoch, place))    # order; random transforms
        if (batch := next(iterator, None)) is None:
            return
        if place >= done:
            yield batch


class TrainingState:
    """What is trained, and how far it has come."""

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        steps_per_epoch: int,
        averaged: AveragedModel | None = None,
        optimizer: Optimizer | None = None,
        leads: bool = True,
    ) -> None:
        self.model, self.config = model, config
        self.averaged, self.leads = averaged, leads
        self.optimizer = optimizer or make_optimizer(model, config)
        self.steps_per_epoch = steps_per_epoch
        self.path: Path | None = None                 # of the saved state, if any
        self.step = 0                                 # steps done
        self.history: list[dict[str, float]] = []     # a row for each epoch done
        self.start_epoch()

    def start_epoch(self) -> None:
        """Forget the sums of the last epoch."""
        self.losses: list[Tensor] = []    # of this epoch's steps
        self.images, self.seconds = 0, 0.0


class Forgetful:
    """Told of the loop's progress; this one keeps nothing."""

    def begin(self, state: TrainingState) -> None:
        """Before the first step: go back to an earlier state."""

    def after_step(self, state: TrainingState) -> None:
        """After each step."""

    def save(self, state: TrainingState) -> None:
        """Where the loop is asked to stop, and before an epoch is evaluated."""

    def after_epoch(self, state: TrainingState) -> None:
        """When an epoch's row of figures is complete."""


CHECK_EVERY = 50    # steps; a look at a number makes a GPU wait


def train_epoch(
    state: TrainingState,
    batches: Iterable[Batch],
    prepare_batch: Callable[[Tensor, Tensor], Batch] | None,
    after_step: Callable[[TrainingState], None] | None,
) -> Iterator[None]:
    """Train to the end of the current epoch; yields after each step."""
    epoch, config = len(state.history), state.config
    done = state.step - epoch * state.steps_per_epoch
    started = time.perf_counter() - state.seconds
    device = next(state.model.parameters()).device
    state.model.train()
    if hasattr(prepare_batch, "set_epoch"):
        prepare_batch.set_epoch(epoch)
    todo = epoch_batches(batches, config.seed, epoch, done)
    bar = dict(total=state.steps_per_epoch, initial=done, leave=False)
    bar["disable"] = None if state.leads else True    # None: only where nobody looks
    for images, labels in map(pair, tqdm(todo, f"epoch {epoch + 1}", **bar)):
        seed_torch(seed_for(config.seed, 1, state.step))
        batch = tuple(t.to(device, non_blocking=True) for t in (images, labels))
        if prepare_batch:
            batch = prepare_batch(*batch)
        for group in state.optimizer.param_groups:
            rate = learning_rate(state.step, state.steps_per_epoch, config)
            group["lr"] = float(rate * group.get("lr_scale", 1.0))
        state.losses.append(training_step(state.model, state.optimizer, batch, config))
        state.step += 1
        if len(state.losses) % CHECK_EVERY == 0:
            check_finite(state)
        if state.averaged:
            state.averaged.update_parameters(state.model)
        state.images += len(images)
        state.seconds = time.perf_counter() - started
        if after_step:
            after_step(state)
        yield
    check_finite(state)
    state.seconds = time.perf_counter() - started    # now a GPU is done, too


def train(
    model: nn.Module,
    batches: Iterable[Batch],
    config: TrainingConfig,
    *,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    prepare_batch: Callable[[Tensor, Tensor], Batch] | None = None,
    averaged: AveragedModel | None = None,
    after_step: Callable[[TrainingState], None] | None = None,
    after_epoch: Callable[[dict[str, float]], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    optimizer: Optimizer | None = None,
    checkpoint: Forgetful | None = None,
    leads: bool = True,
    overall: Callable[[float], float] = float,
) -> list[dict[str, float]]:
    """Train `model`, where it is, on `batches` of (images, labels), e.g. a DataLoader.

    batches: gives pairs of tensors anew for each epoch, and has a length: no generator
    evaluate: gives figures of the model (and the averaged one) after each epoch
    prepare_batch: changes a batch on the model's device
    averaged: a running average of the weights, updated after each step
    after_step, after_epoch: called with the state, and with the epoch's row
    should_stop: asked after each step; True ends the call
    optimizer: instead of `make_optimizer`'s; a group's `lr_scale` multiplies its rate
    checkpoint: told of the progress; `checkpoint.Checkpoint` writes it to a folder
    leads: False where another process prints
    overall: from this process's mean loss to that of all

    Returns a row of figures for each epoch. The loop seeds torch's generators, the
    loader's included, by `config.seed` and the place in the run.
    """
    check_settings(config, batches)
    state = TrainingState(model, config, len(batches), averaged, optimizer, leads)
    checkpoint = checkpoint or Forgetful()
    checkpoint.begin(state)
    while len(state.history) < config.epochs:
        for _ in train_epoch(state, batches, prepare_batch, after_step):
            if should_stop and should_stop():
                checkpoint.save(state)
                return state.history
            checkpoint.after_step(state)
        checkpoint.save(state)    # evaluating takes its time, and may fail
        row = end_epoch(state, evaluate, overall)
        if leads:
            print(describe(row, config.epochs), flush=True)
        checkpoint.after_epoch(state)
        if after_epoch:
            after_epoch(row)
    return state.history


def check_settings(config: TrainingConfig, batches: Iterable[Batch]) -> None:
    """Refuse before the first step what would go wrong later."""
    autocast(torch.device("cpu"), config.precision)    # raises if it is unknown
    limits = {"epochs": 1, "accumulate": 1, "seed": 0, "clip_norm": 0}
    for name, least in limits.items():
        number = getattr(config, name)
        whole = isinstance(number, int) or name == "clip_norm"
        if number is not None and not (whole and number >= least):
            raise ValueError(f"{name} is {number}; choose a number from {least} on")
    try:
        n = len(batches)
    except TypeError as error:
        raise ValueError(
            f"batches ({type(batches).__name__}) has no length, the schedule needs one; "
            "train takes a DataLoader whose data set has a length, or a list of batches"
        ) from error
    if n == 0:
        raise ValueError("batches is empty; is the data smaller than one whole batch?")
    if config.warmup_epochs > config.epochs:
        raise ValueError(
            f"a warm-up of {config.warmup_epochs} epochs does not fit into "
            f"{config.epochs}; lower warmup_epochs"
        )


def end_epoch(
    state: TrainingState, evaluate: Callable | None, overall: Callable[[float], float]
) -> dict[str, float]:
    """Evaluate, and close the epoch with a row of figures."""
    row = {
        "epoch": len(state.history) + 1,
        "lr": learning_rate(state.step - 1, state.steps_per_epoch, state.config),
        "train_loss": float(overall(torch.stack(state.losses).mean().item())),
    }
    models = {"": state.model}
    if state.averaged:
        models["averaged_"] = state.averaged
    for prefix, model in models.items() if evaluate else ():
        for name, value in evaluate(model).items():
            row[prefix + name] = float(value)    # perhaps numpy's or torch's
    row |= {"seconds": state.seconds, "images_per_second": state.images / state.seconds}
    state.history.append(row)
    state.start_epoch()
    return row


def describe(row: dict[str, float], epochs: int) -> str:
    """An epoch's row as one line of text."""
    hidden = ("epoch", "lr", "seconds", "images_per_second")
    names = [name for name in row if name not in hidden and row[name] == row[name]]
    figures = "  ".join(f"{name.replace('_', ' ')} {row[name]:.3f}" for name in names)
    return f"epoch {row['epoch']:3d}/{epochs}  {figures}  {row['seconds']:.1f} s"


def weights_norm(model: nn.Module) -> Tensor:
    """The length of all weights: not finite if one of them is not."""
    norms = [p.detach().float().norm() for p in model.parameters()]
    return torch.stack(norms).norm()


def check_finite(state: TrainingState) -> None:
    """Stop a run whose losses or weights are not finite."""
    numbers = torch.stack([*state.losses, weights_norm(state.model)]).tolist()
    first = state.step - len(state.losses)    # of this epoch
    for place, number in enumerate(numbers):
        if not math.isfinite(number):
            in_loss = place < len(state.losses)
            what = "the loss" if in_loss else "the length of all weights"
            step = first + place if in_loss else state.step - 1
            where = state.path or "nowhere, as no out was given"
            raise FloatingPointError(
                f"{what} is {number} at step {step}; the last saved state is {where}. "
                "Lower lr or clip_norm, or warm up longer"
            )
