"""Attention maps: against weights recomputed from queries and keys, by hand, by differences, and by loops."""

import contextlib
import itertools
import warnings

import matplotlib.pyplot as plt
import pytest
import torch
import vit_edu.attention
from chapters import has_data
from PIL import Image
from small_models import VARIANTS, recomputed, small_vit
from torch import nn

from vit_edu import VisionTransformer
from vit_edu import attention_maps as am
from vit_edu import preparation as prep
from vit_edu.data import cifar10
from vit_edu.weights import Preparation, from_timm, save_weights

CIFAR10 = Preparation(prep.CIFAR10_MEAN, prep.CIFAR10_STD)
IMAGES = torch.randn(3, 3, 8, 12, generator=torch.Generator().manual_seed(0))


# Raw maps


@pytest.mark.parametrize("flash", [True, False], ids=["fused", "explicit"])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_maps_are_the_weights_and_logits_are_the_models_own_bits(variant, flash):
    model = small_vit(**variant, flash_attention=flash)
    with torch.no_grad():
        own = model(IMAGES)
    maps, logits = am.attention_maps(model, IMAGES)
    n = 6 + model.n_prefix
    assert maps.shape == (3, 3, 2, n, n)
    torch.testing.assert_close(maps, recomputed(model, IMAGES), rtol=0, atol=1e-6)
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(maps.shape[:-1]))
    assert maps.std() > 0.05  # a flat map would show nothing
    assert torch.equal(logits, own) and torch.equal(logits, model(IMAGES))
    assert not maps.requires_grad and not logits.requires_grad


def test_modes_hooks_and_chance_are_left_as_they_were():
    model = small_vit(**VARIANTS["dropout"])
    model.train()
    model.blocks[1].eval()
    modes, calls = {name: m.training for name, m in model.named_modules()}, []
    layer = model.blocks[0].attn
    hook = layer.register_forward_hook(lambda *_: calls.append("mine"))
    state = torch.get_rng_state()
    first, second = (am.attention_maps(model, IMAGES)[1] for _ in range(2))
    am.gradient_maps(model, IMAGES)
    with pytest.raises(ValueError, match="not a multiple"):
        am.attention_maps(model, IMAGES[..., :11])
    assert torch.equal(first, second)  # no dropout
    assert torch.equal(state, torch.get_rng_state())
    assert {name: m.training for name, m in model.named_modules()} == modes
    assert calls == ["mine"] * 3 and list(layer._forward_hooks) == [hook.id]
    assert not any(block.attn._forward_hooks for block in model.blocks[1:])
    assert all(block.attn.flash_attention for block in model.blocks)


def test_other_image_sizes_have_other_grids():
    model, images = small_vit(n_registers=1), torch.randn(2, 3, 16, 8)
    maps, logits = am.attention_maps(model, images)
    assert maps.shape[-1] == 2 + 8 and torch.equal(logits, model(images))
    assert am.patch_map(maps, model, (16, 8)).shape == (3, 2, 2, 4, 2)
    with pytest.raises(ValueError, match=r"10 × 10 tokens, but an image of \(8, 12\) has 8"):
        am.patch_map(maps, model)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [(dict(class_token=True), {}), (dict(reg_tokens=2), dict(n_registers=2)),
     (dict(class_token=False, global_pool="avg"), dict(pool="mean", fc_norm=True))],
    ids=["class token", "registers", "mean"],
)  # fmt: skip
def test_maps_of_a_timm_model(theirs, ours):
    timm = pytest.importorskip("timm")
    size = dict(img_size=16, patch_size=4, num_classes=5, embed_dim=16, depth=2)
    torch.manual_seed(0)
    their = timm.models.VisionTransformer(**size, num_heads=2, **theirs).eval()
    for parameter in their.parameters():
        nn.init.normal_(parameter, std=0.4)
    model = VisionTransformer(**size, n_heads=2, **ours).eval()
    model.load_state_dict(from_timm(their.state_dict(), model))
    expected, images = [], torch.randn(2, 3, 16, 16)
    for block in their.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda m, i, weights: expected.append(weights))
    with torch.no_grad():
        logits = their(images)
    maps, own = am.attention_maps(model, images)
    torch.testing.assert_close(maps, torch.stack(expected), rtol=0, atol=1e-5)
    torch.testing.assert_close(own, logits, rtol=1e-4, atol=1e-4)
    with pytest.raises(TypeError, match="not a VisionTransformer of vit_edu; a timm ViT"):
        am.attention_maps(their, images)


