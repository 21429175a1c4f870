"""Is it really a ViT?.

Written by tools/export.py from book/text/06_weights.md: edit that file, then `make sync`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vit_edu.model import VisionTransformer

State = Mapping[str, Tensor]


def renamed(state: State, names: Mapping[str, str]) -> dict[str, Tensor]:
    """`state` with every piece of a name that `names` lists replaced, in its order."""
    result = {}
    for name, tensor in state.items():
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        result[name] = tensor
    return result


TORCHVISION_NAMES = {
    "class_token": "cls_token",
    "conv_proj": "patch_embed.proj",
    "encoder.pos_embedding": "pos_embed",
    "encoder.layers.encoder_layer_": "blocks.",
    "encoder.ln": "norm",
    "heads.head": "head",
    ".ln_1.": ".norm1.",
    ".ln_2.": ".norm2.",
    ".self_attention.in_proj_": ".attn.qkv.",
    ".self_attention.out_proj.": ".attn.proj.",
    ".mlp.linear_1.": ".mlp.fc1.",    # older checkpoints
    ".mlp.linear_2.": ".mlp.fc2.",
    ".mlp.0.": ".mlp.fc1.",           # newer ones
    ".mlp.3.": ".mlp.fc2.",
}


def from_torchvision(state: State) -> dict[str, Tensor]:
    """The state dict of torchvision's `VisionTransformer`, with our parameter names."""
    return renamed(state, TORCHVISION_NAMES)


TOKENS = "cls_token", "dist_token", "reg_token", "pos_embed"


def from_timm(state: State, model: VisionTransformer) -> dict[str, Tensor]:
    """The state dict of a timm `VisionTransformer`, arranged for our `model`.

    Registers have no positions here: theirs are added to them. A class token without
    one (`no_embed_class`) gets zeros. DeiT's `dist_token`, and a class token that
    mean pooling does not read, are registers.
    """
    state, n_patches = dict(state), model.patch_embed.n_patches
    names = [name for name in TOKENS[:3] if name in state]
    tokens = [state.pop(name) for name in names]
    n_cls = int(model.pool == "cls" and "cls_token" in names)
    if not tokens:
        return state
    prefix = torch.cat(tokens, dim=1)                       # (1, [1+]R, D)
    if "pos_embed" in state:
        positions = state["pos_embed"]                      # (1, extra + N, D)
        extra = positions.shape[1] - n_patches
        if extra not in (0, int("cls_token" in names), prefix.shape[1]):
            raise ValueError(
                f"pos_embed has {positions.shape[1]} positions, the model has {n_patches} "
                "patches; build the model with the checkpoint's img_size and patch_size"
            )
        none = torch.zeros_like(prefix[:, extra:])
        own = torch.cat([positions[:, :extra], none], dim=1)
        state["pos_embed"] = torch.cat([own[:, :n_cls], positions[:, extra:]], dim=1)
        prefix = torch.cat([prefix[:, :n_cls], (prefix + own)[:, n_cls:]], dim=1)
    if n_cls:
        state["cls_token"] = prefix[:, :1]
    if prefix.shape[1] > n_cls:
        state["reg_token"] = prefix[:, n_cls:]
    return state


def fold_layer_scale(state: State) -> dict[str, Tensor]:
    """Multiply each LayerScale (Touvron et al., 2021) into the linear layer before it."""
    result, depth = dict(state), sum(name.endswith(".norm1.weight") for name in state)
    for scale, layer in (".ls1.gamma", ".attn.proj"), (".ls2.gamma", ".mlp.fc2"):
        if len(names := [name for name in state if name.endswith(scale)]) != depth:
            raise ValueError(f"{len(names)} of {depth} blocks have their {scale[1:]}")
        for name in names:
            gamma = result.pop(name).float()                       # (D,)
            for end in ".weight", ".bias":
                target = name.removesuffix(scale) + layer + end
                matrix = state.get(target)                         # (D, columns) or (D,)
                if matrix is None or matrix.shape[:1] != gamma.shape:
                    raise ValueError(f"{name} does not fit {target}")
                result[target] = torch.einsum("d,d...->d...", gamma, matrix.float())
    return result


