"""Predicting on a picture of any kind: against the direct way, files made here, and doubles of the big libraries' models."""

import contextlib
import importlib
import io
import json

import numpy as np
import onnxruntime
import pytest
import timm
import torch
import torchvision
from PIL import Image, ImageOps
from small_models import small_vit
from torch import nn

from vit_edu import panel as live
from vit_edu import pictures as pic
from vit_edu import predict as p
from vit_edu.imagenet import layer_decayed
from vit_edu.inspection import silenced
from vit_edu.optimizer import TrainingConfig
from vit_edu.training import training_step
from vit_edu.weights import load_model, save_weights

# Every pixel another colour: whatever is turned, mirrored or swapped shows.
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 8, 3), dtype=np.uint8)


def portrait_vit(**overrides):
    """A small model that says how its pictures were normalised: as ImageNet's."""
    model = small_vit(**dict(img_size=PIXELS.shape[:2]) | overrides)
    model.preparation = p.IMAGENET
    return model


def expected(model, pixels=PIXELS, mean=p.IMAGENET.mean, std=p.IMAGENET.std) -> torch.Tensor:
    """The probabilities, by NumPy up to the model: no function of the module takes part."""
    x = (pixels / 255 - np.array(mean)) / np.array(std)
    with torch.no_grad():
        return model(torch.tensor(x.transpose(2, 0, 1)[None], dtype=torch.float32))[0].softmax(0)


def as_tensor(found) -> torch.Tensor:
    by_number = {int(name.split()[1]): value for name, value in found}
    return torch.tensor([by_number[i] for i in range(len(by_number))])


def saved(tmp_path, image, name="picture.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


# Every way to hand over the same picture

FORMS = {
    "PIL": lambda a: Image.fromarray(a),
    "bytes, channels last": lambda a: a,
    "bytes, channels first": lambda a: a.transpose(2, 0, 1),
    "tensor": lambda a: torch.tensor(a).permute(2, 0, 1),
    "floats": lambda a: a / 255,
    "float tensor": lambda a: torch.tensor(a / 255).permute(2, 0, 1).float().requires_grad_(),
    "16 bits": lambda a: a.astype(np.uint16) * 257,
    "opaque": lambda a: np.dstack([a, np.full(a.shape[:2], 255, np.uint8)]),
    "not contiguous": lambda a: a[::-1][::-1],
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_gives_the_direct_answer(form):
    model = portrait_vit()
    found = p.predict(model, form(PIXELS), top=5)
    torch.testing.assert_close(as_tensor(found), expected(model), rtol=0, atol=1e-5)
    values = [value for _, value in found]
    assert values == sorted(values, reverse=True) and abs(sum(values) - 1) < 1e-5


def test_paths_and_open_files(tmp_path):
    model, path = portrait_vit(), saved(tmp_path, Image.fromarray(PIXELS))
    for source in path, str(path), io.BytesIO(path.read_bytes()):
        torch.testing.assert_close(as_tensor(p.predict(model, source)), expected(model), rtol=0, atol=1e-5)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(tmp_path, orientation):
    back = {  # how a camera held so would have stored it
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a), 7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(back[orientation](PIXELS)))
    path = saved(tmp_path, stored, exif=exif)
    assert np.array_equal(np.asarray(pic.to_rgb(path)), PIXELS)
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(pic.to_rgb(image)), PIXELS)


def test_modes(tmp_path):
    grey, photo = PIXELS[:, :, 0], Image.fromarray(PIXELS)
    same = np.dstack([grey] * 3)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    for image in Image.fromarray(grey), deep, Image.fromarray(grey.astype(np.int32) * 257):
        assert np.array_equal(np.asarray(pic.to_rgb(image)), same), image.mode
    assert np.array_equal(np.asarray(pic.to_rgb(saved(tmp_path, deep))), same)
    assert np.array_equal(np.asarray(pic.to_rgb(Image.fromarray((grey / 255).astype(np.float32)))), same)
    assert np.array_equal(np.asarray(pic.to_rgb(grey[None])), same) and np.array_equal(np.asarray(pic.to_rgb(grey)), same)
    bits = grey > 127
    assert np.array_equal(np.asarray(pic.to_rgb(bits))[:, :, 1], bits * np.uint8(255))
    palette = photo.quantize(16)
    assert np.array_equal(np.asarray(pic.to_rgb(palette)), np.asarray(palette.convert("RGB")))
    for mode in "CMYK", "YCbCr", "1", "LA", "RGBX":
        assert pic.to_rgb(photo.convert(mode)).mode == "RGB"


