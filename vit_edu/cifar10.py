"""CIFAR-10, trained in full.

Written by tools/export.py from book/text/11_cifar10.md: edit that file, then `make sync`.
"""

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from vit_edu.augment import Augment, Augmentation, enlarge, normalise
from vit_edu.checkpoint import MovingAverage, train_resumably
from vit_edu.cifar10_recipes import CHANGES, GENTLE, RECIPES, Recipe, build_model
from vit_edu.data import DeviceLoader, ImageSet, cifar10, cifar10_or_digits
from vit_edu.experiment import chosen_training, describe_figures, expectation
from vit_edu.experiment import stop_request, training_options, uncompiled, write_run
from vit_edu.model import VisionTransformer
from vit_edu.optimizer import TrainingConfig
from vit_edu.records import read_record, surroundings
from vit_edu.throughput import epoch_report, training_flops
from vit_edu.training import Batch, evaluate
from vit_edu.weights import Preparation, load_weights, unwrapped


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
    unwrapped(model).preparation = Preparation(*images.moments, images.classes)
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

    history = train_resumably(
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
    facts["training_flops"] = training_flops(model, shape)
    write_run(out, model, averaged, recipe, history, final, **facts)
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
    out = Path(out).expanduser()
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


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = training_options("vit_edu.cifar10", RECIPES, "fast", main.__doc__)
    option = parser.add_argument
    option("--change", choices=CHANGES, action="append", default=[], help="repeatable")
    option("--no-augment", action="append_const", const="no-augment", dest="change")
    option("--held-out", action="store_true", help="test on 5,000 training images")
    return parser.parse_args()


def main() -> None:
    """Train a ViT, or a ResNet beside it, on CIFAR-10."""
    args = parse_arguments()
    if args.list:
        for recipe in RECIPES.values():
            print(f"{recipe.name}: {recipe.purpose}\n  {recipe.command}")
            for change in "", "-no-augment":
                if said := expectation(recipe.name + change):
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
