"""The checks of chapter 15, attention maps."""

import torch
from torch import Tensor, nn

from vit_edu.attention_maps import gradient_maps, patch_map, relevance, rollout
from vit_edu.exercises import Code, Mistake, Part, Prediction
from vit_edu.model import VisionTransformer


def made(*shape: int, seed: int = 0) -> Tensor:
    """Weights of which each row sums to 1, none like another."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).softmax(dim=-1)


def vit(seed: int, img_size: tuple[int, int], **options) -> VisionTransformer:
    """A small model of 2 × 2 patches with an opinion: a fresh one's head is zero."""
    torch.default_generator.manual_seed(seed)
    model = VisionTransformer(img_size, 2, 1, 3, **dict(embed_dim=8, depth=2, n_heads=2) | options).eval()
    nn.init.normal_(model.head.weight)
    return model


# ex-maps-query


def query_cases():
    """Mean pooling, a class token, registers, on grids of two rows and three columns and others; more axes in front."""
    kinds = {"pool": "mean"}, {}, {"n_registers": 2}, {"pool": "mean", "n_registers": 3}
    for seed, options in enumerate(kinds):
        model = vit(seed, (4, 6), **options)
        n = model.n_prefix + 6
        yield made(n, n, seed=seed), model, 1, 0
        yield made(2, n, n, seed=seed), model, 0, 2
        yield made(2, 1, 3, n, n, seed=seed), model, 1, 1
    square = vit(9, (6, 6))
    yield made(10, 10, seed=9), square, 1, 2


def row_of(maps, model, asks, first=None):
    """One row of the table on the grid, from its column `first` on."""
    first = model.n_prefix if first is None else first
    n = model.patch_embed.n_patches
    return maps[..., asks, first : first + n].unflatten(-1, model.patch_embed.grid_size)


def number(model, row, column):
    return row * model.patch_embed.grid_size[1] + column


def who_reads(maps, model, row, column):
    return row_of(maps.mT, model, model.n_prefix + number(model, row, column))


def right_query(maps, model, row, column):
    every = maps[..., model.n_prefix :, model.n_prefix :]
    grid = model.patch_embed.grid_size
    return every.unflatten(-2, grid).unflatten(-1, grid)[..., row, column, :, :]


QUERY = Code(
    "query_map",
    "What the patch at (row, column) reads: maps (..., N, N) to (..., rows, columns).",
    query_cases,
    right_query,
    "with and without class token and registers, two grids, against the table unfolded on both axes",
    [
        Mistake(
            "the row that asks is not the patch's: class token and registers stand before the patches",
            like=lambda m, v, r, c: row_of(m, v, number(v, r, c)),
        ),
        Mistake(
            "the columns are shifted: the first ones belong to class token and registers, which lie on no grid",
            like=lambda m, v, r, c: row_of(m, v, v.n_prefix + number(v, r, c), first=0),
        ),
        Mistake(
            "class token and registers are forgotten, in the row that asks and in the columns",
            like=lambda m, v, r, c: row_of(m, v, number(v, r, c), first=0),
        ),
        Mistake(
            "the registers are forgotten in the row that asks: the prefix is more than the class token",
            like=lambda m, v, r, c: row_of(m, v, (v.pool == "cls") + number(v, r, c)),
        ),
        Mistake("this is a column: who reads the patch. What it reads is its row", like=who_reads),
        Mistake(
            "the patch's number is row × columns + column; yours multiplies by the number of rows",
            like=lambda m, v, r, c: row_of(m, v, v.n_prefix + r * v.patch_embed.grid_size[0] + c),
        ),
        Mistake(
            "row and column are exchanged: patches are counted along the rows",
            like=lambda m, v, r, c: row_of(m, v, v.n_prefix + number(v, c, r)),
        ),
        Mistake(
            "rows and columns of the picture are exchanged",
            like=lambda m, v, r, c: right_query(m, v, r, c).mT,
        ),
        Mistake(
            "the picture is folded as columns × rows; it is rows × columns",
            like=lambda m, v, r, c: right_query(m, v, r, c).flatten(-2).unflatten(-1, v.patch_embed.grid_size[::-1]),
        ),
        Mistake(
            "this is what the model's output reads, whichever patch is asked for",
            like=lambda m, v, r, c: patch_map(m, v),
        ),
        Mistake(
            "the map is scaled to sum to 1; what class token and registers got is not the patches'",
            like=lambda m, v, r, c: (x := right_query(m, v, r, c)) / x.sum(dim=(-1, -2), keepdim=True),
        ),
    ],
)  # fmt: skip


# ex-maps-drop


