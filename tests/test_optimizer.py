"""Rate, decay and groups; Muon beside AdamW against a second implementation."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_runs import CONFIG, batches, data, small_vit, weights
from torch import nn
from torch.optim.swa_utils import AveragedModel

from vit_edu.checkpoint import train_resumably
from vit_edu.optimizer import TrainingConfig, learning_rate, make_optimizer
from vit_edu.training import train, training_step


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


needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="Muon came with torch 2.9")
MUON = replace(CONFIG, optimizer="muon")


def newton_schulz(m: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The second implementation: the quintic on the singular values themselves."""
    u, s, v = torch.linalg.svd(m.double(), full_matrices=False)
    s = s / s.norm()
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag(s) @ v


def owners(model: nn.Module, group: dict) -> list[tuple[str, int, int]]:
    """Which numbers of the model a group's tensors are: (name, first row of it, rows)."""
    found = []
    for tensor in group["params"]:
        for name, p in model.named_parameters():
            first = p.data_ptr()
            if first <= tensor.data_ptr() < first + p.numel() * p.element_size():
                row = p.element_size() * max(1, p[0].numel()) if p.ndim else p.element_size()
                found.append((name, (tensor.data_ptr() - first) // row, len(tensor) if tensor.ndim else 1))
    return found


@needs_muon
@pytest.mark.parametrize("split", [True, False], ids=["three matrices", "joint"])
def test_muon_and_adamw_share_the_parameters_without_overlap(split):
    model = small_vit(n_registers=1)
    optimizer = make_optimizer(model, replace(MUON, split_qkv=split, weight_decay=0.3))
    rows = {name: [] for name, _ in model.named_parameters()}
    for group in optimizer.param_groups:
        for name, first, n in owners(model, group):
            rows[name] += range(first, first + n)
            matrix = name.endswith("weight") and dict(model.named_parameters())[name].ndim >= 2
            assert group["weight_decay"] == (0.3 if matrix else 0.0), name
    for name, p in model.named_parameters():
        assert sorted(rows[name]) == list(range(len(p) if p.ndim else 1)), name
    matrices = {name for name, _, _ in owners(model, optimizer.param_groups[0])}
    assert matrices == {n for n, p in model.named_parameters() if n.startswith("blocks.") and p.ndim == 2}
    assert len(optimizer.param_groups[0]["params"]) == 2 * (4 + 2 * split)


@needs_muon
@pytest.mark.parametrize("split", [True, False], ids=["three matrices", "joint"])
def test_a_muon_step_is_an_orthogonalised_one(split):
    model, config = small_vit(), replace(MUON, split_qkv=split, clip_norm=None)
    nn.init.normal_(model.head.weight)
    optimizer = make_optimizer(model, config)
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * group.get("lr_scale", 1.0)
    rate, before = optimizer.param_groups[0]["lr"], model.blocks[0].attn.qkv.weight.detach().clone()
    training_step(model, optimizer, data(8).tensors, config)
    weight = model.blocks[0].attn.qkv.weight
    apart = {}
    for n in 1, 3:
        tall = max(1, len(weight) / n / weight.shape[1]) ** 0.5
        update = torch.cat([newton_schulz(part) for part in weight.grad.chunk(n)])
        expected = before * (1 - rate * config.weight_decay) - rate * tall * update
        apart[n] = ((weight.detach() - expected).norm() / (expected - before).norm()).item()
    ours, other = (apart[3], apart[1]) if split else (apart[1], apart[3])
    assert ours < 0.15 and other > 0.3  # torch's Newton-Schulz runs in bfloat16


@needs_muon
def test_the_parts_share_the_models_memory_and_momentum_survives_saving():
    models = [small_vit(), small_vit()]
    first, second = (make_optimizer(model, MUON) for model in models)
    for _ in range(2):
        training_step(models[0], first, data(8).tensors, MUON)
    models[1].load_state_dict(models[0].state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))  # as from a file
    for model, optimizer in zip(models, (first, second)):
        training_step(model, optimizer, data(8).tensors, MUON)
    assert all(torch.equal(a, b) for a, b in zip(*map(weights, models)))
    fresh = small_vit()
    fresh.load_state_dict(models[0].state_dict())
    forgot, kept = make_optimizer(fresh, MUON), weights(models[0])
    training_step(models[0], first, data(8).tensors, MUON)
    training_step(fresh, forgot, data(8).tensors, MUON)
    assert not all(torch.equal(a, b) for a, b in zip(weights(models[0]), weights(fresh)))
    assert not torch.equal(kept[-2], weights(models[0])[-2])


@needs_muon
@pytest.mark.parametrize("stop_at", [4, 6, 11])
def test_a_run_with_muon_resumes_to_the_bit(stop_at, tmp_path):
    def go(out, **options):
        model = small_vit(drop_rate=0.1)
        train_resumably(model, batches(), MUON, out=out, **options)
        return weights(model)

    steps = iter(range(1, 100))
    go(tmp_path / "b", should_stop=lambda: next(steps) == stop_at)
    whole, resumed = go(tmp_path / "a"), go(tmp_path / "b", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed))


@needs_muon
def test_muon_has_its_own_rate_in_every_step():
    def look(state):
        rate = learning_rate(state.step - 1, 6, MUON)
        muon, *others = state.optimizer.param_groups
        assert muon["lr"] == pytest.approx(rate * MUON.matrix_lr / MUON.lr)
        assert all(group["lr"] == rate for group in others)

    train(small_vit(), batches(), MUON, after_step=look)


@needs_muon
@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, AveragedModel])
def test_names_are_those_of_the_model_inside(wrap):
    inner = small_vit()
    model = wrap(inner)
    inside = model.module if hasattr(model, "module") else inner
    groups = make_optimizer(model, MUON).param_groups
    expected = make_optimizer(small_vit(), MUON).param_groups
    assert [len(g["params"]) for g in groups] == [len(g["params"]) for g in expected]
    assert all(owners(inside, group) for group in groups)


def test_a_torch_without_muon_says_so(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(ValueError, match="has no Muon, which came with torch 2.9.*optimizer='adamw'"):
        make_optimizer(small_vit(), MUON)
    make_optimizer(small_vit(), CONFIG)


@pytest.mark.parametrize(
    "message, model, config",
    [
        ("unknown optimizer 'adam'; choose adamw, muon, sgd", small_vit(), replace(CONFIG, optimizer="adam")),
        ("no blocks with matrices", nn.Linear(3, 3), MUON),
        ("lr is 0; choose one above 0", small_vit(), replace(MUON, lr=0)),
    ],
    ids=["unknown", "no blocks", "no rate"],
)
@needs_muon
def test_what_cannot_be_optimised_is_refused(message, model, config):
    with pytest.raises(ValueError, match=message):
        make_optimizer(model, config)


def test_numbers_of_other_kinds_become_plain():
    config = TrainingConfig(epochs=np.int64(2), lr=np.linspace(0, 1, 3)[1], seed=torch.tensor(3), precision=np.str_("auto"))
    assert (config.epochs, config.lr, config.seed, config.precision) == (2, 0.5, 3, "auto")
    assert [type(value) for value in (config.epochs, config.lr, config.seed, config.precision)] == [int, float, int, str]
