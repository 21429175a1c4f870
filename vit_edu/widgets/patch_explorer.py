"""How an image becomes a sequence of patches."""

import numpy as np
from PIL import Image
from torch import Tensor

from vit_edu.widgets.component import Component, data_uri, png, svg

MOST_PATCHES = 256


class PatchExplorer(Component):
    """Cut an image into patches of any size that divides it, shuffle them, put them back, read one as a vector.

    Vectors, rows and columns are counted from 0.

    Args:
        image: uint8 (C, H, W) with 1 or 3 channels, at most 256 pixels high and wide, or a PIL image.
        patch_size: the first size; by default the one that gives the number of patches nearest to 64.
    """

    name, start, label = "patch-explorer", "startPatchExplorer", "An image as a sequence of patches"
    styles = (*Component.styles, "stage.css", "patch_explorer.css")
    scripts = (*Component.scripts, "stage.js", "patch_explorer.js")

    def __init__(self, image: Tensor | np.ndarray | Image.Image, patch_size: int | None = None) -> None:
        if isinstance(image, Image.Image):
            image = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
            image = image.reshape(*image.shape[:2], -1).transpose(2, 0, 1)
        image = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
        if image.ndim != 3 or image.shape[0] not in (1, 3) or image.dtype != np.uint8 or max(image.shape) > 256:
            raise ValueError(
                f"the image is {image.dtype} of the shape {image.shape}; PatchExplorer needs uint8 (C, H, W) with "
                "1 or 3 channels, at most 256 pixels high and wide"
            )
        _, height, width = image.shape
        sizes = [p for p in range(1, min(height, width) + 1) if height % p == 0 == width % p]
        sizes = [p for p in sizes if height * width // p**2 <= MOST_PATCHES]
        if not sizes:
            raise ValueError(f"no square patch gives {height} × {width} pixels at most {MOST_PATCHES} patches: crop it")
        if patch_size is None:
            patch_size = min(sizes, key=lambda p: abs(height * width // p**2 - 64))
        if patch_size not in sizes:
            raise ValueError(f"patch_size {patch_size} does not fit {height} × {width} pixels; choose one of {sizes}")
        data = {
            "shape": list(image.shape),
            "pixels": data_uri("application/octet-stream", image.tobytes()),
            "sizes": sizes,
            "size": patch_size,
        }
        rows, columns = height // patch_size, width // patch_size
        alt = f"An image of {height} by {width} pixels, cut into {rows} by {columns} patches"
        super().__init__(data, self.draw(png(image), rows, columns), alt)

    @staticmethod
    def draw(picture: str, rows: int, columns: int) -> str:
        """The still picture: the image, cut."""
        step = 240 / max(rows, columns)
        width, height = step * columns, step * rows
        lines = "".join(f"M{10 + i * step:g} 10v{height:g}" for i in range(1, columns))
        lines += "".join(f"M10 {10 + i * step:g}h{width:g}" for i in range(1, rows))
        return svg(
            480,
            round(height + 20),
            f'<image href="{picture}" x="10" y="10" width="{width:g}" height="{height:g}" preserveAspectRatio="none" '
            f'style="image-rendering: pixelated"/><path d="{lines}" stroke="#fff" stroke-width="2" fill="none"/>',
            f'<text x="{width + 30:g}" y="32">{rows} × {columns} patches:</text>',
            f'<text x="{width + 30:g}" y="54">a sequence of {rows * columns} vectors</text>',
        )
