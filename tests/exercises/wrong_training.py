"""Wrong answers to the exercises of chapter 07."""

import torch.nn.functional as F
from wrong_answers import wrong

PARTS = "gradients_in_parts"


@wrong(PARTS, "call model.zero_grad() first")
def _(model, images, labels, k):
    for x, y in zip(images.chunk(k), labels.chunk(k)):
        (F.cross_entropy(model(x), y, reduction="sum") / len(images)).backward()
    return [p.grad for p in model.parameters()]


@wrong(PARTS, "added as they are")
def _(model, images, labels, k):
    model.zero_grad()
    for x, y in zip(images.chunk(k), labels.chunk(k)):
        F.cross_entropy(model(x), y).backward()
    return [p.grad for p in model.parameters()]


@wrong(PARTS, "right for equal parts only")
def _(model, images, labels, k):
    model.zero_grad()
    for x, y in zip(images.chunk(k), labels.chunk(k)):
        (F.cross_entropy(model(x), y) / k).backward()
    return [p.grad for p in model.parameters()]


@wrong(PARTS, "divide by the number of all")
def _(model, images, labels, k):
    model.zero_grad()
    for x, y in zip(images.chunk(k), labels.chunk(k)):
        F.cross_entropy(model(x), y, reduction="sum").backward()
    return [p.grad for p in model.parameters()]


@wrong(PARTS, "multiply it by the number in its part")
def _(model, images, labels, k):
    model.zero_grad()
    for x, y in zip(images.chunk(k), labels.chunk(k)):
        (F.cross_entropy(model(x), y) / len(images)).backward()
    return [p.grad for p in model.parameters()]


@wrong(PARTS, "is zero_grad inside the loop?")
def _(model, images, labels, k):
    for x, y in zip(images.chunk(k), labels.chunk(k)):
        model.zero_grad()
        (F.cross_entropy(model(x), y) * len(x) / len(images)).backward()
    return [p.grad for p in model.parameters()]


@wrong(PARTS, "is the `return` inside the loop?")
def _(model, images, labels, k):
    model.zero_grad()
    for x, y in zip(images.chunk(k), labels.chunk(k)):
        (F.cross_entropy(model(x), y) * len(x) / len(images)).backward()
        return [p.grad for p in model.parameters()]


@wrong(PARTS, "the last images are left out")
def _(model, images, labels, k):
    model.zero_grad()
    size = len(images) // k
    for i in range(k):
        part = slice(i * size, (i + 1) * size)
        (F.cross_entropy(model(images[part]), labels[part]) / k).backward()
    return [p.grad for p in model.parameters()]


@wrong(PARTS, "the gradient's opposite")
def _(model, images, labels, k):
    model.zero_grad()
    for x, y in zip(images.chunk(k), labels.chunk(k)):
        (F.cross_entropy(model(x), y) * len(x) / len(images)).backward()
    return [-p.grad for p in model.parameters()]


@wrong(PARTS, "the task asks for list or tuple")
def _(model, images, labels, k):
    model.zero_grad()
    for x, y in zip(images.chunk(k), labels.chunk(k)):
        (F.cross_entropy(model(x), y) * len(x) / len(images)).backward()
    return next(model.parameters()).grad


@wrong(PARTS, "its share is its images over all")
def _(model, images, labels, k):
    model.zero_grad()
    for x, y in zip(images.chunk(k), labels.chunk(k)):
        (F.cross_entropy(model(x), y) * len(x) / k).backward()
    return [p.grad for p in model.parameters()]


@wrong(PARTS, "these are the parameters")
def _(model, images, labels, k):
    model.zero_grad()
    for x, y in zip(images.chunk(k), labels.chunk(k)):
        (F.cross_entropy(model(x), y) * len(x) / len(images)).backward()
    return list(model.parameters())


@wrong(PARTS, "the whole batch goes through the model at once")
def _(model, images, labels, k):
    model.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    return [p.grad for p in model.parameters()]


@wrong(PARTS, "`chunk` takes their number")
def _(model, images, labels, k):
    model.zero_grad()
    for x, y in zip(images.split(k), labels.split(k)):
        (F.cross_entropy(model(x), y) * len(x) / len(images)).backward()
    return [p.grad for p in model.parameters()]


@wrong(PARTS, "before the first comes back")
def _(model, images, labels, k):
    model.zero_grad()
    loss = 0
    for x, y in zip(images.chunk(k), labels.chunk(k)):
        loss = loss + F.cross_entropy(model(x), y) * len(x) / len(images)
    loss.backward()
    return [p.grad for p in model.parameters()]
