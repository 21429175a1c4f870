"""The checks of chapter 03, each token on its own."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit_edu.exercises import Code, Mistake, Part, Prediction
from vit_edu.mlp import MLP, LayerNorm


def made(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def linear_with(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


# ex-mlp-fold


def fold_cases():
    """A norm and a linear layer: square, wider, narrower, with the epsilon of others."""
    for seed, (width, out, eps) in enumerate([(2, 2, 1e-6), (3, 3, 1e-6), (3, 5, 1e-6), (6, 2, 1e-5), (16, 16, 1e-6)]):
        norm = LayerNorm(width, eps)
        torch.default_generator.manual_seed(seed)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        yield norm, nn.Linear(width, out)


def after_plain_norm(result, norm, linear):
    """What the layer makes of tokens that were normalised without scale and shift."""
    x = 3 * made(2, 4, linear.in_features) + 1
    return result(F.layer_norm(x, (linear.in_features,), eps=norm.eps))


def folding(weight, bias):
    """A wrong answer, by its two formulas in W, b, γ, β."""

    def fold(norm, linear):
        values = linear.weight, linear.bias, norm.weight, norm.bias
        return linear_with(weight(*values), bias(*values))

    return fold


def says_other_sizes(fold, norm, linear):
    layer = fold(norm, linear)
    return tuple(layer.weight.shape) != (layer.out_features, layer.in_features)


def right_weight(W, b, g, s):
    return W * g


def right_bias(W, b, g, s):
    return W @ s + b


FOLD = Code(
    "fold_norm",
    "A layer norm and the linear layer after it: a new linear layer with scale and shift folded in.",
    fold_cases,
    lambda norm, linear: lambda x: linear(x * norm.weight + norm.bias),
    "square, wide and narrow layers, two epsilons, behind a norm without scale and shift",
    [
        Mistake(
            "γ scales the rows, that is the outputs; it belongs to the inputs, the columns",
            like=folding(lambda W, b, g, s: W * g[:, None], right_bias),
        ),
        Mistake("the shift β is lost; it ends up in the bias", like=folding(right_weight, lambda W, b, g, s: b)),
        Mistake(
            "β goes through the scaled weight; it is added after the scale, so it meets the old one",
            like=folding(right_weight, lambda W, b, g, s: (W * g) @ s + b),
        ),
        Mistake(
            "β is added to the bias as it is; it has to go through the weight first",
            like=folding(right_weight, lambda W, b, g, s: s + b),
        ),
        Mistake("the linear layer's own bias is lost", like=folding(right_weight, lambda W, b, g, s: W @ s)),
        Mistake("the scale γ is lost; it belongs into the weight", like=folding(lambda W, b, g, s: W, right_bias)),
        Mistake(
            "the weight is divided by γ; multiply",
            like=folding(lambda W, b, g, s: W / g, right_bias),
        ),
        Mistake(
            "β goes through the transposed weight; PyTorch's weight is output × input, so it is W β",
            like=folding(right_weight, lambda W, b, g, s: W.T @ s + b),
        ),
        Mistake(
            "γ scales the bias, too; it acts before the linear layer, the bias comes after",
            like=folding(right_weight, lambda W, b, g, s: W @ s + b * g),
        ),
        Mistake(
            "γ meets the rows and β the columns, as if the weight were input × output; PyTorch's is output × input",
            like=folding(lambda W, b, g, s: W * g[:, None], lambda W, b, g, s: s @ W + b),
        ),
        Mistake(
            "the layer's in_features and out_features are not those of its weight: nn.Linear takes the inputs first",
            when=says_other_sizes,
        ),
    ],
    observe=after_plain_norm,
    returns=nn.Linear,
)  # fmt: skip


# ex-mlp-collapse


def collapse_cases():
    for seed, (width, hidden, out) in enumerate([(2, 2, 2), (3, 3, 3), (2, 5, 2), (4, 4, 3), (3, 2, 3), (8, 32, 8)]):
        torch.default_generator.manual_seed(seed)
        yield (MLP(width, hidden, out),)


def on_tokens(result, mlp):
    return result(made(2, 3, mlp.fc1.in_features))


def collapsing(weight, bias):
    """A wrong answer, by its two formulas in W1, b1, W2, b2, as PyTorch stores them."""

    def collapse(mlp):
        values = mlp.fc1.weight, mlp.fc1.bias, mlp.fc2.weight, mlp.fc2.bias
        return linear_with(weight(*values), bias(*values))

    return collapse


def product(W1, b1, W2, b2):
    return W2 @ W1


def together(W1, b1, W2, b2):
    return W2 @ b1 + b2


COLLAPSE = Code(
    "collapse",
    "One linear layer that gives what the MLP would give without its GELU.",
    collapse_cases,
    lambda mlp: lambda x: mlp.fc2(mlp.fc1(x)),
    "hidden layers wider and narrower than the token, against both layers in a row",
    [
        Mistake(
            "the two matrices are multiplied in the wrong order: what is applied first stands on the right, W₂ W₁",
            like=collapsing(lambda W1, b1, W2, b2: W1 @ W2, together),
        ),
        Mistake(
            "the weight is transposed; PyTorch's is output × input",
            like=collapsing(lambda W1, b1, W2, b2: (W2 @ W1).T, together),
        ),
        Mistake(
            "the first bias is lost; the second matrix carries it to the end",
            like=collapsing(product, lambda W1, b1, W2, b2: b2),
        ),
        Mistake("the second bias is lost", like=collapsing(product, lambda W1, b1, W2, b2: W2 @ b1)),
        Mistake(
            "the biases are added as they are; the first has to go through the second matrix",
            like=collapsing(product, lambda W1, b1, W2, b2: b1 + b2),
        ),
        Mistake(
            "the first bias goes through the first matrix; it is the second that it meets",
            like=collapsing(product, lambda W1, b1, W2, b2: W1 @ b1 + b2),
        ),
        Mistake(
            "both biases go through the second matrix; its own is added after it",
            like=collapsing(product, lambda W1, b1, W2, b2: W2 @ (b1 + b2)),
        ),
        Mistake(
            "the second bias goes through the second matrix, the first does not: it is the other way round",
            like=collapsing(product, lambda W1, b1, W2, b2: W2 @ b2 + b1),
        ),
        Mistake(
            "the GELU is still in the bias: without it b₁ goes through W₂ as it is",
            like=collapsing(product, lambda W1, b1, W2, b2: W2 @ F.gelu(b1) + b2),
        ),
    ],
    observe=on_tokens,
    returns=nn.Linear,
)


# ex-mlp-xor

BITS = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
ONE = torch.tensor([[0.0], [1], [1], [0]])


def answers(result, s):
    """The answers to the four pairs of bits; what is within 0.01 of the right one counts as it."""
    found = result(BITS)                                         # (4, 1)
    return torch.where((found - ONE).abs() <= 0.01, ONE, found) if found.shape == ONE.shape else found


def two_units(first, second, shift=(0.0, 0.0, 0.0)):
    """A wrong answer, by its detectors and messages and the biases of the three units, from s."""

    def exactly_one(s):
        mlp = MLP(2, 2, 1)
        with torch.no_grad():
            mlp.fc1.weight.copy_(torch.as_tensor(first(s)))
            mlp.fc2.weight.copy_(torch.as_tensor(second(s))[None])
            mlp.fc1.bias.copy_(torch.tensor(shift[:2]))
            mlp.fc2.bias.fill_(shift[2])
        return mlp

    return exactly_one


def opposite(s):
    return s * torch.tensor([[1.0, -1], [-1, 1]])


def right_without_biases(function, s):
    """Whether the weights are right and only the biases are not."""
    mlp = function(s)
    left = max(mlp.fc1.bias.abs().max(), mlp.fc2.bias.abs().max()) > 0
    with torch.no_grad():
        mlp.fc1.bias.zero_()
        mlp.fc2.bias.zero_()
        return left and torch.equal(answers(mlp, s), ONE)


def half_everywhere(function, s):
    return torch.allclose(function(s)(BITS), torch.tensor(0.5), atol=0.01)


def too_soft(function, s):
    """Whether both answers of 1 are smaller by the same, both of 0 right."""
    found = function(s)(BITS)[:, 0]
    return torch.allclose(found[[0, 3]], torch.zeros(2), atol=0.01) and 0.3 < found[1] < 0.99 and found[1] == found[2]


XOR = Code(
    "exactly_one",
    "An MLP of two hidden units, detectors scaled by s: 1 if exactly one of two bits is 1, else 0.",
    lambda: [(4.0,), (6.0,), (20.0,)],
    lambda s: lambda bits: (bits.sum(dim=1, keepdim=True) == 1).float(),
    "three scales, all four pairs of bits, to within 0.01",
    [
        Mistake("the biases are still PyTorch's random ones: set them to 0", when=right_without_biases),
        Mistake("the answer is ½ everywhere, the best without a bend: the two units cancel", when=half_everywhere),
        Mistake(
            "the answers are s times too large: divide by s on the way out",
            like=two_units(opposite, lambda s: [1.0, 1.0]),
        ),
        Mistake(
            "only the first bit is heard when it stands alone: both detectors ask the same",
            like=two_units(lambda s: s * torch.tensor([[1.0, -1], [1, -1]]), lambda s: [0.5 / s, 0.5 / s]),
        ),
        Mistake(
            "only the first bit is heard when it stands alone, and twice: both detectors ask the same",
            like=two_units(lambda s: s * torch.tensor([[1.0, -1], [1, -1]]), lambda s: [1 / s, 1 / s]),
        ),
        Mistake(
            "two ones are answered by 2: each detector looks at one bit; ask which of the two is larger",
            like=two_units(lambda s: s * torch.eye(2), lambda s: [1 / s, 1 / s]),
        ),
        Mistake(
            "the two answers have opposite signs, first less second; both messages are added",
            like=two_units(opposite, lambda s: [1 / s, -1 / s]),
        ),
        Mistake(
            "the rounded corner shows: the detectors have to be scaled by s, so that GELU is straight there",
            when=too_soft,
        ),
        Mistake(
            "one unit too many, or too few: two do",
            when=lambda f, s: f(s).fc1.out_features != 2,
        ),
        Mistake(
            "the answers are turned round: this is 1 where both bits are the same",
            like=two_units(opposite, lambda s: [-1 / s, -1 / s], shift=(0.0, 0.0, 1.0)),
        ),
    ],
    observe=answers,
    returns=nn.Module,
)  # fmt: skip


# ex-mlp-convolution


def convolution_cases():
    for seed, (width, hidden, out) in enumerate([(2, 3, 2), (3, 3, 3), (4, 8, 2), (8, 32, 8)]):
        torch.default_generator.manual_seed(seed)
        yield (MLP(width, hidden, out),)


def on_features_second(result, mlp):
    return result(2 * made(2, mlp.fc1.in_features, 5))


def convolutions(mlp, act, size=1, bias=True):
    """The MLP as two convolutions, with room for the usual mistakes."""
    layers = []
    for fc in mlp.fc1, mlp.fc2:
        conv = nn.Conv1d(fc.in_features, fc.out_features, size, padding=size // 2, bias=bias)
        with torch.no_grad():
            conv.weight.copy_(fc.weight[:, :, None].expand_as(conv.weight))
            if bias:
                conv.bias.copy_(fc.bias)
        layers.append(conv)
    return nn.Sequential(layers[0], act, layers[1])


def convolutions_of(function, mlp):
    return [layer for layer in function(mlp).modules() if isinstance(layer, nn.Conv1d)]


def biases_left(function, mlp):
    convs = convolutions_of(function, mlp)
    weights = all(torch.equal(c.weight[..., 0], fc.weight) for c, fc in zip(convs, (mlp.fc1, mlp.fc2)))
    return weights and any(not torch.equal(c.bias, fc.bias) for c, fc in zip(convs, (mlp.fc1, mlp.fc2)))


def weights_left(function, mlp):
    convs = convolutions_of(function, mlp)
    shapes = all(c.weight.shape[:2] == fc.weight.shape for c, fc in zip(convs, (mlp.fc1, mlp.fc2)))
    return shapes and not torch.equal(convs[0].weight[..., 0], mlp.fc1.weight)


CONVOLUTION = Code(
    "as_convolutions",
    "The MLP as a module of two nn.Conv1d: tokens (B, D, N), features second, to (B, D', N).",
    convolution_cases,
    lambda mlp: lambda x: mlp(x.transpose(1, 2)).transpose(1, 2),
    "equal and other widths, against the MLP on transposed tokens",
    [
        Mistake("the GELU between the two is missing", like=lambda mlp: convolutions(mlp, nn.Identity())),
        Mistake("there is a ReLU between the two; the MLP has a GELU", like=lambda mlp: convolutions(mlp, nn.ReLU())),
        Mistake(
            "this GELU is the approximate one, by tanh; the MLP's is exact",
            like=lambda mlp: convolutions(mlp, nn.GELU("tanh")),
        ),
        Mistake(
            "the convolutions have no bias; the linear layers do",
            like=lambda mlp: convolutions(mlp, nn.GELU(), bias=False),
        ),
        Mistake(
            "the kernel reaches the neighbours; each token stands alone, so its size is 1",
            when=lambda f, mlp: any(c.kernel_size != (1,) for c in convolutions_of(f, mlp)),
        ),
        Mistake("the biases are still PyTorch's random ones: copy the linear layers'", when=biases_left),
        Mistake("the weights are still PyTorch's random ones: copy the linear layers'", when=weights_left),
        Mistake(
            "it is not made of two nn.Conv1d; the MLP itself, turned round, is no convolution",
            when=lambda f, mlp: len(convolutions_of(f, mlp)) != 2,
        ),
        Mistake(
            "there is a second GELU at the end; the output is linear",
            like=lambda mlp: nn.Sequential(convolutions(mlp, nn.GELU()), nn.GELU()),
        ),
    ],
    observe=on_features_second,
    returns=nn.Module,
    tolerance=1e-5,
)


# Predictions

LENGTH = Prediction(
    "ex-mlp-length",
    "The Euclidean norm of a token of width 768 after layer normalisation.",
    [Part("length", 768**0.5, {
        1: "each number has variance 1, and there are 768 of them",
        768: "that is the sum of the squares; the length is its root",
        0: "that is the mean",
        384: "the squares sum to 768; the length is the root of that",
    }, within=0.05)],
)  # fmt: skip

DEPTH = Prediction(
    "ex-mlp-depth",
    "Rates from 0 to 0.1 over 12 blocks of two branches: how many of the 24 does a sample pass on average?",
    [Part("branches", 22.8, {
        21.6: "0.1 is the last block's rate; the mean rate is half of it",
        24: "some are dropped",
        1.2: "that many are dropped",
        11.4: "each block has two branches",
        23.9: "one coin of 0.1 for all would do this; there are 24 coins",
    }, within=0.06)],
)  # fmt: skip

CHECKS = [LENGTH, FOLD, COLLAPSE, XOR, CONVOLUTION, DEPTH]
