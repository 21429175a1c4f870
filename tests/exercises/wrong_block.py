"""Wrong answers to the exercises of chapter 04."""

from torch import nn
from wrong_answers import wrong

POST = "to_pytorch"
RIGHT = dict(dropout=0.0, activation="gelu", batch_first=True, layer_norm_eps=1e-6)


def layer_of(block, **options):
    sizes = block.attn.proj.in_features, block.attn.n_heads, block.mlp.fc1.out_features
    return nn.TransformerEncoderLayer(*sizes, **(RIGHT | options))


def loaded(layer, block, leave=(), **renamed):
    """Loads the block's weights by PyTorch's names, but for those that begin with one of `leave`."""
    names = {"self_attn.in_proj_": "attn.qkv.", "self_attn.out_proj.": "attn.proj.", "linear1.": "mlp.fc1."}
    names |= {"linear2.": "mlp.fc2.", "norm1.": "norm1.", "norm2.": "norm2."} | {f"{k}.": v for k, v in renamed.items()}
    ours, state = block.state_dict(), layer.state_dict()
    for theirs, name in names.items():
        for kind in "weight", "bias":
            if not theirs.startswith(tuple(leave)) if leave else True:
                state[theirs + kind] = ours[name + kind]
    layer.load_state_dict(state)
    return layer


@wrong(POST, "norm_first has to be False")
def _(block):
    return loaded(layer_of(block, norm_first=True), block)


@wrong(POST, "is ReLU unless it is told")
def _(block):
    return loaded(layer_of(block, activation="relu"), block)


@wrong(POST, "batch_first is True")
def _(block):
    return loaded(layer_of(block, batch_first=False), block)


@wrong(POST, "norm1 belongs to attention")
def _(block):
    return loaded(layer_of(block), block, norm1="norm2.", norm2="norm1.")


@wrong(POST, "number of heads")
def _(block):
    sizes = block.attn.proj.in_features, 1, block.mlp.fc1.out_features
    return loaded(nn.TransformerEncoderLayer(*sizes, **RIGHT), block)


@wrong(POST, "in_proj_weight")
def _(block):
    return loaded(layer_of(block), block, leave=["self_attn.in_proj"])


@wrong(POST, "out_proj does not have")
def _(block):
    return loaded(layer_of(block), block, leave=["self_attn.out"])


@wrong(POST, "the norms do not have the block's weights")
def _(block):
    return loaded(layer_of(block), block, leave=["norm"])


@wrong(POST, "linear1 and linear2 do not have")
def _(block):
    return loaded(layer_of(block), block, leave=["linear"])


@wrong(POST, "the block's is 1e-6")
def _(block):
    return loaded(layer_of(block, layer_norm_eps=1e-5), block)


@wrong(POST, "dropout is on in training")
def _(block):
    return loaded(layer_of(block, dropout=0.1), block)


@wrong(POST, "stops in line")
def _(block):
    layer = nn.TransformerEncoderLayer(block.attn.proj.in_features, block.attn.n_heads, **RIGHT)
    return loaded(layer, block)


@wrong(POST, "the task asks for TransformerEncoderLayer")
def _(block):
    return block
