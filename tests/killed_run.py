"""A small training run that is killed again and again, as by crashes: `killed_run.py OUT [MOMENT NUMBER] ...`.

MOMENT is `before`, `during` or `after` (the writing of the state number NUMBER), `step`, or `any`: NUMBER milliseconds
after the run has begun. Each run is a process of its own, and goes on where the last one was killed.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch._dynamo    # as optimizers do when first used: here once for all that are forked
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from vit_edu import VisionTransformer, checkpoint, training


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: str, number: int):
    """Arrange for this process to be killed at the given moment; returns the loop's `after_step`."""
    written_beside, count = checkpoint.written_beside, [0]

    @contextlib.contextmanager
    def killing(path):
        ours = Path(path).name == "state.pt"
        count[0] += ours and moment != "step"
        now = ours and count[0] == number
        if now and moment == "before":
            die()
        with written_beside(path) as temporary:
            yield temporary
            if now and moment == "during":
                os.truncate(temporary, temporary.stat().st_size // 2)
                die()
        if now and moment == "after":
            die()

    def after_step(state):
        count[0] += moment == "step"
        if moment == "step" and count[0] == number:
            die()

    checkpoint.written_beside = killing
    return after_step


def run(out: str, after_step=None) -> None:
    """Three epochs with everything on that uses chance: dropout, drop-path, noise, averaging."""
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(96, 1, 8, 8), torch.arange(96) % 4)
    model = VisionTransformer(
        img_size=8, patch_size=4, in_channels=1, num_classes=4, embed_dim=16, depth=2, n_heads=2,
        drop_rate=0.1, attn_drop_rate=0.1, drop_path_rate=0.1,
    )  # fmt: skip
    checkpoint.train_resumably(
        model,
        DataLoader(data, batch_size=8, shuffle=True),
        training.TrainingConfig(epochs=3, lr=1e-3, warmup_epochs=1),
        evaluate=lambda m: training.evaluate(m, DataLoader(data, 96)),
        prepare_batch=lambda images, labels: (images + 0.1 * torch.randn_like(images), labels),
        averaged=AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9)),
        after_step=after_step,
        out=out,
        resume=True,
        save_every=2,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    for moment, number in zip(sys.argv[2::2], map(int, sys.argv[3::2]), strict=True):
        begun, tell = os.pipe()
        if not (child := os.fork()):    # a process that has done nothing yet but import
            hook = arm(moment, number)
            os.write(tell, b"!")
            run(sys.argv[1], hook)
            os._exit(0)
        os.read(begun, 1)
        if moment == "any":
            time.sleep(number / 1000)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"{moment} {number} did not happen"
