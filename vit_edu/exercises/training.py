"""The checks of chapter 07, a first training run."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from vit_edu.exercises import Code, Mistake, Part, Prediction

# ex-training-parts


def batches():
    """Parts that are equal and that are not, as many parts as images, one part; a gradient that is there already."""
    for seed, (n, k, dirty) in enumerate([
        (3, 2, False), (4, 2, False), (5, 2, False), (5, 5, False), (6, 1, False), (7, 3, True), (64, 5, True),
    ]):  # fmt: skip
        torch.default_generator.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3))
        images, labels = torch.randn(n, 1, 2, 2), torch.randint(3, (n,))
        if dirty:
            model(images).square().mean().backward()
        yield model, images, labels, k


def gradients(model, loss):
    return list(torch.autograd.grad(loss, list(model.parameters())))


def at_once(model, images, labels, k=1):
    return gradients(model, F.cross_entropy(model(images), labels))


def weighted(weight, kept=slice(None)):
    """A wrong answer: each part's mean loss times a weight of its own; `kept`: which parts."""

    def answer(model, images, labels, k):
        parts = list(zip(images.chunk(k), labels.chunk(k)))[kept]
        return gradients(
            model, sum(F.cross_entropy(model(x), y) * weight(len(x), len(images), k) for x, y in parts)
        )

    return answer


def old_ones_too(model, images, labels, k):
    before = [0 if p.grad is None else p.grad for p in model.parameters()]
    return [old + new for old, new in zip(before, at_once(model, images, labels))]


def leaves_unused_images(model, images, labels, k):
    n = len(images) // k * k
    return at_once(model, images[:n], labels[:n])


def walks(function, model, images, labels, k):
    """What the model does meanwhile, in order: the number of images on each way forth, 0 for a way back."""
    seen = []

    def note(module, inputs, output):
        seen.append(len(inputs[0]))
        if output.requires_grad:
            output.register_hook(lambda gradient: seen.append(0))

    model.register_forward_hook(note)
    function(model, images, labels, k)
    return seen


def takes_other_parts(function, model, images, labels, k):
    sizes = list(filter(None, walks(function, model, images, labels, k)))
    return max(sizes) < len(images) and len(sizes) != k


def takes_all(function, model, images, labels, k):
    return k > 1 and max(walks(function, model, images, labels, k)) == len(images)


def keeps_all_parts(function, model, images, labels, k):
    seen = walks(function, model, images, labels, k)
    return any(first and second for first, second in zip(seen, seen[1:]))


PARTS = Code(
    "gradients_in_parts",
    "Gradients of the batch's mean cross-entropy, one a parameter, from k parts.",
    batches,
    at_once,
    "3 to 64 images in 1 to 5 parts, equal and not, against the whole batch at once",
    [
        Mistake(
            "an old gradient is still in it: call model.zero_grad() first",
            like=old_ones_too,
        ),
        Mistake(
            "the parts' means are added as they are: each counts by its share of the images",
            like=weighted(lambda n, total, k: 1),
        ),
        Mistake(
            "each part counts 1/k: right for equal parts only; it shows where they are not",
            like=weighted(lambda n, total, k: 1 / k),
        ),
        Mistake(
            "each part's mean counts by its number of images; divide by the number of all",
            like=weighted(lambda n, total, k: n),
        ),
        Mistake(
            "each mean is divided by the number of all images; multiply it by the number in its part as well",
            like=weighted(lambda n, total, k: 1 / total),
        ),
        Mistake(
            "only the last part is there: is zero_grad inside the loop?",
            like=weighted(lambda n, total, k: n / total, slice(-1, None)),
        ),
        Mistake(
            "only the first part is there: is the `return` inside the loop?",
            like=weighted(lambda n, total, k: n / total, slice(0, 1)),
        ),
        Mistake(
            "the last images are left out where k does not divide their number",
            like=leaves_unused_images,
        ),
        Mistake(
            "this is the gradient's opposite: a step goes against the gradient, but the gradient is asked for",
            like=lambda *a: [-g for g in at_once(*a)],
        ),
        Mistake(
            "each part counts its images over k; its share is its images over all",
            like=weighted(lambda n, total, k: n / k),
        ),
        Mistake(
            "these are the parameters; their gradients are in `.grad`",
            like=lambda model, *a: list(model.parameters()),
        ),
        Mistake(
            "the gradients are right, the parts are not k: `chunk` takes their number, `split` the images in each",
            when=takes_other_parts,
        ),
        Mistake(
            "the whole batch goes through the model at once; it was to be spared that",
            when=takes_all,
        ),
        Mistake(
            "all parts go through the model before the first comes back, so memory holds the whole batch: "
            "call `backward` for each part",
            when=keeps_all_parts,
        ),
    ],
    returns=(list, tuple),
    observe=lambda result, *arguments: list(result),
    tolerance=1e-5,
)  # fmt: skip


# Predictions


def entropy(classes, eps=0.1):
    right, other = 1 - eps + eps / classes, eps / classes
    return -right * math.log(right) - (classes - 1) * other * math.log(other)


CLASSES = Prediction(
    "ex-training-classes",
    "The training loss with a hundred classes and ε = 0.1: at the start, at best.",
    [
        Part("at the start", math.log(100), {
            math.log(10): "that is with ten classes",
            2: "that is the logarithm to base 10; the loss is in nats",
            1: "a probability is at most one, a surprise is not",
            0: "a fresh head guesses: it cannot be sure of the right class",
        }, within=0.02),
        Part("at best", entropy(100), {
            0: "that is without smoothing: the targets are uncertain themselves",
            entropy(10): "that is with ten classes; now ε is spread over a hundred",
            -math.log(0.9): "that is the right class alone; the other ninety-nine have their share of the surprise, too",
        }, within=0.02),
    ],
)  # fmt: skip

VALIDATION = Prediction(
    "ex-training-validation",
    "The best of three learning rates after five epochs, chosen without the test set.",
    [Part("the best rate", 1e-3, {
        1e-5: "in 110 steps of at most 0.00001 a weight gets nowhere",
        1e-1: "every step of Adam moves every weight by about 0.1: they are thrown about",
    }, within=1e-9)],
)  # fmt: skip

WRITERS = Prediction(
    "ex-training-writers",
    "Digits of other writers, for a model that has not seen their hands.",
    [Part("strangers", "harder", {
        "easier": "what does a random split have on both sides that this one has not?",
        "the same": "everybody has a way to write a 1 and a 9, and the random split has seen it",
    })],
)  # fmt: skip

CHECKS = [CLASSES, PARTS, VALIDATION, WRITERS]
