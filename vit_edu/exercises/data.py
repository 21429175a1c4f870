"""The checks of chapter 09, pictures to learn from."""

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vit_edu.exercises import Code, Mistake, Part, Prediction


def made(n: int, C: int = 3, H: int = 4, W: int = 5, *, low: int = 0, high: int = 256) -> Tensor:
    """The same bytes each time, (n, C, H, W)."""
    chance = torch.Generator().manual_seed(n + C)
    return torch.randint(low, high, (n, C, H, W), generator=chance, dtype=torch.uint8)


def flat(*values: int, size: tuple[int, int] = (1, 2)) -> Tensor:
    """Pictures of one channel and one value each."""
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, *size).contiguous()


# ex-data-pieces


def pieces_cases():
    """One picture first, then pieces that differ, one that is shorter, odd shapes, and hardly any contrast."""
    yield ([torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2)],)
    yield ([flat(0), flat(255)],)
    yield ([flat(0, 0, 0), flat(255)],)
    yield ([flat(10, 200), flat(30, 60), flat(250)],)
    yield (list(made(11).split(4)),)
    yield (list(made(7, 2, 3, 8).split(3)),)
    yield (list(made(30, 4, 8, 8, high=90).split(8)),)
    yield (list(made(230, 3, 8, 8, low=254).split(100)),)


def all_at_once(pieces, correction=0):
    x = torch.cat(list(pieces)).double() / 255
    return x.mean((0, 2, 3)), x.std((0, 2, 3), correction=correction)


def of_each(pieces, correction=0):
    """Means and variances of each piece: two tensors (pieces, C)."""
    found = [all_at_once([part], correction) for part in pieces]
    return torch.stack([mean for mean, _ in found]), torch.stack([std**2 for _, std in found])


def from_sums(pieces, scale=255, count=lambda part: part[:, 0].numel(), square=lambda x, part: x**2, power=2):
    """The right way, with room for its usual mistakes."""
    n, total, squares = 0, 0, 0
    for part in pieces:
        x = part.double() / scale
        n += count(part)
        total = total + x.sum((0, 2, 3))
        squares = squares + square(x, part).sum((0, 2, 3))
    return total / n, (squares / n - (total / n) ** power).sqrt()


def averaged(pieces, deviation, correction=0):
    """Means of the pieces' means, and `deviation` of their means and variances."""
    means, variances = of_each(pieces, correction)
    return means.mean(0), deviation(means, variances)


def weighted_variances(pieces):
    """The mean of all, and the pieces' variances averaged by their sizes."""
    share = torch.tensor([float(len(part)) for part in pieces], dtype=torch.float64)[:, None]
    return all_at_once(pieces)[0], ((of_each(pieces)[1] * share).sum(0) / share.sum()).sqrt()


