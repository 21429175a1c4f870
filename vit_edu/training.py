"""A first training run.

Written by tools/export.py from book/text/07_training.md: edit that file, then `make sync`.
"""

import csv
import itertools
import math
import os
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from vit_edu.weights import load_state, unwrapped, written_beside

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class TrainingConfig:
    """What a training run is made of, besides model and data. Rates are per step."""

    epochs: int = 40
    lr: float = 1e-3               # at the end of the warm-up
    final_lr: float = 1e-5         # at the end of the cosine
    warmup_epochs: float = 5
    weight_decay: float = 0.05     # on matrices only
    betas: tuple[float, float] = (0.9, 0.999)
    label_smoothing: float = 0.1
    clip_norm: float = 1.0         # largest norm of the whole gradient
    accumulate: int = 1            # parts a batch is split into, to save memory
    precision: str = "auto"        # "bfloat16" on GPUs made for it, else "float32"
    seed: int = 0
    optimizer: str = "adamw"       # or "muon": Muon for the blocks' matrices; "sgd"
    matrix_lr: float = 0.02        # Muon's rate, at the end of the warm-up
    split_qkv: bool = True         # Muon sees queries, keys and values apart


def is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter is a weight matrix (or a convolution's): these are decayed."""
    return name.endswith("weight") and parameter.ndim >= 2


def make_optimizer(model: nn.Module, config: TrainingConfig) -> "Optimizer":
    """The optimiser that `config` names, with decay on weight matrices alone.

    AdamW (Loshchilov and Hutter, 2019), Muon beside it (Jordan et al., 2024), or SGD
    with Nesterov's momentum, whose decay is multiplied by the rate as well.
    """
    makers = {"adamw": adamw, "muon": MuonBeside, "sgd": sgd}
    if config.optimizer not in makers:
        raise ValueError(
            f"unknown optimizer {config.optimizer!r}; choose {', '.join(makers)}"
        )
    return makers[config.optimizer](dict(unwrapped(model).named_parameters()), config)


def decay_groups(named: dict[str, nn.Parameter], config: TrainingConfig) -> list[dict]:
    """Two parameter groups: matrices, which are decayed, and all others."""
    matrices = [p for name, p in named.items() if is_matrix(name, p)]
    others = [p for name, p in named.items() if not is_matrix(name, p)]
    return [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def adamw(named: dict[str, nn.Parameter], config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW on `named` parameters."""
    return torch.optim.AdamW(decay_groups(named, config), lr=config.lr, betas=config.betas)


def sgd(named: dict[str, nn.Parameter], config: TrainingConfig) -> torch.optim.SGD:
    """SGD with Nesterov's momentum of 0.9 on `named` parameters."""
    groups = decay_groups(named, config)
    return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True)


class MuonBeside:
    """Muon for the matrices of the blocks and AdamW for the rest, as one optimiser.

    torch's Muon takes a parameter as one matrix. The joint `qkv` (3D, D) is three: here
    each third is a parameter of its own that shares the joint one's memory.
    """

    def __init__(self, named: dict[str, nn.Parameter], config: TrainingConfig) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise ValueError(
                f"torch {torch.__version__} has no Muon, which came with torch 2.9; "
                "upgrade torch, or choose optimizer='adamw'"
            )
        self.pieces: list[tuple[nn.Parameter, list[nn.Parameter]]] = []
        rest = {}
        for name, parameter in named.items():
            if "blocks." not in name or not name.endswith("weight") or parameter.ndim != 2:
                rest[name] = parameter
                continue
            n = 3 if config.split_qkv and name.endswith("qkv.weight") else 1
            views = [nn.Parameter(part) for part in parameter.detach().chunk(n)]
            self.pieces.append((parameter, views))
        if not self.pieces:
            raise ValueError("the model has no blocks with matrices: use optimizer='adamw'")
        views = [view for _, parts in self.pieces for view in parts]
        scale = config.matrix_lr / config.lr
        muon = torch.optim.Muon(
            [{"params": views, "lr_scale": scale}],
            lr=config.matrix_lr,
            weight_decay=config.weight_decay,
        )
        self.parts = muon, adamw(rest, config)

    @property
    def param_groups(self) -> list[dict]:
        """The groups of both; the loop writes the rate into them."""
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        for parameter, views in self.pieces:
            for tensor in (parameter, *views):
                tensor.grad = None
        self.parts[1].zero_grad(set_to_none)

    def step(self) -> None:
        """Hand each view its part of the weights and of the gradient, and step both."""
        for parameter, views in self.pieces:
            if parameter.grad is None:
                continue
            n = len(views)
            data, grads = parameter.detach().chunk(n), parameter.grad.chunk(n)
            for view, part, grad in zip(views, data, grads):
                view.data, view.grad = part, grad
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict:
        """The states of both."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict) -> None:
        """Go back to the states of both."""
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)


Optimizer = torch.optim.Optimizer | MuonBeside


def learning_rate(step: int, steps_per_epoch: int, config: TrainingConfig) -> float:
    """The rate at `step` (from 0): linear warm-up, then a cosine to `final_lr`."""
    total = config.epochs * steps_per_epoch
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(total - warmup, 1)    # 0 to 1
    cosine = (1 + math.cos(math.pi * progress)) / 2        # 1 to 0
    return config.final_lr + (config.lr - config.final_lr) * cosine


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Where wanted, matrix products in bfloat16 and the rest in float32."""
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

    Targets are class numbers (B,) or probabilities (B, K).
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
                part = F.cross_entropy(model(x), y, label_smoothing=smoothing)
            part = part * (len(x) / len(images))    # its share of the batch's mean
            part.backward()                         # adds to the gradients
        loss += part.detach()
    nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    optimizer.step()
    return loss


@torch.inference_mode()
def predict_logits(model: nn.Module, batches: Iterable[Batch]) -> Batch:
    """Logits (n, K) and labels (n,) of all batches, in evaluation mode, on the CPU."""
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    pairs = [(model(x.to(device)).float().cpu(), labels.cpu()) for x, labels in batches]
    model.train(was_training)
    if not pairs:
        raise ValueError("there is no batch to evaluate: batches is empty")
    logits, labels = zip(*pairs)
    return torch.cat(logits), torch.cat(labels)


def evaluate(model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
    """Mean cross-entropy (nats) and accuracy (0 to 1)."""
    logits, labels = predict_logits(model, batches)
    accuracy = (logits.argmax(dim=1) == labels).float().mean()
    return {"loss": F.cross_entropy(logits, labels).item(), "accuracy": accuracy.item()}


def seed_for(*numbers: int) -> int:
    """A 32-bit seed from all `numbers`; neighbours give unrelated streams."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def epoch_batches(
    batches: Iterable[Batch], seed: int, epoch: int, done: int
) -> Iterator[Batch]:
    """The batches of an epoch after the first `done`; chance depends on the place."""
    sampler = getattr(batches, "sampler", None)
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)
    torch.manual_seed(seed_for(seed, 0, epoch))    # seeds of worker processes
    for owner in (batches, sampler):               # a generator of their own
        if generator := getattr(owner, "generator", None):
            generator.manual_seed(seed_for(seed, 0, epoch))
    iterator = iter(batches)
    first = 0
    if hasattr(sampler, "start_batch"):            # it can begin in the middle
        sampler.start_batch = first = done
    for place in itertools.count(first):
        torch.manual_seed(seed_for(seed, 0, epoch, place))    # order; random transforms
        if (batch := next(iterator, None)) is None:
            return
        if place >= done:
            yield batch


NUMBERS = "step", "history", "images", "seconds"
MODULES = "model", "optimizer", "averaged"
DAMAGED = EOFError, RuntimeError, LookupError, TypeError, ValueError, AttributeError


class TrainingState:
    """All that a run needs in order to go on exactly where it was, in one file."""

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        steps_per_epoch: int,
        averaged: AveragedModel | None = None,
        path: Path | None = None,
        identity: dict | None = None,
        optimizer: Optimizer | None = None,
        leads: bool = True,
    ) -> None:
        self.model, self.config = model, config
        self.averaged, self.path, self.leads = averaged, path, leads
        self.identity = identity or {}
        self.optimizer = optimizer or make_optimizer(model, config)
        self.steps_per_epoch = steps_per_epoch
        self.step = 0                                 # steps done
        self.history: list[dict[str, float]] = []     # a row for each epoch done
        self.start_epoch()

    def start_epoch(self) -> None:
        """Forget the sums of the last epoch."""
        self.losses: list[Tensor] = []    # of the steps done in this epoch
        self.images, self.seconds = 0, 0.0

    def run(self) -> dict:
        """What must be the same for a state to be resumed."""
        bare = unwrapped(self.model)
        model = {"model": type(bare).__name__} | getattr(bare, "config", {})
        rest = {"steps_per_epoch": self.steps_per_epoch}
        rest["averaged"] = self.averaged is not None
        settings = asdict(self.config)
        del settings["accumulate"]    # changes memory alone
        return settings | rest | model | self.identity

    def save(self) -> None:
        """Write the state beside the old file, then rename: one is always whole."""
        if self.path is None or not self.leads:
            return
        check_finite(self)
        state = {name: getattr(self, name) for name in NUMBERS} | {"run": self.run()}
        losses = torch.stack(self.losses) if self.losses else torch.zeros(0)
        state["losses"] = losses.cpu()
        for name in MODULES:
            part = getattr(self, name)
            part = unwrapped(part) if name == "model" else part
            state[name] = part.state_dict() if part else {}
        with written_beside(self.path) as temporary:
            torch.save(state, temporary)

    def load(self) -> None:
        """Go back to the saved state; ValueError where it belongs to another run."""
        try:
            state = dict(torch.load(self.path, map_location="cpu", weights_only=True))
            saved, run = dict(state["run"]), self.run()
            state = {name: state[name] for name in (*NUMBERS, *MODULES, "losses")}
        except (*DAMAGED, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{self.path} is not the state of a training run; "
                "move it away to start anew"
            ) from error
        differ = [
            f"{name} was {saved.get(name)!r}, now {run.get(name)!r}"
            for name in sorted(saved.keys() | run.keys())
            if saved.get(name) != run.get(name)
        ]
        if differ:
            raise ValueError(
                f"{self.path} is of another run ({'; '.join(differ)}); "
                "resume with its settings, or choose another folder"
            )
        load_state(unwrapped(self.model), state["model"], source=str(self.path))
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged:
            load_state(self.averaged, state["averaged"], source=str(self.path))
        for name in NUMBERS:
            setattr(self, name, state[name])
        self.losses = list(state["losses"].to(next(self.model.parameters()).device))


CHECK_EVERY = 50    # steps; a look at a number makes a GPU finish what it has to do


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
    for images, labels in tqdm(todo, f"epoch {epoch + 1}", **bar):
        torch.manual_seed(seed_for(config.seed, 1, state.step))
        batch = tuple(t.to(device, non_blocking=True) for t in (images, labels))
        if prepare_batch:
            batch = prepare_batch(*batch)
        for group in state.optimizer.param_groups:
            rate = learning_rate(state.step, state.steps_per_epoch, config)
            group["lr"] = rate * group.get("lr_scale", 1.0)
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
    out: str | os.PathLike | None = None,
    resume: bool = False,
    save_every: int | None = None,
    identity: dict | None = None,
    optimizer: Optimizer | None = None,
    leads: bool = True,
    overall: Callable[[float], float] = float,
) -> list[dict[str, float]]:
    """Train `model`, where it is, on `batches` of (images, labels), e.g. a DataLoader.

    evaluate: called with the model (and the averaged one) after each epoch; its figures
        join the epoch's row
    prepare_batch: changes a batch on the model's device: augmentation, soft targets
    averaged: a running average of the weights, updated after each step
    after_step, after_epoch: called with the state, and with the epoch's row
    should_stop: asked after each step; True saves the state and ends the call
    out: a folder for `state.pt`, saved at the start, after each epoch and every
        `save_every` steps, and for `metrics.csv`
    resume: go on from the state in `out`, if there is one
    identity: names and plain values that must be the same for a state to be resumed,
        besides the settings and the model's: the data, the recipe
    optimizer: instead of `make_optimizer`'s; a group's `lr_scale` multiplies its rate
    leads: False where another process writes the files and tells of the progress
    overall: from this process's mean training loss to that of all that train together

    Returns a row of figures for each epoch. The loop seeds torch's generators, the
    loader's own included, by `config.seed` and the place in the run, so that a run that
    is interrupted and resumed ends with the weights of one that is not (to the bit on a
    CPU; GPUs add in an order of their own). For that, all
    chance (order, dropout, augmentation) must come from torch, not from `random` or
    numpy, and the loader's workers must not be persistent.
    """
    path = None if out is None else Path(out) / "state.pt"
    state = TrainingState(
        model, config, len(batches), averaged, path, identity, optimizer, leads
    )
    begin(state, batches, resume)
    while len(state.history) < config.epochs:
        for _ in train_epoch(state, batches, prepare_batch, after_step):
            if should_stop and should_stop():
                state.save()
                return state.history
            if save_every and state.step % save_every == 0:
                state.save()
        state.save()    # evaluating takes its time, and may fail
        row = end_epoch(state, evaluate, overall)
        if leads:
            print(describe(row, config.epochs), flush=True)
        if path and leads:
            write_csv(path.with_name("metrics.csv"), state.history)
            state.save()
        if after_epoch:
            after_epoch(row)
    return state.history


def begin(state: TrainingState, batches: Iterable[Batch], resume: bool) -> None:
    """Refuse what would go wrong later; load the state, or save the first one."""
    config, path = state.config, state.path
    autocast(torch.device("cpu"), config.precision)    # raises if it is unknown
    if state.steps_per_epoch == 0:
        raise ValueError("batches is empty; is the data smaller than one whole batch?")
    if config.warmup_epochs > config.epochs:
        raise ValueError(
            f"a warm-up of {config.warmup_epochs} epochs does not fit into "
            f"{config.epochs}; lower warmup_epochs"
        )
    if getattr(batches, "persistent_workers", False):
        raise ValueError(
            "persistent workers keep their own chance from epoch to epoch, which no "
            "state can hold; build the DataLoader with persistent_workers=False"
        )
    if path is None:
        return
    if path.exists() and resume:
        state.load()
        return
    if not state.leads:
        return
    for name in (path.name, "run.json", "metrics.csv"):
        if path.with_name(name).exists():
            raise FileExistsError(
                f"{path.parent} holds a run's {name}, nothing is overwritten; "
                "resume=True goes on from state.pt, another out starts anew"
            )
    state.save()    # now, not after an epoch, is the time to find that it cannot be


def end_epoch(
    state: TrainingState, evaluate: Callable | None, overall: Callable[[float], float]
) -> dict[str, float]:
    """Evaluate, and close the epoch with a row of figures."""
    row = {
        "epoch": len(state.history) + 1,
        "lr": learning_rate(state.step - 1, state.steps_per_epoch, state.config),
        "train_loss": overall(torch.stack(state.losses).mean().item()),
    }
    models = {"": state.model}
    if state.averaged:
        models["averaged_"] = state.averaged
    for prefix, model in models.items() if evaluate else ():
        for name, value in evaluate(model).items():
            row[prefix + name] = float(value)    # of numpy's or torch's kind, perhaps
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


def write_csv(path: Path, rows: list[dict]) -> None:
    """Write rows with the same keys as CSV, complete or not at all."""
    with written_beside(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def weights_norm(model: nn.Module) -> Tensor:
    """The length of the vector of all weights: not finite if one of them is not."""
    norms = [p.detach().float().norm() for p in model.parameters()]
    return torch.stack(norms).norm()


def check_finite(state: TrainingState) -> None:
    """Stop a run whose losses or weights are not finite; its last saved state stays."""
    numbers = torch.stack([*state.losses, weights_norm(state.model)]).tolist()
    first = state.step - len(state.losses)    # of this epoch's steps
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
