"""What it learned: against distances by hand, scikit-learn's components, zeroed weights, and loops."""

import copy
import math

import numpy as np
import pytest
import torch
from small_models import VARIANTS, small_vit
from sklearn.decomposition import PCA
from torch import nn

from vit_edu import VisionTransformer
from vit_edu import inspection as ins
from vit_edu.attention_maps import attention_maps

IMAGES = torch.randn(3, 3, 8, 12, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([4, 0, 2])
each_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


def untouched(model: VisionTransformer) -> bool:
    """Whether no hook is left anywhere."""
    return not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


# Attention distance


def test_distances_by_hand():
    table = ins.patch_distances((2, 2), 4)
    d = 4 * 2**0.5
    torch.testing.assert_close(table, torch.tensor([[0, 4, 4, d], [4, 0, d, 4], [4, d, 0, 4], [d, 4, 4, 0]]))
    assert ins.mean_distance(torch.eye(4), table) == 0
    assert ins.mean_distance(torch.full((4, 4), 0.25), table).item() == pytest.approx(2 + 2**0.5)


def test_distances_of_patches_that_are_not_square():
    table = ins.patch_distances((2, 3), (4, 2))  # 2 rows, 4 pixels apart; 3 columns, 2 apart
    assert table.shape == (6, 6)
    assert table[0, 2] == 4 and table[0, 3] == 4 and table[0, 5].item() == pytest.approx(32**0.5)


@pytest.mark.parametrize("prefix", [1, 3])
def test_prefix_is_left_out_and_rows_are_scaled_again(prefix):
    table = ins.patch_distances((2, 2), 4)
    own = torch.rand(4, 4).softmax(dim=-1)
    weights = torch.full((prefix + 4, prefix + 4), 0.9 / prefix)  # most goes to the prefix
    weights[prefix:, prefix:] = 0.1 * own
    torch.testing.assert_close(ins.mean_distance(weights, table), ins.mean_distance(own, table))


def test_a_row_that_reads_the_prefix_alone_does_not_count():
    table = ins.patch_distances((2, 2), 4)
    weights = torch.zeros(5, 5)
    weights[:, 0] = 1
    assert ins.mean_distance(weights, table).isnan()
    weights[1, 0], weights[1, 4] = 0, 1  # the first patch reads the last one
    assert ins.mean_distance(weights, table).item() == pytest.approx(4 * 2**0.5)


@each_variant
@pytest.mark.parametrize("flash", [True, False], ids=["fused", "explicit"])
def test_attention_distance_against_loops(variant, flash):
    model = small_vit(**variant, flash_attention=flash)
    found = ins.attention_distance(model, IMAGES)
    maps, first = attention_maps(model, IMAGES)[0].tolist(), model.n_prefix
    for block in range(3):
        for head in range(2):
            values = []
            for image in range(3):
                for i in range(6):
                    row = maps[block][image][head][first + i][first:]
                    away = [math.hypot(4 * (i // 3 - j // 3), 4 * (i % 3 - j % 3)) for j in range(6)]
                    values.append(sum(w * a for w, a in zip(row, away)) / sum(row))
            assert found[block, head].item() == pytest.approx(sum(values) / len(values), abs=1e-5)
    assert found.std() > 0.05 and not found.requires_grad and untouched(model)


def test_attention_distance_of_another_size():
    assert ins.attention_distance(small_vit(), torch.randn(2, 3, 16, 16)).shape == (3, 2)


# Filters


def test_filters_are_rows_that_answer_with_a_dot_product():
    model = small_vit()
    filters = ins.patch_filters(model)
    assert filters.shape == (16, 3, 4, 4) and not filters.requires_grad
    answer = (filters * IMAGES[0, :, 4:8, 4:8]).sum(dim=(1, 2, 3)) + model.patch_embed.proj.bias
    torch.testing.assert_close(model.patch_embed(IMAGES)[0, 4], answer)  # second row, second column
    filters.zero_()
    assert model.patch_embed.proj.weight.abs().max() > 0  # a copy


@pytest.mark.parametrize("n", [16, 100], ids=["fewer filters than numbers", "more"])
def test_components_are_those_of_scikit_learn(n):
    filters = torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(2)) + 1
    components, shares = ins.principal_components(filters)
    k = min(n, 48)
    assert components.shape == (k, 3, 4, 4) and shares.shape == (k,)
    other = PCA(svd_solver="full").fit(filters.flatten(1).double().numpy())
    np.testing.assert_allclose(shares, other.explained_variance_ratio_, atol=1e-6)
    same = np.abs((components.flatten(1).double().numpy() * other.components_).sum(axis=1))
    np.testing.assert_allclose(same[: k - 1], 1, atol=1e-4)  # the last of n = 16 has no variance
    largest = components.flatten(1).gather(1, components.flatten(1).abs().argmax(dim=1, keepdim=True))
    assert (largest > 0).all()


def test_components_of_filters_that_are_all_alike_or_not_finite():
    _, shares = ins.principal_components(torch.ones(5, 3, 2, 2))
    assert (shares == 0).all()
    with pytest.raises(ValueError, match="the filters hold NaN"):
        ins.principal_components(torch.full((5, 3, 2, 2), torch.nan))


# Positions


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "no positions"])
def test_position_similarity_against_loops(name):
    variant = VARIANTS[name]
    model = small_vit(**variant)
    found = ins.position_similarity(model)
    assert found.shape == (6, 2, 3) and not found.requires_grad
    rows = model.pos_embed[0, (1 if model.pool == "cls" else 0) :].tolist()
    for i in range(6):
        for j in range(6):
            dot = sum(a * b for a, b in zip(rows[i], rows[j]))
            cosine = dot / math.hypot(*rows[i]) / math.hypot(*rows[j])
            assert found[i, j // 3, j % 3].item() == pytest.approx(cosine, abs=1e-5)


def test_positions_that_are_not_there_or_not_finite():
    with pytest.raises(ValueError, match=r"no position embeddings \(positions='none'\)"):
        ins.position_similarity(small_vit(pool="mean", positions="none"))
    model = small_vit()
    model.pos_embed.data[0, 3, 1] = torch.nan
    with pytest.raises(ValueError, match="pos_embed holds NaN"):
        ins.position_similarity(model)


# The residual stream


@each_variant
def test_residual_stream_is_what_the_blocks_give(variant):
    model = small_vit(**variant)
    seen = []
    hooks = [block.register_forward_hook(lambda m, i, output: seen.append(output)) for block in model.blocks]
    with torch.no_grad():
        logits = model(IMAGES)
    for hook in hooks:
        hook.remove()
    stream = ins.residual_stream(model.train(), IMAGES)  # in evaluation mode nevertheless
    assert model.training and all(m.training for m in model.modules())
    model.eval()
    assert stream.shape == (4, 3, 6 + model.n_prefix, 16) and not stream.requires_grad
    torch.testing.assert_close(stream[1:], torch.stack(seen))
    torch.testing.assert_close(stream[0], model.embed(IMAGES).detach())
    tokens = model.norm(stream[-1])
    y = tokens[:, 0] if model.pool == "cls" else tokens[:, model.n_prefix :].mean(dim=1)
    torch.testing.assert_close(model.head(model.fc_norm(y)).detach(), logits)


@each_variant
def test_read_outs_and_their_similarity(variant):
    model = small_vit(**variant)
    stream, found = ins.residual_stream(model, IMAGES), ins.read_outs(model, IMAGES)
    first = 6 if model.pool == "mean" else model.n_prefix + 6
    expected = stream[:, :, -6:].sum(dim=2) / 6 if model.pool == "mean" else stream[:, :, -first]
    torch.testing.assert_close(found, expected)
    table = ins.read_out_similarity(model, IMAGES)
    assert table.shape == (4, 4)
    for i in range(4):
        for j in range(4):
            cosine = torch.cosine_similarity(found[i], found[j], dim=-1).mean()
            assert table[i, j].item() == pytest.approx(cosine.item(), abs=1e-5)


@each_variant
def test_early_logits_are_those_of_a_shorter_model(variant):
    model = small_vit(**variant)
    early = ins.early_logits(model.train(), IMAGES)
    assert early.shape == (4, 3, 5) and model.training and not early.requires_grad
    for depth in range(4):
        shorter = copy.deepcopy(model).eval()
        shorter.blocks = shorter.blocks[:depth]
        torch.testing.assert_close(early[depth], shorter(IMAGES))


# Heads


@each_variant
@pytest.mark.parametrize("flash", [True, False], ids=["fused", "explicit"])
def test_silence_is_what_zeroed_weights_give(variant, flash):
    model = small_vit(**variant, flash_attention=flash)
    with torch.no_grad():
        own = model(IMAGES)
        for block in range(3):
            for head in range(2):
                other = copy.deepcopy(model)
                other.blocks[block].attn.proj.weight[:, 8 * head : 8 * head + 8] = 0
                with ins.silenced(model, block, head):
                    found = model(IMAGES)
                torch.testing.assert_close(found, other(IMAGES))
                assert not torch.allclose(found, own)
        assert torch.equal(model(IMAGES), own) and untouched(model)


def test_silence_nested_and_counted_from_the_end():
    model = small_vit()
    x = torch.randn(2, 7, 16)
    layer = model.blocks[-1].attn
    with torch.no_grad(), ins.silenced(model, -1, 0), ins.silenced(model, 2, -1):
        torch.testing.assert_close(layer(x), layer.proj.bias.expand(2, 7, 16))  # nothing else is left
    assert untouched(model)


def test_silence_ends_even_on_error():
    model = small_vit()
    with pytest.raises(RuntimeError, match="in between"), ins.silenced(model, 0, 0):
        raise RuntimeError("something fails in between")
    assert untouched(model)
    with pytest.raises(ValueError, match="the images hold NaN"):
        ins.head_worth(model, torch.full_like(IMAGES, torch.nan), LABELS)
    assert untouched(model)


@pytest.mark.parametrize(
    ("block", "head", "message"),
    [(3, 0, "no block 3: the model has blocks 0 to 2"), (-4, 0, "no block -4"), (0, 2, "no head 2: .* heads 0 to 1")],
)
def test_a_head_that_does_not_exist(block, head, message):
    model = small_vit()
    with pytest.raises(IndexError, match=message), ins.silenced(model, block, head):
        pass
    assert untouched(model)


@each_variant
def test_head_worth_against_loops(variant):
    model = small_vit(**variant)
    probability, accuracy = ins.head_worth(model.train(), IMAGES, LABELS)
    assert model.training and untouched(model)
    model.eval()

    def scores(vit):
        with torch.no_grad():
            p = vit(IMAGES).softmax(dim=1)
        right = sum(p[i, label].item() for i, label in enumerate(LABELS.tolist())) / 3
        return right, sum(int(p[i].argmax()) == label for i, label in enumerate(LABELS.tolist())) / 3

    whole = scores(model)
    for block in range(3):
        for head in range(2):
            other = copy.deepcopy(model)
            other.blocks[block].attn.proj.weight.data[:, 8 * head : 8 * head + 8] = 0
            less = scores(other)
            assert probability[block, head].item() == pytest.approx(whole[0] - less[0], abs=1e-5)
            assert accuracy[block, head].item() == pytest.approx(whole[1] - less[1], abs=1e-5)
    assert probability.abs().max() > 1e-3


def test_heads_of_an_untrained_model_are_worth_nothing():
    model = VisionTransformer((8, 12), 4, num_classes=5, embed_dim=16, depth=3, n_heads=2)
    assert all((table == 0).all() for table in ins.head_worth(model, IMAGES, LABELS))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], r"labels have shape \(2,\), but there are 3 images"),
        ([0, 1, 5], "labels must be 0 to 4, not"),
        ([0, -1, 2], "labels must be 0 to 4"),
    ],
)
def test_labels_that_do_not_fit(labels, message):
    with pytest.raises(ValueError, match=message):
        ins.head_worth(small_vit(), IMAGES, torch.tensor(labels))


