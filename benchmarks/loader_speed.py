"""How many augmented images a second does each way of loading give?

    python benchmarks/loader_speed.py                # CIFAR-10, or digits of its shape where it is absent
    python benchmarks/loader_speed.py --rounds 9 --workers 0 4 8

Batches of 128 images with crop, flip, RandAugment and erasing: once augmented together where they
lie (`DeviceLoader`, on a GPU if there is one), once image by image by torchvision's transforms in the
worker processes of torch's `DataLoader`. All take turns, round by round, each starting anew (what
workers had made in advance while others were measured would flatter them) and measured from its first
batch on; printed are the median and the range. The last lines say what the recipes' models would eat on a given GPU.
"""

import argparse
import functools
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch.utils.data import DataLoader

from vit_edu.augment import Augment, Augmentation, transforms_for
from vit_edu.cifar10_recipes import RECIPES, build_model
from vit_edu.data import DeviceLoader, ImageSet, TensorImages, cifar10_or_digits
from vit_edu.throughput import PEAK_TFLOPS, training_flops

BATCH = 128
CONFIG = Augmentation(mix=0)
STRENGTHS = {"all": CONFIG, "crop, flip": Augmentation(operations=0, erasing=0, mix=0)}


def on_device(images: ImageSet, config: Augmentation, device: torch.device) -> Iterator[torch.Tensor]:
    """Augmented batches, made where the images lie."""
    augment = Augment(config, *images.moments, n_classes=len(images.classes), epochs=1)
    for batch in DeviceLoader(images.train_images.to(device), images.train_labels.to(device), BATCH, shuffle=True):
        yield augment(*batch)[0]


def in_workers(images: ImageSet, config: Augmentation, device: torch.device, workers: int) -> Iterator[torch.Tensor]:
    """Augmented batches, made image by image in worker processes."""
    transform = transforms_for(config, images.train_images.shape[-1], *images.moments)
    dataset = TensorImages(images.train_images, images.train_labels, transform)
    pinned = device.type == "cuda"
    loader = DataLoader(dataset, BATCH, shuffle=True, drop_last=True, num_workers=workers, pin_memory=pinned)
    for batch, _ in loader:
        yield batch.to(device, non_blocking=True)


def rate(batches: Iterator[torch.Tensor], n: int, wait: Callable[[], None]) -> float:
    """Images a second over `n` batches after the first."""
    next(batches)
    wait()
    start, seen = time.perf_counter(), 0
    for batch in itertools.islice(batches, n):
        seen += len(batch)
    wait()
    return seen / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cores = os.cpu_count() or 1
    parser.add_argument("--workers", type=int, nargs="+", default=sorted({0, 1, cores}))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=24, help="of 128 images, each turn")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = cifar10_or_digits()
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{images.provenance}; {name}, {cores} cores, {torch.get_num_threads()} threads; torch {torch.__version__}")

    ways: dict[tuple[str, str], Callable[[], Iterator[torch.Tensor]]] = {}
    for strength, config in STRENGTHS.items():
        ways[strength, "on the device"] = functools.partial(on_device, images, config, device)
        for workers in args.workers:
            way = functools.partial(in_workers, images, config, device, workers)
            ways[strength, f"DataLoader, {workers} workers"] = way
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    rates: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    for _ in range(args.rounds):
        for way, start in ways.items():
            rates[way].append(rate(start(), args.batches, wait))
    print(f"{'augmentation':12} {'where':24} {'images/s':>10}   lowest to highest")
    for (strength, where), values in rates.items():
        spread = f"{min(values):,.0f} to {max(values):,.0f}"
        print(f"{strength:12} {where:24} {statistics.median(values):10,.0f}   {spread}")

    print("\nimages/s that a model takes at an assumed 10 % of the GPU's peak")
    gpus = "L4", "A100", "H200"
    print(f"{'recipe':12}" + "".join(f"{gpu:>12}" for gpu in gpus))
    for recipe in RECIPES.values():
        flops = training_flops(build_model(recipe), (3, recipe.image_size, recipe.image_size))
        print(f"{recipe.name:12}" + "".join(f"{0.1 * PEAK_TFLOPS[gpu] * 1e12 / flops:12,.0f}" for gpu in gpus))


if __name__ == "__main__":
    main()
