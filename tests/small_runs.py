"""A small model, its data and its settings, for tests of training."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from vit_edu import VisionTransformer
from vit_edu.optimizer import TrainingConfig

CONFIG = TrainingConfig(epochs=3, lr=1e-3, warmup_epochs=1)


def small_vit(**overrides) -> VisionTransformer:
    torch.manual_seed(0)
    settings = dict(img_size=8, patch_size=4, in_channels=1, num_classes=4, embed_dim=16, depth=2, n_heads=2)
    return VisionTransformer(**(settings | overrides))


def data(n: int = 48) -> TensorDataset:
    images = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return TensorDataset(images, torch.arange(n) % 4)


def batches(n: int = 48) -> DataLoader:
    return DataLoader(data(n), batch_size=8, shuffle=True)


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.state_dict().values()]


def without_times(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]
