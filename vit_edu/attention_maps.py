"""Attention maps: what was read?.

Written by tools/export.py from book/text/15_attention_maps.md: edit that file, then `make sync`.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from vit_edu.attention import Attention
from vit_edu.model import VisionTransformer
from vit_edu.patches import Size, grid_shape
from vit_edu.preparation import Moments, noted, preparation_of, prepare, to_input
from vit_edu.weights import unwrapped


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; then each module gets its own mode back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def heard() -> Iterator[None]:
    """For a while compiled models run uncompiled, so that hooks are called.

    What `torch.compile` made ignores hooks set later, and keeps those it was made
    with.
    """
    with torch.compiler.set_stance("force_eager"):
        yield


def checked_vit(model: nn.Module) -> VisionTransformer:
    """The VisionTransformer inside `model`; TypeError if there is none."""
    vit = unwrapped(model)
    blocks = getattr(vit, "blocks", ())
    parts = (unwrapped(getattr(block, "attn", None)) for block in blocks)
    ours = all(isinstance(part, Attention) for part in parts)
    if not isinstance(vit, VisionTransformer) or not ours:
        raise TypeError(
            f"no attention maps from {type(vit).__name__}: it is not a "
            "VisionTransformer of vit_edu; a timm ViT's weights can be loaded "
            "into one (vit_edu.weights.from_timm)"
        )
    return vit


@contextmanager
def watched(
    vit: VisionTransformer, in_graph: bool = False
) -> Iterator[list[Tensor]]:
    """A list that a forward adds each block's attention weights (B, h, N, N) to.

    `in_graph` computes the output from these very weights, so that it has a
    gradient with respect to them; else the layer's own output stays untouched.
    """
    maps: list[Tensor] = []

    def note(layer: Attention, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        explicit, weights = layer.forward(inputs[0], return_attention=True)
        maps.append(weights)
        return explicit if in_graph else output

    hooks = [block.attn.register_forward_hook(note) for block in vit.blocks]
    try:
        with evaluation(vit), heard():
            yield maps
    finally:
        for hook in hooks:
            hook.remove()


def placed(vit: VisionTransformer, images: Tensor) -> Tensor:
    """The images on the model's device, in its dtype."""
    return images.to(next(vit.parameters()))


def check_finite(vit: VisionTransformer, images: Tensor, *results: Tensor) -> None:
    """ValueError that says where a NaN or infinity in `results` comes from."""
    if all(result.isfinite().all() for result in results):
        return
    bad = [name for name, p in vit.named_parameters() if not p.isfinite().all()]
    if not images.isfinite().all():
        cause = "the images hold NaN or infinity"
    elif bad:
        cause = f"{bad[0]} holds NaN or infinity, and {len(bad) - 1} more do"
    else:
        cause = "numbers grow too large on the way; try float32"
    raise ValueError(f"no attention maps: {cause}")


def in_float(weights: Tensor) -> Tensor:
    """Half precision as float32, in which sums of many weights are still exact."""
    return weights.to(torch.promote_types(weights.dtype, torch.float32))


