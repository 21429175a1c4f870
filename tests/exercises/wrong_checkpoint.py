"""Wrong answers to the exercises of chapter 08."""

import os
import random
import time

import numpy as np
import torch
from wrong_answers import wrong

CHANCE = "with_contrast"


@wrong(CHANCE, "Python's `random`")
def _(images, labels):
    return images * random.uniform(0.5, 1.5), labels


@wrong(CHANCE, "chance comes from NumPy")
def _(images, labels):
    return images * float(np.random.uniform(0.5, 1.5)), labels


@wrong(CHANCE, "two calls differ")
def _(images, labels):
    factor = np.random.default_rng().uniform(0.5, 1.5)
    return (images * factor).float(), labels


@wrong(CHANCE, "two calls differ")
def _(images, labels):
    return images * (0.5 + int.from_bytes(os.urandom(4), "little") / 2**32), labels


@wrong(CHANCE, "it seeds torch itself")
def _(images, labels):
    torch.manual_seed(0)
    return images * (0.5 + torch.rand(())), labels


@wrong(CHANCE, "the same whatever torch's seed")
def _(images, labels):
    generator = torch.Generator().manual_seed(137)
    return images * (0.5 + torch.rand((), generator=generator)), labels


@wrong(CHANCE, "do not fill 0.5 to 1.5")
def _(images, labels):
    return images * torch.rand(()), labels


@wrong(CHANCE, "do not fill 0.5 to 1.5")
def _(images, labels):
    return images * (1 + 0.5 * torch.randn(())), labels


@wrong(CHANCE, "a factor of its own; one for the batch")
def _(images, labels):
    return images * (0.5 + torch.rand(len(images), 1, 1, 1)), labels


@wrong(CHANCE, "that is noise")
def _(images, labels):
    return images * (0.5 + torch.rand_like(images)), labels


@wrong(CHANCE, "that is brightness")
def _(images, labels):
    return images + torch.rand(()) + 0.5, labels


@wrong(CHANCE, "images and labels")
def _(images, labels):
    return images * (0.5 + torch.rand(()))


@wrong(CHANCE, "changes its argument `images`")
def _(images, labels):
    images *= 0.5 + torch.rand(())
    return images, labels


@wrong(CHANCE, "two calls differ")
def _(images, labels):
    return images * (0.5 + time.perf_counter_ns() % 1000 / 1000), labels
