"""A first training run.

Written by tools/export.py from book/text/07_training.md: edit that file, then `make sync`.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from vit_edu.weights import unwrapped


@dataclass(frozen=True)
class TrainingConfig:
    """What a training run is made of, besides model and data."""

    epochs: int = 40
    lr: float = 1e-3               # at the end of the warm-up
    final_lr: float = 1e-5         # at the end of the cosine
    warmup_epochs: float = 5
    weight_decay: float = 0.05     # on matrices only
    betas: tuple[float, float] = (0.9, 0.999)
    label_smoothing: float = 0.1
    clip_norm: float | None = 1.0  # largest norm of the whole gradient; None, 0: any
    accumulate: int = 1            # parts a batch is split into
    precision: str = "auto"        # "bfloat16" on GPUs made for it, else "float32"
    seed: int = 0
    optimizer: str = "adamw"       # or "muon" for the blocks' matrices; "sgd"
    matrix_lr: float = 0.02        # Muon's, at the end of the warm-up
    split_qkv: bool = True         # for Muon

    def __post_init__(self) -> None:
        """NumPy's and torch's numbers become Python's: those can be saved."""
        for name, value in list(vars(self).items()):
            if hasattr(value, "item"):
                object.__setattr__(self, name, value.item())


def is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter is a matrix (or a convolution's weight): it is decayed."""
    return name.endswith("weight") and parameter.ndim >= 2


def make_optimizer(model: nn.Module, config: TrainingConfig) -> "Optimizer":
    """The optimiser that `config` names, with decay on weight matrices alone.

    AdamW (Loshchilov and Hutter, 2019), Muon beside it (Jordan et al., 2024), or SGD
    with Nesterov's momentum.
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
    groups = decay_groups(named, config)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)


def sgd(named: dict[str, nn.Parameter], config: TrainingConfig) -> torch.optim.SGD:
    """SGD with Nesterov's momentum of 0.9 on `named` parameters."""
    groups = decay_groups(named, config)
    return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True)


class MuonBeside:
    """Muon for the matrices of the blocks and AdamW for the rest, as one optimiser.

    The joint `qkv` (3D, D) is three matrices: each third is a parameter of its own that
    shares the joint one's memory.
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
            if "blocks." not in name or not is_matrix(name, parameter):
                rest[name] = parameter
                continue
            n = 3 if config.split_qkv and name.endswith("qkv.weight") else 1
            views = [nn.Parameter(part) for part in parameter.detach().chunk(n)]
            self.pieces.append((parameter, views))
        if not self.pieces:
            raise ValueError("no blocks with matrices here: choose optimizer='adamw'")
        if not config.lr > 0:
            raise ValueError(f"lr is {config.lr}; choose one above 0")
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
        """Give each view its weights and gradient, and step both."""
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
    """The rate at `step` (from 0): warm-up, then a cosine to `final_lr`."""
    total = config.epochs * steps_per_epoch
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(total - warmup, 1)    # 0 to 1
    cosine = (1 + math.cos(math.pi * progress)) / 2        # 1 to 0
    return config.final_lr + (config.lr - config.final_lr) * cosine