def test_a_small_overshoot_is_clipped():
    pixels = PIXELS / 255
    beyond = np.where(pixels < 0.1, -0.1, np.where(pixels > 0.9, 1.1, pixels))
    within = np.asarray(pic.to_rgb(beyond.clip(0, 1)))
    assert np.array_equal(np.asarray(pic.to_rgb(beyond)), within)
    assert np.array_equal(np.asarray(pic.to_rgb(torch.tensor(beyond).permute(2, 0, 1))), within)


def test_broken_exif_costs_the_turn_and_not_the_picture(tmp_path):
    broken = b"Exif\x00\x00II*\x00"
    path = saved(tmp_path, Image.fromarray(PIXELS), name="broken.png", exif=broken)
    with Image.open(path) as image, pytest.raises(Exception):  # noqa: B017
        ImageOps.exif_transpose(image)
    model = portrait_vit()
    with Image.open(path) as image:
        for source in path, image:
            with pytest.warns(UserWarning, match="EXIF data cannot be read"):
                torch.testing.assert_close(as_tensor(p.predict(model, source)), expected(model), rtol=0, atol=1e-5)


def test_colours_multiplied_by_alpha():
    grey = Image.fromarray(PIXELS[:, :, 0]).convert("LA")
    assert np.array_equal(np.asarray(pic.to_rgb(grey.convert("La"))), np.asarray(pic.to_rgb(grey)))
    colour = Image.fromarray(PIXELS).convert("RGBA")
    assert np.array_equal(np.asarray(pic.to_rgb(colour.convert("RGBa"))), PIXELS)


def test_what_is_transparent_is_white(tmp_path):
    alpha = np.zeros(PIXELS.shape[:2], np.uint8)
    alpha[:6] = 255
    image = Image.fromarray(np.dstack([PIXELS, alpha]))
    laid = PIXELS.copy()
    laid[6:] = 255
    assert np.array_equal(np.asarray(pic.to_rgb(image)), laid)
    two = Image.new("P", (2, 1))
    two.putpalette([10, 20, 30, 40, 50, 60])
    two.putpixel((1, 0), 1)
    path = saved(tmp_path, two, transparency=1)
    assert np.asarray(pic.to_rgb(path)).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_the_shorter_side_is_fitted_and_the_middle_kept():
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    x = p.prepare(portrait_vit(img_size=8), wide, (0.0,) * 3, (1.0,) * 3)
    assert x.shape == (1, 3, 8, 8)
    torch.testing.assert_close(x[..., 2:-2], torch.full((1, 3, 8, 4), 200 / 255))
    assert (x > 0.7).all()  # the filter reaches a little beyond the middle
    tall = p.prepare(portrait_vit(), np.zeros((100, 30, 3), np.uint8))
    assert tall.shape == (1, 3, 12, 8)
    assert p.prepare(portrait_vit(in_channels=1), PIXELS, (0.5,), (0.5,)).shape == (1, 1, 12, 8)


# What a model's numbers mean


