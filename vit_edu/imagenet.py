"""ImageNet, on one GPU or many.

Written by tools/export.py from book/text/10_imagenet.md: edit that file, then `make sync`.
"""

import argparse
import csv
import itertools
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
import torch.distributed as dist
from filelock import FileLock
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.datasets import Imagenette
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import pil_to_tensor

from vit_edu.augment import NO_AUGMENTATION, Augment, Augmentation
from vit_edu.augment import MovingAverage, normalise
from vit_edu.cifar10 import changed_numbers, chosen_training, describe_figures
from vit_edu.cifar10 import epoch_report, expectation, stop_request
from vit_edu.cifar10 import training_options, uncompiled, write_run
from vit_edu.data import data_folder, image_folder
from vit_edu.model import VisionTransformer
from vit_edu.records import surroundings
from vit_edu.training import Batch, TrainingConfig, predict_logits, seed_for, train
from vit_edu.weights import load_model, load_state, read_weights, save_weights
from vit_edu.weights import unwrapped

# Mean and deviation of ImageNet's channels, as everybody uses them.
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@dataclass(frozen=True)
class Recipe:
    """A training run: command, hardware, hours, and the accuracy published for it.

    `published` holds the published recipe's settings by our names; where ours
    differ, `differences` says why.
    """

    name: str
    purpose: str
    model: dict
    training: TrainingConfig
    batch_size: int                  # of all processes together
    warmup_steps: int
    augmentation: Augmentation
    smallest_crop: float | None = 0.08    # share of the area; None: the middle
    average: float = 0.0             # decay of the averaged weights; 0: none
    hardware: str = ""
    hours: str = ""
    accuracy: str = ""               # published, with its source
    published: dict = field(default_factory=dict)
    differences: dict = field(default_factory=dict)
    changes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name with what was changed, e.g. "reference-no-augment"."""
        return "-".join((self.name, *self.changes)).replace("=", "-")

    @property
    def command(self) -> str:
        """What to type, on one machine with the recipe's hardware."""
        start = "torchrun --nproc-per-node 8 -m vit_edu.imagenet --data DIR"
        if self.hardware in ("any CPU", "one GPU"):
            start = "python -m vit_edu.imagenet"
        options = [f"--{change.replace('=', ' ')}" for change in self.changes]
        options += changed_numbers(self, RECIPES.get(self.name, self))
        return " ".join([start, "--recipe", self.name, *options])


def vit(embed_dim: int, depth: int, n_heads: int, **others) -> dict:
    """Arguments of a ViT/16 for 224 pixels and 1,000 classes."""
    size = dict(embed_dim=embed_dim, depth=depth, n_heads=n_heads)
    return dict(img_size=224, patch_size=16, num_classes=1000) | size | others


# Crop and mirror are drawn where files are read; the rest happens on the device.
BASIC = replace(NO_AUGMENTATION, mix_until=1.0)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "smoke",
            "every part once, in seconds on a CPU",
            vit(48, 2, 2, img_size=32, patch_size=8, drop_path_rate=0.1),
            TrainingConfig(epochs=2),
            batch_size=16,
            warmup_steps=4,
            augmentation=replace(BASIC, operations=1, magnitude=5, mix=0.5),
            average=0.9,
            hardware="any CPU",
            hours="seconds",
        ),
        Recipe(
            "imagenette64",
            "ten classes of real photographs at 64 pixels, minutes on a CPU",
            vit(128, 6, 4, img_size=64, patch_size=8, pool="mean"),
            TrainingConfig(epochs=20, lr=1e-3, weight_decay=0.05),
            batch_size=64,
            warmup_steps=250,
            augmentation=BASIC,
            smallest_crop=0.35,
            average=0.998,
            hardware="any CPU",
            hours="some minutes",
        ),
        Recipe(
            "imagenette",
            "ten classes of real photographs at 160 pixels, minutes on a GPU",
            vit(384, 8, 6, img_size=160, pool="mean", drop_path_rate=0.1),
            TrainingConfig(epochs=150, lr=1e-3, weight_decay=0.05),
            batch_size=256,
            warmup_steps=500,
            augmentation=Augmentation(crop_padding=0, flip=0, mix_until=0.8),
            smallest_crop=0.25,
            average=0.999,
            hardware="one GPU",
            hours="minutes",
        ),
    )
}


