"""Is the map true?.

Written by tools/export.py from book/text/16_faithfulness.md: edit that file, then `make sync`.
"""

import argparse
import copy
import hashlib
import math
import os
import sys
import time

import torch
from torch import Tensor, nn

from vit_edu.attention_maps import attention_maps, check_head, checked_vit, class_scores
from vit_edu.attention_maps import evaluation, gradient_maps, patch_map, placed
from vit_edu.attention_maps import relevance, rollout
from vit_edu.data import cifar10
from vit_edu.model import VisionTransformer
from vit_edu.patches import grid_shape, patchify
from vit_edu.preparation import load_recorded, preparation_of, to_input
from vit_edu.records import RECORDED, surroundings, write_record
from vit_edu.weights import read_weights


def input_times_gradient(
    model: nn.Module, images: Tensor, classes: Tensor | int | None = None
) -> Tensor:
    """Input × gradient of a class's logit, summed in each patch: (B, rows, columns).

    To first order, by how much the logit falls when the patch is set to 0, which is
    the training images' mean colour. No attention in it: the yardstick for maps.
    """
    vit = checked_vit(model)
    patch = vit.patch_embed.patch_size
    with torch.inference_mode(False), torch.enable_grad(), evaluation(vit):
        x = placed(vit, images.detach().clone()).requires_grad_()
        score = class_scores(vit, vit.forward(x), classes)
        (gradient,) = torch.autograd.grad(score, x)        # (B, C, H, W)
    product = (x.detach() * gradient).sum(dim=1, keepdim=True)   # (B, 1, H, W)
    grid = grid_shape(tuple(images.shape[2:]), patch)
    return patchify(product, patch).sum(dim=-1).unflatten(-1, grid)


KINDS = (
    "last block",
    "rollout",
    "gradient-weighted",
    "input × gradient",
    "centre",
    "random",
)


def importance(
    model: nn.Module,
    images: Tensor,
    kind: str,
    classes: Tensor | int | None = None,
    chance: torch.Generator | None = None,
) -> Tensor:
    """A map of the given kind (see KINDS) for each image: (B, rows, columns).

    "last block" is its mean over heads. "centre" falls off from the middle and
    never looks at the picture, "random" is drawn from `chance`: both to be beaten.
    """
    if kind not in KINDS:
        options = ", ".join(KINDS)
        raise ValueError(f"unknown kind {kind!r}; choose one of {options}")
    vit, size = checked_vit(model), tuple(images.shape[2:])
    if kind == "input × gradient":
        return input_times_gradient(vit, images, classes)
    if kind == "gradient-weighted":
        weighted = gradient_maps(vit, images, classes)     # (L, B, N, N)
        return patch_map(relevance(weighted), vit, size)
    if kind in ("last block", "rollout"):
        maps, _ = attention_maps(vit, images)                    # (L, B, h, N, N)
        tokens = rollout(maps)[-1] if kind == "rollout" else maps[-1].mean(dim=1)
        return patch_map(tokens, vit, size)
    grid = grid_shape(size, vit.patch_embed.patch_size)
    if kind == "random":
        return torch.rand(len(images), *grid, generator=chance)
    y, x = (torch.linspace(-1, 1, n) for n in grid)
    return -(y[:, None] ** 2 + x**2).expand(len(images), *grid)


def ranks(maps: Tensor) -> Tensor:
    """Place of each patch, 0 for the largest value: (B, rows, columns), kept."""
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1).view(maps.shape)


@torch.no_grad()
def erasing_curves(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    classes: Tensor,
    every: int = 4,
) -> tuple[Tensor, Tensor, Tensor]:
    """Probability of `classes` while patches go or come in a map's order.

    Images (B, C, H, W), normalised; maps (B, rows, columns); classes (B,). Returns
    the shares of patches (S,), in steps of `every` patches, and two curves (B, S):
    deletion sets the map's largest patches to 0, the mean colour, first; insertion
    starts from that colour and brings the largest first (Petsiuk et al., 2018).
    """
    vit = checked_vit(model)
    check_head(vit)
    images = placed(vit, images)
    device, classes = images.device, classes.to(images.device)
    height, width = vit.patch_embed.patch_size
    place = ranks(maps).to(device).repeat_interleave(height, dim=1)
    place = place.repeat_interleave(width, dim=2)[:, None]       # (B, 1, H, W)
    n_patches = maps[0].numel()
    counts = [*range(0, n_patches, every), n_patches]            # S numbers
    curves = [[], []]
    with evaluation(vit):
        for count in counts:
            chosen = place < count                               # (B, 1, H, W)
            for curve, keep in zip(curves, (~chosen, chosen)):
                p = vit.forward(images * keep).float().softmax(dim=1)    # (B, K)
                curve.append(p.gather(1, classes[:, None])[:, 0])
    deletion, insertion = (torch.stack(curve, dim=1).cpu() for curve in curves)
    return torch.tensor(counts) / n_patches, deletion, insertion


def area(shares: Tensor, curves: Tensor) -> Tensor:
    """Area under each curve (B, S) over the shares (S,): (B,)."""
    return torch.trapezoid(curves, shares, dim=1)


def shuffled(model: nn.Module, seed: int = 0) -> VisionTransformer:
    """A copy whose every parameter has its own numbers in random order.

    Scales and spreads stay as they were, all that was learned is gone.
    """
    own = checked_vit(model)
    vit = copy.deepcopy(own).cpu()
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in vit.parameters():
            order = torch.randperm(p.numel(), generator=chance)
            p.copy_(p.flatten()[order].view_as(p))
    return vit.to(next(own.parameters()))


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's correlation of maps (B, rows, columns), -1 to 1: (B,)."""
    a, b = (ranks(maps).flatten(1).double() for maps in (a, b))
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    return (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1))


