"""The same weights give the same logits and gradients as timm's and torchvision's models."""

import pytest
import timm
import timm.models.vision_transformer as timm_vit
import torch
import torch.nn.functional as F
import torchvision.models.vision_transformer as torchvision_vit
from timm.layers import resample_abs_pos_embed

from vit_edu import PRESETS, VisionTransformer, create_vit
from vit_edu.patches import resize_positions
from vit_edu.weights import from_timm, from_torchvision, load_state

SMALL = dict(embed_dim=48, depth=3, num_classes=7)


def randomise(model: torch.nn.Module) -> None:
    """Give every parameter a random value of an ordinary size."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        is_scale = parameter.ndim == 1 and name.endswith("weight")    # of a layer norm
        parameter.data = (1 + 0.1 * noise) if is_scale else 0.1 * noise


def assert_same(ours, theirs, load, images) -> None:
    """Logits within 1e-5; gradients of a mean cross-entropy within 1e-5 of the largest."""
    labels = torch.arange(len(images)) % 7
    models = ours.eval(), theirs.eval()
    logits = [model(images) for model in models]
    assert logits[1].std() > 0.1
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=1e-5)
    for out in logits:
        F.cross_entropy(out, labels).backward()
    expected = load({name: p.grad for name, p in theirs.named_parameters()})
    largest = max(grad.abs().max() for grad in expected.values())
    for name, parameter in ours.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=0, atol=1e-5 * largest.item(), msg=name)


def pictures(n: int, size: tuple[int, int]) -> torch.Tensor:
    return torch.randn((n, 3, *size), generator=torch.Generator().manual_seed(1))


KINDS = [
    ("class token", dict(), dict()),
    ("mean of normalised tokens", dict(pool="mean"), dict(global_pool="avg", class_token=False, fc_norm=False)),
    ("mean, normalised after", dict(pool="mean", fc_norm=True), dict(global_pool="avg", class_token=False)),
    ("a class token nobody reads", dict(pool="mean", fc_norm=True, n_registers=1), dict(global_pool="avg")),
    ("registers with positions", dict(n_registers=4), dict(reg_tokens=4)),
    ("registers without positions", dict(n_registers=4), dict(reg_tokens=4, no_embed_class=True)),
    ("class token without position", dict(), dict(no_embed_class=True)),
    ("registers and mean", dict(pool="mean", n_registers=2),
     dict(global_pool="avg", class_token=False, fc_norm=False, reg_tokens=2)),
]  # fmt: skip


@pytest.mark.parametrize("size, patch", [((32, 32), 4), ((35, 21), 7), ((9, 15), 3)], ids=str)
@pytest.mark.parametrize("kind, own, theirs", KINDS, ids=[kind for kind, *_ in KINDS])
def test_small_models_equal_timms(kind, own, theirs, size, patch):
    reference = timm_vit.VisionTransformer(img_size=size, patch_size=patch, num_heads=3, **SMALL, **theirs)
    randomise(reference)
    model = VisionTransformer(img_size=size, patch_size=patch, n_heads=3, **SMALL, **own)
    load_state(model, from_timm(reference.state_dict(), model))
    same_position = own.get("n_registers", 0) == 0    # a folded position has a gradient of its own in timm

    def gradients(grads):
        return grads if same_position and not theirs.get("no_embed_class") else {
            name: grad for name, grad in grads.items() if name not in ("pos_embed", "cls_token", "reg_token")
        }

    assert_same(model, reference, gradients, pictures(3, size))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_timms(name):
    with torch.device("meta"):
        model, reference = create_vit(name), timm.create_model(name, num_classes=1000)
    for own, theirs in zip(model.blocks, reference.blocks, strict=True):
        assert own.attn.n_heads == theirs.attn.num_heads
    shapes = [{name: p.shape for name, p in m.state_dict().items()} for m in (model, reference)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("size", [224, 256])
def test_patch_16_equals_timm(size):
    settings = dict(img_size=size, patch_size=16, num_classes=7, embed_dim=192, depth=12)
    reference = timm_vit.VisionTransformer(num_heads=3, **settings)
    randomise(reference)
    model = VisionTransformer(n_heads=3, **settings)
    model.load_state_dict(reference.state_dict())    # unchanged
    assert_same(model, reference, dict, pictures(2, (size, size)))


def test_other_resolution_equals_timms_dynamic_size():
    settings = dict(img_size=224, patch_size=16, **SMALL)
    reference = timm_vit.VisionTransformer(num_heads=3, dynamic_img_size=True, **settings)
    randomise(reference)
    model = VisionTransformer(n_heads=3, **settings)
    model.load_state_dict(reference.state_dict())
    assert_same(model, reference, dict, pictures(2, (288, 160)))


@pytest.mark.parametrize("size, patch", [(32, 8), (15, 5), (224, 16)])
def test_equals_torchvision(size, patch):
    reference = torchvision_vit.VisionTransformer(size, patch, 3, 3, 48, 192, num_classes=7)
    randomise(reference)
    model = VisionTransformer(img_size=size, patch_size=patch, n_heads=3, **SMALL)
    load_state(model, from_torchvision(reference.state_dict()))
    assert_same(model, reference, from_torchvision, pictures(2, (size, size)))


@pytest.mark.parametrize("old, new", [((7, 7), (7, 7)), ((14, 14), (24, 24)), ((14, 14), (7, 9)), ((4, 6), (5, 3))])
@pytest.mark.parametrize("n_prefix", [0, 1, 5])
def test_resized_positions_equal_timms(old, new, n_prefix):
    positions = torch.randn(1, n_prefix + old[0] * old[1], 16)
    expected = resample_abs_pos_embed(positions, new, old, num_prefix_tokens=n_prefix)
    torch.testing.assert_close(resize_positions(positions, old, new), expected, rtol=0, atol=1e-5)


def test_a_checkpoint_of_another_resolution_is_refused():
    state = timm_vit.VisionTransformer(img_size=64, patch_size=16, num_heads=3, **SMALL).state_dict()
    model = VisionTransformer(img_size=32, patch_size=16, n_heads=3, **SMALL)
    with pytest.raises(ValueError, match="17 positions.*4 patches.*img_size"):
        from_timm(state, model)
