"""Your own picture: from a file to a name.

Written by tools/export.py from book/text/18_predict.md: edit that file, then `make sync`.
"""

import importlib.util
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from vit_edu.attention_maps import evaluation
from vit_edu.model import VisionTransformer
from vit_edu.patches import Size, resize_positions
from vit_edu.preparation import CIFAR10_MEAN, CIFAR10_STD, Classes, Moments
from vit_edu.preparation import class_names, load_recorded, noted, prepare
from vit_edu.preparation import preparation_of
from vit_edu.weights import Preparation, load_checkpoint, load_state, unwrapped
from vit_edu.weights import written_beside

CIFAR10 = Preparation(
    CIFAR10_MEAN,
    CIFAR10_STD,
    ("airplane", "automobile", "bird", "cat", "deer")
    + ("dog", "frog", "horse", "ship", "truck"),
)
IMAGENET = Preparation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), None)


def predict(
    model: nn.Module,
    image: Any,
    top: int = 5,
    *,
    classes: Classes | None = None,
    mean: Moments | None = None,
    std: Moments | None = None,
) -> list[tuple[str, float]]:
    """The `top` most probable classes of one picture: (name, probability), best first.

    image: a path, open file, PIL image or array of any size, see `to_rgb`
    classes: names in order, or by number, also as JSON has it ({"0": "cat"})
    mean, std: of the training images. What is not given is what was noted on the
        model; where nothing was, ValueError says what is missing.

    The model keeps its mode. ValueError and TypeError name what is wrong, a model
    without a head included: its answer is features, not classes.
    """
    known = preparation_of(model, mean, std)
    if isinstance(unwrapped(model).head, nn.Identity):
        raise ValueError(
            "this model has no head, so it gives features and names nothing; "
            "adapt(model, num_classes) gives it a head to be trained"
        )
    if top < 1:
        raise ValueError(f"top is {top}; ask for 1 class or more")
    x = prepare(model, image, known.mean, known.std)
    with torch.no_grad(), evaluation(model):
        logits = model(x)[0].float().cpu()                     # (K,)
    names = class_names(known.classes if classes is None else classes, len(logits))
    if not logits.isfinite().all():
        raise ValueError("the model answers NaN or infinity: look at its weights")
    best = logits.softmax(dim=0).topk(min(top, len(logits)))
    return [(names[i], p) for i, p in zip(best.indices.tolist(), best.values.tolist())]


def fetch_timm(name: str) -> tuple[nn.Module, dict, Preparation]:
    """A trained ViT of timm, what its weights do not tell, and its preparation."""
    import timm

    theirs = timm.create_model(name, pretrained=True)
    pool = {"token": "cls", "avg": "mean"}.get(theirs.global_pool, theirs.global_pool)
    arguments = dict(
        n_heads=theirs.blocks[0].attn.num_heads,
        img_size=theirs.patch_embed.img_size,
        num_classes=theirs.num_classes,
        pool=pool,
        norm_eps=theirs.blocks[0].norm1.eps,
    )
    classes = None
    if theirs.num_classes == 1000:
        info = timm.data.ImageNetInfo("imagenet-1k")
        classes = [info.index_to_description(i) for i in range(1000)]
    moments = (tuple(theirs.pretrained_cfg[key]) for key in ("mean", "std"))
    return theirs, arguments, Preparation(*moments, classes)


def fetch_torchvision(name: str) -> tuple[nn.Module, dict, Preparation]:
    """A trained ViT of torchvision, what its weights do not tell, its preparation."""
    weights = torchvision.models.get_model_weights(name).DEFAULT
    theirs = torchvision.models.get_model(name, weights=weights)
    arguments = dict(
        n_heads=theirs.encoder.layers[0].num_heads, img_size=theirs.image_size
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
        if hasattr(theirs, "head_dist"):         # of its two heads ours has the first
            expected = theirs.head(theirs.forward_features(x)[:, 0])
    if not torch.allclose(ours, expected, rtol=0, atol=1e-3 * expected.abs().max().item()):
        raise ValueError(f"{name} has the parts of our ViT and another answer; not loaded")


def load_pretrained(name: str) -> VisionTransformer:
    """A trained model by name, in evaluation mode, with its `preparation` noted.

    "tiny-0" came with the package; a file or folder is read by `load_checkpoint`.
    "timm/vit_tiny_patch16_224" and "torchvision/vit_b_16" are downloaded: OSError
    where that fails, or where VIT_EDU_DOWNLOAD=0 forbids it. ValueError for a model
    with parts ours lacks.
    """
    source, _, rest = str(name).partition("/")
    if source not in ("timm", "torchvision"):
        path = Path(name).expanduser()
        return load_checkpoint(path) if path.exists() else load_recorded(name)
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
    model = load_checkpoint(theirs.state_dict(), **arguments)
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
    known, vit = noted(model), unwrapped(model)
    size = img_size or vit.patch_embed.img_size
    new = VisionTransformer(**vit.config | dict(num_classes=num_classes, img_size=size))
    state = vit.state_dict()
    if "pos_embed" in state:
        grids = vit.patch_embed.grid_size, new.patch_embed.grid_size
        how = vit.config["antialias"]
        state["pos_embed"] = resize_positions(state["pos_embed"], *grids, how)
    fresh = {name: p for name, p in new.state_dict().items() if name.startswith("head.")}
    kept = {name: p for name, p in state.items() if not name.startswith("head.")}
    load_state(new, kept | fresh, source="the adapted model")
    if known is not None:
        new.preparation = replace(known, classes=None)
    return new.to(next(vit.parameters())).train(vit.training)


def export_onnx(model: nn.Module, path: str | os.PathLike) -> None:
    """Write `model` as one ONNX file: "images" (B, C, H, W) to "logits" (B, K).

    B may be any number; headless models give "features". ImportError says what to
    install: onnx and onnxscript.
    """
    needed = [name for name in ("onnx", "onnxscript") if not importlib.util.find_spec(name)]
    if needed:
        names = " ".join(needed)
        raise ImportError(f"ONNX export needs {names}: run `pip install {names}`")
    noted(model)                                 # TypeError if it is no ViT of ours
    vit = unwrapped(model)
    weight, headless = next(vit.parameters()), isinstance(vit.head, nn.Identity)
    x = weight.new_zeros(2, vit.patch_embed.proj.in_channels, *vit.patch_embed.img_size)
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
            output_names=["features" if headless else "logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
