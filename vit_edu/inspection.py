"""What it learned: filters, places, reach, and which heads count.

Written by tools/export.py from book/text/17_inspection.md: edit that file, then `make sync`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit_edu.attention_maps import (
    attention_maps,
    check_finite,
    check_head,
    checked_index,
    checked_vit,
    evaluation,
    heard,
    placed,
)
from vit_edu.model import VisionTransformer
from vit_edu.patches import Size, grid_shape, to_pair


def patch_distances(grid: tuple[int, int], patch_size: Size) -> Tensor:
    """Euclidean distances between patch centres, in pixels: (N, N)."""
    sides = zip(grid, to_pair(patch_size))
    y, x = (torch.arange(n, dtype=torch.float32) * size for n, size in sides)
    centres = torch.cartesian_prod(y, x)                   # (N, 2), row by row
    return torch.linalg.vector_norm(centres[:, None] - centres, dim=-1)  # (N, N)


def mean_distance(weights: Tensor, distances: Tensor) -> Tensor:
    """Attention distance of weights (..., prefix + N, prefix + N): (...), in pixels.

    Class token and registers lie nowhere: their rows and columns are left out, and
    what remains of each row is scaled to sum to 1. A row of which nothing remains
    does not count.
    """
    n = len(distances)
    seen = weights[..., -n:, -n:]                          # patches read patches
    distances = distances.to(seen)
    rows = (seen * distances).sum(dim=-1) / seen.sum(dim=-1)     # (..., N)
    return rows.nanmean(dim=-1)


def attention_distance(model: nn.Module, images: Tensor) -> Tensor:
    """How far each head looks, in pixels, mean over queries and images: (L, h).

    Images (B, C, H, W), normalised. Figure 7 (right) of the ViT paper. Errors are
    those of `attention_maps`.
    """
    patch = checked_vit(model).patch_embed.patch_size
    maps, _ = attention_maps(model, images)                # (L, B, h, N, N)
    grid = grid_shape(tuple(images.shape[2:]), patch)
    distances = patch_distances(grid, patch)               # (N, N)
    return mean_distance(maps, distances).nanmean(dim=1)   # (L, h)


def patch_filters(model: nn.Module) -> Tensor:
    """The rows of the patch projection as small images: (D, C, P_h, P_w)."""
    return checked_vit(model).patch_embed.proj.weight.detach().clone()


def principal_components(filters: Tensor) -> tuple[Tensor, Tensor]:
    """Principal components (K, C, P_h, P_w), largest first, and their shares (K,).

    Of filters (D, C, P_h, P_w), less their mean; a share is the part of the filters'
    variance in that direction. The sign, which is arbitrary, is set so that the
    entry of largest size is positive. Figure 7 (left) of the ViT paper.
    """
    rows = filters.flatten(1).double()                     # (D, C·P_h·P_w)
    if not rows.isfinite().all():
        raise ValueError("the filters hold NaN or infinity")
    rows = rows - rows.mean(dim=0)
    _, sizes, directions = torch.linalg.svd(rows, full_matrices=False)
    largest = directions.abs().argmax(dim=1, keepdim=True)       # (K, 1)
    directions = directions * directions.gather(1, largest).sign()
    shares = sizes**2 / (sizes**2).sum().clamp_min(1e-300)       # (K,)
    components = directions.view(-1, *filters.shape[1:])   # (K, C, P_h, P_w)
    return components.to(filters.dtype), shares.to(filters.dtype)


def position_similarity(model: nn.Module) -> Tensor:
    """Cosine similarity of each position with every other: (N, rows, columns).

    Of learned or sine-cosine positions; the class token's is left out. Figure 7
    (centre) of the ViT paper. ValueError for a model without positions.
    """
    vit = checked_vit(model)
    if vit.pos_embed is None:
        raise ValueError(
            "this model has no position embeddings (positions='none'); "
            "build it with positions='learned' or 'sincos2d' to compare them"
        )
    table = vit.pos_embed.detach()[0, -vit.patch_embed.n_patches :]    # (N, D)
    if not table.isfinite().all():
        raise ValueError("pos_embed holds NaN or infinity")
    unit = F.normalize(table.float(), dim=1)               # (N, D), length 1
    return (unit @ unit.T).unflatten(1, vit.patch_embed.grid_size)


@torch.no_grad()
def residual_stream(model: nn.Module, images: Tensor) -> Tensor:
    """Tokens before the first block and after each: (L + 1, B, prefix + N, D).

    Not normalised: the final norm and the head come after the last of them.
    """
    vit = checked_vit(model)
    with evaluation(vit):
        stream = [vit.embed(placed(vit, images))]          # (B, N, D)
        for block in vit.blocks:
            stream.append(block(stream[-1]))               # (B, N, D)
    tokens = torch.stack(stream)
    check_finite(vit, images, tokens)
    return tokens


def pooled(vit: VisionTransformer, tokens: Tensor) -> Tensor:
    """The class token, or the patches' mean: (..., prefix + N, D) to (..., D)."""
    if vit.pool == "cls":
        return tokens[..., 0, :]
    return tokens[..., vit.n_prefix :, :].mean(dim=-2)


