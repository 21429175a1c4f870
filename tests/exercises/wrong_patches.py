"""Wrong answers to the exercises of chapter 01."""

import torch.nn.functional as F
from wrong_answers import wrong

UNFOLD, LAST, UNLAST = "patchify_unfold", "patchify_last", "unpatchify_last"


@wrong(UNFOLD, "exchange the last two")
def _(images, P):
    return F.unfold(images, P, stride=P)


@wrong(UNFOLD, "exchanged by a reshape")
def _(images, P):
    x = F.unfold(images, kernel_size=P, stride=P)
    return x.view(x.shape[0], x.shape[2], x.shape[1])


@wrong(UNFOLD, "the windows overlap")
def _(images, P):
    return F.unfold(images, P).mT


@wrong(UNFOLD, "cuts memory, not squares")
def _(images, P):
    B, C, H, W = images.shape
    return images.reshape(B, -1, C * P * P)


@wrong(UNFOLD, "rows and columns of the grid are swapped")
def _(images, P):
    B, C, H, W = images.shape
    x = images.reshape(B, C, H // P, P, W // P, P).permute(0, 4, 2, 1, 3, 5)
    return x.reshape(B, -1, C * P * P)


@wrong(UNFOLD, "each patch is on its side")
def _(images, P):
    B, C, H, W = images.shape
    x = images.reshape(B, C, H // P, P, W // P, P).permute(0, 2, 4, 1, 5, 3)
    return x.reshape(B, -1, C * P * P)


@wrong(UNFOLD, "the batch is lost")
def _(images, P):
    return F.unfold(images, P, stride=P).transpose(1, 2).reshape(1, -1, images.shape[1] * P * P)


@wrong(UNFOLD, "unfold keeps the channel first")
def _(images, P):
    B, C, H, W = images.shape
    return images.reshape(B, C, H // P, P, W // P, P).permute(0, 2, 4, 3, 5, 1).reshape(B, -1, P * P * C)


@wrong(UNFOLD, "stops in line")
def _(images, P):
    return F.unfold(images, P, stride=P).permute(0, 2)


@wrong(LAST, "the channel comes first in each patch")
def _(images, P):
    return F.unfold(images, P, stride=P).transpose(1, 2)


@wrong(LAST, "cuts memory, not squares")
def _(images, P):
    return images.reshape(images.shape[0], -1, P * P * images.shape[1])


@wrong(LAST, "rows and columns of the grid are swapped")
def _(images, P):
    B, C, H, W = images.shape
    x = images.reshape(B, C, H // P, P, W // P, P)
    return x.permute(0, 4, 2, 3, 5, 1).reshape(B, -1, P * P * C)


@wrong(LAST, "it goes column, row, channel")
def _(images, P):
    B, C, H, W = images.shape
    x = images.reshape(B, C, H // P, P, W // P, P)
    return x.permute(0, 2, 4, 5, 3, 1).reshape(B, -1, P * P * C)


@wrong(LAST, "it goes row, channel, column")
def _(images, P):
    B, C, H, W = images.shape
    x = images.reshape(B, C, H // P, P, W // P, P)
    return x.permute(0, 2, 4, 3, 1, 5).reshape(B, -1, P * P * C)


@wrong(LAST, "returns nothing")
def _(images, P):
    images.reshape(1, -1)


@wrong(UNLAST, "the channel is taken first from each patch")
def _(patches, P, H, W):
    x = patches.reshape(len(patches), H // P, W // P, -1, P, P)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(len(patches), -1, H, W)


@wrong(UNLAST, "permute before it")
def _(patches, P, H, W):
    return patches.view(patches.shape[0], -1, H, W)


@wrong(UNLAST, "bring the channels to the front")
def _(patches, P, H, W):
    x = patches.reshape(len(patches), H // P, W // P, P, P, -1)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(len(patches), H, W, -1)


@wrong(UNLAST, "the last reshape hides it")
def _(patches, P, H, W):
    x = patches.reshape(len(patches), W // P, H // P, P, P, -1)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, H, W)


@wrong(UNLAST, "each patch is on its side")
def _(patches, P, H, W):
    x = patches.reshape(len(patches), H // P, W // P, P, P, -1)
    return x.permute(0, 5, 1, 4, 2, 3).reshape(len(patches), -1, H, W)


@wrong(UNLAST, "laid down column by column")
def _(patches, P, H, W):
    x = patches.reshape(len(patches), W // P, H // P, P, P, -1)
    return x.permute(0, 5, 2, 3, 1, 4).reshape(len(patches), -1, H, W)
