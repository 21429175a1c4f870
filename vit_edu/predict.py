"""Your own picture: from a file to a name.

Written by tools/export.py from book/text/18_predict.md: edit that file, then `make sync`.
"""

import importlib.util
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image, ImageOps
from torch import Tensor, nn

from vit_edu.attention_maps import CIFAR10_MEAN, CIFAR10_STD, Moments
from vit_edu.attention_maps import evaluation, load_recorded, to_input
from vit_edu.model import VisionTransformer
from vit_edu.patches import Size, resize_positions
from vit_edu.weights import from_timm, from_torchvision, load_state, unwrapped
from vit_edu.weights import written_beside


def to_bytes(array: np.ndarray) -> np.ndarray:
    """Pixels of any kind as bytes: 8 or 16 bits, floats from 0 to 1, or bool."""
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
    if low < 0 or high > 1:
        raise ValueError(
            f"float pixels must lie in 0 to 1, these in {low:.3g} to {high:.3g}; "
            "divide them by 255, or undo their normalisation"
        )
    return (array * 255).round().astype(np.uint8)


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


def open_picture(source: Any) -> Image.Image:
    """Read a path or an open file in full, turned upright; ValueError if broken."""
    try:
        with Image.open(source) as image:
            return ImageOps.exif_transpose(image)
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
    elif not isinstance(image, Image.Image):
        kind = type(image).__name__
        raise TypeError(f"{kind} is no picture; pass a path, a PIL image or an array")
    image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":                    # 16 bits, or floats
        pixels = np.asarray(image)
        if image.mode == "I":                    # how PIL keeps 16 bits at times
            pixels = pixels.clip(0, 65_535).astype(np.uint16)
        image = from_array(pixels)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


@dataclass(frozen=True)
class Preparation:
    """What a model's numbers mean: how its pictures were normalised, its classes."""

    mean: Moments
    std: Moments
    classes: Sequence[str] | Mapping[int, str] | None = None


CIFAR10 = Preparation(
    CIFAR10_MEAN,
    CIFAR10_STD,
    ("airplane", "automobile", "bird", "cat", "deer")
    + ("dog", "frog", "horse", "ship", "truck"),
)
IMAGENET = Preparation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def preparation_of(model: nn.Module) -> Preparation:
    """What was noted on `model` (its attribute `preparation`); else a guess.

    The guess: ten classes at 32 × 32 pixels are CIFAR-10, all else is normalised as
    ImageNet usually is and has no class names.
    """
    vit = unwrapped(model)
    if not isinstance(vit, VisionTransformer):
        raise TypeError(
            f"{type(vit).__name__} is not a VisionTransformer of vit_edu; "
            "load_pretrained brings models of timm and torchvision"
        )
    like_cifar10 = vit.config["img_size"] == 32 and vit.config["num_classes"] == 10
    return getattr(vit, "preparation", CIFAR10 if like_cifar10 else IMAGENET)


def prepare(
    model: nn.Module,
    image: Any,
    mean: Moments | None = None,
    std: Moments | None = None,
) -> Tensor:
    """One picture as `model` takes it: (1, C, H, W), normalised.

    Its shorter side is resized to the model's, its middle kept.
    """
    known, vit = preparation_of(model), unwrapped(model)
    height, width = vit.patch_embed.img_size
    picture = ImageOps.fit(to_rgb(image), (width, height), Image.BICUBIC)
    if vit.config["in_channels"] == 1:
        picture = picture.convert("L")
    pixels = torch.tensor(np.asarray(picture)).view(1, height, width, -1)
    pixels = pixels.permute(0, 3, 1, 2)                        # (1, C, H, W)
    x = to_input(pixels, mean or known.mean, std or known.std)
    return x.to(next(vit.parameters()))                        # its device and dtype


