"""The reader draws a digit, a Vision Transformer reads it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from vit_edu.widgets.component import Component, pack_model, rect, svg


class DigitReader(Component):
    """The reader draws a digit; `model`, a ViT for 8 by 8 images in 0..1 and ten classes, reads it as it is drawn.

    Heads are counted from 0.

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