class SizeWatch(TorchFunctionMode):
    """Notes whether a tensor of so many numbers was made meanwhile."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n, self.held = n, False

    def __torch_function__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        self.held |= isinstance(result, Tensor) and result.numel() >= self.n
        return result


def holds_all_pieces(function, pieces):
    total, channels = sum(part.numel() for part in pieces), pieces[0].shape[1]
    if len(pieces) == 1 or total <= 256 * channels:    # that much may be counts of values
        return False
    with SizeWatch(total) as watch:
        function(pieces)
    return watch.held


def loses_the_difference(function, pieces):
    """Where contrast is low, the mean is right, and the deviation not quite, or not a number."""
    mean, std = (torch.as_tensor(part).double() for part in function(pieces))
    right_mean, right_std = all_at_once(pieces)
    near = torch.allclose(mean, right_mean, atol=1e-5) and not (std - right_std).abs().gt(0.002).any()
    return near and min(part.min() for part in pieces) >= 254 and not torch.allclose(std, right_std, 5e-6, 5e-6)


MOMENTS = Code(
    "moments_in_pieces",
    "Pieces of bytes (n, C, H, W): mean and deviation of each channel, (C,), of all pieces, scaled to 0..1.",
    pieces_cases,
    all_at_once,
    "one piece to four, shorter last ones, 1 to 4 channels, hardly any contrast, against all pixels at once",
    [
        Mistake(
            "each piece has a deviation of its own, and these are averaged; how pieces differ is lost",
            like=lambda p: averaged(p, lambda means, variances: variances.sqrt().mean(0)),
        ),
        Mistake(
            "each piece has a deviation of its own, and these are averaged; the mean is right",
            like=lambda p: (all_at_once(p)[0], of_each(p)[1].sqrt().mean(0)),
        ),
        Mistake(
            "each piece has a variance of its own, and these are averaged; how pieces differ is lost",
            like=lambda p: averaged(p, lambda means, variances: variances.mean(0).sqrt()),
        ),
        Mistake(
            "each piece has a deviation of its own, of n − 1 pixels, and these are averaged; how pieces differ is lost",
            like=lambda p: averaged(p, lambda means, variances: variances.sqrt().mean(0), correction=1),
        ),
        Mistake(
            "each piece has a variance of its own, and their mean by size is taken; how pieces differ is lost",
            like=weighted_variances,
        ),
        Mistake(
            "the mean itself is subtracted from the mean of the squares; its square is to be",
            like=lambda p: from_sums(p, power=1),
        ),
        Mistake(
            "a shorter piece counts as much as the others: divide once, at the end, by the number of pixels",
            like=lambda p: averaged(p, lambda m, v: ((v + m**2).mean(0) - m.mean(0) ** 2).sqrt()),
        ),
        Mistake("these are bytes, 0 to 255; divide by 255", like=lambda p: from_sums(p, scale=1)),
        Mistake("scaled by 256; the largest byte is 255", like=lambda p: from_sums(p, scale=256)),
        Mistake(
            "this is the variance; the deviation is its root",
            like=lambda p: (all_at_once(p)[0], all_at_once(p)[1] ** 2),
        ),
        Mistake(
            "divided by n − 1; the pixels are all there are, so divide by n, as `moments` does",
            like=lambda p: all_at_once(p, correction=1),
        ),
        Mistake("divided by the number of pictures; count pixels", like=lambda p: from_sums(p, count=len)),
        Mistake(
            "divided by the pixels of all channels together; each channel has H·W a picture",
            like=lambda p: from_sums(p, count=Tensor.numel),
        ),
        Mistake(
            "all channels are taken together; each has a mean and a deviation of its own",
            like=lambda p: tuple(f(torch.cat(p).double() / 255) for f in (torch.mean, lambda x: x.std(correction=0))),
        ),
        Mistake(
            "the squares are taken of bytes, and wrap around at 256; convert first",
            like=lambda p: from_sums(p, square=lambda x, part: (part**2).double() / 255**2),
        ),
        Mistake(
            "only the first piece is looked at: is the `return` inside the loop?",
            like=lambda p: from_sums(p[:1]),
        ),
        Mistake("only the last piece counts: do the sums begin anew in the loop?", like=lambda p: from_sums(p[-1:])),
        Mistake(
            "the mean of the squares is given, its root at most; the square of the mean is to be subtracted",
            like=lambda p: (all_at_once(p)[0], from_sums(p, square=lambda x, part: x**2)[1].square()
                            .add(all_at_once(p)[0] ** 2).sqrt()),
        ),
        Mistake(
            "32 bits are too few: two squares are nearly equal here, and their difference is lost in rounding",
            when=loses_the_difference,
        ),
        Mistake("all pieces are in memory at once; look at one, then at the next", when=holds_all_pieces),
    ],
    observe=lambda result, *a: [torch.as_tensor(part).double() for part in result],
    tolerance=5e-6,
)  # fmt: skip


# ex-data-deviations


def deviations_cases():
    """Flat pictures, one flat beside one that is not, and noise of different contrast; large enough for n or n − 1."""
    half = torch.cat([flat(0, size=(32, 48)), flat(255, size=(32, 48))], dim=2)    # above black, below white
    yield (flat(0, 255, size=(64, 48)),)
    yield (torch.cat([flat(0, size=(64, 48)), half]),)
    dull = [made(3, 3, 64, 48, high=high) for high in (40, 120, 250)]
    yield (torch.cat(dull),)
    shades = torch.tensor([0, 60, 110], dtype=torch.uint8)[:, None, None]          # of the channels
    yield (torch.cat([made(2, 3, 48, 64, high=high) + shades for high in (30, 140)]),)


def pictures(images):
    """Mean and deviation of each picture's channels: two tensors (n, C)."""
    x = images.double() / 255
    return x.mean((2, 3)), x.std((2, 3))


