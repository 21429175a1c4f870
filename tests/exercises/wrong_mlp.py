"""Wrong answers to the exercises of chapter 03."""

import torch
import torch.nn.functional as F
from torch import nn
from wrong_answers import wrong

from vit_edu.mlp import MLP

FOLD, COLLAPSE, XOR, CONVOLUTION = "fold_norm", "collapse", "exactly_one", "as_convolutions"


def new(weight, bias):
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


@wrong(FOLD, "γ scales the rows")
def _(norm, linear):
    return new(torch.diag(norm.weight) @ linear.weight, linear(norm.bias))


@wrong(FOLD, "the shift β is lost")
def _(norm, linear):
    return new(linear.weight * norm.weight, linear.bias)


@wrong(FOLD, "β goes through the scaled weight")
def _(norm, linear):
    weight = linear.weight @ torch.diag(norm.weight)
    return new(weight, weight @ norm.bias + linear.bias)


@wrong(FOLD, "the linear layer's own bias is lost")
def _(norm, linear):
    return new(linear.weight * norm.weight, linear.weight @ norm.bias)


@wrong(FOLD, "β is added to the bias as it is")
def _(norm, linear):
    return new(linear.weight * norm.weight, linear.bias + norm.bias)


@wrong(FOLD, "the scale γ is lost")
def _(norm, linear):
    return new(linear.weight, linear.weight @ norm.bias + linear.bias)


@wrong(FOLD, "changes its argument `linear`")
def _(norm, linear):
    bias = linear(norm.bias)
    with torch.no_grad():
        linear.weight *= norm.weight
        linear.bias.copy_(bias)
    return linear


@wrong(FOLD, "returns a Tensor; the task asks for Linear")
def _(norm, linear):
    return linear.weight * norm.weight


@wrong(FOLD, "divided by γ")
def _(norm, linear):
    return new(linear.weight / norm.weight, linear(norm.bias))


@wrong(FOLD, "γ scales the bias, too")
def _(norm, linear):
    return new(linear.weight * norm.weight, linear.weight @ norm.bias + norm.weight * linear.bias)


@wrong(COLLAPSE, "W₂ W₁")
def _(mlp):
    return new(mlp.fc1.weight @ mlp.fc2.weight, mlp.fc2(mlp.fc1.bias))


@wrong(COLLAPSE, "the first bias is lost")
def _(mlp):
    return new(mlp.fc2.weight @ mlp.fc1.weight, mlp.fc2.bias)


@wrong(COLLAPSE, "the biases are added as they are")
def _(mlp):
    return new(mlp.fc2.weight @ mlp.fc1.weight, mlp.fc1.bias + mlp.fc2.bias)


@wrong(COLLAPSE, "the second bias is lost")
def _(mlp):
    return new(mlp.fc2.weight @ mlp.fc1.weight, mlp.fc2.weight @ mlp.fc1.bias)


@wrong(COLLAPSE, "the weight is transposed")
def _(mlp):
    return new(mlp.fc1.weight.T @ mlp.fc2.weight.T, mlp.fc2(mlp.fc1.bias))


@wrong(COLLAPSE, "both biases go through the second matrix")
def _(mlp):
    return new(mlp.fc2.weight @ mlp.fc1.weight, mlp.fc2.weight @ (mlp.fc1.bias + mlp.fc2.bias))


@wrong(COLLAPSE, "the GELU is still in the bias")
def _(mlp):
    with torch.no_grad():
        zero = torch.zeros(mlp.fc1.in_features)
        return new(mlp.fc2.weight @ mlp.fc1.weight, mlp(zero))


def by_hand(detectors, messages, shift=(0.0, 0.0), end=0.0):
    mlp = MLP(2, len(detectors), 1)
    mlp.load_state_dict({
        "fc1.weight": torch.tensor(detectors), "fc1.bias": torch.tensor(shift),
        "fc2.weight": torch.tensor([messages]), "fc2.bias": torch.tensor([end]),
    })  # fmt: skip
    return mlp


@wrong(XOR, "the biases are still PyTorch's random ones")
def _(s):
    mlp = MLP(2, 2, 1)
    mlp.fc1.weight.data = s * torch.tensor([[1.0, -1], [-1, 1]])
    mlp.fc2.weight.data = torch.ones(1, 2) / s
    return mlp