def class_name(classes: Sequence[str] | Mapping[int, str] | None, i: int) -> str:
    """The name of class `i`; "class 7" where there is none."""
    if isinstance(classes, Mapping):
        return str(classes.get(i, f"class {i}"))
    return f"class {i}" if classes is None else str(classes[i])


def predict(
    model: nn.Module,
    image: Any,
    top: int = 5,
    *,
    classes: Sequence[str] | Mapping[int, str] | None = None,
    mean: Moments | None = None,
    std: Moments | None = None,
) -> list[tuple[str, float]]:
    """The `top` most probable classes of one picture: (name, probability), best first.

    image: a path, open file, PIL image or array of any size, see `to_rgb`
    classes: names in order, or by number; mean, std: of the training images.
        What is not given is taken from `preparation_of`.

    The model keeps its mode. ValueError and TypeError name what is wrong.
    """
    known, n = preparation_of(model), unwrapped(model).config["num_classes"]
    classes = known.classes if classes is None else classes
    if isinstance(classes, Sequence) and len(classes) != n:
        raise ValueError(f"{len(classes)} class names for a model of {n} classes")
    if top < 1:
        raise ValueError(f"top is {top}; ask for 1 class or more")
    x = prepare(model, image, mean, std)
    with torch.no_grad(), evaluation(model):
        logits = model(x)[0].float().cpu()                     # (K,)
    if not logits.isfinite().all():
        raise ValueError("the model answers NaN or infinity: look at its weights")
    best = logits.softmax(dim=0).topk(min(top, n))
    pairs = zip(best.indices.tolist(), best.values.tolist())
    return [(class_name(classes, i), p) for i, p in pairs]


def fetch_timm(name: str) -> tuple[nn.Module, dict, Preparation]:
    """A trained ViT of timm, our arguments for it, and its preparation."""
    import timm

    theirs = timm.create_model(name, pretrained=True)
    attention, mlp = theirs.blocks[0].attn, theirs.blocks[0].mlp
    pool = {"token": "cls", "avg": "mean"}.get(theirs.global_pool, theirs.global_pool)
    unread = int(pool == "mean" and theirs.cls_token is not None)
    arguments = dict(
        img_size=theirs.patch_embed.img_size,
        patch_size=theirs.patch_embed.patch_size,
        in_channels=theirs.patch_embed.proj.in_channels,
        num_classes=theirs.num_classes,
        embed_dim=theirs.embed_dim,
        depth=len(theirs.blocks),
        n_heads=attention.num_heads,
        mlp_ratio=mlp.fc1.out_features / theirs.embed_dim,
        qkv_bias=attention.qkv.bias is not None,
        pool=pool,
        n_registers=theirs.num_reg_tokens + unread,
        fc_norm=isinstance(theirs.fc_norm, nn.LayerNorm),
    )
    classes = None
    if theirs.num_classes == 1000:
        info = timm.data.ImageNetInfo("imagenet-1k")
        classes = [info.index_to_description(i) for i in range(1000)]
    moments = (tuple(theirs.pretrained_cfg[key]) for key in ("mean", "std"))
    return theirs, arguments, Preparation(*moments, classes)


def fetch_torchvision(name: str) -> tuple[nn.Module, dict, Preparation]:
    """A trained ViT of torchvision, our arguments for it, and its preparation."""
    weights = torchvision.models.get_model_weights(name).DEFAULT
    theirs = torchvision.models.get_model(name, weights=weights)
    arguments = dict(
        img_size=theirs.image_size,
        patch_size=theirs.patch_size,
        num_classes=theirs.num_classes,
        embed_dim=theirs.hidden_dim,
        depth=len(theirs.encoder.layers),
        n_heads=theirs.encoder.layers[0].num_heads,
        mlp_ratio=theirs.mlp_dim / theirs.hidden_dim,
    )
    steps = weights.transforms()
    moments = tuple(steps.mean), tuple(steps.std)
    return theirs, arguments, Preparation(*moments, weights.meta["categories"])


