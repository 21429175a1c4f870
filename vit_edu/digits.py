"""A first training run.

Written by tools/export.py from book/text/07_training.md: edit that file, then `make sync`.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from vit_edu.block import Block
from vit_edu.model import VisionTransformer
from vit_edu.optimizer import TrainingConfig

DATA = "scikit-learn's handwritten digits: 1,437 to train on, 360 to test"


def split_digits() -> tuple[Tensor, Tensor, list[int], list[int]]:
    """Images (1797, 1, 8, 8) from 0 to 1, labels, and the rows to train on and to test.

    Both hold the digits in the same proportions. From the UCI test set (Alpaydin and
    Kaynak, 1998).
    """
    from sklearn.datasets import load_digits    # slow
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    rows = range(len(digits.target))
    how = dict(test_size=360, random_state=0, stratify=digits.target)
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    return images, torch.tensor(digits.target), *train_test_split(rows, **how)


def load_digits_split() -> tuple[TensorDataset, TensorDataset]:
    """1,437 digits (1, 8, 8) to train on, 360 to test, scaled by the former's moments."""
    images, labels, train_rows, test_rows = split_digits()
    images = (images - images[train_rows].mean()) / images[train_rows].std()
    train_set = TensorDataset(images[train_rows], labels[train_rows])
    return train_set, TensorDataset(images[test_rows], labels[test_rows])


def preparation() -> dict:
    """How an image from 0 to 1 is scaled for our models, and what the classes are."""
    images, _, train_rows, _ = split_digits()
    known = images[train_rows]
    moments = {"mean": [known.mean().item()], "std": [known.std().item()]}
    return moments | {"classes": [str(digit) for digit in range(10)]}


BASELINE = TrainingConfig(epochs=30, lr=3e-3, warmup_epochs=4)


@dataclass(frozen=True)
class Recipe:
    """An experiment: python -m vit_edu.experiment --recipe baseline --seed 0"""

    label: str
    purpose: str
    training: TrainingConfig = BASELINE
    positions: str = "learned"
    position_std: float = 0.5    # of the learned positions at the start
    residuals: bool = True

    @property
    def command(self) -> str:
        """The command that makes this run."""
        epochs, seed = self.training.epochs, self.training.seed
        text = f"python -m vit_edu.experiment --recipe {self.label} --seed {seed}"
        usual = RECIPES[self.label].training.epochs
        return text if epochs == usual else f"{text} --epochs {epochs}"


def changed(**settings) -> TrainingConfig:
    return replace(BASELINE, **settings)


ALL = (
    Recipe("baseline", "every ingredient in"),
    Recipe("no-warmup", "full rate from step one", changed(warmup_epochs=0)),
    Recipe("no-decay", "no weight decay", changed(weight_decay=0.0)),
    Recipe("no-positions", "a bag of patches", positions="none"),
    Recipe("small-positions", "positions that start at 0.02", position_std=0.02),
    Recipe("no-residuals", "blocks that replace, not add", residuals=False),
    Recipe("muon", "Muon for the blocks' matrices", changed(optimizer="muon")),
)
RECIPES = {recipe.label: recipe for recipe in ALL}


class BlockWithoutResiduals(Block):
    """A block whose branches replace their input instead of being added to it."""

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, D) to tokens (B, N, D)."""
        x = self.attn(self.norm1(x))
        return self.mlp(self.norm2(x))


def build_model(recipe: Recipe, seed: int, depth: int = 4) -> VisionTransformer:
    """The digits' ViT: 16 patches of 2×2, width 48, `depth` blocks."""
    torch.manual_seed(seed)
    shape = dict(img_size=8, patch_size=2, in_channels=1, num_classes=10)
    size = dict(embed_dim=48, depth=depth, n_heads=4, mlp_ratio=2)
    model = VisionTransformer(**shape, **size, positions=recipe.positions)
    if recipe.positions == "learned":
        nn.init.trunc_normal_(model.pos_embed, std=recipe.position_std)
    if not recipe.residuals:
        for block in model.blocks:
            block.__class__ = BlockWithoutResiduals    # same weights, other forward
    return model
