"""ImageNet: any number of processes is one; what is killed, stopped or broken goes on or says why."""

import errno
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import imagenet_run
import pytest
import torch
from command_line import python_m
from small_folders import write_pictures
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vit_edu import imagenet, training
from vit_edu.checkpoint import Keeper, MovingAverage
from vit_edu.imagenet import build_model, fit, train_model
from vit_edu.imagenet_recipes import RECIPES, layer_decayed, settings, vit, without_augmentation
from vit_edu.model import VisionTransformer
from vit_edu.optimizer import TrainingConfig
from vit_edu.photographs import Pictures
from vit_edu.processes import Group
from vit_edu.records import read_record
from vit_edu.weights import load_model, read_weights, save_weights

KILLS = int(os.environ.get("VIT_EDU_KILLS", 3))
ALONE = Group(0, 1, torch.device("cpu"))


@pytest.fixture(scope="session")
def pictures_folder(tmp_path_factory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def data(pictures_folder, tmp_path) -> Path:
    """A copy that a test may spoil."""
    import shutil

    return Path(shutil.copytree(pictures_folder, tmp_path / "data"))


def small(**changes) -> imagenet.Recipe:
    recipe = replace(RECIPES["smoke"], batch_size=8, warmup_steps=2, **changes)
    return replace(recipe, model=vit(16, 1, 2, img_size=16, patch_size=8))


SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["vit_edu.imagenet", "torch._dynamo"])    # imported once, by the process that forks the others


