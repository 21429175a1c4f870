"""Your own picture: from a file to a name.

Written by tools/export.py from book/text/18_predict.md: edit that file, then `make sync`.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import ipywidgets
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from vit_edu.attention_maps import attention_maps, check_head, checked_vit, heard
from vit_edu.attention_maps import patch_map, rollout, to_picture
from vit_edu.faithfulness import ranks
from vit_edu.inspection import silenced
from vit_edu.patches import Size, to_pair
from vit_edu.preparation import class_names, prepare, preparation_of
from vit_edu.weights import Preparation


@contextmanager
def softened(model: nn.Module, temperature: float) -> Iterator[None]:
    """For a while, attention's scores are divided by `temperature`, in every block.

    Works on compiled, data-parallel and averaged models, too: see `heard`.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0")

    def divide(layer: nn.Module, inputs: tuple[Tensor], qkv: Tensor) -> Tensor:
        q, k, v = qkv.chunk(3, dim=-1)                   # (B, N, D) each
        return torch.cat([q / temperature, k, v], dim=-1)

    layers = [block.attn.qkv for block in checked_vit(model).blocks]
    hooks = [layer.register_forward_hook(divide) for layer in layers]
    try:
        with heard():
            yield
    finally:
        for hook in hooks:
            hook.remove()


def without_patches(x: Tensor, place: Tensor, patch_size: Size, n: int) -> Tensor:
    """Images (B, C, H, W) whose `n` first patches by `place` (B, rows, columns) are 0.

    0 is the mean colour of a normalised image.
    """
    height, width = to_pair(patch_size)
    shown = (place >= n).repeat_interleave(height, 1).repeat_interleave(width, 2)
    return x * shown[:, None].to(x)                      # (B, C, H, W)


def compare(
    x: Tensor, grid: Tensor, before: Tensor, after: Tensor, known: Preparation
) -> Figure:
    """A picture (C, H, W), its map, and the likeliest classes of two predictions."""
    best = torch.maximum(before, after).topk(min(5, len(before))).indices.tolist()
    figure, axes = plt.subplots(1, 3, figsize=(6.4, 2.3), layout="constrained")
    axes[0].imshow(to_picture(x, known.mean, known.std).numpy(), cmap="gray")
    axes[1].imshow(grid.numpy(), cmap="viridis", vmin=0)
    for values, shift, name in (before, -0.2, "as it was"), (after, 0.2, "changed"):
        places = [i + shift for i in range(len(best))]
        axes[2].barh(places, values[best].tolist(), 0.38, label=name)
    everything = class_names(known.classes, len(before))
    names = [everything[i][:16] for i in best]
    axes[2].set(yticks=range(len(best)), yticklabels=names, xlim=(0, 1))
    axes[2].invert_yaxis()
    axes[2].legend(fontsize=8)
    for axis, title in zip(axes, ("picture", "rollout", "probability")):
        axis.set_title(title)
    for axis in axes[:2]:
        axis.axis("off")
    return figure


class Panel:
    """Controls that run a model again at every change; `view` is the widget.

    pictures: anything that `predict` takes; names: what to call them in the menu.
    Only core widgets, of ipywidgets 7.7 and 8.
    """

    def __init__(
        self, model: nn.Module, pictures: Sequence, names: Sequence[str]
    ) -> None:
        self.model, self.vit = model, checked_vit(model)
        check_head(self.vit)
        self.known = preparation_of(model)
        self.inputs = [prepare(model, picture) for picture in pictures]
        n_patches = self.vit.patch_embed.n_patches
        blocks = range(len(self.vit.blocks))
        heads = range(self.vit.blocks[0].attn.n_heads)
        off = [("none", None)]
        off += [(f"block {b}, head {h}", (b, h)) for b in blocks for h in heads]
        menu = [(f"{i}: {name}", i) for i, name in enumerate(names)]
        wide = dict(style={"description_width": "90px"})
        slider = dict(continuous_update=False, **wide)
        self.picture = ipywidgets.Dropdown(options=menu, description="picture", **wide)
        self.upload = ipywidgets.FileUpload(accept="image/*", description="your own")
        self.hidden = ipywidgets.IntSlider(
            value=0, min=0, max=n_patches, description="hide patches", **slider
        )
        self.order = ipywidgets.Dropdown(
            options=["most attended", "least attended", "random"],
            description="which first", **wide,
        )
        self.temperature = ipywidgets.FloatLogSlider(
            value=1, base=10, min=-1, max=1, description="temperature", **slider
        )
        self.off = ipywidgets.Dropdown(options=off, description="head off", **wide)
        self.text = ipywidgets.HTML()
        self.image = ipywidgets.Image(format="png")
        self.upload.observe(self.take, names="value")
        controls = [self.picture, self.hidden, self.order, self.temperature, self.off]
        for control in controls:
            control.observe(self.update, names="value")
        rows = [self.picture, self.upload, *controls[1:], self.text, self.image]
        self.view = ipywidgets.VBox(rows)
        self.update()

    def take(self, change: dict) -> None:
        """Add an uploaded file to the menu and choose it; say so if it is broken."""
        files = self.upload.value
        if not files:
            return
        last = [*(files.values() if isinstance(files, dict) else files)][-1]  # 7.7; 8
        try:
            x = prepare(self.model, io.BytesIO(bytes(last["content"])))
        except ValueError as error:
            self.text.value = f"That file did not work: {type(error).__name__}."
            return
        self.inputs.append(x)
        number = len(self.inputs) - 1
        self.picture.options = [*self.picture.options, (f"{number}: your own", number)]
        self.picture.value = number

    def state(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The changed input, its map (rows, columns), probabilities before and now."""
        x = self.inputs[self.picture.value]                      # (1, C, H, W)
        maps, logits = attention_maps(self.model, x)
        seen = patch_map(rollout(maps)[-1], self.model)          # (1, rows, columns)
        order = {"most attended": seen, "least attended": -seen}
        chance = torch.Generator().manual_seed(0)
        noise = torch.rand(seen.shape, generator=chance)
        place = ranks(order.get(self.order.value, noise).cpu())
        x = without_patches(x, place, self.vit.patch_embed.patch_size, self.hidden.value)
        with softened(self.model, self.temperature.value):
            off = self.off.value
            with silenced(self.model, *off) if off else nullcontext():
                maps, after = attention_maps(self.model, x)
        grid = patch_map(rollout(maps)[-1], self.model)[0]
        before, after = (y[0].float().softmax(dim=0).cpu() for y in (logits, after))
        return x[0].cpu(), grid.cpu(), before, after

    def update(self, change: dict | None = None) -> None:
        """Run the model and show the result."""
        x, grid, *predictions = self.state()
        names = class_names(self.known.classes, len(predictions[0]))
        said = [f"{names[p.argmax()]} {p.max():.2f}" for p in predictions]
        self.text.value = f"as it was: {said[0]}; changed: {said[1]}"
        figure, file = compare(x, grid, *predictions, self.known), io.BytesIO()
        figure.savefig(file, format="png", dpi=100)
        plt.close(figure)
        self.image.value = file.getvalue()
