"""The CIFAR-10 recipes: each steps; runs are exact, resumable, recorded; the command line says what it does."""

import json
import math
import signal
import subprocess
import sys
import types
from dataclasses import replace

import pytest
import torch
from command_line import python_m
from safetensors.torch import load_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vit_edu import cifar10, cifar10_recipes, experiment, throughput
from vit_edu.augment import NO_AUGMENTATION, Augmentation
from vit_edu.cifar10_recipes import CHANGES, RECIPES, Recipe, build_model
from vit_edu.cifar10 import fit, recipe_from, train_vit_on_cifar10
from vit_edu.data import cifar10_or_digits, digits32
from vit_edu.model import VisionTransformer, count_parameters
from vit_edu.records import RECORDED, read_record, surroundings
from vit_edu.optimizer import TrainingConfig
from vit_edu.weights import load_model


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    torch.set_num_threads(1)


def few(n=256):
    """A few images of the real set, or of its stand-in."""
    images = cifar10_or_digits(download=False)
    parts = {
        f"{part}_{what}": getattr(images, f"{part}_{what}")[:n]
        for part in ("train", "test")
        for what in ("images", "labels")
    }
    return replace(images, **parts)


SMALL = Recipe(
    "small",
    "everything that uses chance, on a model of a few thousand weights",
    cifar10_recipes.vit(32, 2, 2, patch_size=8, drop_path_rate=0.2),
    TrainingConfig(epochs=3, warmup_epochs=1),
    batch_size=32,
    augmentation=Augmentation(mix=0.9),
    average=0.9,
    evaluate_every=1,
)


def trained(recipe=SMALL, images=None, **options):
    torch.manual_seed(recipe.training.seed)
    model = build_model(recipe)
    history, averaged = fit(model, recipe, images or few(128), **options)
    return model, averaged, history


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_steps(name):
    """Two batches forward, backward and evaluated, at the recipe's own size, with a small batch."""
    recipe = RECIPES[name]
    training = replace(recipe.training, epochs=1, warmup_epochs=0)
    recipe = replace(recipe, training=training, batch_size=4, evaluate_every=1)
    _, averaged, (row,) = trained(recipe, few(8))
    assert averaged is not None
    assert 0 < row["train_loss"] < 20 and 0 <= row["averaged_test_accuracy"] <= 1


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_changes_one_thing_and_steps(change):
    usual = RECIPES["sprint" if change == "batch512" else "fast"]
    recipe = CHANGES[change](usual)
    before, after = vars(usual), vars(recipe)
    expected = {"model", "image_size"} if change == "enlarged" else None
    changed = {key for key in before if before[key] != after[key]}
    assert changed == expected if expected else len(changed) == 1
    training = replace(recipe.training, epochs=1, warmup_epochs=0)
    _, _, (row,) = trained(replace(recipe, training=training, batch_size=2), few(3))
    assert row["train_loss"] > 0


def test_the_recipes_are_of_the_promised_sizes():
    sizes = {name: count_parameters(build_model(recipe)) / 1e6 for name, recipe in RECIPES.items()}
    for name, millions in {"tiny": 0.46, "fast": 4.8, "best": 16.0, "best-patch2": 6.4, "resized": 11.0}.items():
        assert sizes[name] == pytest.approx(millions, rel=0.02), name
    assert sizes["resnet18"] == pytest.approx(11.17, rel=0.001)  # the usual small-image stem
    assert sizes["resnet50"] == pytest.approx(23.52, rel=0.001)


