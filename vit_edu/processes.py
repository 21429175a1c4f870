"""One batch, many processes.

Written by tools/export.py from book/text/13_processes.md: edit that file, then `make sync`.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Sampler

from vit_edu.augment import Augment, normalise
from vit_edu.experiment import uncompiled
from vit_edu.photographs import MEAN, STD, Pictures, Reader, check_classes
from vit_edu.training import Batch, predict_logits, seed_for
from vit_edu.weights import unwrapped


class SharedBatches(Sampler):
    """Each process's part of batches that all share: (number, seed) of its images.

    The order of all images follows from `seed` and the epoch, so that batch k is the
    same set of images, with the same seeds, for any number of processes. `repeats`
    puts that many views of an image into a batch (Hoffer et al., 2020). `start_batch`
    lets an epoch begin in the middle.
    """

    def __init__(
        self,
        n_images: int,
        batch_size: int,
        *,
        rank: int = 0,
        world: int = 1,
        seed: int = 0,
        repeats: int = 1,
    ) -> None:
        if batch_size % world:
            near = batch_size // world * world or world
            raise ValueError(
                f"a batch of {batch_size} images cannot be shared by {world} "
                f"processes; choose a multiple of {world}, such as {near}"
            )
        if batch_size > n_images:
            raise ValueError(
                f"a batch of {batch_size} is more than all {n_images} images; choose a "
                "smaller --batch-size"
            )
        self.n_images, self.batch_size, self.repeats = n_images, batch_size, repeats
        self.rank, self.world, self.seed = rank, world, seed
        self.epoch = self.start_batch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes, counted from 0; it begins at its first batch."""
        self.epoch, self.start_batch = epoch, 0

    def __len__(self) -> int:
        """Images that this process gets in an epoch, without an incomplete batch."""
        return self.n_images // self.batch_size * (self.batch_size // self.world)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        chance = torch.Generator().manual_seed(seed_for(self.seed, self.epoch))
        order = torch.randperm(self.n_images, generator=chance)
        seeds = torch.randint(2**62, (self.n_images,), generator=chance)
        order = order.repeat_interleave(self.repeats)[: self.n_images]
        last = self.n_images // self.batch_size * self.batch_size
        if self.repeats > 1:    # neighbours are mixed: scatter an image's views
            places = torch.randperm(self.batch_size, generator=chance)
            order = order[:last].view(-1, self.batch_size)[:, places].flatten()
        mine = range(self.start_batch * self.batch_size + self.rank, last, self.world)
        yield from ((int(order[i]), int(seeds[i])) for i in mine)


@dataclass(frozen=True)
class Group:
    """The processes that train together, one a device; alone, it is a group of one."""

    rank: int
    world: int
    device: torch.device
    control: "dist.ProcessGroup | None" = None    # for words between the CPUs

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and prints."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """The sum of a CPU tensor over all processes."""
        if self.world > 1:
            dist.all_reduce(values, group=self.control)
        return values

    def mean(self, value: float) -> float:
        """The mean of a number over all processes."""
        return float(self.total(torch.tensor(value).double())) / self.world


@contextmanager
def process_group() -> Iterator[Group]:
    """Join the processes that torchrun started (by nccl on GPUs), or be alone."""
    cuda = torch.cuda.is_available()
    if "RANK" not in os.environ:
        yield Group(0, 1, torch.device("cuda" if cuda else "cpu"))
        return
    if not dist.is_available():
        raise RuntimeError(
            "this build of torch has no torch.distributed, which processes need to "
            "talk; install a build that has, or start one process without torchrun"
        )
    device = torch.device("cpu")
    if cuda:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda and dist.is_nccl_available() else "gloo")
    control = dist.new_group(backend="gloo")
    try:
        yield Group(dist.get_rank(), dist.get_world_size(), device, control)
    finally:
        dist.destroy_process_group()


def together(should_stop: Callable[[], bool] | None, group: Group) -> Callable:
    """Whether one of the processes was asked to stop: then all do, at one step."""

    def asked() -> bool:
        mine = should_stop is not None and should_stop()
        return bool(group.total(torch.tensor([mine]).int()))

    return asked


class Apart:
    """Augments with chance of its own in each process: the loop seeds all alike."""

    def __init__(self, augment: Augment, rank: int) -> None:
        self.augment, self.rank = augment, rank
        self.set_epoch = augment.set_epoch

    def __call__(self, images: Tensor, labels: Tensor) -> Batch:
        """Augmented images and targets of this process's part of a batch."""
        torch.manual_seed(seed_for(torch.initial_seed(), self.rank))
        return self.augment(images, labels)


def validate(model: nn.Module, batches: DataLoader, group: Group) -> dict[str, float]:
    """Mean cross-entropy and accuracy over the images of all processes."""

    def prepared() -> Iterator[Batch]:
        for images, labels in batches:
            yield normalise(images.to(group.device), MEAN, STD), labels

    sums = torch.zeros(3, dtype=torch.float64)    # loss, right answers, images
    if len(batches.sampler):
        with uncompiled(unwrapped(model)):    # other shapes than training's
            logits, labels = predict_logits(unwrapped(model), prepared())
        loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
        right = (logits.argmax(dim=1) == labels).sum()
        sums = torch.stack([loss.double(), right.double(), torch.tensor(len(labels))])
    loss, right, n = group.total(sums.double()).tolist()
    return {"val_loss": loss / n, "val_accuracy": right / n}


def make_loaders(
    data: str | os.PathLike,
    size: int,
    batch_size: int,
    group: Group,
    *,
    seed: int = 0,
    smallest: float | None = 0.08,
    repeats: int = 1,
    workers: int = 0,
    skip_unreadable: bool = False,
) -> tuple[DataLoader, DataLoader]:
    """This process's training batches, and its share of the validation images.

    data: a folder with train/ and val/
    size: of the images, in pixels
    batch_size: of all processes together
    smallest: least share of the area in a random part; None: always the middle
    repeats: views of each image in a batch
    workers: processes that read, for this one
    """
    train_root, val_root, _ = check_classes(data)
    options = dict(skip_unreadable=skip_unreadable)
    train_set = Pictures(train_root, size, smallest=smallest, **options)
    val_set = Pictures(val_root, size, **options)
    place = dict(rank=group.rank, world=group.world)
    n = len(train_set)
    sampler = SharedBatches(n, batch_size, seed=seed, repeats=repeats, **place)
    share = range(group.rank, len(val_set), group.world)
    local = batch_size // group.world
    how = dict(num_workers=workers, pin_memory=group.device.type == "cuda")
    return (
        Reader(train_set, local, sampler=sampler, drop_last=True, **how),
        Reader(val_set, min(local, 250), sampler=share, **how),
    )


def same_folder(group: Group, state: Path) -> None:
    """All processes must see the same files: one machine's own disk is not enough."""
    seen = int(group.total(torch.tensor([state.exists()]).int()))
    if seen not in (0, group.world):
        raise FileNotFoundError(
            f"{seen} of {group.world} processes see {state}; choose an --out on a disk "
            "that all machines share"
        )


def in_parallel(model: nn.Module, group: Group) -> nn.Module:
    """The model as it is trained: compiled on a GPU, gradients averaged by DDP."""
    on_gpu = group.device.type == "cuda"
    if on_gpu:
        model.compile()
    if group.world == 1:
        return model
    places = [group.device.index] if on_gpu else None
    return DistributedDataParallel(model, device_ids=places)
