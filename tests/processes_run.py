"""A small run in the processes that torchrun starts, which dwells in one phase: `processes_run.py DATA OUT PHASE`."""

import os
import sys
import time

import torch

from vit_edu import photographs
from vit_edu.augment import normalise
from vit_edu.checkpoint import train_resumably
from vit_edu.experiment import stop_request
from vit_edu.model import VisionTransformer
from vit_edu.optimizer import TrainingConfig
from vit_edu.photographs import MEAN, STD
from vit_edu.processes import in_parallel, make_loaders, process_group, together, validate


def train(data, out, phase: str = "", workers: int = 0) -> dict:
    """Train to the end, or until asked to stop; the weights. `phase` takes its time, from the third step on."""
    torch.set_num_threads(1)
    read, save, steps = photographs.Pictures.read, torch.save, []

    def dwell(here: str, seconds: float = 1.0) -> None:
        if here == phase and len(steps) >= 3:
            print(f"in {phase}", flush=True)
            time.sleep(seconds)

    def slow_read(self, path, seed):
        time.sleep(0.2)
        return read(self, path, seed)

    def slow_save(*arguments):
        dwell("saving")
        save(*arguments)

    def prepare(images, labels):
        steps.append(1)
        dwell("step")
        return normalise(images, MEAN, STD), labels

    def evaluate(model):
        dwell("evaluation")
        return validate(model, held_out, group)

    if phase == "reading":
        photographs.Pictures.read = slow_read
    if phase == "saving":
        torch.save = slow_save
    with process_group() as group, stop_request() as asked:
        print(f"process {os.getpid()}\n", end="", flush=True)
        torch.manual_seed(0)
        vit = VisionTransformer(16, 8, num_classes=3, embed_dim=16, depth=1, n_heads=2)
        batches, held_out = make_loaders(data, 16, 8, group, workers=workers)
        history = train_resumably(
            in_parallel(vit, group), batches, TrainingConfig(3, warmup_epochs=1), prepare_batch=prepare, evaluate=evaluate,
            after_step=lambda state: dwell("reading", 0), should_stop=together(asked, group), save_every=1,
            out=out, resume=True, leads=group.leads, overall=group.mean,
        )  # fmt: skip
        if group.leads:
            print(f"ended after {len(history)} epochs and {len(steps)} steps", flush=True)
    return vit.state_dict()


if __name__ == "__main__":
    train(*sys.argv[1:4], workers=1)
