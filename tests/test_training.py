"""The loop: schedule, optimiser, accumulation, exact resume whatever happens, and what it refuses."""

import csv
import importlib.metadata
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from killed_run import run
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from vit_edu import VisionTransformer
from vit_edu.experiment import train_on_digits
from vit_edu.records import surroundings
from vit_edu.optimizer import TrainingConfig, learning_rate, make_optimizer
from vit_edu.training import evaluate, train, training_step

CONFIG = TrainingConfig(epochs=3, lr=1e-3, warmup_epochs=1)
KILLS = int(os.environ.get("VIT_EDU_KILLS", 3))


def small_vit(**overrides) -> VisionTransformer:
    torch.manual_seed(0)
    settings = dict(img_size=8, patch_size=4, in_channels=1, num_classes=4, embed_dim=16, depth=2, n_heads=2)
    return VisionTransformer(**(settings | overrides))


def data(n: int = 48) -> TensorDataset:
    images = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return TensorDataset(images, torch.arange(n) % 4)


def batches(n: int = 48) -> DataLoader:
    return DataLoader(data(n), batch_size=8, shuffle=True)


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.state_dict().values()]


def without_times(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


def test_learning_rate_by_hand():
    config = TrainingConfig(epochs=10, lr=1.0, final_lr=0.0, warmup_epochs=2)
    rates = [learning_rate(step, 4, config) for step in range(41)]
    assert rates[0] == 1 / 8 and rates[7] == rates[8] == 1.0 and max(rates) == 1.0
    assert rates[24] == pytest.approx(0.5) and rates[40] == pytest.approx(0)
    assert learning_rate(0, 4, replace(config, warmup_epochs=0)) == 1.0


def test_only_matrices_decay():
    model = small_vit(n_registers=1)
    decayed = {id(p) for p in make_optimizer(model, CONFIG).param_groups[0]["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in decayed}
    assert names == {
        name for name, module in model.named_modules() for name in [f"{name}.weight"]
        if isinstance(module, nn.Linear | nn.Conv2d)
    }  # fmt: skip


def test_the_optimiser_gets_the_settings():
    matrices, others = make_optimizer(
        small_vit(), replace(CONFIG, lr=0.3, weight_decay=0.2, betas=(0.7, 0.8))
    ).param_groups
    assert matrices["weight_decay"] == 0.2 and others["weight_decay"] == 0.0
    assert all(group["lr"] == 0.3 and group["betas"] == (0.7, 0.8) for group in (matrices, others))


def test_every_step_has_the_rate_of_the_schedule_and_the_model_in_training_mode():
    def look(state):
        expected = learning_rate(state.step - 1, 6, CONFIG)
        assert all(group["lr"] == expected for group in state.optimizer.param_groups)
        assert state.model.training

    def evaluating(model):
        model.eval()  # and leaves it so
        return {}

    rows = train(small_vit().eval(), batches(), CONFIG, evaluate=evaluating, after_step=look)
    assert [row["lr"] for row in rows] == [learning_rate(step, 6, CONFIG) for step in (5, 11, 17)]


def test_the_loss_is_the_smoothed_one():
    images, labels = data(8).tensors
    model = small_vit()
    nn.init.normal_(model.head.weight)
    expected = F.cross_entropy(model(images), labels, label_smoothing=0.3)
    loss = training_step(model, make_optimizer(model, CONFIG), (images, labels), replace(CONFIG, label_smoothing=0.3))
    torch.testing.assert_close(loss, expected.detach())


def test_the_speed_is_images_by_seconds():
    started = time.perf_counter()
    rows = train(small_vit(), batches(44), CONFIG, after_step=lambda state: time.sleep(0.005))
    assert 3 * 6 * 0.005 <= sum(row["seconds"] for row in rows) <= time.perf_counter() - started
    assert all(row["images_per_second"] * row["seconds"] == pytest.approx(44) for row in rows)


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_accumulating_parts_equals_one_batch(parts):
    batch = data(8).tensors
    results = []
    for accumulate in (1, parts):
        model = small_vit().double()
        nn.init.normal_(model.head.weight, std=0.1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        config = replace(CONFIG, accumulate=accumulate, clip_norm=1e9)
        loss = training_step(model, optimizer, (batch[0].double(), batch[1]), config)
        results.append((loss.item(), weights(model)))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    for a, b in zip(results[0][1], results[1][1]):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_soft_targets_equal_hard_ones():
    images, labels = data(8).tensors
    losses = []
    for targets in (labels, F.one_hot(labels, 4).float()):
        model = small_vit()
        nn.init.normal_(model.head.weight, std=0.1)
        losses.append(training_step(model, make_optimizer(model, CONFIG), (images, targets), CONFIG))
    torch.testing.assert_close(*losses)


def test_clipping_bounds_the_step():
    """A plain step of rate 1 moves the weights by the clipped gradient: by clip_norm at most."""
    model = small_vit()
    nn.init.normal_(model.head.weight, std=10.0)
    before = weights(model)
    training_step(model, torch.optim.SGD(model.parameters(), lr=1.0), data(8).tensors, replace(CONFIG, clip_norm=0.5))
    moved = sum((a - b).square().sum() for a, b in zip(before, weights(model))).sqrt()
    assert moved.item() == pytest.approx(0.5, rel=1e-3)


def test_evaluate_by_hand_and_in_evaluation_mode():
    model = small_vit(drop_rate=0.5)
    nn.init.normal_(model.head.weight)
    figures = evaluate(model, DataLoader(data(10), 4))
    assert model.training
    logits, labels = model.eval()(data(10).tensors[0]), data(10).tensors[1]
    assert figures["accuracy"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert figures["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)


def test_same_seed_same_weights_other_seed_other_weights():
    results = []
    for seed in (0, 0, 1):
        model = small_vit(drop_rate=0.1)
        history = train(model, batches(), replace(CONFIG, seed=seed))
        results.append((without_times(history), weights(model)))
    assert results[0][0] == results[1][0] != results[2][0]
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1]))


@pytest.mark.parametrize("stop_at", [1, 5, 6, 7, 12, 17, 18])
def test_a_stopped_and_resumed_run_equals_one_that_was_not(stop_at, tmp_path):
    """In the middle of an epoch, at its last step, at the first of the next, at the very end."""

    def go(out, should_stop=None, resume=False):
        model = small_vit(drop_rate=0.1, drop_path_rate=0.2)
        averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        history = train(
            model, batches(), CONFIG, averaged=averaged, out=out, resume=resume, should_stop=should_stop,
            evaluate=lambda m: evaluate(m, DataLoader(data(), 48)),
            prepare_batch=lambda x, y: (x + torch.randn_like(x), y),
        )  # fmt: skip
        return without_times(history), weights(model) + weights(averaged)

    steps = iter(range(1, 100))
    go(tmp_path / "b", should_stop=lambda: next(steps) == stop_at)
    expected, resumed = go(tmp_path / "a"), go(tmp_path / "b", resume=True)
    assert expected[0] == resumed[0] and len(resumed[0]) == 3
    assert all(torch.equal(a, b) for a, b in zip(expected[1], resumed[1]))
    rows = [list(csv.DictReader(open(tmp_path / name / "metrics.csv"))) for name in "ab"]
    assert without_times(rows[0]) == without_times(rows[1])


class NoisyData(torch.utils.data.Dataset):
    def __len__(self):
        return 48

    def __getitem__(self, i):
        image, label = data()[i]
        return image + torch.randn_like(image), label


@pytest.mark.parametrize(
    "options",
    [dict(), dict(num_workers=2), dict(own=True), dict(num_workers=2, own=True), dict(sampler=True),
     dict(num_workers=2, plain=True)],
    ids=str,
)
def test_chance_in_the_data_and_generators_of_the_loader_resume_exactly(options, tmp_path):
    """In the second epoch, two batches before its end."""

    def go(out, **more):
        model, dataset = small_vit(), NoisyData()
        torch.seed()  # whatever was drawn before
        generator = torch.Generator()
        generator.seed()
        if "sampler" in options:
            order = dict(sampler=torch.utils.data.RandomSampler(dataset, generator=generator))
        elif "plain" in options:  # the workers' seeds alone come from the generator
            order = dict(generator=generator)
        else:
            order = dict(shuffle=True, generator=generator if "own" in options else None)
        loader = DataLoader(dataset, 8, num_workers=options.get("num_workers", 0), **order)
        train(model, loader, replace(CONFIG, epochs=2), out=out, **more)
        return weights(model)

    steps = iter(range(1, 100))
    go(tmp_path / "b", should_stop=lambda: next(steps) == 10)
    expected, resumed = go(tmp_path / "a"), go(tmp_path / "b", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(expected, resumed))


@pytest.mark.parametrize("generator", [None, torch.Generator()], ids=["torch's", "own"])
def test_every_epoch_has_its_own_order(generator):
    seen = []
    loader = DataLoader(data(), 48, shuffle=True, generator=generator)
    train(small_vit(), loader, CONFIG, prepare_batch=lambda x, y: seen.append(y.tolist()) or (x, y))
    assert seen[0] != seen[1] != seen[2] != seen[0]


def test_figures_of_any_kind_can_be_resumed(tmp_path):
    figures = lambda m: {"a": np.mean([0.5]), "b": torch.tensor(0.25)}  # noqa: E731
    train(small_vit(), batches(), CONFIG, evaluate=figures, out=tmp_path)
    rows = train(small_vit(), batches(), CONFIG, evaluate=figures, out=tmp_path, resume=True)
    assert [(row["a"], row["b"]) for row in rows] == [(0.5, 0.25)] * 3


def final_state(out: Path) -> tuple[dict, list]:
    state = torch.load(out / "state.pt", weights_only=True)
    return state, without_times(list(csv.DictReader(open(out / "metrics.csv"))))


def test_a_killed_run_resumes_as_if_nothing_had_happened(tmp_path):
    """`kill -9` before, during and after saving, after a step, at any time; then one run to the end."""
    script = [sys.executable, str(Path(__file__).with_name("killed_run.py"))]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    chance = random.Random(0)
    for i in range(KILLS):
        moment = ("during", "after", "before", "step", "any")[i % 5]
        command = [*script, str(tmp_path / "killed")]
        if moment != "any":
            command += [moment, str(chance.choice([1, 2]))]
        child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        if moment == "any":
            assert child.stdout.readline() == "begun\n"
            time.sleep(chance.uniform(0, 0.05))
            child.kill()
        child.communicate()
        assert child.returncode == -signal.SIGKILL, f"kill {i} ({moment}) did not happen"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run(tmp_path / "killed")
        run(tmp_path / "whole")
    finally:
        torch.set_num_threads(threads)
    (killed, killed_rows), (whole, whole_rows) = final_state(tmp_path / "killed"), final_state(tmp_path / "whole")
    assert killed_rows == whole_rows and len(whole_rows) == 3
    assert sorted(os.listdir(tmp_path / "killed")) == ["metrics.csv", "state.pt"]
    assert killed["step"] == whole["step"] == 36
    for part in ("model", "averaged"):
        assert killed[part].keys() == whole[part].keys()
        assert all(torch.equal(killed[part][name], whole[part][name]) for name in whole[part])
    for name, moments in whole["optimizer"]["state"].items():
        assert all(torch.equal(moments[key], killed["optimizer"]["state"][name][key]) for key in moments)


def test_hooks_are_called_and_a_sampler_learns_the_epoch():
    class Sampler(torch.utils.data.SequentialSampler):
        epochs = []

        def set_epoch(self, epoch):
            self.epochs.append(epoch)

    steps, rows = [], []
    dataset = data()
    loader = DataLoader(dataset, 8, sampler=Sampler(dataset))
    config = replace(CONFIG, epochs=2)
    train(small_vit(), loader, config, after_step=lambda state: steps.append(state.step), after_epoch=rows.append)
    assert Sampler.epochs == [0, 1] and steps == list(range(1, 13)) and [row["epoch"] for row in rows] == [1, 2]


def test_one_line_an_epoch(capsys):
    train(small_vit(), batches(), replace(CONFIG, epochs=2), evaluate=lambda m: {"test_accuracy": 0.5})
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 2 and out[1].startswith("epoch   2/2  train loss 1.") and "test accuracy 0.500" in out[1]


def test_bfloat16_trains():
    model, kinds = small_vit(), set()
    model.head.register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
    train(model, batches(), replace(CONFIG, precision="float32"))
    assert kinds == {torch.float32}
    kinds.clear()
    model = small_vit()
    model.head.register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
    history = train(model, batches(), replace(CONFIG, precision="bfloat16"))
    assert kinds == {torch.bfloat16}
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert all(p.dtype == torch.float32 for p in model.parameters())
    with pytest.raises(ValueError, match="'half'.*'bfloat16'"):
        train(model, batches(), replace(CONFIG, precision="half"))


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_state(tmp_path):
    train(small_vit(), batches(), replace(CONFIG, epochs=3), out=tmp_path, should_stop=lambda: True)
    before = (tmp_path / "state.pt").read_bytes()
    broken = small_vit()

    def break_weights(state):
        if state.step == 4:
            broken.head.weight.data.fill_(float("nan"))

    with pytest.raises(FloatingPointError, match="nan at step 4.*state.pt.*Lower lr"):
        train(broken, batches(), CONFIG, out=tmp_path, resume=True, after_step=break_weights)
    assert (tmp_path / "state.pt").read_bytes() == before


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    model, before = small_vit(), []

    def break_weights(state):
        before.append((tmp_path / "state.pt").read_bytes())
        model.head.bias.data[0] = float("inf")

    with pytest.raises(FloatingPointError, match="weights is inf at step 0"):
        train(model, batches(), CONFIG, out=tmp_path, after_step=break_weights, should_stop=lambda: True)
    assert (tmp_path / "state.pt").read_bytes() == before[0]


def test_a_loss_that_is_not_finite_is_found_within_fifty_steps():
    model, steps = small_vit(), []

    def break_weights(state):
        steps.append(state.step)
        if state.step == 4:
            model.head.weight.data.fill_(float("nan"))

    with pytest.raises(FloatingPointError, match="loss is nan at step 4;.*nowhere"):
        train(model, DataLoader(data(64), 1), CONFIG, after_step=break_weights)
    assert len(steps) < 50


@pytest.fixture
def begun(tmp_path) -> Path:
    """The folder of a run that was stopped after its first step."""
    train(small_vit(), batches(), CONFIG, out=tmp_path, should_stop=lambda: True)
    return tmp_path


def test_a_run_is_not_overwritten(begun):
    before = (begun / "state.pt").read_bytes()
    with pytest.raises(FileExistsError, match="resume=True"):
        train(small_vit(), batches(), CONFIG, out=begun)
    assert (begun / "state.pt").read_bytes() == before


@pytest.mark.parametrize("name", ["run.json", "metrics.csv"])
@pytest.mark.parametrize("resume", [False, True])
def test_the_records_of_a_run_without_state_are_not_overwritten(name, resume, tmp_path):
    (tmp_path / name).write_text("old")
    with pytest.raises(FileExistsError, match=f"{name}, nothing is overwritten"):
        train(small_vit(), batches(), CONFIG, out=tmp_path, resume=resume)
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_text() == "old"


def test_a_state_of_another_identity_is_refused(tmp_path):
    train(small_vit(), batches(), CONFIG, out=tmp_path, identity={"recipe": "a"})
    with pytest.raises(ValueError, match="recipe was 'a', now 'b'"):
        train(small_vit(), batches(), CONFIG, out=tmp_path, resume=True, identity={"recipe": "b"})
    train(small_vit(), batches(), CONFIG, out=tmp_path, resume=True, identity={"recipe": "a"})


def test_the_digits_refuse_the_state_of_another_recipe(tmp_path):
    train_on_digits("baseline", out=tmp_path, epochs=1)
    with pytest.raises(ValueError, match="recipe was 'baseline', now 'no-residuals'"):
        train_on_digits("no-residuals", out=tmp_path, epochs=1, resume=True)


UNUSABLE = [
    ("empty", DataLoader(data(4), 8, drop_last=True), CONFIG),
    ("warm-up of 5 epochs does not fit into 3", batches(), replace(CONFIG, warmup_epochs=5)),
    ("persistent", DataLoader(data(), 8, num_workers=1, persistent_workers=True), CONFIG),
    ("precision 'half'", batches(), replace(CONFIG, precision="half")),
]


@pytest.mark.parametrize("message, loader, config", UNUSABLE, ids=[message for message, *_ in UNUSABLE])
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(message, loader, config, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(small_vit(), loader, config, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_a_file_is_refused_before_training(tmp_path):
    (tmp_path / "run").write_text("")
    steps = []
    with pytest.raises(OSError):
        train(small_vit(), batches(), CONFIG, out=tmp_path / "run", after_step=steps.append)
    assert not steps


def test_evaluating_nothing_is_an_error():
    with pytest.raises(ValueError, match="no batch to evaluate"):
        evaluate(small_vit(), [])


def test_a_missing_package_is_left_out_of_the_record(monkeypatch):
    version = importlib.metadata.version

    def without_torchvision(name):
        if name == "torchvision":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without_torchvision)
    assert surroundings()["versions"].keys() == {"python", "torch", "numpy"}


REFUSED = [
    ("lr was 0.001, now 0.01", lambda: (small_vit(), batches(), replace(CONFIG, lr=0.01))),
    ("epochs was 3, now 4", lambda: (small_vit(), batches(), replace(CONFIG, epochs=4))),
    ("embed_dim was 16, now 32", lambda: (small_vit(embed_dim=32), batches(), CONFIG)),
    ("steps_per_epoch was 6, now 3", lambda: (small_vit(), batches(24), CONFIG)),
]


@pytest.mark.parametrize("message, make", REFUSED, ids=[message for message, _ in REFUSED])
def test_a_state_of_another_run_is_refused(message, make, begun):
    before = (begun / "state.pt").read_bytes()
    with pytest.raises(ValueError, match=message):
        train(*make(), out=begun, resume=True)
    assert (begun / "state.pt").read_bytes() == before


DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:1000]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a state"),
    "another file": lambda path: torch.save({"weights": torch.zeros(3)}, path),
    "a tensor": lambda path: torch.save(torch.zeros(3), path),
    "a number": lambda path: torch.save(3, path),
    "a list for a run": lambda path: torch.save({"run": [1]}, path),
    "no optimizer": lambda path: torch.save(
        {k: v for k, v in torch.load(path, weights_only=True).items() if k != "optimizer"}, path
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_refused_and_kept(damage, begun):
    path = begun / "state.pt"
    DAMAGES[damage](path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="is not the state of a training run; move it away"):
        train(small_vit(), batches(), CONFIG, out=begun, resume=True)
    assert path.read_bytes() == before


def test_a_state_that_cannot_be_opened_says_why(begun):
    (begun / "state.pt").unlink()
    (begun / "state.pt").mkdir()
    with pytest.raises(OSError):
        train(small_vit(), batches(), CONFIG, out=begun, resume=True)


def test_resuming_without_a_state_starts_anew(tmp_path):
    assert len(train(small_vit(), batches(), CONFIG, out=tmp_path, resume=True)) == 3