def test_preparation_is_noted_or_given_and_never_guessed():
    model = small_vit(img_size=PIXELS.shape[:2])
    for silent in model, small_vit(img_size=32, num_classes=10), torch.optim.swa_utils.AveragedModel(model):
        with pytest.raises(ValueError, match=r"model.preparation = Preparation\(mean, std, classes\), or pass mean="):
            p.predict(silent, PIXELS)
    with pytest.raises(ValueError, match="nothing says how"):
        p.predict(model, PIXELS, mean=(0.5,) * 3)
    model.preparation = p.Preparation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), {0: "a", 4: "e"})
    for one in model, torch.optim.swa_utils.AveragedModel(model), torch.compile(model, backend="eager"):
        found = dict(p.predict(one, PIXELS, top=5))
        truth = expected(model, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
        assert abs(found["a"] - truth[0]) < 1e-5 and abs(found["e"] - truth[4]) < 1e-5 and "class 1" in found
    truth = expected(model, mean=(0.5,) * 3, std=(0.5,) * 3)
    for half in (0.5,) * 3, torch.full((3,), 0.5), np.full(3, 0.5), [0.5] * 3:
        given = p.predict(model, PIXELS, classes=list("vwxyz"), mean=half, std=half, top=2)
        assert given[0][0] == "vwxyz"[truth.argmax()] and len(given) == 2
    given = p.predict(small_vit(img_size=PIXELS.shape[:2]), PIXELS, mean=(0.5,) * 3, std=(0.5,) * 3, top=1)
    assert given[0][0] == f"class {truth.argmax()}"


def test_what_was_noted_travels_with_the_weights(tmp_path):
    model = portrait_vit()
    model.preparation = p.Preparation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), list("abcde"))
    save_weights(model, tmp_path / "named.safetensors")
    for again in load_model(tmp_path / "named.safetensors").eval(), p.load_pretrained(str(tmp_path / "named.safetensors")):
        assert p.predict(again, PIXELS) == p.predict(model, PIXELS)
    adapted = p.adapt(again, 5)
    assert (adapted.preparation.mean, adapted.preparation.classes) == ((0.1, 0.2, 0.3), None)


@pytest.mark.parametrize(
    ("classes", "found"),
    [({"0": "a", "4": "e"}, {"a", "e", "class 1", "class 2", "class 3"}), ({i: f"n{i}" for i in range(5)}, {"n0", "n4"})],
)
def test_class_maps_as_json_has_them(classes, found):
    assert found <= {name for name, _ in p.predict(portrait_vit(), PIXELS, classes=json.loads(json.dumps(classes)))}
    with pytest.raises(ValueError, match="turn it round"):
        p.predict(portrait_vit(), PIXELS, classes={name: number for number, name in classes.items()})


@pytest.mark.parametrize("head", [nn.Linear(16, 3), nn.Sequential(nn.Dropout(), nn.Linear(16, 3))], ids=["one", "two"])
def test_a_replaced_head_is_asked_how_many_classes_it_has(head):
    model = portrait_vit()
    model.head = head
    found = p.predict(model, PIXELS)
    assert len(found) == 3 and abs(sum(value for _, value in found) - 1) < 1e-5
    assert {name for name, _ in p.predict(model, PIXELS, classes=["a", "b", "c"])} == {"a", "b", "c"}
    with pytest.raises(ValueError, match="5 class names for a model of 3"):
        p.predict(model, PIXELS, classes=list("abcde"))
    panel = live.Panel(model, [PIXELS], ["one"])
    assert panel.state()[2].shape == (3,)


def test_a_model_without_a_head_names_nothing():
    replaced = portrait_vit()
    replaced.head = nn.Identity()
    for model in portrait_vit(num_classes=0), replaced:
        with pytest.raises(ValueError, match="no head, so it gives features.*adapt"):
            p.predict(model, PIXELS)
        with pytest.raises(ValueError, match="no head"):
            live.Panel(model, [PIXELS], ["one"])
    model = p.adapt(portrait_vit(num_classes=0), 3)
    assert len(p.predict(model, PIXELS)) == 3


def test_modes_of_the_model_stay_and_nothing_is_left_to_chance():
    model = portrait_vit(drop_rate=0.5, drop_path_rate=0.5)
    model.train()
    model.blocks[1].eval()
    modes, state = [m.training for m in model.modules()], torch.get_rng_state()
    first = p.predict(model, PIXELS)
    with pytest.raises(ValueError):
        p.predict(model, PIXELS * np.nan)
    assert first == p.predict(model, PIXELS) and modes == [m.training for m in model.modules()]
    assert torch.equal(state, torch.get_rng_state())
    wrapped = torch.optim.swa_utils.AveragedModel(model)
    assert p.predict(wrapped, PIXELS) == first
    assert p.predict(model.to(torch.bfloat16), PIXELS)[0][1] > 0


