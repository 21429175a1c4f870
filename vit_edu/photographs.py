"""A million photographs, read in time.

Written by tools/export.py from book/text/12_photographs.md: edit that file, then `make sync`.
"""

import itertools
import math
import multiprocessing
import os
import pickle
import re
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import Imagenette
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import pil_to_tensor

from vit_edu.data import data_folder, image_folder
from vit_edu.pictures import reading, to_rgb, upright_size, visible
from vit_edu.training import Batch

# Mean and deviation of ImageNet's channels, as everybody uses them.
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def photo_folder(root: str | os.PathLike) -> Path:
    """A small set in ImageNet's layout from the photographs that scikit-learn brings.

    Two classes: random parts of a temple and of a flower, JPEG, 96 pixels. The val
    images come from the right third, the train images from the rest. It stands in
    where no other set is at hand; real images, too few to learn much from.
    """
    from sklearn.datasets import load_sample_images    # slow

    root = Path(root).expanduser()
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

    `imagenette160` in the data folder, or Imagenette, fetched by torchvision (95 MB),
    by one process while others wait at a lock beside it; else crops of two photographs,
    said in one line.
    """
    root = data_folder().expanduser()
    if (root / "imagenette160" / "train").is_dir():
        return root / "imagenette160"
    fetched, photos = root / "imagenette2-160", root / "photographs"
    if fetched.is_dir() and not os.access(root, os.W_OK):
        return fetched    # where nobody can be writing
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / "imagenette.lock", mode=0o666):
        allowed = download and os.environ.get("VIT_EDU_DOWNLOAD") != "0"
        if allowed and not fetched.is_dir():
            with suppress(OSError, RuntimeError):    # no network; a damaged archive
                Imagenette(root, size="160px", download=True)
        if fetched.is_dir():
            if (n := len([*fetched.glob("*/*/*.JPEG")])) != 13_394:
                advice = "unpacking was interrupted; remove the folder and start again"
                raise ValueError(f"{fetched} holds {n:,} of 13,394 images: {advice}")
            return fetched
        print("no Imagenette here and no download: parts of two photographs stand in")
        whole = len([*photos.glob("*/*/*.jpg")]) == 256
        return photos if whole else photo_folder(photos)


def folders_in(root: Path) -> list[str]:
    """The classes: the folders in `root`, sorted, but for hidden ones."""
    folders = filter(os.DirEntry.is_dir, os.scandir(root))
    names = sorted(filter(visible, (folder.name for folder in folders)))
    return names or image_folder(root).classes    # which says what it found instead


def check_classes(data: str | os.PathLike) -> tuple[Path, Path, list[str]]:
    """The train and val folders in `data`, and their common classes."""
    data = Path(data).expanduser()
    train_root, val_root = data / "train", data / "val"
    if missing := [root.name for root in (train_root, val_root) if not root.is_dir()]:
        paths = data.iterdir() if data.is_dir() else ()
        found = ", ".join(sorted(path.name for path in paths)[:5])
        raise FileNotFoundError(
            f"{data} must hold train/ and val/, each with a folder per class; it lacks "
            f"{' and '.join(missing)} and holds {found or 'nothing'}"
        )
    classes = [folders_in(root) for root in (train_root, val_root)]
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
    """A part of an image file, upright, resized to `size` × `size`, RGB.

    `box` gives the part (left, top, right, bottom) for a width and a height. A JPEG is
    decoded at 1/2, 1/4 or 1/8 of its size where that leaves enough pixels: the header
    says how large it is before anything is decoded.
    """
    with reading(path) as image:
        width, height = upright_size(image)
        left, top, right, bottom = box(width, height)
        factor = max(1.0, min(right - left, bottom - top) / size)
        image.draft("RGB", [int(side / factor) for side in image.size])
        picture = to_rgb(image)
        x, y = picture.width / width, picture.height / height
        part = left * x, top * y, right * x, bottom * y
        return picture.resize((size, size), Image.BICUBIC, part)


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
        self.folder = image_folder(Path(root).expanduser())
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
            except (OSError, ValueError) as error:
                if not self.skip_unreadable:
                    advice = f"{error}; or pass --skip-unreadable"
                    raise ValueError(advice) from error
                print(f"skipped: {error}", file=sys.stderr)
        raise ValueError(f"no image of {self.folder.root} can be read")

    def read(self, path: str, seed: int | None) -> Tensor:
        """One image file as bytes (3, size, size)."""
        if seed is None or self.smallest is None:
            return pil_to_tensor(open_reduced(path, self.size, central_box))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)

            def box(width: int, height: int) -> tuple:
                return random_box(width, height, self.smallest)

            image = pil_to_tensor(open_reduced(path, self.size, box))
            return image.flip(-1) if torch.rand(()) < 0.5 else image


QUOTA = Path("/sys/fs/cgroup/cpu.max")    # of a container: microseconds in each period


def workers_for(asked: int | None) -> int:
    """Processes that read images, for each that trains: as asked, else one a core.

    Of the cores that this process may use, shared with the others that torchrun has
    started on this machine.
    """
    if asked is not None:
        return asked
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):    # no container; "max", no limit
        quota, period = QUOTA.read_text("utf-8").split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    return cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))


STOP = signal.SIGINT, signal.SIGTERM
LONGEST_WAIT = 600    # seconds for one batch


def ignore_stop(worker: int) -> None:
    """In a reader: Ctrl-C and SIGTERM are for the process that trains."""
    for number in STOP:
        signal.signal(number, signal.SIG_IGN)


def why_alone(dataset: Dataset) -> str | None:
    """Why no other process can read `dataset`; None where others can."""
    method = multiprocessing.get_start_method(allow_none=True)
    if (method or multiprocessing.get_all_start_methods()[0]) == "fork":
        return None
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is not None and not os.path.exists(file):
        return "the program came from standard input; save it as a file"
    if file is None and b"__main__" in pickle.dumps(dataset):
        return "the data set is defined in a notebook; move its class to a module"
    return None


class Reader(DataLoader):
    """A DataLoader whose processes leave Ctrl-C and SIGTERM to the one that trains.

    Where none can be started, the process itself reads, and says why. TimeoutError
    where a batch takes longer than LONGEST_WAIT.
    """

    def __init__(
        self, dataset: Dataset, *args, num_workers: int = 0, **options
    ) -> None:
        if num_workers and (reason := why_alone(dataset)):
            print(f"images are read without processes: {reason}", file=sys.stderr)
            num_workers = 0
        if num_workers:
            options = dict(timeout=LONGEST_WAIT, worker_init_fn=ignore_stop) | options
        super().__init__(dataset, *args, num_workers=num_workers, **options)

    def __iter__(self) -> Iterator[Batch]:
        # A generator: the readers start when the first batch is asked for. Until then
        # a loop may tell the sampler where to begin, and from then on they read ahead.
        can_block = hasattr(signal, "pthread_sigmask")    # not on Windows
        before = can_block and signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
        try:
            batches = super().__iter__()
        finally:
            if can_block:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for reader in getattr(batches, "_workers", ()):
            reader._popen.terminate = reader._popen.kill
        try:
            yield from batches
        except RuntimeError as error:
            if "timed out" not in str(error):
                raise
            raise TimeoutError(
                f"no batch came within {self.timeout:.0f} s: does the disk hang? Look "
                "at it, then go on with --resume from the last saved state"
            ) from error


IMAGENET = {"train": 1_281_167, "val": 50_000}    # images of 1,000 classes


def check_folder(
    root: str | os.PathLike, sample: int = 200
) -> tuple[list[str], list[str]]:
    """What a folder in ImageNet's layout holds, and what is wrong with it: sentences.

    Names and counts in train/ and val/, and `sample` files of each, read in full.
    """
    facts, problems = [], []
    try:
        *roots, classes = check_classes(root)
        parts = {folder.name: image_folder(folder) for folder in roots}
    except (OSError, ValueError) as error:
        return facts, [str(error)]
    odd = [name for name in classes if not re.fullmatch(r"n\d{8}", name)]
    if odd and (len(classes) == 1000 or len(odd) < len(classes) / 2):
        why = "published weights count ImageNet's own names, sorted"
        problems += [f"a class is called {odd[0]}, not as n01440764: {why}"]
    for part, folder in parts.items():
        paths = [path for path, _ in folder.samples]
        each = Counter(folder.targets).values()
        many = f"{len(paths):,} images of {len(classes):,} classes"
        facts += [f"{part}: {many}, {min(each):,} to {max(each):,} of each"]
        if len(classes) == 1000 and len(paths) != IMAGENET[part]:
            problems += [f"{part}: {many}, ImageNet has {IMAGENET[part]:,}"]
        found = read_some(part, paths, sample)
        facts, problems = facts + found[0], problems + found[1]
    return facts, problems


def read_some(part: str, paths: list[str], n: int) -> tuple[list[str], list[str]]:
    """Facts and problems of `n` files at random, decoded in full by this process."""
    chance = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(paths), generator=chance)[:n].tolist()
    sizes, broken, start = [], [], time.perf_counter()
    for path in (paths[i] for i in chosen):
        try:
            open_reduced(path, 224, lambda *size: sizes.append(size) or (0, 0, *size))
        except (OSError, ValueError) as error:
            broken.append(f"{part}: {error}")
    rate = len(chosen) / (time.perf_counter() - start)
    kilobytes = statistics.median(os.path.getsize(paths[i]) for i in chosen) / 1000
    width, height = map(statistics.median, zip(*sizes or [(0, 0)]))
    facts = f"{width:.0f} × {height:.0f} pixels and {kilobytes:.0f} kB in the middle"
    if broken:
        broken = broken[:5] + [f"{part}: {len(broken)} of {len(chosen)} are broken"]
    return [f"{part}: read {len(chosen)}, {facts}, {rate:.0f} a second"], broken
