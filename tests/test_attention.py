"""Attention: the explicit and the fused path, its weights, its heads, against a second implementation."""

import pytest
import torch
from torch import nn

from vit_edu import Attention, Block
from vit_edu.mlp import MLP, DropPath, LayerNorm


def tokens(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def both_paths(dim: int, n_heads: int) -> tuple[Attention, Attention]:
    """The same layer twice: explicit and fused."""
    explicit = Attention(dim, n_heads, qkv_bias=True, flash_attention=False)
    fused = Attention(dim, n_heads, qkv_bias=True, flash_attention=True)
    fused.load_state_dict(explicit.state_dict())
    return explicit, fused


@pytest.mark.parametrize("N, dim, n_heads", [(1, 8, 1), (5, 12, 3), (17, 64, 4), (197, 192, 3)])
def test_fused_and_explicit_agree_forward_and_backward(N, dim, n_heads):
    explicit, fused = both_paths(dim, n_heads)
    x = [tokens(2, N, dim).requires_grad_() for _ in range(2)]
    y = [layer(x_) for layer, x_ in zip((explicit, fused), x)]
    torch.testing.assert_close(y[0], y[1], rtol=0, atol=1e-6)
    for y_ in y:
        y_.square().mean().backward()
    for p, q in [x, *zip(explicit.parameters(), fused.parameters())]:
        largest = p.grad.abs().max().item()
        assert largest > 0
        torch.testing.assert_close(p.grad, q.grad, rtol=0, atol=2e-6 * largest)


def test_weights_are_the_same_on_both_paths_and_asking_for_them_changes_nothing():
    explicit, fused = both_paths(24, 3)
    x = tokens(2, 7, 24)
    (y, weights), (z, same) = explicit(x, return_attention=True), fused(x, return_attention=True)
    assert weights.shape == (2, 3, 7, 7)
    assert torch.equal(weights, same) and torch.equal(y, z) and torch.equal(y, explicit(x))
    torch.testing.assert_close(fused(x), z, rtol=0, atol=1e-6)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 3, 7))
    assert not torch.allclose(weights.sum(dim=-2), torch.ones(2, 3, 7))    # columns need not


def test_equals_pytorchs_multihead_attention():
    ours = Attention(24, 4, qkv_bias=True)
    theirs = nn.MultiheadAttention(24, 4, batch_first=True)
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = ours.qkv.weight.data, ours.qkv.bias.data
    theirs.out_proj.load_state_dict(ours.proj.state_dict())
    x = tokens(3, 9, 24)
    y, weights = ours(x, return_attention=True)
    z, expected = theirs(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(y, z, rtol=0, atol=1e-6)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-6)


def test_attention_by_hand():
    """One head of width 1, identity projections, two tokens 0 and ln 3: the weights are known."""
    layer = Attention(1, 1, flash_attention=False)
    layer.load_state_dict({"qkv.weight": torch.ones(3, 1), "proj.weight": torch.ones(1, 1), "proj.bias": torch.zeros(1)})
    a = torch.tensor(3.0).log().sqrt()
    y, weights = layer(torch.tensor([[[0.0], [a]]]), return_attention=True)
    torch.testing.assert_close(weights[0, 0], torch.tensor([[0.5, 0.5], [0.25, 0.75]]))
    torch.testing.assert_close(y[0, :, 0], torch.stack([0.5 * a, 0.75 * a]))


def test_dropout_acts_in_training_only():
    layer = Attention(16, 2, attn_drop=0.5, proj_drop=0.5)
    x = tokens(2, 6, 16)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_block_equals_pytorchs_encoder_layer():
    ours = Block(32, 4, mlp_ratio=2, qkv_bias=True)
    theirs = nn.TransformerEncoderLayer(
        32, 4, 64, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    names = {
        "norm1": "norm1", "norm2": "norm2", "attn.qkv.": "self_attn.in_proj_", "attn.proj": "self_attn.out_proj",
        "mlp.fc1": "linear1", "mlp.fc2": "linear2",
    }  # fmt: skip
    state = {}
    for name, tensor in ours.state_dict().items():
        for own, other in names.items():
            name = name.replace(own, other)
        state[name] = tensor
    theirs.load_state_dict(state)
    x = tokens(2, 11, 32)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-6)


def test_mlp_treats_each_token_alone():
    mlp, x = MLP(6, 10, 4), tokens(2, 5, 6)
    assert mlp(x).shape == (2, 5, 4)
    torch.testing.assert_close(mlp(x)[:, 3], mlp(x[:, 3:4])[:, 0])


def test_layer_norm_by_hand():
    y = LayerNorm(3)(torch.tensor([[1.0, 2.0, 3.0]]))
    torch.testing.assert_close(y, torch.tensor([[-1.5**0.5, 0.0, 1.5**0.5]]))
    assert LayerNorm(3).eps == 1e-6


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    layer, x = DropPath(0.25), torch.ones(4000, 3, 2)
    torch.manual_seed(0)
    y = layer(x).flatten(1)
    assert torch.equal(y.min(dim=1).values, y.max(dim=1).values)    # a sample goes or stays as a whole
    assert y.unique().tolist() == pytest.approx([0, 4 / 3])
    assert y.mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(layer.eval()(x), x)
    with pytest.raises(ValueError, match="1.5"):
        DropPath(1.5)


@pytest.mark.parametrize("shape", [(6,), (6, 5), (6, 5, 4), (6, 5, 4, 3)], ids=str)
def test_drop_path_tosses_one_coin_a_sample_and_a_draw_of_exactly_p_lives(shape, monkeypatch):
    asked, draws = [], torch.tensor([0.0, 0.24, 0.25, 0.26, 0.5, 0.99])    # below p, with probability p, is dropped

    def rand(size, **options):
        asked.append(tuple(size))
        return draws.reshape(size)

    monkeypatch.setattr(torch, "rand", rand)
    x = tokens(*shape)
    y = DropPath(0.25)(x)
    assert asked == [(6,) + (1,) * (len(shape) - 1)]
    assert not y[:2].any()
    torch.testing.assert_close(y[2:], x[2:] / 0.75)


def test_block_gives_its_weights_on_request():
    block, x = Block(16, 4).eval(), tokens(2, 5, 16)
    y, weights = block(x, return_attention=True)
    assert weights.shape == (2, 4, 5, 5)
    torch.testing.assert_close(y, block(x), rtol=0, atol=1e-6)
