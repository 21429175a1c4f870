"""Where each patch of a picture looks, in any block and head of a Vision Transformer."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vit_edu.widgets.component import Component, colour_of, data_uri, inner, pack_model, png, rect, svg


class AttentionExplorer(Component):
    """Choose a picture, the patch that looks, a block and a head: the map beside the picture shows where it looks.

    A walk of five steps follows one patch from its pixels through the blocks to the answer, with the answers that the
    model would give after each block (`early_logits`). A model without a head has three: no answer.

    The maps travel with the page: every weight within 1/255 of its row's largest, `L·h·N²` bytes a picture (101 kB of
    HTML for 6 blocks of 3 heads and 64 tokens). No kernel, no request.

    Blocks, heads, registers, rows, columns and pictures are counted from 0, as in code. Small maps show every head of
    every block, on one scale for all (of square roots, where an even share would be dark otherwise) or each on its own.

    Args:
        model: any `VisionTransformer` of ours: class token or mean pooling, with or without registers; of any
            precision, compiled, averaged or data-parallel. One without a head (DINO) has no classes: its maps are
            shown without an answer.
        images: uint8 (n, C, H, W), or PIL images of the model's size.
        labels: the n true classes, if they are known.
        class_names: the names of the model's classes, in order or by number; by default those of its `preparation`.
        own_picture: whether readers may try a picture of their own, which the page runs through the model.
            True: the weights are a file beside the page, loaded when a picture is chosen. `write_weights(folder)`
            writes it; a built book looks for it in `_static/`, so write it to a folder of `html_static_path`, here
            `book/assets`. A page that is no book's (a notebook) has no such place, and does not show the button.
            "embed": the weights are inside, which makes the HTML 8/3 bytes a weight longer and works everywhere.
            False: no own pictures.
            The page's model is exactly this one if its weights are rounded to float16 first.
        mean, std: how the model's input is normalised, by channel; 8-bit values are divided by 255 first. By default
            as its `preparation` says, which `load_model` notes; a ValueError where nobody says it.
    """

    name, start, label = "attention-explorer", "startAttentionExplorer", "Where a Vision Transformer looks"
    styles = (*Component.styles, "stage.css", "attention_explorer.css")
    scripts = (*Component.scripts, "viridis.js", "stage.js", "vit.js", "attention_explorer.js")

    def __init__(
        self,
        model: nn.Module,
        images: Tensor | np.ndarray | Sequence[Image.Image],
        labels: Sequence[int] | None = None,
        class_names: Sequence[str] | None = None,
        own_picture: bool | str = True,
        mean: Sequence[float] | Tensor | None = None,
        std: Sequence[float] | Tensor | None = None,
    ) -> None:
        known = getattr(model, "preparation", None) or getattr(inner(model), "preparation", None)
        model = inner(model)
        check_model(model)
        channels = model.patch_embed.proj.in_channels
        size, (rows, columns) = model.patch_embed.img_size, model.patch_embed.grid_size
        mean, std = (channel_values(name, given, channels, known) for name, given in (("mean", mean), ("std", std)))
        images = picture_bytes(images, channels, size)
        if own_picture not in (True, False, "embed"):
            raise ValueError(f'own_picture is {own_picture!r}; choose True, False or "embed"')
        maps, early = look(model, images, mean, std)     # (n, L, h, N, N), (n, L + 1, K)
        if isinstance(model.head, nn.Identity):          # features, not classes
            early = early[..., :0]
        n_classes = early.shape[-1]
        class_names = getattr(known, "classes", None) if class_names is None and n_classes else class_names
        class_names = names_of(class_names, n_classes)
        labels = [None] * len(images) if labels is None else [int(label) for label in labels]
        if len(labels) != len(images) or any(k is not None and not 0 <= k < n_classes for k in labels):
            raise ValueError(f"labels {labels} for {len(images)} pictures and {n_classes} classes")

        self.packed = pack_model(model, size) if own_picture else None
        pictures = [
            {"src": png(image), "label": label, "maps": pack_maps(of_image, numbers)}
            for image, label, of_image, numbers in zip(images, labels, maps, early)
        ]
        data = {
            "grid": [rows, columns],
            "size": list(size),
            "channels": channels,
            "width": model.patch_embed.proj.out_channels,
            "depth": maps.shape[1],
            "nHeads": maps.shape[2],
            "nRegisters": 0 if model.reg_token is None else model.reg_token.shape[1],
            "hasClassToken": model.cls_token is not None,
            "classes": class_names,
            "pictures": pictures,
            "own": None,
        }
        if own_picture:
            file = None if own_picture == "embed" else self.weights_name
            packed = self.packed if own_picture == "embed" else None
            size_in_bytes = len(self.weights_script)
            data["own"] = {"file": file, "bytes": size_in_bytes, "model": packed, "mean": mean.tolist(), "std": std.tolist()}
        prefix = maps.shape[-1] - rows * columns
        row = (maps[0, -1].mean(0)[0] if model.cls_token is not None else maps[0, -1].mean(0)[prefix:].mean(0))[prefix:]
        who = "the class token looks" if model.cls_token is not None else "the patches look on average"
        alt = f"A picture in {rows} by {columns} patches, and where {who} in the last block"
        super().__init__(data, self.draw(png(images[0]), row.reshape(rows, columns), f"{who}: block {maps.shape[1] - 1}"), alt)

    @property
    def weights_script(self) -> str:
        """The file that gives the page the model: a script, since a page from the disk may load nothing else."""
        if self.packed is None:
            raise ValueError("this explorer takes no pictures of the reader's own: make it with own_picture=True")
        packed = json.dumps(self.packed, separators=(",", ":"))
        return f'document.currentScript.dispatchEvent(new CustomEvent("vit-model", {{detail: {packed}}}));\n'

    @property
    def weights_name(self) -> str:
        """Its name, which changes with the weights: a page never runs another model than its own."""
        return f"vit-{hashlib.sha256(self.weights_script.encode()).hexdigest()[:12]}.js"

    def write_weights(self, folder: str | Path) -> Path:
        """Write the file that `own_picture=True` loads into `folder`; returns its path."""
        path = Path(folder) / self.weights_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.weights_script, encoding="utf-8")
        return path

    @staticmethod
    def draw(picture: str, weights: np.ndarray, what: str) -> str:
        """The still picture: the first picture with its patches, and a map."""
        rows, columns = weights.shape
        width, height = 220, 220 * rows / columns
        dx, dy, most = width / columns, height / rows, weights.max()
        lines = "".join(f"M{10 + i * dx:g} 10v{height:g}" for i in range(1, columns))
        lines += "".join(f"M10 {10 + i * dy:g}h{width:g}" for i in range(1, rows))
        tiles = [rect(250 + dx * x, 10 + dy * y, dx + 0.3, dy + 0.3, fill=colour_of(weights[y, x] / most))
                 for y in range(rows) for x in range(columns)]  # fmt: skip
        scale = [rect(250 + width * i / 32, height + 20, width / 32 + 0.3, 10, fill=colour_of(i / 31)) for i in range(32)]
        image = (
            f'<image href="{picture}" x="10" y="10" width="{width}" height="{height:g}" preserveAspectRatio="none" '
            f'style="image-rendering: pixelated"/><path d="{lines}" stroke="#fff" stroke-opacity="0.5" fill="none"/>'
        )
        below = height + 46
        words = (
            f'<text x="250" y="{below:g}">0 %</text>'
            f'<text x="{250 + width}" y="{below:g}" text-anchor="end">{100 * most:.2g} %</text>'
            f'<text x="10" y="{below + 24:g}">Where {what}, mean of the heads.</text>'
        )
        return svg(480, round(height + 82), image, *tiles, *scale, words)


def check_model(model: nn.Module) -> None:
    """Raise a ValueError unless `model` is a ViT of ours with finite weights."""
    parts = ("patch_embed", "embed", "blocks", "head", "pool", "n_prefix")
    missing = [part for part in parts if not hasattr(model, part)]
    if missing or not all(hasattr(getattr(block, "attn", None), "n_heads") for block in model.blocks):
        what = f"it has no {', '.join(missing)}" if missing else "its blocks have no attention with n_heads"
        raise ValueError(
            f"AttentionExplorer needs a vit_edu.VisionTransformer, not this {type(model).__name__}: {what}; "
            "load other people's weights into one first"
        )
    broken = [name for name, tensor in model.named_parameters() if not tensor.isfinite().all()]
    if broken:
        raise ValueError(f"weights that are not finite (NaN or infinite): {', '.join(broken[:3])}")


def names_of(classes: Sequence[str] | Mapping | None, n_classes: int) -> list[str]:
    """Class names in order, from a list or from numbers to names (also as JSON has them: {"0": "cat"})."""
    if classes is None:
        return [f"class {k}" for k in range(n_classes)]
    if isinstance(classes, Mapping):
        for number, name in classes.items():
            if not str(number).isdecimal() or isinstance(name, int):
                raise ValueError(f"class_names lead from number to name, not {{{number!r}: {name!r}}}: turn them round")
        by_number = {int(number): str(name) for number, name in classes.items()}
        if wrong := [k for k in by_number if k >= n_classes]:
            raise ValueError(f"class_names name class {wrong[0]}; the model has {n_classes} classes")
        return [by_number.get(k, f"class {k}") for k in range(n_classes)]
    if len(names := [str(name) for name in classes]) != n_classes:
        raise ValueError(f"there are {len(names)} class names; the model has {n_classes} classes")
    return names


def channel_values(name: str, values: Sequence[float] | Tensor | None, channels: int, known: object = None) -> Tensor:
    """`mean` or `std` as a tensor with one number for each channel; what is not given is what the model notes."""
    values = getattr(known, name, None) if values is None else values
    if values is None:
        raise ValueError(
            f"nothing says how this model's pictures were normalised: pass mean= and std=, or note them once as its "
            f"preparation (vit_edu.weights.Preparation); {name} is missing"
        )
    values = torch.as_tensor(values, dtype=torch.float32).cpu()
    if values.shape != (channels,):
        raise ValueError(f"{name} has the shape {tuple(values.shape)}; the model takes {channels} channels")
    return values


def picture_bytes(images, channels: int, size: tuple[int, int]) -> np.ndarray:
    """Tensor, array or PIL images as uint8 (n, C, H, W) of the model's size; a ValueError says what does not fit."""
    if not isinstance(images, (Tensor, np.ndarray)):
        mode = {1: "L", 3: "RGB"}.get(channels)
        if mode is None or not all(isinstance(image, Image.Image) for image in images):
            raise ValueError("images are uint8 (n, C, H, W), or a list of PIL images for a model of 1 or 3 channels")
        sizes = [(image.height, image.width) for image in images]
        wrong = [f"picture {i} is {height} × {width}" for i, (height, width) in enumerate(sizes) if (height, width) != size]
        if wrong:
            raise ValueError(f"{wrong[0]}; the model takes {size[0]} × {size[1]}: crop and resize it first")
        arrays = [np.asarray(image.convert(mode)).reshape(*size, channels) for image in images]
        images = np.stack(arrays).transpose(0, 3, 1, 2) if arrays else np.zeros((0, channels, *size), np.uint8)
    images = images.detach().cpu().numpy() if isinstance(images, Tensor) else images
    if images.ndim == 4 and len(images) == 0:
        raise ValueError("there is no picture: give at least one")
    if images.ndim != 4 or images.shape[1:] != (channels, *size) or images.dtype != np.uint8:
        raise ValueError(
            f"images are {images.dtype} of the shape {images.shape}; "
            f"the model needs uint8 of the shape (n, {channels}, {size[0]}, {size[1]})"
        )
    if channels not in (1, 3):
        raise ValueError(f"pictures of {channels} channels cannot be shown; 1 (grey) or 3 (red, green, blue) can")
    return images