# Rollout


def test_rollout_by_hand():
    """The tree reads the sky after the sky has read the edge: a half, a quarter, a quarter."""
    first = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 0, 1]])
    second = torch.tensor([[0.0, 1, 0], [0, 1, 0], [0, 0, 1]])
    maps = torch.stack([first, second])[:, None, None]  # (L, B, h, N, N)
    assert am.rollout(maps)[-1, 0].tolist() == [[0.5, 0.25, 0.25], [0, 0.5, 0.5], [0, 0, 1]]
    assert am.rollout(maps)[0, 0].tolist() == [[1, 0, 0], [0, 0.5, 0.5], [0, 0, 1]]
    assert am.rollout(maps.flip(0))[-1, 0, 0].tolist() == [0.5, 0.5, 0]  # the other order is another thing


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_rollout_is_the_sum_over_all_paths_and_its_rows_sum_to_one(variant):
    model = small_vit(**variant)
    maps, _ = am.attention_maps(model, IMAGES)
    rolled, n = am.rollout(maps), maps.shape[-1]
    assert rolled.shape == (3, 3, n, n) and (rolled >= 0).all()
    torch.testing.assert_close(rolled.sum(dim=-1), torch.ones(3, 3, n))
    halves = 0.5 * recomputed(model, IMAGES).mean(dim=2)[:, 0].double() + 0.5 * torch.eye(n, dtype=torch.float64)
    for start, end in ((0, 0), (0, n - 1), (n - 1, 1)):
        total = sum(
            halves[2, start, i] * halves[1, i, j] * halves[0, j, end] for i, j in itertools.product(range(n), repeat=2)
        )
        assert rolled[-1, 0, start, end].item() == pytest.approx(total.item(), abs=1e-6)


def test_rollout_normalises_rows_that_do_not_sum_to_one():
    maps = torch.rand(4, 2, 3, 5, 5) ** 4
    torch.testing.assert_close(am.rollout(maps).sum(dim=-1), torch.ones(4, 2, 5))


# Gradients


def weights_with(change: torch.Tensor, block: int):
    """`attention_weights` that adds `change` in one block, for a difference quotient."""
    original, calls = vit_edu.attention.attention_weights, itertools.count()
    return lambda q, k: original(q, k) + (change if next(calls) == block else 0)


@pytest.mark.parametrize("variant", [{}, dict(pool="mean", n_registers=1)], ids=str)
def test_gradient_maps_agree_with_differences(variant, monkeypatch):
    model, images = small_vit(**variant).double(), IMAGES[:1].double()
    for block in model.blocks:
        block.attn.flash_attention = False
    got, weights = am.gradient_maps(model, images, 2), recomputed(model, images)
    n, step = weights.shape[-1], 1e-5
    for block, i, j in ((0, 0, 0), (1, n - 1, 2), (2, 0, n - 1), (0, 3, 1)):
        expected = 0.0
        for head in range(2):
            values = []
            for sign in 1, -1:
                change = torch.zeros(1, 2, n, n, dtype=torch.float64)
                change[0, head, i, j] = sign * step
                with monkeypatch.context() as patch, torch.no_grad():
                    patch.setattr(vit_edu.attention, "attention_weights", weights_with(change, block))
                    values.append(model(images)[0, 2].item())
            gradient = (values[0] - values[1]) / (2 * step)
            expected += max(gradient * weights[block, 0, head, i, j].item(), 0.0) / 2
        assert got[block, 0, i, j].item() == pytest.approx(expected, rel=1e-5, abs=1e-9)
    assert (got > 0).any()


