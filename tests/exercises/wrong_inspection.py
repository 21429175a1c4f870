"""Wrong answers to the exercises of chapter 17."""

import math

import torch
import torch.nn.functional as F
from wrong_answers import wrong

from vit_edu.attention_maps import attention_maps

SPREAD, CENTRED = "effective_patches", "centred_similarity"


@wrong(SPREAD, "0 · ln 0 is not a number")
def _(model, images):
    maps = attention_maps(model, images)[0]
    entropy = -(maps * torch.log(maps)).sum(-1)
    return entropy.exp().mean(dim=-1).mean(dim=1)


@wrong(SPREAD, "the mean of the entropies comes first")
def _(model, images):
    maps = attention_maps(model, images)[0]
    return torch.special.entr(maps).sum(-1).mean((1, 3)).exp()


@wrong(SPREAD, "this is the entropy")
def _(model, images):
    maps = attention_maps(model, images)[0]
    return torch.special.entr(maps).sum(-1).mean((1, 3))


@wrong(SPREAD, "take natural logarithms")
def _(model, images):
    maps = attention_maps(model, images)[0]
    entropy = torch.special.entr(maps).sum(-1) / math.log(2)
    return entropy.exp().mean((1, 3))


@wrong(SPREAD, "take e")
def _(model, images):
    maps = attention_maps(model, images)[0]
    return torch.exp2(torch.special.entr(maps).sum(-1)).mean((1, 3))


@wrong(SPREAD, "the minus of the entropy is missing")
def _(model, images):
    maps = attention_maps(model, images)[0]
    return torch.xlogy(maps, maps).sum(-1).exp().mean((1, 3))


@wrong(SPREAD, "the entropy is that of columns")
def _(model, images):
    maps = attention_maps(model, images)[0]
    return torch.special.entr(maps).sum(dim=3).exp().mean((1, 3))


@wrong(SPREAD, "over queries")
def _(model, images):
    maps = attention_maps(model, images)[0].mean(dim=3)
    return torch.special.entr(maps).sum(-1).exp().mean(dim=1)


@wrong(SPREAD, "one over the sum of squares")
def _(model, images):
    maps = attention_maps(model, images)[0]
    return (1 / (maps**2).sum(-1)).mean((1, 3))


@wrong(SPREAD, "the shape is (1, 1, 1), it should be (1, 1)")
def _(model, images):
    maps = attention_maps(model, images)[0]
    return torch.special.entr(maps).sum(-1).exp().mean(-1)


def table(unit):
    return torch.einsum("ibd,jbd->ijb", unit, unit).mean(dim=-1)


@wrong(CENTRED, "nothing is subtracted")
def _(vectors):
    return table(F.normalize(vectors, dim=-1))


@wrong(CENTRED, "lined up with the wrong axis")
def _(vectors):
    return table(F.normalize(vectors - vectors.mean(dim=1), dim=-1))


@wrong(CENTRED, "the mean over steps is subtracted")
def _(vectors):
    return table(F.normalize(vectors - vectors.mean(dim=0, keepdim=True), dim=-1))


@wrong(CENTRED, "the mean of its own numbers")
def _(vectors):
    return table(F.normalize(vectors - vectors.mean(dim=-1, keepdim=True), dim=-1))


@wrong(CENTRED, "one mean of all steps and images")
def _(vectors):
    return table(F.normalize(vectors - vectors.flatten(0, 1).mean(dim=0), dim=-1))


@wrong(CENTRED, "centre first")
def _(vectors):
    unit = F.normalize(vectors, dim=-1)
    return table(unit - unit.mean(dim=1, keepdim=True))


@wrong(CENTRED, "these are dot products")
def _(vectors):
    return table(vectors - vectors.mean(dim=1, keepdim=True))


@wrong(CENTRED, "a vector's is over its own numbers")
def _(vectors):
    return table(F.normalize(vectors - vectors.mean(dim=1, keepdim=True)))


@wrong(CENTRED, "the shape is (2, 2, 2), it should be (2, 2)")
def _(vectors):
    unit = F.normalize(vectors - vectors.mean(dim=1, keepdim=True), dim=-1)
    return unit @ unit.mT


@wrong(CENTRED, "changes its argument `vectors`")
def _(vectors):
    vectors -= vectors.mean(dim=1, keepdim=True)
    return table(F.normalize(vectors, dim=-1))
