"""Interactive pictures: self-contained HTML that works in the book's pages, in Jupyter and in Colab, without a kernel.

    from vit_edu.widgets import DigitReader
    DigitReader(model)

Each is a style sheet, a data block and a script, whose sources are the `.css` and `.js` files of this folder.
"""

import base64
import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Component", "DigitReader", "SoftmaxTemperature", "pack_model"]


class Component:
    """An interactive picture: `data` handed to a JavaScript function that builds it, and a still picture until then.

    A subclass names its `styles` and `scripts` (files of this folder; the last script defines the function `start`,
    called with the root element and the data). Several may stand on one page: there are no ids and no globals.
    """

    name: str
    styles: tuple[str, ...] = ("widget.css",)
    scripts: tuple[str, ...] = ("common.js",)
    start: str
    label: str

    def __init__(self, data: dict, still: str, alt: str) -> None:
        self.data, self.still, self.alt = data, still, alt

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: an interactive picture, drawn by a notebook or a web page>"

    def _repr_html_(self) -> str:
        read = lambda names: "\n".join(files(__name__).joinpath(name).read_text("utf-8") for name in names)  # noqa: E731
        data = json.dumps(self.data, separators=(",", ":"), sort_keys=True).replace("<", "\\u003c")
        return f"""<style>
{read(self.styles)}</style>
<div class="vit-widget {self.name}" role="group" aria-label="{escape(self.label)}">
<script type="application/json">{data}</script>
<img class="vit-first-frame" src="{data_uri("image/svg+xml", self.still.encode())}" alt="{escape(self.alt)}">
</div>
<script>
(() => {{
{read(self.scripts)}
for (const root of document.querySelectorAll(".vit-widget.{self.name}:not([data-live])")) {{
  root.dataset.live = "";
  {self.start}(root, JSON.parse(root.querySelector("script").textContent));
}}
}})();
</script>"""


def data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def pack_model(model: nn.Module, img_size: tuple[int, int]) -> dict:
    """Configuration and float16 weights of a ViT with timm's parameter names, as `vit.js` reads them.

    The page's model is exactly this one if its weights are rounded to float16 first.
    """
    state = dict(model.state_dict())
    if getattr(model, "pos_embed", None) is not None:
        state["pos_embed"] = model.pos_embed             # fixed sine-cosine positions are not in the state dict
    block, patches = model.blocks[0], model.patch_embed.proj
    config = {
        "imgSize": list(img_size),
        "patchSize": list(patches.kernel_size),
        "embedDim": patches.out_channels,
        "depth": len(model.blocks),
        "nHeads": block.attn.n_heads,
        "pool": "cls" if "cls_token" in state else "mean",
        "eps": block.norm1.eps,
    }
    content = b"".join(tensor.detach().cpu().numpy().astype("<f2").tobytes() for tensor in state.values())
    names = [[name, tensor.numel()] for name, tensor in state.items()]
    return {"config": config, "names": names, "weights": data_uri("application/octet-stream", content)}


