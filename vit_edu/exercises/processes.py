"""The checks of chapter 13, processes."""

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vit_edu.exercises import Code, Mistake, Part, Prediction

# ex-processes-uneven


def sizes_cases():
    """Equal parts, one process alone, uneven parts of two to five processes."""
    for sizes in [1, 3], [2, 2], [7], [1, 1, 2], [5, 5, 6], [250, 250, 250, 249], [3, 1, 4, 1, 5]:
        yield (sizes,)


def weighted(sizes):
    return [len(sizes) * n / sum(sizes) for n in sizes]


FACTORS = Code(
    "factors",
    "For each process's number of images, in order: the number by which it multiplies its mean loss, so that the "
    "mean of all processes' gradients is the gradient of the whole batch.",
    sizes_cases,
    weighted,
    "equal parts and uneven ones, up to five processes",
    [
        Mistake(
            "the gradient comes out too small: DDP divides by the number of processes as well",
            like=lambda sizes: [n / sum(sizes) for n in sizes],
        ),
        Mistake(
            "the other way round: a part of more images must count for more, not for less",
            like=lambda sizes: [1 / factor for factor in weighted(sizes)],
        ),
        Mistake(
            "that makes sums of the means; divide by the images of the whole batch",
            like=lambda sizes: [len(sizes) * n for n in sizes],
        ),
        Mistake("that makes sums of the means; DDP takes their mean, over processes", like=lambda sizes: list(sizes)),
        Mistake(
            "that leaves all parts the same weight, as DDP does, whatever their size",
            like=lambda sizes: [1.0 for _ in sizes],
        ),
        Mistake("measured by the largest part; the mean part is 1", like=lambda sizes: [n / max(sizes) for n in sizes]),
        Mistake(
            "divided by the number of processes; DDP has done so, and that is to be undone",
            like=lambda sizes: [n / sum(sizes) / len(sizes) for n in sizes],
        ),
    ],
    observe=lambda result, *_: [float(factor) for factor in result],
    tolerance=1e-6,
)


# ex-processes-ring


def ring_cases():
    """Two processes first, then one alone, pieces of one number and of several, up to five processes."""
    yield (torch.tensor([[1.0, 2.0], [30.0, 40.0]]),)
    for W, n in (1, 3), (2, 6), (3, 3), (3, 6), (4, 20), (5, 10):
        yield (torch.randn(W, n, generator=torch.Generator().manual_seed(n)),)


def passed(gradients, collect=None, spread=None, add=(True, False), shift=1):
    """The right rounds, with room for their usual mistakes."""
    W, sent = len(gradients), 0
    held = gradients.clone().reshape(W, W, -1)
    rounds = [add[0]] * (W - 1 if collect is None else collect) + [add[1]] * (W - 1 if spread is None else spread)
    for i, adding in enumerate(rounds):
        going = [(r - shift * i) % W for r in range(W)]
        moved = [held[r, going[r]].clone() for r in range(W)]
        for r in range(W):
            held[(r + 1) % W, going[r]] = moved[r] + (held[(r + 1) % W, going[r]] if adding else 0)
        sent += moved[0].numel()
    return held.flatten(1), sent


def summed(gradients, sent):
    return gradients.sum(0).expand_as(gradients), sent


