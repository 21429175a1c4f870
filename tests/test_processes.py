"""Processes: any number of them trains on the same batches; a signal, however often it comes, leaves a state."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from processes_run import train
from small_folders import write_pictures
from torch import nn

from vit_edu.augment import normalise
from vit_edu.model import VisionTransformer
from vit_edu.photographs import MEAN, STD, Pictures
from vit_edu.processes import Apart, Group, SharedBatches, make_loaders, validate
from vit_edu.training import epoch_batches

ALONE = Group(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def pictures_folder(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("repeats", [1, 3])
def test_the_batches_are_shared(world, repeats):
    """Together the parts of batch k are the same for any number of processes; each view has its own seed."""

    def batches(world):
        parts = [SharedBatches(50, 12, rank=r, world=world, seed=3, repeats=repeats) for r in range(world)]
        for part in parts:
            part.set_epoch(2)
        size = 12 // world
        lists = [list(part) for part in parts]
        assert all(len(items) == len(part) == 4 * size for items, part in zip(lists, parts))
        return [
            sorted(item for items in lists for item in items[k * size : (k + 1) * size]) for k in range(4)
        ]

    assert batches(world) == batches(1)
    items = [item for batch in batches(1) for item in batch]
    assert len({seed for _, seed in items}) == 48
    assert len({number for number, _ in items}) == 48 // repeats


def test_an_epoch_begins_in_the_middle_and_epochs_differ():
    sampler = SharedBatches(50, 10)
    whole = list(sampler)
    sampler.start_batch = 3
    assert list(sampler) == whole[30:]
    sampler.set_epoch(1)
    assert sorted(n for n, _ in sampler) != [n for n, _ in whole] and list(sampler) != whole
    assert list(SharedBatches(50, 10, seed=1)) != whole


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_that_is_resumed_begins_at_its_place(pictures_folder, workers):
    """Also where processes read ahead as soon as the epoch begins."""
    loader, _ = make_loaders(pictures_folder, 16, 8, ALONE, workers=workers)
    whole, rest = (list(epoch_batches(loader, 0, 1, done)) for done in (0, 2))
    assert len(whole) == 4 and len(rest) == 2
    for (images, labels), (again, same) in zip(whole[2:], rest):
        assert torch.equal(images, again) and torch.equal(labels, same)


@pytest.mark.parametrize("size, world, message", [(10, 4, "10 images cannot be shared by 4.*such as 8"), (60, 1, "60 is more than all 50")])
def test_batches_that_cannot_be_shared(size, world, message):
    with pytest.raises(ValueError, match=message):
        SharedBatches(50, size, world=world)


def test_views_of_an_image_are_not_mixed_with_each_other():
    """MixUp and CutMix mix neighbours in a process's part of a batch."""
    for world in 1, 2, 4:
        part = list(SharedBatches(960, 96, world=world, seed=1, repeats=3))
        numbers = torch.tensor([number for number, _ in part]).view(-1, 96 // world)
        same = (numbers == numbers.roll(1, dims=1)).float().mean()
        assert same < 0.1, (world, same)


def test_each_process_has_its_own_chance():
    def augment(images, labels):
        return images + torch.rand(images.shape), labels

    augment.set_epoch = None
    images, labels = torch.zeros(4, 3, 16, 16), torch.arange(4)
    views = []
    for rank in 0, 1, 0:
        torch.manual_seed(7)    # what the loop does in every process
        views.append(Apart(augment, rank)(images, labels)[0])
    assert torch.equal(views[0], views[2]) and not torch.equal(views[0], views[1])


def test_validation_figures_by_hand(pictures_folder):
    torch.manual_seed(0)
    model = VisionTransformer(16, 8, num_classes=3, embed_dim=16, depth=1, n_heads=2)
    nn.init.normal_(model.head.weight)
    _, loader = make_loaders(pictures_folder, 16, 8, ALONE)
    figures = validate(model, loader, ALONE)
    pictures = Pictures(pictures_folder / "val", 16)
    model.eval()
    with torch.no_grad():
        images = torch.stack([image for image, _ in pictures])
        logits = model(normalise(images, MEAN, STD))
    labels = torch.tensor([label for _, label in pictures])
    assert figures["val_accuracy"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert figures["val_loss"] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), abs=1e-5)


@pytest.fixture(scope="module")
def whole(pictures_folder, tmp_path_factory) -> dict:
    """The weights of a run of one process that nobody interrupted."""
    return train(pictures_folder, tmp_path_factory.mktemp("whole"))


PHASES = [("reading", "both"), ("step", "workers"), ("evaluation", "launcher"), ("saving", "both")]


@pytest.mark.parametrize("phase, target", PHASES)
def test_a_signal_that_comes_three_times_leaves_a_state(phase, target, whole, pictures_folder, tmp_path):
    """To torchrun, which passes it on, to the processes themselves, or to both; alone, the run goes on to its end."""
    script = Path(__file__).with_name("processes_run.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script]
    arguments = [str(pictures_folder), str(tmp_path), phase]
    around = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    how = dict(env=around, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with subprocess.Popen([*command, *arguments], **how) as running:
        processes, text = [], ""
        for line in running.stdout:
            text += line
            if line.startswith("process "):
                processes.append(int(line.split()[1]))
            if line.startswith(f"in {phase}"):
                break
        asked = {"launcher": [running.pid], "workers": processes, "both": [running.pid, *processes]}[target]
        for _ in range(3):
            for pid in asked:
                os.kill(pid, signal.SIGTERM)
            time.sleep(0.1)
        text += running.stdout.read()    # to the end of the last process
    assert len(processes) == 2 and "ended after" in text, text
    assert "KeyboardInterrupt" not in text, text
    steps = torch.load(tmp_path / "state.pt", weights_only=True)["step"]
    assert 3 <= steps < 12, "stopped before its end, where it was asked"
    continued = train(pictures_folder, tmp_path)
    for name, weight in whole.items():
        assert torch.allclose(continued[name], weight, atol=2e-5), name


WITHOUT = """
import os, torch, torchvision, torch._dynamo, torch.nn.parallel, torch.distributed as distributed
for name in dir(distributed):
    if not name.startswith("_"):
        delattr(distributed, name)
distributed.is_available = lambda: False
from vit_edu.processes import process_group
with process_group() as group:
    print(group.world, group.mean(3.0))
os.environ["RANK"] = "0"
with process_group():
    pass
"""


def test_a_torch_without_distributed_trains_alone_and_says_what_it_lacks():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert done.stdout == "1 3.0\n", done.stderr
    assert "this build of torch has no torch.distributed" in done.stderr.splitlines()[-1]
