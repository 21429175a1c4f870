"""ImageNet, on one GPU or many.

Written by tools/export.py from book/text/14_imagenet.md: edit that file, then `make sync`.
"""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from vit_edu.augment import Augment
from vit_edu.checkpoint import Keeper, MovingAverage, train_resumably
from vit_edu.data import image_folder
from vit_edu.experiment import chosen_training, describe_figures, expectation
from vit_edu.experiment import stop_request, training_options, write_run
from vit_edu.imagenet_recipes import BASIC, RECIPES, Recipe, without_augmentation
from vit_edu.model import VisionTransformer
from vit_edu.optimizer import TrainingConfig
from vit_edu.photographs import MEAN, STD, Pictures, Reader, check_classes
from vit_edu.photographs import shared_imagenet, workers_for
from vit_edu.processes import Apart, Group, in_parallel, make_loaders, process_group
from vit_edu.processes import same_folder, validate
from vit_edu.records import surroundings
from vit_edu.throughput import epoch_report, training_flops
from vit_edu.weights import load_model, load_state, read_weights


def layer_decayed(
    model: VisionTransformer, config: TrainingConfig, decay: float
) -> torch.optim.AdamW:
    """AdamW whose rate falls by `decay` with each layer from the head to the patches.

    For fine-tuning (Clark et al., 2020; Bao et al., 2022): early layers already know
    what to do. `training.train` multiplies each group's rate by its `lr_scale`.
    """
    depth = len(model.blocks)
    groups = []
    for name, parameter in model.named_parameters():
        layer = 0    # patches, tokens, positions
        if name.startswith("blocks."):
            layer = int(name.split(".")[1]) + 1
        elif name.startswith(("norm", "fc_norm", "head")):
            layer = depth + 1
        matrix = name.endswith("weight") and parameter.ndim >= 2
        group = dict(params=[parameter], lr_scale=decay ** (depth + 1 - layer))
        groups.append(group | {"weight_decay": config.weight_decay if matrix else 0.0})
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)


def adapted(recipe: Recipe, steps_per_epoch: int) -> TrainingConfig:
    """The recipe's training; on a set smaller than ImageNet its warm-up is cut.

    To a tenth of all steps, if it were longer.
    """
    epochs = recipe.training.epochs
    warmup = min(recipe.warmup_steps / steps_per_epoch, epochs / 10)
    return replace(recipe.training, warmup_epochs=warmup)


def fit(
    model: nn.Module,
    recipe: Recipe,
    data: str | os.PathLike,
    group: Group,
    *,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    should_stop: Callable[[], bool] | None = None,
    workers: int | None = None,
    save_every: int | None = None,
    keep: int = 0,
    layer_decay: float | None = None,
    skip_unreadable: bool = False,
) -> tuple[list[dict[str, float]], AveragedModel | None]:
    """Train `model`, where it is, in all processes of `group`; a row for each epoch.

    All processes end with the same weights. The others are as in `run`.
    """
    options = dict(workers=workers_for(workers), skip_unreadable=skip_unreadable)
    train_loader, val_loader = make_loaders(recipe, Path(data), group, **options)
    config, pictures = adapted(recipe, len(train_loader)), train_loader.dataset
    classes, shape = len(pictures.classes), (3, pictures.size, pictures.size)
    averaged = MovingAverage(model, recipe.average) if recipe.average else None
    augment = Augment(recipe.augmentation, MEAN, STD, classes, config.epochs)
    optimizer = layer_decayed(model, config, layer_decay) if layer_decay else None
    keeper = Keeper(averaged or model, out, keep)
    report = epoch_report(model, shape, out if group.leads else None, group.world)
    if out:
        same_folder(group, Path(out) / "state.pt")

    def after_epoch(row: dict[str, float]) -> None:
        """The speed in all, and the weights to keep: one process sees to them."""
        if group.leads:
            report(row)
            keeper(row)

    def all_stop() -> bool:
        """Whether one of the processes was asked to stop: then all do, at one step."""
        asked = bool(should_stop and should_stop())
        return bool(group.total(torch.tensor([asked]).int()))

    history = train_resumably(
        in_parallel(model, group),
        train_loader,
        config,
        evaluate=lambda model: validate(model, val_loader, group),
        prepare_batch=Apart(augment, group.rank),
        averaged=averaged,
        after_epoch=after_epoch,
        should_stop=all_stop,
        out=out,
        resume=resume,
        save_every=save_every,
        optimizer=optimizer,
        leads=group.leads,
        overall=group.mean,
        identity={
            "images": len(pictures),
            "classes": classes,
            "batch_size": recipe.batch_size,
            "augmentation": asdict(recipe.augmentation),
            "smallest_crop": recipe.smallest_crop,
            "average": recipe.average,
            "layer_decay": layer_decay,
        },
    )
    return history, averaged


