"""The Vision Transformer: shapes, counts, invariances, positions, and what bad input is told."""

import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import vit_edu
from vit_edu import PRESETS, Attention, Block, PatchEmbedding, VisionTransformer, count_macs, count_parameters, create_vit
from vit_edu.patches import grid_shape, patchify, resize_positions, sincos2d_positions, unpatchify


def small_vit(**overrides) -> VisionTransformer:
    """A ViT whose every parameter is random, so that nothing is hidden by a zero."""
    settings = dict(img_size=16, patch_size=4, num_classes=5, embed_dim=24, depth=2, n_heads=3)
    model = VisionTransformer(**(settings | overrides)).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def pictures(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


VARIANTS = [
    dict(),
    dict(pool="mean"),
    dict(n_registers=3),
    dict(pool="mean", n_registers=2, fc_norm=True),
    dict(positions="sincos2d"),
    dict(positions="none", pool="mean"),
    dict(img_size=(12, 20), patch_size=(4, 5)),
    dict(in_channels=1),
    dict(flash_attention=False),
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_shapes(variant):
    model = small_vit(**variant)
    H, W = vit_edu.patches.to_pair(variant.get("img_size", 16))
    images = pictures(2, variant.get("in_channels", 3), H, W)
    tokens = model.forward_features(images)
    assert tokens.shape == (2, model.n_prefix + model.patch_embed.n_patches, 24)
    assert model(images).shape == (2, 5)


@pytest.mark.parametrize("size", [(8, 8), (16, 16), (20, 12)])
@pytest.mark.parametrize("patch", [1, 2, 4, (4, 2)])
def test_patchify_round_trip_and_convolution(size, patch):
    images = pictures(2, 3, *size)
    patches = patchify(images, patch)
    assert torch.equal(unpatchify(patches, patch, size), images)
    embed = PatchEmbedding(size, patch, 3, 10)
    by_hand = patches @ embed.proj.weight.flatten(1).T + embed.proj.bias
    torch.testing.assert_close(embed(images), by_hand, rtol=1e-5, atol=1e-5)
    assert embed.n_patches == patches.shape[1]


EXPECTED_PARAMETERS = {    # vision_transformer's models_test.py
    "vit_tiny_patch16_224": 5_717_416,
    "vit_small_patch16_224": 22_050_664,
    "vit_base_patch16_224": 86_567_656,
    "vit_base_patch32_224": 88_224_232,
    "vit_large_patch16_224": 304_326_632,
    "vit_huge_patch14_224": 632_045_800,
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_published_number_of_parameters(name):
    with torch.device("meta"):
        model = create_vit(name)
    assert count_parameters(model) == EXPECTED_PARAMETERS[name]


def test_mean_pooling_and_fixed_positions_have_the_expected_number_of_parameters():
    with torch.device("meta"):
        assert count_parameters(create_vit("vit_small_patch16_224", pool="mean")) == 22_049_896
        assert count_parameters(create_vit("vit_small_patch16_224", pool="mean", positions="sincos2d")) == 21_974_632


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_count_macs_equals_pytorchs_counter(variant):
    model = small_vit(**(variant | {"flash_attention": False}))    # the counter misses fused attention on CPUs
    H, W = vit_edu.patches.to_pair(variant.get("img_size", 16))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(pictures(1, variant.get("in_channels", 3), H, W))
    assert 2 * sum(count_macs(model).values()) == counter.get_total_flops()


def test_macs_of_the_presets_equal_timms():
    gmacs = {"vit_tiny_patch16_224": 1.25, "vit_small_patch16_224": 4.60, "vit_base_patch16_224": 17.56}
    for name, expected in gmacs.items():
        with torch.device("meta"):
            assert round(sum(count_macs(create_vit(name)).values()) / 1e9, 2) == expected


def test_first_loss_is_that_of_a_guess():
    model = create_vit("vit_tiny_patch16_224", img_size=32, num_classes=10)
    loss = F.cross_entropy(model(pictures(4, 3, 32, 32)), torch.arange(4))
    assert loss.item() == pytest.approx(math.log(10), abs=1e-6)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_gradients_reach_every_parameter(variant):
    model = small_vit(**variant).train()
    H, W = vit_edu.patches.to_pair(variant.get("img_size", 16))
    F.cross_entropy(model(pictures(2, variant.get("in_channels", 3), H, W)), torch.tensor([0, 1])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_one_batch_can_be_overfitted():
    torch.manual_seed(0)
    model = VisionTransformer(img_size=16, patch_size=4, num_classes=8, embed_dim=32, depth=2, n_heads=2)
    images, labels = pictures(8, 3, 16, 16), torch.arange(8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05 and (model(images).argmax(1) == labels).all()


def test_without_positions_a_vit_reads_a_bag_of_patches():
    model = small_vit(positions="none", pool="mean")
    patches = patchify(pictures(2, 3, 16, 16), 4)
    shuffled = patches[:, torch.randperm(16, generator=torch.Generator().manual_seed(0))]
    a, b = (model(unpatchify(p, 4, 16)) for p in (patches, shuffled))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
    model = small_vit(pool="mean")
    a, b = (model(unpatchify(p, 4, 16)) for p in (patches, shuffled))
    assert (a - b).abs().max() > 1e-3


def test_any_image_size_by_resized_positions():
    model = small_vit(n_registers=2)
    assert model(pictures(1, 3, 32, 24)).shape == (1, 5)
    larger = small_vit(img_size=(32, 24), n_registers=2)
    state = model.state_dict()
    state["pos_embed"] = resize_positions(state["pos_embed"], (4, 4), (8, 6))
    larger.load_state_dict(state)
    torch.testing.assert_close(model(pictures(1, 3, 32, 24)), larger(pictures(1, 3, 32, 24)))


def test_resizing_to_the_native_grid_is_the_identity():
    positions = pictures(1, 1 + 16, 8)
    assert torch.equal(resize_positions(positions, (4, 4), (4, 4)), positions)


def test_sincos_positions_by_hand():
    positions = sincos2d_positions((2, 3), 8)[0].reshape(2, 3, 8)
    torch.testing.assert_close(positions[0, 0], torch.tensor([0.0, 0, 1, 1, 0, 0, 1, 1]))
    y, x = 1.0, 2.0    # row 1, column 2; frequencies 1 and 1/10000
    expected = [f(v * w) for v in (x, y) for f in (math.sin, math.cos) for w in (1, 1e-4)]
    torch.testing.assert_close(positions[1, 2], torch.tensor(expected))


def test_sincos_gives_the_class_token_no_position():
    positions = small_vit(positions="sincos2d").pos_embed
    assert not positions[:, :1].any()
    assert torch.equal(positions[:, 1:], sincos2d_positions((4, 4), 24))


def test_the_start_is_the_papers():
    torch.manual_seed(0)
    model = VisionTransformer(img_size=32, patch_size=4, embed_dim=96, depth=1, n_heads=3, n_registers=8)
    block = model.blocks[0]
    for matrix in (*block.attn.qkv.weight.chunk(3), block.attn.proj.weight, block.mlp.fc1.weight, block.mlp.fc2.weight):
        bound = math.sqrt(6 / sum(matrix.shape))    # q, k and v each by their own shape
        assert 0.98 * bound < matrix.abs().max() <= bound
    for token in (model.cls_token, model.reg_token, model.pos_embed):
        assert token.std().item() == pytest.approx(0.02, rel=0.2)
    assert model.patch_embed.proj.weight.std().item() == pytest.approx(48**-0.5, rel=0.05)
    zeros = [model.head.weight, *(p for name, p in model.named_parameters() if name.endswith("bias"))]
    assert not any(p.any() for p in zeros)


def test_every_rate_arrives():
    model = small_vit(drop_rate=0.1, attn_drop_rate=0.2)
    rates = {name: module.p for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout)}
    assert len(rates) == 1 + 2 * 4    # positions; in a block weights, projection, two in the MLP
    assert rates == {name: 0.2 if name.endswith("attn_drop") else 0.1 for name in rates}


@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize("place", ["pos_drop", *(f"blocks.0.{name}" for name in (
    "attn.attn_drop", "attn.proj_drop", "mlp.drop1", "mlp.drop2"))])  # fmt: skip
def test_every_dropout_acts(place, flash):
    model, images = small_vit(flash_attention=flash), pictures(2, 3, 16, 16)
    expected = model(images)
    torch.testing.assert_close(model.train()(images), expected)
    model.get_submodule(place).p = 0.5
    assert (model(images) - expected).abs().max() > 1e-3
    assert torch.equal(model.eval()(images), expected)


def test_drop_path_acts_on_both_branches():
    block, x = small_vit(drop_path_rate=0.1).blocks[1], pictures(2, 5, 24)
    block.drop_path.forward = torch.zeros_like
    assert torch.equal(block(x), x)


def test_drop_path_rises_with_depth():
    model = small_vit(depth=5, drop_path_rate=0.2)
    assert [block.drop_path.p for block in model.blocks] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


def test_export_and_compile():
    model, images = small_vit(n_registers=1), pictures(2, 3, 16, 16)
    exported = torch.export.export(model, (images,)).module()
    torch.testing.assert_close(exported(images), model(images))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), model(images))


def test_importing_the_package_does_not_import_torchvision():
    code = "import sys, vit_edu; assert not {'torchvision', 'timm', 'sklearn', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


BAD = [
    (lambda: PatchEmbedding(225, 16), ValueError, "225.*16.*patch_size 15 or 25"),
    (lambda: small_vit()(pictures(1, 3, 18, 16)), ValueError, "image height 18.*patch height 4"),
    (lambda: small_vit()(pictures(1, 3, 16, 18)), ValueError, "image width 18"),
    (lambda: small_vit()(pictures(1, 4, 16, 16)), ValueError, "4 channels.*takes 3"),
    (lambda: small_vit()(pictures(3, 16, 16)), ValueError, r"\(3, 16, 16\).*image\[None\]"),
    (lambda: small_vit()(pictures(1, 3, 16, 16).byte()), TypeError, r"uint8.*/ 255"),
    (lambda: small_vit()(pictures(1, 3, 16, 16).double()), TypeError, r"float64.*weights torch.float32.*images.to"),
    (lambda: small_vit().half()(pictures(1, 3, 16, 16)), TypeError, r"float32.*weights torch.float16.*images.to"),
    (lambda: small_vit()(pictures(1, 3, 0, 16)), ValueError, "image height is 0"),
    (lambda: small_vit(img_size=(16, 16, 3)), ValueError, r"\(16, 16, 3\) is not an int or \(height, width\)"),
    (lambda: small_vit(n_heads=0), ValueError, "n_heads is 0, not a positive whole number"),
    (lambda: small_vit(n_heads=-3), ValueError, "n_heads is -3"),
    (lambda: small_vit(embed_dim=0), ValueError, "embed_dim is 0"),
    (lambda: small_vit(depth=-1), ValueError, "depth is -1"),
    (lambda: small_vit(depth=2.0), ValueError, "depth is 2.0"),
    (lambda: Attention(100, 8), ValueError, "width 100.*8 heads.*5 or 10"),
    (lambda: small_vit(embed_dim=25), ValueError, "width 25.*3 heads"),
    (lambda: small_vit(pool="max"), ValueError, "'max'.*'cls', 'mean'"),
    (lambda: small_vit(positions="rope"), ValueError, "'rope'.*'learned'"),
    (lambda: small_vit(positions="sincos2d", embed_dim=30), ValueError, "30.*multiple of 4"),
    (lambda: create_vit("vit_b_16"), ValueError, "'vit_b_16'.*vit_base_patch16_224"),
    (lambda: VisionTransformer(num_heads=3), TypeError, "num_heads=; use n_heads="),
    (lambda: create_vit("vit_tiny_patch16_224", in_chans=1), TypeError, "in_chans=; use in_channels="),
    (lambda: Attention(8, num_heads=2), TypeError, "num_heads=; use n_heads="),
    (lambda: Block(8, 2, nonsense=1), TypeError, "nonsense=.*n_heads"),
    (lambda: unpatchify(pictures(1, 5, 48), 4, 16), ValueError, "5 patches.*16 patches"),
    (lambda: resize_positions(pictures(1, 4, 8), (3, 3), (2, 2)), ValueError, "4 positions"),
]


@pytest.mark.parametrize("call, error, message", BAD, ids=[message for *_, message in BAD])
def test_bad_input_gets_an_error_that_names_value_and_remedy(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_autocast_takes_images_of_another_type():
    model, images = small_vit(), pictures(2, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(images).float(), model(images.bfloat16()).float(), rtol=0, atol=0.2)
    assert model.bfloat16()(images.bfloat16()).dtype == torch.bfloat16


def test_a_size_has_one_form_in_the_configuration():
    sizes = [small_vit(img_size=size, patch_size=size).config for size in (16, (16, 16), [16, 16])]
    assert sizes[0] == sizes[1] == sizes[2]
    assert small_vit(img_size=(16, 8)).config["img_size"] == [16, 8]


def test_mlp_ratio_is_taken_as_it_is():
    assert small_vit(mlp_ratio=0.5).blocks[0].mlp.fc1.out_features == 12
    with pytest.warns(UserWarning, match="zero-element"):
        assert vit_edu.mlp.MLP(8, 0).fc1.out_features == 0


def test_grid_shape_takes_pairs():
    assert grid_shape((32, 48), (16, 8)) == (2, 6)
