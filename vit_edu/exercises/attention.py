"""The checks of chapter 02, attention."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vit_edu.attention import Attention
from vit_edu.exercises import Code, Mistake, Part, Prediction


def made(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ex-attention-online


def pieces_cases():
    """One key first, then odd and even lengths, pieces that do not fit, values of another width, huge scores."""
    yield torch.ones(1), torch.ones(1, 1), torch.ones(1, 1), 1
    yield torch.tensor([2.0]), torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [1.0]]), 1
    yield torch.ones(4), torch.eye(4)[:2], torch.eye(2), 2
    for seed, (n, d, width, piece) in enumerate([
        (3, 2, 2, 2), (5, 4, 4, 5), (6, 3, 2, 5), (7, 4, 5, 3), (17, 64, 64, 5), (16, 8, 8, 4), (40, 16, 3, 7),
        (4, 9, 1, 10),
    ]):  # fmt: skip
        yield made(d, seed=seed), made(n, d, seed=seed + 100), made(n, width, seed=seed + 200), piece
    rising = torch.arange(12.0)[:, None] * 40                 # the largest score comes last, e^s would overflow
    yield torch.ones(1), rising, made(12, 2), 5
    yield torch.ones(1), rising.flip(0), made(12, 2), 5       # and first
    yield torch.ones(1), -rising - 200, made(12, 2), 5        # all are far below zero
    yield 3 * made(8, seed=7), 3 * made(23, 8, seed=8), made(23, 4, seed=9), 5


def all_at_once(query, keys, values, piece=5):
    return F.scaled_dot_product_attention(query[None], keys, values)[0]


def with_scores(query, keys, values, scale):
    return ((keys @ query) * scale).softmax(0) @ values


def in_pieces(query, keys, values, piece, shrink_total=True, shrink_average=True, stop=None, largest=-math.inf):
    """The right loop, with room for its usual mistakes."""
    largest, total = torch.tensor(largest), torch.tensor(0.0)
    average = torch.zeros(values.shape[1])
    for start in range(0, len(keys) if stop is None else stop, piece):
        s = keys[start : start + piece] @ query / len(query) ** 0.5
        new = torch.maximum(largest, s.max())
        power, shrink = (s - new).exp(), (largest - new).exp()
        total = total * (shrink if shrink_total else 1) + power.sum()
        average = average * (shrink if shrink_average else 1) + power @ values[start : start + piece]
        largest = new
    return average / total


def softmax_of_each_piece(query, keys, values, piece):
    parts = [(k @ query / len(query) ** 0.5).softmax(0) @ v for k, v in zip(keys.split(piece), values.split(piece))]
    return torch.stack(parts).mean(0)


def without_maximum(query, keys, values, piece):
    power = (keys @ query / len(query) ** 0.5).exp()
    return power @ values / power.sum()


class ScoresWatch(TorchFunctionMode):
    """Notes whether a tensor of n numbers in a row, or a fused attention over n keys, was computed meanwhile."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n, self.held = n, False

    def __torch_function__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        if isinstance(result, Tensor) and result.is_floating_point():
            in_a_row = result.numel() == self.n and self.n in result.shape
            self.held |= in_a_row or function is F.scaled_dot_product_attention
        return result


