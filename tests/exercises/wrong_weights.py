"""Wrong answers to the exercises of chapter 06."""

import copy

import torch
from wrong_answers import wrong

BY_HEAD, MOVE = "sorted_qkv", "move_value_bias"


@wrong(BY_HEAD, "reshape alone moves no row")
def _(rows, n_heads):
    return rows.reshape(n_heads, 3, -1).reshape(3, n_heads, -1).reshape(rows.shape)


@wrong(BY_HEAD, "this is the way back")
def _(rows, n_heads):
    d = rows.shape[0] // 3 // n_heads
    return rows.unflatten(0, (3, n_heads, d)).transpose(0, 1).flatten(0, 2)


@wrong(BY_HEAD, "within a head")
def _(rows, n_heads):
    split = rows.unflatten(0, (n_heads, -1, 3))
    return torch.cat([split[:, :, kind].flatten(0, 1) for kind in range(3)])


@wrong(BY_HEAD, "every third row")
def _(rows, n_heads):
    return rows.unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1)


@wrong(BY_HEAD, "turned round")
def _(rows, n_heads):
    split = rows.reshape(n_heads, 3, -1)
    return split.flip(1).transpose(0, 1).reshape(rows.shape)


@wrong(BY_HEAD, "d stays the last axis")
def _(rows, n_heads):
    split = rows.unflatten(0, (n_heads, 3, -1))
    return split.movedim(0, 2).flatten(0, 2)


@wrong(BY_HEAD, "only the queries are there")
def _(rows, n_heads):
    return torch.cat([head[: len(head) // 3] for head in rows.chunk(n_heads)])


@wrong(BY_HEAD, "the shape is (3, 2, 1), it should be (6,); the numbers are right")
def _(rows, n_heads):
    return rows.reshape(n_heads, 3, -1).transpose(0, 1)


@wrong(BY_HEAD, "stops in line")
def _(rows, n_heads):
    return rows.reshape(n_heads, 3, -1).transpose(0, 1).view(rows.shape)


def thirds(layer):
    layer = copy.deepcopy(layer)
    return layer, *layer.qkv.bias.data.chunk(3)


@wrong(MOVE, "changes its argument `layer`")
def _(layer):
    value = layer.qkv.bias.data.chunk(3)[2]
    layer.proj.bias.data += layer.proj.weight.data @ value
    value.zero_()
    return layer


@wrong(MOVE, "goes through the projection's matrix")
def _(layer):
    layer, q, k, v = thirds(layer)
    layer.proj.bias.data += v
    v.zero_()
    return layer


@wrong(MOVE, "the matrix is transposed")
def _(layer):
    layer, q, k, v = thirds(layer)
    layer.proj.bias.data += v @ layer.proj.weight.data
    v.zero_()
    return layer


@wrong(MOVE, "it has to be added")
def _(layer):
    layer, q, k, v = thirds(layer)
    layer.proj.bias.data -= layer.proj.weight.data @ v
    v.zero_()
    return layer


@wrong(MOVE, "set to zero before it was moved")
def _(layer):
    layer, q, k, v = thirds(layer)
    v.zero_()
    layer.proj.bias.data += layer.proj.weight.data @ v
    return layer


@wrong(MOVE, "the projection's old bias is lost")
def _(layer):
    layer, q, k, v = thirds(layer)
    layer.proj.bias.data = layer.proj.weight.data @ v
    v.zero_()
    return layer


@wrong(MOVE, "it acts twice")
def _(layer):
    layer, q, k, v = thirds(layer)
    layer.proj.bias.data += layer.proj.weight.data @ v
    return layer


@wrong(MOVE, "this is the key's bias")
def _(layer):
    layer, q, k, v = thirds(layer)
    layer.proj.bias.data += layer.proj.weight.data @ k
    k.zero_()
    return layer


@wrong(MOVE, "this is the query's bias")
def _(layer):
    layer, q, k, v = thirds(layer)
    layer.proj.bias.data += layer.proj.weight.data @ q
    q.zero_()
    return layer


@wrong(MOVE, "the query's does something")
def _(layer):
    layer, q, k, v = thirds(layer)
    layer.proj.bias.data += layer.proj.weight.data @ v
    layer.qkv.bias.data.zero_()
    return layer


@wrong(MOVE, "every third number is taken")
def _(layer):
    layer = thirds(layer)[0]
    value = layer.qkv.bias.data.reshape(-1, 3)[:, 2]
    layer.proj.bias.data += layer.proj.weight.data @ value
    value.zero_()
    return layer


@wrong(MOVE, "the value bias is still where it was")
def _(layer):
    return copy.deepcopy(layer)


@wrong(MOVE, "returns nothing")
def _(layer):
    layer, q, k, v = thirds(layer)
    v.zero_()