def test_gradient_maps_leave_gradients_alone_and_work_in_every_setting():
    model = small_vit()
    expected = am.gradient_maps(model, IMAGES)
    best = model(IMAGES).argmax(dim=1)
    assert torch.equal(am.gradient_maps(model, IMAGES, best), expected)
    assert not torch.equal(am.gradient_maps(model, IMAGES, (best + 1) % 5), expected)
    single = torch.cat([am.gradient_maps(model, IMAGES[k : k + 1]) for k in range(3)], dim=1)
    torch.testing.assert_close(single, expected)  # images do not mix
    assert all(p.grad is None for p in model.parameters())
    model(IMAGES).sum().backward()
    before = [p.grad.clone() for p in model.parameters()]
    am.gradient_maps(model, IMAGES)
    assert all(torch.equal(p.grad, b) for p, b in zip(model.parameters(), before))
    model.requires_grad_(False)
    for setting in torch.no_grad, torch.inference_mode, contextlib.nullcontext:
        with setting():
            again = am.gradient_maps(model, IMAGES.clone())
        torch.testing.assert_close(again, expected)
        assert not again.requires_grad
    images = IMAGES.clone().requires_grad_()
    am.gradient_maps(model, images)
    assert images.grad is None


def test_relevance_follows_the_maps_by_hand():
    first = torch.tensor([[0.0, 2], [1, 0]])
    second = torch.tensor([[0.0, 3], [0, 0]])
    got = am.relevance(torch.stack([first, second])[:, None])[0]
    whole = (torch.eye(2) + second) @ (torch.eye(2) + first)
    assert torch.equal(got, whole - torch.eye(2)) and got.tolist() == [[3, 5], [1, 0]]


# What is drawn


def test_patch_map_reads_the_class_tokens_row_or_the_mean_of_the_patches_rows():
    weights = torch.arange(81.0).reshape(9, 9)
    model = small_vit(n_registers=2)  # class, two registers, six patches
    assert am.patch_map(weights, model).tolist() == [[3, 4, 5], [6, 7, 8]]
    weights = weights[:8, :8]
    model = small_vit(pool="mean", n_registers=2)
    assert am.patch_map(weights, model).flatten().tolist() == weights[2:, 2:].mean(dim=0).tolist()
    model = small_vit(pool="mean")
    maps, _ = am.attention_maps(model, IMAGES)
    grids = am.patch_map(maps, model)
    assert grids.shape == (3, 3, 2, 2, 3)
    torch.testing.assert_close(grids.sum(dim=(-1, -2)), torch.ones(3, 3, 2))


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_the_figure_shows_the_numbers(pool):
    model, image = small_vit(pool=pool, n_registers=1), (IMAGES[0] * 40 + 128).clamp(0, 255).byte()
    x = prep.to_input(image[None])
    grid = am.patch_map(am.attention_maps(model, x)[0][2, 0, 1], model)
    model.preparation = CIFAR10
    array = image.permute(1, 2, 0).numpy()
    pictures = image, image[None], array, array / 255, image.permute(1, 2, 0), Image.fromarray(array)
    for given in (*pictures, x[0], x):
        figure = am.visualize_attention(model, given, head_idx=1, block_idx=2)
        picture, shown, under = (axis.images[0].get_array() for axis in figure.axes[:3])
        overlay = figure.axes[2].images[1]
        expected = image.permute(1, 2, 0) / 255
        for array in picture, under:
            torch.testing.assert_close(torch.tensor(array), expected, rtol=0, atol=1e-5)
        for array in shown, overlay.get_array():
            torch.testing.assert_close(torch.tensor(array), grid)
        assert figure.axes[1].images[0].get_extent() == overlay.get_extent() == [-0.5, 11.5, 7.5, -0.5]
        assert figure.axes[1].images[0].get_clim() == overlay.get_clim() == (0, pytest.approx(grid.max().item()))
        assert figure.axes[1].images[0].get_cmap().name == "viridis" and len(figure.axes) == 4
        assert "0.17" in figure.axes[3].get_ylabel()  # even: 1/6
        query = "class token" if pool == "cls" else "mean of patches"
        assert figure.get_suptitle() == f"block 2, head 1; query: {query}"
        plt.close(figure)
    figure = am.visualize_attention(model, image, head_idx=None, block_idx=-1)
    mean = am.patch_map(am.attention_maps(model, x)[0][2, 0].mean(dim=0), model)
    torch.testing.assert_close(torch.tensor(figure.axes[1].images[0].get_array()), mean)
    plt.close(figure)