def attention_maps(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of every block and head, (L, B, h, N, N), and the logits (B, K).

    Images (B, C, H, W), normalised. The model runs in evaluation mode, by the path
    it is set to; its logits are the same bits as without the maps, and no graph is
    kept. A model without a head gives its features (B, D) in the logits' place.
    TypeError for a model of another kind, ValueError for NaN.
    """
    vit = checked_vit(model)
    images = placed(vit, images)
    with torch.no_grad(), watched(vit) as maps:
        logits = vit.forward(images)                   # (B, K)
    weights = in_float(torch.stack(maps))              # (L, B, h, N, N)
    check_finite(vit, images, weights, logits)
    return weights, logits


def patch_map(
    weights: Tensor, model: nn.Module, img_size: Size | None = None
) -> Tensor:
    """What the output reads, on the grid: (..., N, N) to (..., rows, columns).

    With a class token its row; with mean pooling, the mean of all patches' rows.
    Columns of class token and registers are left out; the map may sum to less than 1.
    `img_size` if the images were of another size than the model's own.
    """
    vit = checked_vit(model)
    img_size = img_size or vit.patch_embed.img_size
    grid = grid_shape(img_size, vit.patch_embed.patch_size)
    first = vit.n_prefix                                   # the first patch
    n_tokens = first + grid[0] * grid[1]
    if weights.shape[-2:] != (n_tokens, n_tokens):
        raise ValueError(
            f"weights of {weights.shape[-2]} × {weights.shape[-1]} tokens, but an "
            f"image of {img_size} has {n_tokens} in this model; pass the images' "
            "img_size"
        )
    rows = weights[..., :1, :] if vit.pool == "cls" else weights[..., first:, :]
    seen = rows.mean(dim=-2)[..., first:]                  # (..., patches)
    return seen.unflatten(-1, grid)                        # (..., rows, columns)


def checked_index(what: str, index: int, n: int) -> int:
    """`index` among `n`, from 0 or, negative, from the end; else IndexError."""
    if not -n <= index < n:
        raise IndexError(
            f"there is no {what} {index}: the model has {what}s 0 to {n - 1}"
        )
    return index % n


def to_picture(image: Tensor, mean: Moments | None, std: Moments | None) -> Tensor:
    """An image (C, H, W), bytes or normalised, as matplotlib shows it: 0..1."""
    image = image.detach().cpu()
    if image.dtype == torch.uint8:
        image = image / 255
    elif mean is not None and len(image) == len(mean):
        moments = (torch.as_tensor(m)[:, None, None].float() for m in (std, mean))
        image = image.float() * next(moments) + next(moments)
    else:                                                  # stretched to 0..1
        spread = (image.max() - image.min()).clamp_min(1e-9)
        image = (image - image.min()) / spread
    image = image.float().clamp(0, 1).permute(1, 2, 0)     # (H, W, C)
    return image if image.shape[-1] == 3 else image.mean(dim=-1)    # grey: (H, W)


def draw_map(picture: Tensor, grid: Tensor, title: str) -> Figure:
    """The figure of `visualize_attention`, from (H, W[, 3]) and (rows, columns)."""
    picture, grid = picture.numpy(), grid.numpy()
    height, width = picture.shape[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    place = dict(extent=extent, interpolation="nearest")
    scale = dict(cmap="viridis", vmin=0, vmax=float(grid.max()) or 1.0)
    figure, axes = plt.subplots(1, 3, figsize=(5.4, 2.2), layout="constrained")
    axes[0].imshow(picture, cmap="gray", vmin=0, vmax=1)
    shown = axes[1].imshow(grid, **scale, **place)
    axes[2].imshow(picture, cmap="gray", vmin=0, vmax=1)
    axes[2].imshow(grid, alpha=0.6, **scale, **place)
    for axis, name in zip(axes, ("picture", "map", "overlay")):
        axis.set_title(name)
        axis.axis("off")
    figure.suptitle(title)
    even = 1 / grid.size
    figure.colorbar(shown, ax=axes, label=f"weight (even: {even:.2g})", shrink=0.8)
    return figure


def one_input(
    model: nn.Module, image: Any, mean: Moments | None, std: Moments | None
) -> tuple[Tensor, Moments | None, Moments | None]:
    """A picture or a normalised tensor as (1, C, H, W), and what normalised it."""
    if isinstance(image, (Tensor, np.ndarray)):
        image = image[0] if image.ndim == 4 and len(image) == 1 else image
        if image.ndim not in (2, 3):
            raise ValueError(
                f"the image has shape {tuple(image.shape)}, not that of one "
                "picture: (channels, height, width)"
            )
    channels = checked_vit(model).patch_embed.proj.in_channels
    if isinstance(image, Tensor) and image.is_floating_point():
        if image.ndim == 3 and (len(image) == channels or image.shape[2] != channels):
            if 0 <= image.min() and image.max() <= 1:
                warnings.warn(
                    "a tensor of floats is taken as normalised, and this one lies in "
                    "0 to 1; pass pixels as bytes or as an array",
                    stacklevel=3,
                )
            known = noted(model)
            mean = getattr(known, "mean", None) if mean is None else mean
            std = getattr(known, "std", None) if std is None else std
            return image[None], mean, std if mean is not None else None
    known = preparation_of(model, mean, std)
    return prepare(model, image, known.mean, known.std), known.mean, known.std


def visualize_attention(
    model: nn.Module,
    img_tensor: Any,
    head_idx: int | None = 0,
    block_idx: int = 0,
    *,
    mean: Moments | None = None,
    std: Moments | None = None,
) -> Figure:
    """Draw one head's map: picture, map, overlay, and a bar with the values.

    img_tensor: what `predict` takes (path, PIL image, bytes, array, channels first or
    last), normalised by `mean` and `std` or else as noted on the model; or floats
    (C, H, W) or (1, C, H, W) in a tensor, normalised, of any size in whole patches.
    head_idx None is the mean over heads; negative numbers count from the end. What
    is drawn is what `patch_map` says. Headless models have maps as well.
    """
    x, mean, std = one_input(model, img_tensor, mean, std)       # (1, C, H, W)
    maps, _ = attention_maps(model, x)                     # (L, 1, h, N, N)
    block = checked_index("block", block_idx, len(maps))
    if head_idx is None:
        head, weights = "mean of heads", maps[block].mean(dim=1)  # (1, N, N)
    else:
        number = checked_index("head", head_idx, maps.shape[2])
        head, weights = f"head {number}", maps[block][:, number]  # (1, N, N)
    grid = patch_map(weights, model, tuple(x.shape[2:]))[0].float().cpu()
    pool = checked_vit(model).pool
    query = "class token" if pool == "cls" else "mean of patches"
    title = f"block {block}, {head}; query: {query}"
    return draw_map(to_picture(x[0], mean, std), grid, title)


def rollout(maps: Tensor) -> Tensor:
    """Attention rollout (Abnar and Zuidema, 2020) after each block: (L, B, N, N).

    From maps (L, B, h, N, N). Row i of step l says of which input tokens token i
    is mixed after block l, if half of each block is attention (mean over heads)
    and half residual connection; each row sums to 1.
    """
    identity = torch.eye(maps.shape[-1], device=maps.device, dtype=maps.dtype)
    steps, mixed = [], identity
    for weights in maps.mean(dim=2):                             # (B, N, N)
        step = 0.5 * weights + 0.5 * identity                    # (B, N, N)
        step = step / step.sum(dim=-1, keepdim=True)             # rows sum to 1
        mixed = step @ mixed                                     # A_l ··· A_1
        steps.append(mixed)
    return torch.stack(steps)                                    # (L, B, N, N)


NO_GRADIENTS = (
    "this model has no gradients (its layers are quantised); ask the model that it was "
    "made from"
)


def class_scores(
    vit: VisionTransformer, logits: Tensor, classes: Tensor | int | None
) -> Tensor:
    """The sum of the logits of `classes` (B,), one number, or None: the largest."""
    if not logits.requires_grad:
        raise ValueError(NO_GRADIENTS)
    if classes is None:
        check_head(vit)
        classes = logits.argmax(dim=1)                           # (B,)
    classes = torch.as_tensor(classes, device=logits.device).long()
    classes = classes.expand(len(logits))
    n = logits.shape[1]
    if not ((0 <= classes) & (classes < n)).all():
        raise ValueError(f"classes must be 0 to {n - 1}, not {classes.tolist()}")
    return logits.gather(1, classes[:, None]).sum()


def check_head(vit: VisionTransformer) -> None:
    """ValueError if the model has no head, and so no classes to speak of."""
    if isinstance(vit.head, nn.Identity):
        raise ValueError(
            "this model has no head: it gives features, not classes; raw maps and "
            "rollout work without, all else needs a trained head (first "
            "vit_edu.predict.adapt, then training)"
        )


def gradient_maps(
    model: nn.Module, images: Tensor, classes: Tensor | int | None = None
) -> Tensor:
    """Weights that speak for a class: (L, B, N, N) (Chefer et al., 2021).

    Each weight times the gradient of the class's logit with respect to it, negative
    products set to 0, mean over heads. `classes`: (B,), one number for all, or
    None for the most probable ones. The parameters' gradients stay as they are.
    """
    vit = checked_vit(model)
    grad = torch.enable_grad()
    with torch.inference_mode(False), grad, watched(vit, True) as maps:
        x = placed(vit, images.detach().clone()).requires_grad_()
        logits = vit.forward(x)
        score = class_scores(vit, logits, classes)
        gradients = torch.autograd.grad(score, maps, allow_unused=True)
    if any(g is None for g in gradients):    # what follows the maps passes none back
        raise ValueError(NO_GRADIENTS)
    pairs = ((in_float(g), in_float(a.detach())) for g, a in zip(gradients, maps))
    weighted = [(g * a).relu().mean(dim=1) for g, a in pairs]
    check_finite(vit, images, *weighted)
    return torch.stack(weighted)                           # (L, B, N, N)


def relevance(weighted: Tensor) -> Tensor:
    """Gradient-weighted maps (L, B, N, N) followed through all blocks: (B, N, N).

    R ← R + Ā_l R from the identity on (Chefer et al., 2021), less that identity.
    """
    identity = torch.eye(weighted.shape[-1], device=weighted.device)
    total = identity.to(weighted.dtype)
    for step in weighted:                                        # (B, N, N)
        total = total + step @ total
    return total - identity
