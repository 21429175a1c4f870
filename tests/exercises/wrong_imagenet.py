"""Wrong answers to the exercises of chapter 14."""

import math
import random

import torch
from wrong_answers import wrong

PARTS, STRATIFIED = "parts_needed", "stratified"


@wrong(PARTS, "the parts must divide the images")
def _(images, weights, each, card):
    for k in range(1, images + 1):
        if weights + each * images / k < 0.9 * card:
            return k
    return 0


@wrong(PARTS, "it need not divide the images")
def _(images, weights, each, card):
    room = 0.9 * card - weights
    return math.ceil(images * each / room) if room > each else 0


@wrong(PARTS, "only powers of two are tried")
def _(images, weights, each, card):
    k = 1
    while images % k == 0:
        if weights + each * images / k < 0.9 * card:
            return k
        k *= 2
    return 0


@wrong(PARTS, "each part needs all of them")
def _(images, weights, each, card):
    for k in range(1, images + 1):
        if images % k == 0 and (weights + each * images) / k < 0.9 * card:
            return k
    return 0


@wrong(PARTS, "the weights are left out")
def _(images, weights, each, card):
    for k in range(1, images + 1):
        if images % k == 0 and each * images / k < 0.9 * card:
            return k
    return 0


@wrong(PARTS, "filled to the last byte")
def _(images, weights, each, card):
    for k in range(1, images + 1):
        if images % k == 0 and weights + each * images / k < card:
            return k
    return 0


@wrong(PARTS, "how many images are in a part")
def _(images, weights, each, card):
    for part in range(images, 0, -1):
        if images % part == 0 and weights + each * part < 0.9 * card:
            return part
    return 0


@wrong(PARTS, "that is the largest k")
def _(images, weights, each, card):
    k = 0
    for part in range(1, images + 1):
        if images % part == 0 and weights + each * images / part < 0.9 * card:
            k = part
    return k


@wrong(PARTS, "returns nothing")
def _(images, weights, each, card):
    for k in range(1, images):
        if images % k == 0 and weights + each * images / k < 0.9 * card:
            return k


@wrong(STRATIFIED, "other images come each time")
def _(labels, n_each, seed=0):
    chosen = []
    for label in labels.unique():
        numbers = (labels == label).nonzero().flatten()
        chosen.append(numbers[torch.randperm(len(numbers))[:n_each]])
    return torch.cat(chosen)


@wrong(STRATIFIED, "other images come each time")
def _(labels, n_each, seed=0):
    chosen = []
    for label in range(int(labels.max()) + 1):
        chosen += random.sample([i for i, other in enumerate(labels.tolist()) if other == label], n_each)
    return torch.tensor(chosen)


@wrong(STRATIFIED, "not the numbers of images")
def _(labels, n_each, seed=0):
    g = torch.Generator().manual_seed(seed)
    chosen, start = [], 0
    for count in labels.bincount().tolist():
        chosen.append(start + torch.randperm(count, generator=g)[:n_each])
        start += count
    return torch.cat(chosen)


@wrong(STRATIFIED, "so many images in all")
def _(labels, n_each, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randperm(len(labels), generator=g)[:n_each]


@wrong(STRATIFIED, "draw without putting back")
def _(labels, n_each, seed=0):
    g = torch.Generator().manual_seed(seed)
    chosen = []
    for label in labels.unique():
        numbers = (labels == label).nonzero().flatten()
        chosen.append(numbers[torch.randint(len(numbers), (n_each,), generator=g)])
    return torch.cat(chosen)


@wrong(STRATIFIED, "only on average")
def _(labels, n_each, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randperm(len(labels), generator=g)[: n_each * len(labels.unique())]


@wrong(STRATIFIED, "at even distances")
def _(labels, n_each, seed=0):
    return torch.cat([(labels == label).nonzero().flatten()[:n_each] for label in labels.unique()])


@wrong(STRATIFIED, "is it used?")
def _(labels, n_each, seed=0):
    g = torch.Generator().manual_seed(0)
    chosen = []
    for label in labels.unique():
        numbers = (labels == label).nonzero().flatten()
        chosen.append(numbers[torch.randperm(len(numbers), generator=g)[:n_each]])
    return torch.cat(chosen)


@wrong(STRATIFIED, "is not where it was")
def _(labels, n_each, seed=0):
    torch.manual_seed(seed)
    chosen = []
    for label in labels.unique():
        numbers = (labels == label).nonzero().flatten()
        chosen.append(numbers[torch.randperm(len(numbers))[:n_each]])
    return torch.cat(chosen)