def test_a_grey_picture_is_drawn_in_grey():
    model = small_vit(in_channels=1)
    for given in IMAGES[0, :1], (IMAGES[0, :1] * 40 + 128).clamp(0, 255).byte():
        figure = am.visualize_attention(model, given, mean=(0.5,), std=(0.2,))
        assert figure.axes[0].images[0].get_array().shape == (8, 12)
        plt.close(figure)
    with pytest.raises(ValueError, match="1 channels, mean and std are for 3"):
        am.visualize_attention(model, torch.zeros(1, 8, 12, dtype=torch.uint8), mean=(0.5,) * 3, std=(0.5,) * 3)
    plt.close(am.visualize_attention(model, IMAGES[0, :1]))  # stretched


# Models as people have them


def wrapped(model: nn.Module, how: str) -> nn.Module:
    """A model as people have it: compiled (and already called), its parts compiled, averaged, data-parallel."""
    if how == "compiled":
        model = torch.compile(model, backend="eager")
    elif how == "compiled in place":
        model.compile(backend="eager")
    elif how == "blocks compiled":
        for block in model.blocks:
            block.compile(backend="eager")
    elif how == "attention compiled":
        for block in model.blocks:
            block.attn.compile(backend="eager")
    elif how == "averaged":
        model = torch.optim.swa_utils.AveragedModel(model)
    elif how == "data-parallel":
        model = nn.DataParallel(model)
    with torch.no_grad():
        model(IMAGES)
    return model


HOW = ["compiled", "compiled in place", "blocks compiled", "attention compiled", "averaged", "data-parallel"]


@pytest.mark.parametrize("how", HOW)
def test_maps_of_wrapped_models_are_the_plain_ones(how):
    expected, logits = am.attention_maps(small_vit(), IMAGES)
    weighted = am.gradient_maps(small_vit(), IMAGES)
    model = wrapped(small_vit(), how)
    maps, own = am.attention_maps(model, IMAGES)
    torch.testing.assert_close(maps, expected)
    torch.testing.assert_close(own, logits)
    torch.testing.assert_close(am.gradient_maps(model, IMAGES), weighted)
    with torch.no_grad():
        torch.testing.assert_close(model(IMAGES), logits)  # nothing stays behind


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    model = small_vit()
    expected, _ = am.attention_maps(model, IMAGES)
    model.preparation = CIFAR10
    maps, logits = am.attention_maps(model.to(dtype), IMAGES)
    assert maps.dtype == torch.float32 and logits.dtype == dtype
    torch.testing.assert_close(maps, expected, rtol=0, atol=0.1)
    torch.testing.assert_close(am.rollout(maps).sum(dim=-1), torch.ones(3, 3, 7), rtol=0, atol=0.02)
    for given in (IMAGES[0] * 40 + 128).clamp(0, 255).byte(), IMAGES[0], IMAGES[0].to(dtype):
        plt.close(am.visualize_attention(model, given))
    assert am.gradient_maps(model, IMAGES).isfinite().all()


@pytest.mark.filterwarnings("ignore")
def test_a_dynamically_quantised_model_has_maps_and_no_gradients():
    model = small_vit()
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    maps, own = am.attention_maps(quantised, IMAGES)
    torch.testing.assert_close(maps, recomputed(quantised, IMAGES), rtol=0, atol=1e-6)
    assert own.shape == (3, 5)
    with pytest.raises(ValueError, match="no gradients.*quantised"):
        am.gradient_maps(quantised, IMAGES)


