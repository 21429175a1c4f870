"""The checks of chapter 12, photographs."""

import torch
from PIL import Image, ImageOps
from torchvision.transforms.functional import pil_to_tensor

from vit_edu.exercises import Code, Mistake, Part, Prediction

# ex-photographs-smaller


def noise(width: int, height: int) -> Image.Image:
    chance = torch.Generator().manual_seed(width)
    pixels = torch.randint(256, (height, width, 3), generator=chance, dtype=torch.uint8)
    return Image.frombytes("RGB", (width, height), bytes(pixels.flatten().tolist()))


def smaller_cases():
    """Lying, upright, square, sizes that must be rounded up or down, and images that are small enough already."""
    for size, side in [
        ((6, 4), 2), ((4, 6), 3), ((3, 3), 2), ((11, 7), 3), ((7, 12), 5), ((9, 6), 6), ((3, 5), 9), ((5, 3), 4),
        ((50, 37), 25), ((64, 43), 16),
    ]:  # fmt: skip
        yield noise(*size), side


def resized(image, side, by=min, most=1.0, whole=round, how=Image.BICUBIC):
    """The right way, with room for its usual mistakes."""
    scale = min(most, side / by(image.size))
    return image.resize([whole(scale * length) for length in image.size], how)


def only_the_filter(function, image, side):
    result, right = function(image, side), resized(image, side)
    return result.size == right.size and result.tobytes() != right.tobytes()


SMALLER = Code(
    "smaller",
    "The image at `side` pixels on the shorter side, its shape kept, sizes rounded, by BICUBIC; a small one as it is.",
    smaller_cases,
    resized,
    "lying, upright and square, larger and smaller than asked for",
    [
        Mistake("the longer side gets `side` pixels; the shorter one is asked for", like=lambda *a: resized(*a, by=max)),
        Mistake(
            "the width gets `side` pixels, whichever side is shorter",
            like=lambda image, side: resized(image, side, by=lambda size: size[0]),
        ),
        Mistake(
            "the height gets `side` pixels, whichever side is shorter",
            like=lambda image, side: resized(image, side, by=lambda size: size[1]),
        ),
        Mistake(
            "an image that is small enough is enlarged: that adds bytes and shows nothing new",
            like=lambda *a: resized(*a, most=float("inf")),
        ),
        Mistake(
            "the shape is lost: all images become squares",
            like=lambda image, side: image.resize((side, side), Image.BICUBIC),
        ),
        Mistake(
            "the middle is cut out; all of the image is to be kept, smaller",
            like=lambda image, side: ImageOps.fit(image, (side, side), Image.BICUBIC),
        ),
        Mistake("sizes are cut off, not rounded", like=lambda *a: resized(*a, whole=int)),
        Mistake(
            "width and height are swapped: the shape is turned",
            like=lambda image, side: image.resize(resized(image, side).size[::-1], Image.BICUBIC),
        ),
        Mistake("the size is right; the pixels are not BICUBIC's", when=only_the_filter),
    ],
    observe=lambda image, *_: (image.size, pil_to_tensor(image)),
    returns=Image.Image,
)


# ex-photographs-square


def square_cases():
    """Small enough for a look first; lying, upright, square; several seeds of each."""
    for width, height in (4, 2), (2, 5), (6, 6), (40, 30), (300, 500):
        for seed in range(6):
            yield width, height, seed
    yield 640, 427, 2**62


