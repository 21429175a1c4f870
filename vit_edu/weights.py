"""Is it really a ViT?.

Written by tools/export.py from book/text/06_weights.md: edit that file, then `make sync`.
"""

import argparse
import json
import os
import re
import socket
import sys
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from vit_edu.families import Found, State, recognise
from vit_edu.families import from_timm as from_timm
from vit_edu.families import from_torchvision as from_torchvision
from vit_edu.model import VisionTransformer


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


def expanded(path: str | os.PathLike) -> Path:
    """`path`, with `~` the home folder."""
    return Path(os.path.expanduser(path))


def is_alive(pid: int) -> bool:
    """Does this process of our machine run? True where nobody can tell."""
    try:
        if os.name == "posix":
            os.kill(pid, 0)    # signal 0 only asks
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


@contextmanager
def written_beside(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path to write to; renamed to `path` once it is on disk.

    `path` holds its old content or its new one, whatever happens; the last of several
    writers wins. What a killed writer left on this machine is removed.
    """
    path, host = expanded(path), re.sub(r"\W", "-", socket.gethostname())
    path.parent.mkdir(parents=True, exist_ok=True)
    stale = re.compile(rf"\.{re.escape(path.name)}\.{host}\.(\d+)\.\w+\.part")
    for other in path.parent.iterdir():
        match = stale.fullmatch(other.name)
        if match and not is_alive(int(match[1])):
            other.unlink(missing_ok=True)
    unique = f"{host}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    temporary = path.with_name(f".{path.name}.{unique}.part")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class Preparation:
    """How pictures (scaled to 0..1) were normalised, and what the classes are called.

    mean, std: a number per channel; classes: names in order, {number: name} or None
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...] | dict[int, str] | None = None

    def __post_init__(self) -> None:
        mean, std = tuple(map(float, self.mean)), tuple(map(float, self.std))
        if len(mean) != len(std) or min(std, default=0) <= 0:
            raise ValueError(f"mean {mean} and std {std}: one each per channel, std above 0")
        names = self.classes
        if isinstance(names, Mapping):
            if not all(str(number).isdecimal() for number in names):
                raise ValueError(f"classes lead from number to name, not {names}")
            names = {int(number): str(name) for number, name in names.items()}
            if sorted(names) == list(range(len(names))):
                names = [names[number] for number in range(len(names))]
        if names is not None and not isinstance(names, dict):
            names = tuple(map(str, names))
        for name, value in dict(mean=mean, std=std, classes=names).items():
            object.__setattr__(self, name, value)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of `torch.compile`, averaging and parallel training."""
    wrappers = AveragedModel, nn.DataParallel, nn.parallel.DistributedDataParallel
    if isinstance(model, wrappers):
        return unwrapped(model.module)
    return unwrapped(model._orig_mod) if hasattr(model, "_orig_mod") else model


def save_weights(
    model: nn.Module,
    path: str | os.PathLike,
    dtype: torch.dtype | None = None,
    preparation: Preparation | Mapping | None = None,
) -> None:
    """Write the weights, and a `VisionTransformer`'s constructor arguments, as safetensors.

    `dtype=torch.float16` halves the file. `preparation`: a `Preparation` or a dictionary
    of its fields; by default `model.preparation`. The file appears complete or not at all.
    """
    model, state = unwrapped(model), {}
    for name, tensor in model.state_dict().items():
        state[name] = tensor.detach().to("cpu", dtype).contiguous()
        if tensor.isfinite().all() and not state[name].isfinite().all():
            raise ValueError(f"{name} has numbers too large for {dtype}; save it in float32")
    config = dict(getattr(model, "config", {}))
    if config and isinstance(model.head, nn.Linear):    # it may have been replaced
        config["num_classes"] = model.head.out_features
    known = getattr(model, "preparation", None) if preparation is None else preparation
    known = Preparation(**known) if isinstance(known, Mapping) else known
    if known is not None:
        config["preparation"] = asdict(known)
    with written_beside(path) as temporary:    # one entry: two would come in any order
        save_file(state, temporary, metadata={"config": json.dumps(config)})


def is_pickled(path: Path) -> bool:
    """Is it PyTorch's kind of file? ValueError for what only stands for a file."""
    with open(path, "rb") as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} only points to a file (Git LFS): run `git lfs pull`")
    if start.lstrip().startswith(b"<"):
        raise ValueError(f"{path} is a web page: download the file itself")
    header = int.from_bytes(start[:8], "little")    # of safetensors: far below 100 MB
    return start[:2] == b"PK" or (start[:1] == b"\x80" and header > 10**8)


