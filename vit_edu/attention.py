"""Attention: tokens ask, tokens answer.

Written by tools/export.py from book/text/02_attention.md: edit that file, then `make sync`.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from vit_edu.patches import explain_arguments, nearest_divisors


def attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """Softmax of q·k/√d over the keys: (..., N, d), (..., M, d) to (..., N, M).

    Each row belongs to one query and sums to 1. Equation 6 of the ViT paper,
    inner part of equation 1 of "Attention Is All You Need".
    """
    scores = q @ k.transpose(-2, -1)                         # (..., N, M)
    return (scores * q.shape[-1] ** -0.5).softmax(dim=-1)    # (..., N, M)


@explain_arguments
class Attention(nn.Module):
    """Multi-head self-attention over tokens (B, N, D) (ViT paper, eq. 5–8).

    With `flash_attention` PyTorch's fused kernel computes the same function
    without keeping the (N, N) weights in memory; asked for the weights, the
    layer takes the explicit path. Dropout acts on weights and output.
    """

    def __init__(
        self,
        dim: int,
        n_heads: int = 8,
        qkv_bias: bool = False,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        flash_attention: bool = True,
    ) -> None:
        super().__init__()
        if dim % n_heads:
            raise ValueError(
                f"width {dim} cannot be divided among {n_heads} heads; choose "
                f"n_heads {nearest_divisors(dim, n_heads)}, or another width"
            )
        self.n_heads, self.head_dim = n_heads, dim // n_heads
        self.flash_attention = flash_attention
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(
        self, x: Tensor, return_attention: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Tokens (B, N, D) to tokens; on request also weights (B, h, N, N)."""
        B, N, D = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.n_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)    # (B, h, N, d) each
        weights = None
        if self.flash_attention and not return_attention:
            dropout = self.attn_drop.p if self.training else 0.0
            x = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        else:
            weights = attention_weights(q, k)             # (B, h, N, N)
            x = self.attn_drop(weights) @ v               # (B, h, N, d)
        x = x.transpose(1, 2).reshape(B, N, D)            # heads side by side
        x = self.proj_drop(self.proj(x))                  # (B, N, D)
        return (x, weights) if return_attention else x