@pytest.mark.parametrize(
    ("image", "kind", "message"),
    [
        (None, ValueError, "image is None"),
        (7, TypeError, "int is no picture"),
        (np.zeros((2, 3, 8, 8)), ValueError, r"shape \(2, 3, 8, 8\) is no picture"),
        (np.zeros((5, 7, 2)), ValueError, r"\(5, 7, 2\)"),
        (np.zeros((0, 8, 3)), ValueError, r"\(0, 8, 3\)"),
        (np.zeros(8), ValueError, r"\(8,\)"),
        (np.full((8, 8), np.nan), ValueError, "NaN"),
        (np.full((8, 8), 200.0), ValueError, "200.*divide them by 255"),
        (np.full((8, 8), -0.5), ValueError, "undo their normalisation"),
        (np.full((8, 8), 1.3), ValueError, "divide them by 255"),
        (np.zeros((8, 8), np.int64), TypeError, "int64"),
    ],
)
def test_bad_pictures_are_named(image, kind, message):
    with pytest.raises(kind, match=message):
        p.predict(portrait_vit(), image)


def test_bad_files_are_named(tmp_path):
    model = portrait_vit()
    with pytest.raises(FileNotFoundError, match="absent"):
        p.predict(model, tmp_path / "absent.png")
    with pytest.raises(IsADirectoryError):
        p.predict(model, tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    whole = saved(tmp_path, Image.fromarray(np.tile(PIXELS, (9, 9, 1)))).read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    for name in "text.png", "half.png":
        with pytest.raises(ValueError, match=f"{name} cannot be read as a picture"):
            p.predict(model, tmp_path / name)


def test_bad_models_and_arguments_are_named():
    model = portrait_vit()
    with pytest.raises(TypeError, match="ResNet is not a VisionTransformer"):
        p.predict(torchvision.models.resnet18(), PIXELS)
    with pytest.raises(ValueError, match="3 class names for a model of 5"):
        p.predict(model, PIXELS, classes=["a", "b", "c"])
    with pytest.raises(ValueError, match="temperature is 0"), live.softened(model, 0):
        pass
    with pytest.raises(ValueError, match="top is 0"):
        p.predict(model, PIXELS, top=0)
    with pytest.raises(ValueError, match="channels"):
        p.predict(portrait_vit(in_channels=1), PIXELS)
    nn.init.constant_(model.head.bias, torch.nan)
    with pytest.raises(ValueError, match="look at its weights"):
        p.predict(model, PIXELS)


# Trained weights by name


def test_our_own_weights_by_name():
    model = p.load_pretrained("tiny-0")
    assert not model.training and p.preparation_of(model) == p.CIFAR10
    from vit_edu.preparation import example_pictures

    pictures, _, classes = example_pictures()
    assert tuple(classes) == p.CIFAR10.classes
    truth = expected(model, pictures[0].permute(1, 2, 0).numpy(), p.CIFAR10.mean, p.CIFAR10.std)
    assert p.predict(model, pictures[0])[0][0] == classes[truth.argmax()]
    with pytest.raises(ValueError, match="no weights of a model 'tiny-x'"):
        p.load_pretrained("tiny-x")


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", "torchvision/vit_b_16"])
def test_offline_says_so(monkeypatch, name):
    monkeypatch.setenv("VIT_EDU_DOWNLOAD", "0")
    with pytest.raises(OSError, match=f"{name} needs a download, and VIT_EDU_DOWNLOAD=0"):
        p.load_pretrained(name)


def timm_double(monkeypatch, **arguments):
    """timm's `create_model` without the download: random weights, nothing at zero, one."""
    monkeypatch.delenv("VIT_EDU_DOWNLOAD", raising=False)
    shape = dict(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=4, num_classes=1000)
    torch.manual_seed(0)
    model = timm.models.VisionTransformer(**shape | arguments)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    model.pretrained_cfg = dict(mean=(0.5,) * 3, std=(0.4,) * 3)
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: model)
    return model.eval()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        dict(mlp_ratio=2, qkv_bias=False),
        dict(global_pool="avg"),
        dict(global_pool="avg", class_token=False, fc_norm=False),
        dict(reg_tokens=2),
        dict(reg_tokens=2, no_embed_class=True, img_size=(32, 48)),
        dict(init_values=0.1),
        dict(num_classes=0),
    ],
    ids=str,
)
def test_timm_models_arrive_whole(monkeypatch, arguments):
    theirs = timm_double(monkeypatch, **arguments)
    model = p.load_pretrained("timm/some_vit")
    x = torch.randn(2, 3, *theirs.patch_embed.img_size)
    with torch.no_grad():
        torch.testing.assert_close(model(x), theirs(x), rtol=0, atol=1e-4)
    assert model.preparation.mean == (0.5,) * 3 and not model.training
    if theirs.num_classes:
        assert model.preparation.classes[0].startswith("tench") and len(p.predict(model, PIXELS)) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(global_pool="map"), "pooling by attention"),
        (dict(act_layer=nn.ReLU), "another answer"),  # the same names, another function
    ],
)
def test_other_architectures_are_refused(monkeypatch, arguments, message):
    timm_double(monkeypatch, **arguments)
    with pytest.raises(ValueError, match=message):
        p.load_pretrained("timm/some_vit")


