"""What does attention cost as sequences grow, written out and through PyTorch's fused kernel?

    python benchmarks/attention_length.py                      # one layer of ViT-S, whatever device is there
    python benchmarks/attention_length.py --out runs/attention-length-cpu    # and a record of it
    python benchmarks/attention_length.py --tokens 197 1025 --batch 8 --rounds 20

One attention layer of width 384 with 6 heads, `flash_attention` on and off, forward alone and forward with backward;
in bfloat16 on a GPU. The lengths are those of patches of 16 on 128, 224, 384, 512 and 1,024 pixels, and a class token.
Times are medians, the two paths in turn. Memory is what one forward and backward pass adds at its peak: allocated on
a GPU; on a CPU resident, each in a process of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from vit_edu.attention import Attention
from vit_edu.checkpoint import write_csv
from vit_edu.records import surroundings, write_record

try:
    import resource
except ImportError:  # Windows
    resource = None

WIDTH, HEADS = 384, 6
TOKENS = 65, 197, 577, 1025, 4097
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WAYS = "explicit", "fused"


def build(way: str, tokens: int, batch: int) -> tuple[Attention, Tensor]:
    """The layer and its input (B, N, D), on the device."""
    torch.manual_seed(0)
    layer = Attention(WIDTH, HEADS, qkv_bias=True, flash_attention=way == "fused").to(DEVICE)
    return layer, torch.randn(batch, tokens, WIDTH, device=DEVICE, requires_grad=True)


def forward(layer: Attention, x: Tensor) -> Tensor:
    """The layer's output, in the precision of a training run."""
    with torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda"):
        return layer(x)


def both(layer: Attention, x: Tensor) -> None:
    """Forward and backward; what they leave is let go."""
    forward(layer, x).float().sum().backward()
    layer.zero_grad()
    x.grad = None


def seconds(action, *arguments) -> float:
    """How long an action takes, until the device has done it."""
    wait()
    start = time.perf_counter()
    action(*arguments)
    wait()
    return time.perf_counter() - start


def wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def resident_peak() -> int:
    """The largest resident size of this process so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def added_memory(way: str, tokens: int, batch: int) -> int:
    """Bytes that a forward and backward pass adds at its peak to layer and input."""
    both(*build(way, TOKENS[0], 1))    # libraries and kernels are loaded now
    layer, x = build(way, tokens, batch)
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        both(layer, x)
        return torch.cuda.max_memory_allocated() - before
    before = resident_peak()
    both(layer, x)
    return resident_peak() - before


def memory(way: str, tokens: int, batch: int) -> float:
    """`added_memory`, on a CPU in a process of its own; nan where it does not fit."""
    if DEVICE.type == "cuda":
        try:
            return added_memory(way, tokens, batch)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            return float("nan")
    command = [sys.executable, __file__, "--memory", json.dumps([way, tokens, batch])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def times(tokens: int, batch: int, rounds: int, ways: list[str]) -> dict[str, tuple[float, float]]:
    """Median seconds of forward, and of forward with backward, for each way."""
    made = {way: build(way, tokens, batch) for way in ways}
    for way in ways:
        seconds(both, *made[way])    # warm up
    taken = {way: ([], []) for way in ways}
    for r in range(rounds):
        for way in ways if r % 2 else reversed(ways):
            with torch.inference_mode():
                taken[way][0].append(seconds(forward, *made[way]))
            taken[way][1].append(seconds(both, *made[way]))
    return {way: tuple(map(statistics.median, pair)) for way, pair in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=list(TOKENS))
    parser.add_argument("--batch", type=int, default=32 if DEVICE.type == "cuda" else 1)
    parser.add_argument("--rounds", type=int, default=20 if DEVICE.type == "cuda" else 5)
    parser.add_argument("--out", type=Path, help="folder for a record of the run")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        return print(added_memory(*json.loads(args.memory)))
    if DEVICE.type == "cpu" and resource is None:
        sys.exit("memory on a CPU is measured by Python's module `resource`, which Windows lacks: take WSL, or a GPU")
    if args.out and args.out.exists():
        sys.exit(f"{args.out} is there already; nothing is overwritten")
    # Memory first: a process that has grown hands its peak on to those that it starts.
    needs = {(n, way): memory(way, n, args.batch) for n in args.tokens for way in WAYS}
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}; torch {torch.__version__}; one layer, width {WIDTH}, {HEADS} heads, batch {args.batch}")
    print("tokens  path      forward  and backward    memory")
    rows, started = [], time.perf_counter()
    for n in args.tokens:
        fitting = [way for way in WAYS if needs[n, way] == needs[n, way]]
        taken = times(n, args.batch, args.rounds, fitting)
        for way in WAYS:
            once, twice = taken.get(way, (float("nan"), float("nan")))
            print(f"{n:6}  {way:8} {1e3 * once:6.1f} ms  {1e3 * twice:9.1f} ms  {needs[n, way] / 1e6:5.0f} MB", flush=True)
            row = {"tokens": n, "fused": float(way == "fused"), "batch": args.batch}
            rows.append(row | {"forward_seconds": once, "both_seconds": twice, "memory_bytes": needs[n, way]})
    if args.out:
        write_csv(args.out / "metrics.csv", rows)
        write_record(
            args.out,
            purpose="time and memory of one attention layer by length, explicit and fused",
            command="python benchmarks/attention_length.py",
            config={"width": WIDTH, "n_heads": HEADS, "batch": args.batch, "rounds": args.rounds},
            precision="bfloat16" if DEVICE.type == "cuda" else "float32",
            seconds=time.perf_counter() - started,
            **surroundings(),
        )


if __name__ == "__main__":
    main()
