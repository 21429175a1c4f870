"""The checks of chapter 06, other people's weights."""

import copy

import torch

from vit_edu.attention import Attention
from vit_edu.exercises import Code, Mistake, Part, Prediction

# ex-weights-by-head


def by_head_cases():
    """One head first, then numbers that tell their own place: weights and biases, odd and even heads and widths."""
    for n_heads, d, columns in [
        (2, 1, ()), (1, 2, ()), (2, 2, ()), (3, 2, (6,)), (2, 3, (5,)), (4, 2, (8,)), (5, 1, (1,)),
    ]:  # fmt: skip
        n = 3 * n_heads * d
        yield torch.arange(n * (columns or (1,))[0]).float().reshape(n, *columns), n_heads


def by_head(rows, n_heads):
    return torch.cat([head.chunk(3)[kind] for kind in range(3) for head in rows.chunk(n_heads)])


def read_as(order, *shape):
    """A wrong answer: the rows read as a table of this shape (h: heads, d: what is left), its axes put in `order`."""

    def answer(rows, n_heads):
        sizes = [{"h": n_heads, "d": len(rows) // 3 // n_heads}.get(size, size) for size in shape]
        table = rows.reshape(*sizes, *rows.shape[1:])
        rest = range(len(sizes), table.ndim)
        return table.permute(*order, *rest).reshape(rows.shape)

    return answer


BY_HEAD = Code(
    "sorted_qkv",
    "Rows of qkv stored head by head, (3D, D) or (3D,), in our order.",
    by_head_cases,
    by_head,
    "biases and weights, one to five heads, against a loop over the heads",
    [
        Mistake(
            "nothing has changed: reshape alone moves no row, swap the two axes as well",
            like=lambda rows, n_heads: rows.clone(),
        ),
        Mistake(
            "this is the way back, from our order to head by head: here the heads come first",
            like=read_as((1, 0, 2), 3, "h", "d"),
        ),
        Mistake(
            "within a head, query, key and value are blocks of d rows each; you take every third row",
            like=read_as((2, 0, 1), "h", "d", 3),
        ),
        Mistake(
            "every third row is taken, whatever its head: a head holds its query, key and value in blocks",
            like=lambda rows, n_heads: torch.cat([rows[kind::3] for kind in range(3)]),
        ),
        Mistake(
            "the order of the kinds is turned round: queries, keys, values",
            like=lambda rows, n_heads: torch.cat(by_head(rows, n_heads).chunk(3)[::-1]),
        ),
        Mistake(
            "the numbers of each head come out, one after the other, instead of the heads: d stays the last axis",
            like=read_as((1, 2, 0), "h", 3, "d"),
        ),
        Mistake(
            "only the queries are there: keys and values follow them",
            like=lambda rows, n_heads: by_head(rows, n_heads).chunk(3)[0],
        ),
    ],
    returns=torch.Tensor,
)  # fmt: skip


# ex-weights-value-bias


def layers():
    """Attention layers with random weights and biases everywhere."""
    for seed, (dim, n_heads) in enumerate([(2, 1), (4, 2), (6, 3), (24, 3)]):
        torch.default_generator.manual_seed(seed)
        layer = Attention(dim, n_heads, qkv_bias=True)
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter)
        yield (layer,)


def moved(layer, part=slice(-1, None), through=lambda matrix, bias: matrix @ bias, clear=True):
    """The right answer, with room for its usual mistakes; `part`: which thirds of the bias are moved."""
    layer = copy.deepcopy(layer)
    with torch.no_grad():
        for bias in layer.qkv.bias.chunk(3)[part]:
            layer.proj.bias += through(layer.proj.weight, bias)
            bias *= not clear
    return layer


def every_third(layer):
    layer = copy.deepcopy(layer)
    with torch.no_grad():
        layer.proj.bias += layer.proj.weight @ layer.qkv.bias[2::3]
        layer.qkv.bias[2::3] = 0
    return layer


def all_zero(layer):
    layer = moved(layer)
    layer.qkv.bias.data.zero_()
    return layer


def outputs_and_biases(result, layer):
    torch.default_generator.manual_seed(0)
    return [result(torch.randn(2, 5, layer.proj.in_features)), *result.qkv.bias.chunk(3)]


MOVE = Code(
    "move_value_bias",
    "A copy of an Attention: value biases zero, outputs the same.",
    layers,
    moved,
    "one to three heads, outputs and biases before and after",
    [
        Mistake("nothing has changed: the value bias is still where it was", like=lambda layer: layer),
        Mistake(
            "the value bias is added as it is; on its way out it goes through the projection's matrix",
            like=lambda layer: moved(layer, through=lambda matrix, bias: bias),
        ),
        Mistake(
            "the matrix is transposed: nn.Linear keeps it as (out, in) and computes W b",
            like=lambda layer: moved(layer, through=lambda matrix, bias: matrix.T @ bias),
        ),
        Mistake(
            "what the projection makes of it is subtracted; it has to be added",
            like=lambda layer: moved(layer, through=lambda matrix, bias: -(matrix @ bias)),
        ),
        Mistake(
            "the value bias is gone and nothing makes up for it: was it set to zero before it was moved?",
            like=lambda layer: moved(layer, through=lambda matrix, bias: 0),
        ),
        Mistake(
            "the projection's old bias is lost: add to it",
            like=lambda layer: moved(layer, through=lambda matrix, bias: matrix @ bias - layer.proj.bias),
        ),
        Mistake(
            "proj has it now and the value bias is still there: it acts twice",
            like=lambda layer: moved(layer, clear=False),
        ),
        Mistake(
            "this is the key's bias; the values are the last of the three",
            like=lambda layer: moved(layer, slice(1, 2)),
        ),
        Mistake(
            "this is the query's bias; the values are the last of the three",
            like=lambda layer: moved(layer, slice(0, 1)),
        ),
        Mistake(
            "all of qkv's bias is zero now; the query's does something, and it stays",
            like=all_zero,
        ),
        Mistake(
            "every third number is taken; q, k and v are stored one after the other, in three equal parts",
            like=every_third,
        ),
    ],
    observe=outputs_and_biases,
    returns=torch.nn.Module,
)  # fmt: skip


# Predictions

HEADS = Prediction(
    "ex-weights-heads",
    "ViT-Base with 6 heads instead of 12: which check notices?",
    [Part("notices", "parity", {
        "shape": "six heads of 128 numbers are as wide as twelve of 64",
        "count": "heads cut up the width: the matrices have the same sizes",
        "none": "each head now takes a softmax over other scores: the numbers differ",
    })],
)  # fmt: skip

FRESH = Prediction(
    "ex-weights-fresh",
    "Mutants of five that parity catches: as born, and with the head filled.",
    [
        Part("as born", 0, {
            1: "what comes after the mistake, at the very end of the model, and which numbers are in it?",
            4: "that is with every parameter filled; the head of a fresh model is zero",
            5: "one is the same function, and the head of a fresh model is zero",
        }),
        Part("with the head filled", 4, {
            0: "now the logits are not zero any more: what differs before the head comes through",
            3: "the smallest of them is still far above 1e-5: all but the key bias come out",
            5: "one is the same function, whatever its weights",
        }),
    ],
)  # fmt: skip

CHECKS = [HEADS, FRESH, BY_HEAD, MOVE]
