"""Folders of small pictures in ImageNet's layout."""

from pathlib import Path

import torch
from PIL import Image


def write_pictures(root: Path, n_train: int = 13, n_val: int = 5) -> Path:
    """Three classes of small JPEGs that differ in colour and noise, so many a class to train on and to test."""
    chance = torch.Generator().manual_seed(0)
    for part, n in ("train", n_train), ("val", n_val):
        for k, name in enumerate(("ant", "bee", "cat")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(n):
                noise = torch.randint(0, 90, (6, 8, 3), generator=chance)
                noise[..., k] += 150
                image = Image.fromarray(noise.byte().numpy()).resize((48, 36), Image.BICUBIC)
                image.save(folder / f"{i}.jpg", quality=90)
    return root