def launched(*arguments, torchrun: int = 0) -> tuple[int, str]:
    """A run's exit status and what it printed: a process of its own, or as many as torchrun shall start."""
    arguments = [str(argument) for argument in arguments]
    if torchrun:
        start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={torchrun}"]
        command = [sys.executable, *start, imagenet_run.__file__, *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        return done.returncode, done.stdout
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as printed:
        running = SERVER.Process(target=imagenet_run.main_into, args=(printed.name, arguments))
        running.start()
        running.join()
        return running.exitcode, printed.read()


def finished(*arguments, torchrun: int = 0) -> str:
    status, text = launched(*arguments, torchrun=torchrun)
    assert status == 0, text
    return text


def weights(out: Path) -> dict:
    return read_weights(out / "weights.safetensors")[0]


def assert_same(one: Path, two: Path) -> None:
    """Two runs' weights are equal within rounding.

    But for the biases of the keys: softmax does not see them, so their gradient is rounding alone, which Adam
    divides by its own size.
    """
    a, b = weights(one), weights(two)
    for name in a:
        if name.endswith("qkv.bias"):
            a[name], b[name] = (torch.cat([t[name].chunk(3)[0], t[name].chunk(3)[2]]) for t in (a, b))
        assert torch.allclose(a[name], b[name], atol=2e-5), name


@pytest.fixture(scope="module")
def whole(pictures_folder, tmp_path_factory) -> Path:
    """A run of one process that was never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    finished(pictures_folder, out)
    return out


# Any number of processes


def test_two_processes_give_the_weights_of_one(whole, pictures_folder, tmp_path):
    """The same global batch, cut in two: the same weights and figures, within rounding."""
    text = finished(pictures_folder, tmp_path / "two", torchrun=2)
    assert text.count("epoch   1/3") == 1, "one process alone reports"
    assert_same(whole, tmp_path / "two")
    records = [read_record(out) for out in (whole, tmp_path / "two")]
    assert [record.facts["processes"] for record in records] == [1, 2]
    for key in "val_loss", "val_accuracy", "averaged_val_loss", "averaged_train_loss", "train_accuracy":
        assert records[0].facts["final"][key] == pytest.approx(records[1].facts["final"][key], abs=1e-4), key
    losses = [[row["train_loss"] for row in record.metrics] for record in records]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4), "of all images, not of one process's part"


def test_muon_in_two_processes(pictures_folder, tmp_path):
    """Muon orthogonalises the averaged gradients, the same in every process; killed, it goes on.

    It works in bfloat16, which turns a difference of rounding into one in the third digit of a step: the weights
    agree within a hundredth of the way they have come, where another gradient would lead elsewhere.
    """
    one, two = tmp_path / "one", tmp_path / "two"
    finished(pictures_folder, one, "--optimizer", "muon")
    status, _ = launched(pictures_folder, two, "--optimizer", "muon", "--kill-at", 5, "--processes", 2)
    assert status and (two / "state.pt").exists() and not (two / "run.json").exists()
    finished(pictures_folder, two, "--optimizer", "muon", "--resume", "--processes", 2)
    a, b = weights(one), weights(two)
    for name in (name for name in a if "blocks" in name and a[name].dim() == 2):
        assert (a[name] - b[name]).norm() < 0.01 * a[name].norm(), name


def test_parts_of_a_batch_in_two_processes(whole, pictures_folder, tmp_path):
    """Two processes of two parts each: gradients are exchanged once, the weights are the same."""
    finished(pictures_folder, tmp_path / "run", "--accumulate", 2, "--processes", 2)
    assert_same(whole, tmp_path / "run")


def test_reading_processes_change_nothing(whole, pictures_folder, tmp_path):
    finished(pictures_folder, tmp_path / "run", "--workers", 2)
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()


def test_a_run_goes_on_with_another_number_of_processes(whole, pictures_folder, tmp_path):
    out = tmp_path / "run"
    assert launched(pictures_folder, out, "--kill-at", 5)[0] == -signal.SIGKILL
    finished(pictures_folder, out, "--resume", "--processes", 2)
    assert_same(whole, out)


# Interrupted


def test_a_killed_run_resumes_exactly(pictures_folder, tmp_path):
    """Killed at random steps, again and again; with all chance on, it ends with the very bytes of a whole run."""
    finished(pictures_folder, tmp_path / "whole", "--own-chance")
    expected = (tmp_path / "whole" / "weights.safetensors").read_bytes()
    chance, done = random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID", "kills")), 0
    while done < KILLS:
        out = tmp_path / f"run-{done}"
        steps = sorted(chance.sample(range(1, 13), min(4, KILLS - done)))
        finished(pictures_folder, out, "--own-chance", "--kills", *steps)
        assert (out / "weights.safetensors").read_bytes() == expected, f"killed at {steps}"
        done += len(steps)


def test_a_process_that_dies_ends_the_others(pictures_folder, tmp_path):
    """The run ends by itself, says which process died, and its state goes on."""
    out = tmp_path / "run"
    status, text = launched(pictures_folder, out, "--kill-at", 5, "--rank", 1, torchrun=2)
    assert status != 0
    assert "SIGKILL" in text or "Signal 9" in text, text
    assert (out / "state.pt").exists()
    finished(pictures_folder, out, "--resume")


def test_a_full_disk_leaves_the_old_state(data, tmp_path, monkeypatch):
    """No space left while a state is written: an error, and the state before it is still good."""
    save, calls = torch.save, []

    def full(state, path):
        calls.append(1)
        if len(calls) == 3:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(state, path)

    monkeypatch.setattr(torch, "save", full)
    recipe = small()
    with pytest.raises(OSError, match="No space left"):
        fit(build_model(recipe, data), recipe, data, ALONE, out=tmp_path / "run", save_every=2, workers=0)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["state.pt"]
    history, _ = fit(build_model(recipe, data), recipe, data, ALONE, out=tmp_path / "run", resume=True, workers=0)
    assert len(history) == recipe.training.epochs


def test_a_loss_that_is_not_finite_stops_with_step_and_state(data, tmp_path):
    recipe = small(training=TrainingConfig(epochs=2, lr=1e30, clip_norm=1e30))
    with pytest.raises(FloatingPointError, match=r"at step \d+; the last saved state is .*state.pt"):
        fit(build_model(recipe, data), recipe, data, ALONE, out=tmp_path / "run", workers=0)


def test_an_unreadable_image_is_named_and_skipped_only_if_asked(data, capsys):
    broken = data / "train" / "bee" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:100])
    pictures = Pictures(data / "train", 16)
    number = [path for path, _ in pictures.folder.samples].index(str(broken))
    with pytest.raises(ValueError, match=r"3\.jpg cannot be read as a picture.*--skip-unreadable"):
        pictures[number, 1]
    skipping = Pictures(data / "train", 16, skip_unreadable=True)
    image, label = skipping[number, 1]
    assert torch.equal(image, pictures[number + 1, 1][0]) and label == 1
    assert "3.jpg" in capsys.readouterr().err
    recipe = small()
    with pytest.raises(ValueError, match="cannot be read"):
        fit(build_model(recipe, data), recipe, data, ALONE, workers=0)
    run = data.parent / "run"
    assert imagenet.run(recipe, data, run, workers=0, skip_unreadable=True), "to the end, the record included"
    assert (run / "run.json").exists()


# Recipes, checkpoints, fine-tuning


def flat(recipe: imagenet.Recipe) -> dict:
    """A recipe's settings by name, defaults included."""
    model = VisionTransformer(**recipe.model | {"embed_dim": 12, "n_heads": 1, "depth": 1}).config
    settings = model | asdict(recipe.training) | asdict(recipe.augmentation)
    own = {name: getattr(recipe, name) for name in ("batch_size", "warmup_steps", "smallest_crop", "average")}
    return settings | own


@pytest.mark.parametrize("name", [name for name in RECIPES if RECIPES[name].published])
def test_a_recipe_is_the_published_one_but_for_what_it_names(name):
    recipe = RECIPES[name]
    ours = flat(recipe)
    differ = {key for key, value in recipe.published.items() if ours.get(key, "-") != value}
    assert differ == set(recipe.differences), "each difference is explained, and nothing else differs"
    assert len(recipe.published) >= 4 and recipe.accuracy and recipe.hours


@pytest.mark.parametrize(
    "options", [[], ["--no-augment", "--seed", "2"], ["--pool", "cls", "--registers", "4", "--lr", "0.0005"]]
)
@pytest.mark.parametrize("name", ["imagenette", "vit_b16_300ep"])
def test_the_recorded_command_asks_for_the_same_again(name, options, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["imagenet", "--recipe", name, *options])
    recipe = imagenet.chosen(imagenet.parse_arguments())
    assert "=" not in recipe.label
    words = recipe.command.split()
    monkeypatch.setattr(sys, "argv", words[words.index("vit_edu.imagenet") :])
    assert imagenet.chosen(imagenet.parse_arguments()) == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_steps(name, data):
    """Its own width, size and augmentation, two blocks of it, on six pictures of three classes."""
    for path in data.glob("train/*/?.jpg"):
        if path.stem not in ("0", "1"):
            path.unlink()
    for path in data.glob("train/*/1?.jpg"):
        path.unlink()
    recipe = RECIPES[name]
    training = replace(recipe.training, epochs=1)
    recipe = replace(recipe, model=recipe.model | {"depth": 2}, training=training, batch_size=6)
    (row,), averaged = fit(build_model(recipe, data), recipe, data, ALONE, workers=0)
    assert (averaged is not None) == bool(recipe.average)
    assert 0 < row["train_loss"] < 20 and 0 <= row["val_accuracy"] <= 1


def test_without_augmentation_each_image_is_always_the_same(data):
    recipe = without_augmentation(RECIPES["imagenette"])
    assert recipe.label == "imagenette-no-augment" and recipe.command.endswith("--no-augment")
    loader, _ = imagenet.loaders(replace(recipe, batch_size=39), data, ALONE, workers=0)
    sums = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        (images, labels), *_ = loader
        sums.append(sorted(images.flatten(1).float().sum(1).tolist()))
    assert sums[0] == sums[1]


def test_the_last_and_the_best_weights_are_kept(tmp_path):
    model = VisionTransformer(16, 8, num_classes=3, embed_dim=8, depth=1, n_heads=1)
    keeper = Keeper(model, tmp_path, last=2)
    for epoch, accuracy in enumerate([0.2, 0.7, 0.5, 0.6], 1):
        nn.init.constant_(model.head.bias, epoch)
        keeper({"epoch": epoch, "val_accuracy": accuracy})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["best.safetensors", "weights-epoch-0003.safetensors", "weights-epoch-0004.safetensors"]
    assert load_model(tmp_path / "best.safetensors").head.bias[0] == 2


def test_the_best_is_that_of_the_whole_run_and_of_the_weights_that_are_kept(tmp_path):
    model = VisionTransformer(16, 8, num_classes=3, embed_dim=8, depth=1, n_heads=1)
    (tmp_path / "metrics.csv").write_text("epoch,val_accuracy,averaged_val_accuracy\n1,0.3,0.8\n")
    keeper = Keeper(MovingAverage(model), tmp_path, last=0)
    keeper({"epoch": 2, "val_accuracy": 0.9, "averaged_val_accuracy": 0.7})
    assert not (tmp_path / "best.safetensors").exists(), "epoch 1 was better, before the resume"
    keeper({"epoch": 3, "val_accuracy": 0.1, "averaged_val_accuracy": 0.9})
    assert (tmp_path / "best.safetensors").exists()


def test_a_folder_of_another_run_is_refused_whatever_its_table_holds(data, tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,train_loss\n1,0.3\n")
    recipe = small()
    with pytest.raises(FileExistsError, match="nothing is overwritten"):
        fit(build_model(recipe, data), recipe, data, ALONE, workers=0, out=tmp_path)


def test_rates_fall_from_the_head_to_the_patches():
    model = VisionTransformer(16, 8, num_classes=3, embed_dim=8, depth=3, n_heads=1)
    config = TrainingConfig(lr=1e-3, weight_decay=0.3)
    optimizer = layer_decayed(model, config, 0.5)
    scales = {}
    names = {id(p): name for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        (parameter,) = group["params"]
        name = names[id(parameter)]
        scales[name] = group["lr_scale"]
        assert group["weight_decay"] == (0.3 if name.endswith("weight") and parameter.ndim >= 2 else 0)
    assert len(scales) == len(names)
    assert scales["head.weight"] == scales["norm.weight"] == 1
    assert scales["blocks.2.mlp.fc1.weight"] == 0.5 and scales["blocks.0.norm1.bias"] == 0.125
    assert scales["pos_embed"] == scales["cls_token"] == scales["patch_embed.proj.weight"] == 0.0625


def test_the_loop_uses_the_scaled_rates(data):
    """With rates of almost zero below the head, only the head learns."""
    recipe = small(training=TrainingConfig(epochs=1, lr=1e-2, weight_decay=0.0))
    model = build_model(recipe, data)
    before = {name: p.clone() for name, p in model.named_parameters()}
    fit(model, recipe, data, ALONE, workers=0, layer_decay=1e-9)
    moved = {name: (p - before[name]).abs().max().item() for name, p in model.named_parameters()}
    assert moved["head.weight"] > 1e-4
    assert max(value for name, value in moved.items() if name.startswith(("blocks", "patch"))) < 1e-6


def test_a_run_begins_with_given_weights(data, tmp_path):
    """All but a head for other classes is taken over; another architecture is refused."""
    recipe = small()
    first = VisionTransformer(**recipe.model | {"num_classes": 7})
    training_weights = tmp_path / "pretrained.safetensors"
    save_weights(first, training_weights)
    model = build_model(recipe, data, str(training_weights))
    assert torch.equal(model.blocks[0].attn.qkv.weight, first.blocks[0].attn.qkv.weight)
    assert model.head.out_features == 3
    other = replace(recipe, model=recipe.model | {"depth": 2})
    with pytest.raises(ValueError, match="another architecture"):
        build_model(other, data, str(training_weights))


def test_training_a_model_of_ones_own(data):
    model = VisionTransformer(16, 8, num_classes=3, embed_dim=8, depth=1, n_heads=1)
    history = train_model(model, data, batch_size=13, epochs=2, workers=0)
    assert len(history) == 2 and history[-1]["lr"] < 1e-3
    with pytest.raises(ValueError, match="num_classes=3"):
        train_model(VisionTransformer(16, 8, num_classes=4, embed_dim=8, depth=1, n_heads=1), data)


def test_the_loop_names_neither_data_nor_processes():
    text = Path(training.__file__).read_text().lower()
    for word in "imagenet", "cifar", "distributed", "rank":
        assert word not in text, word
    assert hasattr(DistributedDataParallel, "no_sync")    # what the loop looks for


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--data", "nowhere"], "nowhere must hold train/ and val/"),
        (["--recipe", "smoke", "--batch-size", "1000"], "more than all 39 images"),
        (["--recipe", "nothing"], "invalid choice"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(arguments, message, pictures_folder, tmp_path):
    if "--data" not in arguments:
        arguments = [*arguments, "--data", str(pictures_folder)]
    said = python_m("vit_edu.imagenet", "--out", tmp_path, *arguments)
    assert said.returncode != 0 and message in said.stderr


def test_the_command_line_trains_lists_and_measures(pictures_folder, tmp_path):
    out = tmp_path / "run"
    options = ["--data", str(pictures_folder), "--out", str(out), "--workers", "0"]
    recipe = ["--recipe", "smoke", "--batch-size", "8", "--pool", "mean", "--registers", "2"]
    done = subprocess.run([sys.executable, "-m", "vit_edu.imagenet", *recipe, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = read_record(out)
    assert record.facts["recipe"] == "smoke-pool-mean-registers-2" and len(record.metrics) == 2
    assert record.facts["data"].startswith("pictures") and "39 to train on, 15 to test" in record.facts["data"]
    measured = python_m("vit_edu.imagenet", "--eval", *options)
    accuracy = round(record.facts["final"]["averaged_val_accuracy"], 4)
    assert f"'val_accuracy': {accuracy}" in measured.stdout, measured.stderr
    listed = python_m("vit_edu.imagenet", "--list").stdout
    for recipe in RECIPES.values():
        assert recipe.command in listed


# What a user may give


@pytest.mark.parametrize("decay", [0, -1, 2, float("nan")])
def test_a_layer_decay_that_is_none_is_refused(decay, data):
    """A 0 is an answer, too: it is not the same as not being asked."""
    model = VisionTransformer(16, 8, num_classes=3, embed_dim=8, depth=1, n_heads=1)
    with pytest.raises(ValueError, match="not above 0 and up to 1; 0.75 is usual"):
        layer_decayed(model, TrainingConfig(), decay)
    recipe = small()
    with pytest.raises(ValueError, match="0.75 is usual"):
        fit(build_model(recipe, data), recipe, data, ALONE, workers=0, layer_decay=decay)


def test_layer_decay_is_for_adamw():
    model = VisionTransformer(16, 8, num_classes=3, embed_dim=8, depth=1, n_heads=1)
    with pytest.raises(ValueError, match="not for optimizer='muon'"):
        layer_decayed(model, TrainingConfig(optimizer="muon"), 0.5)


@pytest.mark.parametrize("wrap", [torch.compile, MovingAverage, nn.DataParallel])
def test_rates_go_by_the_names_of_the_model_inside(wrap):
    model = VisionTransformer(16, 8, num_classes=3, embed_dim=8, depth=2, n_heads=1)
    plain, wrapped = (layer_decayed(m, TrainingConfig(), 0.5) for m in (model, wrap(model)))
    scales = [[group["lr_scale"] for group in optimizer.param_groups] for optimizer in (plain, wrapped)]
    assert scales[0] == scales[1] and set(scales[0]) == {0.125, 0.25, 0.5, 1.0}


@pytest.mark.parametrize("option", [["--layer-decay", "0.5"], ["--registers", "0"], ["--weights", "a/best.safetensors"]])
def test_a_label_and_a_command_say_what_was_asked(option, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["imagenet", "--recipe", "imagenette", *option])
    recipe = imagenet.chosen(imagenet.parse_arguments())
    assert recipe.command.endswith(" ".join(option)) and recipe.label.startswith("imagenette-") and "/" not in recipe.label


@pytest.mark.parametrize("option", [["--workers", "-1"], ["--registers", "-2"], ["--save-every", "0"], ["--keep", "-1"], ["--epochs", "0"]])
def test_numbers_that_mean_nothing_are_refused(option, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["imagenet", *option])
    with pytest.raises(SystemExit):
        imagenet.parse_arguments()
    assert f"{option[1]} is not a whole number" in capsys.readouterr().err


def test_a_run_at_home(data, tmp_path, monkeypatch):
    """`~` in data, out and weights is the home folder; the weights say how pictures were prepared, and the classes."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    recipe = small(training=TrainingConfig(epochs=1))
    assert imagenet.run(recipe, "~/data", "~/run", workers=0, keep=1)
    assert not (tmp_path / "~").exists() and (tmp_path / "run" / "run.json").exists()
    for name in "weights", "best", "weights-epoch-0001":
        known = load_model(tmp_path / "run" / f"{name}.safetensors").preparation
        assert known.classes == ("ant", "bee", "cat"), name
        assert known.mean == pytest.approx((0.485, 0.456, 0.406)) and known.std == pytest.approx((0.229, 0.224, 0.225))
    assert 0 <= imagenet.evaluate_run("~/run", "~/data")["val_accuracy"] <= 1
    model = build_model(recipe, data, "~/run/weights.safetensors")
    assert torch.equal(model.head.weight, load_model(tmp_path / "run" / "weights.safetensors").head.weight)


def test_a_folder_is_checked_and_nothing_trained(data, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["imagenet", "--check", str(data)])
    with pytest.raises(SystemExit) as ended:
        imagenet.main()
    assert ended.value.code == 0 and "39 images of 3 classes" in capsys.readouterr().out
    (data / "val" / "bee" / "0.jpg").write_bytes(b"no picture")
    with pytest.raises(SystemExit) as ended:
        imagenet.main()
    text = capsys.readouterr().out
    assert ended.value.code == 1 and "problem: val: " in text and "0.jpg" in text


def test_settings_hold_what_the_model_and_the_loop_are_given():
    recipe = RECIPES["imagenette64"]
    assert settings(recipe) == flat(recipe) | {name: recipe.model[name] for name in ("embed_dim", "depth", "n_heads")}