DEVIATIONS = Code(
    "other_deviations",
    "Bytes (n, C, H, W): of each channel the number, (C,), that for CIFAR-10 is 0.2023, 0.1994, 0.2010.",
    deviations_cases,
    lambda images: pictures(images)[1].mean(0),
    "flat pictures, dull and bright ones, channels that differ, against a second computation",
    [
        Mistake(
            "that is the deviation of all pixels, in CIFAR-10 0.2470 for red; what did others leave out?",
            like=lambda images: all_at_once([images])[1],
        ),
        Mistake(
            "near: this is the root of the mean variance within a picture, 0.2112 for red; mind the order",
            like=lambda images: (pictures(images)[1] ** 2).mean(0).sqrt(),
        ),
        Mistake(
            "that is the mean variance within a picture; a deviation is a root",
            like=lambda images: (pictures(images)[1] ** 2).mean(0),
        ),
        Mistake(
            "that is how much pictures differ from each other in brightness; look within them",
            like=lambda images: pictures(images)[0].std(0),
        ),
        Mistake(
            "that is how much one place differs from picture to picture, averaged over places",
            like=lambda images: (images.double() / 255).std(0).mean((1, 2)),
        ),
        Mistake(
            "the right idea, with all channels in one: each has a number of its own",
            like=lambda images: (images.double() / 255).flatten(1).std(1).mean(),
        ),
        Mistake("these are bytes, 0 to 255; divide by 255", like=lambda images: 255 * pictures(images)[1].mean(0)),
        Mistake(
            "the numbers of all pictures are there; one for each channel is asked for",
            like=lambda images: pictures(images)[1],
        ),
        Mistake(
            "that is the deviation along a row, averaged over rows; a picture has both directions",
            like=lambda images: (images.double() / 255).std(3).mean((0, 2)),
        ),
        Mistake(
            "that is the deviation along a column, averaged over columns; a picture has both directions",
            like=lambda images: (images.double() / 255).std(2).mean((0, 2)),
        ),
    ],
    observe=lambda result, *a: torch.stack([torch.as_tensor(part).double() for part in result])
    if isinstance(result, (list, tuple)) else torch.as_tensor(result).double(),
    tolerance=3e-4,    # n or n − 1: both give these four digits
)  # fmt: skip


# Predictions

REPEATS = Prediction(
    "ex-data-repeats",
    "Fifty images, batches of 12, repeats=3: batches of a shuffled epoch, images that it shows, batches in order.",
    [
        Part("batches, shuffled", 4, {
            5: "that keeps an incomplete last batch; a shuffled epoch leaves it out",
            13: "that would show all images; a shuffled epoch is as long as without repeats",
            12: "that would show nearly all images; a shuffled epoch is as long as without repeats",
            1: "repeats change what is in a batch, not how many batches there are",
        }),
        Part("images it shows", 16, {
            48: "so many places there are; each image takes three of them",
            50: "that would be an epoch without repeats, and with its incomplete last batch",
            17: "that is a third of 50; a batch holds four different images, and there are four whole batches",
            4: "that many are in one batch",
            12: "that is one batch, each image counted three times",
        }),
        Part("batches in order", 13, {
            12: "in plain order the incomplete last batch counts, too",
            5: "so many it would be without repeats; each batch holds four different images only",
            4: "in plain order all images are shown, four different ones in a batch",
        }),
    ],
)  # fmt: skip

SIXTEEN = Prediction(
    "ex-data-sixteen",
    "Dark and bright in 16 bits: how often brightness tells them apart, opened in the usual way and by to_rgb.",
    [
        Part("right, the usual way", 0.5, {
            1.0: "values above 255 are cut off there: which pixels are below?",
            0.0: "all pictures look the same then, so one of the two classes is always answered",
        }, within=0.02),
        Part("right, by to_rgb", 1.0, {
            0.5: "65,535 becomes 255: 20,000 and 40,000 stay apart",
            0.0: "65,535 becomes 255: 20,000 and 40,000 stay apart, and in order",
        }, within=0.02),
    ],
)  # fmt: skip

CHECKS = [MOMENTS, DEVIATIONS, REPEATS, SIXTEEN]
