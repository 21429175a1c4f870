"""What the interactive pictures share: the component itself, a model packed for the page, still drawings."""

import base64
import io
import json
import re
from functools import cache
from html import escape
from importlib.resources import files

import numpy as np
from PIL import Image
from torch import nn


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
        data = json.dumps(self.data, separators=(",", ":"), sort_keys=True).replace("<", "\\u003c")
        return f"""<style>
{source(self.styles)}</style>
<div class="vit-widget {self.name}" role="group" aria-label="{escape(self.label)}">
<script type="application/json">{data}</script>
<img class="vit-first-frame" src="{data_uri("image/svg+xml", self.still.encode())}" alt="{escape(self.alt)}">
</div>
<script>
(() => {{
{source(self.scripts)}
for (const root of document.querySelectorAll(".vit-widget.{self.name}:not([data-live])")) {{
  root.dataset.live = "";
  {self.start}(root, JSON.parse(root.querySelector("script").textContent));
}}
}})();
</script>"""


def source(names: tuple[str, ...]) -> str:
    """Files of this folder, without indentation and without the lines that are comments: these are for whoever edits them."""
    texts = (files("vit_edu.widgets").joinpath(name).read_text("utf-8") for name in names)
    return "\n".join(re.sub(r"^[ \t]*(//.*\n)?", "", text, flags=re.MULTILINE) for text in texts)


def data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def png(image: np.ndarray) -> str:
    """uint8 (C, H, W) as a PNG."""
    content = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(content, "png")
    return data_uri("image/png", content.getvalue())


def inner(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of `torch.compile`, averaging and parallel training."""
    while (wrapped := getattr(model, "_orig_mod", None) or getattr(model, "module", None)) is not None:
        model = wrapped
    return model


def pack_model(model: nn.Module, img_size: tuple[int, int]) -> dict:
    """Configuration and float16 weights of a ViT with timm's parameter names, as `vit.js` reads them.

    The page's model is exactly this one if its weights are rounded to float16 first. ValueError for a model with
    parts that the page has no code for (a head of several layers, quantised layers, another activation).
    """
    model = inner(model)
    parts = [part for block in model.blocks for part in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2)]
    acts = [getattr(block.mlp, "act", nn.GELU()) for block in model.blocks]
    strange = [part for part in parts if type(part) is not nn.Linear]
    strange += [act for act in acts if not isinstance(act, nn.GELU) or act.approximate != "none"]
    strange += [model.head] if not isinstance(model.head, (nn.Linear, nn.Identity)) else []
    if strange:
        raise ValueError(
            f"a page can run linear layers with an exact GELU and one linear head or none, not {type(strange[0]).__name__}; "
            "show the maps alone, with own_picture=False"
        )
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
    content = b"".join(tensor.detach().cpu().float().numpy().astype("<f2").tobytes() for tensor in state.values())
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


@cache
def viridis() -> list[str]:
    """The 256 colours of viridis.js."""
    table = files("vit_edu.widgets").joinpath("viridis.js").read_text("utf-8")
    return re.findall("[0-9a-f]{6}", "".join(re.findall('"([0-9a-f]{6,})"', table)))


def colour_of(value: float) -> str:
    """The colour of a value from 0 to 1."""
    return f"#{viridis()[round(255 * min(max(float(value), 0), 1))]}"
