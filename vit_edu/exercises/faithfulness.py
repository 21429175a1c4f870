"""The checks of chapter 16, whether a map is true."""

import math

import torch
from torch import Tensor, nn

from vit_edu.exercises import Code, Mistake, Part, Prediction
from vit_edu.faithfulness import area, erasing_curves
from vit_edu.model import VisionTransformer
from vit_edu.patches import patchify, unpatchify


def vit(seed: int, img_size, patch, **options) -> VisionTransformer:
    """A small model with strong opinions: a fresh one's head is zero."""
    torch.default_generator.manual_seed(seed)
    model = VisionTransformer(img_size, patch, 2, 3, **dict(embed_dim=8, depth=1, n_heads=2, pool="mean") | options)
    nn.init.normal_(model.head.weight, std=2.0)
    return model.eval()


def pictures():
    """A model, images and classes: two patches first, then grids and patches that are no squares."""
    chance = torch.Generator().manual_seed(0)
    for seed, (size, patch, n, options) in enumerate([
        ((2, 4), 2, 1, {}), ((4, 6), 2, 2, {"pool": "cls"}), ((6, 6), (2, 3), 3, {}), ((9, 4), (3, 2), 2, {"depth": 2}),
    ]):  # fmt: skip
        images = torch.randn(n, 2, *size, generator=chance)
        yield vit(seed, size, patch, **options), images, torch.arange(n).flip(0) % 3


def cut(model, images) -> Tensor:
    """Images as patches (B, patches, numbers), to be changed."""
    return patchify(images, model.patch_embed.patch_size).clone()


def put_together(model, patches) -> Tensor:
    return unpatchify(patches, model.patch_embed.patch_size, model.patch_embed.img_size)


def probability(model, images, classes) -> Tensor:
    with torch.no_grad():
        return model(images).softmax(dim=1)[torch.arange(len(images)), classes]


# ex-faith-occlusion


def without(model, images, n, value=0.0, others=1.0):
    """The images with patch `n` set to `value`; the others are multiplied by `others`."""
    patches = cut(model, images)
    changed = others * patches
    changed[:, n] = patches[:, n] if value is None else value
    return put_together(model, changed)


def falls(measure=probability, change=without):
    """The right answer, with room for its usual mistakes: another measure, another change."""

    def answer(model, images, classes):
        n = model.patch_embed.n_patches
        whole = measure(model, images, classes)
        found = [whole - measure(model, change(model, images, i), classes) for i in range(n)]
        return torch.stack(found, dim=1).unflatten(1, model.patch_embed.grid_size)

    return answer


def logit(model, images, classes):
    with torch.no_grad():
        return model(images)[torch.arange(len(images)), classes]


def one_after_the_other(model, images, n):
    patches = cut(model, images)
    patches[:, : n + 1] = 0
    return put_together(model, patches)


def column_by_column(model, images, classes):
    return falls()(model, images, classes).mT.flatten(1).unflatten(1, model.patch_embed.grid_size)


OCCLUSION = Code(
    "occlusion",
    "By how much the probability of `classes` (B,) falls without each patch: (B, rows, columns).",
    pictures,
    falls(),
    "grids and patches that are no squares, with and without class token, against cut and mended pictures",
    [
        Mistake(
            "the sign is turned: a patch that is missed makes the probability fall, and has a positive number",
            like=lambda *a: -falls()(*a),
        ),
        Mistake(
            "this is the probability that is left; by how much did it fall?",
            like=lambda m, x, c: probability(m, x, c)[:, None, None] - falls()(m, x, c),
        ),
        Mistake("the logit's fall is measured; a probability needs the softmax", like=falls(logit)),
        Mistake(
            "the patches that went before stay away; remove one, the others as they were",
            like=falls(change=one_after_the_other),
        ),
        Mistake(
            "everything but the patch is removed; remove the patch alone",
            like=falls(change=lambda m, x, n: without(m, x, n, value=None, others=0.0)),
        ),
        Mistake(
            "the probability of the largest class is followed; `classes` says which one",
            like=lambda m, x, c: falls()(m, x, m(x).argmax(dim=1)),
        ),
        Mistake(
            "each time the largest probability is taken, which may be another class's",
            like=falls(lambda m, x, c: m(x).softmax(dim=1).amax(dim=1)),
        ),
        Mistake(
            "the patch is set to 1; the mean colour is 0",
            like=falls(change=lambda m, x, n: without(m, x, n, value=1.0)),
        ),
        Mistake(
            "the patches are counted column by column; they stand row by row",
            like=column_by_column,
        ),
        Mistake(
            "the fall is a share of what was there; the difference is asked for",
            like=lambda m, x, c: falls()(m, x, c) / probability(m, x, c)[:, None, None],
        ),
        Mistake(
            "the softmax runs over the images; it runs over the classes",
            like=falls(lambda m, x, c: m(x).softmax(dim=0)[torch.arange(len(x)), c]),
        ),
    ],
    tolerance=1e-5,
)  # fmt: skip