BIG_VISION = "Beyer et al., 2022; the PyTorch port mup-vit reports 76.9"
NO_HEAD = "one linear layer, as the port and the paper's later version"

RECIPES["vit_s16_90ep"] = Recipe(
    "vit_s16_90ep",
    "the plain ViT-S/16 recipe: little augmentation, 90 epochs",
    vit(384, 12, 6, pool="mean", positions="sincos2d"),
    TrainingConfig(90, 1e-3, 0.0, weight_decay=0.1, label_smoothing=0.0),
    batch_size=1024,
    warmup_steps=10_000,
    augmentation=Augmentation(
        crop_padding=0, flip=0, operations=2, magnitude=10, erasing=0,
        mix=1.0, mixup=0.2, cutmix=0.0, mix_until=1.0,
    ),
    smallest_crop=0.05,
    hardware="8 A100",
    hours="5 h 41 min for the original, as mup-vit reports",
    accuracy=f"76.5 % ({BIG_VISION} %)",
    published=dict(
        epochs=90, batch_size=1024, lr=1e-3, final_lr=0.0, warmup_steps=10_000,
        weight_decay=1e-4, betas=(0.9, 0.999), clip_norm=1.0,
        label_smoothing=0.0, pool="mean", positions="sincos2d",
        drop_rate=0.0, drop_path_rate=0.0, average=0.0, smallest_crop=0.05,
        operations=2, magnitude="10 of 10", mixup=0.2, cutmix=0.0, mix=1.0,
        erasing=0, repeats=1, head="tanh layer", validation="1 % of train",
    ),
    differences=dict(
        weight_decay="big_vision multiplies it by the schedule alone, torch by "
        "the rate as well: 1e-4 there is 0.1 here, at a rate of 1e-3",
        magnitude="10 of big_vision's 10 is stronger than 10 of torchvision's 30",
        head=NO_HEAD,
        validation="the whole train folder is trained on, val is tested on",
    ),
)


RECIPES["vit_b16_300ep"] = Recipe(
    "vit_b16_300ep",
    "torchvision's recipe for its ViT-B/16: strong augmentation, 300 epochs",
    vit(768, 12, 12),
    TrainingConfig(300, 3e-3, 0.0, weight_decay=0.3, label_smoothing=0.11),
    batch_size=4096,
    warmup_steps=9360,
    augmentation=Augmentation(
        crop_padding=0, flip=0, operations=2, magnitude=9, erasing=0,
        mix=1.0, mixup=0.2, cutmix=1.0, mix_until=1.0, repeats=3,
    ),
    average=0.99998,
    hardware="8 GPUs",
    hours="not published",
    accuracy="81.07 % (torchvision's reference training)",
    published=dict(
        epochs=300, batch_size=4096, lr=3e-3, final_lr=0.0, warmup_steps=9360,
        weight_decay=0.3, betas=(0.9, 0.999), clip_norm=1.0,
        label_smoothing=0.11, pool="cls", positions="learned", drop_rate=0.0,
        drop_path_rate=0.0, average=0.99998, smallest_crop=0.08, operations=2,
        magnitude=9, mixup=0.2, cutmix=1.0, mix=1.0, erasing=0, repeats=3,
        decayed="all weights", warmup_start=0.033, precision="float16",
        average_every=32, interpolation="bilinear",
    ),
    differences=dict(
        decayed="matrices alone; norms, biases, positions are not decayed",
        warmup_start="the first step has a 9,360th of the rate, not a 30th",
        precision="bfloat16 on GPUs made for it: no loss scaling",
        average_every="averaged after each step, slower at first",
        interpolation="bicubic, as timm and the original",
    ),
)


