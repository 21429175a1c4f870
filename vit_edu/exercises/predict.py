"""The checks of chapter 18, one's own picture."""

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from vit_edu.exercises import Code, Mistake, Part, Prediction
from vit_edu.model import VisionTransformer
from vit_edu.pictures import to_rgb
from vit_edu.predict import CIFAR10, predict
from vit_edu.weights import Preparation

# ex-predict-pad


def letters():
    """Wide, high and square pictures, with an odd rest, in colour and in grey, bytes first and PIL's last."""
    numbers = np.random.default_rng(0)
    colours = (0.5, 0.25, 0.75), (0.2, 0.4, 0.6), CIFAR10.mean, CIFAR10.mean
    for (height, width), mean in zip([(2, 4), (6, 2), (4, 9), (5, 5)], colours):
        yield torch.from_numpy(numbers.integers(0, 256, (3, height, width), dtype=np.uint8)), mean
    for shape in (4, 8), (8, 4, 3):
        yield Image.fromarray(numbers.integers(0, 256, shape, dtype=np.uint8)), CIFAR10.mean


def pixels(result, *arguments) -> Tensor:
    """A picture as numbers (height, width, channels): modes and kinds of arrays may differ."""
    return torch.from_numpy(np.array(result).astype(np.float32))


def in_the_middle(image, mean, how=round, place=0.5):
    """The picture on a square sheet of one colour."""
    image = to_rgb(image)
    side = max(image.size)
    sheet = Image.new("RGB", (side, side), tuple(how(255 * m) for m in mean))
    left, top = (int((side - n) * place) for n in image.size)
    sheet.paste(image, (left, top))
    return sheet


LETTERBOX = Code(
    "letterbox",
    "A picture of any kind as a square RGB image, padded on both sides with the colour `mean` (0 to 1).",
    letters,
    lambda image, mean: in_the_middle(image, mean),
    "wide, high and square pictures, colour and grey, against the picture pasted on a sheet of that colour",
    [
        Mistake(
            "the border is black; it has the colour of `mean`",
            like=lambda image, mean: in_the_middle(image, (0, 0, 0)),
        ),
        Mistake(
            "the border is white; it has the colour of `mean`",
            like=lambda image, mean: in_the_middle(image, (1, 1, 1)),
        ),
        Mistake(
            "the border's colour is cut off, not rounded: a byte too dark",
            like=lambda image, mean: in_the_middle(image, mean, how=int),
        ),
        Mistake(
            "the border has always CIFAR-10's mean; `mean` says which colour it is",
            like=lambda image, mean: in_the_middle(image, CIFAR10.mean),
        ),
        Mistake(
            "the colour is mean · 256; a byte goes to 255",
            like=lambda image, mean: in_the_middle(image, [m * 256 / 255 for m in mean], how=int),
        ),
        Mistake(
            "the picture stands in the upper left corner; pad on both sides",
            like=lambda image, mean: in_the_middle(image, mean, place=0),
        ),
        Mistake(
            "the picture is cut to a square; keep all of it and pad",
            like=lambda image, mean: ImageOps.fit(to_rgb(image), 2 * (min(to_rgb(image).size),)),
        ),
        Mistake(
            "the picture is cut to a square and enlarged; keep all of it and pad",
            like=lambda image, mean: ImageOps.fit(to_rgb(image), 2 * (max(to_rgb(image).size),)),
        ),
        Mistake(
            "the picture is stretched to a square; keep its proportions and pad",
            like=lambda image, mean: to_rgb(image).resize(2 * (max(to_rgb(image).size),)),
        ),
        Mistake(
            "the picture is made smaller to fit into its shorter side; the square's side is the longer one",
            like=lambda image, mean: ImageOps.pad(
                to_rgb(image), 2 * (min(to_rgb(image).size),), color=tuple(round(255 * m) for m in mean)
            ),
        ),
        Mistake("the picture comes back as it was: nothing is padded", like=lambda image, mean: to_rgb(image)),
    ],
    observe=pixels,
    returns=Image.Image,
)  # fmt: skip


# ex-predict-names

WORDS = ("ant", "bee", "cod", "dog", "elk")


def named():
    """A model of two classes first, then of three to five, the names as they were and turned."""
    chance = torch.Generator().manual_seed(0)
    for n, n_pictures, turn in (2, 1, 0), (3, 6, 0), (4, 5, 3):
        torch.default_generator.manual_seed(n)
        model = VisionTransformer(4, 2, 3, n, embed_dim=8, depth=1, n_heads=2, pool="mean").eval()
        torch.nn.init.normal_(model.head.weight, std=3.0)
        model.preparation = Preparation((0.5, 0.5, 0.5), (0.2, 0.2, 0.2), WORDS[:n])
        pictures = torch.randint(0, 256, (n_pictures, 3, 4, 4), generator=chance, dtype=torch.uint8)
        truth = [predict(model, picture, 1)[0][0] for picture in pictures]
        truth[-1] = WORDS[n - 1]                                 # the model may be wrong
        yield model, pictures, truth, list(WORDS[turn:n] + WORDS[:turn])


