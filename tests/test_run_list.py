"""A list of runs is worked through: what is finished is skipped, what was stopped goes on, and the list is checked."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from chapters import ROOT
from run_list import read_list

COMMAND = [sys.executable, str(ROOT / "tools" / "run_list.py")]


def test_the_projects_own_list_is_in_order():
    """Every run has the name that its recipe, changes and seed give it, and a command that is understood."""
    for name, (module, *options) in read_list(ROOT / "tools" / "laptop_runs.txt").items():
        assert module in ("cifar10", "imagenet")
        values = dict(zip(options, options[1:]))
        parts = [values["--recipe"], *(values[o] for o in options if o == "--change"), *(["held-out"] if "--held-out" in options else [])]
        expected = "-".join([*parts, values.get("--seed", "0")])
        assert name.removeprefix("imagenet-").startswith(expected.removesuffix(values.get("--seed", "0")))
        assert name.endswith(values.get("--seed", "0"))


@pytest.mark.parametrize("text, found", [("cifar10 --recipe tiny", "NAME: COMMAND"), ("a: cifar10\na: cifar10", "line 2"), ("a:", "line 1")])
def test_a_list_that_is_wrong(text, found, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(f"{text}\n")
    with pytest.raises(ValueError, match=found):
        read_list(path)
    done = subprocess.run([*COMMAND, path], capture_output=True, text=True)
    assert done.returncode == 1 and found in done.stderr and "Traceback" not in done.stderr


def test_interrupted_and_gone_on_with(tmp_path):
    """SIGTERM in the middle of the first run; the second call finishes both, the third does nothing."""
    path, runs = tmp_path / "list.txt", tmp_path / "runs"
    path.write_text("one: experiment --epochs 3  # digits\n\ntwo: experiment --epochs 1 --seed 1\n")
    command, environment = [*COMMAND, str(path), "--runs", str(runs)], os.environ | {"PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    state = runs / "one" / "state.pt"
    end = time.monotonic() + 60
    while not state.exists() and time.monotonic() < end:
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    said = first.communicate(timeout=60)[0]
    assert "0 of 2 runs are finished" in said and "two" not in said and not (runs / "one" / "run.json").exists()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stdout + (runs / "one" / "log.txt").read_text()
    epochs = {name: json.loads((runs / name / "run.json").read_text())["epochs"] for name in ("one", "two")}
    assert epochs == {"one": 3, "two": 1}
    again = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert again.stdout.strip() == "2 of 2 runs are finished"
