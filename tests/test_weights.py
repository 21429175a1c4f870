"""Weights on disk: a round trip, and files that are not what they should be."""

import pytest
import torch
from safetensors.torch import save_file

from vit_edu import VisionTransformer
from vit_edu.weights import load_model, load_state, load_weights, save_weights, written_beside


def small_vit(**overrides) -> VisionTransformer:
    settings = dict(img_size=(8, 12), patch_size=4, in_channels=1, num_classes=4, embed_dim=16, depth=2, n_heads=2)
    model = VisionTransformer(**(settings | overrides)).eval()
    torch.nn.init.normal_(model.head.weight)
    return model


IMAGES = torch.randn(2, 1, 8, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("variant", [{}, dict(pool="mean", positions="sincos2d"), dict(n_registers=2)], ids=str)
def test_round_trip(variant, tmp_path):
    model = small_vit(**variant)
    save_weights(model, tmp_path / "new folder" / "w.safetensors")
    again = load_model(tmp_path / "new folder" / "w.safetensors").eval()
    assert torch.equal(model(IMAGES), again(IMAGES))
    other = small_vit(**variant)
    load_weights(other, tmp_path / "new folder" / "w.safetensors")
    assert torch.equal(model(IMAGES), other(IMAGES))


def test_half_precision_halves_the_file(tmp_path):
    model = small_vit()
    save_weights(model, tmp_path / "full")
    save_weights(model, tmp_path / "half", dtype=torch.float16)
    assert (tmp_path / "half").stat().st_size < 0.7 * (tmp_path / "full").stat().st_size
    torch.testing.assert_close(load_model(tmp_path / "half").eval()(IMAGES), model(IMAGES), rtol=0, atol=0.02)


def test_another_architecture_is_refused_and_nothing_is_changed(tmp_path):
    save_weights(small_vit(depth=1), tmp_path / "w")
    model = small_vit(embed_dim=32)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match="(?s)another architecture.*lacks blocks.1.*Build the model"):
        load_weights(small_vit(), tmp_path / "w")
    with pytest.raises(ValueError, match=r"attn.qkv.weight is \(48, 16\), the model's \(96, 32\).*and 26 more"):
        load_state(model, small_vit().state_dict())
    with pytest.raises(ValueError, match="blocks.1.* is not in the model"):
        load_state(small_vit(depth=1), small_vit().state_dict())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("content", ["truncated", "pickle", "empty"])
def test_a_file_that_is_not_whole_safetensors_is_refused(content, tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(small_vit(), path)
    if content == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif content == "pickle":
        torch.save(small_vit().state_dict(), path)
    else:
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="w.safetensors is not a complete safetensors file.*again"):
        load_model(path)


def test_missing_file_and_missing_config(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_model(tmp_path / "nowhere")
    save_file({"x": torch.zeros(1)}, tmp_path / "w")
    with pytest.raises(ValueError, match="does not say which model"):
        load_model(tmp_path / "w")


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "w"
    save_weights(small_vit(), path)
    before = path.read_bytes()
    with pytest.raises(OSError), written_beside(path) as temporary:
        temporary.write_text("half of it")
        raise OSError("No space left on device")
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["w"]