@torch.no_grad()
def look(model: nn.Module, images: np.ndarray, mean: Tensor, std: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Attention of every block and head (n, L, h, N, N), and the logits before the first block and after each.

    The logits are (n, L + 1, K), the last of them the model's own. Both float32; the model is left as it was.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        pixels = (torch.from_numpy(images.copy()).float() / 255 - mean[:, None, None]) / std[:, None, None]
        pixels = pixels.to(next(model.parameters()))        # its device and dtype
        x, maps, early = model.embed(pixels), [], []
        for block in model.blocks:
            early.append(answer(model, x))
            x, weights = block(x, return_attention=True)    # (n, h, N, N)
            maps.append(weights.float().cpu())
        early.append(model.forward(pixels).float().cpu())
    finally:
        for module, mode in modes.items():
            module.training = mode
    return torch.stack(maps, dim=1).numpy(), torch.stack(early, dim=1).numpy()


def answer(model: nn.Module, tokens: Tensor) -> Tensor:
    """The logits (n, K) that the model would give if the tokens (n, N, D) were its last: norm, pooling, head."""
    tokens = model.norm(tokens)
    pooled = tokens[:, 0] if model.pool == "cls" else tokens[:, model.n_prefix :].mean(dim=1)
    return model.head(model.fc_norm(pooled)).float().cpu()


def pack_maps(maps: np.ndarray, logits: np.ndarray) -> str:
    """(L, h, N, N) and (L + 1, K) as bytes: each row's largest weight, the logits, then weights in 1/255 of the largest.

    Largest weights and logits are float32.
    """
    largest = maps.max(axis=-1)
    levels = np.rint(255 * maps / largest[..., None]).astype(np.uint8)
    content = largest.astype("<f4").tobytes() + logits.astype("<f4").tobytes() + levels.tobytes()
    return data_uri("application/octet-stream", content)
