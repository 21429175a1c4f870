"""Wrong answers to the exercises of chapter 13."""

import torch
from wrong_answers import wrong

FACTORS, RING = "factors", "ring"


@wrong(FACTORS, "the gradient comes out too small")
def _(sizes):
    sizes = torch.tensor(sizes)
    return sizes / sizes.sum()


@wrong(FACTORS, "the other way round")
def _(sizes):
    return [sum(sizes) / (len(sizes) * n) for n in sizes]


@wrong(FACTORS, "divide by the images of the whole batch")
def _(sizes):
    return [n * len(sizes) for n in sizes]


@wrong(FACTORS, "DDP takes their mean")
def _(sizes):
    return sizes


@wrong(FACTORS, "leaves all parts the same weight")
def _(sizes):
    return [1] * len(sizes)


@wrong(FACTORS, "measured by the largest part")
def _(sizes):
    largest = max(sizes)
    return [n / largest for n in sizes]


@wrong(FACTORS, "that is to be undone")
def _(sizes):
    return [n / (sum(sizes) * len(sizes)) for n in sizes]


@wrong(FACTORS, "it has 1 items, it should have 2")
def _(sizes):
    for n in sizes:
        return [len(sizes) * n / sum(sizes)]


def going(gradients, rounds, adds):
    """A ring, one process after the other; `adds(i)` says whether round i adds."""
    W, sent = len(gradients), 0
    held = [list(g.clone().chunk(W)) for g in gradients]
    for i in range(rounds):
        moved = [held[r][(r - i) % W].clone() for r in range(W)]
        for r in range(W):
            k, right = (r - i) % W, held[(r + 1) % W]
            right[k] = right[k] + moved[r] if adds(i) else moved[r]
        sent += gradients.shape[1] // W
    return torch.stack([torch.cat(pieces) for pieces in held]), sent


@wrong(RING, "only half of the way")
def _(gradients):
    W = len(gradients)
    return going(gradients, W - 1, lambda i: True)


@wrong(RING, "they take its place")
def _(gradients):
    W = len(gradients)
    return going(gradients, 2 * (W - 1), lambda i: True)


@wrong(RING, "a piece collects what it meets")
def _(gradients):
    W = len(gradients)
    return going(gradients, 2 * (W - 1), lambda i: False)


@wrong(RING, "one round too few at the end")
def _(gradients):
    W = len(gradients)
    return going(gradients, max(2 * W - 3, 0), lambda i: i < W - 1)


@wrong(RING, "W − 1 are enough")
def _(gradients):
    W = len(gradients)
    held = [list(g.clone().chunk(W)) for g in gradients]
    for i in range(W - 1):
        for r in range(W):
            held[(r + 1) % W][(r - i) % W] += held[r][(r - i) % W]
    for i in range(W):
        for r in range(W):
            held[(r + 1) % W][(r + 1 - i) % W] = held[r][(r + 1 - i) % W]
    return torch.stack([torch.cat(pieces) for pieces in held]), 2 * W * (gradients.shape[1] // W)


@wrong(RING, "you counted pieces")
def _(gradients):
    W = len(gradients)
    return going(gradients, 2 * (W - 1), lambda i: i < W - 1)[0], 2 * (W - 1)


@wrong(RING, "what all processes send together")
def _(gradients):
    W = len(gradients)
    sums, sent = going(gradients, 2 * (W - 1), lambda i: i < W - 1)
    return sums, W * sent


@wrong(RING, "you counted one half of the rounds")
def _(gradients):
    W = len(gradients)
    sums, sent = going(gradients, 2 * (W - 1), lambda i: i < W - 1)
    return sums, sent // 2


@wrong(RING, "whole gradients travel around")
def _(gradients):
    W, sent = len(gradients), 0
    held, travelling = gradients.clone(), gradients.clone()
    for _ in range(W - 1):
        travelling = travelling.roll(1, 0)
        held += travelling
        sent += gradients.shape[1]
    return held, sent


@wrong(RING, "these are means")
def _(gradients):
    W = len(gradients)
    sums, sent = going(gradients, 2 * (W - 1), lambda i: i < W - 1)
    return sums / W, sent


@wrong(RING, "return it for all")
def _(gradients):
    W = len(gradients)
    sums, sent = going(gradients, 2 * (W - 1), lambda i: i < W - 1)
    return sums[0], sent


@wrong(RING, "sends the same piece in every round")
def _(gradients):
    W, sent = len(gradients), 0
    held = gradients.clone().view(W, W, -1)
    for i in range(2 * (W - 1)):
        moved = [held[r, r].clone() for r in range(W)]
        for r in range(W):
            if i < W - 1:
                held[(r + 1) % W, r] += moved[r]
            else:
                held[(r + 1) % W, r] = moved[r]
        sent += moved[0].numel()
    return held.reshape(W, -1), sent


@wrong(RING, "whole gradients are added somewhere")
def _(gradients):
    W, n = gradients.shape
    return gradients.sum(dim=0).repeat(W, 1), 2 * (W - 1) * n // W


@wrong(RING, "whole gradients are added somewhere")
def _(gradients):
    W, n = gradients.shape
    return [sum(list(gradients))] * W, 2 * (W - 1) * (n // W)


@wrong(RING, "changes its argument `gradients`")
def _(gradients):
    W = len(gradients)
    gradients[:] = gradients.sum(0)
    return gradients, 2 * (W - 1) * gradients.shape[1] // W
