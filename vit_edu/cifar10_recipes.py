"""CIFAR-10, trained in full.

Written by tools/export.py from book/text/11_cifar10.md: edit that file, then `make sync`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock

from vit_edu.augment import NO_AUGMENTATION, Augmentation
from vit_edu.experiment import changed_numbers
from vit_edu.model import VisionTransformer
from vit_edu.optimizer import TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """A training run: what is trained, on what, and how. `command` runs it."""

    name: str
    purpose: str
    model: dict    # arguments of VisionTransformer, {"torchvision": name}, {"resnet": 20}
    training: TrainingConfig
    batch_size: int = 512
    augmentation: Augmentation = Augmentation()
    average: float = 0.999          # decay of the averaged weights; 0: none
    image_size: int = 32            # images are enlarged to it
    evaluate_every: int = 10        # epochs; the last one always
    position_std: float = 0.02      # of learned positions at the start
    limit: int | None = None        # so many training images; no download for these
    changes: tuple[str, ...] = ()   # names in CHANGES, applied already
    held_out: bool = False          # test on 5,000 training images, not on the test set

    @property
    def label(self) -> str:
        """The name with everything that is different, e.g. "fast-no-augment"."""
        parts = [self.name, *self.changes, *(["held-out"] if self.held_out else [])]
        return "-".join(parts)

    @property
    def command(self) -> str:
        """What to type, with all that differs from the recipe of this name."""
        options = [f"--change {change}" for change in self.changes]
        options += ["--held-out"] if self.held_out else []
        usual = RECIPES.get(self.name, self)
        for change in self.changes:
            usual = CHANGES[change](usual) if change in CHANGES else usual
        options += changed_numbers(self, usual)
        return " ".join(["python -m vit_edu.cifar10 --recipe", self.name, *options])


def vit(embed_dim: int, depth: int, n_heads: int, **others) -> dict:
    """Arguments of a ViT for images of 32 × 32: patches of 4, mean pooling."""
    size = dict(embed_dim=embed_dim, depth=depth, n_heads=n_heads)
    defaults = dict(img_size=32, patch_size=4, num_classes=10, pool="mean")
    return defaults | size | others


STANDARD = TrainingConfig(epochs=200, lr=1e-3, warmup_epochs=10, clip_norm=1.0)
LAPTOP = TrainingConfig(lr=1e-3, matrix_lr=0.01, optimizer="muon")
CONVOLUTIONS = TrainingConfig(lr=0.1, weight_decay=5e-4, optimizer="sgd")
TINY = vit(96, 6, 3, mlp_ratio=2, flash_attention=False)    # faster in bfloat16
GENTLE = Augmentation(operations=1, magnitude=5, erasing=0, mix=0)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "smoke",
            "every part once, in seconds on a CPU",
            vit(96, 2, 3, mlp_ratio=2, drop_path_rate=0.1),
            TrainingConfig(epochs=2, warmup_epochs=1),
            batch_size=64,
            evaluate_every=1,
            limit=640,
        ),
        Recipe(
            "sprint",
            "half a million weights on a laptop: one change at a time, compared",
            TINY,
            replace(LAPTOP, epochs=6, warmup_epochs=0.5),
            batch_size=128,
            augmentation=GENTLE,
            average=0.99,
            position_std=0.5,
        ),
        Recipe(
            "tiny",
            "the same model, trained longer: small enough to run inside a page",
            TINY,
            replace(LAPTOP, epochs=50, warmup_epochs=1),
            batch_size=128,
            augmentation=GENTLE,
            position_std=0.5,
        ),
        Recipe(
            "resnet20-sprint",
            "the comparison for `sprint`: about its operations, in convolutions",
            {"resnet": 20},
            replace(CONVOLUTIONS, epochs=6, warmup_epochs=0.5),
            batch_size=128,
            augmentation=GENTLE,
            average=0.99,
        ),
        Recipe(
            "resnet20",
            "the comparison for `tiny`",
            {"resnet": 20},
            replace(CONVOLUTIONS, epochs=50, warmup_epochs=1),
            batch_size=128,
            augmentation=GENTLE,
        ),
        Recipe(
            "fast",
            "a good plain ViT within minutes on one data-centre GPU",
            vit(256, 9, 8, mlp_ratio=2, drop_path_rate=0.1),
            STANDARD,
        ),
        Recipe(
            "best",
            "more width: what a plain ViT of 32 pixels can do",
            vit(384, 9, 6, drop_path_rate=0.1),
            replace(STANDARD, epochs=350),
        ),
        Recipe(
            "best-patch2",
            "the other candidate for `best`: less width, four times the tokens",
            vit(256, 8, 4, patch_size=2, drop_path_rate=0.1),
            replace(STANDARD, epochs=200),
        ),
        Recipe(
            "resized",
            "images enlarged to 224 pixels, as most tutorials do: what it costs",
            vit(384, 6, 6, img_size=224, patch_size=16, drop_path_rate=0.1),
            replace(STANDARD, epochs=100, warmup_epochs=5),
            image_size=224,
        ),
        Recipe(
            "resnet18",
            "the comparison: a convolutional network, same loop and data",
            {"torchvision": "resnet18"},
            STANDARD,
        ),
        Recipe(
            "resnet50",
            "the comparison, deeper",
            {"torchvision": "resnet50"},
            STANDARD,
        ),
    )
}


def small_resnet(depth: int = 20, n_classes: int = 10) -> nn.Sequential:
    """The ResNet for 32 pixels of He et al. (2016, section 4.2), depth = 6n + 2.

    With 1 × 1 convolutions where the width changes, as in torchvision.
    """
    layers = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    width = 16
    for planes in 16, 32, 64:
        for _ in range((depth - 2) // 6):
            stride, shortcut = 1, None
            if planes != width:
                stride, narrow = 2, nn.Conv2d(width, planes, 1, stride=2, bias=False)
                shortcut = nn.Sequential(narrow, nn.BatchNorm2d(planes))
            layers.append(BasicBlock(width, planes, stride, shortcut))
            width = planes
    pool = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, *pool, nn.Linear(width, n_classes))


def build_model(recipe: Recipe) -> nn.Module:
    """The recipe's model with random weights: a ViT of ours or torchvision's ResNet.

    A ResNet gets the stem that is usual for small images: 3 × 3 instead of 7 × 7, no
    stride, no pooling (He et al., 2016, section 4.2).
    """
    if "resnet" in recipe.model:
        return small_resnet(recipe.model["resnet"])
    name = recipe.model.get("torchvision")
    if name is None:
        model = VisionTransformer(**recipe.model)
        if model.config["positions"] == "learned":
            nn.init.trunc_normal_(model.pos_embed, std=recipe.position_std)
        return model
    model = torchvision.models.get_model(name, weights=None, num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


def changed_model(**arguments) -> Callable[[Recipe], Recipe]:
    """A change of a recipe's ViT."""

    def change(recipe: Recipe) -> Recipe:
        if "embed_dim" not in recipe.model:
            missing = ", ".join(arguments)
            raise ValueError(f"{recipe.name} is no ViT: it has no {missing}")
        return replace(recipe, model=recipe.model | arguments)

    return change


