"""CIFAR-10, trained in full.

Written by tools/export.py from book/text/11_cifar10.md: edit that file, then `make sync`.
"""

import os
import re
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vit_edu.experiment import tensorboard
from vit_edu.model import VisionTransformer, count_macs


def training_flops(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Floating-point operations to train on one image (C, H, W): matrix products and
    convolutions, forward once and backward twice as much (Kaplan et al., 2020)."""
    if isinstance(model, VisionTransformer):
        return 3 * 2 * sum(count_macs(model, image_shape[1:]).values())
    counter = FlopCounterMode(display=False)
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    with torch.no_grad(), counter:
        model(torch.zeros(1, *image_shape, device=device))
    model.train(was_training)
    return 3 * counter.get_total_flops()


# Dense matrix products in bfloat16, TFLOP/s, from the maker's data sheets. A name that
# contains another one stands before it.
PEAK_TFLOPS = {
    "H200 NVL": 835,
    "H200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "A10G": 70,
    "A10": 125,
    "RTX 5090": 209,
    "RTX 4090": 165,
    "RTX 3090": 71,
}


def peak_tflops(device: torch.device) -> float | None:
    """What the GPU's data sheet promises in bfloat16; None for others and for CPUs."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    known = (gpu for gpu in PEAK_TFLOPS if re.search(rf"\b{gpu}\b", name))
    return PEAK_TFLOPS.get(next(known, None))


def describe_speed(
    images_per_second: float,
    flops_per_image: int,
    device: torch.device,
    devices: int = 1,
) -> str:
    """Images/s, TFLOP/s, and model FLOP utilisation (MFU; Chowdhery et al., 2022).

    Of all `devices` together, which are of one kind.
    """
    tflops = images_per_second * flops_per_image / 1e12
    peak = peak_tflops(device)
    share = f", MFU {100 * tflops / peak / devices:.1f} %" if peak else ""
    return f"{images_per_second:,.0f} images/s, {tflops:.3g} TFLOP/s{share}"


def epoch_report(
    model: nn.Module,
    image_shape: tuple[int, int, int],
    out: str | os.PathLike | None,
    devices: int = 1,
) -> Callable[[dict[str, float]], None]:
    """A function that prints an epoch's speed and shows its figures in TensorBoard."""
    flops = training_flops(model, image_shape)
    device, write = next(model.parameters()).device, tensorboard(out)

    def report(row: dict[str, float]) -> None:
        rate = row["images_per_second"] * devices
        print(f"           {describe_speed(rate, flops, device, devices)}", flush=True)
        write(row)

    return report
