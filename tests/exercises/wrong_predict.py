"""Wrong answers to the exercises of chapter 18."""

import numpy as np
from PIL import Image, ImageOps
from wrong_answers import wrong

from vit_edu.pictures import to_rgb
from vit_edu.predict import CIFAR10, predict

LETTERBOX, NAMES = "letterbox", "hits_by_shift"


def padded(image, colour):
    image = to_rgb(image)
    return ImageOps.pad(image, (max(image.size), max(image.size)), Image.BICUBIC, color=colour)


@wrong(LETTERBOX, "the border is black")
def _(image, mean):
    return padded(image, None)


@wrong(LETTERBOX, "the border is white")
def _(image, mean):
    return padded(image, "white")


@wrong(LETTERBOX, "cut off, not rounded")
def _(image, mean):
    return padded(image, tuple(int(255 * m) for m in mean))


@wrong(LETTERBOX, "always CIFAR-10's mean")
def _(image, mean):
    return padded(image, tuple(round(255 * m) for m in CIFAR10.mean))


@wrong(LETTERBOX, "the upper left corner")
def _(image, mean):
    image = to_rgb(image)
    side = max(image.size)
    sheet = Image.new("RGB", (side, side), tuple(round(255 * m) for m in mean))
    sheet.paste(image)
    return sheet


@wrong(LETTERBOX, "the picture is stretched")
def _(image, mean):
    image = to_rgb(image)
    return image.resize((max(image.size),) * 2)


@wrong(LETTERBOX, "cut to a square; keep all of it")
def _(image, mean):
    image = to_rgb(image)
    side = min(image.size)
    return ImageOps.fit(image, (side, side))


@wrong(LETTERBOX, "the square's side is the longer one")
def _(image, mean):
    image = to_rgb(image)
    return ImageOps.pad(image, (min(image.size),) * 2, color=tuple(round(255 * m) for m in mean))


@wrong(LETTERBOX, "nothing is padded")
def _(image, mean):
    return to_rgb(image)


@wrong(LETTERBOX, "the task asks for Image")
def _(image, mean):
    return np.asarray(padded(image, tuple(round(255 * m) for m in mean)))


@wrong(LETTERBOX, "stops in line")
def _(image, mean):
    return padded(image, tuple(255 * m for m in mean))


def called(model, pictures, names):
    return [predict(model, picture, top=1, classes=names)[0][0] for picture in pictures]


def agreeing(guesses, truth):
    return sum(a == b for a, b in zip(guesses, truth))


@wrong(NAMES, "the list is turned the other way")
def _(model, pictures, truth, names):
    turns = [names[-s:] + names[:-s] if s else names for s in range(len(names))]
    return [agreeing(called(model, pictures, turned), truth) for turned in turns]


@wrong(NAMES, "the model's own names are asked")
def _(model, pictures, truth, names):
    return [agreeing(called(model, pictures, None), truth) for _ in names]


@wrong(NAMES, "the list is never turned")
def _(model, pictures, truth, names):
    return [agreeing(called(model, pictures, names), truth) for _ in names]


@wrong(NAMES, "the list as given, is missing")
def _(model, pictures, truth, names):
    turns = [names[s:] + names[:s] for s in range(1, len(names))]
    return [agreeing(called(model, pictures, turned), truth) for turned in turns]


@wrong(NAMES, "the list begins with a shift of 1")
def _(model, pictures, truth, names):
    hits, names = [], list(names)
    for _ in range(len(names)):
        names.append(names.pop(0))
        hits.append(agreeing(called(model, pictures, names), truth))
    return hits


@wrong(NAMES, "these are shares")
def _(model, pictures, truth, names):
    turns = [names[s:] + names[:s] for s in range(len(names))]
    return [agreeing(called(model, pictures, turned), truth) / len(truth) for turned in turns]


@wrong(NAMES, "called wrongly are counted")
def _(model, pictures, truth, names):
    turns = [names[s:] + names[:s] for s in range(len(names))]
    return [sum(a != b for a, b in zip(called(model, pictures, turned), truth)) for turned in turns]


@wrong(NAMES, "changes its argument `names`")
def _(model, pictures, truth, names):
    names.sort()
    turns = [names[s:] + names[:s] for s in range(len(names))]
    return [agreeing(called(model, pictures, turned), truth) for turned in turns]
