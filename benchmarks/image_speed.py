"""How many images a second come out of each stage of the input pipeline, per core, and how many does a GPU want?

    python benchmarks/image_speed.py                       # Imagenette, or parts of two photographs where it is absent
    python benchmarks/image_speed.py --data DIR            # ImageNet itself, or any folder of its layout
    python benchmarks/image_speed.py --size 64 --images 400 --rounds 5

One process, one thread, files in the system's cache, so that a number is one core's. The small set's files are small;
so the same photographs are measured once more as JPEGs of 500 × 375 pixels, the shape of many of ImageNet's (enlarged
pictures hold less detail than real ones, make smaller files and are decoded a little faster). Stages take turns, round
by round; printed are the median and the range. The last lines say what models would eat on a GPU.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from vit_edu.augment import normalise, rand_augment
from vit_edu.model import PRESETS, create_vit
from vit_edu.photographs import MEAN, STD, Pictures, central_box, open_reduced, small_imagenet
from vit_edu.processes import Group, make_loaders
from vit_edu.throughput import PEAK_TFLOPS, training_flops

UTILISATION = 0.3  # assumed: model FLOPs over the GPU's peak


def enlarged(paths: list[str], folder: Path) -> Path:
    """The same photographs as JPEGs of 500 × 375 pixels, in a set of its own in ImageNet's layout."""
    for part in "train", "val":
        (folder / part / "all").mkdir(parents=True)
        for i, path in enumerate(paths):
            with Image.open(path) as image:
                large = image.convert("RGB").resize((500, 375), Image.BICUBIC)
            large.save(folder / part / "all" / f"{i:05d}.jpg", quality=95)
    return folder


def decode(path: str) -> None:
    """A whole file, at its own size."""
    with Image.open(path) as image:
        image.convert("RGB")


def stages(paths: list[str], size: int) -> dict[str, Callable[[int], object]]:
    """What is measured, by name: called with the number of an image."""
    pictures = Pictures.__new__(Pictures)    # reads files by path, without a folder
    pictures.size, pictures.smallest = size, 0.08

    def augmented(i: int) -> torch.Tensor:
        torch.manual_seed(i)
        return normalise(rand_augment(pictures.read(paths[i], i)[None], 2, 9), MEAN, STD)

    return {
        "read the file": lambda i: Path(paths[i]).read_bytes(),
        "decode it whole": lambda i: decode(paths[i]),
        "the middle, decoded reduced": lambda i: open_reduced(paths[i], size, central_box),
        "a random part, the same way": lambda i: pictures.read(paths[i], i),
        "and RandAugment": augmented,
    }


def rate(action: Callable[[int], object], n: int) -> float:
    """Images a second over the first `n` images."""
    start = time.perf_counter()
    for i in range(n):
        action(i)
    return n / (time.perf_counter() - start)


def loader_rate(data: Path, size: int, batch: int, workers: int, batches: int) -> float:
    """Images a second of the training loader, from its start on, as each epoch begins anew."""
    loader, _ = make_loaders(data, size, batch, Group(0, 1, torch.device("cpu")), workers=workers)
    start, seen = time.perf_counter(), 0
    for images, _ in loader:
        seen += len(images)
        if seen >= batches * batch:
            break
    return seen / (time.perf_counter() - start)


def line(name: str, rates: list[float]) -> None:
    print(f"  {name:28} {statistics.median(rates):9,.0f}   {min(rates):,.0f} to {max(rates):,.0f}", flush=True)


def measure(name: str, data: Path, paths: list[str], args: argparse.Namespace) -> None:
    """Print the table of one set."""
    with Image.open(paths[0]) as image:
        pixels = f"{image.width} × {image.height}"
    bytes_each = statistics.mean(os.path.getsize(path) for path in paths)
    print(f"\n{name}: {pixels} pixels, {bytes_each / 1000:.0f} kB a file, to {args.size} × {args.size}")
    print(f"  {'stage, one core':28} {'images/s':>9}   lowest to highest")
    actions = stages(paths, args.size)
    rates: dict[str, list[float]] = {stage: [] for stage in actions}
    for _ in range(args.rounds):
        for stage, action in actions.items():
            rates[stage].append(rate(action, len(paths)))
    for stage, values in rates.items():
        line(stage, values)
    total = len(Pictures(data / "train", args.size))
    batch = min(64, total)
    for workers in args.workers:
        count = min(max(len(paths) // batch, 1), total // batch)
        values = [loader_rate(data, args.size, batch, workers, count) for _ in range(args.rounds)]
        line(f"DataLoader, {workers} workers", values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--data", type=Path, help="folder with train/ and val/")
    parser.add_argument("--size", type=int, default=224, help="pixels that the model takes")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=sorted({0, cores}))
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = args.data or small_imagenet()
    samples = Pictures(data / "train", args.size).folder.samples
    paths = [path for path, _ in random.Random(0).sample(samples, min(args.images, len(samples)))]
    print(f"{data.name}: {len(paths)} of {len(samples):,} images; {cores} cores; torch {torch.__version__}")
    measure("as they are", data, paths, args)
    with tempfile.TemporaryDirectory() as folder:
        large = enlarged(paths, Path(folder))
        measure("enlarged", large, [path for path, _ in Pictures(large / "train", args.size).folder.samples], args)

    gpus = "L4", "A100", "H200"
    print(f"\nimages/s that training at 224 pixels takes, at an assumed {UTILISATION:.0%} of the GPU's peak")
    print(f"  {'model':28}" + "".join(f"{gpu:>8}" for gpu in gpus))
    for name in PRESETS:
        if name.endswith("patch16_224"):
            flops = training_flops(create_vit(name), (3, 224, 224))
            print(f"  {name:28}" + "".join(f"{UTILISATION * PEAK_TFLOPS[gpu] * 1e12 / flops:8,.0f}" for gpu in gpus))


if __name__ == "__main__":
    main()