def test_torchvision_models_arrive_whole(monkeypatch):
    monkeypatch.delenv("VIT_EDU_DOWNLOAD", raising=False)
    torch.manual_seed(0)
    shape = dict(image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=48, mlp_dim=96)
    theirs = torchvision.models.VisionTransformer(**shape).eval()
    nn.init.normal_(theirs.heads.head.weight)
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: theirs)
    model, x = p.load_pretrained("torchvision/vit_b_16"), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(x), theirs(x), rtol=0, atol=1e-4)
    assert model.preparation.mean == p.IMAGENET.mean and model.preparation.classes[0] == "tench"


def test_failed_downloads_say_what_to_check(monkeypatch):
    timm_double(monkeypatch)

    def fail(name, pretrained):
        raise ConnectionError("no route")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(OSError, match="no route.*network connection"):
        p.load_pretrained("timm/some_vit")
    with pytest.raises(OSError, match="check its name"):
        p.load_pretrained("torchvision/nonsense")


# Fine-tuning


@pytest.mark.parametrize("extra", [{}, dict(n_registers=2), dict(pool="mean"), dict(positions="sincos2d")], ids=str)
def test_adapting_keeps_the_body(extra):
    old = portrait_vit(**extra).train()
    old.preparation = p.Preparation((0.1,) * 3, (0.2,) * 3, list("abcde"))
    before = {name: t.clone() for name, t in old.state_dict().items()}
    new = p.adapt(old, 7, img_size=(24, 16))
    assert new.config | dict(num_classes=5, img_size=[12, 8]) == old.config and new.training
    assert new.preparation == p.Preparation((0.1,) * 3, (0.2,) * 3)
    x = torch.randn(2, 3, 24, 16)
    assert new(x).shape == (2, 7) and not new(x).any()
    assert all(torch.equal(t, before[name]) for name, t in old.state_dict().items())
    if extra.get("positions") != "sincos2d":  # fixed ones are made for the size, not resized
        torch.testing.assert_close(new.forward_features(x), old.forward_features(x), rtol=0, atol=1e-4)
    with torch.no_grad():
        new.patch_embed.proj.weight.zero_()
    assert old.patch_embed.proj.weight.any()  # a copy