def check_same(model: VisionTransformer, theirs: nn.Module, name: str) -> None:
    """Chapter 06's parity test, on one picture of noise; ValueError if it fails."""
    size = model.config["in_channels"], *model.patch_embed.img_size
    x = torch.randn(1, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), evaluation(model), evaluation(theirs):
        ours, expected = model(x), theirs(x)
    if not torch.allclose(ours, expected, rtol=0, atol=1e-3 * expected.abs().max().item()):
        raise ValueError(f"{name} has the parts of our ViT and another answer; not loaded")


def load_pretrained(name: str) -> VisionTransformer:
    """A trained model by name, in evaluation mode, with its `preparation` noted.

    "tiny-0" came with the package. "timm/vit_tiny_patch16_224" and
    "torchvision/vit_b_16" are downloaded: OSError where that fails, or where
    VIT_EDU_DOWNLOAD=0 forbids it. ValueError for a model with parts ours lacks.
    """
    source, _, rest = name.partition("/")
    if source not in ("timm", "torchvision"):
        model = load_recorded(name)
        model.preparation = CIFAR10
        return model
    if os.environ.get("VIT_EDU_DOWNLOAD") == "0":
        raise OSError(f"{name} needs a download, and VIT_EDU_DOWNLOAD=0 forbids it")
    try:
        fetch = fetch_timm if source == "timm" else fetch_torchvision
        theirs, arguments, known = fetch(rest)
    except ImportError:
        raise
    except AttributeError as error:
        raise ValueError(f"{name} is no plain ViT ({error})") from error
    except Exception as error:                   # each library fails in its own way
        raise OSError(
            f"{name} could not be fetched ({error}); "
            "check its name and the network connection"
        ) from error
    model = VisionTransformer(**arguments).eval()
    state = theirs.state_dict()
    state = from_timm(state, model) if source == "timm" else from_torchvision(state)
    load_state(model, state, source=name)
    check_same(model, theirs, name)
    model.preparation = known
    return model


def adapt(
    model: nn.Module, num_classes: int, img_size: Size | None = None
) -> VisionTransformer:
    """A copy for other classes and, if wanted, another image size: to be fine-tuned.

    The head is new and zero, learned positions are resized (paper, section 3.2),
    all else is kept. `preparation` is kept without the class names.
    """
    known, vit = preparation_of(model), unwrapped(model)
    size = img_size or vit.patch_embed.img_size
    new = VisionTransformer(**vit.config | dict(num_classes=num_classes, img_size=size))
    state = vit.state_dict()
    if "pos_embed" in state:
        grids = vit.patch_embed.grid_size, new.patch_embed.grid_size
        state["pos_embed"] = resize_positions(state["pos_embed"], *grids)
    fresh = {name: p for name, p in new.state_dict().items() if name.startswith("head.")}
    kept = {name: p for name, p in state.items() if not name.startswith("head.")}
    load_state(new, kept | fresh, source="the adapted model")
    new.preparation = replace(known, classes=None)
    return new.to(next(vit.parameters())).train(vit.training)


def export_onnx(model: nn.Module, path: str | os.PathLike) -> None:
    """Write `model` as one ONNX file: "images" (B, C, H, W) to "logits" (B, K).

    B may be any number. ImportError says what to install.
    """
    needed = [name for name in ("onnx", "onnxscript") if not importlib.util.find_spec(name)]
    if needed:
        names = " ".join(needed)
        raise ImportError(f"ONNX export needs {names}: run `pip install {names}`")
    preparation_of(model)                        # TypeError if it is no ViT of ours
    vit = unwrapped(model)
    weight = next(vit.parameters())
    x = weight.new_zeros(2, vit.config["in_channels"], *vit.patch_embed.img_size)
    with (
        evaluation(vit),
        written_beside(path) as temporary,
        warnings.catch_warnings(action="ignore", category=FutureWarning),
    ):
        torch.onnx.export(
            vit,
            (x,),
            temporary,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
