"""What every training command shares: the digits' runs, requests to stop, options, records."""

import importlib.metadata

import pytest

from vit_edu.experiment import train_on_digits
from vit_edu.records import surroundings


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