def changed_augmentation(**arguments) -> Callable[[Recipe], Recipe]:
    """A change of how a recipe's images are augmented."""
    return lambda recipe: replace(
        recipe, augmentation=replace(recipe.augmentation, **arguments)
    )


def changed_training(**settings) -> Callable[[Recipe], Recipe]:
    """A change of a recipe's training."""
    return lambda recipe: replace(recipe, training=replace(recipe.training, **settings))


def enlarged(recipe: Recipe) -> Recipe:
    """Images enlarged to 128 pixels and cut into patches of 16: the same 64 tokens."""
    recipe = changed_model(img_size=128, patch_size=16)(recipe)
    return replace(recipe, image_size=128)


# One thing changed, for comparisons: `--change NAME`.
CHANGES: dict[str, Callable[[Recipe], Recipe]] = {
    "no-augment": lambda recipe: replace(recipe, augmentation=NO_AUGMENTATION),
    "no-crop": changed_augmentation(crop_padding=0),
    "no-flip": changed_augmentation(flip=0),
    "no-randaugment": changed_augmentation(operations=0),
    "no-erasing": changed_augmentation(erasing=0),
    "no-mix": changed_augmentation(mix=0),
    "repeats2": changed_augmentation(repeats=2),
    "no-smoothing": changed_training(label_smoothing=0.0),
    "adamw": changed_training(optimizer="adamw", lr=2e-3),
    "joint-qkv": changed_training(split_qkv=False),
    "float32": changed_training(precision="float32"),
    "batch512": lambda recipe: replace(recipe, batch_size=512),
    "no-positions": changed_model(positions="none"),
    "sincos2d": changed_model(positions="sincos2d"),
    "class-token": changed_model(pool="cls"),
    "patch2": changed_model(patch_size=2, flash_attention=True),    # 256 tokens
    "patch8": changed_model(patch_size=8),
    "patch16": changed_model(patch_size=16),
    "depth3": changed_model(depth=3),
    "depth6": changed_model(depth=6),
    "depth12": changed_model(depth=12),
    "enlarged": enlarged,
}
