"""The checks of chapter 05, the Vision Transformer."""

import functools

import torch

from vit_edu.exercises import Code, Mistake, Part, Prediction
from vit_edu.model import VisionTransformer, count_parameters

# ex-model-large


def sizes():
    """Width, depth, patch, image and classes: tiny ones first, then the published ones."""
    yield from [(4, 1, 1, 1, 1), (4, 1, 2, 2, 1), (4, 2, 2, 4, 3), (8, 3, 2, 6, 10), (8, 1, 4, 16, 2)]
    yield from [(192, 12, 16, 224, 1000), (768, 12, 16, 224, 1000), (768, 12, 32, 224, 10)]
    yield from [(1024, 24, 16, 384, 1000), (1280, 32, 14, 224, 1000)]


@functools.cache
def counted(width, depth, patch, img_size=224, num_classes=1000):
    with torch.device("meta"):
        return count_parameters(VisionTransformer(img_size, patch, 3, num_classes, width, depth, n_heads=1))


def off_by(difference):
    """A wrong count: the right one and a difference in width D, depth L, patch P, image S and classes K."""

    def count(width, depth, patch, img_size=224, num_classes=1000):
        right = counted(width, depth, patch, img_size, num_classes)
        return right + difference(width, depth, patch, img_size, num_classes)

    return count


