"""A first training run.

Written by tools/export.py from book/text/07_training.md: edit that file, then `make sync`.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]


def pair(batch: object) -> Batch:
    """`batch`, if it is a pair of tensors; ValueError says what it is instead."""
    if isinstance(batch, (tuple, list)):
        if len(batch) == 2 and all(isinstance(part, Tensor) for part in batch):
            return tuple(batch)
        kind = ", ".join(type(part).__name__ for part in batch)
    else:
        kind = type(batch).__name__
    raise ValueError(
        f"a batch is ({kind}), not a pair of tensors (images, labels); let the "
        "DataLoader's collate_fn make one"
    )


def check_targets(targets: Tensor, logits: Tensor) -> None:
    """ValueError unless targets are numbers (n,) or probabilities (n, K), as logits."""
    n, k = logits.shape
    if targets.is_floating_point() and targets.shape == (n, k):
        return
    if targets.dtype != torch.int64 or targets.shape != (n,):
        raise ValueError(
            f"labels are {targets.dtype} of shape {tuple(targets.shape)}; give class "
            f"numbers, torch.int64 of shape ({n},), as labels.long().flatten() makes "
            f"them, or probabilities of shape ({n}, {k})"
        )
    on_cpu = targets.device.type == "cpu"    # a look would make a GPU wait
    if on_cpu and not 0 <= targets.min() <= targets.max() < k:
        raise ValueError(
            f"labels run from {targets.min()} to {targets.max()}, the model's classes "
            f"from 0 to {k - 1}; count labels from 0, or build the model with more classes"
        )


@torch.no_grad()
def predict_logits(model: nn.Module, batches: Iterable[Batch]) -> Batch:
    """Logits (n, K) and labels (n,) of all batches, on the CPU."""
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    logits, labels = [], []
    for x, y in map(pair, batches):
        logits.append(model(x.to(device)).float().cpu())
        labels.append(y.cpu())
    model.train(was_training)
    if not logits:
        raise ValueError("there is no batch to evaluate: batches is empty")
    return torch.cat(logits), torch.cat(labels)


def evaluate(model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
    """Mean cross-entropy (nats) and accuracy (0 to 1)."""
    logits, labels = predict_logits(model, batches)
    check_targets(labels, logits)
    accuracy = (logits.argmax(dim=1) == labels).float().mean()
    return {"loss": F.cross_entropy(logits, labels).item(), "accuracy": accuracy.item()}
