"""A first training run.

Written by tools/export.py from book/text/07_training.md: edit that file, then `make sync`.
"""

import argparse
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from vit_edu.block import Block
from vit_edu.model import VisionTransformer, count_parameters
from vit_edu.records import surroundings, write_record
from vit_edu.training import TrainingConfig, evaluate, train
from vit_edu.weights import save_weights


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
    recipe = RECIPES[name]
    epochs = epochs or recipe.training.epochs
    warmup = min(recipe.training.warmup_epochs, epochs)
    config = replace(recipe.training, seed=seed, epochs=epochs, warmup_epochs=warmup)
    train_set, test_set = load_digits_split()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build_model(recipe, seed).to(device)

    def test(model: nn.Module) -> dict[str, float]:
        figures = evaluate(model, DataLoader(test_set, batch_size=360))
        return {f"test_{name}": value for name, value in figures.items()}

    history = train(
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
    parser = argparse.ArgumentParser("python -m vit_edu.digits", description=main.__doc__)
    option = parser.add_argument
    option("--recipe", choices=RECIPES, default="baseline")
    option("--seed", type=int, default=0)
    option("--epochs", type=int, help="instead of the recipe's")
    option("--out", help="folder of the run (default: runs/digits-RECIPE-SEED)")
    option("--resume", action="store_true", help="go on where the run stopped")
    option("--all", action="store_true", help="every recipe, seeds 0 to 2, resumed")
    args = parser.parse_args()
    todo = [(args.recipe, args.seed)]
    if args.all:
        todo = [(recipe, seed) for recipe in RECIPES for seed in range(3)]
    for recipe, seed in todo:
        out = args.out or f"runs/digits-{recipe}-{seed}"
        print(f"{recipe}, seed {seed}: {RECIPES[recipe].purpose}; writing to {out}")
        train_on_digits(recipe, seed, out, args.resume or args.all, args.epochs)


if __name__ == "__main__" and "__file__" in globals():    # not in a notebook
    main()