def numbers(model, pictures) -> list[int]:
    """The class that the model finds in each picture."""
    n = model.head.out_features
    return [int(predict(model, p, 1, classes=[str(i) for i in range(n)])[0][0]) for p in pictures]


def hits(called=lambda names, i, s: names[(i + s) % len(names)], shifts=range, score=sum):
    """The right answer, with room for its usual mistakes: the name of class i in shift s."""

    def answer(model, pictures, truth, names):
        found = numbers(model, pictures)
        return [score([called(names, i, s) == t for i, t in zip(found, truth)]) for s in shifts(len(names))]

    return answer


def as_noted(model, pictures, truth, names):
    """The names that the model carries, whatever list is given."""
    return [sum(predict(model, p, 1)[0][0] == t for p, t in zip(pictures, truth)) for _ in names]


NAMES = Code(
    "hits_by_shift",
    "For each shift s: how many pictures are called by their name in `truth` if class i is called names[i + s], "
    "counted in a circle.",
    named,
    hits(),
    "two to four classes, names in order and turned, against the classes' numbers",
    [
        Mistake(
            "the list is turned the other way: with shift 1 class 0 is called names[1]",
            like=hits(lambda names, i, s: names[i - s]),
        ),
        Mistake(
            "all shifts have the same hits: the model's own names are asked, pass `classes`",
            like=as_noted,
        ),
        Mistake("the list is never turned", like=hits(lambda names, i, s: names[i])),
        Mistake("the shift of 0, the list as given, is missing", like=hits(shifts=lambda n: range(1, n))),
        Mistake("the last shift is missing", like=hits(shifts=lambda n: range(n - 1))),
        Mistake(
            "the list begins with a shift of 1: the first number is that of the list as given",
            like=hits(shifts=lambda n: range(1, n + 1)),
        ),
        Mistake(
            "these are shares; the number of pictures is asked for",
            like=hits(score=lambda right: sum(right) / len(right)),
        ),
        Mistake("the pictures that are called wrongly are counted", like=hits(score=lambda r: len(r) - sum(r))),
        Mistake(
            "the names are reversed from s on; a turn keeps their order",
            like=hits(lambda names, i, s: (names[s:] + names[:s][::-1])[i]),
        ),
        Mistake(
            "the true names are turned as well, and everything agrees again",
            like=lambda model, pictures, truth, names: [hits()(model, pictures, truth, names)[0]] * len(names),
        ),
    ],
    observe=lambda result, *a: [float(r) for r in result] if isinstance(result, (list, tuple, Tensor)) else result,
)  # fmt: skip


# Predictions

CROP = Prediction(
    "ex-predict-crop",
    "Share and reduction of 3,000 × 1,000 and of 1,000 × 1,000 pixels, for a model of 224.",
    [
        Part("share, 3,000 × 1,000", 1 / 3, {
            1: "a square is seen, and this is none: what stands at the edge is cut away",
            1 / 9: "the middle third of the width is seen, and all of the height",
            2 / 3: "that is what is lost",
            224**2 / 3_000_000: "it is resized before it is cut",
        }, within=0.004),
        Part("factor, 3,000 × 1,000", 1000 / 224, {
            3000 / 224: "the shorter side becomes 224, the longer one is cut",
            224 / 1000: "the other way round: 1,000 pixels become 224",
            (1000 / 224) ** 2: "that is for the area",
            1: "it is resized before it is cut",
        }, within=0.05),
        Part("share, 1,000 × 1,000", 1, {
            1 / 3: "that is the panorama; a square loses nothing",
            224**2 / 1000**2: "it is made smaller, not cut",
        }, within=0.004),
        Part("factor, 1,000 × 1,000", 1000 / 224, {
            224 / 1000: "the other way round: 1,000 pixels become 224",
            (1000 / 224) ** 2: "that is for the area",
            1: "it is resized to the model's size",
        }, within=0.05),
    ],
)  # fmt: skip

LOOKS = Prediction(
    "ex-predict-looks",
    "When is the mean of two predictions that for the mean picture: for which pictures, for which models?",
    [
        Part("pictures", "symmetric", {
            "all": "softmax, GELU and norms bend the way from picture to answer",
            "none": "think of a picture that is its own mirror image",
        }),
        Part("models", "linear", {
            "deterministic": "so is ours, in evaluation",
            "calibrated": "that says how often a model is right, not what it makes of a mixture",
        }),
    ],
)  # fmt: skip

TRANSFER = Prediction(
    "ex-predict-transfer",
    "Decay 0.5, six blocks: the rate of block 0 as a part of the head's.",
    [Part("block 0", 0.5**6, {
        0.5**7: "that is for patches and positions, l = 0; block 0 is l = 1",
        0.5**5: "block 5 has one half, block 4 one quarter; go on",
        0.5: "that is the last block's",
        1: "that is the head's own",
        0.5**6 * 1e-3: "that is the rate itself; as a part of the head's it is asked for",
    }, within=1e-4)],
)  # fmt: skip

CHECKS = [CROP, LETTERBOX, NAMES, LOOKS, TRANSFER]
