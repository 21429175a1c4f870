"""How similar a model's position embeddings are to each other."""

import numpy as np
from torch import nn
from torch.nn import functional as F

from vit_edu.widgets.component import Component, colour_of, data_uri, inner, rect, svg


class PositionExplorer(Component):
    """Choose a position: the map shows the cosine similarity of its embedding with every other position's.

    Rows and columns are counted from 0.

    Args:
        models: a `VisionTransformer` of ours with positions, or several by name, e.g. {"trained": a, "untrained": b},
            with grids of the same shape.
    """

    name, start, label = "position-explorer", "startPositionExplorer", "How similar positions are to each other"
    styles = (*Component.styles, "stage.css", "position_explorer.css")
    scripts = (*Component.scripts, "viridis.js", "stage.js", "position_explorer.js")

    def __init__(self, models: nn.Module | dict[str, nn.Module]) -> None:
        models = models if isinstance(models, dict) else {"model": models}
        if not models:
            raise ValueError("there is no model: give at least one")
        maps, grids = {}, {}
        for name, model in models.items():
            model = inner(model)
            positions = getattr(model, "pos_embed", None)
            if positions is None or not hasattr(model, "patch_embed"):
                raise ValueError(f"{name} ({type(model).__name__}) has no position embeddings of patches")
            grids[name] = tuple(model.patch_embed.grid_size)
            table = positions[0, -grids[name][0] * grids[name][1] :].detach().float().cpu()    # without the class token
            if not table.isfinite().all():
                raise ValueError(f"{name} has positions that are not finite (NaN or infinite)")
            unit = F.normalize(table, dim=1)
            maps[name] = (unit @ unit.T).clamp(-1, 1).numpy()
        if len(set(grids.values())) > 1:
            raise ValueError(f"the models' grids differ: {grids}")
        rows, columns = next(iter(grids.values()))
        data = {
            "grid": [rows, columns],
            "maps": [[name, data_uri("application/octet-stream", np.rint(127 * cosines).astype(np.int8).tobytes())]
                     for name, cosines in maps.items()],
        }  # fmt: skip
        at = rows // 2 * columns + columns // 2
        first = next(iter(maps.values()))[at].reshape(rows, columns)
        alt = f"How similar the position in row {at // columns}, column {at % columns} is to {rows} by {columns} positions"
        super().__init__(data, self.draw(first), alt)

    @staticmethod
    def draw(cosines: np.ndarray) -> str:
        """The still picture: one position's similarities."""
        rows, columns = cosines.shape
        step = 200 / max(rows, columns)
        tiles = [rect(10 + step * x, 10 + step * y, step + 0.3, step + 0.3, fill=colour_of((cosines[y, x] + 1) / 2))
                 for y in range(rows) for x in range(columns)]  # fmt: skip
        left = step * columns + 30
        scale = [rect(left + 6 * i, 30, 6.3, 12, fill=colour_of(i / 31)) for i in range(32)]
        numbers = [f'<text x="{left + x}" y="62" text-anchor="{anchor}">{text}</text>'
                   for x, anchor, text in ((0, "start", "−1"), (96, "middle", "0"), (192, "end", "1"))]  # fmt: skip
        title = f'<text x="{left}" y="22">cosine similarity</text>'
        return svg(480, round(step * rows + 20), *tiles, title, *scale, *numbers)