# ex-faith-paired


def areas():
    """Two images first; then more, as a rule easy or hard for both orders."""
    yield torch.tensor([0.5, 0.7]), torch.tensor([0.1, 0.6])
    chance = torch.Generator().manual_seed(0)
    for n, alike in (3, 1.0), (5, 0.0), (16, 1.0), (100, 3.0):
        easy = torch.rand(n, generator=chance)
        yield alike * easy + torch.rand(n, generator=chance), alike * easy + 0.5 * torch.rand(n, generator=chance)


def mean_and(error):
    """A wrong answer with the right mean; `error` of both areas and of their difference."""
    return lambda own, rival: ((own - rival).mean(), error(own, rival, own - rival))


LEAD = Code(
    "lead",
    "Mean and standard error of the lead of areas `own` (n,) over `rival` (n,), image by image.",
    areas,
    lambda own, rival: (own.mean() - rival.mean(), torch.cov(own - rival).item() ** 0.5 / math.sqrt(len(own))),
    "2 to 100 images, areas that go together and areas that do not",
    [
        Mistake(
            "the error is that of two separate tests; the images are the same, so take the difference first",
            like=mean_and(lambda a, b, d: ((a.var() + b.var()) / len(a)).sqrt()),
        ),
        Mistake(
            "the two errors are added; take the difference of the areas first, and the error of that",
            like=mean_and(lambda a, b, d: (a.std() + b.std()) / len(a) ** 0.5),
        ),
        Mistake(
            "this is the deviation of single images; the mean's error is smaller by the root of their number",
            like=mean_and(lambda a, b, d: d.std()),
        ),
        Mistake(
            "the deviation is divided by the number of images; divide by its root",
            like=mean_and(lambda a, b, d: d.std() / len(d)),
        ),
        Mistake(
            "the deviation is divided by n; a sample's is divided by n − 1, as `std` does it",
            like=mean_and(lambda a, b, d: d.std(correction=0) / len(d) ** 0.5),
        ),
        Mistake(
            "the deviation is divided by √(n − 1): `std` has that correction already",
            like=mean_and(lambda a, b, d: d.std() / (len(d) - 1) ** 0.5),
        ),
        Mistake(
            "this is the squared error; take its root",
            like=mean_and(lambda a, b, d: d.var() / len(d)),
        ),
        Mistake(
            "the error is the rival's, or that of `own`; the lead has its own",
            when=lambda f, a, b: any(math.isclose(f(a, b)[1], x.std() / len(x) ** 0.5, rel_tol=1e-4) for x in (a, b)),
        ),
        Mistake(
            "the sign is turned: positive means that `own` leads",
            like=lambda own, rival: ((rival - own).mean(), (own - rival).std() / len(own) ** 0.5),
        ),
        Mistake(
            "the leads are taken without their signs; where the rival is better it counts against",
            like=lambda own, rival: ((d := (own - rival).abs()).mean(), d.std() / len(d) ** 0.5),
        ),
        Mistake(
            "the mean is right, and no error with it: two numbers are asked for",
            like=lambda own, rival: (own - rival).mean(),
        ),
    ],
    observe=lambda result, *a: [float(r) for r in result] if isinstance(result, (tuple, list)) else float(result),
)  # fmt: skip


# ex-faith-baseline


def fillings():
    """Pictures, a map and a filler: zeros first, then others; steps of one, two and three patches."""
    chance = torch.Generator().manual_seed(1)
    for n, (model, images, classes) in enumerate(pictures()):
        maps = torch.randn(len(images), *model.patch_embed.grid_size, generator=chance)
        filler = torch.randn(images.shape, generator=chance) if n else torch.zeros_like(images)
        yield model, images, maps, classes, filler, (1, 2, 3, 1)[n]


