"""A first training run.

Written by tools/export.py from book/text/07_training.md: edit that file, then `make sync`.
"""

from dataclasses import dataclass, replace

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from vit_edu.block import Block
from vit_edu.model import VisionTransformer
from vit_edu.optimizer import TrainingConfig


def load_digits_split() -> tuple[TensorDataset, TensorDataset]:
    """Handwritten digits (1, 8, 8), standardised: 1,437 to train on, 360 to test.

    Both parts hold the digits in the same proportions, and are scaled by the mean and
    deviation of the training images. The images are scikit-learn's copy of the UCI
    test set (Alpaydin and Kaynak, 1998).
    """
    digits = load_digits()
    rows = range(len(digits.target))
    train_rows, test_rows = train_test_split(
        rows, test_size=360, random_state=0, stratify=digits.target
    )
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None]  # (n, 1, 8, 8)
    images = (images - images[train_rows].mean()) / images[train_rows].std()
    labels = torch.tensor(digits.target)
    train_set = TensorDataset(images[train_rows], labels[train_rows])
    return train_set, TensorDataset(images[test_rows], labels[test_rows])


BASELINE = TrainingConfig(epochs=30, lr=3e-3, warmup_epochs=4)


@dataclass(frozen=True)
class Recipe:
    """An experiment: python -m vit_edu.digits --recipe baseline --seed 0"""

    purpose: str
    training: TrainingConfig = BASELINE
    positions: str = "learned"
    position_std: float = 0.5    # of the learned positions at the start
    residuals: bool = True


RECIPES = {
    "baseline": Recipe("every ingredient in"),
    "no-warmup": Recipe("full rate from step one", replace(BASELINE, warmup_epochs=0)),
    "no-decay": Recipe("no weight decay", replace(BASELINE, weight_decay=0.0)),
    "no-positions": Recipe("a bag of patches", positions="none"),
    "small-positions": Recipe("positions that start at 0.02", position_std=0.02),
    "no-residuals": Recipe("blocks that replace, not add", residuals=False),
}


class BlockWithoutResiduals(Block):
    """A block whose branches replace their input instead of being added to it."""

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, D) to tokens (B, N, D)."""
        x = self.attn(self.norm1(x))
        return self.mlp(self.norm2(x))


def build_model(recipe: Recipe, seed: int) -> VisionTransformer:
    """The digits' ViT: 16 patches of 2×2, width 48, 4 blocks."""
    torch.manual_seed(seed)
    shape = dict(img_size=8, patch_size=2, in_channels=1, num_classes=10)
    size = dict(embed_dim=48, depth=4, n_heads=4, mlp_ratio=2)
    model = VisionTransformer(**shape, **size, positions=recipe.positions)
    if recipe.positions == "learned":
        nn.init.trunc_normal_(model.pos_embed, std=recipe.position_std)
    if not recipe.residuals:
        for block in model.blocks:
            block.__class__ = BlockWithoutResiduals    # same weights, other forward
    return model