def drawn(width, height, seed, by=min, side_more=1, place_more=1, anew=False, swapped=False, free=True):
    """The right way, with room for its usual mistakes."""
    chance = torch.Generator().manual_seed(seed)

    def draw(low, high):
        if anew:
            chance.manual_seed(seed)
        return int(torch.randint(low, high, (), generator=chance))

    side = draw(by(width, height) // 2, by(width, height) + side_more)
    lengths = (height, width) if swapped else (width, height)
    first, second = (draw(0, length - side * free + place_more) for length in lengths)
    return (second, first, side) if swapped else (first, second, side)


def by_torchs_own(width, height, seed):
    shorter = min(width, height)
    side = int(torch.randint(shorter // 2, shorter + 1, ()))
    left, top = (int(torch.randint(0, length - side + 1, ())) for length in (width, height))
    return left, top, side


def leaves_a_trace(function, *arguments):
    before = torch.get_rng_state()
    function(*arguments)
    return not torch.equal(before, torch.get_rng_state())


def a_seed_for_all(width, height, seed):
    return drawn(width, height, torch.Generator().initial_seed())


SQUARE = Code(
    "random_square",
    "Left, top and side of a square in an image. Drawn by torch.randint, in this order: the side, from half the "
    "shorter side (rounded down) to all of it; left; top. Nothing but `seed` decides, and torch's own generator "
    "is left alone.",
    square_cases,
    drawn,
    "lying, upright and square images, several seeds of each",
    [
        Mistake("torch.randint stops before its upper end: the largest side never comes", like=lambda *a: drawn(*a, side_more=0)),
        Mistake(
            "torch.randint stops before its upper end: the last place for left and top never comes",
            like=lambda *a: drawn(*a, place_more=0),
        ),
        Mistake(
            "left and top are drawn from the whole image: the square may stick out",
            like=lambda *a: drawn(*a, free=False, place_more=0),
        ),
        Mistake("the longer side decides how large the square is: it may not fit in", like=lambda *a: drawn(*a, by=max)),
        Mistake("top is drawn before left: seeds are worth something only in one order", like=lambda *a: drawn(*a, swapped=True)),
        Mistake(
            "left and top are swapped",
            like=lambda w, h, seed: (lambda left, top, side: (top, left, side))(*drawn(w, h, seed)),
        ),
        Mistake(
            "the generator begins anew before each draw: side, left and top are no longer independent",
            like=lambda *a: drawn(*a, anew=True),
        ),
        Mistake("the seed decides nothing: torch's own generator draws", like=by_torchs_own),
        Mistake("a new torch.Generator begins at one and the same place: give it the seed", like=a_seed_for_all),
        Mistake(
            "torch's own generator is not where it was: whoever draws next in this process gets other numbers",
            when=leaves_a_trace,
        ),
    ],
    observe=lambda result, *_: [int(number) for number in result],
    returns=(tuple, list),
)  # fmt: skip


# Predictions

# Images a second that an L4 asks for at an MFU of 0.3, of ViT-S/16 and ViT-Ti/16, and what eight cores of 200 deliver.
S, TI, CORES = 1316, 4826, 8 * 200

WAITS = Prediction(
    "ex-photographs-cores",
    "One L4, eight cores that cut 200 parts a second each: who waits, and for which share of the time?",
    [
        Part("who waits for S/16", "loader", {
            "GPU": "eight cores deliver 1,600 a second, and the GPU takes fewer",
            "neither": "the two rates are not the same: the faster one waits",
        }),
        Part("its idle share", 1 - S / CORES, {
            S / CORES: "that is the share of its time in which it works",
            CORES / S - 1: "the faster one's rate is the whole: divide by it",
            0: "the two rates are not the same",
        }, within=0.02),
        Part("who waits for Ti/16", "GPU", {
            "loader": "the GPU takes nearly 5,000 a second, eight cores deliver 1,600",
            "neither": "the two rates are not the same: the faster one waits",
        }),
        Part("its idle share", 1 - CORES / TI, {
            CORES / TI: "that is the share of its time in which it works",
            TI / CORES - 1: "the faster one's rate is the whole: divide by it",
            1 - 200 / TI: "that is one core; there are eight",
        }, within=0.02),
    ],
)  # fmt: skip

SHORTCUT = Prediction(
    "ex-photographs-shortcut",
    "Shares of the random parts that can be decoded at 1/2 or less, for three kinds of photograph and model.",
    [
        Part("500 × 375, for 224", 0.0, {
            0.03: "the shorter side of the part decides: it must have 448 pixels, more than the image is high",
            0.336: "twice the area is not twice as many pixels a side",
            0.667: "so many parts have at least 224 pixels a side; it takes 448",
        }, within=0.012),
        Part("500 × 375, for 64", 0.97, {
            0.0: "128 pixels a side are enough, and most parts have them",
            0.5: "128 × 128 pixels are less than a tenth of the image: hardly any part is smaller",
        }, within=0.025),
        Part("4000 × 3000, for 224", 1.0, {
            0.0: "448 pixels a side are enough, and 8 % of this image are a million pixels",
            0.5: "8 % of this image are a million pixels, about 980 a side",
        }, within=0.012),
    ],
)  # fmt: skip

REDUCED = Prediction(
    "ex-photographs-reduced",
    "Which changes the image more: the shortcut, or the choice between bicubic and bilinear?",
    [Part("changes more", "filter", {
        "shortcut": "the mean of a block keeps what a small image can show of it",
        "the same": "near, but measure: one of the two is larger in mean difference",
    })],
)  # fmt: skip

CHANCE = Prediction(
    "ex-photographs-chance",
    "Of 24 careless numbers in batches of 8: how many agree by one reader and by none, two and none, two and one?",
    [
        Part("one and none", 0, {
            24: "a reader's generator does not begin where the process's own stands",
            8: "a reader's generator does not begin where the process's own stands",
        }),
        Part("two and none", 0, {
            24: "that would be chance that belongs to the image",
            12: "neither reader begins where the process's own generator stands",
            8: "neither reader begins where the process's own generator stands",
        }),
        Part("two and one", 8, {
            24: "the second batch is the second reader's first: it draws from another generator",
            0: "the first reader is the same in both, and so is what it draws first",
            12: "readers take whole batches in turn, not every other image",
            16: "the third batch is the first reader's second with two readers, and its third with one",
        }),
    ],
)  # fmt: skip

CHECKS = [WAITS, SHORTCUT, REDUCED, SMALLER, SQUARE, CHANCE]
