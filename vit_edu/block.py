"""The block: two plus signs.

Written by tools/export.py from book/text/04_block.md: edit that file, then `make sync`.
"""

from torch import Tensor, nn

from vit_edu.attention import Attention
from vit_edu.mlp import MLP, DropPath, LayerNorm
from vit_edu.patches import explain_arguments


@explain_arguments
class Block(nn.Module):
    """One pre-norm encoder block (eq. 2 and 3): (B, N, D) to (B, N, D)."""

    def __init__(
        self,
        dim: int,
        n_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = False,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float = 0.0,
        flash_attention: bool = True,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attn = Attention(
            dim, n_heads, qkv_bias, attn_drop, drop, flash_attention
        )  # fmt: skip
        self.norm2 = LayerNorm(dim)
        self.mlp = MLP(dim, int(dim * mlp_ratio), drop=drop)
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Tensor, return_attention: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Tokens (B, N, D) to the same; on request weights (B, h, N, N)."""
        weights = None
        if return_attention:
            branch, weights = self.attn(self.norm1(x), return_attention=True)
        else:
            branch = self.attn(self.norm1(x))
        x = x + self.drop_path(branch)                      # eq. 2
        x = x + self.drop_path(self.mlp(self.norm2(x)))     # eq. 3
        return (x, weights) if return_attention else x
