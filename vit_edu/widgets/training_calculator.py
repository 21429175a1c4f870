"""What a training run on ImageNet costs: hours, disk and price."""

from collections.abc import Mapping
from html import escape

from vit_edu.widgets.component import Component, rect, svg

IMAGES = 1_281_167  # of ImageNet's training set
FILE_BYTES = 138e9 / IMAGES  # of a JPEG file, on average


class TrainingCalculator(Component):
    """Hours, GPU-hours, price and disk of a run, from what is counted and what is assumed.

    Args:
        flops: floating-point operations to train on one image, by the model's name.
        peaks: peak TFLOP/s of one GPU, by its name.
        model, gpu, gpus, epochs, utilisation, loader, price: what stands in the fields at first;
            utilisation in percent, the loader's images a second for all GPUs, price of a GPU-hour.
    """

    name, start, label = "training-calculator", "startTrainingCalculator", "What a training run costs"
    styles = (*Component.styles, "training_calculator.css")
    scripts = (*Component.scripts, "training_calculator.js")

    def __init__(
        self,
        flops: Mapping[str, float],
        peaks: Mapping[str, float],
        *,
        model: str | None = None,
        gpu: str | None = None,
        gpus: int = 8,
        epochs: int = 90,
        utilisation: float = 30,
        loader: float = 8000,
        price: float = 2.0,
    ) -> None:
        if not flops or not peaks:
            raise ValueError("a calculator needs at least one model and one GPU")
        model = (list(flops)[1 % len(flops)]) if model is None else model
        gpu = next(iter(peaks)) if gpu is None else gpu
        for what, name, known in ("model", model, flops), ("gpu", gpu, peaks):
            if name not in known:
                raise ValueError(f"{what}={name!r} is none of {', '.join(known)}")
        numbers = dict(gpus=gpus, epochs=epochs, utilisation=utilisation, loader=loader, price=price)
        for what, value in numbers.items():
            if not value > 0:
                raise ValueError(f"{what}={value} is not above 0")
        data = {"flops": [*flops.items()], "peaks": [*peaks.items()], "images": IMAGES, "fileBytes": FILE_BYTES}
        data["first"] = {"model": model, "gpu": gpu} | numbers
        asked = gpus * utilisation / 100 * peaks[gpu] * 1e12 / flops[model]
        hours = epochs * IMAGES / min(asked, loader) / 3600
        alt = (
            f"{model}, {epochs} epochs on {gpus} {gpu} at {utilisation:g} % of their peak: the GPUs ask for "
            f"{asked:,.0f} images a second, the loader gives {loader:,.0f}; {hours:.1f} hours"
        )
        super().__init__(data, self.draw(alt, asked, loader), alt)

    @staticmethod
    def draw(text: str, asked: float, loader: float) -> str:
        """The still picture: the two rates as bars, and the answer."""
        question, answer = text.split(": ")
        parts = [f'<text x="10" y="22">{escape(question)}</text>', f'<text x="10" y="118">{escape(answer)}</text>']
        for y, title, rate in ((36, "GPUs ask for", asked), (68, "loader gives", loader)):
            width = 380 * rate / max(asked, loader)
            parts += [f'<text x="10" y="{y + 17}">{title}</text>', rect(110, y, width, 24, fill="#2f83c6")]
        return svg(620, 130, *parts)
