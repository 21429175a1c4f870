"""Wrong answers to the exercises of chapter 02."""

import math

import torch
from wrong_answers import wrong

ONLINE, BIAS = "attention_in_pieces", "bias_gradients"


@wrong(ONLINE, "not divided by √d")
def _(query, keys, values, piece=5):
    return torch.softmax(keys @ query, 0) @ values


@wrong(ONLINE, "divided by d; it is its root")
def _(query, keys, values, piece=5):
    return torch.softmax(keys @ query / query.shape[0], 0) @ values


@wrong(ONLINE, "the root of the number of keys")
def _(query, keys, values, piece=5):
    return torch.softmax(keys @ query / math.sqrt(len(keys)), 0) @ values


@wrong(ONLINE, "both running sums must shrink")
def _(query, keys, values, piece=5):
    m, s, out = torch.tensor(-math.inf), 0.0, torch.zeros(values.shape[1])
    for k, v in zip(keys.split(piece), values.split(piece)):
        scores = k @ query / math.sqrt(len(query))
        m = torch.maximum(m, scores.max())
        p = torch.exp(scores - m)
        s, out = s + p.sum(), out + p @ v
    return out / s


@wrong(ONLINE, "the sum of values shrinks with a new largest score, the sum of powers does not")
def _(query, keys, values, piece=5):
    m, s, out = torch.tensor(-math.inf), 0.0, torch.zeros(values.shape[1])
    for k, v in zip(keys.split(piece), values.split(piece)):
        scores = k @ query / math.sqrt(len(query))
        new = torch.maximum(m, scores.max())
        p = torch.exp(scores - new)
        s, out, m = s + p.sum(), out * torch.exp(m - new) + p @ v, new
    return out / s


@wrong(ONLINE, "the sum of powers shrinks with a new largest score, the sum of values does not")
def _(query, keys, values, piece=5):
    m, s, out = torch.tensor(-math.inf), 0.0, torch.zeros(values.shape[1])
    for k, v in zip(keys.split(piece), values.split(piece)):
        scores = k @ query / math.sqrt(len(query))
        new = torch.maximum(m, scores.max())
        p = torch.exp(scores - new)
        s, out, m = s * torch.exp(m - new) + p.sum(), out + p @ v, new
    return out / s


@wrong(ONLINE, "the last piece is left out")
def _(query, keys, values, piece=5):
    m, s, out = torch.tensor(-math.inf), torch.tensor(0.0), torch.zeros(values.shape[1])
    for i in range(len(keys) // piece):
        k, v = keys[i * piece : (i + 1) * piece], values[i * piece : (i + 1) * piece]
        scores = k @ query / math.sqrt(len(query))
        new = torch.maximum(m, scores.max())
        p, shrink = torch.exp(scores - new), torch.exp(m - new)
        s, out, m = s * shrink + p.sum(), out * shrink + p @ v, new
    return out / s


@wrong(ONLINE, "each piece gets a softmax of its own")
def _(query, keys, values, piece=5):
    out = [(k @ query / math.sqrt(len(query))).softmax(0) @ v for k, v in zip(keys.split(piece), values.split(piece))]
    return sum(out) / len(out)


@wrong(ONLINE, "overflows for large scores")
def _(query, keys, values, piece=5):
    total, out = 0, 0
    for start in range(0, len(keys), piece):
        power = torch.exp(keys[start : start + piece] @ query / math.sqrt(len(query)))
        total, out = total + power.sum(), out + power @ values[start : start + piece]
    return out / total


@wrong(ONLINE, "`return` inside the loop")
def _(query, keys, values, piece=5):
    for start in range(0, len(keys), piece):
        scores = keys[start : start + piece] @ query / math.sqrt(len(query))
        return scores.softmax(0) @ values[start : start + piece]


@wrong(ONLINE, "begin at −∞")
def _(query, keys, values, piece=5):
    m, s, out = torch.tensor(0.0), 0.0, torch.zeros(values.shape[1])
    for k, v in zip(keys.split(piece), values.split(piece)):
        scores = k @ query / math.sqrt(len(query))
        new = torch.maximum(m, scores.max())
        p, shrink = torch.exp(scores - new), torch.exp(m - new)
        s, out, m = s * shrink + p.sum(), out * shrink + p @ v, new
    return out / s


@wrong(ONLINE, "all N scores are there at once")
def _(query, keys, values, piece=5):
    return torch.nn.functional.scaled_dot_product_attention(query[None], keys, values)[0]


@wrong(ONLINE, "all N scores are there at once")
def _(query, keys, values, piece=5):
    scores = keys @ query / math.sqrt(len(query))
    return scores.softmax(0) @ values


@wrong(ONLINE, "never divided by the sum")
def _(query, keys, values, piece=5):
    m, out = torch.tensor(-math.inf), torch.zeros(values.shape[1])
    for k, v in zip(keys.split(piece), values.split(piece)):
        scores = k @ query / math.sqrt(len(query))
        new = torch.maximum(m, scores.max())
        out, m = out * torch.exp(m - new) + torch.exp(scores - new) @ v, new
    return out


@wrong(ONLINE, "returns nothing: is the `return` missing?")
def _(query, keys, values, piece=5):
    torch.softmax(keys @ query, 0) @ values


@wrong(ONLINE, "the shape is (1, 1), it should be (1,); the numbers are right")
def _(query, keys, values, piece=5):
    return torch.nn.functional.scaled_dot_product_attention(query[None], keys, values)


@wrong(ONLINE, "changes its argument `query`")
def _(query, keys, values, piece=5):
    query /= 2
    return values[0]


@wrong(BIAS, "call layer.zero_grad() first")
def _(layer, x):
    layer(x).pow(2).mean().backward()
    return [part.norm() for part in layer.qkv.bias.grad.chunk(3)]


@wrong(BIAS, "gradient of the weight")
def _(layer, x):
    layer.zero_grad()
    layer(x).pow(2).mean().backward()
    return [part.norm() for part in layer.qkv.weight.grad.chunk(3)]


@wrong(BIAS, "every third number is taken")
def _(layer, x):
    layer.zero_grad()
    layer(x).pow(2).mean().backward()
    return layer.qkv.bias.grad.reshape(-1, 3).norm(dim=0).tolist()


@wrong(BIAS, "the norm of the whole bias")
def _(layer, x):
    layer.zero_grad()
    layer(x).pow(2).mean().backward()
    return layer.qkv.bias.grad.norm()


@wrong(BIAS, "take the mean")
def _(layer, x):
    layer.zero_grad()
    layer(x).pow(2).sum().backward()
    return [part.norm() for part in layer.qkv.bias.grad.chunk(3)]


@wrong(BIAS, "the norms of the biases themselves")
def _(layer, x):
    return [part.norm().item() for part in layer.qkv.bias.chunk(3)]


@wrong(BIAS, "square y first")
def _(layer, x):
    layer.zero_grad()
    layer(x).mean().backward()
    return [part.norm() for part in layer.qkv.bias.grad.chunk(3)]


@wrong(BIAS, "the order is q, k, v")
def _(layer, x):
    layer.zero_grad()
    layer(x).pow(2).mean().backward()
    q, k, v = layer.qkv.bias.grad.chunk(3)
    return v.norm(), k.norm(), q.norm()


@wrong(BIAS, "it has 2 items, it should have 3")
def _(layer, x):
    layer.zero_grad()
    layer(x).pow(2).mean().backward()
    return [part.norm() for part in layer.qkv.bias.grad.chunk(2)]
