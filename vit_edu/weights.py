"""Is it really a ViT?.

Written by tools/export.py from book/text/06_weights.md: edit that file, then `make sync`.
"""

import glob
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from vit_edu.model import VisionTransformer

State = Mapping[str, Tensor]


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
    renamed = {}
    for name, tensor in state.items():
        for theirs, ours in TORCHVISION_NAMES.items():
            name = name.replace(theirs, ours)
        renamed[name] = tensor
    return renamed


def from_timm(state: State, model: VisionTransformer) -> dict[str, Tensor]:
    """The state dict of a timm `VisionTransformer`, arranged for our `model`.

    Names are the same; what differs is who has a position. timm counts registers into
    `pos_embed`, ours have none: theirs are added to the registers. Where timm gives the
    class token no position (`no_embed_class`), ours is zero. A class token that a
    mean-pooling timm model carries without reading it is a register here.
    """
    state, n_patches = dict(state), model.patch_embed.n_patches
    n_cls = int(model.pool == "cls" and "cls_token" in state)
    tokens = [state.pop(name) for name in ("cls_token", "reg_token") if name in state]
    if not tokens:
        return state
    prefix = torch.cat(tokens, dim=1)                       # (1, [1+]R, D)
    if "pos_embed" in state:
        positions = state["pos_embed"]                      # (1, extra + N, D)
        extra = positions.shape[1] - n_patches
        if extra not in (0, prefix.shape[1]):
            raise ValueError(
                f"pos_embed has {positions.shape[1]} positions, the model has {n_patches} "
                "patches; build the model with the checkpoint's img_size and patch_size"
            )
        own = positions[:, :extra] if extra else torch.zeros_like(prefix)
        state["pos_embed"] = torch.cat([own[:, :n_cls], positions[:, extra:]], dim=1)
        prefix = torch.cat([prefix[:, :n_cls], (prefix + own)[:, n_cls:]], dim=1)
    if n_cls:
        state["cls_token"] = prefix[:, :1]
    if prefix.shape[1] > n_cls:
        state["reg_token"] = prefix[:, n_cls:]
    return state


def load_state(model: nn.Module, state: State, source: str = "the checkpoint") -> None:
    """Copy `state` into `model`, all of it or nothing; ValueError says what does not fit."""
    own = model.state_dict()
    problems = [f"it lacks {name}" for name in own.keys() - state.keys()]
    problems += [f"{name} is not in the model" for name in state.keys() - own.keys()]
    problems += [
        f"{name} is {tuple(state[name].shape)}, the model's {tuple(own[name].shape)}"
        for name in own.keys() & state.keys()
        if state[name].shape != own[name].shape
    ]
    if problems := sorted(problems):
        rest = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(
            f"{source} is of another architecture: {'; '.join(problems[:5])}{rest}. "
            "Build the model with the arguments the checkpoint was made with"
        )
    model.load_state_dict(state)


@contextmanager
def written_beside(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path to write to; renamed to `path` once it is complete and on disk.

    Whatever happens while writing, `path` holds either its old content or its new one.
    What a killed writer of this file left behind is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{glob.escape(path.name)}.[0-9]*.part"):
        stale.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of `torch.compile`, averaging and parallel training."""
    wrappers = AveragedModel, nn.DataParallel, nn.parallel.DistributedDataParallel
    if isinstance(model, wrappers):
        return unwrapped(model.module)
    return unwrapped(model._orig_mod) if hasattr(model, "_orig_mod") else model


def save_weights(
    model: nn.Module, path: str | os.PathLike, dtype: torch.dtype | None = None
) -> None:
    """Write the weights, and a `VisionTransformer`'s constructor arguments, as safetensors.

    `dtype=torch.float16` halves the file. The file appears complete or not at all.
    """
    model, state = unwrapped(model), {}
    for name, tensor in model.state_dict().items():
        state[name] = tensor.detach().to("cpu", dtype).contiguous()
        if tensor.isfinite().all() and not state[name].isfinite().all():
            raise ValueError(f"{name} has numbers too large for {dtype}; save it in float32")
    config = dict(getattr(model, "config", {}))
    if config and isinstance(model.head, nn.Linear):    # it may have been replaced
        config["num_classes"] = model.head.out_features
    with written_beside(path) as temporary:
        save_file(state, temporary, metadata={"config": json.dumps(config)})


def read_weights(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict]:
    """Read a safetensors file: its tensors, and the model's arguments ({} if it has none)."""
    with open(path, "rb"):    # a folder, not there, not allowed: Python says it best
        pass
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}
            config = (file.metadata() or {}).get("config", "{}")
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a complete safetensors file ({error}); "
            "copy or download it again"
        ) from error
    try:
        return state, dict(json.loads(config))
    except (TypeError, ValueError):    # somebody else's metadata by that name
        return state, {}


def load_weights(model: nn.Module, path: str | os.PathLike) -> None:
    """Copy the weights in a safetensors file into `model`."""
    load_state(unwrapped(model), read_weights(path)[0], source=str(path))


def load_model(path: str | os.PathLike) -> VisionTransformer:
    """Rebuild a `VisionTransformer` from a file that `save_weights` wrote."""
    state, config = read_weights(path)
    if not config:
        raise ValueError(
            f"{path} does not say which model it is of; build the model, then load_weights"
        )
    model = VisionTransformer(**config)
    load_state(model, state, source=str(path))
    return model
