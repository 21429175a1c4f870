"""A small ImageNet-like run in one or more processes: `imagenet_run.py DATA OUT [options]`.

Without chance that belongs to a process (drop-path, augmentation on the device), so that any number of
processes must give the same weights; with crops, flips, averaging and states every second step.
`--kill-at` kills process `--rank` at a step; `--kills` begins a run for each step, kills it there, and ends the last;
`--processes` forks them instead of having torchrun start them, so that torch is imported once.
"""

import argparse
import os
import signal
import socket
import sys
import time
from dataclasses import replace

import torch
import torch._dynamo    # as optimizers do when first used: here once for all that are forked

from vit_edu import imagenet
from vit_edu.checkpoint import train_resumably
from vit_edu.imagenet_recipes import vit
from vit_edu.optimizer import TrainingConfig

torch.set_num_threads(1)
parser = argparse.ArgumentParser()
parser.add_argument("data")
parser.add_argument("out")
parser.add_argument("--kill-at", type=int)
parser.add_argument("--kills", type=int, nargs="*", default=[])
parser.add_argument("--rank", type=int, default=0)
parser.add_argument("--processes", type=int, default=1)
parser.add_argument("--resume", action="store_true")
parser.add_argument("--slow", action="store_true")
parser.add_argument("--own-chance", action="store_true")
parser.add_argument("--workers", type=int, default=0)
parser.add_argument("--accumulate", type=int, default=1)
parser.add_argument("--optimizer", default="adamw")
args = parser.parse_args()

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
if args.own_chance:    # all that is drawn in each process
    recipe = replace(
        recipe,
        model=recipe.model | {"drop_path_rate": 0.2},
        augmentation=replace(recipe.augmentation, operations=2, erasing=0.3, mix=0.7),
    )


def after_step(state):
    if args.slow:
        time.sleep(0.3)
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
    with socket.create_server(("127.0.0.1", 0)) as free:
        where = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free.getsockname()[1]), WORLD_SIZE=str(args.processes))
    children = []
    for rank in range(args.processes):
        children.append(os.fork())
        if not children[-1]:
            os.environ |= where | dict(RANK=str(rank), LOCAL_RANK=str(rank))
            break
    else:    # the parent: one that fails, or is killed, ends the others
        while children:
            child, status = os.wait()
            children.remove(child)
            if status:
                for other in children:
                    os.kill(other, signal.SIGKILL)
                sys.exit(f"one of the processes ended with {os.waitstatus_to_exitcode(status)}")
        sys.exit()
print("begun", flush=True)
imagenet.run(recipe, args.data, args.out, resume=args.resume, save_every=2, workers=args.workers, keep=2)