def faithfulness(
    model: nn.Module,
    images: Tensor,
    every: int = 4,
    seed: int = 0,
    batch: int = 250,
) -> tuple[Tensor, dict[str, dict[str, Tensor]]]:
    """Every kind of map put to every test, on normalised images (n, C, H, W).

    Returns the shares (S,) and for each kind the curves "deletion" and "insertion"
    (n, S), and two rank correlations (n,): of the maps with those of a model with
    "shuffled" weights, and with those of the batch's "next picture".
    """
    other, chance = shuffled(model, seed), torch.Generator().manual_seed(seed)
    found: dict[str, dict[str, list[Tensor]]] = {kind: {} for kind in KINDS}
    shares = torch.zeros(0)
    for x in images.split(batch):
        with torch.no_grad(), evaluation(model):
            classes = model(x).argmax(dim=1)                     # (B,)
        for kind in KINDS:
            maps = importance(model, x, kind, classes, chance).cpu()
            foreign = importance(other, x, kind, classes, chance).cpu()
            shares, *curves = erasing_curves(model, x, maps, classes, every)
            agreement = rank_correlation(maps, foreign)
            change = rank_correlation(maps, maps.roll(1, dims=0))
            names = "deletion", "insertion", "shuffled", "next picture"
            for name, values in zip(names, (*curves, agreement, change)):
                found[kind].setdefault(name, []).append(values)
    return shares, {
        kind: {name: torch.cat(parts) for name, parts in columns.items()}
        for kind, columns in found.items()
    }


def summary(
    shares: Tensor, found: dict[str, dict[str, Tensor]]
) -> dict[str, dict]:
    """For each kind the mean areas and correlations, as plain numbers.

    "gain" is how much better than random order an area is, image by image, in the
    mean (smaller for deletion, larger for insertion), "error" its standard error.
    """
    result: dict[str, dict] = {}
    for kind, columns in found.items():
        correlations = "shuffled", "next picture"
        row: dict = {name: columns[name].mean().item() for name in correlations}
        for name, sign in ("deletion", -1), ("insertion", 1):
            own = area(shares, columns[name])                    # (n,)
            gain = sign * (own - area(shares, found["random"][name]))
            curve = columns[name].mean(dim=0).tolist()           # S numbers
            row[name] = {
                "area": own.mean().item(),
                "gain": gain.mean().item(),
                "error": gain.std().item() / math.sqrt(len(gain)),
                "curve": [round(p, 5) for p in curve],
            }
        result[kind] = row
    return result


def weights_digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file's tensors, by name; what else the file says does not count."""
    total, (state, _) = hashlib.sha256(), read_weights(path)
    for name in sorted(state):
        total.update(name.encode() + state[name].contiguous().numpy().tobytes())
    return total.hexdigest()


def record_faithfulness(
    name: str, n: int, every: int, seed: int, out: str
) -> dict[str, dict]:
    """Test a shipped model's maps on the first `n` test images; write the record."""
    begin, model, images = time.perf_counter(), load_recorded(name), cifar10()
    known = preparation_of(model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, labels = model.to(device), images.test_labels[:n]
    x = to_input(images.test_images[:n].to(device), known.mean, known.std)
    shares, found = faithfulness(model, x, every, seed)
    with torch.no_grad():
        logits = torch.cat([model(part) for part in x.split(250)]).cpu()
    accuracy = (logits.argmax(dim=1) == labels).float().mean().item()
    kinds = summary(shares, found)
    write_record(
        out,
        recipe="faithfulness",
        command=f"python -m vit_edu.faithfulness --model {name} --images {len(x)} "
        f"--every {every} --seed {seed}",
        seed=seed,
        config={"model": name, "images": len(x), "every": every},
        weights_sha256=weights_digest(RECORDED / name / "weights.safetensors"),
        data=f"{images.provenance}; its first {len(x):,} test images",
        seconds=time.perf_counter() - begin,
        shares=shares.tolist(),
        kinds=kinds,
        accuracy=accuracy,
        **surroundings(),
    )
    return kinds


def describe(kinds: dict[str, dict]) -> str:
    """The areas as a table, each with its gain over random order."""
    lines = [f"{'':<17}  {'deletion':^10}  {'insertion':^10}"]
    lines += [f"{'':<17}  area  gain   area  gain"]
    for kind, row in kinds.items():
        cells = (row[name] for name in ("deletion", "insertion"))
        texts = (f"{cell['area']:.2f} {cell['gain']:+.2f}" for cell in cells)
        lines.append(f"{kind:<17}  {'  '.join(texts)}")
    return "\n".join(lines)


def main() -> None:
    """Test how faithful the maps of a shipped model are, and write a record."""
    program = "python -m vit_edu.faithfulness"
    parser = argparse.ArgumentParser(program, description=main.__doc__)
    option = parser.add_argument
    option("--model", default="tiny-0", help="a model that came with the package")
    option("--images", type=int, default=1000, help="test images of CIFAR-10")
    option("--every", type=int, default=4, help="patches from one point to the next")
    option("--seed", type=int, default=0)
    option("--out", help="folder of the record (default: runs/faithfulness-MODEL)")
    args = parser.parse_args()
    out = args.out or f"runs/faithfulness-{args.model}"
    how = args.images, args.every, args.seed
    kinds = record_faithfulness(args.model, *how, out)
    print(describe(kinds))
    print(f"written to {out}")


if __name__ == "__main__" and "__file__" in globals():    # not in a notebook
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"vit_edu.faithfulness: {error}")
