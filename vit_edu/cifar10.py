"""CIFAR-10, trained in full.

Written by tools/export.py from book/text/09_cifar10.md: edit that file, then `make sync`.
"""

import argparse
import importlib.util
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torchvision
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torchvision.models.resnet import BasicBlock

from vit_edu.augment import NO_AUGMENTATION, Augment, Augmentation, enlarge
from vit_edu.augment import MovingAverage, normalise
from vit_edu.data import DeviceLoader, ImageSet, cifar10, cifar10_or_digits
from vit_edu.model import VisionTransformer, count_parameters
from vit_edu.records import Record, read_record, recorded, surroundings, write_record
from vit_edu.throughput import describe_speed, training_flops
from vit_edu.training import Batch, TrainingConfig, evaluate, train
from vit_edu.weights import load_weights, save_weights


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
        options += changed_numbers(self, RECIPES.get(self.name, self))
        return " ".join(["python -m vit_edu.cifar10 --recipe", self.name, *options])


def changed_numbers(recipe: Recipe, usual: Recipe) -> list[str]:
    """Options for the numbers that are not a recipe's usual ones: ["--epochs 60"]."""
    names = "seed", "epochs", "lr", "matrix_lr", "accumulate", "precision"
    pairs = [
        (name.replace("_", "-"), getattr(recipe.training, name), getattr(usual.training, name))
        for name in names
    ]
    pairs.append(("batch-size", recipe.batch_size, usual.batch_size))
    return [f"--{name} {value}" for name, value, known in pairs if value != known]


def vit(embed_dim: int, depth: int, n_heads: int, **others) -> dict:
    """Arguments of a ViT for images of 32 × 32: patches of 4, mean pooling."""
    size = dict(embed_dim=embed_dim, depth=depth, n_heads=n_heads)
    defaults = dict(img_size=32, patch_size=4, num_classes=10, pool="mean")
    return defaults | size | others


STANDARD = TrainingConfig(epochs=200, lr=1e-3, warmup_epochs=10, clip_norm=1.0)
LAPTOP = TrainingConfig(lr=1e-3, optimizer="muon")
TINY = vit(96, 6, 3, mlp_ratio=2, flash_attention=False)    # faster at 64 tokens
GENTLE = Augmentation(operations=1, magnitude=5, erasing=0, mix=0)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "smoke",
            "every part once, in seconds on a CPU",
            vit(192, 2, 3, mlp_ratio=2, drop_path_rate=0.1),
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
            replace(LAPTOP, epochs=60, warmup_epochs=1),
            batch_size=128,
            augmentation=GENTLE,
            position_std=0.5,
        ),
        Recipe(
            "resnet20",
            "the comparison for them: about the same operations in convolutions",
            {"resnet": 20},
            TrainingConfig(epochs=60, lr=0.1, weight_decay=5e-4, warmup_epochs=1, optimizer="sgd"),
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
    "batch512": lambda recipe: replace(recipe, batch_size=512),
    "no-positions": changed_model(positions="none"),
    "sincos2d": changed_model(positions="sincos2d"),
    "class-token": changed_model(pool="cls"),
    "patch2": changed_model(patch_size=2),
    "patch8": changed_model(patch_size=8),
    "patch16": changed_model(patch_size=16),
    "depth3": changed_model(depth=3),
    "depth6": changed_model(depth=6),
    "depth12": changed_model(depth=12),
    "enlarged": enlarged,
}