def in_the_end(gradients):
    W, n = gradients.shape
    return summed(gradients, 2 * (W - 1) * n // W)


class SumWatch(TorchFunctionMode):
    """Notes whether whole gradients, of n numbers in a row, were added meanwhile."""

    names = {"sum", "mean", "add", "radd", "iadd", "einsum", "matmul"}

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n, self.seen = n, False

    def __torch_function__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        whole = isinstance(result, Tensor) and result.is_floating_point() and result.shape == (self.n,)
        self.seen |= whole and getattr(function, "__name__", "").strip("_") in self.names
        return result


def adds_whole_gradients(function, gradients):
    W, n = gradients.shape
    if W in (1, n):    # a piece is a whole gradient, or so many numbers travel at once
        return False
    with SumWatch(n) as watch:
        function(gradients)
    return watch.seen


RING = Code(
    "ring",
    "W gradients (W, n), each cut in W pieces: what the W processes hold after 2(W − 1) rounds, (W, n), and how many "
    "numbers each of them has sent.",
    ring_cases,
    in_the_end,
    "one process to five, pieces of one number and of several",
    [
        Mistake(
            "only half of the way: each process holds the whole sum of one piece; W − 1 more rounds send these around",
            like=lambda g: passed(g, spread=0),
        ),
        Mistake(
            "complete pieces are added to what is there; in the last W − 1 rounds they take its place",
            like=lambda g: passed(g, add=(True, True)),
        ),
        Mistake(
            "nothing is added: in the first W − 1 rounds a piece collects what it meets",
            like=lambda g: passed(g, add=(False, False)),
        ),
        Mistake(
            "each process sends the same piece in every round; it should pass on the one that has just come",
            like=lambda g: passed(g, shift=0),
        ),
        Mistake("one round too few at the end", like=lambda g: passed(g, spread=max(len(g) - 2, 0))),
        Mistake("one collecting round too few", like=lambda g: passed(g, collect=max(len(g) - 2, 0))),
        Mistake(
            "these are W rounds of each kind; W − 1 are enough, since a piece starts at home",
            like=lambda g: summed(g, 2 * g.shape[1]),
        ),
        Mistake(
            "the sums are right; you counted pieces, and each has n / W numbers",
            like=lambda g: summed(g, 2 * (len(g) - 1)),
        ),
        Mistake(
            "the sums are right; that is what all processes send together",
            like=lambda g: summed(g, 2 * (len(g) - 1) * g.shape[1]),
        ),
        Mistake(
            "the sums are right; you counted one half of the rounds",
            like=lambda g: summed(g, (len(g) - 1) * g.shape[1] // len(g)),
        ),
        Mistake(
            "whole gradients travel around, (W − 1) · n numbers; one piece a round is enough",
            like=lambda g: summed(g, (len(g) - 1) * g.shape[1]),
        ),
        Mistake(
            "these are means; the ring brings the sum, which DDP divides by W",
            like=lambda g: (g.mean(0).expand_as(g), in_the_end(g)[1]),
        ),
        Mistake(
            "that is what one process holds; return it for all, (W, n)",
            like=lambda g: (g.sum(0), in_the_end(g)[1]),
        ),
        Mistake(
            "right in the end, but whole gradients are added somewhere: only one piece may travel in a round",
            when=adds_whole_gradients,
        ),
    ],
    observe=lambda result, *_: (
        torch.stack(list(result[0])) if isinstance(result[0], (list, tuple)) else result[0],
        int(result[1]),
    ),
    returns=(tuple, list),
)


# Predictions

THREE = Prediction(
    "ex-processes-three",
    "A batch of 16 for three processes: what should happen, and what would an image among six weigh?",
    [
        Part("what should happen", "error", {
            "15": "that is another recipe: more steps in an epoch, and nobody was asked",
            "5, 5, 6": "the mean of the three means is then not the gradient of the batch",
            "16 each": "that is a batch of 48, three times what the recipe says",
        }),
        Part("weight of an image among six", 1 / 18, {
            1 / 16: "so it should be; but DDP takes the mean of three means",
            1 / 15: "that is one of a part of five",
            1 / 6: "that is its weight in its part's mean, which is one of three",
            1 / 3: "that is the weight of its whole part",
        }, within=0.0015),
    ],
)  # fmt: skip

DIFFERENT = Prediction(
    "ex-processes-chance",
    "A batch of 16, a number drawn for each image: how many different ones, in three ways?",
    [
        Part("two, seeded alike", 8, {
            16: "both draw 8 numbers from the same seed: the same 8",
            1: "within a process each image gets a number of its own",
            2: "within a process each image gets a number of its own: 8",
        }),
        Part("eight, seeded alike", 2, {
            16: "all eight draw from the same seed",
            8: "each process has two images, and all eight draw the same two numbers",
            1: "within a process each image gets a number of its own",
        }),
        Part("eight, by Apart", 16, {
            2: "Apart seeds each process by its rank",
            8: "a process has two images, and two numbers",
        }),
    ],
)  # fmt: skip

KILLED = Prediction(
    "ex-processes-killed",
    "Process 1 is killed at step 20 of 24, epochs have 12: what becomes of process 0, and from which step on?",
    [
        Part("process 0", "fails", {
            "waits": "it does at first; but the connection breaks, and torchrun ends it in any case",
            "goes on": "alone it has half of each batch, and nobody to average with",
            "saves": "nobody asked it to stop: it cannot be told what happened to the other",
        }),
        Part("goes on after step", 12, {
            20: "a kill saves nothing; what was on disk stays",
            19: "a kill saves nothing; what was on disk stays",
            0: "a state was saved at the end of the first epoch",
            24: "the second epoch did not end",
        }),
    ],
)  # fmt: skip

CHECKS = [THREE, FACTORS, RING, DIFFERENT, KILLED]