def drop_cases():
    """One block and one head first; then several, from two weights a row to all."""
    yield torch.tensor([[[[0.6, 0.3, 0.1], [0.25, 0.7, 0.05], [0.2, 0.35, 0.45]]]]), 1
    for seed, (blocks, heads, n, keep) in enumerate([(1, 1, 4, 2), (2, 1, 4, 1), (2, 2, 5, 2), (3, 3, 9, 4), (6, 2, 7, 7)]):
        yield made(blocks, heads, n, n, seed=seed), keep


def largest(weights, keep):
    """The `keep` largest of each row, 0 for the others."""
    values, places = weights.topk(keep, dim=-1)
    return torch.zeros_like(weights).scatter(-1, places, values)


def of_the_whole_table(weights, keep):
    return largest(weights.flatten(), keep * len(weights)).view_as(weights)


def rolled(
    dropped=lambda maps, keep: largest(maps.mean(dim=1), keep),
    scaled=lambda a: a / a.sum(dim=-1, keepdim=True),
    identity=True,
    last_left=True,
):
    """The right rollout, with room for its usual mistakes."""

    def answer(maps, keep):
        mixed = torch.eye(maps.shape[-1])
        for a in dropped(maps, keep):
            a = scaled(a + identity * torch.eye(len(a)))
            mixed = a @ mixed if last_left else mixed @ a
        return mixed

    return answer


def scaled_before(maps, keep):
    a = largest(maps.mean(dim=1), keep)
    return a / a.sum(dim=-1, keepdim=True)


def rows_do_not_sum_to_1(function, maps, keep):
    return not torch.allclose(function(maps, keep).sum(dim=-1), torch.ones(maps.shape[-1]), atol=1e-4)


DROP = Code(
    "rollout_of_largest",
    "Rollout (N, N) of one picture's maps (L, h, N, N), from the `keep` largest weights of each row.",
    drop_cases,
    rolled(),
    "one to six blocks, from one weight a row to all, against the same by another way",
    [
        Mistake(
            "the wrong axis: without keepdim=True entry (i, j) is divided by the sum of row j",
            like=rolled(scaled=lambda a: a / a.sum(dim=-1)),
        ),
        Mistake(
            "the columns are made to sum to 1; a token's shares are its row",
            like=rolled(scaled=lambda a: a / a.sum(dim=0)),
        ),
        Mistake(
            "each row is divided by the sum of the column of its number",
            like=rolled(scaled=lambda a: a / a.sum(dim=0)[:, None]),
        ),
        Mistake("the rows are never divided by their sums", like=rolled(scaled=lambda a: a)),
        Mistake(
            "the rows are divided by 2, as if nothing had been dropped; divide by their sums",
            like=rolled(scaled=lambda a: a / 2),
        ),
        Mistake(
            "the product is turned round: the last block stands on the left",
            like=rolled(last_left=False),
        ),
        Mistake("the identity is missing: a block keeps its input, too", like=rolled(identity=False)),
        Mistake(
            "the largest of the whole table are kept; each row has its own",
            like=rolled(lambda maps, keep: [of_the_whole_table(a, keep) for a in maps.mean(dim=1)]),
        ),
        Mistake(
            "small weights are dropped head by head; the heads are averaged first",
            like=rolled(lambda maps, keep: largest(maps, keep).mean(dim=1)),
        ),
        Mistake(
            "the smallest weights are kept; drop those",
            like=rolled(lambda maps, keep: -largest(-maps.mean(dim=1), keep)),
        ),
        Mistake("nothing is dropped, whatever `keep` is", like=rolled(lambda maps, keep: maps.mean(dim=1))),
        Mistake(
            "the largest head is taken; the mean over heads is asked for",
            like=rolled(lambda maps, keep: largest(maps.amax(dim=1), keep)),
        ),
        Mistake(
            "the rows are divided before the identity is added; what was dropped makes attention's part smaller",
            like=lambda maps, keep: rolled(scaled_before, scaled=lambda a: a / 2)(maps, keep),
        ),
        Mistake(
            "only the last block is there: is `mixed` carried from block to block?",
            like=lambda maps, keep: rolled()(maps[-1:], keep),
        ),
        Mistake("the rows do not sum to 1, so they are no shares of the input's tokens", when=rows_do_not_sum_to_1),
    ],
    tolerance=1e-5,
)  # fmt: skip


# ex-maps-two


def contrast_cases():
    """The same class twice, then two; a class token, registers, a grid that is no square; classes image by image."""
    chance = torch.Generator().manual_seed(0)
    for seed, (options, n, a, b) in enumerate([
        ({"pool": "mean"}, 1, 0, 0), ({"pool": "mean"}, 1, 0, 1), ({}, 2, 2, 0), ({"n_registers": 1}, 3, 1, 2),
        ({"pool": "mean"}, 3, torch.tensor([0, 1, 2]), torch.tensor([1, 1, 0])),
    ]):  # fmt: skip
        yield vit(seed, (4, 6), **options), torch.randn(n, 1, 4, 6, generator=chance), a, b


