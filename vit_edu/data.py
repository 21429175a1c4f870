"""Pictures to learn from.

Written by tools/export.py from book/text/09_data.md: edit that file, then `make sync`.
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.error import URLError

import torch
import torch.nn.functional as F
import torchvision
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder

from vit_edu.pictures import PictureFolder, expanded, to_rgb
from vit_edu.training import Batch
from vit_edu.weights import written_beside


@dataclass(frozen=True)
class ImageSet:
    """A set that fits into memory: images as bytes (n, C, H, W), labels (n,)."""

    name: str
    provenance: str    # a sentence for a run's record
    classes: tuple[str, ...]
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    @functools.cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel, (C,), of the training images
        scaled to 0..1."""
        channels = self.train_images.transpose(0, 1).flatten(1)    # (C, n·H·W)
        counts = torch.stack([c.bincount(minlength=256) for c in channels])
        share = counts.double() / channels.shape[1]                # (C, 256)
        value = torch.arange(256) / 255
        mean = (share * value).sum(dim=1)
        variance = (share * (value - mean[:, None]) ** 2).sum(dim=1)
        return mean.float(), variance.sqrt().float()

    def held_out(self, n: int = 5000) -> "ImageSet":
        """The same set with `n` of its training images in place of its test images.

        For every choice (rate, length, strength of augmentation), so that the test
        set stays unseen. The same images each time, as many of each class.
        """
        chance = torch.Generator().manual_seed(0)
        order = torch.randperm(len(self.train_labels), generator=chance)
        held = torch.zeros(len(order), dtype=torch.bool)
        for k in range(len(self.classes)):
            of_class = order[self.train_labels[order] == k]
            held[of_class[: n // len(self.classes)]] = True
        return replace(
            self,
            provenance=f"{self.provenance}; tested on {held.sum():,} of its training "
            "images, which were held out; no test image used",
            train_images=self.train_images[~held],
            train_labels=self.train_labels[~held],
            test_images=self.train_images[held],
            test_labels=self.train_labels[held],
        )


class DeviceLoader:
    """Batches of (images, labels) from two tensors, on the device where they lie.

    No worker processes: CIFAR-10 as bytes is 184 MB, and a GPU picks a batch from
    its own memory faster than any process can send one. `repeats` puts each image
    into a batch that many times, for repeated augmentation (Hoffer et al., 2020).
    A shuffled epoch has the same number of batches all the same, so it sees a share
    of 1/repeats of the images, another one each time; in plain order it shows all.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        *,
        shuffle: bool = False,
        repeats: int = 1,
    ) -> None:
        most = len(images) if shuffle else batch_size
        if not 0 < batch_size <= most:
            raise ValueError(
                f"batch_size {batch_size} does not fit {len(images)} images; "
                f"choose 1 to {len(images)}"
            )
        if repeats < 1 or batch_size % repeats:
            raise ValueError(
                f"batches of {batch_size} cannot hold {repeats} views of each image; "
                "choose repeats of 1 or more, and a batch_size that is a multiple of it"
            )
        self.images, self.labels = images, labels
        self.batch_size, self.shuffle, self.repeats = batch_size, shuffle, repeats
        self.distinct = batch_size // repeats    # images of a batch

    def __len__(self) -> int:
        """Batches of an epoch; if shuffled, without an incomplete last one."""
        n = len(self.images)
        return n // self.batch_size if self.shuffle else -(-n // self.distinct)

    def __iter__(self) -> Iterator[Batch]:
        """One epoch; all chance comes from torch's global generator."""
        n = len(self.images)
        order = torch.randperm(n) if self.shuffle else torch.arange(n)
        order = order.to(self.images.device)
        for first in range(0, len(self) * self.distinct, self.distinct):
            rows = order[first : first + self.distinct].repeat(self.repeats)
            yield self.images[rows], self.labels[rows]


class TensorImages(Dataset):
    """Images (n, C, H, W) and labels as a Dataset for torch's own DataLoader."""

    def __init__(
        self, images: Tensor, labels: Tensor, transform: Callable | None = None
    ) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        """Image i, transformed, and its label."""
        image, label = self.images[i], int(self.labels[i])
        return self.transform(image) if self.transform else image, label


def image_folder(
    root: str | os.PathLike, transform: Callable | None = None
) -> ImageFolder:
    """A folder with a subfolder of images for each class, opened by `to_rgb`.

    FileNotFoundError where `root` has another layout, with what was found there.
    """
    root = Path(expanded(root))
    if not root.is_dir():
        raise FileNotFoundError(
            f"{root} is not a folder; name one with a folder per class"
        )
    return PictureFolder(root, transform, loader=to_rgb)


FILES = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]

# Known copies: a sentence for a run's record, and the md5 sums of the six FILES.
COPIES = {
    "CIFAR-10 as published": (
        "c99cafc152244af753f735de768cd75f",
        "d4bba439e000b95fd0a9bffe97cbabec",
        "54ebc095f3ab1f0389bbae665268c751",
        "634d18415352ddfa80567beed471001a",
        "482c414d41f54cd18b22e5b47cb7c3cb",
        "40351d587109b95175f43aff81a1287e",
    ),
    "CIFAR-10, a copy without file names, 124 of its 60,000 images decoded from JPEG": (
        "a82f8dc957917856e50a781fcf65ff06",
        "05af4af4d08b4a19129dd0e821d6f816",
        "3e43c9c145dae39847105815629def90",
        "8caf6c6c057cbd83a74af0d0d2f222bf",
        "0360d2b2f79e9bb82039a6a3664806c3",
        "397bda6077b2944231042fbdcc379517",
    ),
}


def data_folder() -> Path:
    """Where data sets are kept: VIT_EDU_DATA, else a folder in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(expanded(os.environ.get("VIT_EDU_DATA") or Path(cache) / "vit_edu"))


def known_copy(folder: Path) -> str:
    """Which known copy lies in `folder`; ValueError names files that fit none."""
    remedy = "move the folder away and download CIFAR-10 again"
    names = [*FILES, "batches.meta"]
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ValueError(f"{folder} lacks {', '.join(missing)}; {remedy}")
    found = [hashlib.md5((folder / name).read_bytes()).hexdigest() for name in names]
    meta = torchvision.datasets.CIFAR10.meta["md5"]    # the same in all copies
    fits = {
        copy: [a == b for a, b in zip(found, (*sums, meta))]
        for copy, sums in COPIES.items()
    }
    best = max(fits, key=lambda copy: sum(fits[copy]))
    if wrong := [name for name, fit in zip(names, fits[best]) if not fit]:
        raise ValueError(
            f"{folder}: {', '.join(wrong)} differ from every known copy of CIFAR-10 by "
            f"their md5 sums, the download is damaged or incomplete; {remedy}"
        )
    return best


def read_batches(root: Path, copy: str) -> ImageSet:
    """Read a known copy through torchvision, which checks that copy's own sums."""
    sums = [list(pair) for pair in zip(FILES, COPIES[copy])]

    class Known(torchvision.datasets.CIFAR10):
        train_list, test_list = sums[:5], sums[5:]

    train, test = Known(root, train=True), Known(root, train=False)
    arrays = []
    for part in train, test:
        arrays += [torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()]
        arrays += [torch.tensor(part.targets)]
    return ImageSet("cifar10", copy, tuple(train.classes), *arrays)


def fetch(root: Path, allowed: bool) -> None:
    """Download CIFAR-10 into `root`, with torchvision's checks and progress bar."""
    reason: object = "not allowed"
    try:
        if allowed:
            torchvision.datasets.CIFAR10(root, download=True)
            return
    except RuntimeError as error:    # torchvision's word for a wrong sum
        raise ValueError(
            f"the download in {root} is damaged ({error}); move "
            "cifar-10-python.tar.gz away and download it again"
        ) from error
    except (URLError, ConnectionError, TimeoutError) as error:
        reason = getattr(error, "reason", error)
    raise FileNotFoundError(
        f"no CIFAR-10 in {root}, and no download ({reason}); set VIT_EDU_DATA to a "
        "folder that holds cifar-10-batches-py"
    )


ARRAYS = "train_images", "train_labels", "test_images", "test_labels"


def write_cache(path: Path, images: ImageSet) -> None:
    """Keep a set as arrays; a folder that cannot be written to is no reason to stop."""
    facts = {"name": images.name, "provenance": images.provenance}
    facts["classes"] = json.dumps(images.classes)
    try:
        with written_beside(path) as temporary:
            tensors = {name: getattr(images, name) for name in ARRAYS}
            save_file(tensors, temporary, metadata=facts)
    except OSError:
        print(f"{path.parent} cannot be written to: no cache, later starts are slower")


def read_cache(path: Path) -> ImageSet | None:
    """The set that `write_cache` kept, if it is there and whole."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata()
            arrays = [file.get_tensor(name) for name in ARRAYS]
        classes = tuple(json.loads(facts["classes"]))
        return ImageSet(facts["name"], facts["provenance"], classes, *arrays)
    except (SafetensorError, OSError, TypeError, KeyError):
        return None    # not ours, or not whole: read the batches, write it again


@contextmanager
def one_at_a_time(root: Path) -> Iterator[None]:
    """Other processes and threads wait here until this one is done with `root`."""
    lock = FileLock(root / ".cifar10.lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError):
        pass    # a folder that cannot be written to: nobody will write there
    try:
        yield
    finally:
        lock.release()


def cifar10(root: str | os.PathLike | None = None, download: bool = True) -> ImageSet:
    """CIFAR-10 (Krizhevsky, 2009): 50,000 images to train on, 10,000 to test.

    Looked for in `root` (default: `data_folder()`); else downloaded there, 170 MB, by
    torchvision. Its arrays are cached beside it: the next start takes less than a
    second. FileNotFoundError where there is none and no download (VIT_EDU_DOWNLOAD=0
    forbids it), ValueError for a damaged one; nothing is deleted.
    """
    root = Path(expanded(root or data_folder()))
    cache, batches = root / "cifar10.safetensors", root / "cifar-10-batches-py"
    if images := read_cache(cache):
        return images
    download = download and os.environ.get("VIT_EDU_DOWNLOAD") != "0"
    if not download and not batches.exists():
        fetch(root, allowed=False)
    with one_at_a_time(root):
        if images := read_cache(cache):    # somebody else was faster
            return images
        if not batches.exists():
            fetch(root, download)
        images = read_batches(root, known_copy(batches))
        write_cache(cache, images)
    return images


def digits32() -> ImageSet:
    """scikit-learn's handwritten digits, enlarged to CIFAR-10's image size.

    1,437 to train on and 360 to test, 3 × 32 × 32 bytes, all channels the same.
    """
    from sklearn.datasets import load_digits    # slow

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    images = F.interpolate(images, (32, 32), mode="bilinear")
    images = (images * 255).round().byte()
    images = images.repeat(1, 3, 1, 1)                             # (1797, 3, 32, 32)
    labels = torch.tensor(digits.target)
    everything = ImageSet(
        name="digits",
        provenance="scikit-learn's handwritten digits, enlarged to 3 × 32 × 32",
        classes=tuple("0123456789"),
        train_images=images,
        train_labels=labels,
        test_images=images[:0],
        test_labels=labels[:0],
    )
    return replace(everything.held_out(360), provenance=everything.provenance)


def cifar10_or_digits(
    root: str | os.PathLike | None = None, download: bool = True
) -> ImageSet:
    """CIFAR-10; where it is absent and cannot be downloaded, digits.

    That is said in one line. A damaged CIFAR-10 is an error.
    """
    try:
        return cifar10(root, download)
    except FileNotFoundError:
        print("no CIFAR-10 here and no download: handwritten digits stand in for it")
        return digits32()
