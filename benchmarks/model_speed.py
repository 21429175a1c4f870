"""How fast is our ViT beside timm's and torchvision's?

    python benchmarks/model_speed.py                    # whatever device is there; minutes on a CPU
    python benchmarks/model_speed.py --compile          # through torch.compile
    python benchmarks/model_speed.py --models S/16 --batch 8 --rounds 20

The three models do the same work (the same shapes, plain AdamW step, bfloat16 on GPUs) in turn,
round by round, so that a noisy machine is noisy for all of them. Printed are medians over rounds,
the ratio to the faster of the other two, and peak memory, measured in a process of its own.
"""

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
import torchvision

from vit_edu import count_macs, create_vit
from vit_edu.records import surroundings, write_record
from vit_edu.throughput import peak_tflops

SIZES = {
    "S/16": ("vit_small_patch16_224", dict(patch_size=16, num_layers=12, num_heads=6, hidden_dim=384, mlp_dim=1536)),
    "B/16": ("vit_base_patch16_224", dict(patch_size=16, num_layers=12, num_heads=12, hidden_dim=768, mlp_dim=3072)),
}
WHO = ("ours", "timm", "torchvision")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build(who: str, size: str) -> torch.nn.Module:
    """One of the three models, on the device."""
    name, arguments = SIZES[size]
    if who == "ours":
        model = create_vit(name)
    elif who == "timm":
        model = timm.create_model(name)
    else:
        model = torchvision.models.VisionTransformer(image_size=224, **arguments)
    return model.to(DEVICE)


class Work:
    """A model with what it takes to run it forwards, and for a whole training step."""

    def __init__(self, who: str, size: str, batch: int, compiled: bool) -> None:
        self.model = build(who, size)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=DEVICE.type == "cuda")
        if compiled:
            self.model.compile()
        self.images = torch.randn(batch, 3, 224, 224, device=DEVICE)
        self.labels = torch.zeros(batch, dtype=torch.long, device=DEVICE)

    def __call__(self, mode: str) -> float:
        """Seconds for one forward pass or one training step."""
        self.model.train(mode == "training step")
        wait()
        start = time.perf_counter()
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda"):
            if mode == "forward":
                with torch.inference_mode():
                    self.model(self.images)
            else:
                loss = F.cross_entropy(self.model(self.images), self.labels)
        if mode == "training step":
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        wait()
        return time.perf_counter() - start


def wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def peak_memory(who: str, size: str, batch: int, mode: str, compiled: bool) -> float:
    """GB at the peak of `mode`: allocated on a GPU, resident on a CPU (with PyTorch itself)."""
    work = Work(who, size, batch, compiled)
    work(mode)    # from the second step on, AdamW keeps its two moments
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    work(mode)
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def measured_apart(*arguments) -> float:
    """`peak_memory` in a process of its own."""
    command = [sys.executable, __file__, "--memory", json.dumps(arguments)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(size: str, batch: int, rounds: int, compiled: bool, memory: dict) -> list[dict]:
    """Print the table of one model size; its rows."""
    rows = []
    works = {who: Work(who, size, batch, compiled) for who in WHO}
    flops = 2 * sum(count_macs(works["ours"].model).values()) * batch
    peak = peak_tflops(DEVICE)
    for mode, passes in (("forward", 1), ("training step", 3)):
        for who in WHO:
            works[who](mode)    # warm up, or compile
            works[who](mode)
        seconds = {who: [] for who in WHO}
        for r in range(rounds):
            for i in range(3):    # a different one begins each round
                who = WHO[(r + i) % 3]
                seconds[who].append(works[who](mode))
        median = {who: statistics.median(seconds[who]) for who in WHO}
        for who in WHO:
            rate = passes * flops / median[who] / 1e12
            used = f"  MFU {rate / peak:4.0%}" if peak else ""
            gigabytes = memory[size, mode, who]
            print(
                f"{size}  {mode:13s}  {who:11s}  {batch / median[who]:8.1f} images/s  "
                f"{rate:7.3f} TFLOP/s{used}  {gigabytes:5.2f} GB",
                flush=True,
            )
            rows.append(dict(model=size, mode=mode, who=who, images_per_second=batch / median[who], tflops=rate,
                             mfu=rate / peak if peak else None, gigabytes=gigabytes, seconds=seconds[who]))  # fmt: skip
        ratios = [min(a, b) / c for a, b, c in zip(seconds["timm"], seconds["torchvision"], seconds["ours"])]
        fastest = min(median["timm"], median["torchvision"])
        print(
            f"{size}  {mode:13s}  ours is {fastest / median['ours']:.2f} times as fast as the faster of the two "
            f"(round by round: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f})"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--batch", type=int, default=128 if DEVICE.type == "cuda" else 2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", type=Path, help="folder for a record of the run")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        return print(peak_memory(*json.loads(args.memory)))
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}; torch {torch.__version__}, timm {timm.__version__}, torchvision {torchvision.__version__}; "
          f"batch {args.batch}, {'compiled' if args.compile else 'eager'}")  # fmt: skip
    if args.out and args.out.exists():
        sys.exit(f"{args.out} is there already; nothing is overwritten")
    # Memory first: a process that has grown hands its peak on to those that it starts.
    started, kinds = time.perf_counter(), itertools.product(args.models, ("forward", "training step"), WHO)
    memory = {(s, mode, who): measured_apart(who, s, args.batch, mode, args.compile) for s, mode, who in kinds}
    tables = [compare(size, args.batch, args.rounds, args.compile, memory) for size in args.models]
    if args.out:
        args.out.mkdir(parents=True)
        write_record(
            args.out,
            purpose="speed and memory of our ViT beside timm's and torchvision's",
            command="python benchmarks/model_speed.py" + " --compile" * args.compile,
            config={"batch": args.batch, "rounds": args.rounds, "compiled": args.compile},
            precision="bfloat16" if DEVICE.type == "cuda" else "float32",
            seconds=time.perf_counter() - started,
            rows=[row for rows in tables for row in rows],
            timm=timm.__version__,
            **surroundings(),
        )


if __name__ == "__main__":
    main()