OTHER_NAMES = {    # Hugging Face's and Meta's
    "embeddings.patch_embeddings.projection.": "patch_embed.proj.",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.distillation_token": "dist_token",
    "embeddings.": "",
    "encoder.layer.": "blocks.",
    "layers.": "blocks.",    # transformers 5, in memory
    ".attention.output.dense.": ".attn.proj.",
    ".attention.o_proj.": ".attn.proj.",
    ".intermediate.dense.": ".mlp.fc1.",
    ".output.dense.": ".mlp.fc2.",
    ".layernorm_before.": ".norm1.",
    ".layernorm_after.": ".norm2.",
    "layernorm.": "norm.",
    "cls_classifier.": "head.",
    "distillation_classifier.": "head_dist.",
    "classifier.": "head.",
    ".layer_scale1.lambda1": ".ls1.gamma",
    ".layer_scale2.lambda1": ".ls2.gamma",
    ".gamma_1": ".ls1.gamma",
    ".gamma_2": ".ls2.gamma",
    "register_tokens": "reg_token",
}


def joined_qkv(state: State) -> dict[str, Tensor]:
    """Hugging Face's query, key and value as one matrix, `attn.qkv` (3D, D)."""
    one = re.compile(r"\.attention\.(?:attention\.)?([qkv])(?:uery|ey|alue|_proj)\.")
    result, found = {}, {}
    for name, tensor in state.items():
        if match := one.search(name):
            found.setdefault(one.sub(".attn.qkv.", name), {})[match[1]] = tensor
        else:
            result[name] = tensor
    for name, parts in found.items():
        if len(parts) < 3 or len({part.shape for part in parts.values()}) > 1:
            raise ValueError(f"query, key and value for {name} do not fit each other")
        result[name] = torch.cat([parts[letter] for letter in "qkv"])
    return result


ANCHORS = {
    "patch_embed.proj.weight": "timm",
    "conv_proj.weight": "torchvision",
    "embeddings.patch_embeddings.projection.weight": "Hugging Face",
}
LACKING = {    # pieces of names, and the part that they belong to
    r"rope|rotary|storage_token|patch_embeddings\.weight": "rotary positions (RoPE)",
    r"norm_pre|pre_layrnorm|ln_pre": "a norm before the blocks, as CLIP",
    r"rel_pos|relative_position": "relative positions, as BEiT, SAM and Swin",
    r"\bw12\b|\bw3\b|fc1_g|gate_proj|weights_in": "a gated MLP (SwiGLU)",
    r"attn_pool|head\.probe": "pooling by attention, as SigLIP",
    r"\b[qk]_norm": "normalised queries and keys",
    r"patch_embed\.(backbone|norm)|stages\.|downsample": "convolutional stages",
    r"attns\.|in_proj|lambda_|sub_norm|(attn|mlp)\.norm": "another kind of block",
}
NOT_NEEDED = {
    r"^decoder": "the decoder of its pretraining",
    r"^(mask_token|masked_embed)$": "the token for masked patches",
    r"^pooler\.": "the pooler after the class token",
}


class Tower(NamedTuple):
    """A ViT in nested dictionaries: in the one at `path`, the names with `prefix`."""

    path: str
    prefix: str
    naming: str
    tensors: dict[str, Tensor]


def towers(tree: Any, path: str = "") -> Iterator[Tower]:
    """Every ViT in nested dictionaries."""
    if not isinstance(tree, Mapping):
        return
    tensors = {n: t for n, t in tree.items() if isinstance(t, Tensor) and type(n) is str}
    for name in tensors:
        for anchor, naming in ANCHORS.items():
            if f".{name}".endswith(f".{anchor}"):
                yield Tower(path, name.removesuffix(anchor), naming, tensors)
    for name, inner in tree.items():
        yield from towers(inner, f"{path}{name}.")


