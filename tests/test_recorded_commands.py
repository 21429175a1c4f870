"""What a record says was typed asks for exactly the run that the record describes."""

import shlex
import sys
from dataclasses import asdict, replace

import pytest

from vit_edu import cifar10, digits, imagenet
from vit_edu.optimizer import TrainingConfig
from vit_edu.records import Record, recorded

RUNS = [record for record in recorded() if "epochs" in record.facts]
WORDS = {"name", "purpose", "label", "hardware", "hours", "accuracy", "published", "differences", "processes"}


def plain(value):
    """Tuples as lists: what JSON makes of a configuration."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def rebuilt(command: str, monkeypatch):
    """The recipe that the command line of a record asks for today."""
    words = shlex.split(command)
    program = words[words.index("-m") + 1]
    arguments = words[words.index(program) + 1 :]
    if program == "vit_edu.experiment":
        given = dict(zip(arguments[::2], arguments[1::2]))
        recipe = digits.RECIPES[given["--recipe"]]
        epochs = int(given.get("--epochs", recipe.training.epochs))
        warmup = min(recipe.training.warmup_epochs, epochs)
        training = replace(recipe.training, seed=int(given["--seed"]), epochs=epochs, warmup_epochs=warmup)
        return replace(recipe, training=training)
    module = {"vit_edu.cifar10": cifar10, "vit_edu.imagenet": imagenet}[program]
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    return module.chosen(module.parse_arguments())


def differences(said, now, path: str = "") -> list[str]:
    """Where a recorded configuration, in what it names, is not today's."""
    if not isinstance(said, dict):
        return [] if said == now else [f"{path} was {said!r}, the command gives {now!r}"]
    names = said.keys() - (WORDS if path == "" else set())
    return [line for name in sorted(names) for line in differences(said[name], now.get(name), f"{path}.{name}")]


@pytest.mark.parametrize("record", RUNS, ids=lambda record: record.name)
def test_a_records_command_rebuilds_its_configuration(record: Record, monkeypatch):
    command = record.facts["command"]
    if command.startswith("git checkout "):    # its recipe has changed since
        commit, _, rest = command.removeprefix("git checkout ").partition(" && ")
        assert commit == record.facts["commit"] and rest.startswith("python -m vit_edu.")
        return
    recipe, config = rebuilt(command, monkeypatch), record.facts["config"]
    older = plain(asdict(TrainingConfig())) | config["training"]    # a setting that came later had its default
    assert not differences(config | {"training": older}, plain(asdict(recipe)))
    assert recipe.label == record.facts["recipe"]
    assert recipe.training.seed == record.facts["seed"] and recipe.training.epochs == record.facts["epochs"]
    starts = "torchrun" in command
    assert starts == (record.facts.get("processes", 1) > 1), "as many processes as ran"


def test_the_records_are_there():
    assert len(RUNS) >= 20
    assert {record.name.split("-")[0] for record in RUNS} >= {"digits", "tiny", "imagenet"}


def test_a_changed_configuration_is_seen(monkeypatch):
    """The comparison is one: another rate, another crop, another model do not pass."""
    recipe = imagenet.RECIPES["imagenette64"]
    same = plain(asdict(recipe))
    assert not differences(same, plain(asdict(rebuilt(recipe.command, monkeypatch))))
    for other in (
        replace(recipe, training=replace(recipe.training, lr=2e-3)),
        replace(recipe, smallest_crop=0.3),
        replace(recipe, model=recipe.model | {"depth": 5}),
    ):
        assert len(differences(plain(asdict(other)), same)) == 1