def relevant(model, images, classes):
    return patch_map(relevance(gradient_maps(model, images, classes)), model).flatten(1)    # (B, patches)


def share(map):
    return map / map.sum(dim=1, keepdim=True)


def compared(how, scale=share):
    """An answer that compares two scaled maps by `how`."""

    def answer(model, images, a, b):
        return how(scale(relevant(model, images, a)), scale(relevant(model, images, b)))

    return answer


def smaller(r, s):
    return torch.minimum(r, s).sum(dim=1)


def of_rows(model, images, classes):
    """Without the way through the blocks: the last block's weighted map alone."""
    return patch_map(gradient_maps(model, images, classes)[-1], model).flatten(1)


def hears_no_class(function, model, images, a, b):
    differ = not torch.equal(torch.as_tensor(a), torch.as_tensor(b))
    return differ and torch.allclose(function(model, images, a, b), torch.ones(len(images)), atol=1e-5)


CONTRAST = Code(
    "contrast",
    "Share (B,) of gradient-weighted relevance that classes a and b place on the same patches.",
    contrast_cases,
    compared(lambda r, s: 1 - (r - s).abs().sum(dim=1) / 2),
    "one class and two, with and without class token, against 1 less half of the maps' distance",
    [
        Mistake(
            "this is 1 for different classes: raw maps and rollout are the same whatever the class",
            when=hears_no_class,
        ),
        Mistake(
            "the maps are not scaled to sum to 1, so these are no shares",
            like=compared(smaller, scale=lambda map: map),
        ),
        Mistake(
            "all pictures together are scaled to sum to 1; scale each picture's map",
            like=compared(smaller, scale=lambda map: map / map.sum()),
        ),
        Mistake(
            "the maps are scaled by their largest value; a share needs the sum",
            like=compared(smaller, scale=lambda map: map / map.amax(dim=1, keepdim=True)),
        ),
        Mistake(
            "the larger of the two shares is taken; they have the smaller in common",
            like=compared(lambda r, s: torch.maximum(r, s).sum(dim=1)),
        ),
        Mistake(
            "this is their distance, which counts each shift twice: 1 less half of it is what they have in common",
            like=compared(lambda r, s: 1 - (r - s).abs().sum(dim=1)),
        ),
        Mistake(
            "this is the part that they do not share; take it from 1",
            like=compared(lambda r, s: (r - s).abs().sum(dim=1) / 2),
        ),
        Mistake("the two are multiplied; take the smaller", like=compared(lambda r, s: (r * s).sum(dim=1))),
        Mistake(
            "this is the cosine of the two maps; add up the smaller of the two shares",
            like=compared(lambda r, s: torch.cosine_similarity(r, s, dim=1)),
        ),
        Mistake(
            "the mean over patches is taken; shares are added up",
            like=compared(lambda r, s: torch.minimum(r, s).mean(dim=1)),
        ),
        Mistake(
            "one number for all pictures; each has its own",
            like=compared(lambda r, s: smaller(r, s).mean()),
        ),
        Mistake(
            "the last block's map alone is compared; `relevance` follows it through all blocks",
            like=lambda model, images, a, b: smaller(*(share(of_rows(model, images, c)) for c in (a, b))),
        ),
        Mistake(
            "the weights' rollout is compared; follow the gradient-weighted maps by `relevance`",
            like=lambda model, images, a, b: smaller(*(
                share(patch_map(rollout(gradient_maps(model, images, c)[:, :, None])[-1], model).flatten(1))
                for c in (a, b)
            )),
        ),
    ],
)  # fmt: skip


# Predictions

EVEN = Prediction(
    "ex-maps-even",
    "Six blocks of even weights over 64 tokens: a token's own share in the rollout, and the picture.",
    [
        Part("own share", 2**-6 + (1 - 2**-6) / 64, {
            1 / 64: "two things bring it home: what residual connections kept all the way, and its part of the rest",
            1: "the residual connections keep a half in each block, six times",
            0.5: "that is the part that one block's residual connection keeps; there are six",
            0: "the residual connections keep a part, and each mixture holds it again",
            0.5 + 0.5 / 64: "that is after one block",
        }, within=1e-3),
        Part("the picture", "even", {
            "diagonal": "the table has a bright diagonal; the picture is the mean of all its rows",
            "centre": "nothing prefers any place: no row does, so their mean does not",
        }),
    ],
)  # fmt: skip

CHECKS = [EVEN, QUERY, DROP, CONTRAST]
