"""ImageNet: a recipe, one command, a bill.

Written by tools/export.py from book/text/14_imagenet.md: edit that file, then `make sync`.
"""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from vit_edu.augment import Augment
from vit_edu.checkpoint import Keeper, MovingAverage, train_resumably
from vit_edu.data import image_folder
from vit_edu.experiment import describe_figures, expectation, stop_request
from vit_edu.experiment import training_options, whole, write_run
from vit_edu.imagenet_recipes import BASIC, RECIPES, Recipe, adapted, chosen
from vit_edu.imagenet_recipes import layer_decayed
from vit_edu.model import VisionTransformer
from vit_edu.optimizer import TrainingConfig
from vit_edu.photographs import MEAN, STD, Pictures, Reader, check_classes, check_folder
from vit_edu.photographs import small_imagenet, workers_for
from vit_edu.processes import Apart, Group, in_parallel, make_loaders, process_group
from vit_edu.processes import same_folder, together, validate
from vit_edu.records import surroundings
from vit_edu.throughput import epoch_report, training_flops
from vit_edu.weights import Preparation, load_model, load_state, read_weights
from vit_edu.weights import unwrapped


def fit(
    model: nn.Module,
    recipe: Recipe,
    data: str | os.PathLike,
    group: Group,
    *,
    out: str | os.PathLike | None = None,
    should_stop: Callable[[], bool] | None = None,
    workers: int | None = None,
    keep: int = 0,
    layer_decay: float | None = None,
    skip_unreadable: bool = False,
    **saving,
) -> tuple[list[dict[str, float]], AveragedModel | None]:
    """Train `model`, where it is, in all processes of `group`; a row for each epoch.

    keep: epochs whose weights are kept
    saving: `resume` and `save_every` of `checkpoint.train_resumably`

    All processes end with the same weights. The others are as in `run`.
    """
    data, out = Path(data).expanduser(), out and Path(out).expanduser()
    reading = dict(workers=workers_for(workers), skip_unreadable=skip_unreadable)
    train_loader, val_loader = loaders(recipe, data, group, **reading)
    config, pictures = adapted(recipe, len(train_loader)), train_loader.dataset
    classes, shape = len(pictures.classes), (3, pictures.size, pictures.size)
    unwrapped(model).preparation = Preparation(MEAN, STD, pictures.classes)
    averaged = MovingAverage(model, recipe.average) if recipe.average > 0 else None
    augment = Augment(recipe.augmentation, MEAN, STD, classes, config.epochs)
    decays = layer_decay is not None
    optimizer = layer_decayed(model, config, layer_decay) if decays else None
    keeper = Keeper(averaged or model, out, keep)
    report = epoch_report(model, shape, out if group.leads else None, group.world)
    if out is not None:
        same_folder(group, out / "state.pt")

    def after_epoch(row: dict[str, float]) -> None:
        """The speed in all, and the weights to keep: one process sees to them."""
        if group.leads:
            report(row)
            keeper(row)

    history = train_resumably(
        in_parallel(model, group),
        train_loader,
        config,
        evaluate=lambda model: validate(model, val_loader, group),
        prepare_batch=Apart(augment, group.rank),
        averaged=averaged,
        after_epoch=after_epoch,
        should_stop=together(should_stop, group),
        out=out,
        optimizer=optimizer,
        leads=group.leads,
        overall=group.mean,
        identity=identity(recipe, pictures) | {"layer_decay": layer_decay},
        **saving,
    )
    return history, averaged


def loaders(recipe: Recipe, data: Path, group: Group, **reading) -> tuple:
    """`processes.make_loaders` as a recipe has it: training and validation batches."""
    views = dict(smallest=recipe.smallest_crop, repeats=recipe.augmentation.repeats)
    views |= dict(seed=recipe.training.seed) | reading
    size = recipe.model["img_size"]
    return make_loaders(data, size, recipe.batch_size, group, **views)


