"""The checks of chapter 11, CIFAR-10, trained in full."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from vit_edu.cifar10 import recipe_from
from vit_edu.cifar10_recipes import RECIPES, Recipe
from vit_edu.exercises import Code, Mistake, Part, Prediction
from vit_edu.optimizer import TrainingConfig

# ex-cifar-change


@dataclass(frozen=True, repr=False)
class Named(Recipe):
    """A recipe that shows itself in a few words."""

    def __repr__(self) -> str:
        return f"the recipe {self.label}"


def named(recipe: Recipe, **changes) -> Named:
    return Named(**(vars(recipe) | changes))


def change_cases():
    """Two recipes with different decays, one changed before, one held out, one with other settings."""
    yield (named(RECIPES["sprint"]),)
    yield (named(RECIPES["resnet20"]),)
    yield (named(RECIPES["sprint"], changes=("no-crop",)),)
    yield (named(RECIPES["resnet20-sprint"], changes=("no-flip", "batch512"), held_out=True),)
    yield (named(RECIPES["fast"], training=replace(RECIPES["fast"].training, weight_decay=0.2, seed=3)),)


def half(decay: float, recipe: Recipe) -> float:
    return decay / 2


def half_with(decay: Callable = half, changes: Callable = lambda old: (*old, "half-decay"), **others):
    """The right change, with room for its usual mistakes."""

    def half_decay(recipe):
        training = replace(recipe.training, weight_decay=decay(recipe.training.weight_decay, recipe), **others)
        return replace(recipe, training=training, changes=changes(recipe.changes))

    return half_decay


def what_changed(result, recipe):
    """The weight decay, the names of the changes, and what else is different."""
    parts = vars(recipe), vars(result)
    other = [name for name in parts[0] if parts[0][name] != parts[1][name] and name not in ("training", "changes")]
    parts = vars(recipe.training), vars(result.training)
    other += [f"training.{name}" for name in parts[0] if parts[0][name] != parts[1][name] and name != "weight_decay"]
    return result.training.weight_decay, tuple(result.changes), ", ".join(other) or "nothing else"


def reads_back_otherwise(function, recipe):
    """Whether a record of the result is read back to another recipe."""
    said = asdict(function(recipe))
    return asdict(recipe_from(json.loads(json.dumps(said)))) != said


CHANGE = Code(
    "half_decay",
    'A recipe with half its weight decay and "half-decay" behind the names in `changes`, else the same.',
    change_cases,
    half_with(),
    "ViTs and ResNets, changed before and not, all other settings, and whether a record reads back",
    [
        Mistake(
            "that is half of one recipe's weight decay; others have another: read it from the recipe",
            like=half_with(lambda decay, recipe: 0.025),
        ),
        Mistake("no weight decay is left; half of it is asked for", like=half_with(lambda decay, recipe: 0.0)),
        Mistake("the weight decay is doubled", like=half_with(lambda decay, recipe: 2 * decay)),
        Mistake("the name is there, and the weight decay is what it was", like=half_with(lambda decay, recipe: decay)),
        Mistake(
            "the names of earlier changes are lost; the new one joins them",
            like=half_with(changes=lambda old: ("half-decay",)),
        ),
        Mistake(
            "`changes` does not tell of it; a record would not show what was trained",
            like=half_with(changes=lambda old: old),
        ),
        Mistake(
            "the new name stands before the earlier ones; changes are named in their order",
            like=half_with(changes=lambda old: ("half-decay", *old)),
        ),
        Mistake(
            "a string was taken apart into letters: a tuple of one needs its comma, (\"half-decay\",)",
            like=half_with(changes=lambda old: (*old, *"half-decay")),
        ),
        Mistake(
            "the name is spelt half_decay; it is half-decay",
            like=half_with(changes=lambda old: (*old, "half_decay")),
        ),
        Mistake(
            "the rest of the training fell back to its defaults: `replace` what the recipe has",
            like=lambda recipe: replace(
                recipe,
                training=TrainingConfig(weight_decay=recipe.training.weight_decay / 2),
                changes=(*recipe.changes, "half-decay"),
            ),
        ),
        Mistake(
            "this is another recipe by name; a change keeps the name, and is told in `changes`",
            when=lambda function, recipe: function(recipe).name != recipe.name,
        ),
        Mistake(
            "written to a record and read back it is another recipe: `changes` has to be a tuple",
            when=reads_back_otherwise,
        ),
    ],
    observe=what_changed,
    returns=Recipe,
    tolerance=1e-9,
)  # fmt: skip


# ex-cifar-flip


def network(C: int, H: int, W: int, K: int) -> nn.Module:
    """A small model that sees left and right, up and down, colours, and is not linear."""
    hidden = nn.Linear(C * H * W, 12)
    model = nn.Sequential(nn.Flatten(), hidden, nn.Tanh(), nn.Linear(12, K))
    for p in model.parameters():
        nn.init.normal_(p)
    return model


def looks_cases():
    """One row of two pixels first, then batches, odd shapes, and a convolution."""
    for seed, (B, C, H, W, K) in enumerate([(1, 1, 1, 2, 2), (1, 1, 3, 2, 2), (2, 3, 4, 5, 10), (3, 3, 3, 4, 3)]):
        torch.default_generator.manual_seed(seed)
        yield network(C, H, W, K), torch.randn(B, C, H, W)
    torch.default_generator.manual_seed(4)
    layers = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8 * 6, 5)
    yield nn.Sequential(*layers), torch.randn(5, 3, 8, 6)


def looking(model: nn.Module, images: Tensor, flipped: tuple[int, ...] = (3,), mean: Callable | None = None) -> Tensor:
    """The mean of two answers, with room for its usual mistakes."""
    one, two = model(images), model(images.flip(flipped))
    return mean(one, two) if mean else torch.stack([one, two]).mean(0)


LOOKS = Code(
    "two_looks",
    "A model, images (B, C, H, W): the logits (B, K), averaged over each image and its mirror image.",
    looks_cases,
    looking,
    "one image to five, high and wide ones, models that know left from right",
    [
        Mistake("the second look is upside down; left and right change places", like=lambda m, x: looking(m, x, (2,))),
        Mistake("the second look is turned by half; mirror it, axis 3 only", like=lambda m, x: looking(m, x, (2, 3))),
        Mistake("the channels change places, red and blue; mirror the columns", like=lambda m, x: looking(m, x, (1,))),
        Mistake("the images of the batch change places; mirror each image", like=lambda m, x: looking(m, x, (0,))),
        Mistake("the two are added up; halve the sum", like=lambda m, x: looking(m, x, mean=torch.add)),
        Mistake(
            "these are probabilities; the logits are to be averaged, before any softmax",
            like=lambda m, x: looking(m, x, mean=lambda a, b: (a.softmax(-1) + b.softmax(-1)) / 2),
        ),
        Mistake(
            "a softmax too much: logits are asked for",
            like=lambda m, x: looking(m, x).softmax(-1),
        ),
        Mistake(
            "the larger of both logits is taken; take their mean",
            like=lambda m, x: looking(m, x, mean=torch.maximum),
        ),
        Mistake("this is the mirror image alone; the image itself counts as much", like=lambda m, x: m(x.flip(3))),
        Mistake("this is one look, at the image as it is", like=lambda m, x: m(x)),
        Mistake(
            "pictures are averaged, and looked at once; average the answers",
            like=lambda m, x: m((x + x.flip(3)) / 2),
        ),
        Mistake(
            "answers for different images are averaged: behind `cat` the mirror image of i stands at i + B",
            like=lambda m, x: m(torch.cat([x, x.flip(3)])).reshape(len(x), 2, -1).mean(1),
        ),
        Mistake("these are classes; logits are asked for", like=lambda m, x: looking(m, x).argmax(-1)),
        Mistake(
            "these are logits for each image and each look, (2B, K); average the pairs",
            like=lambda m, x: m(torch.cat([x, x.flip(3)])),
        ),
    ],
    returns=Tensor,
)  # fmt: skip


# Predictions

PATCH = Prediction(
    "ex-cifar-patch",
    "Patches of 2 instead of 4: how much tokens, projections and MLPs, attention grow, and all together.",
    [
        Part("tokens", 4, {
            2: "that many more in a row, and that many more rows",
            0.25: "smaller patches are more patches",
            16: "an image has 8 · 8 patches of 4; count those of 2",
            8: "an image has 8 · 8 patches of 4; count those of 2",
        }),
        Part("projections and MLPs", 4, {
            2: "a matrix is applied to every token",
            16: "a matrix is applied to one token at a time: the cost goes with N, not with N²",
            1: "the weights stay the same, and are applied to more tokens",
        }),
        Part("attention", 16, {
            4: "every token meets every token: N²",
            8: "every token meets every token: N², and N grows fourfold",
            2: "every token meets every token: N²",
        }),
        Part("all together, beside eight times", "less", {
            "more": "that would need attention to be more than a third of the whole before; look at 64 tokens again",
            "exactly": "that would need attention to be a third of the whole before; look at 64 tokens again",
        }),
    ],
)  # fmt: skip

CALIBRATION = Prediction(
    "ex-cifar-calibration",
    "ε = 0.1, ten classes: a perfect fit's confidence; how confidence lies beside accuracy; the surest half.",
    [
        Part("confidence of a perfect fit", 0.91, {
            0.9: "the right class gets its tenth of ε, too",
            1.0: "that would be without smoothing: the target itself is less certain",
            0.95: "ε is taken from the right class whole, and a tenth of it comes back",
            0.99: "that is 1 less a tenth of ε; all of ε is taken, and a tenth of it comes back",
        }, within=2e-3),
        Part("confidence, beside accuracy", "below", {
            "above": "so it is for networks trained towards certainty; this one was taught that nothing is certain",
            "equal": "a model that is always right would still be no surer than its targets",
        }),
        Part("the surest half is right", "more often", {
            "less often": "a smoothed confidence is lower, and still says which answers are safer",
            "as often": "then confidence would mean nothing",
        }),
    ],
)  # fmt: skip

CHECKS = [CHANGE, LOOKS, PATCH, CALIBRATION]
