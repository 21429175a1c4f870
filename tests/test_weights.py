"""Weights on disk: a round trip, and files that are not what they should be."""

import os

import pytest
import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from vit_edu import VisionTransformer
from vit_edu.weights import load_model, load_state, load_weights, save_weights, unwrapped, written_beside


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
    model, almost = small_vit(), small_vit(num_classes=5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match="(?s)another architecture.*lacks blocks.1.*Build the model"):
        load_weights(small_vit(), tmp_path / "w")
    with pytest.raises(ValueError, match=r"attn.qkv.weight is \(48, 16\), the model's \(96, 32\).*and 26 more"):
        load_state(small_vit(embed_dim=32), small_vit().state_dict())
    with pytest.raises(ValueError, match="blocks.1.* is not in the model"):
        load_state(small_vit(depth=1), small_vit().state_dict())
    with pytest.raises(ValueError, match=r"head.bias is \(5,\), the model's \(4,\); head.weight"):
        load_state(model, almost.state_dict())    # all else would fit, and is different
    assert not torch.equal(almost.cls_token, before["cls_token"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


WRAPPERS = {
    "torch.compile": lambda model: torch.compile(model, backend="eager"),
    "averaged": AveragedModel,
    "parallel": torch.nn.DataParallel,
    "averaged, compiled": lambda model: AveragedModel(torch.compile(model, backend="eager")),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapped_model_is_saved_and_loaded_as_itself(wrap, tmp_path):
    model = small_vit()
    save_weights(wrap(model), tmp_path / "w")
    again, other = load_model(tmp_path / "w").eval(), wrap(small_vit())
    load_weights(other, tmp_path / "w")
    assert again.config == model.config
    assert torch.equal(again(IMAGES), model(IMAGES)) and torch.equal(unwrapped(other)(IMAGES), model(IMAGES))


def test_a_replaced_head_is_part_of_the_file(tmp_path):
    model = small_vit()
    model.head = torch.nn.Linear(16, 7)
    save_weights(model, tmp_path / "w")
    assert torch.equal(load_model(tmp_path / "w").eval()(IMAGES), model(IMAGES))


def test_numbers_too_large_for_half_precision_are_refused(tmp_path):
    model = small_vit()
    model.blocks[1].norm2.weight.data[0] = 1e6
    with pytest.raises(ValueError, match="blocks.1.norm2.weight.*too large for torch.float16; save it in float32"):
        save_weights(model, tmp_path / "w", torch.float16)
    assert not list(tmp_path.iterdir())
    save_weights(model, tmp_path / "w", torch.bfloat16)    # its range is float32's


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


@pytest.mark.parametrize("config", ["vit, small", "[1, 2]", "3"])
def test_somebody_elses_config(config, tmp_path):
    model, other = small_vit(), small_vit()
    save_file(model.state_dict(), tmp_path / "w", metadata={"config": config})
    with pytest.raises(ValueError, match="does not say which model"):
        load_model(tmp_path / "w")
    load_weights(other, tmp_path / "w")
    assert torch.equal(other(IMAGES), model(IMAGES))


def test_a_folder_or_a_forbidden_file_is_called_so(tmp_path):
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        load_weights(small_vit(), tmp_path)
    save_weights(small_vit(), tmp_path / "w")
    (tmp_path / "w").chmod(0)
    if os.access(tmp_path / "w", os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(PermissionError):
        load_weights(small_vit(), tmp_path / "w")


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / ".w.123.part").write_text("half of it")
    for other in (".w.x.123.part", ".v.123.part", "w.123.part"):
        (tmp_path / other).write_text("another file's")
    save_weights(small_vit(), tmp_path / "w")
    assert {p.name for p in tmp_path.iterdir()} == {"w", ".w.x.123.part", ".v.123.part", "w.123.part"}


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "w"
    save_weights(small_vit(), path)
    before = path.read_bytes()
    with pytest.raises(OSError), written_beside(path) as temporary:
        temporary.write_text("half of it")
        raise OSError("No space left on device")
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["w"]
