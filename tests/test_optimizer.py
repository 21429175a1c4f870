"""Rate, decay and groups; Muon beside AdamW against a second implementation."""

from dataclasses import replace

import pytest
from small_runs import CONFIG, small_vit
from torch import nn

from vit_edu.optimizer import TrainingConfig, learning_rate, make_optimizer


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
