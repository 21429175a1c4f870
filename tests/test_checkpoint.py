"""A run that survives: exact resume whatever happens, what a state holds, and what is refused."""

import csv
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from killed_run import run
from small_runs import CONFIG, batches, data, small_vit, weights, without_times
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from vit_edu.checkpoint import Keeper, MovingAverage, train_resumably
from vit_edu.records import read_record, write_record
from vit_edu.training import evaluate

KILLS = int(os.environ.get("VIT_EDU_KILLS", 3))


@pytest.mark.parametrize("stop_at", [1, 5, 6, 7, 12, 17, 18])
def test_a_stopped_and_resumed_run_equals_one_that_was_not(stop_at, tmp_path):
    """In the middle of an epoch, at its last step, at the first of the next, at the very end."""

    def go(out, should_stop=None, resume=False):
        model = small_vit(drop_rate=0.1, drop_path_rate=0.2)
        averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        history = train_resumably(
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
    rows = [list(csv.DictReader(open(tmp_path / name / "metrics.csv", encoding="utf-8"))) for name in "ab"]
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
        train_resumably(model, loader, replace(CONFIG, epochs=2), out=out, **more)
        return weights(model)

    steps = iter(range(1, 100))
    go(tmp_path / "b", should_stop=lambda: next(steps) == 10)
    expected, resumed = go(tmp_path / "a"), go(tmp_path / "b", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(expected, resumed))


def test_figures_of_any_kind_can_be_resumed(tmp_path):
    figures = lambda m: {"a": np.mean([0.5]), "b": torch.tensor(0.25)}  # noqa: E731
    train_resumably(small_vit(), batches(), CONFIG, evaluate=figures, out=tmp_path)
    rows = train_resumably(small_vit(), batches(), CONFIG, evaluate=figures, out=tmp_path, resume=True)
    assert [(row["a"], row["b"]) for row in rows] == [(0.5, 0.25)] * 3


def final_state(out: Path) -> tuple[dict, list]:
    state = torch.load(out / "state.pt", weights_only=True)
    return state, without_times(list(csv.DictReader(open(out / "metrics.csv", encoding="utf-8"))))


def test_a_killed_run_resumes_as_if_nothing_had_happened(tmp_path):
    """`kill -9` before, during and after saving, after a step, at any time; then one run to the end."""
    chance = random.Random(0)
    kills = []
    for i in range(KILLS):
        moment = ("during", "after", "before", "step", "any")[i % 5]
        kills += [moment, str(chance.randrange(50) if moment == "any" else chance.choice([1, 2]))]
    script = Path(__file__).with_name("killed_run.py")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, script, tmp_path / "killed", *kills], env=environment, check=True)
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


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_state(tmp_path):
    train_resumably(small_vit(), batches(), replace(CONFIG, epochs=3), out=tmp_path, should_stop=lambda: True)
    before = (tmp_path / "state.pt").read_bytes()
    broken = small_vit()

    def break_weights(state):
        if state.step == 4:
            broken.head.weight.data.fill_(float("nan"))

    with pytest.raises(FloatingPointError, match="nan at step 4.*state.pt.*Lower lr"):
        train_resumably(broken, batches(), CONFIG, out=tmp_path, resume=True, after_step=break_weights)
    assert (tmp_path / "state.pt").read_bytes() == before


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    model, before = small_vit(), []

    def break_weights(state):
        before.append((tmp_path / "state.pt").read_bytes())
        model.head.bias.data[0] = float("inf")

    with pytest.raises(FloatingPointError, match="weights is inf at step 0"):
        train_resumably(model, batches(), CONFIG, out=tmp_path, after_step=break_weights, should_stop=lambda: True)
    assert (tmp_path / "state.pt").read_bytes() == before[0]


@pytest.fixture
def begun(tmp_path) -> Path:
    """The folder of a run that was stopped after its first step."""
    train_resumably(small_vit(), batches(), CONFIG, out=tmp_path, should_stop=lambda: True)
    return tmp_path


def test_a_run_is_not_overwritten(begun):
    before = (begun / "state.pt").read_bytes()
    with pytest.raises(FileExistsError, match="resume=True"):
        train_resumably(small_vit(), batches(), CONFIG, out=begun)
    assert (begun / "state.pt").read_bytes() == before


@pytest.mark.parametrize("name", ["run.json", "metrics.csv"])
@pytest.mark.parametrize("resume", [False, True])
def test_the_records_of_a_run_without_state_are_not_overwritten(name, resume, tmp_path):
    (tmp_path / name).write_text("old")
    with pytest.raises(FileExistsError, match=f"{name}, nothing is overwritten"):
        train_resumably(small_vit(), batches(), CONFIG, out=tmp_path, resume=resume)
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_text() == "old"


def test_a_state_of_another_identity_is_refused(tmp_path):
    train_resumably(small_vit(), batches(), CONFIG, out=tmp_path, identity={"recipe": "a"})
    with pytest.raises(ValueError, match="recipe was 'a', now 'b'"):
        train_resumably(small_vit(), batches(), CONFIG, out=tmp_path, resume=True, identity={"recipe": "b"})
    train_resumably(small_vit(), batches(), CONFIG, out=tmp_path, resume=True, identity={"recipe": "a"})


