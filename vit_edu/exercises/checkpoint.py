"""The checks of chapter 08, a run you can trust."""

import random

import numpy as np
import torch

from vit_edu.exercises import Code, Mistake, Part, Prediction

# ex-checkpoint-chance


def batches():
    """Bright batches (B, C, H, W), one image first, and their labels."""
    for seed, (n, channels, side) in enumerate([(1, 1, 2), (3, 1, 2), (4, 3, 5)]):
        images = 0.1 + torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(seed))
        yield images, torch.arange(n) % 3


def with_factor(images, labels, shape=()):
    return images * (0.5 + torch.rand(shape)), labels


def in_words(result, images, labels):
    """What was done to the images, in words, since the factor itself is chance; and the labels."""
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        return "not a pair of images and labels", labels
    changed, targets = result
    if not isinstance(changed, torch.Tensor) or changed.shape != images.shape:
        return "images of another shape", targets
    ratio = changed.double() / images.double()
    each = ratio.flatten(1)
    if (ratio - ratio.mean()).abs().max() < 1e-4:
        return "one factor for the batch", targets
    if (each - each.mean(1, keepdim=True)).abs().max() < 1e-4:
        return "a factor for each image", targets
    if ((added := changed - images) - added.mean()).abs().max() < 1e-4:
        return "one number added", targets
    return "no factor", targets


def factor(function, images, labels, torchs=0, pythons=0, numpys=0):
    """The factor that a function draws, after these seeds; the three generators are put back."""
    before = random.getstate(), np.random.get_state()
    torch.default_generator.manual_seed(torchs)
    random.seed(pythons)
    np.random.seed(numpys)
    try:
        return (function(images.clone(), labels.clone())[0] / images).mean().item()
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def differs(**seeds):
    """A question: does another seed of one generator alone change the factor?"""
    (name,) = seeds
    return lambda f, *batch: any(abs(factor(f, *batch) - factor(f, *batch, **{name: seed})) > 1e-6 for seed in (1, 2))


def generator_stands_still(function, images, labels):
    """Is torch's own generator, after the call, in one and the same state whatever it was before?"""
    states = []
    for seed in 1, 2:
        torch.default_generator.manual_seed(seed)
        function(images.clone(), labels.clone())
        states.append(torch.get_rng_state())
    return torch.equal(*states)


def factors(function, images, labels):
    return [factor(function, images, labels, torchs=seed) for seed in range(60)]


def differs_by_itself(function, images, labels):
    return abs(factor(function, images, labels) - factor(function, images, labels)) > 1e-6


CHANCE = Code(
    "with_contrast",
    "Images times one chance factor for the batch, 0.5 to 1.5; the labels.",
    batches,
    with_factor,
    "the same seed twice, other seeds, and those of Python and NumPy",
    [
        Mistake(
            "each image has a factor of its own; one for the batch is asked for",
            like=lambda images, labels: with_factor(images, labels, (len(images), 1, 1, 1)),
        ),
        Mistake(
            "each pixel has a factor of its own: that is noise; draw one number",
            like=lambda images, labels: with_factor(images, labels, images.shape),
        ),
        Mistake(
            "the number is added; that is brightness, contrast multiplies",
            like=lambda images, labels: (images + 0.5 + torch.rand(()), labels),
        ),
        Mistake(
            "only one thing comes back; `train` wants a pair, images and labels",
            like=lambda images, labels: images,
        ),
        Mistake(
            "after the same seed of torch two calls differ: where does the chance come from?",
            when=differs_by_itself,
        ),
        Mistake("chance comes from Python's `random`, which the loop does not seed", when=differs(pythons=1)),
        Mistake("chance comes from NumPy, which the loop does not seed", when=differs(numpys=1)),
        Mistake(
            "it seeds torch itself: what is drawn after it in this step, dropout for one, is the same in every step",
            when=generator_stands_still,
        ),
        Mistake(
            "the factor is the same whatever torch's seed: every step would have the same contrast",
            when=lambda *a: max(factors(*a)) - min(factors(*a)) < 1e-6,
        ),
        Mistake(
            "the factors of many seeds do not fill 0.5 to 1.5",
            when=lambda *a: not (0.499 < min(factors(*a)) < 0.6 and 1.4 < max(factors(*a)) < 1.501),
        ),
    ],
    observe=in_words,
)  # fmt: skip


# Predictions

LONGER = Prediction(
    "ex-training-longer",
    "A run of thirty epochs, stopped after ten, is resumed and asked for forty.",
    [Part("the loop", "refuses", {
        "goes on": "which rate would step 11 have had in a run of forty? And the ten epochs before it?",
        "starts anew": "it never throws away what somebody has saved",
    })],
)  # fmt: skip

CHANGES = Prediction(
    "ex-checkpoint-may-change",
    "What becomes of the result if this changes between stopping and resuming?",
    [
        Part("accumulate", "same", {
            "other": "the gradient is the mean over the whole batch, in however many parts",
            "refused": "it changes memory alone: the state leaves it out of the settings",
        }),
        Part("half the batch size", "refused", {
            "same": "an epoch would have twice as many steps: where in it would step 14 be?",
            "other": "it would, and the loop can tell: an epoch has another number of steps",
        }),
        Part("num_workers", "same", {
            "other": "the order is drawn by the loader, not by its workers",
            "refused": "the loop looks at the settings, the model and the steps of an epoch",
        }),
        Part("the seed", "refused", {
            "same": "order and dropout of every step come from it",
            "other": "it would, and the seed is a setting: the state knows it",
        }),
    ],
)  # fmt: skip

FORGETFUL = Prediction(
    "ex-checkpoint-forgetful",
    "The training loss after the cut, where the optimiser forgot its averages.",
    [Part("the loss", "jumps", {
        "falls faster": "full steps it takes, but in whose direction?",
        "no change": "in Adam's first step, how far does every weight move?",
    })],
)  # fmt: skip

CHECKS = [LONGER, CHANGES, FORGETFUL, CHANCE]
