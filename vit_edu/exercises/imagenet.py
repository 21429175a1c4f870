"""The checks of chapter 14, ImageNet."""

import math

import torch

from vit_edu.exercises import Code, Mistake, Part, Prediction

# ex-imagenet-parts


def parts_cases():
    """All at once first, then parts that must divide, memory filled to the brim, heavy weights, and too small a card."""
    for images, weights, each, card in [
        (4, 1.0, 1.0, 24), (6, 1.0, 2.0, 10), (8, 1.0, 1.0, 10), (128, 0.4, 0.2, 24), (512, 1.7, 0.5, 80), (9, 1.0, 1.0, 5),
        (10, 6.0, 1.0, 10), (12, 0.0, 1.0, 5), (7, 1.0, 1.0, 8), (3, 2.0, 5.0, 24), (2, 8.0, 3.0, 10), (1, 1.0, 1.0, 2),
        (32, 4.0, 1.0, 24), (100, 1.0, 0.5, 40), (1, 1.0, 0.5, 10), (5, 1.0, 7.0, 12),
    ]:  # fmt: skip
        yield images, weights, each, card


def smallest(images, weights, each, card, share=0.9, numbers=None, need=None, most=False):
    """The right search, with room for its usual mistakes."""
    need = need or (lambda k: weights + each * images / k)
    numbers = numbers or [k for k in range(1, images + 1) if images % k == 0]
    fitting = [k for k in numbers if need(k) < share * card]
    return (fitting[-1] if most else fitting[0]) if fitting else 0


def largest_part(images, weights, each, card):
    k = smallest(images, weights, each, card)
    return images // k if k else 0


PARTS = Code(
    "parts_needed",
    "The smallest k that divides a GPU's `images`, such that weights and what images / k leave stay below nine tenths "
    "of the card; 0 if one image alone does not. `each` is what an image leaves; all in GB.",
    parts_cases,
    smallest,
    "cards of 2 to 80 GB, parts that must divide, memory filled to the brim, and too small a card",
    [
        Mistake(
            "the parts must divide the images: else the last part is smaller, and its images count for more",
            like=lambda n, *a: smallest(n, *a, numbers=range(1, n + 1)),
        ),
        Mistake(
            "the least number of parts by division, rounded up: it need not divide the images",
            like=lambda n, w, e, c: max(1, math.ceil(e * n / (0.9 * c - w))) if w + e < 0.9 * c else 0,
        ),
        Mistake(
            "only powers of two are tried; 3 parts of a batch of 6 are fine",
            like=lambda n, *a: smallest(n, *a, numbers=[2**i for i in range(12) if n % 2**i == 0]),
        ),
        Mistake(
            "the weights are divided as well; each part needs all of them",
            like=lambda n, w, e, c: smallest(n, w, e, c, need=lambda k: (w + e * n) / k),
        ),
        Mistake(
            "the weights are left out; they lie on the card, too",
            like=lambda n, w, e, c: smallest(n, w, e, c, need=lambda k: e * n / k),
        ),
        Mistake(
            "filled to the last byte; nine tenths of the card are to be used, the rest is for the libraries",
            like=lambda *a: smallest(*a, share=1.0),
        ),
        Mistake("that is how many images are in a part; k is the number of parts", like=largest_part),
        Mistake("that is the largest k: parts of one image, slower than need be", like=lambda *a: smallest(*a, most=True)),
    ],
    observe=lambda result, *_: int(result),
)  # fmt: skip


# ex-imagenet-stratified


def labels_cases():
    """Two classes first, then sorted, dealt out, shuffled and uneven ones; one image of each, and all of them."""
    yield torch.tensor([0, 0, 1, 1]), 1, 0
    yield torch.tensor([1, 0, 0, 1, 0, 1, 1]), 2, 0
    yield torch.arange(20).repeat_interleave(30), 4, 0
    yield torch.arange(20).repeat(30), 4, 1
    chance = torch.Generator().manual_seed(1)
    uneven = torch.repeat_interleave(torch.arange(6), torch.tensor([40, 12, 90, 25, 10, 60]))
    yield uneven[torch.randperm(len(uneven), generator=chance)], 9, 5
    yield torch.arange(3).repeat(8), 8, 2


def right_choice(labels, n_each, seed=0):
    chance = torch.Generator().manual_seed(seed)
    numbers = [(labels == label).nonzero().flatten() for label in labels.unique()]
    return torch.cat([mine[torch.randperm(len(mine), generator=chance)[:n_each]] for mine in numbers])


def counted(chosen, labels):
    return labels[torch.as_tensor(chosen).flatten()].bincount(minlength=int(labels.max()) + 1)


def seen(chosen, labels, n_each, seed):
    """What can be said of a choice without knowing whose chance it was: its axes, its classes, its repeats."""
    chosen = torch.as_tensor(chosen)
    return chosen.ndim, counted(chosen, labels), len(chosen.unique())


