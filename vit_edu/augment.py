"""One picture, many views.

Written by tools/export.py from book/text/10_augment.md: edit that file, then `make sync`.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as vision

from vit_edu.training import Batch

Moments = Tensor | Sequence[float]    # a number for each channel


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images, and how strongly. 0 leaves a part out."""

    crop_padding: int = 4      # pixels mirrored at each side before the crop
    flip: float = 0.5          # probability of a mirrored image
    operations: int = 2        # of RandAugment, one after the other
    magnitude: int = 9         # of RandAugment, 0 to 30
    erasing: float = 0.25      # probability of an erased rectangle
    mix: float = 0.5           # probability that a batch is mixed
    mixup: float = 0.8         # α of MixUp's Beta distribution
    cutmix: float = 1.0        # α of CutMix's
    mix_until: float = 0.65    # share of the epochs after which mixing ends
    repeats: int = 1           # views of each image in a batch; an epoch sees 1/repeats


NO_AUGMENTATION = Augmentation(
    crop_padding=0, flip=0, operations=0, erasing=0, mix=0
)


def reflect(index: Tensor, size: int) -> Tensor:
    """Positions beyond 0..size-1, mirrored at the outermost pixel."""
    return size - 1 - (size - 1 - index.abs()).abs()


def crop_and_flip(images: Tensor, padding: int, flip: float) -> Tensor:
    """Shift images (B, C, H, W) by up to `padding` pixels each way; mirror some.

    Equal to padding by reflection, cropping at random and flipping with
    probability `flip`, each image by its own chance.
    """
    B, C, H, W = images.shape
    if not 0 <= padding < min(H, W):
        raise ValueError(f"crop_padding {padding} does not fit images of {H} × {W}")
    shift = torch.randint(-padding, padding + 1, (2, B, 1))
    rows = reflect(torch.arange(H) + shift[0], H)                      # (B, H)
    columns = reflect(torch.arange(W) + shift[1], W)                   # (B, W)
    flipped = torch.rand(B, 1) < flip
    columns = torch.where(flipped, columns.flip(1), columns)
    rows, columns = (t.to(images.device, non_blocking=True) for t in (rows, columns))
    image = torch.arange(B, device=images.device)[:, None, None, None]
    channel = torch.arange(C, device=images.device)[:, None, None]
    return images[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def affine(images: Tensor, **change) -> Tensor:
    """Turn, shift or shear images; what comes in from outside is black."""
    nothing = dict(angle=0.0, translate=[0, 0], scale=1.0, shear=[0.0, 0.0])
    return vision.affine(images, **(nothing | change))


def shear(images: Tensor, level: float, axis: int) -> Tensor:
    """Lean images by up to 0.3 pixels a pixel, about the top left corner."""
    degrees = [0.0, 0.0]
    degrees[axis] = math.degrees(math.atan(0.3 * level))
    return affine(images, shear=degrees, center=[0, 0])


def shift(images: Tensor, level: float, axis: int) -> Tensor:
    """Move images by up to 150/331 of their width or height."""
    pixels = [0, 0]
    pixels[axis] = int(150 / 331 * images.shape[-1 - axis] * level)
    return affine(images, translate=pixels)


# RandAugment's operations: from images (bytes) and a level of -1 to 1 to images.
SIGNED = {
    "shear x": functools.partial(shear, axis=0),
    "shear y": functools.partial(shear, axis=1),
    "shift x": functools.partial(shift, axis=0),
    "shift y": functools.partial(shift, axis=1),
    "rotate": lambda x, level: vision.rotate(x, 30 * level),
    "brightness": lambda x, level: vision.adjust_brightness(x, 1 + 0.9 * level),
    "colour": lambda x, level: vision.adjust_saturation(x, 1 + 0.9 * level),
    "contrast": lambda x, level: vision.adjust_contrast(x, 1 + 0.9 * level),
    "sharpness": lambda x, level: vision.adjust_sharpness(x, 1 + 0.9 * level),
}
UNSIGNED = {
    "identity": lambda x, level: x,
    "posterize": lambda x, level: vision.posterize(x, round(8 - 4 * level)),
    "solarize": lambda x, level: vision.solarize(x, 255 * (1 - level)),
    "autocontrast": lambda x, level: vision.autocontrast(x),
    "equalize": lambda x, level: vision.equalize(x),
}
OPERATIONS = SIGNED | UNSIGNED


def rand_augment(images: Tensor, operations: int = 2, magnitude: int = 9) -> Tensor:
    """RandAugment (Cubuk et al., 2020) of bytes (B, C, H, W).

    Each image goes through `operations` of the 14, drawn by its own chance and with
    replacement, at the one `magnitude` (0 to 30); signed ones get a minus half of
    the time. All images that drew the same go through it together.
    """
    if images.dtype != torch.uint8 or not 0 <= magnitude <= 30:
        raise ValueError(
            f"RandAugment takes bytes and a magnitude of 0 to 30, "
            f"got {images.dtype} and {magnitude}"
        )
    names = list(OPERATIONS)
    for _ in range(operations):
        drawn = torch.randint(len(names), (len(images),))
        negative = (torch.rand(len(images)) <= 0.5) & (drawn < len(SIGNED))
        kind, order = (2 * drawn + negative).sort()
        kinds, counts = kind.unique_consecutive(return_counts=True)
        order = order.to(images.device, non_blocking=True)
        parts = images[order].split(counts.tolist())
        done = [
            OPERATIONS[names[k // 2]](part, (-1) ** (k % 2) * magnitude / 30)
            for k, part in zip(kinds.tolist(), parts)
        ]
        images = torch.cat(done)[order.argsort()]
    return images


def normalise(images: Tensor, mean: Moments, std: Moments) -> Tensor:
    """Bytes to floats of mean 0 and deviation 1 in each channel: (B, C, H, W).

    mean, std: of each channel of the training images scaled to 0..1
    """
    moments = (torch.as_tensor(t, dtype=torch.float32) for t in (mean, std))
    mean, std = (t.to(images.device, non_blocking=True) for t in moments)
    mean, std = mean[:, None, None], std[:, None, None]              # (C, 1, 1)
    return (images.float() / 255 - mean) / std


def erase(images: Tensor, probability: float) -> Tensor:
    """Random erasing (Zhong et al., 2020): a rectangle of zeros, the mean colour.

    It covers 2 to 33 hundredths of the image, its sides' ratio is 0.3 to 3.3. Of
    ten rectangles drawn for an image the first that fits is taken, as torchvision's.
    """
    B, _, H, W = images.shape
    area = H * W * torch.empty(B, 10).uniform_(0.02, 0.33)
    ratio = torch.empty(B, 10).uniform_(math.log(0.3), math.log(3.3)).exp()
    heights, widths = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (heights < H) & (widths < W)
    first = fits.byte().argmax(dim=1, keepdim=True)
    height, width = heights.gather(1, first), widths.gather(1, first)  # (B, 1)
    chosen = fits.any(dim=1, keepdim=True) & (torch.rand(B, 1) < probability)
    top = (torch.rand(B, 1) * (H - height + 1)).floor()
    left = (torch.rand(B, 1) * (W - width + 1)).floor()
    rows, columns = torch.arange(H), torch.arange(W)
    rows = (rows >= top) & (rows < top + height) & chosen             # (B, H)
    columns = (columns >= left) & (columns < left + width)            # (B, W)
    rows, columns = (t.to(images.device, non_blocking=True) for t in (rows, columns))
    hole = rows[:, None, :, None] & columns[:, None, None, :]         # (B, 1, H, W)
    return images.masked_fill(hole, 0.0)


def mix(images: Tensor, labels: Tensor, n_classes: int, config: Augmentation) -> Batch:
    """Mix a batch with itself, by MixUp or by CutMix, with an even chance.

    Returns images and targets (B, K), whose rows sum to 1.
    """
    choices = []
    if config.mixup:
        choices.append(v2.MixUp(alpha=config.mixup, num_classes=n_classes))
    if config.cutmix:
        choices.append(v2.CutMix(alpha=config.cutmix, num_classes=n_classes))
    if not choices:
        return images, labels
    return choices[int(torch.randint(len(choices), ()))](images, labels)


def enlarge(images: Tensor, size: int | None) -> Tensor:
    """Images (B, C, H, W) at `size` × `size`, smoothly; as they are for None."""
    if size is None or images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


class Augment:
    """From bytes (B, C, H, W) and labels (B,), where they lie, to a model's input.

    The loop tells it the epoch (`set_epoch`): mixing ends before training does.
    """

    def __init__(
        self,
        config: Augmentation,
        mean: Moments,
        std: Moments,
        n_classes: int,
        epochs: int,
        size: int | None = None,
    ) -> None:
        self.config, self.mean, self.std = config, mean, std
        self.n_classes, self.epochs, self.size = n_classes, epochs, size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch runs, counted from 0."""
        self.epoch = epoch

    @property
    def mixing(self) -> bool:
        """Whether batches are mixed: not in the last epochs."""
        return self.epoch < self.config.mix_until * self.epochs

    def __call__(self, images: Tensor, labels: Tensor) -> Batch:
        """Floats (B, C, size, size); targets are labels (B,), or (B, K) if mixed."""
        config = self.config
        if config.crop_padding or config.flip:
            images = crop_and_flip(images, config.crop_padding, config.flip)
        if config.operations:
            images = rand_augment(images, config.operations, config.magnitude)
        images = normalise(images, self.mean, self.std)
        if config.erasing:
            images = erase(images, config.erasing)
        if self.mixing and torch.rand(()) < config.mix:
            images, labels = mix(images, labels, self.n_classes, config)
        return enlarge(images, self.size), labels


def transforms_for(
    config: Augmentation, size: int, mean: Moments, std: Moments
) -> Callable:
    """The same augmentation, without mixing, by torchvision, for single images.

    For a Dataset's `transform`, images of `size` × `size` in worker processes.
    """
    steps: list[nn.Module] = [v2.ToImage()]
    if config.crop_padding:
        padding = dict(padding=config.crop_padding, padding_mode="reflect")
        steps.append(v2.RandomCrop(size, **padding))
    if config.flip:
        steps.append(v2.RandomHorizontalFlip(config.flip))
    if config.operations:
        steps.append(v2.RandAugment(config.operations, config.magnitude))
    steps.append(v2.ToDtype(torch.float32, scale=True))
    steps.append(v2.Normalize(*(torch.as_tensor(t).tolist() for t in (mean, std))))
    if config.erasing:
        steps.append(v2.RandomErasing(config.erasing))
    return v2.Compose(steps)