@pytest.mark.parametrize("head", [nn.Linear(16, 3), nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 3))], ids=["one", "two"])
def test_a_replaced_head_says_how_many_classes_there_are(head):
    model = small_vit()
    model.head = head
    assert am.attention_maps(model, IMAGES)[1].shape == (3, 3)
    assert am.gradient_maps(model, IMAGES, 2).shape == (3, 3, 7, 7)
    with pytest.raises(ValueError, match=r"classes must be 0 to 2, not \[3, 3, 3\]"):
        am.gradient_maps(model, IMAGES, 3)


@pytest.mark.parametrize("registers", [0, 4])
def test_a_headless_model_has_maps_and_no_classes(registers):
    timm = pytest.importorskip("timm")
    shape = dict(img_size=16, patch_size=4, num_classes=0, embed_dim=16, depth=2)
    torch.manual_seed(0)
    dino = timm.models.VisionTransformer(**shape, num_heads=2, reg_tokens=registers, no_embed_class=True).eval()
    model = VisionTransformer(**shape, n_heads=2, n_registers=registers).eval()
    model.load_state_dict(from_timm(dino.state_dict(), model))
    images = torch.randn(2, 3, 16, 16)
    maps, features = am.attention_maps(model, images)
    with torch.no_grad():
        torch.testing.assert_close(features, dino(images), rtol=1e-4, atol=1e-4)
    figure = am.visualize_attention(model, images[0], head_idx=1, block_idx=-1)
    drawn = torch.tensor(figure.axes[1].images[0].get_array()).flatten()
    torch.testing.assert_close(drawn, maps[1, 0, 1, 0, 1 + registers :])
    plt.close(figure)
    with pytest.raises(ValueError, match="no head: it gives features"):
        am.gradient_maps(model, images)
    assert am.gradient_maps(model, images, 3).shape[1] == 2  # of one feature, if asked for by number


def test_the_normalisation_is_never_guessed():
    model, picture = small_vit(), (IMAGES[0] * 40 + 128).clamp(0, 255).byte()
    with pytest.raises(ValueError, match="nothing says how this model's pictures were normalised.*mean=.*classes="):
        am.visualize_attention(model, picture)
    given = am.visualize_attention(model, picture, mean=prep.CIFAR10_MEAN, std=torch.tensor(prep.CIFAR10_STD))
    model.preparation = dict(mean=prep.CIFAR10_MEAN, std=prep.CIFAR10_STD, classes=None)
    noted = am.visualize_attention(torch.optim.swa_utils.AveragedModel(model), picture)
    for one, other in zip(given.axes[:3], noted.axes[:3]):
        torch.testing.assert_close(*(torch.tensor(axis.images[0].get_array()) for axis in (one, other)))
    plt.close("all")
    with pytest.warns(UserWarning, match="taken as normalised"):
        am.visualize_attention(model, torch.rand(3, 8, 12))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        am.visualize_attention(model, torch.randn(3, 8, 12))
    plt.close("all")


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (None, ["class 0", "class 1", "class 2"]),
        (("a", "b", "c"), ["a", "b", "c"]),
        ({"0": "cat", "2": "dog"}, ["cat", "class 1", "dog"]),
        ({0: "cat", 1: 7.5}, ["cat", "7.5", "class 2"]),
        ({"a": 1, "b": 2, "c": 3}.keys(), ["a", "b", "c"]),
    ],
)
def test_class_names(classes, names):
    assert prep.class_names(classes, 3) == names


@pytest.mark.parametrize(
    ("classes", "kind", "message"),
    [
        ({"cat": 0}, ValueError, "has {'cat': 0}; turn it round"),
        ({"3": 0, "7": 1}, ValueError, "turn it round"),  # digits by name
        ({0: "cat", 3: "dog"}, ValueError, r"class 3 \(dog\): the model's are 0 to 2"),
        ({1.5: "cat"}, ValueError, "turn it round"),
        (["a", "b"], ValueError, "2 class names for a model of 3 classes"),
        ("cat", TypeError, "no order"),
        ({"a", "b", "c"}, TypeError, "no order"),
    ],
)
def test_class_names_that_cannot_be(classes, kind, message):
    with pytest.raises(kind, match=message):
        prep.class_names(classes, 3)


