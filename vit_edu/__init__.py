"""vit_edu: a Vision Transformer whose source is the book that explains it."""

from vit_edu.attention import Attention
from vit_edu.block import Block
from vit_edu.mlp import MLP, DropPath, LayerNorm
from vit_edu.model import PRESETS, VisionTransformer, count_macs, count_parameters, create_vit
from vit_edu.patches import PatchEmbedding, patchify, unpatchify

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
