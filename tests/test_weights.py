"""Weights on disk: a round trip, and files that are not what they should be."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from vit_edu import VisionTransformer
from vit_edu.weights import Preparation, load_checkpoint, load_model, load_state, load_weights
from vit_edu.weights import save_weights, unwrapped, written_beside


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
    why = "not safetensors but PyTorch's; load_checkpoint" if content == "pickle" else "not a complete safe.*again"
    with pytest.raises(ValueError, match=f"w.safetensors is {why}"):
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


def dead_pid() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    with written_beside(tmp_path / "w") as temporary:
        temporary.write_text("whole")
    host, dead = temporary.name.split(".")[2], dead_pid()
    (tmp_path / f".w.{host}.{dead}.ab12.part").write_text("half of it")
    others = {f".w.{host}.{os.getpid()}.ab12.part", f".w.elsewhere.{dead}.ab12.part", f".v.{host}.{dead}.ab12.part"}
    for other in others:
        (tmp_path / other).write_text("somebody else's, or still being written")
    save_weights(small_vit(), tmp_path / "w")
    assert {p.name for p in tmp_path.iterdir()} == {"w", *others}


def test_two_threads_write_the_same_path(tmp_path):
    models = [small_vit() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda model: [save_weights(model, tmp_path / "w") for _ in range(10)], models))
    assert [p.name for p in tmp_path.iterdir()] == ["w"]
    out = load_model(tmp_path / "w").eval()(IMAGES)
    assert any(torch.equal(out, model(IMAGES)) for model in models)


WRITER = """
import sys
from vit_edu.weights import written_beside
for _ in range(200):
    with written_beside(sys.argv[1]) as temporary:
        temporary.write_text(sys.argv[2] * 1000)
"""


def test_two_processes_write_the_same_path(tmp_path):
    path = str(tmp_path / "w")
    running = [subprocess.Popen([sys.executable, "-c", WRITER, path, letter]) for letter in "ab"]
    assert [process.wait(60) for process in running] == [0, 0]
    assert (tmp_path / "w").read_text() in ("a" * 1000, "b" * 1000)
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model, other = small_vit(), small_vit()
    save_weights(model, "~/models/w.safetensors")
    assert (tmp_path / "models" / "w.safetensors").is_file() and not (tmp_path / "~").exists()
    load_weights(other, "~/models/w.safetensors")
    for again in (other, load_model("~/models/w.safetensors"), load_checkpoint("~/models/w.safetensors")):
        assert torch.equal(again.eval()(IMAGES), model(IMAGES))


@pytest.mark.parametrize(
    "classes, kept",
    [
        (list("abcd"), tuple("abcd")),
        ({3: "d", 1: "b"}, {1: "b", 3: "d"}),
        ({"0": "a", "1": "b", "2": "c", "3": "d"}, tuple("abcd")),
        (None, None),
    ],
    ids=str,
)
def test_preparation_travels_with_the_weights(classes, kept, tmp_path):
    model, known = small_vit(), {"mean": [0.1, 0.25], "std": [0.5, 1], "classes": classes}
    save_weights(model, tmp_path / "w", preparation=known)
    again = load_model(tmp_path / "w")
    assert again.preparation == Preparation((0.1, 0.25), (0.5, 1.0), kept)
    save_weights(again, tmp_path / "v", torch.float16)    # kept without being said again
    assert load_checkpoint(tmp_path / "v").preparation == again.preparation
    for copy in "abcde":    # the same bytes, run after run
        save_weights(model, tmp_path / copy, preparation=known)
        assert (tmp_path / copy).read_bytes() == (tmp_path / "w").read_bytes()
    with safe_open(tmp_path / "v", framework="pt") as file:
        plain = json.loads(file.metadata()["config"])["preparation"]
    assert plain["mean"] == [0.1, 0.25] and plain["std"] == [0.5, 1.0]


def test_classes_turned_round_are_refused():
    with pytest.raises(ValueError, match=r"classes lead from number to name, not \{'cat': 0\}"):
        Preparation((0.5,), (0.5,), {"cat": 0})


def test_no_preparation_and_a_wrong_one(tmp_path):
    model = small_vit()
    save_weights(model, tmp_path / "w")
    assert load_model(tmp_path / "w").preparation is None
    for wrong in ({"mean": [0.5], "std": [0]}, {"mean": [0.5], "std": [1, 1]}, {"mean": [], "std": []}):
        with pytest.raises(ValueError, match="one each per channel, std above 0"):
            save_weights(model, tmp_path / "u", preparation=wrong)
    assert not (tmp_path / "u").exists()


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "w"
    save_weights(small_vit(), path)
    before = path.read_bytes()
    with pytest.raises(OSError), written_beside(path) as temporary:
        temporary.write_text("half of it")
        raise OSError("No space left on device")
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["w"]
