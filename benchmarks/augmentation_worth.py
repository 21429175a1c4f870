"""What is augmentation worth? One small ViT, 500 photographs, three strengths.

    python benchmarks/augmentation_worth.py                                          # a table
    python benchmarks/augmentation_worth.py --out vit_edu/recorded/augmentation-worth    # and a record of it

All runs share the images, the model, the number of steps and the learning rate; only the augmentation
differs. They are judged by training images that were held out; no test image is used. One run takes
some seconds on one quiet thread.
"""

import argparse
import contextlib
import io
import time
from dataclasses import asdict
from pathlib import Path

import torch

from vit_edu.augment import NO_AUGMENTATION, Augment, Augmentation, normalise
from vit_edu.data import DeviceLoader, ImageSet, cifar10
from vit_edu.model import VisionTransformer
from vit_edu.optimizer import TrainingConfig
from vit_edu.records import surroundings, write_record
from vit_edu.training import evaluate, train

VARIANTS = {
    "none": NO_AUGMENTATION,
    "crop and flip": Augmentation(operations=0, erasing=0, mix=0),
    "too strong": Augmentation(
        crop_padding=16, operations=4, magnitude=30, erasing=1.0, mix=1.0, mix_until=1.0
    ),
}
MODEL = dict(img_size=32, patch_size=8, num_classes=10, embed_dim=64, depth=2, n_heads=4, mlp_ratio=2, qkv_bias=True)


def subset(images: ImageSet, n: int) -> ImageSet:
    """The first `n` training images left by `held_out`, and the images held out."""
    held = images.held_out(2000)
    return ImageSet(
        held.name, held.provenance, held.classes,
        held.train_images[:n], held.train_labels[:n], held.test_images, held.test_labels,
    )  # fmt: skip


def curve(images: ImageSet, augmentation: Augmentation, config: TrainingConfig, every: int) -> list[dict]:
    """Train once; every few epochs the accuracy on the training images as they are, and on those held out."""
    torch.manual_seed(config.seed)
    model = VisionTransformer(**MODEL)
    mean, std = images.moments
    augment = Augment(augmentation, mean, std, len(images.classes), config.epochs)
    batches = DeviceLoader(images.train_images, images.train_labels, 50, shuffle=True)
    sides = {"train": (images.train_images, images.train_labels), "held_out": (images.test_images, images.test_labels)}
    rows: list[dict] = []

    def look(row: dict[str, float]) -> None:
        if row["epoch"] % every and row["epoch"] > 1:
            return
        found = {"epoch": row["epoch"], "loss": round(row["train_loss"], 4)}
        for side, (x, y) in sides.items():
            parts = ((normalise(a, mean, std), b) for a, b in DeviceLoader(x, y, 500))
            found[side] = round(evaluate(model, parts)["accuracy"], 4)
        rows.append(found)

    with contextlib.redirect_stdout(io.StringIO()):
        train(model, batches, config, prepare_batch=augment, after_epoch=look)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for a record")
    args = parser.parse_args()
    images = subset(cifar10(), args.images)
    config = dict(epochs=args.epochs, lr=2e-3, warmup_epochs=args.epochs / 20, precision="float32")
    runs, seconds = [], 0.0
    for seed in range(args.seeds):
        for name, augmentation in VARIANTS.items():
            started = time.process_time()
            rows = curve(images, augmentation, TrainingConfig(seed=seed, **config), max(1, args.epochs // 10))
            seconds += time.process_time() - started
            runs.append({"variant": name, "seed": seed, "curve": rows})
            last = rows[-1]
            print(f"{name:18} seed {seed}  train {last['train']:.3f}  held out {last['held_out']:.3f}", flush=True)
        if args.out:
            write_record(
                args.out,
                purpose="one small ViT with three strengths of augmentation, judged by images held out",
                command=f"python benchmarks/augmentation_worth.py --images {args.images} --epochs {args.epochs} "
                f"--seeds {seed + 1}",
                config={"training": asdict(TrainingConfig(**config)), "batch_size": 50, "images": args.images,
                        "seeds": seed + 1, "variants": {name: asdict(v) for name, v in VARIANTS.items()}},
                model=MODEL,
                data=images.provenance,
                seconds=seconds,
                runs=runs,
                **surroundings(),
            )  # fmt: skip


if __name__ == "__main__":
    main()
