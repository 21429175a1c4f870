"""Your own picture: from a file to a name.

Written by tools/export.py from book/text/18_predict.md: edit that file, then `make sync`.
"""

import os
import warnings
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor


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


def straight(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data say; as it is stored, with a warning, if they are broken."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:                   # whatever a broken block brings up
        warnings.warn(
            f"the picture's EXIF data cannot be read ({error}); it is taken as it "
            "is stored, which may be on its side",
            stacklevel=4,
        )
        return image.copy()


def open_picture(source: Any) -> Image.Image:
    """Read a path or an open file in full, turned upright; ValueError if broken."""
    if isinstance(source, (str, os.PathLike)):
        source = os.path.expanduser(source)
    try:
        with Image.open(source) as image:
            image.load()
            return straight(image)
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise                                    # Python says it best
    except Exception as error:                   # decoders fail in many ways
        raise ValueError(
            f"{source} cannot be read as a picture ({error}); "
            "copy or download it again"
        ) from error


def to_rgb(image: Any) -> Image.Image:
    """A path, open file, PIL image of any mode, or array as RGB, upright.

    16 bits are scaled to 8; what is transparent shows white.
    """
    if image is None:
        raise ValueError("no picture: image is None; pass a path, a PIL image or an array")
    if isinstance(image, (str, os.PathLike)) or hasattr(image, "read"):
        image = open_picture(image)
    elif isinstance(image, (np.ndarray, Tensor)):
        image = from_array(image)
    elif isinstance(image, Image.Image):
        image = straight(image)
    else:
        kind = type(image).__name__
        raise TypeError(f"{kind} is no picture; pass a path, a PIL image or an array")
    if image.mode[0] in "IF":                    # 16 bits, or floats
        pixels = np.asarray(image)
        if image.mode == "I":                    # how PIL keeps 16 bits at times
            pixels = pixels.clip(0, 65_535).astype(np.uint16)
        image = from_array(pixels)
    if image.mode in ("La", "RGBa"):             # colours already multiplied by alpha
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