COUNT = Code(
    "vit_parameters",
    "Parameters of a ViT for square RGB images, with class token, learned positions, biases and a head.",
    sizes,
    counted,
    "tiny ones and the published sizes, against the parameters of our model",
    [
        Mistake("the class token's own position is missing: N + 1 rows", like=off_by(lambda D, L, P, S, K: -D)),
        Mistake(
            "2 D are missing: the class token with its position, or the final norm",
            like=off_by(lambda D, L, P, S, K: -2 * D),
        ),
        Mistake("the positions are missing", like=off_by(lambda D, L, P, S, K: -D * ((S // P) ** 2 + 1))),
        Mistake(
            "the biases and norms of the blocks are missing: 13 D each",
            like=off_by(lambda D, L, P, S, K: -13 * D * L),
        ),
        Mistake("the norms of the blocks are missing: 4 D each", like=off_by(lambda D, L, P, S, K: -4 * D * L)),
        Mistake("the head's bias is missing: K numbers", like=off_by(lambda D, L, P, S, K: -K)),
        Mistake("the head is missing: D K weights and K biases", like=off_by(lambda D, L, P, S, K: -K * D - K)),
        Mistake(
            "the image has three channels: a patch is 3 P² numbers",
            like=off_by(lambda D, L, P, S, K: -2 * P**2 * D),
        ),
        Mistake(
            "the number of patches is the square of S / P, in two directions",
            like=off_by(lambda D, L, P, S, K: D * (S // P - (S // P) ** 2)),
        ),
        Mistake(
            "only one block is counted; there are as many as the depth",
            like=off_by(lambda D, L, P, S, K: (1 - L) * (12 * D**2 + 13 * D)),
        ),
    ],
    tolerance=1e-9,
)  # fmt: skip


# ex-model-stream


def models():
    """Small models with all that the stream may begin with: class token, registers, positions of three kinds."""
    for seed, (depth, options) in enumerate([
        (1, {}), (2, {}), (3, {"pool": "mean"}), (2, {"n_registers": 2}),
        (2, {"pool": "mean", "positions": "sincos2d"}),
    ]):  # fmt: skip
        torch.default_generator.manual_seed(seed)
        model = VisionTransformer(4, 2, 1, 3, embed_dim=8, depth=depth, n_heads=2, **options).eval()
        yield model, torch.rand(2, 1, 4, 4)


def stream(model, images):
    z, outputs = model.embed(images), []
    hooks = [block.register_forward_hook(lambda block, x, y: outputs.append(y)) for block in model.blocks]
    model.blocks(z)
    for hook in hooks:
        hook.remove()
    return [z, *outputs]


def begun_with(first):
    """A wrong answer that begins with something else."""

    def answer(model, images):
        tokens = [first(model, images)]
        for block in model.blocks:
            tokens.append(block(tokens[-1]))
        return tokens

    return answer


def added_twice(model, images):
    tokens = [model.embed(images)]
    for block in model.blocks:
        tokens.append(tokens[-1] + block(tokens[-1]))
    return tokens


def leaves_hooks(function, model, images):
    function(model, images)
    return any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


STREAM = Code(
    "all_tokens",
    "The tokens before the first block and after each: a list of L + 1 tensors (B, prefix + N, D).",
    models,
    stream,
    "one to three blocks, with and without class token and registers, against the blocks' own outputs",
    [
        Mistake(
            "the final norm is in it; the stream itself is not normalised",
            like=lambda model, images: [*stream(model, images)[:-1], model.norm(stream(model, images)[-1])],
        ),
        Mistake(
            "each of them is normalised; the stream itself is not",
            like=lambda model, images: [model.norm(z) for z in stream(model, images)],
        ),
        Mistake(
            "the tokens before the first block are missing",
            like=lambda model, images: stream(model, images)[1:],
        ),
        Mistake(
            "the tokens after the last block are missing",
            like=lambda model, images: stream(model, images)[:-1],
        ),
        Mistake(
            "it begins with the bare patches; class token and positions come with model.embed",
            like=begun_with(lambda model, images: model.patch_embed(images)),
        ),
        Mistake(
            "every block gets the first tokens; each has to get what the one before it gave",
            like=lambda model, images: [
                model.embed(images), *(block(model.embed(images)) for block in model.blocks)
            ],
        ),
        Mistake(
            "these are the branches, what each block adds; the tokens are asked for",
            like=lambda model, images: [
                stream(model, images)[0],
                *(b - a for a, b in zip(stream(model, images), stream(model, images)[1:])),
            ],
        ),
        Mistake(
            "these are standard deviations; return the tokens and print those later",
            like=lambda model, images: [z.std() for z in stream(model, images)],
        ),
        Mistake(
            "only the last tokens are there: gather them in a list",
            like=lambda model, images: list(stream(model, images)[-1]),
        ),
        Mistake(
            "the last tokens stand in every place: is the list filled after the loop, or its one tensor changed by +=?",
            like=lambda model, images: [stream(model, images)[-1]] * (len(model.blocks) + 1),
        ),
        Mistake(
            "the final norm's tokens stand behind them; it is no block",
            like=lambda model, images: [*stream(model, images), model.norm(stream(model, images)[-1])],
        ),
        Mistake("the stream is added to what a block gives; a block adds it itself", like=added_twice),
        Mistake("hooks stay in the model, and go on gathering at every call: remove them", when=leaves_hooks),
    ],
    observe=lambda result, *arguments: list(result),
    returns=(list, tuple, torch.Tensor),
    tolerance=1e-5,
)  # fmt: skip


# Predictions

HALF = Prediction(
    "ex-model-half",
    "ViT-S/16 at 224 pixels with half the patch: the patch matrix, rows of positions, parameters in all, MACs.",
    [
        Part("the patch matrix, times", 0.25, {
            0.5: "a patch is halved in two directions",
            4: "there are four times as many patches, but one matrix for all, of a quarter of the inputs",
            1: "its inputs are the pixels of a patch",
        }),
        Part("rows of positions", 785, {
            784: "the class token has one, too",
            394: "twice as many patches in each of two directions",
            393: "twice as many patches in each of two directions",
            788: "four times the patches; the class token stays one",
            197: "that is with patch 16",
        }),
        Part("parameters in all", "rise", {
            "fall": "the positions gain 588 · 384 numbers, the matrix loses 576 · 384: look closely",
            "same": "the matrix and the positions both change, and not by the same number",
        }),
        Part("MACs grow", "more than 4", {
            "less than 4": "the linear layers see nearly four times the tokens; and attention?",
            "exactly 4": "so do the linear layers, nearly; attention grows with the square",
        }),
    ],
)  # fmt: skip

LARGE = Prediction(
    "ex-model-large",
    "The patch size with which Large has 307 million parameters.",
    [Part("patch", 32, {
        16: "that gives 304 million",
        14: "that gives 304 million: the matrix shrinks while the table grows",
        8: "that gives 304 million: the matrix shrinks while the table grows",
        28: "that gives 306 million: near, but not to the million",
    })],
)  # fmt: skip

PLACE = Prediction(
    "ex-model-place",
    "The share of new images of four classes that a model gets right, without positions and with learned ones.",
    [
        Part("without", 0.25, {
            0: "guessing alone gets one in four",
            0.5: "two classes look as much alike as all four: the same set of patches",
            1: "four classes, one and the same set of patches: what could tell them apart?",
        }, within=0.1),
        Part("with positions", 1.0, {
            0.25: "now the bright patch carries its place with it",
            0.5: "the place is in the token, and the task is easy: nothing is left to guess",
        }, within=0.05),
    ],
)  # fmt: skip

CHECKS = [HALF, COUNT, LARGE, PLACE, STREAM]