REFERENCE = TrainingConfig(epochs=300, lr=1e-3, weight_decay=0.1)

RECIPES["reference"] = Recipe(
    "reference",
    "a tutorial's: ViT-B/16 with small batches, for the comparison",
    vit(768, 12, 12),
    REFERENCE,
    batch_size=256,
    warmup_steps=10_000,
    augmentation=Augmentation(crop_padding=0, flip=0, mix_until=1.0),
    hardware="8 GPUs",
    hours="not published",
    accuracy="about 76.5 %, and 65 % without augmentation (as that tutorial reports)",
    published=dict(epochs=300, batch_size=256, lr=1e-3, warmup_steps=10_000),
)


def without_augmentation(recipe: Recipe) -> Recipe:
    """The same recipe with the middle of each image, as it is."""
    changes = (*recipe.changes, "no-augment")
    return replace(recipe, augmentation=BASIC, smallest_crop=None, changes=changes)


def photo_folder(root: str | os.PathLike) -> Path:
    """A small set in ImageNet's layout from the photographs that scikit-learn brings.

    Two classes: random parts of a temple and of a flower, JPEG, 96 pixels. The val
    images come from the right third, the train images from the rest. It stands in
    where no other set is at hand; real images, too few to learn much from.
    """
    root = Path(root)
    chance = torch.Generator().manual_seed(0)
    photos = load_sample_images()
    for name, photo in zip(photos.filenames, photos.images):
        image, class_name = Image.fromarray(photo), Path(name).stem
        border = image.width * 2 // 3
        parts = ("train", 96, 0, border), ("val", 32, border, image.width)
        for part, n, low, high in parts:
            folder = root / part / class_name
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(n):
                left = int(torch.randint(low, high - 96, (), generator=chance))
                top = int(torch.randint(0, image.height - 96, (), generator=chance))
                crop = image.crop((left, top, left + 96, top + 96))
                crop.save(folder / f"{i:03d}.jpg", quality=90)
    return root


def small_imagenet(download: bool = True) -> Path:
    """A folder with train/ and val/ of ten ImageNet classes, or of a stand-in.

    `imagenette160` in the data folder, or Imagenette, downloaded by torchvision (95 MB);
    else crops of two photographs, said in one line.
    """
    for name in "imagenette160", "imagenette2-160":
        if (data_folder() / name / "train").is_dir():
            return data_folder() / name
    if download and os.environ.get("VIT_EDU_DOWNLOAD") != "0":
        try:
            Imagenette(data_folder(), size="160px", download=True)
            return data_folder() / "imagenette2-160"
        except (OSError, RuntimeError):    # torchvision's word for a damaged archive
            pass
    print("no Imagenette here and no download: parts of two photographs stand in")
    root = data_folder() / "photographs"
    whole = len([*root.glob("*/*/*.jpg")]) == 256
    return root if whole else photo_folder(root)


def shared_imagenet() -> Path:
    """`small_imagenet`, fetched by one process while a machine's others wait."""
    if "RANK" not in os.environ:
        return small_imagenet()
    with FileLock(Path(tempfile.gettempdir()) / "vit_edu-imagenette.lock"):
        return small_imagenet()


def check_classes(data: Path) -> tuple[Path, Path, list[str]]:
    """The train and val folders in `data`, and their common classes."""
    train_root, val_root = data / "train", data / "val"
    if missing := [root.name for root in (train_root, val_root) if not root.is_dir()]:
        paths = data.iterdir() if data.is_dir() else ()
        found = ", ".join(sorted(path.name for path in paths)[:5])
        raise FileNotFoundError(
            f"{data} must hold train/ and val/, each with a folder per class; it lacks "
            f"{' and '.join(missing)} and holds {found or 'nothing'}"
        )
    classes = [image_folder(root).classes for root in (train_root, val_root)]
    if classes[0] != classes[1]:
        differ = sorted(set(classes[0]) ^ set(classes[1]))
        raise ValueError(
            f"the classes in {train_root} and {val_root} differ: "
            f"{', '.join(differ[:5])}{' and more' if len(differ) > 5 else ''} "
            "in one of them only; repair the copy"
        )
    return train_root, val_root, classes[0]