def all_names(tree: Any, prefix: str = "") -> list[str]:
    """The names of all tensors in nested dictionaries."""
    if isinstance(tree, Tensor):
        return [prefix.strip(".")]
    items = tree.items() if isinstance(tree, Mapping) else ()
    return [name for key, inner in items for name in all_names(inner, f"{prefix}{key}.")]


def refuse_parts(names: list[str]) -> None:
    """ValueError if a name belongs to a part that our model has no place for."""
    for pattern, words in LACKING.items():
        for name in names:
            if re.search(pattern, name):
                raise ValueError(f"it has {words} ({name}): ours has no such part")


def one_tower(tree: Any, part: str | None = None) -> Tower:
    """The tower called `part`; else the only one, or the only averaged one."""
    found = {f"{tower.path}{tower.prefix}".strip("."): tower for tower in towers(tree)}
    if not found:
        refuse_parts(names := all_names(tree))
        raise ValueError(f"it holds no ViT that we know, but {sorted(names)[:3]}")
    usual = "", "teacher", "model_ema", "state_dict_ema"
    for wanted in usual if part is None else (part,):
        fits = [n for n in found if wanted in ("", n) or wanted in n.split(".")]
        if len(fits) == 1:
            return found[fits[0]]
    raise ValueError(f"it holds {len(found)} models: pass part=, one of {list(found)}")


def cleaned(tower: Tower) -> tuple[dict[str, Tensor], list[str]]:
    """A tower's tensors under timm's names, and notes on what was left out."""
    inside, outside = {}, set()
    for name, tensor in tower.tensors.items():
        is_head = tower.naming == "Hugging Face" and "classifier." in name
        if name.startswith(tower.prefix) or is_head:
            inside[name.removeprefix(tower.prefix)] = tensor
        else:
            outside.add(name.split(".")[0])
    notes = [f"left out: {', '.join(sorted(outside))}"] if outside else []
    state = renamed(from_torchvision(inside), OTHER_NAMES)
    for pattern, words in NOT_NEEDED.items():
        if [state.pop(name) for name in list(state) if re.search(pattern, name)]:
            notes.append(f"left out: {words}")
    refuse_parts(list(state))
    cut = re.compile(r"blocks\.\d+\.(?=\d)")    # Meta's blocks come in chunks
    state = {cut.sub("blocks.", name): tensor for name, tensor in state.items()}
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{name} is {tensor.dtype}; load the model as it was trained")
    return joined_qkv(state), notes


def sizes(state: State, name: str, ndim: int) -> tuple[int, ...]:
    """The shape of `state[name]`; it must have `ndim` dimensions."""
    if name not in state:
        raise ValueError(f"it lacks {name}")
    shape = tuple(state[name].shape)
    if len(shape) != ndim or 0 in shape:
        raise ValueError(f"{name} is {shape}, not {ndim} positive dimensions")
    return shape


WIDE = {1152: 16, 1280: 16, 1408: 16, 1664: 16}    # heads


