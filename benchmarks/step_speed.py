"""What does a step of `tiny` cost, by precision, path of attention and optimiser?

    python benchmarks/step_speed.py                               # whatever device is there, as it is
    OMP_NUM_THREADS=1 python benchmarks/step_speed.py --out runs/step-speed-cpu    # one thread, and a record of it

Steps on batches of 128 random images, all kinds in turn, in one run; images a second are medians. Whether bfloat16
pays depends on the processor: `lscpu | grep -o 'avx512_bf16\\|amx_bf16'` on Linux. Muon's own work is in bfloat16.
"""

import argparse
import statistics
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch

from vit_edu.checkpoint import write_csv
from vit_edu.cifar10_recipes import RECIPES
from vit_edu.model import VisionTransformer
from vit_edu.optimizer import make_optimizer
from vit_edu.records import surroundings, write_record
from vit_edu.training import training_step

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
RECIPE = RECIPES["tiny"]
KINDS = list(product(("float32", "bfloat16"), ("explicit", "fused"), ("adamw", "muon")))


def make(precision: str, attention: str, optimizer: str) -> tuple:
    """A model, its optimiser and its settings."""
    torch.manual_seed(0)
    model = VisionTransformer(**RECIPE.model | {"flash_attention": attention == "fused"}).to(DEVICE)
    config = replace(RECIPE.training, precision=precision, optimizer=optimizer)
    return model, make_optimizer(model, config), config


def seconds(made: tuple, batch: tuple, steps: int) -> float:
    """How long one of `steps` steps takes."""
    model, optimizer, config = made
    start = time.perf_counter()
    for _ in range(steps):
        training_step(model, optimizer, batch, config)
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=3, help="of each kind in a round")
    parser.add_argument("--out", type=Path, help="folder for a record of the run")
    args = parser.parse_args()
    if args.out and args.out.exists():
        sys.exit(f"{args.out} is there already; nothing is overwritten")
    size = RECIPE.batch_size
    batch = torch.randn(size, 3, 32, 32, device=DEVICE), torch.randint(10, (size,), device=DEVICE)
    made = {kind: make(*kind) for kind in KINDS}
    started = time.perf_counter()
    for kind in KINDS:
        seconds(made[kind], batch, 1)    # warm up
    taken: dict[tuple, list[float]] = {kind: [] for kind in KINDS}
    for r in range(args.rounds):
        for kind in KINDS if r % 2 else reversed(KINDS):
            taken[kind].append(seconds(made[kind], batch, args.steps))
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}; torch {torch.__version__}; batch {size}")
    print("precision  attention  optimiser  ms a step  images/s")
    rows = []
    for kind in KINDS:
        step = statistics.median(taken[kind])
        print(f"{kind[0]:9}  {kind[1]:9}  {kind[2]:9}  {1e3 * step:9.1f}  {size / step:8.0f}")
        rows.append({
            "bfloat16": float(kind[0] == "bfloat16"), "fused": float(kind[1] == "fused"),
            "muon": float(kind[2] == "muon"), "step_seconds": step, "images_per_second": size / step,
        })  # fmt: skip
    if args.out:
        write_csv(args.out / "metrics.csv", rows)
        write_record(
            args.out,
            purpose="a step of `tiny` by precision, path of attention and optimiser",
            command="python benchmarks/step_speed.py",
            config={"recipe": RECIPE.name, "batch": size, "rounds": args.rounds, "steps": args.steps},
            seconds=time.perf_counter() - started,
            **surroundings(),
        )


if __name__ == "__main__":
    main()
