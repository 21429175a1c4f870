"""A million photographs.

Written by tools/export.py from book/text/12_photographs.md: edit that file, then `make sync`.
"""

import itertools
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from filelock import FileLock
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import Imagenette
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import pil_to_tensor

from vit_edu.data import data_folder, image_folder
from vit_edu.training import Batch

# Mean and deviation of ImageNet's channels, as everybody uses them.
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


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