def svg(width: int, height: int, *parts: str) -> str:
    """A still picture; its grey reads on white and on black."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" fill="#777" '
        f'font-family="system-ui, sans-serif" font-size="14">{"".join(parts)}</svg>'
    )


def rect(x: float, y: float, width: float, height: float, **attributes) -> str:
    extra = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
    return f'<rect x="{x:g}" y="{y:g}" width="{width:.4g}" height="{height:.4g}"{extra}/>'


class DigitReader(Component):
    """The reader draws a digit; `model`, a ViT for 8 by 8 images in 0..1 and ten classes, reads it as it is drawn.

    Args:
        model: any Vision Transformer with timm's parameter names. Its weights go into the page as float16.
        examples: (images (n, 1, 8, 8) in 0..1, labels (n,)) for the button "Try an example".
    """

    name, start, label = "digit-reader", "startDigitReader", "Draw a digit and see a Vision Transformer read it"
    styles = (*Component.styles, "digit_reader.css")
    scripts = (*Component.scripts, "vit.js", "digit_reader.js")

    # A hand-drawn 3 to begin with, in percent of the pad.
    sample = [[(27, 24), (33, 16), (44, 11), (56, 13), (64, 21), (64, 31), (56, 40), (45, 45), (57, 48),
               (67, 57), (69, 69), (62, 81), (49, 87), (36, 86), (26, 79)]]  # fmt: skip

    def __init__(self, model: nn.Module, examples: tuple[Tensor, Sequence[int]] | None = None) -> None:
        patches, n_classes = model.patch_embed.proj, model.head.out_features
        if patches.in_channels != 1 or n_classes != 10 or any(8 % size for size in patches.kernel_size):
            raise ValueError(
                f"the model takes {patches.in_channels} channels in patches of {patches.kernel_size} and knows "
                f"{n_classes} classes; DigitReader needs 1 channel, patches that divide 8, and 10 classes"
            )
        data = pack_model(model, (8, 8)) | {"sample": self.sample, "examples": None}
        alt = "Ten bars for the probabilities of the digits 0 to 9, and an 8 by 8 image of a digit"
        counts, probabilities = np.zeros((8, 8)), np.zeros(10)
        if examples is not None:
            images, labels = examples[0].detach().cpu(), [int(label) for label in examples[1]]
            all_counts = (images * 16).round().int().reshape(-1, 64)
            data["examples"] = {"images": all_counts.tolist(), "labels": labels}
            counts = all_counts[0].reshape(8, 8).numpy()
            training = model.training
            with torch.no_grad():
                probabilities = model.eval()(images[:1])[0].softmax(0).numpy()
            model.train(training)
            alt = f"An 8 by 8 image of a {labels[0]} and the model's probabilities: most for {probabilities.argmax()}"
        super().__init__(data, self.draw(counts, probabilities), alt)

    @staticmethod
    def draw(counts: np.ndarray, probabilities: np.ndarray) -> str:
        """The still picture: the image with its patches, and the probabilities."""
        image = [rect(10 + 20 * x, 10 + 20 * y, 20, 20, fill_opacity=f"{counts[y, x] / 16:.2f}")
                 for y in range(8) for x in range(8)]  # fmt: skip
        lines = "".join(f"M{10 + 40 * i} 10V170M10 {10 + 40 * i}H170" for i in range(5))
        bars = [rect(190 + 30 * k, 150 - 130 * p, 24, 130 * p + 1, fill="#2f83c6") for k, p in enumerate(probabilities)]
        digits = [f'<text x="{202 + 30 * k}" y="168" text-anchor="middle">{k}</text>' for k in range(10)]
        hint = '<text x="10" y="192">With JavaScript, draw your own digit here.</text>'
        return svg(500, 200, *image, f'<path d="{lines}" stroke="#2f83c6" stroke-width="2"/>', *bars, *digits, hint)


class SoftmaxTemperature(Component):
    """Softmax of q·k for random queries and keys of width d: why attention divides by √d.

    Args:
        n_keys: number of keys.
        n_draws: number of random draws that the reader can go through.
        seed: of the draws.
    """

    name, start, label = "softmax-temperature", "startSoftmaxTemperature", "Softmax, temperature and the width d"
    styles = (*Component.styles, "softmax_temperature.css")
    scripts = (*Component.scripts, "softmax_temperature.js")
    widths = [4, 8, 16, 32, 64, 128, 256, 512, 1024]

    def __init__(self, n_keys: int = 12, n_draws: int = 60, seed: int = 0) -> None:
        rng = np.random.Generator(np.random.PCG64(seed))
        products = rng.standard_normal((n_draws, n_keys, 1024)) * rng.standard_normal((n_draws, 1, 1024))
        # q·k with the first d coordinates, for every d.
        scores = [products[:, :, :d].sum(axis=2).round(1).tolist() for d in self.widths]
        data = {"widths": self.widths, "scores": [list(draw) for draw in zip(*scores)]}  # [draw][width][key]
        first = np.array(data["scores"][0][4])
        alt = (
            f"Twelve scores q·k at width 64, and their softmax: undivided, one key takes {softmax(first).max():.0%}; "
            f"divided by √64, the largest weight is {softmax(first / 8).max():.0%}"
        )
        super().__init__(data, self.draw(first), alt)

    @staticmethod
    def draw(scores: np.ndarray) -> str:
        """The still picture: the weights at one width, without and with the division."""
        parts = []
        for left, divisor, title in ((10, 1.0, "softmax(q·k), d = 64"), (260, 8.0, "softmax(q·k / √64)")):
            weights = softmax(scores / divisor)
            parts += [rect(left + 18 * i, 150 - 110 * w, 14, 110 * w + 1, fill="#2f83c6") for i, w in enumerate(weights)]
            parts.append(f'<text x="{left}" y="22">{title}</text>')
        return svg(500, 165, *parts)


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()