def holds_all_scores(function, query, keys, values, piece):
    n, d = keys.shape
    if n <= piece or n in (d, values.shape[1], -(-n // piece)):    # a row of n may be something else here
        return False
    with ScoresWatch(n) as watch:
        function(query, keys, values, piece)
    return watch.held


ONLINE = Code(
    "attention_in_pieces",
    "One query (d,), keys (N, d), values (N, D): the output (D,), never holding all N scores.",
    pieces_cases,
    all_at_once,
    "pieces that fit and that do not, scores up to 440, against PyTorch's fused attention",
    [
        Mistake(
            "the scores are not divided by √d",
            like=lambda q, k, v, piece: with_scores(q, k, v, 1),
        ),
        Mistake(
            "the scores are divided by d; it is its root, √d",
            like=lambda q, k, v, piece: with_scores(q, k, v, 1 / len(q)),
        ),
        Mistake(
            "the scores are divided by the root of the number of keys; it is the length d of the query that counts",
            like=lambda q, k, v, piece: with_scores(q, k, v, len(k) ** -0.5),
        ),
        Mistake(
            "the scores are multiplied by √d; divide by it",
            like=lambda q, k, v, piece: with_scores(q, k, v, len(q) ** 0.5),
        ),
        Mistake(
            "when a new largest score turns up, both running sums must shrink; yours stay as they were",
            like=lambda *a: in_pieces(*a, shrink_total=False, shrink_average=False),
        ),
        Mistake(
            "the sum of values shrinks with a new largest score, the sum of powers does not",
            like=lambda *a: in_pieces(*a, shrink_total=False),
        ),
        Mistake(
            "the sum of powers shrinks with a new largest score, the sum of values does not",
            like=lambda *a: in_pieces(*a, shrink_average=False),
        ),
        Mistake(
            "the last piece is left out where it is shorter than the others",
            like=lambda q, k, v, piece: in_pieces(q, k, v, piece, stop=len(k) // piece * piece),
        ),
        Mistake(
            "only the first piece is looked at: is the `return` inside the loop?",
            like=lambda q, k, v, piece: in_pieces(q, k[:piece], v[:piece], piece),
        ),
        Mistake(
            "the largest score begins at 0; where all scores lie far below, every power vanishes: begin at −∞",
            like=lambda *a: in_pieces(*a, largest=0.0),
        ),
        Mistake(
            "each piece gets a softmax of its own; the shares must be shares of all keys",
            like=softmax_of_each_piece,
        ),
        Mistake(
            "e^s overflows for large scores: subtract the largest score so far before the exponential",
            like=without_maximum,
        ),
        Mistake(
            "the weighted values are summed and never divided by the sum of the powers",
            like=lambda q, k, v, piece: (
                (s := k @ q / len(q) ** 0.5) - s.max()
            ).exp() @ v,
        ),
        Mistake("all N scores are there at once; look at `piece` keys, then at the next", when=holds_all_scores),
    ],
)  # fmt: skip


# ex-attention-bias


def bias_cases():
    for dim, heads, seed in (4, 1, 0), (6, 2, 1), (24, 3, 2):
        torch.default_generator.manual_seed(seed)
        layer, x = Attention(dim, heads, qkv_bias=True), torch.randn(2, 5, dim)
        yield layer, x
    layer = Attention(6, 3, qkv_bias=True)
    layer(torch.randn(1, 3, 6)).sum().backward()    # a gradient of somebody else's is still there
    yield layer, torch.randn(1, 4, 6)


def gradient_of_bias(layer, x, loss=lambda y: y.square().mean(), parameter="bias"):
    (gradient,) = torch.autograd.grad(loss(layer(x)), [getattr(layer.qkv, parameter)])
    return gradient


def norms(parts):
    return tuple(part.norm().item() for part in parts)


def still_there(layer, x):
    """The gradient added to the one that was there before."""
    before = 0 if layer.qkv.bias.grad is None else layer.qkv.bias.grad
    return norms((before + gradient_of_bias(layer, x)).chunk(3))


BIAS = Code(
    "bias_gradients",
    "For attention with qkv_bias and tokens x, the gradient norms of the biases of q, k, v; loss: the mean of y².",
    bias_cases,
    lambda layer, x: norms(gradient_of_bias(layer, x).chunk(3)),
    "widths 4 to 24, one to three heads, against torch.autograd.grad",
    [
        Mistake("an old gradient is still in it: call layer.zero_grad() first", like=still_there),
        Mistake(
            "this is the gradient of the weight; the bias is asked for",
            like=lambda layer, x: norms(gradient_of_bias(layer, x, parameter="weight").chunk(3)),
        ),
        Mistake(
            "every third number is taken; q, k and v are stored one after the other, in three equal parts",
            like=lambda layer, x: norms(gradient_of_bias(layer, x)[i::3] for i in range(3)),
        ),
        Mistake(
            "this is the norm of the whole bias; split it in three first",
            like=lambda layer, x: gradient_of_bias(layer, x).norm().item(),
        ),
        Mistake(
            "the loss is the sum of y²; take the mean",
            like=lambda layer, x: norms(gradient_of_bias(layer, x, lambda y: y.square().sum()).chunk(3)),
        ),
        Mistake(
            "the loss is the mean of y; square y first",
            like=lambda layer, x: norms(gradient_of_bias(layer, x, lambda y: y.mean()).chunk(3)),
        ),
        Mistake(
            "these are the norms of the biases themselves; ask for their gradients",
            like=lambda layer, x: norms(layer.qkv.bias.chunk(3)),
        ),
        Mistake(
            "the order is q, k, v; yours is turned round",
            like=lambda layer, x: norms(gradient_of_bias(layer, x).chunk(3))[::-1],
        ),
        Mistake(
            "these are mean squares; the norm is the root of the sum of squares",
            like=lambda layer, x: tuple(part.square().mean().item() for part in gradient_of_bias(layer, x).chunk(3)),
        ),
    ],
    observe=lambda result, *a: [float(r) for r in result] if isinstance(result, (tuple, list)) else float(result),
    tolerance=1e-5,
)


# Predictions

SHAPES = Prediction(
    "ex-attention-shapes",
    "ViT-B/16 at 224 pixels: D = 768, 12 heads, 197 tokens; one image, one layer.",
    [
        Part("shape of qkv(x)", (1, 197, 2304), {
            (1, 197, 768): "that is one of the three; qkv holds queries, keys and values side by side",
            (197, 2304): "the batch of one image is an axis, too",
            (1, 196, 2304): "that counts the patches without the class token",
            (3, 1, 197, 768): "the three stand side by side in the width until `forward` splits them",
        }),
        Part("shape of q", (1, 12, 197, 64), {
            (1, 197, 768): "that is before the heads are split",
            (1, 197, 12, 64): "the heads go in front of the tokens, so that each head is a matrix",
            (1, 12, 197, 768): "the heads share the width: 768 / 12 for each",
            (1, 12, 196, 64): "that counts the patches without the class token",
            (12, 197, 64): "the batch of one image is an axis, too",
        }),
        Part("shape of the weights", (1, 12, 197, 197), {
            (1, 197, 197): "each head has a table of its own",
            (1, 12, 197, 64): "that is a query; the weights are queries × keys",
            (1, 12, 196, 196): "that counts the patches without the class token",
            (12, 197, 197): "the batch of one image is an axis, too",
        }),
        Part("number of weights", 12 * 197**2, {
            197**2: "that is one head",
            12 * 196**2: "that counts the patches without the class token",
            12 * 197: "that many rows there are; each has 197 numbers",
        }),
        Part("parameters", 4 * 768**2 + 4 * 768, {
            4 * 768**2: "that leaves out the biases",
            3 * 768**2 + 3 * 768: "that leaves out proj",
            3 * 768**2: "that leaves out proj and the biases",
            4 * 768**2 + 768: "qkv has biases, too",
            12 * (4 * 768**2 + 4 * 768): "heads split the width, not the parameters: there is one qkv for all",
        }),
        Part("parameters with 3 heads", 4 * 768**2 + 4 * 768, {
            768**2 + 768: "heads split the width, not the parameters",
            (4 * 768**2 + 4 * 768) // 4: "heads split the width, not the parameters",
            4 * 768**2: "that leaves out the biases",
        }),
    ],
)  # fmt: skip

SILENT = Prediction(
    "ex-attention-silent",
    "A query of zeros among 17 tokens: each of its weights, and what it takes home.",
    [
        Part("each weight", 1 / 17, {
            0: "the scores are 0, and e⁰ is 1: the softmax still shares out a whole",
            1: "the weights of one query sum to 1, over all keys",
            1 / 16: "a token attends to itself, too: 17 keys",
        }, within=5e-4),
        Part("it takes home", "mean", {
            "nothing": "the weights sum to 1 whatever the query: something comes",
            "zero": "the weights sum to 1 whatever the query: something comes",
            "itself": "its own value has no more weight than any other",
            "sum": "an average, not a sum: the weights sum to 1",
        }),
    ],
)  # fmt: skip

IDLE = Prediction(
    "ex-attention-bias",
    "The bias, of q, k or v, that cannot change the output.",
    [Part("the idle bias", "k", {
        "q": "it adds q's bias times k, another number for every key: the softmax sees that",
        "v": "whatever is added to all values is added to their average",
    })],
)  # fmt: skip

PAIRS = Prediction(
    "ex-attention-flops",
    "The N at which pairs and matrices cost the same, and the share of the pairs at 197 tokens, D = 768.",
    [
        Part("N", 1536, {
            768: "4ND² = 2N²D: divide both sides by 2ND",
            384: "the other way round: N = 4D² / 2D",
            3072: "the pairs cost 2N²D: scores and averages",
            4608: "that is for a block with its MLP; here it is attention alone",
        }),
        Part("share at 197", 197 / (197 + 1536), {
            197 / 1536: "that is pairs over matrices; the share is pairs over both",
            197 / (197 + 768): "the matrices cost 4ND², the pairs 2N²D: the ratio is N / 2D",
        }, within=0.006),
    ],
)  # fmt: skip

ALIGNED = Prediction(
    "ex-attention-aligned",
    "Queries equal to keys: the weight of a token on itself for d = 1,024.",
    [Part("weight on itself", 1.0, {
        1 / 16: "that would be an even mixture; |x|² / √d grows like √d",
        0.5: "the score with itself is about √d = 32, with the others about 0: e³² against 15",
    }, within=0.011)],
)  # fmt: skip

CHECKS = [ONLINE, BIAS, SHAPES, SILENT, IDLE, PAIRS, ALIGNED]
