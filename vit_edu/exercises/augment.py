"""The checks of chapter 10, one picture, many views."""

import math

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vit_edu.exercises import Code, Mistake, Part, Prediction

MANY = 100    # images, from which on shares mean something


def made(*shape: int) -> Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.uint8)


# ex-augment-grey


def grey_cases():
    """One pixel first, then what has to be grey, what must not, bright ones, and many with a chance in between."""
    yield torch.tensor([10, 20, 60], dtype=torch.uint8).reshape(1, 3, 1, 1), 1.0
    yield torch.tensor([10, 20, 60], dtype=torch.uint8).reshape(1, 3, 1, 1), 0.0
    yield torch.tensor([[0, 0, 2], [90, 200, 250]], dtype=torch.uint8).reshape(2, 3, 1, 1), 1.0
    yield made(5, 3, 3, 4), 1.0
    yield made(5, 3, 4, 3), 0.0
    yield made(3, 3, 5, 4), 1.0
    yield made(2000, 3, 3, 4), 0.3
    yield made(1000, 3, 4, 3), 0.8


def greys(images: Tensor) -> Tensor:
    """Every image grey, bytes (B, 3, H, W)."""
    return images.double().mean(1, keepdim=True).round().byte().expand_as(images)


def by_chance(grey=greys):
    """The right choice, between the images and what `grey` makes of them."""

    def some(images, probability):
        chosen = torch.rand(len(images), 1, 1, 1) < probability
        return torch.where(chosen, grey(images), images)

    return some


def what_happened(result, images, probability):
    """Where all or none must be grey, the pixels; in between, what can be said of so many images."""
    if probability in (0, 1) or result.shape != images.shape:
        return result.double()
    grey, kept = whole(result, greys(images)), whole(result, images)
    neither = int((~(grey | kept)).sum())
    return f"{neither} images neither grey nor as they were", f"{float(grey.double().mean()):.1f} of the images grey"


def whole(result: Tensor, images: Tensor) -> Tensor:
    """Which images are equal, (B,)."""
    return (result == images).flatten(1).all(1)


def in_parts(axes):
    """A question: is each number grey or as it was, the same along `axes`, and yet some image grey in parts only?"""

    def asked(function, images, probability):
        result = function(images, probability)
        grey, kept = (result == target for target in (greys(images), images))
        together = grey.all(axes) | kept.all(axes) if axes else grey | kept
        return bool(together.all()) and not (whole(result, greys(images)) | whole(result, images)).all()

    return asked


def counts(function, images, probability):
    """How many images turn grey, for four seeds; none where all is certain, or where some turn grey in parts only."""
    found = []
    for seed in range(4) if len(images) >= MANY else ():
        torch.default_generator.manual_seed(seed)
        result = function(images, probability)
        grey = whole(result, greys(images))
        found += [int(grey.sum())] if (grey | whole(result, images)).all() else []
    return found


def all_or_none(function, images, probability):
    found = counts(function, images, probability)
    return len(found) == 4 and set(found) <= {0, len(images)}


def always_as_many(function, images, probability):
    found = counts(function, images, probability)
    return len(found) == 4 and len(set(found)) == 1 and 0 < found[0] < len(images)


def not_torchs(function, images, probability):
    """Whether the same seed gives other images."""
    results = []
    for _ in range(2):
        torch.default_generator.manual_seed(0)
        results.append(function(images, probability))
    return not torch.equal(*results)


def luminance(function, images, probability):
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    seen = (images * weights).sum(1, keepdim=True).expand_as(images)
    result = function(images, probability).double()
    return probability == 1 and (result - seen).abs().max() < 1.01 < (result - greys(images)).abs().max()


class CallsWatch(TorchFunctionMode):
    """Counts what is asked of torch meanwhile."""

    calls = 0

    def __torch_function__(self, function, types, arguments=(), options=None):
        self.calls += 1
        return function(*arguments, **(options or {}))


def loops(function, images, probability):
    with CallsWatch() as watch:
        function(images, probability)
    return len(images) >= MANY and watch.calls > len(images)