def read_safetensors(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict, Any]:
    """A safetensors file's tensors, the model's arguments ({}), `Preparation` or None."""
    path = expanded(path)
    if is_pickled(path):
        raise ValueError(f"{path} is not safetensors but PyTorch's; load_checkpoint reads it")
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}
            said = (file.metadata() or {}).get("config", "{}")
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a complete safetensors file ({error}); "
            "copy or download it again"
        ) from error
    try:
        config = dict(json.loads(said))
        known = config.pop("preparation", None)
        return state, config, known and Preparation(**known)
    except (TypeError, ValueError):    # somebody else's metadata by that name
        return state, {}, None


def read_weights(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict]:
    """A safetensors file's tensors, and the model's arguments ({} if it has none)."""
    return read_safetensors(path)[:2]


def load_weights(model: nn.Module, path: str | os.PathLike) -> None:
    """Copy the weights in a safetensors file into `model`."""
    load_state(unwrapped(model), read_weights(path)[0], source=str(path))


def load_model(path: str | os.PathLike) -> VisionTransformer:
    """Rebuild a model from a file of `save_weights`, its `preparation` noted on it."""
    state, config, known = read_safetensors(path)
    if not config:
        raise ValueError(
            f"{path} does not say which model it is of; let load_checkpoint find out"
        )
    model = VisionTransformer(**config)
    load_state(model, state, source=str(path))
    model.preparation = known
    return model


def read_pickled(path: Path) -> Any:
    """A PyTorch file's content, with `weights_only=True`: no code in it runs."""
    try:
        options = torch.serialization.safe_globals([argparse.Namespace])    # harmless
        with options, warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        code = re.search(r"GLOBAL ([\w.]+)|(TorchScript)", str(error))
        if code is None:
            raise ValueError(
                f"{path} is not a complete PyTorch file; copy or download it again"
            ) from error
        raise ValueError(
            f"{path} holds more than tensors ({code[1] or code[2]}): opening it would run "
            "code. Where you trust it and have that code, load it, and "
            "torch.save(model.state_dict(), path) makes a file for here"
        ) from None


WHOLE = "model.safetensors", "pytorch_model.bin"
NAMES = [*WHOLE, *(f"{name}.index.json" for name in WHOLE)]


def read_checkpoint(path: Path) -> tuple[Any, dict, Preparation | None]:
    """Tensors, arguments and preparation of a file, an index of files or a folder."""
    if path.is_dir():
        if not (there := [path / name for name in NAMES if (path / name).is_file()]):
            raise FileNotFoundError(f"{path} has none of {', '.join(NAMES)}; name the file")
        tree, config, known = read_checkpoint(there[0])
        return tree, *((config, known) if "embed_dim" in config else told(path))
    if path.name.endswith(".index.json"):
        tree, index = {}, json.loads(path.read_text("utf-8"))
        for name in sorted(set(index["weight_map"].values())):
            tree |= read_checkpoint(path.parent / Path(name).name)[0]
        return tree, {}, None
    return (read_pickled(path), {}, None) if is_pickled(path) else read_safetensors(path)