def random_box(
    width: int, height: int, smallest: float = 0.08
) -> tuple[float, float, float, float]:
    """A part of random size and shape (Szegedy et al., 2015), as torchvision has it."""
    image = torch.empty(1, height, width, device="meta")
    draw = RandomResizedCrop.get_params
    top, left, h, w = draw(image, scale=[smallest, 1.0], ratio=[3 / 4, 4 / 3])
    return left, top, left + w, top + h


def central_box(
    width: int, height: int, share: float = 224 / 256
) -> tuple[float, float, float, float]:
    """The square in the middle, `share` of the shorter side wide."""
    side = share * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def open_reduced(path: str, size: int, box: Callable[[int, int], tuple]) -> Image.Image:
    """A part of an image file, resized to `size` × `size`, RGB.

    `box` gives the part (left, top, right, bottom) for a width and a height. A JPEG is
    decoded at 1/2, 1/4 or 1/8 of its size where that leaves enough pixels: the header
    says how large it is before anything is decoded.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            left, top, right, bottom = box(width, height)
            factor = max(1.0, min(right - left, bottom - top) / size)
            image.draft("RGB", (int(width / factor), int(height / factor)))
            x, y = image.width / width, image.height / height
            part = left * x, top * y, right * x, bottom * y
            resized = image.convert("RGB").resize((size, size), Image.BICUBIC, part)
    except Exception as error:    # decoders fail in many ways
        raise ValueError(
            f"{path} cannot be read as an image ({error}); replace or remove it, or "
            "pass --skip-unreadable"
        ) from error
    return resized


class Pictures(Dataset):
    """Images of a folder as bytes (3, size, size), with labels.

    An item is asked for by its number, for the middle of the image, or by (number,
    seed), for a random part, mirrored or not, that depends on the seed alone: not on
    which worker of which process reads it. `smallest` is the least share of the area
    that such a part may have; None gives the middle in any case.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        size: int,
        *,
        smallest: float | None = 0.08,
        skip_unreadable: bool = False,
    ) -> None:
        self.folder = image_folder(root)
        self.classes = self.folder.classes
        self.size, self.smallest = size, smallest
        self.skip_unreadable = skip_unreadable

    def __len__(self) -> int:
        return len(self.folder.samples)

    def __getitem__(self, item: int | tuple[int, int]) -> tuple[Tensor, int]:
        """Image and label; if unreadable ones are skipped, the next takes its place."""
        number, seed = item if isinstance(item, tuple) else (item, None)
        if number >= len(self):    # where `for image in pictures` ends
            raise IndexError(f"image {number} of {len(self)}")
        for i in itertools.islice(itertools.count(number), len(self)):
            path, label = self.folder.samples[i % len(self)]
            try:
                return self.read(path, seed), label
            except ValueError as error:
                if not self.skip_unreadable:
                    raise
                print(f"skipped: {error}", file=sys.stderr)
        raise ValueError(f"no image of {self.folder.root} can be read")

    def read(self, path: str, seed: int | None) -> Tensor:
        """One image file as bytes (3, size, size)."""
        if seed is None or self.smallest is None:
            return pil_to_tensor(open_reduced(path, self.size, central_box))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)

            def box(width: int, height: int) -> tuple:
                return random_box(width, height, self.smallest)

            image = pil_to_tensor(open_reduced(path, self.size, box))
            return image.flip(-1) if torch.rand(()) < 0.5 else image


