"""The loop: a step, an evaluation, an epoch, and what it refuses."""

import time
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small_runs import CONFIG, batches, data, small_vit, weights, without_times
from torch import nn
from torch.utils.data import DataLoader

from vit_edu.optimizer import learning_rate, make_optimizer
from vit_edu.training import evaluate, predict_logits, seed_torch, train, training_step


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


@pytest.mark.parametrize("generator", [None, torch.Generator()], ids=["torch's", "own"])
def test_every_epoch_has_its_own_order(generator):
    seen = []
    loader = DataLoader(data(), 48, shuffle=True, generator=generator)
    train(small_vit(), loader, CONFIG, prepare_batch=lambda x, y: seen.append(y.tolist()) or (x, y))
    assert seen[0] != seen[1] != seen[2] != seen[0]


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


def test_a_loss_that_is_not_finite_is_found_within_fifty_steps():
    model, steps = small_vit(), []

    def break_weights(state):
        steps.append(state.step)
        if state.step == 4:
            model.head.weight.data.fill_(float("nan"))

    with pytest.raises(FloatingPointError, match="loss is nan at step 4;.*nowhere"):
        train(model, DataLoader(data(64), 1), CONFIG, after_step=break_weights)
    assert len(steps) < 50


def test_evaluating_nothing_is_an_error():
    with pytest.raises(ValueError, match="no batch to evaluate"):
        evaluate(small_vit(), [])


@pytest.mark.parametrize("none", [None, 0, 0.0])
def test_no_clipping_is_a_full_step(none):
    moved = []
    for clip_norm in (none, 1e9):
        model = small_vit()
        nn.init.normal_(model.head.weight, std=10.0)
        config = replace(CONFIG, clip_norm=clip_norm)
        training_step(model, torch.optim.SGD(model.parameters(), lr=1.0), data(8).tensors, config)
        moved.append(weights(model))
    assert all(torch.equal(a, b) for a, b in zip(*moved))


LABELS = {
    "int32": (torch.tensor([0, 1, 2, 3], dtype=torch.int32), "torch.int32 of shape .4,..*labels.long"),
    "int16": (torch.tensor([0, 1, 2, 3], dtype=torch.int16), "torch.int16"),
    "float": (torch.tensor([0.0, 1.0, 2.0, 3.0]), "torch.float32 of shape .4,."),
    "a column": (torch.tensor([[0], [1], [2], [3]]), "shape .4, 1."),
    "one-hot, whole": (torch.eye(4, dtype=torch.int64), "probabilities of shape .4, 4."),
    "too many classes": (torch.rand(4, 5), "probabilities of shape .4, 4."),
    "from one": (torch.tensor([1, 2, 3, 4]), "run from 1 to 4, the model's classes from 0 to 3; count labels from 0"),
    "negative": (torch.tensor([-1, 0, 1, 2]), "run from -1 to 2"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_another_kind_are_named_with_their_remedy(kind):
    labels, message = LABELS[kind]
    batch = data(4).tensors[0], labels
    with pytest.raises(ValueError, match=message):
        train(small_vit(), [batch], CONFIG)
    with pytest.raises(ValueError, match=message):
        evaluate(small_vit(), [batch])


def test_logits_are_plain_tensors_that_can_be_learned_from():
    """A linear probe, and a temperature: gradients flow through what `predict_logits` returned."""
    logits, labels = predict_logits(small_vit(), DataLoader(data(8), 4))
    assert not logits.is_inference() and not logits.requires_grad
    temperature = torch.ones((), requires_grad=True)
    F.cross_entropy(logits / temperature, labels).backward()
    assert temperature.grad is not None


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(data(8))


images, labels = data(8).tensors
REFUSED = [
    ("no length.*data set has a length", DataLoader(Stream(), 4), CONFIG),
    (r"batches \(generator\) has no length", (batch for batch in [(images, labels)]), CONFIG),
    (r"a batch is \(dict\), not a pair of tensors.*collate_fn", [{"image": images, "label": labels}], CONFIG),
    (r"a batch is \(Tensor, Tensor, Tensor\)", [(images, labels, labels)], CONFIG),
    (r"a batch is \(Tensor, list\)", [(images, [0] * 8)], CONFIG),
    ("epochs is 0; choose a number from 1 on", batches(), replace(CONFIG, epochs=0)),
    ("epochs is 2.5", batches(), replace(CONFIG, epochs=2.5)),
    ("accumulate is 0; choose a number from 1 on", batches(), replace(CONFIG, accumulate=0)),
    ("seed is -1; choose a number from 0 on", batches(), replace(CONFIG, seed=-1)),
    ("clip_norm is -1; choose a number from 0 on", batches(), replace(CONFIG, clip_norm=-1)),
    ("'fp16'; choose 'auto', 'float32' or 'bfloat16'", batches(), replace(CONFIG, precision="fp16")),
]


@pytest.mark.parametrize("message, given, config", REFUSED, ids=[message for message, *_ in REFUSED])
def test_what_cannot_be_trained_is_refused_before_the_first_step(message, given, config):
    steps = []
    with pytest.raises(ValueError, match=message):
        train(small_vit(), given, config, after_step=steps.append)
    assert not steps


def test_a_stream_that_knows_its_length_trains():
    class Counted(Stream):
        def __len__(self):
            return 8

    assert len(train(small_vit(), DataLoader(Counted(), 4), CONFIG)) == 3


def test_the_seed_is_set_as_torch_sets_it(monkeypatch):
    """Where there is an accelerator, in torch's own way; elsewhere its generators alone are not told."""
    torch.manual_seed(137)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    seed_torch(137)
    assert torch.equal(torch.get_rng_state(), state) and torch.initial_seed() == 137
    told = []
    monkeypatch.setattr(torch, "manual_seed", told.append)
    for present in True, False:
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: present)
        seed_torch(5)
    assert told == [5]
