"""The checks of chapter 17, what a model learned."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical

from vit_edu.attention_maps import attention_maps
from vit_edu.exercises import Code, Mistake, Part, Prediction
from vit_edu.model import VisionTransformer

# ex-inspect-spread


def looking():
    """Models whose heads are nearly even, then ones that choose; at last one whose weights are 0 here and there."""
    chance = torch.Generator().manual_seed(0)
    for seed, (size, depth, heads, n, sharpness) in enumerate([
        ((2, 4), 1, 1, 1, 3.0), ((4, 4), 1, 2, 2, 3.0), ((4, 6), 2, 3, 2, 3.0), ((6, 6), 3, 2, 3, 1.0),
        ((4, 6), 2, 2, 2, 300.0),
    ]):  # fmt: skip
        torch.default_generator.manual_seed(seed)
        model = VisionTransformer(size, 2, 1, 3, embed_dim=12, depth=depth, n_heads=heads, pool="mean").eval()
        with torch.no_grad():
            for block in model.blocks:
                block.attn.qkv.weight *= sharpness
        yield model, torch.randn(n, 1, *size, generator=chance)


def maps_of(model, images) -> Tensor:
    return attention_maps(model, images)[0]                      # (L, B, h, N, N)


def entropies(maps, axis=-1) -> Tensor:
    return torch.special.entr(maps).sum(dim=axis)                # (L, B, h, N)


def from_maps(how):
    return lambda model, images: how(maps_of(model, images))


SPREAD = Code(
    "effective_patches",
    "Effective number of patches that each head reads, mean over queries and images: (L, h).",
    looking,
    from_maps(lambda maps: Categorical(probs=maps, validate_args=False).entropy().exp().mean(dim=(1, 3))),
    "heads that are nearly even and heads that choose, weights of exactly 0, against PyTorch's Categorical",
    [
        Mistake(
            "a weight may be exactly 0, and 0 · ln 0 is not a number here: count it as 0",
            like=from_maps(lambda maps: (-(maps * maps.log()).sum(dim=-1)).exp().mean(dim=(1, 3))),
        ),
        Mistake(
            "the mean of the entropies comes first; take e to the power of each row's, then the mean",
            like=from_maps(lambda maps: entropies(maps).mean(dim=(1, 3)).exp()),
        ),
        Mistake(
            "this is the entropy; the number of patches is e to its power",
            like=from_maps(lambda maps: entropies(maps).mean(dim=(1, 3))),
        ),
        Mistake(
            "2 to the power of an entropy in natural logarithms; take e",
            like=from_maps(lambda maps: (2 ** entropies(maps)).mean(dim=(1, 3))),
        ),
        Mistake(
            "e to the power of an entropy in bits: take natural logarithms",
            like=from_maps(lambda maps: (entropies(maps) / torch.tensor(2.0).log()).exp().mean(dim=(1, 3))),
        ),
        Mistake(
            "the minus of the entropy is missing, so each number is below 1",
            like=from_maps(lambda maps: (-entropies(maps)).exp().mean(dim=(1, 3))),
        ),
        Mistake(
            "the entropy is that of columns; a head's shares are its rows, the last axis",
            like=from_maps(lambda maps: entropies(maps, axis=-2).exp().mean(dim=(1, 3))),
        ),
        Mistake(
            "the weights are averaged before the entropy, over queries: a mean of rows is flatter than each of them",
            like=from_maps(lambda maps: entropies(maps.mean(dim=-2)).exp().mean(dim=1)),
        ),
        Mistake(
            "the weights are averaged over images before the entropy; a mean is flatter than what it is made of",
            like=from_maps(lambda maps: entropies(maps.mean(dim=1)).exp().mean(dim=-1)),
        ),
        Mistake(
            "this is one over the sum of squares, another effective number; the exercise asks for the entropy's",
            like=from_maps(lambda maps: (1 / maps.square().sum(dim=-1)).mean(dim=(1, 3))),
        ),
        Mistake(
            "the numbers of all queries are added up; take their mean",
            like=from_maps(lambda maps: entropies(maps).exp().sum(dim=3).mean(dim=1)),
        ),
        Mistake(
            "the heads are averaged, too; each has its own number",
            like=from_maps(lambda maps: entropies(maps).exp().mean(dim=(1, 2, 3))),
        ),
    ],
)  # fmt: skip


# ex-inspect-centred


def read():
    """Read-outs with a large part in common: two steps of two images first."""
    yield (torch.tensor([[[3.0, 1.0], [3.0, -1.0]], [[0.0, 2.0], [1.0, 0.0]]]),)
    chance = torch.Generator().manual_seed(0)
    for steps, images, width in (3, 2, 4), (2, 5, 3), (3, 3, 8), (7, 16, 12):
        common = 2 * torch.randn(steps, 1, width, generator=chance)
        yield (common + torch.randn(steps, images, width, generator=chance),)


def cosines(own) -> Tensor:
    return torch.stack([F.cosine_similarity(own, step, dim=-1).mean(dim=-1) for step in own])


def less(mean):
    """The right table, of vectors less another mean."""
    return lambda vectors: cosines(vectors - mean(vectors))


CENTRED = Code(
    "centred_similarity",
    "Read-outs (S, B, D), less each step's mean over the B images: cosines between steps, mean over images, (S, S).",
    read,
    less(lambda v: v.mean(dim=1, keepdim=True)),
    "two to seven steps, two to sixteen images, against PyTorch's cosine_similarity",
    [
        Mistake("nothing is subtracted: these are the plain cosines", like=cosines),
        Mistake(
            "the mean is lined up with the wrong axis: without keepdim=True image b loses the mean of step b",
            like=less(lambda v: v.mean(dim=1)),
        ),
        Mistake(
            "the mean over steps is subtracted; it is what all images share that goes",
            like=less(lambda v: v.mean(dim=0)),
        ),
        Mistake(
            "each vector loses the mean of its own numbers; subtract the mean vector of all images",
            like=less(lambda v: v.mean(dim=2, keepdim=True)),
        ),
        Mistake(
            "one mean of all steps and images is subtracted; each step has its own",
            like=less(lambda v: v.mean(dim=(0, 1))),
        ),
        Mistake(
            "the vectors are scaled to length 1 first and centred then; centre first",
            like=lambda v: torch.einsum("ibd,jbd->ijb", *2 * [
                (u := F.normalize(v, dim=-1)) - u.mean(dim=1, keepdim=True)
            ]).mean(dim=-1),
        ),
        Mistake(
            "these are dot products; a cosine divides by both lengths",
            like=lambda v: torch.einsum("ibd,jbd->ijb", *2 * [v - v.mean(dim=1, keepdim=True)]).mean(dim=-1),
        ),
        Mistake(
            "the lengths are taken over the images; a vector's is over its own numbers",
            like=lambda v: torch.einsum("ibd,jbd->ijb", *2 * [
                F.normalize(v - v.mean(dim=1, keepdim=True), dim=1)
            ]).mean(dim=-1),
        ),
        Mistake(
            "each feature is divided by its deviation as well; only the mean is to go",
            like=lambda v: cosines((v - v.mean(dim=1, keepdim=True)) / v.std(dim=1, keepdim=True)),
        ),
        Mistake(
            "the sum over images is taken; the mean is asked for",
            like=lambda v: v.shape[1] * cosines(v - v.mean(dim=1, keepdim=True)),
        ),
    ],
    tolerance=1e-4,
)  # fmt: skip


# Predictions

CORNER = Prediction(
    "ex-inspect-corner",
    "Heads that read the top left corner, all patches alike, or the furthest patch: by attention distance.",
    [
        Part("smallest distance", "alike", {
            "corner": "the corner is a corner: most patches have others that are nearer to them",
            "furthest": "nothing is further from a patch than what it reads there",
        }),
        Part("largest distance", "furthest", {
            "corner": "most patches have another corner that is further away",
            "alike": "a mean over all patches cannot be larger than the largest",
        }),
    ],
)  # fmt: skip

GREEDY = Prediction(
    "ex-inspect-greedy",
    "How many sets of silent heads are tried until six of eighteen are gone, one after the other?",
    [Part("models", 93, {
        6: "that many are silenced; before each, all that are left are tried",
        108: "a head that is silent already is not tried again: 18, then one fewer each time",
        18: "that is the search for the first",
        15: "that is how many are left for the fourth; add up over the six",
        171: "that is until all are gone",
        18564: "that many sets of six there are; the search never looks at most of them",
    })],
)  # fmt: skip

BASIS = Prediction(
    "ex-inspect-basis",
    "The overlap of two spans of eight directions that chance gives in 48 dimensions.",
    [Part("overlap", 8 / 48, {
        0: "eight directions leave 40 others, and a random one lies in none of them alone",
        1: "that is the same span",
        8 / 96: "there are 96 filters, of 48 numbers each",
        1 / 48: "that is one direction against one",
        0.5: "a random direction shares its length out evenly over 48",
        64 / 48: "the division by 8 makes it a share",
    }, within=0.004)],
)  # fmt: skip

CHECKS = [CORNER, SPREAD, CENTRED, GREEDY, BASIS]
