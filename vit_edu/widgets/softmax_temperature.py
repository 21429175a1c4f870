"""Softmax, temperature and the width d."""

import numpy as np

from vit_edu.widgets.component import Component, rect, svg


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