def test_an_adapted_model_learns_mostly_at_the_head():
    old = portrait_vit()
    new = p.adapt(old, 3)
    config = TrainingConfig(lr=1e-3, weight_decay=0.0, label_smoothing=0.0)
    optimizer = layer_decayed(new, config, 0.5)
    for group in optimizer.param_groups:
        group["lr"] = config.lr * group["lr_scale"]
    x, y = torch.randn(30, 3, 12, 8, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3
    losses = [training_step(new, optimizer, (x, y), config).item() for _ in range(30)]
    assert losses[-1] < 0.9 * losses[0] and abs(losses[0] - np.log(3)) < 1e-4
    moved = [(new.blocks[i].mlp.fc1.weight - old.blocks[i].mlp.fc1.weight).abs().max() for i in range(3)]
    assert 0 < moved[0] < moved[1] < moved[2] < new.head.weight.abs().max()


# ONNX


def test_export_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install onnx onnxscript"):
        p.export_onnx(portrait_vit(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore")
def test_onnx_gives_the_same_logits(tmp_path):
    model = portrait_vit(drop_rate=0.5).train()
    p.export_onnx(model, tmp_path / "model.onnx")
    assert model.training and [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for n in 1, 2, 5:
        x = torch.randn(n, 3, 12, 8)
        (found,) = session.run(["logits"], {"images": x.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(found, model.eval()(x).numpy(), atol=1e-4)


# The live panel, without a kernel


@pytest.fixture
def panel():
    return live.Panel(portrait_vit(), [PIXELS, 255 - PIXELS], ["one", "two"])


def test_every_control_shows_at_once(panel):
    model, hooks = panel.model, [len(b.attn.qkv._forward_hooks) for b in panel.vit.blocks]
    controls = dict(hidden=3, order="random", temperature=4.0, off=(1, 0), picture=1)
    for name, value in controls.items():
        before = bytes(panel.image.value)
        getattr(panel, name).value = value
        after = bytes(panel.image.value)
        assert after != before and after.startswith(b"\x89PNG"), name
    assert hooks == [len(b.attn.qkv._forward_hooks) for b in model.blocks] and "changed: class" in panel.text.value


def test_the_panel_computes_what_it_says(panel):
    model, x = panel.model, panel.inputs[0]
    clean, grid, before, after = panel.state()
    torch.testing.assert_close(before, model(x)[0].softmax(0).detach())
    assert torch.equal(before, after) and torch.equal(clean, x[0]) and grid.shape == (3, 2)
    panel.hidden.value = 2
    hidden, _, _, after = panel.state()
    patches = (hidden == 0).all(dim=0).reshape(3, 4, 2, 4).all(dim=3).all(dim=1)  # (rows, columns)
    assert patches.flatten().tolist() == [i in grid.flatten().topk(2).indices for i in range(6)]
    torch.testing.assert_close(after, model(hidden[None])[0].softmax(0).detach())
    panel.hidden.value = 6
    assert not panel.state()[0].any()


def test_temperature_and_silence_against_weights_changed_by_hand():
    model, x = portrait_vit(), torch.randn(2, 3, 12, 8)
    plain = model(x)
    by_hand = portrait_vit()
    with torch.no_grad():
        for block in by_hand.blocks:
            block.attn.qkv.weight[:16] /= 3
            block.attn.qkv.bias[:16] /= 3
        by_hand.blocks[1].attn.proj.weight[:, 8:] = 0
    with live.softened(model, temperature=3.0), silenced(model, 1, 1):
        torch.testing.assert_close(model(x), by_hand(x), rtol=0, atol=1e-5)
    with contextlib.suppress(RuntimeError), live.softened(model, 2.0):
        raise RuntimeError
    assert torch.equal(model(x), plain)
    compiled, averaged = torch.compile(model, backend="eager"), torch.optim.swa_utils.AveragedModel(model)
    for one in compiled, averaged, nn.DataParallel(model):
        torch.testing.assert_close(one(x), plain)
        with live.softened(one, temperature=3.0), silenced(one, 1, 1):
            torch.testing.assert_close(one(x), by_hand(x), rtol=0, atol=1e-5)
        torch.testing.assert_close(one(x), plain)


@pytest.mark.parametrize("version", [7, 8])
def test_uploads_of_both_versions_of_ipywidgets(panel, version):
    file = io.BytesIO()
    Image.fromarray(PIXELS).rotate(180).save(file, "PNG")

    class Upload:
        def __init__(self, content):
            as_8 = {"name": "mine.png", "content": memoryview(content)}
            self.value = ({"mine.png": {"content": content}}) if version == 7 else (as_8,)

    panel.upload, before = Upload(file.getvalue()), len(panel.inputs)
    panel.take({})
    assert len(panel.inputs) == before + 1 and panel.picture.value == before
    assert panel.picture.options[-1] == ("2: your own", 2)
    torch.testing.assert_close(panel.inputs[-1], panel.inputs[0].flip(2, 3))
    panel.upload = Upload(b"no picture")
    panel.take({})
    assert "did not work" in panel.text.value and panel.picture.value == before


def test_only_core_widgets_and_one_view(panel):
    kinds = {type(w).__name__ for w in panel.view.children}
    assert kinds == {"Dropdown", "FileUpload", "IntSlider", "FloatLogSlider", "HTML", "Image"}
    assert json.dumps(panel.view.get_state()["_view_name"]) == '"VBoxView"'
