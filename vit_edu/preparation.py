"""Attention maps: what was read?.

Written by tools/export.py from book/text/15_attention_maps.md: edit that file, then `make sync`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors import safe_open
from torch import Tensor, nn

from vit_edu.augment import normalise
from vit_edu.model import VisionTransformer
from vit_edu.pictures import to_rgb
from vit_edu.records import RECORDED
from vit_edu.weights import Preparation, load_model, unwrapped

# Mean and deviation of each channel over CIFAR-10's 50,000 training images
# (Krizhevsky, 2009), scaled to 0..1: what the shipped models were trained with.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)

Moments = Sequence[float] | Tensor
Classes = Sequence[str] | Mapping[int | str, str]


def load_recorded(name: str = "tiny-0") -> VisionTransformer:
    """A trained model that came with the package: float32, in evaluation mode."""
    path = RECORDED / name / "weights.safetensors"
    if not path.exists():
        found = sorted(p.parent.name for p in RECORDED.glob(f"*/{path.name}"))
        raise ValueError(
            f"no weights of a model {name!r} came with this package; "
            f"there are: {', '.join(found) or 'none'}"
        )
    return load_model(path).eval()


def example_pictures() -> tuple[Tensor, Tensor, list[str]]:
    """CIFAR-10 test pictures, bytes (16, 3, 32, 32); labels (16,); class names."""
    path = RECORDED / "pictures" / "pictures.safetensors"
    with safe_open(path, framework="pt") as file:
        classes = json.loads(file.metadata()["classes"])
        return file.get_tensor("images"), file.get_tensor("labels"), classes


def to_input(
    images: Tensor, mean: Moments = CIFAR10_MEAN, std: Moments = CIFAR10_STD
) -> Tensor:
    """Bytes (B, C, H, W) to normalised floats; floats are taken as normalised."""
    if images.dtype != torch.uint8:
        return images
    if images.shape[-3] != len(mean):
        raise ValueError(
            f"the picture has {images.shape[-3]} channels, mean and std are for "
            f"{len(mean)}; pass those that the model was trained with"
        )
    mean, std = (torch.as_tensor(m, dtype=torch.float32) for m in (mean, std))
    return normalise(images, mean, std)


def noted(model: nn.Module) -> Preparation | None:
    """The preparation noted on a model or on what it wraps; None if there is none.

    TypeError for another kind of model.
    """
    vit = unwrapped(model)
    if not isinstance(vit, VisionTransformer):
        raise TypeError(
            f"{type(vit).__name__} is not a VisionTransformer of vit_edu; "
            "load_pretrained brings models of timm and torchvision"
        )
    known = getattr(model, "preparation", None) or getattr(vit, "preparation", None)
    return Preparation(**known) if isinstance(known, Mapping) else known


def preparation_of(
    model: nn.Module, mean: Moments | None = None, std: Moments | None = None
) -> Preparation:
    """How `model` wants its pictures, and its classes; what is given comes first.

    Never guessed: ValueError where neither the model nor the caller says it.
    """
    known = noted(model)
    if known is None and (mean is None or std is None):
        raise ValueError(
            "nothing says how this model's pictures were normalised, nor what its "
            "classes are called: note it once, with vit_edu.weights.Preparation, "
            "model.preparation = Preparation(mean, std, classes), or pass mean=, "
            "std= (of the training images scaled to 0..1, one number a channel) "
            "and classes="
        )
    mean, std = (
        tuple(np.ravel(m).tolist()) if m is not None else getattr(known, name)
        for name, m in (("mean", mean), ("std", std))
    )
    return Preparation(mean, std, getattr(known, "classes", None))


def prepare(
    model: nn.Module,
    image: Any,
    mean: Moments | None = None,
    std: Moments | None = None,
) -> Tensor:
    """One picture as `model` takes it: (1, C, H, W), normalised.

    image: a path, open file, PIL image or array of any size, see `to_rgb`. Its
    shorter side is resized to the model's, its middle kept.
    """
    known, vit = preparation_of(model, mean, std), unwrapped(model)
    height, width = vit.patch_embed.img_size
    picture = ImageOps.fit(to_rgb(image), (width, height), Image.BICUBIC)
    if vit.patch_embed.proj.in_channels == 1:
        picture = picture.convert("L")
    pixels = torch.tensor(np.asarray(picture)).view(1, height, width, -1)
    x = to_input(pixels.permute(0, 3, 1, 2), known.mean, known.std)    # (1, C, H, W)
    return x.to(next(vit.parameters()))                        # its device and dtype


def class_names(classes: Classes | None, n: int) -> list[str]:
    """The names of classes 0 to n - 1; "class 7" where there is none.

    From names in order, or a map from number to name, whose numbers may be text as
    in JSON: {"0": "cat"}. ValueError for what cannot be meant, e.g. {"cat": 0}.
    """
    if classes is None:
        return [f"class {i}" for i in range(n)]
    if isinstance(classes, (str, set, frozenset)):
        raise TypeError(f"class names {classes!r} have no order: pass a list, or a map")
    if not isinstance(classes, Mapping):
        names = [str(name) for name in classes]
        if len(names) != n:
            raise ValueError(f"{len(names)} class names for a model of {n} classes")
        return names
    for number, name in classes.items():
        whole = isinstance(number, (int, np.integer)) or str(number).isdecimal()
        if not whole or isinstance(name, (int, np.integer)):
            raise ValueError(
                f"a class map leads from number to name, {{0: 'cat'}}, and this one "
                f"has {{{number!r}: {name!r}}}; turn it round: "
                "{number: name for name, number in classes.items()}"
            )
        if not 0 <= int(number) < n:
            raise ValueError(f"class {number} ({name}): the model's are 0 to {n - 1}")
    found = {int(number): str(name) for number, name in classes.items()}
    return [found.get(i, f"class {i}") for i in range(n)]