def test_the_small_image_stem_keeps_the_resolution():
    model = build_model(RECIPES["resnet18"])
    shapes = []
    model.layer1.register_forward_pre_hook(lambda module, inputs: shapes.append(inputs[0].shape))
    model(torch.zeros(2, 3, 32, 32))
    assert shapes == [(2, 64, 32, 32)]


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    """Two runs, their weights' files compared byte by byte; another seed differs."""
    files = []
    for k, seed in enumerate((0, 0, 1)):
        recipe, out = replace(SMALL, training=replace(SMALL.training, seed=seed)), tmp_path / str(k)
        images = few(128)
        model, averaged, history = trained(recipe, images, out=out)
        cifar10.finish(model, averaged, recipe, images, history, out, surroundings())
        files.append((out / "weights.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulating_equals_one_batch(parts):
    """k parts of b images give the weights of one batch of k·b, within rounding; without chance in the model."""
    quiet = replace(SMALL, model=SMALL.model | {"drop_path_rate": 0.0})
    whole, _, _ = trained(quiet)
    split, _, _ = trained(replace(quiet, training=replace(quiet.training, accumulate=parts)))
    for (name, a), b in zip(whole.state_dict().items(), split.state_dict().values()):
        assert torch.allclose(a, b, atol=2e-4), name
    assert not same(whole, split) or parts == 1


@pytest.mark.parametrize("stop_after", [1, 3, 4, 7, 11])
def test_a_resumed_run_equals_one_that_was_not_interrupted(stop_after, tmp_path):
    """Augmentation, mixing, drop-path and the average go on where they were, in and between epochs."""
    whole, averaged, history = trained(out=tmp_path / "whole")
    steps = []

    def should_stop():
        steps.append(1)
        return len(steps) == stop_after

    trained(out=tmp_path / "run", should_stop=should_stop)
    model, again, resumed = trained(out=tmp_path / "run", resume=True)
    assert same(whole, model) and same(averaged, again)
    figures = [{k: v for k, v in row.items() if "second" not in k} for row in history]
    assert figures == [{k: v for k, v in row.items() if "second" not in k} for row in resumed]


def test_another_augmentation_is_not_resumed(tmp_path):
    trained(out=tmp_path)
    with pytest.raises(ValueError, match="augmentation was"):
        trained(replace(SMALL, augmentation=NO_AUGMENTATION), out=tmp_path, resume=True)


def test_figures_only_of_the_epochs_that_are_evaluated():
    recipe = replace(SMALL, evaluate_every=2)
    _, _, history = trained(recipe)
    known = [row["test_accuracy"] == row["test_accuracy"] for row in history]
    assert known == [False, True, True]  # every second, and the last


def test_a_record_holds_what_it_must(tmp_path, monkeypatch):
    images = few(128)
    model, averaged, history = trained(images=images, out=tmp_path)
    final = cifar10.finish(model, averaged, SMALL, images, history, tmp_path, surroundings())
    record = read_record(tmp_path)
    facts = record.facts
    for prefix in "", "averaged_":
        for name in "train_loss", "train_accuracy", "test_loss", "test_accuracy":
            assert facts["final"][prefix + name] == final[prefix + name]
    assert facts["data"] == images.provenance and facts["seconds"] > 0 and facts["versions"]["torch"]
    assert facts["parameters"] == count_parameters(model) and facts["hardware"] and facts["commit"]
    assert recipe_from(json.loads(json.dumps(facts["config"]))) == SMALL
    kept = load_model(tmp_path / "weights.safetensors")
    assert same(kept, averaged.module)
    monkeypatch.setattr(cifar10, "load_images", lambda recipe: images)
    measured = cifar10.evaluate_run(tmp_path)
    assert measured["accuracy"] == pytest.approx(facts["final"]["averaged_test_accuracy"])
    assert experiment.result(record) == facts["final"]["averaged_test_accuracy"]


def test_it_learns():
    """Digits, enlarged: far above chance after a few epochs, with the whole augmentation off."""
    recipe = replace(SMALL, augmentation=NO_AUGMENTATION, training=TrainingConfig(epochs=7, lr=4e-3, warmup_epochs=1))
    _, _, history = trained(recipe, digits32())
    assert history[-1]["averaged_test_accuracy"] > 0.8


def test_training_a_model_of_ones_own():
    """Any size and pooling; images are enlarged to the model's."""
    model = VisionTransformer(48, 16, num_classes=10, embed_dim=24, depth=1, n_heads=2, n_registers=2)
    before = model.head.weight.clone()
    history = train_vit_on_cifar10(model, epochs=2, batch_size=32, images=few(64))
    assert len(history) == 2 and not torch.equal(before, model.head.weight)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(in_channels=1, num_classes=10), "in_channels=1"),
        (dict(num_classes=7), "build it with num_classes=10"),
        (dict(img_size=(32, 64), num_classes=10), "square img_size"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(options, message):
    model = VisionTransformer(**({"img_size": 32} | options), patch_size=16, embed_dim=24, depth=1, n_heads=2)
    with pytest.raises(ValueError, match=message):
        train_vit_on_cifar10(model, images=few(64))


def test_held_out_images_leave_the_test_set_alone():
    recipe = replace(RECIPES["smoke"], held_out=True, limit=None)
    if cifar10_or_digits(download=False).name != "cifar10":
        recipe = replace(recipe, limit=2000)
    held, plain = cifar10.load_images(recipe), cifar10.load_images(replace(recipe, held_out=False))
    assert "held out" in held.provenance and "held out" not in plain.provenance
    assert recipe.label == "smoke-held-out"
    assert not torch.equal(held.test_images[0], plain.test_images[0])


@pytest.mark.parametrize("name", ["tiny", "resized", "best-patch2"])
def test_the_flops_of_training_are_three_times_torchs_count(name):
    """Explicit attention, since torch's counter does not see inside the fused one on a CPU."""
    recipe = RECIPES[name]
    model = build_model(replace(recipe, model=recipe.model | {"flash_attention": False}))
    shape = (3, recipe.image_size, recipe.image_size)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.zeros(1, *shape))
    assert throughput.training_flops(model, shape) == pytest.approx(3 * counter.get_total_flops(), rel=0.001)


def test_the_flops_of_a_resnet():
    """ResNet-18 with the small-image stem: 0.56 GMAC an image, as commonly reported."""
    model = build_model(RECIPES["resnet18"])
    assert throughput.training_flops(model, (3, 32, 32)) == pytest.approx(6 * 0.556e9, rel=0.01)
    assert model.training


def test_tensorboard_gets_the_figures_that_are_numbers(tmp_path, monkeypatch):
    """A double of its writer: the package is not required."""
    shown = []

    class SummaryWriter:
        def __init__(self, folder):
            shown.append(folder)

        def add_scalar(self, name, value, step):
            shown.append((name, value, step))

        def flush(self):
            shown.append("flushed")

    double = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", double)
    monkeypatch.setattr(experiment.importlib.util, "find_spec", lambda name: name == "tensorboard")
    experiment.tensorboard(tmp_path)({"epoch": 2, "train_loss": 0.5, "test_loss": math.nan})
    assert shown == [tmp_path / "tensorboard", ("epoch", 2, 2), ("train_loss", 0.5, 2), "flushed"]


def test_speed_by_hand(monkeypatch):
    assert throughput.describe_speed(2000, 10**9, torch.device("cpu")) == "2,000 images/s, 2 TFLOP/s"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    said = throughput.describe_speed(98_900, 10**9, torch.device("cuda"))
    assert said == "98,900 images/s, 98.9 TFLOP/s, MFU 10.0 %"
    for name, peak in {
        "NVIDIA H100 80GB HBM3": 989,
        "NVIDIA H100 PCIe": 756,
        "NVIDIA H200 NVL": 835,
        "NVIDIA A10G": 70,
        "NVIDIA L4": 121,
        "NVIDIA L40": None,
        "NVIDIA RTX A1000 Laptop GPU": None,
        "Unknown": None,
    }.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert throughput.peak_tflops(torch.device("cuda")) == peak


def test_ctrl_c_leaves_a_state_that_goes_on(tmp_path):
    """The first Ctrl-C ends the run after its step; --resume finishes it, and --eval measures the same."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "vit_edu.cifar10", "--recipe", "smoke", "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        for line in running.stdout:
            if line.startswith("epoch"):
                running.send_signal(signal.SIGINT)
                break
        rest = running.stdout.read()
    assert running.returncode == 0, running.stderr
    assert "--resume goes on from it" in rest
    assert not (out / "run.json").exists()
    done = python_m("vit_edu.cifar10", "--recipe", "smoke", "--out", out, "--resume")
    assert done.returncode == 0, done.stderr
    assert "averaged test accuracy" in done.stdout
    final = read_record(out).facts["final"]
    measured = python_m("vit_edu.cifar10", "--eval", "--out", out)
    assert f"'accuracy': {round(final['averaged_test_accuracy'], 4)}" in measured.stdout, measured.stderr


@pytest.mark.parametrize("options", [["--epochs", "0"], ["--batch-size", "0"], ["--accumulate", "-1"]])
def test_numbers_below_one_are_refused(options, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cifar10", *options])
    with pytest.raises(SystemExit):
        cifar10.parse_arguments()
    assert "not a whole number from 1 on" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [[], ["--no-augment", "--seed", "2"], ["--held-out", "--epochs", "60", "--lr", "0.0005", "--change", "depth3"],
                ["--batch-size", "64", "--accumulate", "4"]]
)  # fmt: skip
def test_the_recorded_command_asks_for_the_same_again(options, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cifar10", "--recipe", "fast", *options])
    recipe = cifar10.chosen(cifar10.parse_arguments())
    monkeypatch.setattr(sys, "argv", recipe.command.split()[2:])
    assert cifar10.chosen(cifar10.parse_arguments()) == recipe


def test_the_list_names_every_recipe():
    text = python_m("vit_edu.cifar10", "--list").stdout
    for name, recipe in RECIPES.items():
        assert recipe.command in text and recipe.purpose in text, name
    tiny = read_record(RECORDED / "tiny-0").facts
    assert f"{tiny['final']['averaged_test_accuracy']:.1%} in {tiny['seconds'] / 60:.0f} min on" in text
    assert "recorded" not in text


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--recipe", "tiny"], "no CIFAR-10 in"),
        (["--eval", "--out", "nowhere"], "nowhere"),
        (["--recipe", "smoke", "--batch-size", "100000"], "batch_size 100000"),
        (["--recipe", "smoke", "--change", "nothing"], "invalid choice"),
        (["--recipe", "resnet18", "--change", "class-token"], "resnet18 is no ViT"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.setenv("VIT_EDU_DATA", str(tmp_path))
    monkeypatch.setenv("VIT_EDU_DOWNLOAD", "0")
    said = python_m("vit_edu.cifar10", *arguments)
    assert said.returncode != 0 and message in said.stderr


def test_weights_are_safetensors(tmp_path):
    images = few(128)
    model, averaged, history = trained(replace(SMALL, average=0), images, out=tmp_path)
    assert averaged is None
    cifar10.finish(model, averaged, replace(SMALL, average=0), images, history, tmp_path, surroundings())
    assert load_file(tmp_path / "weights.safetensors").keys() == model.state_dict().keys()
    assert read_record(tmp_path).facts["weights"] == "last"