def load_images(recipe: Recipe) -> ImageSet:
    """The images that a recipe trains on: CIFAR-10, or a part of it."""
    small = recipe.limit is not None
    images = cifar10_or_digits(download=False) if small else cifar10()
    if recipe.held_out:
        images = images.held_out(len(images.train_labels) // 10)
    if not small:
        return images
    n = min(recipe.limit, len(images.train_labels))
    return replace(
        images,
        provenance=f"{images.provenance}; {n:,} to train on",
        train_images=images.train_images[:n],
        train_labels=images.train_labels[:n],
        test_images=images.test_images[:n],
        test_labels=images.test_labels[:n],
    )


def plain_batches(
    images: ImageSet, part: str, device: torch.device, size: int | None = None
) -> Iterator[Batch]:
    """The "train" or "test" images without augmentation, in batches of up to 500."""
    tensors = [getattr(images, f"{part}_{what}") for what in ("images", "labels")]
    for x, labels in DeviceLoader(*tensors, batch_size=500):
        yield enlarge(normalise(x.to(device), *images.moments), size), labels


def uncompiled(model: nn.Module) -> AbstractContextManager:
    """Runs a model that is compiled on a GPU as it is, for batches of other shapes."""
    on_gpu = next(model.parameters()).device.type == "cuda"
    return torch.compiler.set_stance("force_eager") if on_gpu else nullcontext()


def tensorboard(out: str | os.PathLike | None) -> Callable[[dict[str, float]], None]:
    """A function that shows an epoch's figures in TensorBoard, if it is installed."""
    if out is None or importlib.util.find_spec("tensorboard") is None:
        return lambda row: None
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(Path(out) / "tensorboard")

    def write(row: dict[str, float]) -> None:
        for name, value in row.items():
            if math.isfinite(value):
                writer.add_scalar(name, value, int(row["epoch"]))
        writer.flush()

    return write


def epoch_report(
    model: nn.Module,
    image_shape: tuple[int, int, int],
    out: str | os.PathLike | None,
    devices: int = 1,
) -> Callable[[dict[str, float]], None]:
    """A function that prints an epoch's speed and shows its figures in TensorBoard."""
    flops = training_flops(model, image_shape)
    device, write = next(model.parameters()).device, tensorboard(out)

    def report(row: dict[str, float]) -> None:
        rate = row["images_per_second"] * devices
        print(f"           {describe_speed(rate, flops, device, devices)}", flush=True)
        write(row)

    return report


def fit(
    model: nn.Module,
    recipe: Recipe,
    images: ImageSet,
    *,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[list[dict[str, float]], AveragedModel | None]:
    """Train `model`, where it is, by a recipe; a row for each epoch, averaged weights.

    The rest is as in `training.train`. Test figures of epochs that are not evaluated
    are nan.
    """
    config, size = recipe.training, recipe.image_size
    device = next(model.parameters()).device
    averaged = MovingAverage(model, recipe.average) if recipe.average else None
    repeats = recipe.augmentation.repeats
    arrays = images.train_images.to(device), images.train_labels.to(device)
    loader = DeviceLoader(*arrays, recipe.batch_size, shuffle=True, repeats=repeats)
    extent = dict(n_classes=len(images.classes), epochs=config.epochs, size=size)
    augment = Augment(recipe.augmentation, *images.moments, **extent)
    report = epoch_report(model, (3, size, size), out)
    if device.type == "cuda":
        model.compile()

    def test(model: nn.Module) -> dict[str, float]:
        epoch = augment.epoch + 1
        figures = {"loss": math.nan, "accuracy": math.nan}
        if epoch % recipe.evaluate_every == 0 or epoch == config.epochs:
            with uncompiled(model):
                figures = evaluate(model, plain_batches(images, "test", device, size))
        return {f"test_{name}": value for name, value in figures.items()}

    history = train(
        model,
        loader,
        config,
        evaluate=test,
        prepare_batch=augment,
        averaged=averaged,
        after_epoch=report,
        should_stop=should_stop,
        out=out,
        resume=resume,
        identity={
            "data": images.provenance,
            "batch_size": recipe.batch_size,
            "augmentation": asdict(recipe.augmentation),
            "average": recipe.average,
            "image_size": size,
        },
    )
    return history, averaged


def train_vit_on_cifar10(
    model: VisionTransformer,
    epochs: int = 5,
    batch_size: int = 64,
    lr: float = 1e-4,
    *,
    images: ImageSet | None = None,
    augmentation: Augmentation = GENTLE,
    seed: int = 0,
) -> list[dict[str, float]]:
    """Train any ViT of ours on CIFAR-10, where it is; returns a row for each epoch.

    The images are enlarged to the model's size. `images`: another set than CIFAR-10.
    """
    images = images or cifar10_or_digits()
    expected = dict(in_channels=3, num_classes=len(images.classes))
    for name, value in expected.items():
        if model.config[name] != value:
            raise ValueError(
                f"the model has {name}={model.config[name]}, {images.name} needs "
                f"{value}; build it with {name}={value}"
            )
    height, width = model.patch_embed.img_size
    if height != width:
        raise ValueError(
            f"the model takes images of {height} × {width}, and these are square; "
            "build it with a square img_size"
        )
    recipe = Recipe(
        "notebook",
        "a model of the reader's own",
        model.config,
        TrainingConfig(epochs=epochs, lr=lr, warmup_epochs=min(1, epochs), seed=seed),
        batch_size,
        augmentation,
        average=0,
        image_size=height,
        evaluate_every=1,
    )
    return fit(model, recipe, images)[0]


@contextmanager
def stop_request(minutes: float | None = None) -> Iterator[Callable[[], bool]]:
    """A function that says whether to stop: after Ctrl-C, SIGTERM, or so many minutes.

    The first signal asks; a second one ends the program at once.
    """
    end = math.inf if minutes is None else time.monotonic() + 60 * minutes
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    signals = signal.SIGINT, signal.SIGTERM
    before = [signal.signal(number, note) for number in signals]
    try:
        yield lambda: bool(received) or time.monotonic() > end
    finally:
        for number, handler in zip(signals, before):
            signal.signal(number, handler)


def write_run(
    out: str | os.PathLike,
    model: nn.Module,
    averaged: AveragedModel | None,
    recipe: Recipe,
    image_shape: tuple[int, int, int],
    history: list[dict[str, float]],
    final: dict[str, float],
    **facts,
) -> None:
    """Write a finished run's weights and its record, of any kind of recipe.

    `weights.safetensors` holds the averaged weights if there are any. `facts` join
    the record's, such as `data` and the `surroundings` in which the run began.
    """
    save_weights(averaged or model, Path(out) / "weights.safetensors")
    if (Path(out) / "run.json").exists():
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
        training_flops=training_flops(model, image_shape),
        seconds=sum(row["seconds"] for row in history),
        final=final,
        weights="averaged" if averaged else "last",
        **facts,
    )


def finish(
    model: nn.Module,
    averaged: AveragedModel | None,
    recipe: Recipe,
    images: ImageSet,
    history: list[dict[str, float]],
    out: str | os.PathLike,
    around: dict,
) -> dict:
    """Measure the final model on all images and write the run; its final figures.

    `around`: the `surroundings` in which the run began.
    """
    device, final = next(model.parameters()).device, dict(history[-1])
    for prefix, trained in {"": model, "averaged_": averaged}.items():
        if trained is not None:
            batches = plain_batches(images, "train", device, recipe.image_size)
            with uncompiled(trained):
                known = evaluate(trained, batches)
            final |= {f"{prefix}train_{name}": value for name, value in known.items()}
    shape = 3, recipe.image_size, recipe.image_size
    facts = dict(data=images.provenance) | around
    write_run(out, model, averaged, recipe, shape, history, final, **facts)
    return final


def run(
    recipe: Recipe,
    out: str | os.PathLike,
    *,
    resume: bool = False,
    minutes: float | None = None,
) -> dict | None:
    """Train a recipe from the beginning or where it stopped, and record it in `out`.

    Returns the final figures; None when it was stopped before its end.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images, around = load_images(recipe), surroundings()
    torch.manual_seed(recipe.training.seed)
    model = build_model(recipe).to(device)
    with stop_request(minutes) as should_stop:
        history, averaged = fit(
            model,
            recipe,
            images,
            out=out,
            resume=resume,
            should_stop=should_stop,
        )
    if len(history) < recipe.training.epochs:
        print(f"stopped; {out} holds the state, --resume goes on from it")
        return None
    return finish(model, averaged, recipe, images, history, out, around)


def evaluate_run(out: str | os.PathLike) -> dict[str, float]:
    """Test figures of the weights that a run left in `out`, measured anew."""
    recipe = recipe_from(read_record(out).facts["config"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build_model(recipe).to(device)
    load_weights(model, Path(out) / "weights.safetensors")
    images = load_images(recipe)
    return evaluate(model, plain_batches(images, "test", device, recipe.image_size))


def recipe_from(config: dict) -> Recipe:
    """The recipe that a record's `config` describes."""
    training = config["training"]
    training = TrainingConfig(**(training | {"betas": tuple(training["betas"])}))
    augmentation = Augmentation(**config["augmentation"])
    changes = tuple(config["changes"])
    parts = dict(training=training, augmentation=augmentation, changes=changes)
    return Recipe(**(config | parts))


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
    return "; ".join(lines) or "not recorded yet"


def chosen(args: argparse.Namespace) -> Recipe:
    """The recipe that a command line asks for."""
    recipe = RECIPES[args.recipe]
    for name in args.change:
        recipe = CHANGES[name](recipe)
    return replace(
        recipe,
        training=chosen_training(args, recipe.training),
        batch_size=args.batch_size or recipe.batch_size,
        changes=tuple(args.change),
        held_out=args.held_out,
    )


def chosen_training(args: argparse.Namespace, config: TrainingConfig) -> TrainingConfig:
    """A recipe's training with what a command line changes in it."""
    epochs = args.epochs or config.epochs
    return replace(
        config,
        seed=args.seed,
        epochs=epochs,
        lr=config.lr if args.lr is None else args.lr,
        matrix_lr=config.matrix_lr if args.matrix_lr is None else args.matrix_lr,
        precision=args.precision or config.precision,
        warmup_epochs=min(config.warmup_epochs, epochs / 10),
        accumulate=args.accumulate,
    )


def positive(text: str) -> int:
    """A whole number from 1 on, from a command line."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return number


def training_options(
    program: str, recipes: Collection[str], default: str, purpose: str | None
) -> argparse.ArgumentParser:
    """A command line with what every training command takes."""
    parser = argparse.ArgumentParser(f"python -m {program}", description=purpose)
    option = parser.add_argument
    option("--recipe", choices=recipes, default=default)
    option("--seed", type=int, default=0)
    option("--epochs", type=positive, help="instead of the recipe's")
    option("--lr", type=float, help="instead of the recipe's")
    option("--matrix-lr", type=float, help="Muon's rate, instead of the recipe's")
    option("--precision", choices=("float32", "bfloat16"), help="of matrix products")
    option("--batch-size", type=positive, help="instead of the recipe's")
    option("--accumulate", type=positive, default=1, help="parts of a batch")
    option("--minutes", type=float, help="stop then; --resume goes on")
    option("--out", help="folder of the run (default: runs/NAME-SEED)")
    option("--resume", action="store_true", help="go on where the run stopped")
    option("--list", action="store_true", help="recipes, and what to expect of them")
    option("--eval", action="store_true", help="measure a run's weights again")
    return parser


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = training_options("vit_edu.cifar10", RECIPES, "fast", main.__doc__)
    option = parser.add_argument
    option("--change", choices=CHANGES, action="append", default=[], help="repeatable")
    option("--no-augment", action="append_const", const="no-augment", dest="change")
    option("--held-out", action="store_true", help="test on 5,000 training images")
    return parser.parse_args()


def describe_figures(final: dict[str, float]) -> str:
    """A finished run's accuracies in one line."""
    names = [name for name in final if name.endswith("accuracy")]
    return ", ".join(f"{name.replace('_', ' ')} {final[name]:.2%}" for name in names)


def main() -> None:
    """Train a ViT, or a ResNet beside it, on CIFAR-10."""
    args = parse_arguments()
    if args.list:
        for recipe in RECIPES.values():
            print(f"{recipe.name}: {recipe.purpose}\n  {recipe.command}")
            for change in "", "-no-augment":
                said = expectation(recipe.name + change)
                print(f"  {change[1:] or 'as it is'}: {said}")
        return
    recipe = chosen(args)
    out = args.out or f"runs/{recipe.label}-{args.seed}"
    if args.eval:
        print({name: round(value, 4) for name, value in evaluate_run(out).items()})
        return
    print(f"{recipe.label}, seed {args.seed}: {recipe.purpose}; writing to {out}")
    if final := run(recipe, out, resume=args.resume, minutes=args.minutes):
        print(describe_figures(final))


if __name__ == "__main__" and "__file__" in globals():    # not in a notebook
    try:
        main()
    except (OSError, ValueError, FloatingPointError) as error:
        sys.exit(f"vit_edu.cifar10: {error}")