def describe_data(data: Path) -> str:
    """A sentence for the record: which folder, how many images and classes."""
    counts = [len(image_folder(data / part).samples) for part in ("train", "val")]
    classes = len(image_folder(data / "val").classes)
    images = f"{counts[0]:,} to train on, {counts[1]:,} to test"
    return f"{data.name}: {classes} classes, {images}"


def finish(
    model: nn.Module,
    averaged: AveragedModel | None,
    recipe: Recipe,
    data: Path,
    group: Group,
    history: list[dict[str, float]],
    out: str | os.PathLike,
    around: dict,
    *,
    workers: int | None = None,
    skip_unreadable: bool = False,
) -> dict:
    """Measure the final model on training images, and write the run; final figures.

    On up to 10,000 of them, chosen at random, as they are.
    """
    options = dict(smallest=None, skip_unreadable=skip_unreadable)
    known = Pictures(data / "train", recipe.model["img_size"], **options)
    chance = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(known), generator=chance)[:10_000].tolist()
    mine = chosen[group.rank :: group.world]
    batches = Reader(known, 250, sampler=mine, num_workers=workers_for(workers))
    final = dict(history[-1])
    for prefix, trained in {"": model, "averaged_": averaged}.items():
        if trained is not None:
            figures = validate(trained, batches, group)
            for name, value in figures.items():
                final[prefix + name.replace("val", "train")] = value
    if group.leads:
        facts = dict(data=describe_data(data), processes=group.world) | around
        shape = 3, known.size, known.size
        facts["training_flops"] = training_flops(model, shape)
        write_run(out, model, averaged, recipe, history, final, **facts)
    return final


def build_model(
    recipe: Recipe, data: Path, weights: str | None = None
) -> VisionTransformer:
    """The recipe's ViT for the classes in `data`, with random weights or those of a file.

    From a file everything is taken but the head, if it is for other classes.
    """
    torch.manual_seed(recipe.training.seed)
    _, _, classes = check_classes(data)
    model = VisionTransformer(**recipe.model | {"num_classes": len(classes)})
    if weights:
        state, _ = read_weights(weights)
        own = model.state_dict()
        head = state.get("head.weight", own["head.weight"])
        if head.shape != own["head.weight"].shape:
            state |= {name: own[name] for name in ("head.weight", "head.bias")}
        load_state(model, state, source=weights)
    return model


def run(
    recipe: Recipe,
    data: str | os.PathLike,
    out: str | os.PathLike,
    *,
    minutes: float | None = None,
    weights: str | None = None,
    workers: int | None = None,
    skip_unreadable: bool = False,
    **options,
) -> dict | None:
    """Train a recipe in this process, or in all that torchrun started, and record it.

    minutes: stop after so many; `resume=True` goes on later
    weights: a safetensors file to begin with
    workers: processes that read images, for each that trains
    skip_unreadable: take the next image where one cannot be read
    options: of `fit`

    Returns the final figures; None when it was stopped before its end.
    """
    data, around = Path(data), surroundings()
    reading = dict(workers=workers, skip_unreadable=skip_unreadable)
    with process_group() as group, stop_request(minutes) as should_stop:
        model = build_model(recipe, data, weights).to(group.device)
        history, averaged = fit(
            model,
            recipe,
            data,
            group,
            out=out,
            should_stop=should_stop,
            **reading,
            **options,
        )
        if len(history) < recipe.training.epochs:
            if group.leads:
                print(f"stopped; {out} holds the state, --resume goes on from it")
            return None
        results = model, averaged, recipe, data, group, history, out, around
        return finish(*results, **reading)


def train_model(
    model: VisionTransformer,
    data_dir: str | os.PathLike,
    batch_size: int = 256,
    epochs: int = 300,
    lr: float = 1e-3,
    warmup_steps: int = 10_000,
    **options,
) -> list[dict[str, float]]:
    """Train any ViT of ours on a folder in ImageNet's layout, where it is.

    Returns a row for each epoch. A warm-up longer than a tenth of the training is cut.
    `options` are those of `fit`, such as `out` and `workers`.
    """
    config = TrainingConfig(epochs=epochs, lr=lr, weight_decay=0.1)
    height, width = model.patch_embed.img_size
    if height != width:
        raise ValueError(f"images are square here, the model takes {height} × {width}")
    classes = len(check_classes(Path(data_dir))[2])
    if model.config["num_classes"] != classes:
        raise ValueError(
            f"the model has num_classes={model.config['num_classes']}, {data_dir} "
            f"holds {classes} classes; build it with num_classes={classes}"
        )
    recipe = Recipe(
        "notebook",
        "a model of the reader's own",
        model.config | {"img_size": height},
        config,
        batch_size,
        warmup_steps,
        replace(BASIC, operations=2, magnitude=9),
    )
    group = Group(0, 1, next(model.parameters()).device)
    return fit(model, recipe, data_dir, group, **options)[0]