def usual_heads(dim: int) -> int:
    """The number of heads by convention: 64 numbers each, but for the widest."""
    if dim % 64 and dim not in WIDE:
        raise ValueError(f"no shape tells its heads, nor does width {dim}: pass n_heads=")
    return WIDE.get(dim, dim // 64)


def square_side(n: int, extras: set[int]) -> int:
    """The side of the grid, if `n` positions less one of `extras` are a square."""
    sides = [side for side in range(1, n + 1) if n - side**2 in extras]
    if len(sides) != 1:
        raise ValueError(f"{n} positions tell no grid: pass img_size=(H, W)")
    return sides[0]


def derived(state: State, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `VisionTransformer` that shapes tell; `given` has the last word."""
    dim, channels, *patch = sizes(state, "patch_embed.proj.weight", 4)
    if "pos_embed" not in state:
        raise ValueError("it has no pos_embed: its positions are rotary (RoPE), or computed")
    n = {t: sizes(state, t, 3)[1] if t in state else 0 for t in TOKENS}
    for name in n:
        if name in state and state[name].shape[::2] != (1, dim):
            raise ValueError(f"{name} is {tuple(state[name].shape)}, not (1, n, {dim})")
    n_positions = n.pop("pos_embed")
    blocks = {int(x[1]) for x in map(re.compile(r"blocks\.(\d+)\.").match, state) if x}
    if blocks != set(range(len(blocks))) or not blocks:
        raise ValueError(f"its blocks are {sorted(blocks)}, not 0, 1, 2 and so on")
    hidden, _ = sizes(state, "blocks.0.mlp.fc1.weight", 2)
    if sizes(state, "blocks.0.mlp.fc2.weight", 2)[1] * 2 == hidden:
        raise ValueError("it has a gated MLP (SwiGLU): ours has no such part")
    fc_norm = "fc_norm.weight" in state
    headless = "head.weight" not in state
    classes, inputs = (0, dim) if headless else sizes(state, "head.weight", 2)
    if inputs != dim:
        what = f"its head reads {inputs} numbers (DINOv2's two vectors), a token has {dim}"
        raise ValueError(f"{what}: pass num_classes=0 for the model without it")
    pool = given.get("pool", "mean" if fc_norm or not n["cls_token"] else "cls")
    known = dict(
        patch_size=tuple(patch), in_channels=channels, num_classes=classes, pool=pool,
        embed_dim=dim, depth=len(blocks), qkv_bias="blocks.0.attn.qkv.bias" in state,
        mlp_ratio=(hidden + 0.5) / dim if hidden % dim else hidden / dim, fc_norm=fc_norm,
        n_registers=sum(n.values()) - (n["cls_token"] if pool == "cls" else 0),
    )  # fmt: skip
    if "n_heads" not in given:
        known["n_heads"] = usual_heads(dim)
    if "img_size" not in given:
        side = square_side(n_positions, {0, n["cls_token"], sum(n.values())})
        known["img_size"] = side * patch[0], side * patch[1]
    return known | dict(given)


class Found(NamedTuple):
    """What a checkpoint is: arguments and tensors for `VisionTransformer`."""

    family: str
    arguments: dict[str, Any]
    state: dict[str, Tensor]
    notes: list[str]     # what changes nothing
    losses: list[str]    # what was left out and changes the answer


def family_of(tower: Tower, state: State) -> tuple[str, dict[str, Any]]:
    """The family, and its habits: how it resizes positions, its epsilon."""
    names = {name.split(".")[-1] for name in tower.tensors}
    whose = "Meta" if tower.naming == "timm" else tower.naming
    if names & {"mask_token", "register_tokens"} and "blocks.0.ls1.gamma" in state:
        return f"DINOv2 ({whose})", dict(antialias="register_tokens" in names)
    if tower.naming == "Hugging Face":
        return "ViT (Hugging Face)", dict(antialias=False, norm_eps=1e-12)
    if "teacher" in tower.path + tower.prefix:
        return "DINO (Meta)", dict(antialias=False)
    if "decoder_pos_embed" in names:
        return "MAE (Meta)", {}
    return f"{'distilled DeiT' if 'dist_token' in state else 'ViT'} ({tower.naming})", {}


def recognise(tree: Any, given: Mapping[str, Any], part: str | None = None) -> Found:
    """Find and arrange the ViT in nested dictionaries; `given` arguments are known."""
    tower = one_tower(tree, part)
    state, notes = cleaned(tower)
    family, habits = family_of(tower, state)
    if scales := sum(name.endswith(".gamma") for name in state):
        notes.append(f"folded: {scales} LayerScales, each into the layer before it")
        state = fold_layer_scale(state)
    second, losses = [name for name in state if name.startswith("head_dist.")], []
    if second:
        losses.append("left out: the second token's head (its library averages the two)")
    if given.get("num_classes") == 0:
        second += [name for name in state if name.startswith("head.")]
    state = {name: tensor for name, tensor in state.items() if name not in second}
    arguments = derived(state, habits | dict(given))
    with torch.device("meta"):    # shapes without numbers
        outline = VisionTransformer(**arguments)
    return Found(family, arguments, from_timm(state, outline), notes, losses)
