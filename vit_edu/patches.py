"""Images as sequences.

Written by tools/export.py from book/text/01_patches.md: edit that file, then `make sync`.
"""

import functools
import inspect

import torch
import torch.nn.functional as F
from torch import Tensor, nn


Size = int | tuple[int, int]


def to_pair(size: Size) -> tuple[int, int]:
    """Return `size` as (height, width); an int means a square."""
    if isinstance(size, int):
        return size, size
    if len(size) != 2:
        raise ValueError(f"size {size} is not an int or (height, width)")
    return tuple(size)


def nearest_divisors(number: int, wanted: int) -> str:
    """The divisors of `number` around `wanted`, in words: "15 or 25"."""
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    below = [d for d in divisors if d <= wanted][-1:]
    above = [d for d in divisors if d > wanted][:1]
    return " or ".join(map(str, below + above))


def grid_shape(img_size: Size, patch_size: Size) -> tuple[int, int]:
    """Rows and columns of patches; ValueError if they do not fill the image."""
    grid = []
    sides = zip(("height", "width"), to_pair(img_size), to_pair(patch_size))
    for side, length, patch in sides:
        if length < 1:
            raise ValueError(f"image {side} is {length}; it must be positive")
        if patch < 1 or length < patch or length % patch:
            raise ValueError(
                f"image {side} {length} is not a multiple of patch {side} "
                f"{patch}; resize or crop the image, or choose patch_size "
                f"{nearest_divisors(length, patch)}"
            )
        grid.append(length // patch)
    return tuple(grid)


def patchify(images: Tensor, patch_size: Size) -> Tensor:
    """Cut images (B, C, H, W) into patches (B, N, C·P_h·P_w), row by row."""
    B, C, H, W = images.shape
    ph, pw = to_pair(patch_size)
    gh, gw = grid_shape((H, W), patch_size)
    x = images.reshape(B, C, gh, ph, gw, pw)   # (B, C, rows, P_h, cols, P_w)
    x = x.permute(0, 2, 4, 1, 3, 5)            # (B, rows, cols, C, P_h, P_w)
    return x.reshape(B, gh * gw, C * ph * pw)  # (B, N, C·P_h·P_w)


def unpatchify(patches: Tensor, patch_size: Size, img_size: Size) -> Tensor:
    """Undo `patchify`: patches (B, N, C·P_h·P_w) to images (B, C, H, W)."""
    B, N, length = patches.shape
    ph, pw = to_pair(patch_size)
    gh, gw = grid_shape(img_size, patch_size)
    if N != gh * gw or length % (ph * pw):
        raise ValueError(
            f"{N} patches of {length} numbers do not make an image of "
            f"{to_pair(img_size)}: it takes {gh * gw} patches of a multiple of "
            f"{ph * pw} numbers"
        )
    x = patches.reshape(B, gh, gw, -1, ph, pw)  # (B, rows, cols, C, P_h, P_w)
    x = x.permute(0, 3, 1, 4, 2, 5)             # (B, C, rows, P_h, cols, P_w)
    return x.reshape(B, -1, gh * ph, gw * pw)   # (B, C, H, W)


SYNONYMS = {
    "num_heads": "n_heads", "num_attention_heads": "n_heads",
    "heads": "n_heads", "image_size": "img_size", "channels": "in_channels",
    "in_chans": "in_channels", "num_channels": "in_channels",
    "dim": "embed_dim", "hidden_dim": "embed_dim", "hidden_size": "embed_dim",
    "num_layers": "depth", "num_hidden_layers": "depth", "global_pool": "pool",
    "dropout": "drop_rate", "drop_path": "drop_path_rate",
    "reg_tokens": "n_registers", "fused_attn": "flash_attention",
}  # fmt: skip


def explain_arguments(cls: type) -> type:
    """Class decorator: answer an unknown argument with the name meant."""
    init = cls.__init__
    known = list(inspect.signature(init).parameters)[1:]    # without self

    @functools.wraps(init)
    def checked(self, *args, **kwargs):
        for name in kwargs:
            if name not in known:
                meant = SYNONYMS.get(name)
                takes = f"it takes {', '.join(known)}"
                hint = f"use {meant}=" if meant in known else takes
                problem = f"{cls.__name__} has no argument {name}="
                raise TypeError(f"{problem}; {hint}")
        init(self, *args, **kwargs)

    cls.__init__ = checked
    return cls


@explain_arguments
class PatchEmbedding(nn.Module):
    """Images (B, C, H, W) to patch tokens (B, N, D): the `x_p E` of eq. 1.

    The projection E is a convolution whose stride is its kernel size: the same
    linear map, without building the patches in memory. `n_patches` is N at the
    native `img_size`; `forward` takes any multiple of the patch.
    """

    def __init__(
        self,
        img_size: Size = 224,
        patch_size: Size = 16,
        in_channels: int = 3,
        embed_dim: int = 768,
    ) -> None:
        super().__init__()
        self.img_size, self.patch_size = to_pair(img_size), to_pair(patch_size)
        self.grid_size = grid_shape(img_size, patch_size)    # (rows, columns)
        self.n_patches = self.grid_size[0] * self.grid_size[1]
        self.proj = nn.Conv2d(
            in_channels, embed_dim, self.patch_size, stride=self.patch_size
        )

    def forward(self, images: Tensor) -> Tensor:
        """Float images (B, C, H, W) to tokens (B, N, D)."""
        self.check(images)
        x = self.proj(images)                   # (B, D, rows, columns)
        return x.flatten(2).transpose(1, 2)     # (B, N, D)

    def check(self, images: Tensor) -> None:
        """Raise an error that names what is wrong with `images`, if any."""
        channels = self.proj.in_channels
        if images.ndim != 4:
            raise ValueError(
                f"images have shape {tuple(images.shape)}, not (batch, "
                "channels, height, width); add the batch dimension of a "
                "single image with image[None]"
            )
        if images.shape[1] != channels:
            raise ValueError(
                f"images have {images.shape[1]} channels, the model takes "
                f"{channels}; convert them, or build the model with "
                "in_channels set to theirs"
            )
        if not images.is_floating_point():
            raise TypeError(
                f"images are {images.dtype}, not floating point; "
                "scale them first: images.float() / 255"
            )
        own, device = self.proj.weight.dtype, images.device.type
        if images.dtype != own and not torch.is_autocast_enabled(device):
            raise TypeError(
                f"images are {images.dtype}, the model's weights {own}; "
                f"convert them: images.to({own})"
            )
        grid_shape(tuple(images.shape[2:]), self.patch_size)


def sincos2d_positions(
    grid: tuple[int, int], dim: int, temperature: float = 10_000.0
) -> Tensor:
    """Fixed positions (1, N, D): a quarter each sin x, cos x, sin y and cos y.

    As in "Better plain ViT baselines for ImageNet-1k" (Beyer et al., 2022).
    """
    if dim % 4:
        raise ValueError(
            f"width {dim} is not a multiple of 4, "
            "as 2-D sine-cosine positions need"
        )
    sides = (torch.arange(n, dtype=torch.float32) for n in grid)
    y, x = torch.meshgrid(*sides, indexing="ij")              # (rows, columns)
    exponent = torch.arange(dim // 4) / max(dim // 4 - 1, 1)  # 0 to 1, (D/4,)
    omega = temperature**-exponent                            # 1 to 1/10,000
    x = x.flatten()[:, None] * omega                          # (N, D/4)
    y = y.flatten()[:, None] * omega                          # (N, D/4)
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1)[None]


def resize_positions(
    pos_embed: Tensor,
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    antialias: bool = True,
) -> Tensor:
    """Resize positions (1, prefix + N, D) to another patch grid (section 3.2).

    Positions before the last N (the class token's) are kept. Bicubic with
    antialiasing, as timm; without it, as Hugging Face and Meta's DINO.
    """
    if old_grid == new_grid:
        return pos_embed
    n_prefix = pos_embed.shape[1] - old_grid[0] * old_grid[1]
    if n_prefix < 0:
        raise ValueError(
            f"{pos_embed.shape[1]} positions are too few "
            f"for a grid of {old_grid}"
        )
    prefix, grid = pos_embed[:, :n_prefix], pos_embed[:, n_prefix:]
    grid = grid.float().reshape(1, *old_grid, -1)    # (1, rows, columns, D)
    grid = F.interpolate(
        grid.permute(0, 3, 1, 2),                    # (1, D, rows, columns)
        size=new_grid, mode="bicubic", antialias=antialias, align_corners=False,
    )
    grid = grid.flatten(2).transpose(1, 2)           # (1, new N, D)
    return torch.cat([prefix, grid.to(pos_embed.dtype)], dim=1)


def embed_sequence(
    patches: Tensor,
    pos_embed: Tensor | None = None,
    cls_token: Tensor | None = None,
    reg_token: Tensor | None = None,
) -> Tensor:
    """The encoder's input z_0 (eq. 1), and registers.

    Takes patches (B, N, D), positions (1, [1+]N, D), class token (1, 1, D) and
    registers (1, R, D). Returns (B, [1+] [R+] N, D): class token, registers,
    patches, in this order. The class token comes first and *then* the positions
    are added: it has one of its own. Registers (Darcet et al., 2024) have none.
    """
    B = patches.shape[0]
    tokens = patches                                        # (B, N, D)
    if cls_token is not None:
        cls = cls_token.expand(B, -1, -1)                   # (B, 1, D)
        tokens = torch.cat([cls, tokens], dim=1)            # (B, 1+N, D)
    if pos_embed is not None:
        tokens = tokens + pos_embed
    if reg_token is not None:
        n_cls = 0 if cls_token is None else 1
        cls, rest = tokens[:, :n_cls], tokens[:, n_cls:]
        registers = reg_token.expand(B, -1, -1)             # (B, R, D)
        tokens = torch.cat([cls, registers, rest], dim=1)   # (B, 1+R+N, D)
    return tokens