class SharedBatches(Sampler):
    """Each process's part of batches that all share: (number, seed) of its images.

    The order of all images follows from `seed` and the epoch, so that batch k is the
    same set of images, with the same seeds, for any number of processes. `repeats`
    puts that many views of an image into a batch (Hoffer et al., 2020). `start_batch`
    lets an epoch begin in the middle.
    """

    def __init__(
        self,
        n_images: int,
        batch_size: int,
        *,
        rank: int = 0,
        world: int = 1,
        seed: int = 0,
        repeats: int = 1,
    ) -> None:
        if batch_size % world:
            near = batch_size // world * world or world
            raise ValueError(
                f"a batch of {batch_size} images cannot be shared by {world} processes; "
                f"choose a multiple of {world}, such as {near}"
            )
        if batch_size > n_images:
            raise ValueError(
                f"a batch of {batch_size} is more than all {n_images} images; choose a "
                "smaller --batch-size"
            )
        self.n_images, self.batch_size, self.repeats = n_images, batch_size, repeats
        self.rank, self.world, self.seed = rank, world, seed
        self.epoch = self.start_batch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes, counted from 0; it begins at its first batch."""
        self.epoch, self.start_batch = epoch, 0

    def __len__(self) -> int:
        """Images that this process gets in a whole epoch, without an incomplete batch."""
        return self.n_images // self.batch_size * (self.batch_size // self.world)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        chance = torch.Generator().manual_seed(seed_for(self.seed, self.epoch))
        order = torch.randperm(self.n_images, generator=chance)
        seeds = torch.randint(2**62, (self.n_images,), generator=chance)
        order = order.repeat_interleave(self.repeats)[: self.n_images]
        last = self.n_images // self.batch_size * self.batch_size
        if self.repeats > 1:    # neighbours are mixed: scatter an image's views
            places = torch.randperm(self.batch_size, generator=chance)
            order = order[:last].view(-1, self.batch_size)[:, places].flatten()
        mine = range(self.start_batch * self.batch_size + self.rank, last, self.world)
        yield from ((int(order[i]), int(seeds[i])) for i in mine)


@dataclass(frozen=True)
class Group:
    """The processes that train together, one a device; alone, it is a group of one."""

    rank: int
    world: int
    device: torch.device
    control: dist.ProcessGroup | None = None    # for words between the CPUs

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and prints."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """The sum of a CPU tensor over all processes."""
        if self.world > 1:
            dist.all_reduce(values, group=self.control)
        return values

    def mean(self, value: float) -> float:
        """The mean of a number over all processes."""
        return float(self.total(torch.tensor(value).double())) / self.world


@contextmanager
def process_group() -> Iterator[Group]:
    """Join the processes that torchrun started (nccl on GPUs, else gloo), or be alone."""
    cuda = torch.cuda.is_available()
    if "RANK" not in os.environ:
        yield Group(0, 1, torch.device("cuda" if cuda else "cpu"))
        return
    device = torch.device("cpu")
    if cuda:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    control = dist.new_group(backend="gloo")
    try:
        yield Group(dist.get_rank(), dist.get_world_size(), device, control)
    finally:
        dist.destroy_process_group()


class Apart:
    """Augments with chance of its own in each process: the loop seeds all alike."""

    def __init__(self, augment: Augment, rank: int) -> None:
        self.augment, self.rank = augment, rank
        self.set_epoch = augment.set_epoch

    def __call__(self, images: Tensor, labels: Tensor) -> Batch:
        """Augmented images and targets of this process's part of a batch."""
        torch.manual_seed(seed_for(torch.initial_seed(), self.rank))
        return self.augment(images, labels)