UNUSABLE = [
    ("empty", DataLoader(data(4), 8, drop_last=True), CONFIG),
    ("warm-up of 5 epochs does not fit into 3", batches(), replace(CONFIG, warmup_epochs=5)),
    ("persistent", DataLoader(data(), 8, num_workers=1, persistent_workers=True), CONFIG),
    ("precision 'half'", batches(), replace(CONFIG, precision="half")),
]


@pytest.mark.parametrize("message, loader, config", UNUSABLE, ids=[message for message, *_ in UNUSABLE])
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(message, loader, config, tmp_path):
    with pytest.raises(ValueError, match=message):
        train_resumably(small_vit(), loader, config, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_a_file_is_refused_before_training(tmp_path):
    (tmp_path / "run").write_text("")
    steps = []
    with pytest.raises(OSError):
        train_resumably(small_vit(), batches(), CONFIG, out=tmp_path / "run", after_step=steps.append)
    assert not steps


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
        train_resumably(*make(), out=begun, resume=True)
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
        train_resumably(small_vit(), batches(), CONFIG, out=begun, resume=True)
    assert path.read_bytes() == before


def test_a_state_that_cannot_be_opened_says_why(begun):
    (begun / "state.pt").unlink()
    (begun / "state.pt").mkdir()
    with pytest.raises(OSError):
        train_resumably(small_vit(), batches(), CONFIG, out=begun, resume=True)


def test_resuming_without_a_state_starts_anew(tmp_path):
    assert len(train_resumably(small_vit(), batches(), CONFIG, out=tmp_path, resume=True)) == 3


class Odd:
    pass


def test_numbers_of_numpy_and_paths_are_kept_and_read_back(tmp_path):
    """Settings, a model's arguments, a group's rate, the identity: what comes back is plain."""
    config = replace(CONFIG, lr=np.linspace(0, 1e-3, 4)[3], epochs=np.int64(2), betas=(np.float64(0.9), 0.99))
    identity = {"data": Path("pictures"), "name": np.str_("a"), "share": np.float32(0.5), "sizes": [np.int64(3)]}

    def go(resume=False):
        model = small_vit(mlp_ratio=np.float64(2))
        groups = [dict(params=list(model.parameters()), lr_scale=np.float64(0.5))]
        optimizer = torch.optim.AdamW(groups, lr=np.float64(1e-3))
        options = dict(out=tmp_path, resume=resume, identity=identity, optimizer=optimizer)
        return train_resumably(model, batches(), config, **options)

    assert go() == go(resume=True)
    run = torch.load(tmp_path / "state.pt", weights_only=True)["run"]
    assert run["lr"] == 1e-3 and type(run["lr"]) is type(run["mlp_ratio"]) is float
    assert (run["data"], run["name"], run["share"], run["sizes"]) == ("pictures", "a", 0.5, [3])


@pytest.mark.parametrize("value", [Odd(), torch.zeros(3), np.zeros(2), {"deep": [Odd()]}], ids=lambda v: type(v).__name__)
def test_what_a_state_cannot_hold_is_refused_before_the_first_step(value, tmp_path):
    steps = []
    options = dict(out=tmp_path / "run", identity={"what": value}, after_step=steps.append)
    with pytest.raises(ValueError, match=r"identity\['what'\].* is of kind .*, which a saved state cannot hold"):
        train_resumably(small_vit(), batches(), CONFIG, **options)
    assert not steps and not (tmp_path / "run").exists()


def test_a_first_state_that_cannot_be_read_back_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "save", lambda content, path: Path(path).write_bytes(b"half"))
    with pytest.raises(ValueError, match="is not the state of a training run"):
        train_resumably(small_vit(), batches(), CONFIG, out=tmp_path)


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    train_resumably(small_vit(), batches(), CONFIG, out="~/run", should_stop=lambda: True)
    assert os.listdir(tmp_path) == ["run"] and (tmp_path / "run" / "state.pt").exists()
    Keeper(small_vit(), "~/run", 1)({"epoch": 1, "val_accuracy": 0.5})
    write_record("~/run", place="here")
    assert read_record("~/run").facts == {"place": "here"}
    assert sorted(os.listdir(tmp_path)) == ["run"] and (tmp_path / "run" / "best.safetensors").exists()


def test_a_models_own_config_of_another_kind_is_left_alone(tmp_path):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    model.config = Odd()
    train_resumably(model, batches(), CONFIG, out=tmp_path, should_stop=lambda: True)


def test_the_average_forgets_its_start(tmp_path):
    """Against the recurrence by hand; buffers of whole numbers are copied."""
    model = torch.nn.BatchNorm1d(2)
    averaged, expected = MovingAverage(model, 0.9), None
    for n, value in enumerate([1.0, 4.0, 2.0, 5.0]):
        torch.nn.init.constant_(model.weight, value)
        model.num_batches_tracked += 1
        averaged.update_parameters(model)
        kept = min(0.9, (1 + n) / (10 + n)) if n else 0.0
        expected = value if expected is None else kept * expected + (1 - kept) * value
        assert averaged.module.weight[0].item() == pytest.approx(expected)
    assert averaged.module.num_batches_tracked == 4
    with pytest.raises(ValueError, match=r"decay 1 is not in \[0, 1\)"):
        MovingAverage(model, 1)
