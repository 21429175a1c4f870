"""What every training command shares: the digits' runs, requests to stop, options, records."""

import importlib.metadata
import json
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from vit_edu import digits, experiment
from vit_edu.experiment import stop_request, train_on_digits
from vit_edu.optimizer import TrainingConfig
from vit_edu.records import hardware, read_record, recorded, surroundings, write_record
from vit_edu.weights import load_model


def test_the_digits_refuse_the_state_of_another_recipe(tmp_path):
    train_on_digits("baseline", out=tmp_path, epochs=1)
    with pytest.raises(ValueError, match="recipe was 'baseline', now 'no-residuals'"):
        train_on_digits("no-residuals", out=tmp_path, epochs=1, resume=True)


def test_a_missing_package_is_left_out_of_the_record(monkeypatch):
    version = importlib.metadata.version

    def without_torchvision(name):
        if name == "torchvision":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without_torchvision)
    assert surroundings()["versions"].keys() == {"python", "torch", "numpy"}


@pytest.mark.parametrize("kind", ["SIGTERM", "SIGINT"])
def test_a_signal_that_arrives_twice_is_one_request(kind):
    """The system tells a process, and a launcher tells it again."""
    before = signal.getsignal(getattr(signal, kind))
    with stop_request() as asked:
        assert not asked()
        for _ in range(3):
            signal.raise_signal(getattr(signal, kind))
            assert asked()
    assert signal.getsignal(getattr(signal, kind)) is before


def test_only_a_later_ctrl_c_is_impatience(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(experiment.time, "monotonic", lambda: clock[0])
    with stop_request():
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
        clock[0] += 60
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_minutes_ask_to_stop(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(experiment.time, "monotonic", lambda: clock[0])
    with stop_request(2) as asked:
        assert not asked()
        clock[0] = 121.0
        assert asked()


def test_in_a_thread_no_signal_is_touched(tmp_path):
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        try:
            with stop_request(0.0) as asked:
                seen.extend([signal.getsignal(signal.SIGTERM) is before, asked()])
        except ValueError as error:
            seen.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True, True]


def test_a_system_without_sigterm(monkeypatch):
    monkeypatch.delattr(signal, "SIGTERM")
    with stop_request() as asked:
        signal.raise_signal(signal.SIGINT)
        assert asked()


def test_a_handler_that_python_did_not_set_is_no_obstacle(monkeypatch):
    """`signal.signal` answers None where C code had set the handler."""
    given = []
    monkeypatch.setattr(signal, "signal", lambda number, handler: given.append(handler))
    with stop_request():
        pass
    assert given[2:] == [signal.SIG_DFL] * 2


def run_main(monkeypatch, *options) -> None:
    monkeypatch.setattr(sys, "argv", ["experiment", *map(str, options)])
    experiment.main()


@pytest.mark.parametrize("options", [["--epochs", "0"], ["--epochs", "-1"], ["--epochs", "2.5"], ["--epochs", "x"]])
def test_the_digits_refuse_epochs_below_one(options, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run_main(monkeypatch, *options)
    assert "is not a whole number from 1 on" in capsys.readouterr().err
    with pytest.raises(ValueError, match="epochs is 0; choose a number from 1 on"):
        train_on_digits("baseline", epochs=0)


@pytest.mark.parametrize("options", [["--seed", "-1"], ["--lr", "0"], ["--lr", "-1"], ["--lr", "nan"], ["--minutes", "0"], ["--matrix-lr", "x"]])
def test_options_say_what_they_take(options, capsys):
    parser = experiment.training_options("vit_edu.none", ["a"], "a", None)
    with pytest.raises(SystemExit):
        parser.parse_args(options)
    assert "is not a number above 0" in (said := capsys.readouterr().err) or "from 0 on" in said


def test_the_command_changes_what_it_names():
    parser = experiment.training_options("vit_edu.none", ["a"], "a", None)
    usual = TrainingConfig(warmup_epochs=5)
    assert experiment.chosen_training(parser.parse_args([]), usual) == TrainingConfig(warmup_epochs=4)
    args = parser.parse_args("--seed 0 --epochs 10 --lr 0.5 --matrix-lr 0.1 --precision float32 --accumulate 2".split())
    assert experiment.chosen_training(args, usual) == TrainingConfig(
        epochs=10, lr=0.5, matrix_lr=0.1, precision="float32", accumulate=2, warmup_epochs=1
    )


def test_the_digits_stop_go_on_and_leave_weights_that_know_their_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    steps = iter(range(1, 100))
    out = "~/rün"
    train_on_digits("baseline", out=out, epochs=1, should_stop=lambda: next(steps) == 5)
    assert [path.name for path in (tmp_path / "rün").iterdir()] == ["state.pt"]
    run_main(monkeypatch, "--out", out, "--epochs", 1, "--resume")
    record = read_record(out)
    assert record.facts["command"] == "python -m vit_edu.experiment --recipe baseline --seed 0 --epochs 1"
    assert record.metrics[0]["positions"] == pytest.approx(0.5, abs=0.1)
    prepared = load_model(tmp_path / "rün" / "weights.safetensors").preparation
    said = prepared if isinstance(prepared, dict) else asdict(prepared)
    assert list(said["classes"]) == list("0123456789")
    images, _, rows, _ = digits.split_digits()
    inputs = (images[rows] - said["mean"][0]) / said["std"][0]
    torch.testing.assert_close(inputs, digits.load_digits_split()[0].tensors[0])


def test_recorded_commands_rebuild_their_settings():
    parser_of = {"--recipe": str, "--seed": int, "--epochs": int}
    for record in recorded("digits-"):
        if "command" not in record.facts:
            continue
        words = record.facts["command"].split()[3:]
        given = {name: parser_of[name](value) for name, value in zip(words[::2], words[1::2])}
        recipe = digits.RECIPES[given["--recipe"]]
        now = asdict(recipe.training) | {"seed": given["--seed"], "epochs": given.get("--epochs", recipe.training.epochs)}
        stored = dict(record.facts["config"]["training"])
        stored["betas"] = tuple(stored["betas"])
        assert asdict(TrainingConfig(**stored)) == now, record.name


def test_records_take_any_kind_of_fact_in_utf8(tmp_path):
    write_record(tmp_path, share=np.float32(0.5), sizes=np.arange(2), place=Path("a"), name="Zürich")
    assert "Zürich" in (tmp_path / "run.json").read_bytes().decode("utf-8")
    assert read_record(tmp_path).facts == {"share": 0.5, "sizes": [0, 1], "place": "a", "name": "Zürich"}


def test_threads_are_counted_in_grammar(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for n, words in {1: "1 thread", 2: "2 threads"}.items():
        monkeypatch.setattr(torch, "get_num_threads", lambda n=n: n)
        assert hardware().endswith(f", {words}")
    for record in recorded("digits-"):
        assert ", 1 threads" not in json.dumps(record.facts), record.name
