"""vit_edu: a Vision Transformer whose source is the book that explains it."""

import re

import torch

# Before torch 2.6 even `torch.load(..., weights_only=True)` could run a file's code (CVE-2025-32434).
if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < (2, 6):
    raise ImportError(
        f"vit_edu needs torch 2.6 or newer, and this is {torch.__version__}: run `pip install --upgrade torch`"
    )

from vit_edu.attention import Attention  # noqa: E402
from vit_edu.block import Block  # noqa: E402
from vit_edu.mlp import MLP, DropPath, LayerNorm  # noqa: E402
from vit_edu.model import PRESETS, VisionTransformer, count_macs, count_parameters, create_vit  # noqa: E402
from vit_edu.patches import PatchEmbedding, patchify, unpatchify  # noqa: E402

__all__ = [
    "Attention",
    "Block",
    "DropPath",
    "LayerNorm",
    "MLP",
    "PRESETS",
    "PatchEmbedding",
    "VisionTransformer",
    "count_macs",
    "count_parameters",
    "create_vit",
    "patchify",
    "unpatchify",
]