def evaluate_run(
    out: str | os.PathLike, data: str | os.PathLike, skip_unreadable: bool = False
) -> dict[str, float]:
    """Validation figures of the weights that a run left in `out`, measured anew."""
    model = load_model(Path(out) / "weights.safetensors")
    group = Group(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    _, val_root, _ = check_classes(Path(data))
    size = model.patch_embed.img_size[0]
    pictures = Pictures(val_root, size, skip_unreadable=skip_unreadable)
    everything = dict(sampler=range(len(pictures)), num_workers=workers_for(None))
    batches = Reader(pictures, 250, **everything)
    return validate(model.to(group.device), batches, group)


def chosen(args: argparse.Namespace) -> Recipe:
    """The recipe that a command line asks for."""
    recipe = RECIPES[args.recipe]
    if args.no_augment:
        recipe = without_augmentation(recipe)
    training = chosen_training(args, recipe.training)
    model, changes = dict(recipe.model), list(recipe.changes)
    if args.pool:
        model["pool"] = args.pool
        changes.append(f"pool={args.pool}")
    if args.registers:
        model["n_registers"] = args.registers
        changes.append(f"registers={args.registers}")
    batch_size = args.batch_size or recipe.batch_size
    changed = dict(training=training, model=model, changes=tuple(changes))
    return replace(recipe, batch_size=batch_size, **changed)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = training_options("vit_edu.imagenet", RECIPES, "imagenette", main.__doc__)
    option = parser.add_argument
    option("--data", help="folder with train/ and val/ (default: Imagenette)")
    option("--no-augment", action="store_true", help="the middle of each image, as it is")
    option("--pool", choices=["cls", "mean"], help="instead of the recipe's")
    option("--registers", type=int, help="instead of the recipe's")
    option("--workers", type=int, help="reading processes for each that trains")
    option("--weights", help="a safetensors file to begin with")
    option("--layer-decay", type=float, help="of the rate, for fine-tuning: 0.75")
    option("--skip-unreadable", action="store_true", help="take the next image instead")
    option("--save-every", type=int, help="steps between states, besides each epoch's")
    option("--keep", type=int, default=0, help="epochs whose weights are kept")
    return parser.parse_args()


def main() -> None:
    """Train a ViT on ImageNet, or on any folder of its layout."""
    args = parse_arguments()
    if args.list:
        for recipe in RECIPES.values():
            print(f"{recipe.name}: {recipe.purpose}\n  {recipe.command}")
            published = f"{recipe.accuracy or 'nothing'} published"
            print(f"  {recipe.hardware}, {recipe.hours}; {published}")
            ours = expectation(recipe.label, "val_accuracy", "imagenet-")
            print(f"  ours: {ours}")
        return
    recipe = chosen(args)
    data = Path(args.data) if args.data else shared_imagenet()
    out = args.out or f"runs/imagenet-{recipe.label}-{args.seed}"
    if args.eval:
        figures = evaluate_run(out, data, args.skip_unreadable)
        print({name: round(value, 4) for name, value in figures.items()})
        return
    names = "minutes", "weights", "workers", "resume", "save_every", "keep"
    names = *names, "layer_decay", "skip_unreadable"
    options = {name: getattr(args, name) for name in names}
    leads = os.environ.get("RANK", "0") == "0"
    if leads:
        text = f"{recipe.label}, seed {args.seed}: {recipe.purpose}; writing to {out}"
        print(text, flush=True)
    final = run(recipe, data, out, **options)
    if final and leads:
        print(describe_figures(final))


if __name__ == "__main__" and "__file__" in globals():    # not in a notebook
    try:
        main()
    except (OSError, ValueError, FloatingPointError) as error:
        sys.exit(f"vit_edu.imagenet: {str(error).splitlines()[-1]}")
    except RuntimeError as error:
        if "RANK" not in os.environ:
            raise
        rank, reason = os.environ["RANK"], str(error).splitlines()[-1]
        sys.exit(f"process {rank} cannot go on, perhaps since another ended: {reason}")
