"""Pictures to learn from.

Written by tools/export.py from book/text/09_data.md: edit that file, then `make sync`.
"""

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

EXTENSIONS = (*IMG_EXTENSIONS, ".gif", ".avif", ".jfif")
# What systems and tools leave among pictures, beside names that begin with a point.
HIDDEN = {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information"}
HIDDEN |= {"lost+found", "__pycache__"}


def visible(name: str) -> bool:
    """Whether a file or folder was put there by a person: `.DS_Store` was not."""
    return not name.startswith(".") and name not in HIDDEN


def expanded(path: str | os.PathLike) -> str:
    """A path with `~` replaced by the user's folder."""
    return os.path.expanduser(os.fspath(path))


TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
TURNS |= {6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}


def orientation(image: Image.Image) -> int:
    """How the EXIF data say to turn a picture; 1, with a warning, if they are broken."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception as error:                   # whatever a broken block brings up
        name = getattr(image, "filename", "") or "the picture"
        warnings.warn(
            f"{name}: its EXIF data cannot be read ({error}); it is taken as it is "
            "stored, which may be on its side",
            stacklevel=3,
        )
        return 1


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF data say; what was done is then forgotten."""
    image.load()
    if (turn := orientation(image)) not in TURNS:
        return image.copy()
    turned = image.transpose(Image.Transpose[TURNS[turn]])
    kept = image.info.keys() & {"transparency"}
    turned.info = {name: image.info[name] for name in kept}
    return turned


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened picture once turned, from its header."""
    if image.format == "TIFF":                   # PIL turns these itself
        image.load()
    width, height = image.size
    return (height, width) if orientation(image) in (5, 6, 7, 8) else (width, height)


@contextmanager
def reading(source: Any) -> Iterator[Image.Image]:
    """Open a path or a file, its pixels not yet decoded, for as long as a block lasts.

    Whatever a decoder says there becomes a ValueError that names the file. Who needs a
    part of a large JPEG only, asks for a smaller one before the pixels are decoded:

        with reading(path) as image:
            width, height = upright_size(image)    # as `to_rgb` will return it
            image.draft("RGB", (image.width // 4, image.height // 4))
            picture = to_rgb(image)                # about a quarter as wide
    """
    if isinstance(source, (str, os.PathLike)):
        source = expanded(source)
    try:
        with Image.open(source) as image:
            yield image
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise                                    # Python says it best
    except Exception as error:                   # decoders fail in many ways
        raise ValueError(
            f"{source} cannot be read as a picture ({error}); copy or download it "
            "again, or remove it"
        ) from error


def open_picture(source: Any) -> Image.Image:
    """Read a path or an open file in full, turned upright; ValueError if broken."""
    with reading(source) as image:
        return upright(image)


def to_bytes(array: np.ndarray) -> np.ndarray:
    """Pixels of any kind as bytes: 8 or 16 bits, floats from 0 to 1, or bool.

    Floats that a smooth filter pushed beyond, to -0.2 and 1.2 at most, are clipped.
    """
    kind = array.dtype.kind, array.dtype.itemsize
    if kind == ("u", 1):
        return array
    if kind == ("u", 2):
        return (array / 257).round().astype(np.uint8)      # 65,535 becomes 255
    if kind[0] == "b":
        return array * np.uint8(255)
    if kind[0] != "f":
        raise TypeError(f"pixels of {array.dtype}; use uint8, or floats in 0 to 1")
    if not np.isfinite(array).all():
        raise ValueError("the picture holds NaN or infinity")
    low, high = array.min(), array.max()
    if low < -0.2 or high > 1.2:
        raise ValueError(
            f"float pixels must lie in 0 to 1, these in {low:.3g} to {high:.3g}; "
            "divide them by 255, or undo their normalisation"
        )
    return (array.clip(0, 1) * 255).round().astype(np.uint8)


def from_array(array: np.ndarray | Tensor) -> Image.Image:
    """An array (H, W), (H, W, C) or (C, H, W), C of 1, 3 or 4, as a PIL image.

    Where both readings fit, channels are last.
    """
    if isinstance(array, Tensor):
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()
    shape, channels = array.shape, (1, 3, 4)
    if len(shape) == 3 and shape[2] not in channels and shape[0] in channels:
        array = array.transpose(1, 2, 0)                       # (H, W, C)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]                                 # (H, W)
    coloured = array.ndim == 3 and array.shape[2] in channels
    if not array.size or not (coloured or array.ndim == 2):
        raise ValueError(
            f"an array of shape {shape} is no picture; pass one picture: (height, "
            "width), with 1, 3 or 4 channels first or last"
        )
    return Image.fromarray(to_bytes(np.ascontiguousarray(array)))


def shown(image: Image.Image) -> Image.Image:
    """An upright PIL image of any mode as RGB, as one would see it on white paper."""
    if image.mode[0] in "IF":                    # 16 bits, or floats
        pixels = np.asarray(image)
        if image.mode == "I":                    # how PIL keeps 16 bits at times
            if pixels.min() < 0 or pixels.max() > 65_535:
                raise ValueError("pixels of 32 bits; scale them to 16, 0 to 65,535")
            pixels = pixels.astype(np.uint16)
        hidden = pixels == image.info.get("transparency", -1)
        image = from_array(pixels)
        image.putalpha(Image.fromarray(255 * (~hidden).astype(np.uint8)))
    if image.mode in ("La", "RGBa"):             # colours already multiplied by alpha
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def to_rgb(image: Any) -> Image.Image:
    """A path, open file, PIL image of any mode, or array as RGB, upright.

    16 bits are scaled to 8; what is transparent shows white. Training, evaluation and
    prediction all open a picture by this function.
    """
    if image is None:
        raise ValueError("no picture: image is None; pass a path, a PIL image or an array")
    if isinstance(image, (str, os.PathLike)) or hasattr(image, "read"):
        with reading(image) as opened:
            return shown(upright(opened))
    if isinstance(image, Image.Image):
        return shown(upright(image))
    if isinstance(image, (np.ndarray, Tensor)):
        return shown(from_array(image))
    kind = type(image).__name__
    raise TypeError(f"{kind} is no picture; pass a path, a PIL image or an array")


def visible_files(folder: Path) -> list[str]:
    """The files in a folder and those below it, but for hidden ones."""
    found = []
    for path, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(filter(visible, folders))
        found += [os.path.join(path, name) for name in sorted(filter(visible, files))]
    return found


class PictureFolder(ImageFolder):
    """torchvision's ImageFolder, blind to hidden files and folders."""

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        """The visible folders in `directory`, sorted, and their numbers."""
        entries = [entry for entry in os.scandir(directory) if visible(entry.name)]
        classes = sorted(entry.name for entry in entries if entry.is_dir())
        if not classes:
            names = sorted(entry.name for entry in os.scandir(directory))
            raise FileNotFoundError(
                f"{directory} must hold a folder of images for each class, and holds "
                f"{', '.join(names[:5]) or 'nothing'}; name the folder above the classes'"
            )
        return classes, {name: k for k, name in enumerate(classes)}

    @staticmethod
    def make_dataset(directory: str, class_to_idx: dict[str, int], **_) -> list:
        """(path, class number) of all pictures; an error names classes without any."""
        samples, empty = [], []
        for name, k in class_to_idx.items():
            files = visible_files(Path(directory) / name)
            pictures = [file for file in files if file.lower().endswith(EXTENSIONS)]
            samples += [(file, k) for file in pictures]
            if not pictures:
                kinds = Counter(Path(file).suffix or "no ending" for file in files)
                found = ", ".join(f"{n} × {kind}" for kind, n in kinds.most_common(3))
                empty.append(f"{name} ({found or 'nothing at all'})")
        if empty:
            raise FileNotFoundError(
                f"{directory} has class folders without a picture: "
                f"{', '.join(empty[:5])}; fill or remove them, or convert what they "
                f"hold: read are {', '.join(EXTENSIONS)}"
            )
        return samples
