"""Attention maps: what was read, and did it matter?.

Written by tools/export.py from book/text/15_attention_maps.md: edit that file, then `make sync`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from safetensors import safe_open
from torch import Tensor, nn

from vit_edu.attention import Attention
from vit_edu.augment import normalise
from vit_edu.model import VisionTransformer
from vit_edu.patches import Size, grid_shape
from vit_edu.records import RECORDED
from vit_edu.weights import load_model, unwrapped


# Mean and deviation of each channel over CIFAR-10's 50,000 training images
# (Krizhevsky, 2009), scaled to 0..1: what the shipped models were trained with.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)

Moments = tuple[float, ...]


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
    return normalise(images, torch.tensor(mean), torch.tensor(std))


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
        with evaluation(vit):
            yield maps
    finally:
        for hook in hooks:
            hook.remove()


def checked_vit(model: nn.Module) -> VisionTransformer:
    """The VisionTransformer inside `model`; TypeError if there is none."""
    vit = unwrapped(model)
    blocks = getattr(vit, "blocks", ())
    ours = all(isinstance(getattr(b, "attn", None), Attention) for b in blocks)
    if not isinstance(vit, VisionTransformer) or not ours:
        raise TypeError(
            f"no attention maps from {type(vit).__name__}: it is not a "
            "VisionTransformer of vit_edu; a timm ViT's weights can be loaded "
            "into one (vit_edu.weights.from_timm)"
        )
    return vit


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


def attention_maps(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of every block and head, (L, B, h, N, N), and the logits (B, K).

    Images (B, C, H, W), normalised. The model runs in evaluation mode, by the path
    it is set to; its logits are the same bits as without the maps, and no graph is
    kept. TypeError for a model of another kind, ValueError for NaN.
    """
    vit = checked_vit(model)
    images = images.to(vit.head.weight.device)
    with torch.no_grad(), watched(vit) as maps:
        logits = vit.forward(images)                   # (B, K)
    weights = torch.stack(maps)                        # (L, B, h, N, N)
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


def to_picture(image: Tensor, mean: Moments, std: Moments) -> Tensor:
    """An image (C, H, W), bytes or normalised, as matplotlib shows it: 0..1."""
    image = image.detach().cpu()
    if image.dtype == torch.uint8:
        image = image / 255
    elif len(image) == len(mean):
        moments = (torch.tensor(m)[:, None, None] for m in (std, mean))
        image = image * next(moments) + next(moments)
    else:                                                  # stretched to 0..1
        spread = (image.max() - image.min()).clamp_min(1e-9)
        image = (image - image.min()) / spread
    image = image.float().clamp(0, 1).permute(1, 2, 0)     # (H, W, C)
    return image if image.shape[-1] == 3 else image.mean(dim=-1)    # grey: (H, W)


def visualize_attention(
    model: nn.Module,
    img_tensor: Tensor,
    head_idx: int | None = 0,
    block_idx: int = 0,
    *,
    mean: Moments = CIFAR10_MEAN,
    std: Moments = CIFAR10_STD,
) -> Figure:
    """Draw one head's map: picture, map, overlay, and a bar with the values.

    img_tensor: (C, H, W) or (1, C, H, W), normalised as the model wants it, or
    bytes, which `mean` and `std` normalise. head_idx None is the mean over heads;
    negative numbers count from the end. What is drawn is what `patch_map` says.
    """
    images = img_tensor[None] if img_tensor.ndim == 3 else img_tensor
    if images.ndim != 4 or len(images) != 1:
        raise ValueError(
            f"img_tensor has shape {tuple(img_tensor.shape)}, not that of one "
            "picture: (channels, height, width)"
        )
    x = to_input(images, mean, std)                        # (1, C, H, W)
    maps, _ = attention_maps(model, x)                     # (L, 1, h, N, N)
    block = checked_index("block", block_idx, len(maps))
    if head_idx is None:
        head, weights = "mean of heads", maps[block].mean(dim=1)  # (1, N, N)
    else:
        number = checked_index("head", head_idx, maps.shape[2])
        head, weights = f"head {number}", maps[block][:, number]  # (1, N, N)
    size = tuple(images.shape[2:])
    grid = patch_map(weights, model, size)[0].float().cpu()
    pool = checked_vit(model).pool
    query = "class token" if pool == "cls" else "mean of patches"
    title = f"block {block}, {head}; query: {query}"
    return draw_map(to_picture(images[0], mean, std), grid, title)


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


def class_scores(logits: Tensor, classes: Tensor | int | None) -> Tensor:
    """The sum of the logits of `classes` (B,), one number, or None: the largest."""
    if classes is None:
        classes = logits.argmax(dim=1)                           # (B,)
    classes = torch.as_tensor(classes, device=logits.device).expand(len(logits))
    n = logits.shape[1]
    if not ((0 <= classes) & (classes < n)).all():
        raise ValueError(f"classes must be 0 to {n - 1}, not {classes.tolist()}")
    return logits.gather(1, classes[:, None]).sum()


def gradient_maps(
    model: nn.Module, images: Tensor, classes: Tensor | int | None = None
) -> Tensor:
    """Weights that speak for a class: (L, B, N, N) (Chefer et al., 2021).

    Each weight times the gradient of the class's logit with respect to it, negative
    products set to 0, mean over heads. `classes`: (B,), one number for all, or
    None for the most probable ones. The parameters' gradients stay as they are.
    """
    vit = checked_vit(model)
    device = vit.head.weight.device
    grad = torch.enable_grad()
    with torch.inference_mode(False), grad, watched(vit, True) as maps:
        x = images.detach().clone().to(device).requires_grad_()
        logits = vit.forward(x)
        gradients = torch.autograd.grad(class_scores(logits, classes), maps)
    pairs = zip(gradients, maps)
    weighted = [(g * a.detach()).relu().mean(dim=1) for g, a in pairs]
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