@torch.no_grad()
def early_logits(model: nn.Module, images: Tensor) -> Tensor:
    """The logits if the encoder ended before the first block, and after each.

    (L + 1, B, K), without a head the features (L + 1, B, D); the last are the
    model's own. Norm and head were trained for the
    last step alone: earlier ones are readable as far as the stream keeps its code.
    """
    vit = checked_vit(model)
    tokens = residual_stream(vit, images)                  # (L+1, B, prefix+N, D)
    with evaluation(vit):
        return vit.head(vit.fc_norm(pooled(vit, vit.norm(tokens))))


def read_outs(model: nn.Module, images: Tensor) -> Tensor:
    """The class token, or the patches' mean, at each step: (L + 1, B, D)."""
    return pooled(checked_vit(model), residual_stream(model, images))


def read_out_similarity(model: nn.Module, images: Tensor) -> Tensor:
    """Cosine of the read-out between two steps, mean over images: (L+1, L+1)."""
    unit = F.normalize(read_outs(model, images), dim=-1)   # (L+1, B, D)
    return torch.einsum("ibd,jbd->ijb", unit, unit).mean(dim=-1)


@contextmanager
def silenced(model: nn.Module, block: int, head: int) -> Iterator[None]:
    """For a while, one head of one block contributes nothing; may be nested.

    Works on either attention path, and on compiled, data-parallel and averaged models
    (see `heard`). Negative numbers count from the end; IndexError for a block or head
    that does not exist.
    """
    vit = checked_vit(model)
    layer = vit.blocks[checked_index("block", block, len(vit.blocks))].attn
    first = layer.head_dim * checked_index("head", head, layer.n_heads)

    def mute(proj: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        side_by_side = inputs[0].clone()                   # (B, N, h·d)
        side_by_side[..., first : first + layer.head_dim] = 0
        return side_by_side

    hook = layer.proj.register_forward_pre_hook(mute)
    try:
        with heard():                                      # a compiled model, too
            yield
    finally:
        hook.remove()


@torch.no_grad()
def head_worth(
    model: nn.Module, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """By how much probability and accuracy fall without each head: two (L, h).

    Probability of the right class, mean over images (B, C, H, W) with labels (B,).
    Negative: better without. One forward a head, each from the whole model.
    """
    vit = checked_vit(model)
    check_head(vit)
    images = placed(vit, images)
    labels = torch.as_tensor(labels, device=images.device).long()
    with evaluation(vit):
        n = vit.forward(images[:1]).shape[1]               # what the head gives
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}, but there are "
            f"{len(images)} images; give one label an image"
        )
    if not ((0 <= labels) & (labels < n)).all():
        raise ValueError(f"labels must be 0 to {n - 1}, not {labels.tolist()}")

    def scores() -> Tensor:
        p = vit.forward(images).float().softmax(dim=1)     # (B, K)
        check_finite(vit, images, p)
        right = p.gather(1, labels[:, None]).mean()
        hits = p.argmax(dim=1) == labels
        return torch.stack([right, hits.to(right).mean()])

    falls = []
    with evaluation(vit):
        whole = scores()                                   # (2,)
        for block, layer in enumerate(vit.blocks):
            for head in range(layer.attn.n_heads):
                with silenced(vit, block, head):
                    falls.append(whole - scores())
    table = torch.stack(falls).unflatten(0, (len(vit.blocks), -1))
    return table[..., 0], table[..., 1]                    # (L, h) each
