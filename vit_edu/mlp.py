"""Each token on its own: normalisation and the MLP.

Written by tools/export.py from book/text/03_mlp.md: edit that file, then `make sync`.
"""

import torch
from torch import Tensor, nn

from vit_edu.patches import explain_arguments


class LayerNorm(nn.LayerNorm):
    """PyTorch's layer normalisation over the width, with the ViT's epsilon."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__(dim, eps=eps)


@explain_arguments
class MLP(nn.Module):
    """Two linear layers, an exact GELU between, each token alone (section 3.1).

    Tokens (B, N, in_features) to (B, N, out_features); dropout follows each
    layer. Without `out_features` the width stays, without `hidden_features` the
    hidden layer has it too.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        if hidden_features is None:
            hidden_features = in_features
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = nn.GELU()
        self.drop1 = nn.Dropout(drop)
        self.fc2 = nn.Linear(hidden_features, out_features or in_features)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, in_features) to (B, N, out_features)."""
        x = self.drop1(self.act(self.fc1(x)))    # (B, N, hidden_features)
        return self.drop2(self.fc2(x))           # (B, N, out_features)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., 2016): drop whole branches in training.

    Each sample's whole branch is zeroed with probability `p`, the others are
    divided by 1 - p, so that the expected value stays. In evaluation it does
    nothing.
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"drop-path rate {p} is not in [0, 1)")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """A residual branch (B, N, D), unchanged in shape."""
        if self.p == 0.0 or not self.training:
            return x
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)           # (B, 1, 1)
        kept = torch.rand(shape, device=x.device) >= self.p
        return x * kept / (1.0 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p:g}"