@wrong(XOR, "s times too large")
def _(s):
    return by_hand([[s, -s], [-s, s]], [1.0, 1.0])


@wrong(XOR, "two ones are answered by 2")
def _(s):
    return by_hand([[s, 0.0], [0.0, s]], [1 / s, 1 / s])


@wrong(XOR, "both detectors ask the same")
def _(s):
    return by_hand([[s, -s], [s, -s]], [1 / s, 1 / s])


@wrong(XOR, "the two answers have opposite signs")
def _(s):
    return by_hand([[s, -s], [-s, s]], [1 / s, -1 / s])


@wrong(XOR, "the rounded corner shows")
def _(s):
    return by_hand([[1.0, -1.0], [-1.0, 1.0]], [1.0, 1.0])


@wrong(XOR, "½ everywhere")
def _(s):
    return by_hand([[s, s], [-s, -s]], [0.0, 0.0], end=0.5)


@wrong(XOR, "two do")
def _(s):
    return by_hand([[s, -s], [-s, s], [0.0, 0.0]], [1 / s, 1 / s, 0.0], shift=(0.0, 0.0, 0.0))


@wrong(XOR, "1 where both bits are the same")
def _(s):
    return by_hand([[s, -s], [-s, s]], [-1 / s, -1 / s], end=1.0)


@wrong(XOR, "returns a Tensor; the task asks for Module")
def _(s):
    return torch.tensor([0.0, 1, 1, 0])


def convs(mlp, size=1, **options):
    padding = size // 2
    return [nn.Conv1d(f.in_features, f.out_features, size, padding=padding, **options) for f in (mlp.fc1, mlp.fc2)]


def fill(layers, mlp, bias=True):
    with torch.no_grad():
        for conv, fc in zip(layers, (mlp.fc1, mlp.fc2)):
            conv.weight.copy_(fc.weight.unsqueeze(-1))
            if bias:
                conv.bias.copy_(fc.bias)
    return layers


@wrong(CONVOLUTION, "the GELU between the two is missing")
def _(mlp):
    return nn.Sequential(*fill(convs(mlp), mlp))


@wrong(CONVOLUTION, "the MLP has a GELU")
def _(mlp):
    first, second = fill(convs(mlp), mlp)
    return nn.Sequential(first, nn.ReLU(), second)


@wrong(CONVOLUTION, "by tanh")
def _(mlp):
    first, second = fill(convs(mlp), mlp)
    return nn.Sequential(first, nn.GELU(approximate="tanh"), second)


@wrong(CONVOLUTION, "the biases are still PyTorch's")
def _(mlp):
    first, second = fill(convs(mlp), mlp, bias=False)
    return nn.Sequential(first, nn.GELU(), second)


@wrong(CONVOLUTION, "the convolutions have no bias")
def _(mlp):
    first, second = fill(convs(mlp, bias=False), mlp, bias=False)
    return nn.Sequential(first, nn.GELU(), second)


@wrong(CONVOLUTION, "the weights are still PyTorch's")
def _(mlp):
    first, second = convs(mlp)
    return nn.Sequential(first, nn.GELU(), second)


@wrong(CONVOLUTION, "its size is 1")
def _(mlp):
    first, second = fill(convs(mlp, 3), mlp)
    return nn.Sequential(first, nn.GELU(), second)


@wrong(CONVOLUTION, "it is not made of two nn.Conv1d")
def _(mlp):
    class Turned(nn.Module):
        def forward(self, x):
            return mlp.fc2(F.gelu(mlp.fc1(x.mT))).mT

    return Turned()


@wrong(CONVOLUTION, "the output is linear")
def _(mlp):
    first, second = fill(convs(mlp), mlp)
    return nn.Sequential(first, nn.GELU(), second, nn.GELU())


@wrong(FOLD, "as if the weight were input × output")
def _(norm, linear):
    new = nn.Linear(linear.in_features, linear.out_features)
    new.weight = nn.Parameter(torch.diag(norm.weight) @ linear.weight)
    new.bias = nn.Parameter(norm.bias @ linear.weight + linear.bias)
    return new


@wrong(FOLD, "nn.Linear takes the inputs first")
def _(norm, linear):
    new = nn.Linear(linear.out_features, linear.in_features)
    new.weight.data = linear.weight @ torch.diag(norm.weight)
    new.bias.data = linear.bias + linear.weight @ norm.bias
    return new