def identity(recipe: Recipe, pictures: Pictures) -> dict:
    """What must be the same for a run to be resumed, besides training and model."""
    return {
        "images": len(pictures),
        "classes": len(pictures.classes),
        "batch_size": recipe.batch_size,
        "augmentation": asdict(recipe.augmentation),
        "smallest_crop": recipe.smallest_crop,
        "average": recipe.average,
    }


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
    sample = torch.randperm(len(known), generator=chance)[:10_000].tolist()
    mine = sample[group.rank :: group.world]
    batches = Reader(known, 250, sampler=mine, num_workers=workers_for(workers))
    final = dict(history[-1])
    for prefix, trained in {"": model, "averaged_": averaged}.items():
        if trained is not None:
            figures = validate(trained, batches, group)
            for name, value in figures.items():
                final[prefix + name.replace("val", "train")] = value
    if group.leads:
        facts = dict(data=describe_data(data), processes=group.world) | around
        facts["training_flops"] = training_flops(model, (3, known.size, known.size))
        recipe = replace(recipe, processes=group.world)    # its command starts as many
        write_run(out, model, averaged, recipe, history, final, **facts)
    return final


def build_model(
    recipe: Recipe, data: Path, weights: str | os.PathLike | None = None
) -> VisionTransformer:
    """The recipe's ViT for the classes in `data`, with random weights or those of a file.

    From a file everything is taken but the head, if it is for other classes.
    """
    torch.manual_seed(recipe.training.seed)
    _, _, classes = check_classes(data)
    model = VisionTransformer(**recipe.model | {"num_classes": len(classes)})
    if weights is not None:
        weights = Path(weights).expanduser()
        state, own = read_weights(weights)[0], model.state_dict()
        head = state.get("head.weight", own["head.weight"])
        if head.shape != own["head.weight"].shape:
            state |= {name: own[name] for name in ("head.weight", "head.bias")}
        load_state(model, state, source=str(weights))
    return model


def run(
    recipe: Recipe,
    data: str | os.PathLike,
    out: str | os.PathLike,
    *,
    minutes: float | None = None,
    weights: str | os.PathLike | None = None,
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
    data, out, around = Path(data).expanduser(), Path(out).expanduser(), surroundings()
    reading = dict(workers=workers, skip_unreadable=skip_unreadable)
    with process_group() as group, stop_request(minutes) as should_stop:
        model = build_model(recipe, data, weights).to(group.device)
        options |= dict(out=out, should_stop=should_stop)
        history, averaged = fit(model, recipe, data, group, **reading, **options)
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
    classes = len(check_classes(Path(data_dir).expanduser())[2])
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
    model = load_model(Path(out).expanduser() / "weights.safetensors")
    group = Group(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    _, val_root, _ = check_classes(Path(data).expanduser())
    size = model.patch_embed.img_size[0]
    pictures = Pictures(val_root, size, skip_unreadable=skip_unreadable)
    everything = dict(sampler=range(len(pictures)), num_workers=workers_for(None))
    batches = Reader(pictures, 250, **everything)
    return validate(model.to(group.device), batches, group)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = training_options("vit_edu.imagenet", RECIPES, "imagenette", main.__doc__)
    option, natural = parser.add_argument, partial(whole, least=0)
    option("--data", help="folder with train/ and val/ (default: Imagenette)")
    option("--check", metavar="DIR", help="look at such a folder, and train nothing")
    option("--no-augment", action="store_true", help="the middle of each image, as it is")
    option("--pool", choices=["cls", "mean"], help="instead of the recipe's")
    option("--registers", type=natural, help="instead of the recipe's")
    option("--workers", type=natural, help="reading processes for each that trains")
    option("--weights", help="a safetensors file to begin with")
    option("--layer-decay", type=float, help="of the rate, for fine-tuning: 0.75")
    option("--skip-unreadable", action="store_true", help="take the next image instead")
    option("--save-every", type=whole, help="steps between states, besides each epoch's")
    option("--keep", type=natural, default=0, help="epochs whose weights are kept")
    return parser.parse_args()


def list_recipes() -> None:
    """Each recipe: what to type, what others report, what our records say."""
    for recipe in RECIPES.values():
        print(f"{recipe.name}: {recipe.purpose}\n  {recipe.command}")
        if recipe.accuracy:
            print(f"  published: {recipe.accuracy}; time: {recipe.hours}")
        if ours := expectation(recipe.label, "val_accuracy", "imagenet-"):
            print(f"  ours: {ours}")


def main() -> None:
    """Train a ViT on ImageNet, or on any folder of its layout."""
    args = parse_arguments()
    if args.list:
        return list_recipes()
    if args.check is not None:
        facts, problems = check_folder(Path(args.check).expanduser())
        print(*facts, *(f"problem: {text}" for text in problems), sep="\n")
        sys.exit(int(bool(problems)))
    recipe = chosen(args)
    data = small_imagenet() if args.data is None else Path(args.data)
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
