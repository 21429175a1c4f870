"""The checks of chapter 04, the block."""

import torch
from torch import nn

from vit_edu.block import Block
from vit_edu.exercises import Code, Mistake, Part, Prediction

# ex-block-post


def blocks():
    """Blocks of which nothing is at its start: norms, biases and all, in several widths, heads and ratios."""
    for seed, (dim, heads, ratio) in enumerate([(4, 1, 1.0), (4, 2, 2.0), (6, 3, 4.0), (8, 4, 3.0), (64, 4, 4.0)]):
        torch.default_generator.manual_seed(seed)
        block = Block(dim, heads, ratio, qkv_bias=True)
        for parameter in block.parameters():
            if parameter.ndim == 1:
                nn.init.normal_(parameter, mean=0.5)
        yield (block,)


def in_post_norm(block):
    def forward(x):
        x = block.norm1(x + block.attn(x))
        return block.norm2(x + block.mlp(x))

    return forward


def on_tokens(result, block):
    """Three sequences of five tokens, in evaluation, so that dropout is not in the way of other findings."""
    x = torch.randn(3, 5, block.attn.proj.in_features, generator=torch.Generator().manual_seed(1))
    if isinstance(result, nn.Module):
        result.eval()
    with torch.no_grad():
        return result(x)


def encoder(block, swapped=(), **options):
    """PyTorch's layer with the block's weights; `swapped` names two of its parts that get each other's."""
    options = dict(activation="gelu", batch_first=True, layer_norm_eps=block.norm1.eps) | options
    layer = nn.TransformerEncoderLayer(
        block.attn.proj.in_features, block.attn.n_heads, block.mlp.fc1.out_features, dropout=0.0, **options
    )
    parts = {"norm1": "norm1", "norm2": "norm2", "self_attn.out_proj": "attn.proj"}
    parts |= {"linear1": "mlp.fc1", "linear2": "mlp.fc2"}
    if swapped:
        first, second = swapped
        parts[first], parts[second] = parts[second], parts[first]
    for theirs, ours in parts.items():
        layer.get_submodule(theirs).load_state_dict(block.get_submodule(ours).state_dict())
    with torch.no_grad():
        layer.self_attn.in_proj_weight.copy_(block.attn.qkv.weight)
        layer.self_attn.in_proj_bias.copy_(block.attn.qkv.bias)
    return layer


def differs(ours, theirs):
    """A question: does a parameter of the answer differ from the block's?"""

    def asks(function, block):
        return not torch.equal(function(block).get_parameter(theirs), block.get_parameter(ours))

    return asks


POST = Code(
    "to_pytorch",
    "A post-norm nn.TransformerEncoderLayer with the block's sizes and weights.",
    blocks,
    in_post_norm,
    "one to four heads, four ratios, against the block's own parts in post-norm order",
    [
        Mistake(
            "the norms stand at the entrance of the branches: norm_first has to be False",
            like=lambda block: encoder(block, norm_first=True),
        ),
        Mistake(
            "the activation is ReLU unless it is told: \"gelu\"",
            like=lambda block: encoder(block, activation="relu"),
        ),
        Mistake(
            "batch and tokens are exchanged: PyTorch expects (N, B, D) unless batch_first is True",
            like=lambda block: encoder(block, batch_first=False),
        ),
        Mistake(
            "the two norms have each other's weights: norm1 belongs to attention",
            like=lambda block: encoder(block, swapped=("norm1", "norm2")),
        ),
        Mistake(
            "the number of heads is not the block's",
            when=lambda f, block: f(block).self_attn.num_heads != block.attn.n_heads,
        ),
        Mistake(
            "the weights of q, k and v are not the block's: in_proj_weight",
            when=differs("attn.qkv.weight", "self_attn.in_proj_weight"),
        ),
        Mistake(
            "the biases of q, k and v are not the block's: in_proj_bias",
            when=differs("attn.qkv.bias", "self_attn.in_proj_bias"),
        ),
        Mistake(
            "out_proj does not have the weights of attn.proj",
            when=differs("attn.proj.weight", "self_attn.out_proj.weight"),
        ),
        Mistake("the norms do not have the block's weights", when=lambda f, b: any(
            differs(name, name)(f, b) for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"))),
        Mistake("linear1 and linear2 do not have the MLP's weights", when=lambda f, b: any(
            differs(f"mlp.fc{n}.{kind}", f"linear{n}.{kind}")(f, b) for n in (1, 2) for kind in ("weight", "bias"))),
        Mistake(
            "the norms have PyTorch's epsilon or another; the block's is 1e-6",
            when=lambda f, block: f(block).norm1.eps != block.norm1.eps,
        ),
        Mistake(
            "dropout is on in training, PyTorch's default is 0.1; the block has none",
            when=lambda f, block: any(m.p for m in f(block).modules() if isinstance(m, nn.Dropout)),
        ),
    ],
    observe=on_tokens,
    returns=nn.TransformerEncoderLayer,
    tolerance=1e-5,
)  # fmt: skip


# Predictions

COUNT = Prediction(
    "ex-block-count",
    "Millions of parameters in the blocks of ViT-S (width 384, 12 blocks) and ViT-L (1024, 24), by 12 D².",
    [
        Part("ViT-S, millions", 21.2, {
            1.77: "that is one block",
            1.8: "that is one block",
            7.1: "that is 4 D² a block, attention alone",
            14.2: "that is 8 D² a block, the MLP alone",
            85: "that is width 768",
        }, within=0.4),
        Part("ViT-L, millions", 302, {
            12.6: "that is one block",
            151: "that is 12 blocks",
            101: "that is 4 D² a block, attention alone",
            201: "that is 8 D² a block, the MLP alone",
        }, within=2),
    ],
)  # fmt: skip

ORDER = Prediction(
    "ex-block-order",
    "What becomes of a block's output when its tokens are shuffled, and which part of a ViT knows places?",
    [
        Part("the output", "shuffled", {
            "same": "each output belongs to its token, and goes where that goes",
            "other": "attention, MLP, norms and plus treat all tokens the same, wherever they stand",
        }),
        Part("what knows places", "positions", {
            "attention": "its scores ask what the tokens are, not where",
            "MLP": "it sees one token at a time",
            "norms": "they see one token at a time",
        }),
    ],
)  # fmt: skip

SCALE = Prediction(
    "ex-block-scale",
    "The variance of the pre-norm stream after 24 blocks, output layers scaled by 1/√(2L), L = 24.",
    [Part("variance", 1.1, {
        12: "that is without the scaling",
        1: "nearly: the branches still add a little",
        0.15: "that is about what is added; the stream begins at 1",
        0.25: "12 / 48 divides the start, too; only what is added becomes smaller",
        1.7: "the standard deviation is scaled by 1/√48, the variance by 1/48",
    }, within=0.09)],
)  # fmt: skip

LEARN = Prediction(
    "ex-block-learn",
    "Rates 0.0005, 0.001 and 0.005: at which do three stacks all learn, and which one learns at the largest?",
    [
        Part("rate at which all learn", 0.0005, {
            0.001: "without plus signs no run learns there",
            0.005: "the larger the step, the more stacks fail",
        }),
        Part("learns at 0.005", "pre and plus", {
            "post and plus": "its last weights have gradients that do not shrink with depth, and there is no warm-up",
            "pre alone": "without the plus the range of steps that work is the narrowest",
        }),
    ],
)  # fmt: skip

CHECKS = [COUNT, POST, LEARN, ORDER, SCALE]