# Errors


@pytest.mark.parametrize("function", [am.attention_maps, am.gradient_maps])
def test_another_kind_of_model_is_refused(function):
    for model in nn.Linear(2, 2), nn.Sequential(nn.Flatten(), nn.Linear(288, 5)):
        with pytest.raises(TypeError, match=f"no attention maps from {type(model).__name__}: it is not a Vision"):
            function(model, IMAGES)
    model = small_vit()
    model.blocks[1].attn = nn.Identity()
    with pytest.raises(TypeError, match="no attention maps"):
        function(model, IMAGES)


@pytest.mark.parametrize("function", [am.attention_maps, am.gradient_maps])
def test_nan_is_found(function):
    model = small_vit()
    with torch.no_grad():
        model.blocks[1].mlp.fc1.bias[3] = torch.nan
        model.norm.weight[0] = torch.inf
    with pytest.raises(ValueError, match=r"blocks.1.mlp.fc1.bias holds NaN or infinity, and 1 more"):
        function(model, IMAGES)
    broken = IMAGES.clone()
    broken[2, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="the images hold NaN"):
        function(small_vit(), broken)


def test_wrong_images_and_indices_are_named():
    model = small_vit()
    with pytest.raises(ValueError, match="image width 11 is not a multiple of patch width 4"):
        am.attention_maps(model, IMAGES[..., :11])
    with pytest.raises(ValueError, match="1 channels, the model takes 3"):
        am.attention_maps(model, IMAGES[:, :1])
    with pytest.raises(ValueError, match=r"shape \(3, 3, 8, 12\), not that of one picture"):
        am.visualize_attention(model, IMAGES)
    with pytest.raises(ValueError, match=r"shape \(8,\), not that of one picture"):
        am.visualize_attention(model, IMAGES[0, 0, :, 0])
    for block in 3, -4:
        with pytest.raises(IndexError, match=f"no block {block}: the model has blocks 0 to 2"):
            am.visualize_attention(model, IMAGES[0], block_idx=block)
    with pytest.raises(IndexError, match="no head 2: the model has heads 0 to 1"):
        am.visualize_attention(model, IMAGES[0], head_idx=2)
    with pytest.raises(ValueError, match=r"classes must be 0 to 4, not \[5, 5, 5\]"):
        am.gradient_maps(model, IMAGES, 5)
    assert not plt.get_fignums()


# What comes with the package


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder of recorded models with one small one in it."""
    monkeypatch.setattr(prep, "RECORDED", tmp_path)
    model = small_vit(img_size=32, patch_size=8, num_classes=10, pool="mean")
    save_weights(model, tmp_path / "small-0" / "weights.safetensors", torch.float16)
    return model


def test_load_recorded(shelf):
    model = prep.load_recorded("small-0")
    assert model.config == shelf.config and not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    with pytest.raises(ValueError, match="no weights of a model 'large-0' came with this package; there are: small-0"):
        prep.load_recorded("large-0")


def test_example_pictures():
    images, labels, classes = prep.example_pictures()
    assert images.shape == (16, 3, 32, 32) and images.dtype == torch.uint8
    assert set(labels.tolist()) == set(range(10)) and classes[8] == "ship" and len(classes) == 10
    x = prep.to_input(images)
    assert x.shape == images.shape and x.is_floating_point() and prep.to_input(x) is x
    torch.testing.assert_close(x[3, 1, 5, 7], (images[3, 1, 5, 7] / 255 - 0.4822) / 0.2435)


@pytest.mark.skipif(not has_data(), reason="no CIFAR-10")
def test_the_published_moments_are_those_of_the_training_images():
    moments = torch.tensor([prep.CIFAR10_MEAN, prep.CIFAR10_STD])
    torch.testing.assert_close(torch.stack(cifar10(download=False).moments), moments, rtol=0, atol=1e-4)
