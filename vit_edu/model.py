"""The Vision Transformer: four equations, one class.

Written by tools/export.py from book/text/05_model.md: edit that file, then `make sync`.
"""

import torch
from torch import Tensor, nn

from vit_edu.block import Block
from vit_edu.mlp import LayerNorm
from vit_edu.patches import (
    PatchEmbedding,
    Size,
    embed_sequence,
    explain_arguments,
    grid_shape,
    resize_positions,
    sincos2d_positions,
    to_pair,
)


@torch.no_grad()
def init_weights(model: nn.Module) -> None:
    """Start a ViT as the paper's code does: Xavier's scale per matrix, a zero head."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            # q, k and v are three matrices in one: each has a scale by its own size.
            n_matrices = 3 if name.endswith("attn.qkv") else 1
            for matrix in module.weight.chunk(n_matrices):
                nn.init.xavier_uniform_(matrix)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    patches = model.patch_embed.proj
    nn.init.trunc_normal_(patches.weight, std=patches.weight[0].numel() ** -0.5)
    nn.init.zeros_(patches.bias)
    for token in (model.cls_token, model.reg_token, model.pos_embed):
        if isinstance(token, nn.Parameter):
            nn.init.trunc_normal_(token, std=0.02)
    if isinstance(model.head, nn.Linear):
        nn.init.zeros_(model.head.weight)    # the first loss is ln(num_classes)


def choose(what: str, value: str, allowed: tuple[str, ...]) -> str:
    """Return `value` if it is one of `allowed`; else a ValueError that lists them."""
    if value not in allowed:
        options = ", ".join(map(repr, allowed))
        raise ValueError(f"unknown {what} {value!r}; choose one of {options}")
    return value


def learned(n: int, dim: int) -> nn.Parameter | None:
    """`n` vectors to be learned, (1, n, D); None for no vector."""
    return nn.Parameter(torch.zeros(1, n, dim)) if n else None


def make_positions(
    kind: str, n_cls: int, grid: tuple[int, int], dim: int
) -> Tensor | None:
    """Positions (1, [1+]N, D): a parameter ("learned"), a fixed tensor, or None."""
    if choose("positions", kind, ("learned", "sincos2d", "none")) == "learned":
        return learned(n_cls + grid[0] * grid[1], dim)
    if kind == "none":
        return None
    of_class = torch.zeros(1, n_cls, dim)    # the class token stands nowhere
    return torch.cat([of_class, sincos2d_positions(grid, dim)], dim=1)


@explain_arguments
class VisionTransformer(nn.Module):
    """The Vision Transformer (Dosovitskiy et al., 2021): (B, C, H, W) to logits (B, K).

    img_size: the native size; other multiples of the patch get resized positions
    num_classes: 0 for a model without a head: `forward` gives the pooled token (B, D)
    pool: "cls" reads the class token, "mean" averages the patches and has none
    positions: "learned", fixed "sincos2d" or "none"
    n_registers: learned tokens without positions (Darcet et al., 2024)
    drop_path_rate: the last block's; it rises from 0 in the first
    fc_norm: normalise the pooled vector, not each token, as timm does for means
    norm_eps: what every LayerNorm adds to the variance
    antialias: how learned positions are resized, see `resize_positions`

    Parameter names are timm's: its ViT with class token loads unchanged if it has no
    registers, no LayerScale and no norm before the blocks (`norm_pre`).
    """

    def __init__(
        self,
        img_size: Size = 224,
        patch_size: Size = 16,
        in_channels: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 768,
        depth: int = 12,
        n_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        pool: str = "cls",
        flash_attention: bool = True,
        positions: str = "learned",
        n_registers: int = 0,
        fc_norm: bool = False,
        norm_eps: float = 1e-6,
        antialias: bool = True,
    ) -> None:
        config = locals().copy()
        del config["self"], config["__class__"]
        for name in "in_channels", "num_classes", "embed_dim", "depth", "n_heads":
            least = 0 if name == "num_classes" else 1    # 0: no head
            if not isinstance(config[name], int) or config[name] < least:
                raise ValueError(f"{name} is {config[name]!r}, not a positive whole number")
        for name in "img_size", "patch_size":    # one form, which JSON keeps
            height, width = to_pair(config[name])
            config[name] = height if height == width else [height, width]
        super().__init__()
        self.config = config    # VisionTransformer(**config) is the same architecture
        self.pool = choose("pool", pool, ("cls", "mean"))
        n_cls = 1 if pool == "cls" else 0
        self.n_prefix = n_cls + n_registers    # tokens before the patches
        self.patch_embed = PatchEmbedding(img_size, patch_size, in_channels, embed_dim)
        self.cls_token = learned(n_cls, embed_dim)
        self.reg_token = learned(n_registers, embed_dim)
        table = make_positions(positions, n_cls, self.patch_embed.grid_size, embed_dim)
        if isinstance(table, nn.Parameter):
            self.pos_embed = table
        else:
            self.register_buffer("pos_embed", table, persistent=False)
        self.pos_drop = nn.Dropout(drop_rate)
        common = (embed_dim, n_heads, mlp_ratio, qkv_bias, drop_rate, attn_drop_rate)
        rates = [drop_path_rate * i / max(depth - 1, 1) for i in range(depth)]
        blocks = (Block(*common, rate, flash_attention) for rate in rates)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.Identity() if fc_norm else LayerNorm(embed_dim)
        self.fc_norm = LayerNorm(embed_dim) if fc_norm else nn.Identity()
        self.head = nn.Linear(embed_dim, num_classes) if num_classes else nn.Identity()
        for layer in self.modules():
            if isinstance(layer, nn.LayerNorm):
                layer.eps = norm_eps
        init_weights(self)

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to the encoder's input z_0 (B, prefix + N, D) (eq. 1)."""
        patches, positions = self.patch_embed(images), self.pos_embed
        if positions is not None:
            grid = grid_shape(tuple(images.shape[2:]), self.patch_embed.patch_size)
            old = self.patch_embed.grid_size
            positions = resize_positions(positions, old, grid, self.config["antialias"])
        z = embed_sequence(patches, positions, self.cls_token, self.reg_token)
        return self.pos_drop(z)    # (B, prefix + N, D)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to the final tokens (B, prefix + N, D).

        They are normalised, but with `fc_norm`: `forward` then norms their mean.
        """
        return self.norm(self.blocks(self.embed(images)))    # eq. 1 to 4

    def forward(self, images: Tensor) -> Tensor:
        """Float images (B, C, H, W) to class logits (B, K), headless (B, D)."""
        tokens = self.forward_features(images)               # (B, prefix + N, D)
        if self.pool == "cls":
            y = tokens[:, 0]                                 # (B, D)
        else:
            y = tokens[:, self.n_prefix :].mean(dim=1)       # (B, D)
        return self.head(self.fc_norm(y))                    # (B, K) or (B, D)


PRESETS = {
    "vit_tiny_patch16_224": dict(embed_dim=192, depth=12, n_heads=3),
    "vit_small_patch16_224": dict(embed_dim=384, depth=12, n_heads=6),
    "vit_base_patch16_224": dict(embed_dim=768, depth=12, n_heads=12),
    "vit_base_patch32_224": dict(embed_dim=768, depth=12, n_heads=12, patch_size=32),
    "vit_large_patch16_224": dict(embed_dim=1024, depth=24, n_heads=16),
    "vit_huge_patch14_224": dict(embed_dim=1280, depth=32, n_heads=16, patch_size=14),
}


def create_vit(name: str, **overrides) -> VisionTransformer:
    """Build a preset by timm's name; keyword arguments replace the preset's own.

    >>> model = create_vit("vit_tiny_patch16_224", num_classes=10, img_size=96)
    """
    preset = PRESETS[choose("preset", name, tuple(PRESETS))]
    return VisionTransformer(**(preset | overrides))


def count_parameters(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def count_macs(
    model: VisionTransformer, img_size: Size | None = None
) -> dict[str, int]:
    """Multiply-accumulates of one image's forward pass, by part; 1 MAC = 2 FLOP.

    Counts the matrix products, as papers do: norms, softmax and additions are left out.
    """
    embed = model.patch_embed
    rows, columns = grid_shape(img_size or embed.img_size, embed.patch_size)
    patches, tokens = rows * columns, rows * columns + model.n_prefix
    width = embed.proj.out_channels
    macs = {"patch embedding": patches * embed.proj.weight.numel()}
    macs |= {"projections": 0, "attention": 0, "MLP": 0}
    for block in model.blocks:
        for layer in block.attn.qkv, block.attn.proj:
            macs["projections"] += tokens * layer.weight.numel()
        macs["attention"] += 2 * tokens**2 * width    # q·k and weights·v, all heads
        for layer in block.mlp.fc1, block.mlp.fc2:
            macs["MLP"] += tokens * layer.weight.numel()
    macs["head"] = sum(p.numel() for p in model.head.parameters() if p.ndim == 2)
    return macs
