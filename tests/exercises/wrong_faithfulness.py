"""Wrong answers to the exercises of chapter 16."""

import torch
from wrong_answers import wrong

from vit_edu.faithfulness import area, erasing_curves, input_times_gradient, ranks

OCCLUSION, LEAD, FILLED = "occlusion", "lead", "filled_area"


def patches_of(model):
    """(row, column, the slices of a picture that are this patch), row by row."""
    height, width = model.patch_embed.patch_size
    rows, columns = model.patch_embed.grid_size
    for row in range(rows):
        for column in range(columns):
            y, x = row * height, column * width
            yield row, column, (..., slice(y, y + height), slice(x, x + width))


def asked(p, classes):
    return p.gather(1, classes[:, None])[:, 0]


@torch.no_grad()
def measured(model, images, classes, score):
    """A map of score(the whole picture's logits, those without the patch)."""
    found = torch.zeros(len(images), *model.patch_embed.grid_size)
    for row, column, patch in patches_of(model):
        less = images.clone()
        less[patch] = 0
        found[:, row, column] = score(model(images), model(less))
    return found


@wrong(OCCLUSION, "the sign is turned")
def _(model, images, classes):
    return measured(model, images, classes, lambda a, b: asked(b.softmax(1) - a.softmax(1), classes))


@wrong(OCCLUSION, "this is the probability that is left")
def _(model, images, classes):
    return measured(model, images, classes, lambda a, b: asked(b.softmax(1), classes))


@wrong(OCCLUSION, "a probability needs the softmax")
def _(model, images, classes):
    return measured(model, images, classes, lambda a, b: asked(a - b, classes))


@wrong(OCCLUSION, "`classes` says which one")
def _(model, images, classes):
    return measured(model, images, classes, lambda a, b: asked(a.softmax(1) - b.softmax(1), a.argmax(1)))


@wrong(OCCLUSION, "each time the largest probability is taken")
def _(model, images, classes):
    return measured(model, images, classes, lambda a, b: a.softmax(1).amax(1) - b.softmax(1).amax(1))


@wrong(OCCLUSION, "a share of what was there")
def _(model, images, classes):
    return measured(model, images, classes, lambda a, b: 1 - asked(b.softmax(1), classes) / asked(a.softmax(1), classes))


@wrong(OCCLUSION, "the patches that went before stay away")
@torch.no_grad()
def _(model, images, classes):
    found, less = torch.zeros(len(images), *model.patch_embed.grid_size), images.clone()
    for row, column, patch in patches_of(model):
        less[patch] = 0
        found[:, row, column] = asked(model(images).softmax(1) - model(less).softmax(1), classes)
    return found


@wrong(OCCLUSION, "changes its argument `images`")
@torch.no_grad()
def _(model, images, classes):
    whole, found = model(images).softmax(1), torch.zeros(len(images), *model.patch_embed.grid_size)
    for row, column, patch in patches_of(model):
        less = images
        less[patch] = 0
        found[:, row, column] = asked(whole - model(less).softmax(1), classes)
    return found


@wrong(OCCLUSION, "remove the patch alone")
@torch.no_grad()
def _(model, images, classes):
    found = torch.zeros(len(images), *model.patch_embed.grid_size)
    for row, column, patch in patches_of(model):
        kept = torch.zeros_like(images)
        kept[patch] = images[patch]
        found[:, row, column] = asked(model(images).softmax(1) - model(kept).softmax(1), classes)
    return found


@wrong(OCCLUSION, "they stand row by row")
@torch.no_grad()
def _(model, images, classes):
    height, width = model.patch_embed.patch_size
    rows, columns = model.patch_embed.grid_size
    found = []
    for x in range(0, columns * width, width):
        for y in range(0, rows * height, height):
            less = images.clone()
            less[:, :, y : y + height, x : x + width] = 0
            found.append(asked(model(images).softmax(1) - model(less).softmax(1), classes))
    return torch.stack(found, 1).view(-1, rows, columns)


@wrong(OCCLUSION, "the shape is right, the numbers are not")
def _(model, images, classes):
    return input_times_gradient(model, images, classes)


@wrong(LEAD, "that of two separate tests")
def _(own, rival):
    n = len(own)
    return own.mean() - rival.mean(), (own.var() / n + rival.var() / n) ** 0.5