def workers_for(asked: int | None) -> int:
    """Processes that read images, for each that trains: as asked, else by the cores."""
    if asked is not None:
        return asked
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    return min(16, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


class Reader(DataLoader):
    """A DataLoader whose processes leave Ctrl-C and SIGTERM to the one that trains.

    Such a signal goes to all of them; a reader that died of it would take the run
    along before its state is saved. They are born with both signals blocked.
    """

    def __iter__(self) -> Iterator[Batch]:
        stop = {signal.SIGINT, signal.SIGTERM}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, stop)
        try:
            return super().__iter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def make_loaders(
    recipe: Recipe,
    data: Path,
    group: Group,
    *,
    workers: int,
    skip_unreadable: bool = False,
) -> tuple[DataLoader, DataLoader]:
    """This process's training batches, and its share of the validation images."""
    train_root, val_root, _ = check_classes(data)
    size, chance = recipe.model["img_size"], recipe.training.seed
    options = dict(skip_unreadable=skip_unreadable)
    train_set = Pictures(train_root, size, smallest=recipe.smallest_crop, **options)
    val_set = Pictures(val_root, size, **options)
    sampler = SharedBatches(
        len(train_set),
        recipe.batch_size,
        rank=group.rank,
        world=group.world,
        seed=chance,
        repeats=recipe.augmentation.repeats,
    )
    pinned = dict(num_workers=workers, pin_memory=group.device.type == "cuda")
    local = recipe.batch_size // group.world
    share = range(group.rank, len(val_set), group.world)
    return (
        Reader(train_set, local, sampler=sampler, drop_last=True, **pinned),
        Reader(val_set, min(local, 250), sampler=share, **pinned),
    )


def validate(model: nn.Module, batches: DataLoader, group: Group) -> dict[str, float]:
    """Mean cross-entropy and accuracy over the images of all processes."""

    def prepared() -> Iterator[Batch]:
        for images, labels in batches:
            yield normalise(images.to(group.device), MEAN, STD), labels

    sums = torch.zeros(3, dtype=torch.float64)    # loss, right answers, images
    if len(batches.sampler):
        with uncompiled(unwrapped(model)):    # other shapes than training's
            logits, labels = predict_logits(unwrapped(model), prepared())
        loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
        right = (logits.argmax(dim=1) == labels).sum()
        sums = torch.stack([loss.double(), right.double(), torch.tensor(len(labels))])
    loss, right, n = group.total(sums.double()).tolist()
    return {"val_loss": loss / n, "val_accuracy": right / n}


class Keeper:
    """Keeps the weights of the last `last` epochs and of the best one, in `out`.

    The best is chosen on the validation images: its figure flatters it. What a run
    reports is its last epoch.
    """

    def __init__(
        self, model: nn.Module, out: str | os.PathLike | None, last: int
    ) -> None:
        self.model, self.last, self.best = model, last, -1.0
        self.out = out and Path(out)    # None: nothing is kept
        prefix = "averaged_" if isinstance(model, AveragedModel) else ""
        self.figure = f"{prefix}val_accuracy"
        if self.out and (table := self.out / "metrics.csv").exists():    # resumed
            with open(table, newline="") as file:
                rows = list(csv.DictReader(file))
            known = (float(row.get(self.figure, -1)) for row in rows)
            self.best = max(known, default=-1.0)

    def __call__(self, row: dict[str, float]) -> None:
        """Called after each epoch with its row."""
        if self.out is None:
            return
        if self.last:
            path = self.out / f"weights-epoch-{row['epoch']:04d}.safetensors"
            save_weights(self.model, path)
            kept = sorted(self.out.glob("weights-epoch-*.safetensors"))
            for old in kept[: -self.last]:
                old.unlink()
        if row[self.figure] > self.best:
            self.best = row[self.figure]
            save_weights(self.model, self.out / "best.safetensors")


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


def same_folder(group: Group, state: Path) -> None:
    """All processes must see the same files: one machine's own disk is not enough."""
    seen = int(group.total(torch.tensor([state.exists()]).int()))
    if seen not in (0, group.world):
        raise FileNotFoundError(
            f"{seen} of {group.world} processes see {state}; choose an --out on a disk "
            "that all machines share"
        )


def in_parallel(model: nn.Module, group: Group) -> nn.Module:
    """The model as it is trained: compiled on a GPU, gradients averaged by DDP."""
    on_gpu = group.device.type == "cuda"
    if on_gpu:
        model.compile()
    if group.world == 1:
        return model
    places = [group.device.index] if on_gpu else None
    return DistributedDataParallel(model, device_ids=places)


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

    history = train(
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
        write_run(out, model, averaged, recipe, shape, history, final, **facts)
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