def curve(model, images, maps, classes, filler, every, largest=True, start=0, end=0, measure=probability):
    """Probabilities while patches go, (B, S), with room for the usual mistakes."""
    order = maps.flatten(1).argsort(dim=1, descending=largest)
    points = []
    for count in range(start, order.shape[1] + 1 - end, every):
        patches, others = cut(model, images), cut(model, filler)
        for b, gone in enumerate(order[:, :count]):
            patches[b, gone] = others[b, gone]
        points.append(measure(model, put_together(model, patches), classes))
    return torch.stack(points, dim=1)


def under(points):
    """The area by trapezoids: all points, the two at the ends by half."""
    inner = points.sum(dim=1) - (points[:, 0] + points[:, -1]) / 2
    return inner / (points.shape[1] - 1)


def filled(**changes):
    return lambda *arguments: under(curve(*arguments, **changes))


def erased(model, images, maps, classes, filler, every=8):
    shares, deletion, _ = erasing_curves(model, images, maps, classes, every)
    return area(shares, deletion)


FILLED = Code(
    "filled_area",
    "Area (B,) under the deletion curve of `classes` when `filler`, shaped as `images`, stands where patches were.",
    fillings,
    filled(),
    "fillers of several kinds, steps of one to three patches, against pictures mended patch by patch",
    [
        Mistake(
            "the order is upside down, or this is insertion, with the same area: the largest patches go first",
            like=filled(largest=False),
        ),
        Mistake("the filler is not used: 0 stands where patches were", like=erased),
        Mistake(
            "the curve lacks its first point, the whole picture",
            like=lambda *a: under(curve(*a, start=a[-1])),
        ),
        Mistake(
            "the curve lacks its last point, at which all patches are gone",
            like=filled(end=1),
        ),
        Mistake("the logit is followed; a probability needs the softmax", like=filled(measure=logit)),
        Mistake(
            "the largest probability of each step is followed, which may be another class's",
            like=filled(measure=lambda m, x, c: m(x).softmax(dim=1).amax(dim=1)),
        ),
        Mistake(
            "this is the mean of the points; the area has trapezoids, in which the two ends count half",
            like=lambda *a: curve(*a).mean(dim=1),
        ),
        Mistake(
            "the points are added up; an area needs the width of a step, so that the whole way is 1",
            like=lambda *a: curve(*a).sum(dim=1),
        ),
        Mistake(
            "the width of a step is missing: the whole way is 1",
            like=lambda *a: under(points := curve(*a)) * (points.shape[1] - 1),
        ),
        Mistake(
            "the step is 1 / S; between S points there are S − 1 steps",
            like=lambda *a: under(points := curve(*a)) * (points.shape[1] - 1) / points.shape[1],
        ),
        Mistake("one number for all pictures; each has its own area", like=lambda *a: under(curve(*a)).mean()),
    ],
    tolerance=1e-5,
)  # fmt: skip


# Predictions

FLAT = Prediction(
    "ex-faith-flat",
    "A flat 2 × 3 map: its ranks, its correlation with itself, and the blind order to compare it with.",
    [
        Part("ranks", [0, 1, 2, 3, 4, 5], {
            (0, 0, 0, 0, 0, 0): "a rank is a place in the order, and each place is given once",
            (5, 4, 3, 2, 1, 0): "equal values keep the order in which they stand: the sort is stable",
            (1, 2, 3, 4, 5, 6): "the first place is 0",
        }),
        Part("correlation", 1, {
            0: "it compares two orders, and they are the same; that nobody meant them it cannot know",
            -1: "that would be the reverse order",
        }),
        Part("blind order", "random", {
            "centre": "that one knows where the middle is; reading order knows nothing of pictures",
            "rollout": "that one has looked at the model",
        }),
    ],
)  # fmt: skip

CASCADE = Prediction(
    "ex-faith-cascade",
    "Head alone shuffled: the rank correlation of rollout, and where the gradient-weighted maps' begins.",
    [
        Part("rollout", 1, {
            0: "that would need an order that has nothing to do with the old one; which weights did rollout read?",
            0.5: "what of rollout depends on the head?",
            -1: "that would be the reverse order; what of rollout depends on the head?",
        }),
        Part("gradient-weighted", "lower", {
            "same": "its gradient goes through the head, on the way from the logit",
            "higher": "a correlation of 1 is the highest there is",
        }),
    ],
)  # fmt: skip

CHECKS = [FLAT, OCCLUSION, LEAD, CASCADE, FILLED]
