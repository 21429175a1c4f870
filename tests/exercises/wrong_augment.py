"""Wrong answers to the exercises of chapter 10."""

import random

import torch
from torchvision.transforms import functional as vision
from wrong_answers import wrong

GREY = "some_grey"


@wrong(GREY, "every image turns grey")
def _(images, probability):
    return images.float().mean(1, keepdim=True).round().byte().repeat(1, 3, 1, 1)


@wrong(GREY, "no image turns grey")
def _(images, probability):
    grey = images.float().mean(1, keepdim=True).round().byte()
    chosen = torch.rand(len(images), 1, 1, 1) < 0
    return torch.where(chosen, grey, images)


@wrong(GREY, "the wrong ones turn grey")
def _(images, probability):
    grey = images.float().mean(1, keepdim=True).round().byte()
    return torch.where(torch.rand(len(images), 1, 1, 1) < probability, images, grey)


@wrong(GREY, "one chance for the whole batch")
def _(images, probability):
    if torch.rand(1) < probability:
        return images.float().mean(1, keepdim=True).round().byte().expand(-1, 3, -1, -1)
    return images


@wrong(GREY, "each pixel has a chance of its own")
def _(images, probability):
    grey = images.float().mean(1, keepdim=True).round().byte()
    return torch.where(torch.rand_like(grey.float()) < probability, grey, images)


@wrong(GREY, "each channel has a chance of its own")
def _(images, probability):
    grey = images.float().mean(1, keepdim=True).round().byte()
    return torch.where(torch.rand(*images.shape[:2], 1, 1) < probability, grey, images)


@wrong(GREY, "each number has a chance of its own")
def _(images, probability):
    grey = images.float().mean(1, keepdim=True).round().byte()
    return torch.where(torch.rand(images.shape) < probability, grey, images)


@wrong(GREY, "cut off, not rounded")
def _(images, probability):
    grey = images.float().mean(1, keepdim=True).to(torch.uint8)
    return torch.where(torch.rand(len(images), 1, 1, 1) < probability, grey, images)


@wrong(GREY, "bytes wrap around at 256 where they are added, and the mean is cut off")
def _(images, probability):
    red, green, blue = images.split(1, dim=1)
    grey = (red + green + blue) // 3
    return torch.where(torch.rand(len(images), 1, 1, 1) < probability, grey, images)


@wrong(GREY, "bytes wrap around at 256 where they are added; turn them")
def _(images, probability):
    red, green, blue = images.split(1, dim=1)
    grey = ((red + green + blue) / 3).round().byte()
    return torch.where(torch.rand(len(images), 1, 1, 1) < probability, grey, images)


@wrong(GREY, "which weighs green most")
def _(images, probability):
    grey = vision.rgb_to_grayscale(images, 3)
    return torch.where(torch.rand(len(images), 1, 1, 1) < probability, grey, images)


@wrong(GREY, "one flat grey")
def _(images, probability):
    grey = images.float().mean((1, 2, 3), keepdim=True).round().byte()
    return torch.where(torch.rand(len(images), 1, 1, 1) < probability, grey, images)


@wrong(GREY, "over the images of the batch")
def _(images, probability):
    grey = images.float().mean(0, keepdim=True).round().byte()
    return torch.where(torch.rand(len(images), 1, 1, 1) < probability, grey, images)


@wrong(GREY, "one channel is repeated")
def _(images, probability):
    return torch.where(torch.rand(len(images), 1, 1, 1) < probability, images[:, :1], images)


@wrong(GREY, "always as many images turn grey")
def _(images, probability):
    out = images.clone()
    rows = torch.randperm(len(images))[: round(probability * len(images))]
    out[rows] = images[rows].float().mean(1, keepdim=True).round().byte()
    return out


@wrong(GREY, "draw from torch")
def _(images, probability):
    grey = images.float().mean(1, keepdim=True).round().byte()
    chosen = torch.tensor([random.random() < probability for _ in images])
    return torch.where(chosen[:, None, None, None], grey, images)


@wrong(GREY, "something else goes out")
def _(images, probability):
    grey = images.float().mean(1, keepdim=True).round()
    return torch.where(torch.rand(len(images), 1, 1, 1) < probability, grey, images.float())


@wrong(GREY, "a loop goes over the images")
def _(images, probability):
    out = []
    for image in images:
        if torch.rand(()) < probability:
            image = image.float().mean(0, keepdim=True).round().byte().expand(3, -1, -1)
        out.append(image)
    return torch.stack(out)


@wrong(GREY, "changes its argument `images`")
def _(images, probability):
    chosen = torch.rand(len(images)) < probability
    images[chosen] = images[chosen].float().mean(1, keepdim=True).round().byte()
    return images


@wrong(GREY, "the shape is (1, 1, 1, 1), it should be (1, 3, 1, 1)")
def _(images, probability):
    grey = images.float().mean(1, keepdim=True).round().byte()
    return torch.where(torch.rand(len(images), 1, 1, 1) < probability, grey, images[:, :1])
