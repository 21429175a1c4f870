"""The checks of chapter 01, images as sequences."""

import torch
from torch import Tensor

from vit_edu.exercises import Code, Mistake, Part, Prediction
from vit_edu.patches import patchify, unpatchify


def numbered(*shape: int) -> Tensor:
    """An image whose every pixel has a number of its own."""
    return torch.arange(float(torch.tensor(shape).prod())).reshape(shape)


def image_cases():
    """Images (B, C, H, W) and a patch: a row of patches, a column, channels, batches, then all together."""
    for shape, P in [
        ((1, 1, 2, 4), 2), ((1, 1, 4, 2), 2), ((1, 2, 2, 2), 2), ((2, 1, 2, 2), 2), ((1, 1, 4, 4), 2),
        ((1, 2, 2, 2), 1), ((1, 3, 4, 6), 2), ((2, 3, 6, 4), 2), ((3, 2, 6, 9), 3), ((2, 3, 8, 8), 4),
        ((1, 4, 5, 10), 5), ((2, 5, 12, 8), 4),
    ]:  # fmt: skip
        yield numbered(*shape), P


# ex-patches-unfold


def one_reshape(images, P):
    B, C, H, W = images.shape
    return images.reshape(B, H * W // P**2, C * P**2)


def grid_swapped(images, P):
    """Patches down the columns first."""
    return patchify(images.transpose(2, 3), P).unflatten(2, (-1, P, P)).transpose(3, 4).flatten(2)


UNFOLD = Code(
    "patchify_unfold",
    "Images (B, C, H, W) to patches (B, N, C·P·P) of side P, by one call of F.unfold.",
    image_cases,
    patchify,
    "rows, columns, channels and batches of patches, against patchify",
    [
        Mistake(
            "the axes are (B, C·P·P, N), as unfold returns them: exchange the last two",
            like=lambda images, P: patchify(images, P).transpose(1, 2),
        ),
        Mistake(
            "the last two axes are exchanged by a reshape, which moves no number: transpose them",
            like=lambda images, P: patchify(images, P).transpose(1, 2).reshape(patchify(images, P).shape),
        ),
        Mistake(
            "the windows overlap: unfold moves by one pixel unless stride says otherwise",
            like=lambda images, P: torch.nn.functional.unfold(images, P).transpose(1, 2),
        ),
        Mistake("a reshape alone cuts memory, not squares", like=one_reshape),
        Mistake("rows and columns of the grid are swapped", like=grid_swapped),
        Mistake(
            "each patch is on its side: its rows and columns are swapped",
            like=lambda images, P: patchify(images, P).unflatten(2, (-1, P, P)).transpose(3, 4).flatten(2),
        ),
        Mistake(
            "the numbers in a patch stand in the order row, column, channel; unfold keeps the channel first",
            like=lambda images, P: channels_last(images, P),
        ),
        Mistake(
            "the batch is lost: there is one long sequence",
            like=lambda images, P: patchify(images, P).flatten(0, 1)[None],
        ),
    ],
)


# ex-patches-channels


def channels_last(images, P):
    return patchify(images, P).unflatten(2, (-1, P * P)).transpose(2, 3).flatten(2)


def channels_first(patches, P):
    return patches.unflatten(2, (P * P, -1)).transpose(2, 3).flatten(2)


LAST = Code(
    "patchify_last",
    "Images (B, C, H, W) to patches (B, N, P·P·C), flattened row, column, channel.",
    image_cases,
    channels_last,
    "up to five channels, every pixel another number",
    [
        Mistake("the channel comes first in each patch; here it is the last axis", like=patchify),
        Mistake("a reshape alone cuts memory, not squares", like=one_reshape),
        Mistake(
            "the channels are reversed, too: only their axis moves",
            like=lambda images, P: channels_last(images.flip(1), P),
        ),
        Mistake(
            "rows and columns of the grid are swapped",
            like=lambda images, P: channels_last(images.transpose(2, 3), P)
            .unflatten(2, (P, P, -1)).transpose(2, 3).flatten(2),
        ),
        Mistake(
            "within a patch it goes column, row, channel; the row comes first",
            like=lambda images, P: channels_last(images, P).unflatten(2, (P, P, -1)).transpose(2, 3).flatten(2),
        ),
        Mistake(
            "within a patch it goes row, channel, column; the channel comes last",
            like=lambda images, P: channels_last(images, P).unflatten(2, (P, P, -1)).transpose(3, 4).flatten(2),
        ),
        Mistake(
            "the image is read as (B, H, W, C) though its channels stand first",
            like=lambda images, P: patchify(
                images.flatten(1).unflatten(1, (*images.shape[2:], -1)).permute(0, 3, 1, 2), P
            ),
        ),
    ],
)  # fmt: skip


def patches_cases():
    for images, P in image_cases():
        yield channels_last(images, P), P, *images.shape[2:]


def joined(patches, P, H, W):
    return unpatchify(channels_first(patches, P), P, (H, W))


UNLAST = Code(
    "unpatchify_last",
    "Patches (B, N, P·P·C), flattened row, column, channel, to images (B, C, H, W).",
    patches_cases,
    joined,
    "there and back for images that are not square",
    [
        Mistake(
            "the channel is taken first from each patch; here it is the last axis",
            like=lambda patches, P, H, W: unpatchify(patches, P, (H, W)),
        ),
        Mistake(
            "a reshape alone puts patches one below the other in memory; permute before it",
            like=lambda patches, P, H, W: patches.reshape(len(patches), -1, H, W),
        ),
        Mistake(
            "the image is (B, H, W, C): bring the channels to the front",
            like=lambda *a: joined(*a).permute(0, 2, 3, 1),
        ),
        Mistake(
            "the grid is read with its sides exchanged: H // P rows, W // P columns",
            like=lambda patches, P, H, W: joined(patches, P, W, H),
        ),
        Mistake(
            "the grid is read with its sides exchanged: H // P rows, W // P columns; the last reshape hides it",
            like=lambda patches, P, H, W: joined(patches, P, W, H).flatten(2).unflatten(2, (H, W)),
        ),
        Mistake(
            "the patches are laid down column by column",
            like=lambda patches, P, H, W: joined(
                patches.unflatten(1, (W // P, H // P)).transpose(1, 2).flatten(1, 2), P, H, W
            ),
        ),
        Mistake(
            "each patch is on its side: its rows and columns are swapped",
            like=lambda patches, P, H, W: joined(patches.unflatten(2, (P, P, -1)).transpose(2, 3).flatten(2), P, H, W),
        ),
    ],
)  # fmt: skip


# Predictions

LENGTH = Prediction(
    "ex-patches-length",
    "512 × 384 pixels, patch 16, class token, four registers: tokens, rows of positions, patch sizes from 10 to 40.",
    [
        Part("tokens", 773, {
            768: "these are the patches alone",
            769: "the registers are tokens, too",
            772: "that leaves out the class token",
            774: "one class token, four registers",
        }),
        Part("rows of the position table", 769, {
            768: "the class token has a position of its own",
            772: "the registers have none, the class token has one",
            773: "the registers have no position",
            197: "that is for 224 × 224 pixels",
        }),
        Part("patch sizes", [16, 32], {
            (16,): "there is one more",
            (32,): "there is one more",
            (16, 24, 32): "24 does not divide 512",
            (12, 16, 24, 32): "12 and 24 do not divide 512",
            (12, 16, 32): "12 does not divide 512",
        }),
    ],
)  # fmt: skip

ADDRESS = Prediction(
    "ex-patches-address",
    "From which channel, row and column of a 224 × 224 image is patches[0, 30, 300], patch 16?",
    [Part("channel, row, column", (1, 34, 44), {
        (1, 44, 34): "row and column are swapped; the last number of a patch's address is the column",
        (1, 2, 12): "that is the place within the patch; add where the patch begins",
        (0, 34, 44): "a channel has 256 numbers of the 768; 300 is past the first",
        (2, 34, 44): "a channel has 256 numbers of the 768; 300 is in the second, and counting starts at 0",
        (1, 35, 45): "count from 0",
        (0, 38, 36): "that reads the patch as row, column, channel; ours has the channel first",
    })],
)  # fmt: skip

OVERLAPPING = Prediction(
    "ex-patches-unfold",
    "How many windows of 32 pixels, every 16, has an image of 416 × 640?",
    [Part("windows", 975, {
        260: "these are the windows that do not overlap",
        1040: "a window needs 32 pixels: the last ones at the edge do not fit",
        936: "that is one row too few: both ends count",
        950: "that is one column too few: both ends count",
        912: "the + 1 is missing: with no step at all there is one window",
        (25, 39): "and their product?",
    })],
)  # fmt: skip

REPAIR = Prediction(
    "ex-patches-channels",
    "The permutation that brings a convolution's weights (D, C, P, P) into the order of patchify_last.",
    [Part("permutation", (0, 2, 3, 1), {
        (0, 3, 1, 2): "that is the way back, from the order of JAX to PyTorch's",
        (0, 3, 2, 1): "rows and columns of the kernel are swapped as well",
        (2, 3, 1, 0): "that is JAX's order for a whole kernel; here D stays in front",
        (0, 1, 3, 2): "the channel has to come last",
        (0, 1, 2, 3): "that changes nothing",
    })],
)  # fmt: skip

LOST = Prediction(
    "ex-patches-pca",
    "The shares of the variance of the pagoda's patches that 8 and 64 of 768 numbers lose.",
    [
        Part("lost with 8 numbers", 0.09, {
            0.91: "that is the share that is kept",
            8 / 768: "that would be the share of the numbers; the first ones carry most",
            1 - 8 / 768: "that is the share of numbers left out; the first ones carry most",
            0.3: "take squares, of the error and of the patches without their mean",
        }, within=0.006),
        Part("lost with 64 numbers", 0.03, {
            0.97: "that is the share that is kept",
            64 / 768: "that would be the share of the numbers; the first ones carry most",
        }, within=0.006),
    ],
)  # fmt: skip

CHECKS = [LENGTH, ADDRESS, OVERLAPPING, UNFOLD, REPAIR, LAST, UNLAST, LOST]
