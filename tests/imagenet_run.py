"""A small ImageNet-like run in one or more processes: `imagenet_run.py DATA OUT [options]`.

Without chance that belongs to a process (drop-path, augmentation on the device), so that any number of
processes must give the same weights; with crops, flips, averaging and states every second step.
`--kill-at` kills process `--rank` at a step; `--kills` begins a run for each step, kills it there, and ends the last;
`--processes` forks them instead of having torchrun start them, so that torch is imported once.
"""

import argparse
import multiprocessing
import os
import signal
import socket
import sys
from dataclasses import replace

import torch

from vit_edu import imagenet
from vit_edu.checkpoint import train_resumably
from vit_edu.imagenet_recipes import vit
from vit_edu.optimizer import TrainingConfig


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument("--kill-at", type=int)
    parser.add_argument("--kills", type=int, nargs="*", default=[])
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--own-chance", action="store_true")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--optimizer", default="adamw")
    return parser.parse_args(arguments)


def recipe_of(args: argparse.Namespace) -> imagenet.Recipe:
    recipe = imagenet.Recipe(
        "quiet",
        "a test",
        vit(16, 2, 2, img_size=16, patch_size=8),
        TrainingConfig(epochs=3, lr=2e-3, accumulate=args.accumulate, optimizer=args.optimizer),
        batch_size=8,
        warmup_steps=2,
        augmentation=imagenet.BASIC,
        average=0.9,
    )
    if not args.own_chance:
        return recipe
    return replace(    # all that is drawn in each process
        recipe,
        model=recipe.model | {"drop_path_rate": 0.2},
        augmentation=replace(recipe.augmentation, operations=2, erasing=0.3, mix=0.7),
    )


def fork(processes: int) -> None:
    """Go on as one of so many new processes; the parent waits: one that fails, or is killed, ends the others."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        where = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free.getsockname()[1]), WORLD_SIZE=str(processes))
    children = []
    for rank in range(processes):
        children.append(os.fork())
        if not children[-1]:
            os.environ |= where | dict(RANK=str(rank), LOCAL_RANK=str(rank))
            return
    while children:
        child, status = os.wait()
        children.remove(child)
        if status:
            for other in children:
                os.kill(other, signal.SIGKILL)
            sys.exit(f"one of the processes ended with {os.waitstatus_to_exitcode(status)}")
    sys.exit()


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    args = parse_arguments(arguments)

    def after_step(state):
        if args.kill_at == state.step and int(os.environ.get("RANK", 0)) == args.rank:
            os.kill(os.getpid(), signal.SIGKILL)

    imagenet.train_resumably = lambda *a, **k: train_resumably(*a, **k, after_step=after_step)
    for step in args.kills:    # each a process that has done nothing yet but import
        child = os.fork()
        if not child:
            args.kill_at = step
            break
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"not killed at {step}: {status}"
        args.resume = True
    if args.processes > 1:
        fork(args.processes)
    imagenet.run(recipe_of(args), args.data, args.out, resume=args.resume, save_every=2, workers=args.workers, keep=2)


def main_into(path: str, arguments: list[str]) -> None:
    """In a process that was forked: all that the run prints goes into a file, and its readers are forked, too."""
    multiprocessing.set_start_method("fork", force=True)
    with open(path, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    main(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