GREY = Code(
    "some_grey",
    "Bytes (B, 3, H, W), each image turned grey (the rounded mean of its channels) with its own chance.",
    grey_cases,
    by_chance(),
    "all, none, and three or eight of ten among thousands, whole images, each by its own chance",
    [
        Mistake("every image turns grey, whatever the probability", like=lambda x, p: greys(x)),
        Mistake("no image turns grey, whatever the probability", like=lambda x, p: x),
        Mistake(
            "the wrong ones turn grey: `rand` lies below p with probability p",
            like=lambda x, p: by_chance()(x, 1 - p),
        ),
        Mistake(
            "one chance for the whole batch: all images turn grey, or none; draw a number for each",
            when=all_or_none,
        ),
        Mistake(
            "each channel has a chance of its own, and images become grey in parts; draw (B, 1, 1, 1) numbers",
            when=in_parts((2, 3)),
        ),
        Mistake(
            "each pixel has a chance of its own, and images become grey in parts; draw (B, 1, 1, 1) numbers",
            when=in_parts((1,)),
        ),
        Mistake(
            "each number has a chance of its own, and images become grey in parts; draw (B, 1, 1, 1) numbers",
            when=in_parts(()),
        ),
        Mistake(
            "the mean is cut off, not rounded: `byte` drops what stands behind the point",
            like=by_chance(lambda x: x.double().mean(1, keepdim=True).byte().expand_as(x)),
        ),
        Mistake(
            "bytes wrap around at 256 where they are added; turn them into floats first",
            like=by_chance(lambda x: ((x[:, :1] + x[:, 1:2] + x[:, 2:]) / 3).round().byte().expand_as(x)),
        ),
        Mistake(
            "bytes wrap around at 256 where they are added, and the mean is cut off; turn them into floats first",
            like=by_chance(lambda x: ((x[:, :1] + x[:, 1:2] + x[:, 2:]) / 3).byte().expand_as(x)),
        ),
        Mistake(
            "this is how bright colours look, which weighs green most; the plain mean is asked for",
            when=luminance,
        ),
        Mistake(
            "the mean goes over the whole image, which becomes one flat grey; take it over the channels, axis 1",
            like=by_chance(lambda x: x.double().mean((1, 2, 3), keepdim=True).round().byte().expand_as(x)),
        ),
        Mistake(
            "the mean goes over the images of the batch, axis 0; take it over the channels, axis 1",
            like=by_chance(lambda x: x.double().mean(0, keepdim=True).round().byte().expand_as(x)),
        ),
        Mistake(
            "one channel is repeated; grey is the mean of all three",
            when=lambda function, x, p: p == 1
            and any(torch.equal(function(x, p), x[:, k : k + 1].expand_as(x)) for k in range(3)),
        ),
        Mistake(
            "always as many images turn grey; with a chance for each the number varies",
            when=always_as_many,
        ),
        Mistake(
            "after the same `torch.manual_seed` other images turn grey: draw from torch, so that runs can be repeated",
            when=not_torchs,
        ),
        Mistake(
            "bytes came in, and something else goes out: round, then `byte()`",
            when=lambda function, x, p: function(x, p).dtype != torch.uint8,
        ),
        Mistake("a loop goes over the images; one tensor of chances chooses for all", when=loops),
    ],
    observe=what_happened,
    returns=Tensor,
)  # fmt: skip


# Predictions

WINDOWS = Prediction(
    "ex-augment-windows",
    "Padding 4 and a flip: the most views of one picture of 32 × 32, and of all 50,000.",
    [
        Part("of one picture", 162, {
            81: "that leaves out the mirror images",
            128: "from −4 to 4 there are nine shifts, not eight",
            64: "from −4 to 4 there are nine shifts, and each window has a mirror image",
            18: "shifts down and shifts across go together: each with each",
            36: "shifts down and shifts across go together: each with each",
            50: "0 is a shift, too, and it goes both ways: −4 to 4",
            32: "0 is a shift, too, and it goes both ways: −4 to 4",
            200: "a padded picture is 40 wide; a window of 32 fits at nine places",
        }),
        Part("of all 50,000", 8_100_000, {
            4_050_000: "that leaves out the mirror images",
            6_400_000: "from −4 to 4 there are nine shifts, not eight",
            50_162: "each picture has all the views: multiply",
            162: "that is for one picture",
        }),
    ],
)  # fmt: skip

SMOOTHED = Prediction(
    "ex-augment-smoothed",
    "A quarter of a horse replaced by a ship, ten classes, ε = 0.1: the target, and the loss for equal logits.",
    [
        Part("horse", 0.685, {
            0.75: "that is before smoothing",
            0.675: "each class gets its tenth of ε, this one, too",
            0.65: "ε is a share of the whole: all entries are multiplied by 0.9, then 0.01 is added",
            0.775: "smoothing takes before it gives: all entries are multiplied by 0.9",
            0.91: "that would be a horse alone",
        }, within=2e-4),
        Part("ship", 0.235, {
            0.25: "that is before smoothing",
            0.225: "each class gets its tenth of ε, this one, too",
            0.315: "that would be a share of a third",
            0.685: "the ship covers a quarter",
        }, within=2e-4),
        Part("each of the others", 0.01, {
            0: "smoothing leaves no entry at 0",
            0.1: "ε is shared among the ten",
            0.0125: "ε is shared among all ten, not among those that are left",
            1 / 90: "ε is shared among all ten, the right ones, too",
        }, within=2e-4),
        Part("loss", math.log(10), {
            0: "that would be a certain and right answer; equal logits say one tenth to each",
            0.1: "the loss is a logarithm: −ln of the probability, averaged by the target",
            1: "that is the logarithm to base 10; the loss is the natural one",
            0.9 * math.log(10): "smoothed targets sum to 1 as well, and every class has the same logarithm",
            0.5623: "that is the target's own entropy, before smoothing; the model answers one tenth to each",
        }, within=2e-3),
    ],
)  # fmt: skip

NEIGHBOUR = Prediction(
    "ex-augment-neighbour",
    "Of 2,000 questions 60 became right, 30 became wrong: the mean difference and its standard error.",
    [
        Part("difference", 0.015, {
            0.03: "30 became wrong: these count −1",
            0.045: "that counts all that changed; those that became wrong count −1",
            30: "that many questions; divide by 2,000",
            1.5: "a share, not in hundredths",
            -0.015: "more became right than wrong",
        }, within=2e-4),
        Part("standard error", 0.00473, {
            0.2116: "that is the deviation of one question; a mean of n is steadier by √n",
            0.00272: "that takes the difference for a share; changes both ways add to the noise",
            0.0139: "that is for two classifiers asked about different pictures; these answered the same ones",
            0.0098: "that is for one share of a quarter; most questions did not change, and these add no noise",
            0.0000224: "that is the variance of the mean; take its root",
            9.487: "that is √90, in questions; divide by 2,000",
        }, within=1e-4),
    ],
)  # fmt: skip

CHECKS = [GREY, WINDOWS, SMOOTHED, NEIGHBOUR]