def told(folder: Path) -> tuple[dict, Preparation | None]:
    """Arguments and preparation that the JSON files of a Hugging Face folder tell."""
    files = [folder / name for name in ("config.json", "preprocessor_config.json")]
    texts = (file.read_text("utf-8") if file.is_file() else "{}" for file in files)
    config, pictures = (json.loads(text) for text in texts)
    act, timms = config.get("hidden_act", "gelu"), config.get("pretrained_cfg", {})
    if act != "gelu":
        raise ValueError(f"{folder}: its activation is {act}, ours the exact gelu")
    names = dict(num_attention_heads="n_heads", layer_norm_eps="norm_eps", image_size="img_size")
    given = {ours: config[name] for name, ours in names.items() if config.get(name)}
    if config.get("global_pool") in ("avg", "token"):
        given["pool"] = "mean" if config["global_pool"] == "avg" else "cls"
    classes = {int(i): name for i, name in config.get("id2label", {}).items()}
    if all(name == f"LABEL_{i}" for i, name in classes.items()):
        classes = timms.get("label_names")
    known = dict(mean=pictures.get("image_mean", timms.get("mean")), classes=classes,
                 std=pictures.get("image_std", timms.get("std")))
    return given, Preparation(**known) if known["mean"] else None


def examined(
    source: Any, given: Mapping[str, Any], part: str | None = None
) -> tuple[str, Found, Preparation | None]:
    """A path or state dict: its name, what it is, its preparation."""
    name, config, known = "the state dict", {}, None
    if isinstance(source, (str, os.PathLike)):
        name = str(source)
        source, config, known = read_checkpoint(expanded(source))
    elif not isinstance(source, Mapping):
        kind = type(source).__name__
        raise TypeError(f"{kind} is no path and no state dict; pass model.state_dict()")
    if "embed_dim" in config:    # ours
        return name, Found("ours", config | dict(given), source, [], []), known
    try:
        return name, recognise(source, config | dict(given), part), known
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def built(name: str, found: Found) -> VisionTransformer:
    """The model that was found, in evaluation mode."""
    model = VisionTransformer(**found.arguments).eval()
    load_state(model, found.state, name)
    return model


def load_checkpoint(
    source: str | os.PathLike | Mapping,
    n_heads: int | None = None,
    part: str | None = None,
    **arguments: Any,
) -> VisionTransformer:
    """Anybody's ViT as ours, in evaluation mode, with its `preparation` (or None) noted.

    source: a file, a Hugging Face folder, or a state dict, nested or prefixed, with the
        names of timm, torchvision, Hugging Face or Meta
    n_heads: by default what a config says, or 64 numbers a head
    part: which of several models in a file: "teacher", "state_dict"
    arguments: of `VisionTransformer`, to know better than the file: img_size where the
        grid is not square, pool, antialias, num_classes=0 for no head

    ValueError names what is wrong, or the part that ours lacks. Code is never run. A
    warning says what is left out and changes the answer.
    """
    given = arguments if n_heads is None else arguments | {"n_heads": n_heads}
    name, found, known = examined(source, given, part)
    model = built(name, found)
    for loss in found.losses:
        warnings.warn(f"{name}: {loss}", stacklevel=2)
    model.preparation = known
    return model


def described(source: Any, n_heads: int | None = None, part: str | None = None) -> str:
    """What a checkpoint is, in a few lines."""
    given = {} if n_heads is None else {"n_heads": n_heads}
    name, found, known = examined(source, given, part)
    n = sum(p.numel() for p in built(name, found).parameters())
    arguments = ", ".join(f"{key}={value}" for key, value in found.arguments.items())
    lines = [f"{name}: {found.family}, {n:,} parameters", arguments, *found.notes, *found.losses]
    return "\n  ".join(lines + ([f"preparation: {known}"] if known else []))


def main() -> None:
    """`python -m vit_edu.weights FILE ...` says what files are."""
    parser = argparse.ArgumentParser("vit_edu.weights", description="What is this file?")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--heads", type=int, help="where the width does not tell")
    parser.add_argument("--part", help="which of several models")
    options = parser.parse_args()
    for file in options.files:
        print(described(file, options.heads, options.part))


if __name__ == "__main__" and "__file__" in globals():    # not in a notebook
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"vit_edu.weights: {error}")
