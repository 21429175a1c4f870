"""Small models with the properties that tests of maps, inspection and prediction need."""

import torch
from torch import nn
from vit_edu.model import VisionTransformer

VARIANTS = {
    "class token": {},
    "class token, registers": dict(n_registers=3),
    "mean": dict(pool="mean"),
    "mean, registers, fc_norm": dict(pool="mean", n_registers=2, fc_norm=True),
    "no positions": dict(pool="mean", positions="none"),
    "sine-cosine": dict(positions="sincos2d"),
    "dropout": dict(drop_rate=0.3, attn_drop_rate=0.3, drop_path_rate=0.3),
}


def small_vit(**overrides) -> VisionTransformer:
    """Six patches of 4 × 4, weights large enough that attention is not flat; in evaluation mode."""
    torch.manual_seed(1)
    settings = dict(img_size=(8, 12), patch_size=4, num_classes=5, embed_dim=16, depth=3, n_heads=2)
    model = VisionTransformer(**(settings | overrides)).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.4)
    return model


def recomputed(model: VisionTransformer, images: torch.Tensor) -> torch.Tensor:
    """The second implementation: softmax(q·k/√d) of what each `qkv` layer gave, head by head."""
    seen = []
    hooks = [b.attn.qkv.register_forward_hook(lambda m, i, output: seen.append(output)) for b in model.blocks]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    layers = []
    for qkv in seen:
        width = qkv.shape[-1] // 3
        d = width // model.blocks[0].attn.n_heads
        heads = []
        for first in range(0, width, d):
            q, k = qkv[..., first : first + d], qkv[..., width + first : width + first + d]
            heads.append(torch.softmax(torch.einsum("bid,bjd->bij", q, k) / d**0.5, dim=-1))
        layers.append(torch.stack(heads, dim=1))
    return torch.stack(layers)