@pytest.mark.parametrize(
    "function",
    [
        ins.patch_filters,
        ins.position_similarity,
        lambda model: ins.attention_distance(model, IMAGES),
        lambda model: ins.read_out_similarity(model, IMAGES),
        lambda model: ins.head_worth(model, IMAGES, LABELS),
        lambda model: ins.silenced(model, 0, 0).__enter__(),
    ],
)
def test_a_model_of_another_kind(function):
    with pytest.raises(TypeError, match="Linear: it is not a VisionTransformer"):
        function(nn.Linear(2, 2))


def test_weights_that_are_not_finite():
    model = small_vit()
    model.blocks[1].attn.qkv.weight.data[40, 0] = torch.nan  # of a value
    with pytest.raises(ValueError, match="blocks.1.attn.qkv.weight holds NaN"):
        ins.read_outs(model, IMAGES)
    with pytest.raises(ValueError, match="blocks.1.attn.qkv.weight holds NaN"):
        ins.attention_distance(model, IMAGES)


# Models as people have them


@pytest.mark.parametrize("how", ["compiled", "in place", "projections", "averaged", "data-parallel"])
def test_silence_is_heard_by_wrapped_models(how):
    model, by_hand = small_vit(), small_vit()
    with torch.no_grad():
        by_hand.blocks[1].attn.proj.weight[:, 8:16] = 0
        expected, plain = by_hand(IMAGES), model(IMAGES)
    if how == "compiled":
        model = torch.compile(model, backend="eager")
    elif how == "in place":
        model.compile(backend="eager")
    elif how == "projections":
        model.blocks[1].attn.proj.compile(backend="eager")
    elif how == "averaged":
        model = torch.optim.swa_utils.AveragedModel(model)
    else:
        model = nn.DataParallel(model)
    with torch.no_grad():
        torch.testing.assert_close(model(IMAGES), plain)  # a compiled model is compiled here, without hooks
        for _ in range(2):
            with ins.silenced(model, 1, 1):
                torch.testing.assert_close(model(IMAGES), expected)
            torch.testing.assert_close(model(IMAGES), plain)
    worth, _ = ins.head_worth(model, IMAGES, LABELS)
    torch.testing.assert_close(worth, ins.head_worth(small_vit(), IMAGES, LABELS)[0])


def test_a_model_first_called_in_silence_is_not_silent_for_good():
    model, plain = torch.compile(small_vit(), backend="eager"), small_vit()(IMAGES)
    with ins.silenced(model, 1, 1):
        model(IMAGES)
    torch.testing.assert_close(model(IMAGES), plain)


def test_other_heads_and_half_precision():
    model = small_vit()
    model.head = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 9))
    assert ins.head_worth(model, IMAGES, torch.tensor([8, 0, 2], dtype=torch.int16))[0].shape == (3, 2)
    assert ins.early_logits(model, IMAGES).shape == (4, 3, 9)
    headless = small_vit(num_classes=0)
    torch.testing.assert_close(ins.early_logits(headless, IMAGES)[-1], headless(IMAGES).detach())
    with pytest.raises(ValueError, match="no head: it gives features"):
        ins.head_worth(headless, IMAGES, LABELS)
    half = small_vit().bfloat16()
    assert ins.attention_distance(half, IMAGES).isfinite().all() and ins.read_outs(half, IMAGES).dtype == torch.bfloat16
    assert ins.head_worth(half, IMAGES, LABELS)[0].dtype == torch.float32