@wrong(LEAD, "the two errors are added")
def _(own, rival):
    return own.mean() - rival.mean(), own.std() / len(own) ** 0.5 + rival.std() / len(own) ** 0.5


@wrong(LEAD, "the deviation of single images")
def _(own, rival):
    return (own - rival).mean(), (own - rival).std()


@wrong(LEAD, "divide by its root")
def _(own, rival):
    return (own - rival).mean(), (own - rival).std() / len(own)


@wrong(LEAD, "a sample's is divided by n − 1")
def _(own, rival):
    lead = own - rival
    return lead.mean(), ((lead - lead.mean()) ** 2).mean().sqrt() / len(own) ** 0.5


@wrong(LEAD, "`std` has that correction already")
def _(own, rival):
    return (own - rival).mean(), (own - rival).std() / (len(own) - 1) ** 0.5


@wrong(LEAD, "the sign is turned")
def _(own, rival):
    return rival.mean() - own.mean(), (own - rival).std() / len(own) ** 0.5


@wrong(LEAD, "without their signs")
def _(own, rival):
    lead = (own - rival).abs()
    return lead.mean(), lead.std() / len(own) ** 0.5


@wrong(LEAD, "no error with it")
def _(own, rival):
    return (own - rival).mean()


@wrong(LEAD, "or that of `own`")
def _(own, rival):
    return own.mean() - rival.mean(), own.std() / len(own) ** 0.5


@torch.no_grad()
def by_steps(model, images, maps, classes, filler, counts, sign=1, swap=False, score=None):
    """The probabilities while patches go, as the chapter's loop finds them, with room for mistakes."""
    height, width = model.patch_embed.patch_size
    place = ranks(sign * maps).repeat_interleave(height, 1).repeat_interleave(width, 2)[:, None]
    score = score or (lambda z: asked(z.softmax(1), classes))
    pair = (images, filler) if swap else (filler, images)
    return torch.stack([score(model(torch.where(place < count, *pair))) for count in counts], 1)


def trapezoids(curve):
    return torch.trapezoid(curve, dx=1 / (curve.shape[1] - 1), dim=1)


def to_the_end(maps, every):
    return range(0, maps[0].numel() + 1, every)


@wrong(FILLED, "the order is upside down")
def _(model, images, maps, classes, filler, every=8):
    return trapezoids(by_steps(model, images, maps, classes, filler, to_the_end(maps, every), sign=-1))


@wrong(FILLED, "or this is insertion, with the same area")
def _(model, images, maps, classes, filler, every=8):
    return trapezoids(by_steps(model, images, maps, classes, filler, to_the_end(maps, every), swap=True))


@wrong(FILLED, "the filler is not used")
def _(model, images, maps, classes, filler, every=8):
    shares, deletion, _ = erasing_curves(model, images, maps, classes, every)
    return area(shares, deletion)


@wrong(FILLED, "lacks its last point")
def _(model, images, maps, classes, filler, every=8):
    return trapezoids(by_steps(model, images, maps, classes, filler, range(0, maps[0].numel(), every)))


@wrong(FILLED, "lacks its first point")
def _(model, images, maps, classes, filler, every=8):
    return trapezoids(by_steps(model, images, maps, classes, filler, range(every, maps[0].numel() + 1, every)))


@wrong(FILLED, "a probability needs the softmax")
def _(model, images, maps, classes, filler, every=8):
    how = lambda z: asked(z, classes)    # noqa: E731
    return trapezoids(by_steps(model, images, maps, classes, filler, to_the_end(maps, every), score=how))


@wrong(FILLED, "which may be another class's")
def _(model, images, maps, classes, filler, every=8):
    how = lambda z: z.softmax(1).amax(1)    # noqa: E731
    return trapezoids(by_steps(model, images, maps, classes, filler, to_the_end(maps, every), score=how))


@wrong(FILLED, "this is the mean of the points")
def _(model, images, maps, classes, filler, every=8):
    return by_steps(model, images, maps, classes, filler, to_the_end(maps, every)).mean(1)


@wrong(FILLED, "the width of a step is missing")
def _(model, images, maps, classes, filler, every=8):
    return torch.trapezoid(by_steps(model, images, maps, classes, filler, to_the_end(maps, every)), dim=1)


@wrong(FILLED, "one number for all pictures")
def _(model, images, maps, classes, filler, every=8):
    return trapezoids(by_steps(model, images, maps, classes, filler, to_the_end(maps, every))).mean()