def at_even_distances(function, labels, n_each, seed):
    """Whether it takes the first images of each class, or the last, or every so many."""
    if n_each < 4 or n_each >= labels.bincount().min():
        return False
    chosen, steps = torch.as_tensor(function(labels, n_each, seed)), []
    for label in labels.unique():
        places = (labels == label).nonzero().flatten()
        steps.append(torch.searchsorted(places, chosen[labels[chosen] == label].sort().values).diff())
    return all(bool((step == step[0]).all()) for step in steps)


def other_images_each_time(function, labels, n_each, seed):
    if n_each >= labels.bincount().max():
        return False
    choices = []
    for other in range(4):
        torch.default_generator.manual_seed(other)
        choices.append(list(map(int, function(labels, n_each, seed))))
    return any(choice != choices[0] for choice in choices)


def seed_ignored(function, labels, n_each, seed):
    if n_each < 4 or n_each >= labels.bincount().min():
        return False
    return all(torch.equal(function(labels, n_each, seed), function(labels, n_each, other)) for other in (7, 8))


def uneven(function, labels, n_each, seed):
    return bool((counted(function(labels, n_each, seed), labels) != n_each).any())


def right_on_sorted(function, labels, n_each, seed):
    ordered = labels.sort().values
    return uneven(function, labels, n_each, seed) and not uneven(function, ordered, n_each, seed)


def leaves_a_trace(function, *arguments):
    before = torch.get_rng_state()
    function(*arguments)
    return not torch.equal(before, torch.get_rng_state())


STRATIFIED = Code(
    "stratified",
    "Numbers (K · n_each,) of `n_each` random images of each of K classes, for labels (N,) in any order: the same for "
    "the same seed.",
    labels_cases,
    right_choice,
    "sorted, shuffled and uneven labels, one image of each class and all of them",
    [
        Mistake(
            "other images come each time: draw from a torch.Generator of your own, with the seed",
            when=other_images_each_time,
        ),
        Mistake(
            "right on sorted labels alone: these are places in the sorted list, not the numbers of images",
            when=right_on_sorted,
        ),
        Mistake(
            "so many images in all; each class should get so many",
            when=lambda f, labels, n, seed: len(f(labels, n, seed)) == n < n * len(labels.unique()),
        ),
        Mistake(
            "an image is taken more than once: draw without putting back",
            when=lambda f, labels, n, seed: len(set(map(int, f(labels, n, seed)))) < len(f(labels, n, seed)),
        ),
        Mistake("the classes get their share only on average: draw within each class", when=uneven),
        Mistake(
            "not random: it takes the images of a class at even distances, and files are sorted, too",
            when=at_even_distances,
        ),
        Mistake("another seed gives the same images: is it used?", when=seed_ignored),
        Mistake(
            "torch's own generator is not where it was: whoever draws next in this process gets other numbers",
            when=leaves_a_trace,
        ),
    ],
    observe=seen,
)


# Predictions

LARGER = Prediction(
    "ex-imagenet-larger",
    "ViT-B/16 with a class token at 448 pixels: tokens; attention's share at 224 and at 448; growth of the whole.",
    [
        Part("tokens at 448", 785, {
            784: "that leaves out the class token",
            788: "there is one class token, whatever the size",
            394: "twice as many rows and twice as many columns",
            393: "twice as many rows and twice as many columns",
        }),
        Part("share at 224", 197 / (197 + 6 * 768), {
            197 / (6 * 768): "that is attention over the rest; the share is over both",
            197 / (197 + 2 * 768): "that is within the attention layer; the MLP is work, too",
        }, within=0.0012),
        Part("share at 448", 785 / (785 + 6 * 768), {
            785 / (6 * 768): "that is attention over the rest; the share is over both",
            785 / (785 + 2 * 768): "that is within the attention layer; the MLP is work, too",
            4 * 197 / (197 + 6 * 768): "attention grows sixteenfold, and the whole grows with it",
        }, within=0.003),
        Part("the whole grows", 4.47, {
            4: "so do the matrices' products; attention itself grows sixteenfold",
            16: "so does attention itself, which is a small share",
            2: "so do height and width",
        }, within=0.08),
    ],
)  # fmt: skip

# Images a second that eight A100 ask for at an MFU of 0.3, of ViT-S/16 and of ViT-B/16.
S, B, LOADER = 27_137, 7_106, 8_000

LIMIT = Prediction(
    "ex-imagenet-limit",
    "Eight A100, a loader of 8,000 images a second: what limits S/16 and B/16, and how much longer does B's epoch take?",
    [
        Part("limits S/16", "loader", {
            "GPUs": "they could take some 27,000 images a second",
            "both": "they could take some 27,000 images a second, and get 8,000",
        }),
        Part("limits B/16", "GPUs", {
            "loader": "it gives 8,000 images a second; the GPUs take some 7,100",
            "both": "near, but the loader has a little to spare",
        }),
        Part("times as long", LOADER / B, {
            S / B: "that is the ratio of the FLOPs; the loader holds S back",
            S / LOADER: "so many times longer S takes than it could",
            B / LOADER: "the other way round: B takes longer",
            1: "near: that would be so if the loader held both back",
        }, within=0.03),
    ],
)  # fmt: skip

CHECKS = [LARGER, STRATIFIED, PARTS, LIMIT]
