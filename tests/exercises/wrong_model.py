"""Wrong answers to the exercises of chapter 05."""

import torch
from wrong_answers import wrong

COUNT, STREAM = "vit_parameters", "all_tokens"


def count(D, L, P, S, K, patch_numbers=3, positions=1, class_token=1, block=13, norm=2, head_bias=1, head=1):
    N = (S // P) ** 2
    embed = patch_numbers * P * P * D + D + (class_token + positions + N) * D
    return embed + L * (12 * D * D + block * D) + norm * D + head * (D * K + head_bias * K)


@wrong(COUNT, "class token's own position is missing")
def _(width, depth, patch, img_size=224, num_classes=1000):
    return count(width, depth, patch, img_size, num_classes, positions=0)


@wrong(COUNT, "the class token with its position")
def _(width, depth, patch, img_size=224, num_classes=1000):
    return count(width, depth, patch, img_size, num_classes, positions=0, class_token=0)


@wrong(COUNT, "three channels")
def _(width, depth, patch, img_size=224, num_classes=1000):
    return count(width, depth, patch, img_size, num_classes, patch_numbers=1)


@wrong(COUNT, "biases and norms of the blocks are missing")
def _(width, depth, patch, img_size=224, num_classes=1000):
    return count(width, depth, patch, img_size, num_classes, block=0)


@wrong(COUNT, "norms of the blocks are missing: 4 D")
def _(width, depth, patch, img_size=224, num_classes=1000):
    return count(width, depth, patch, img_size, num_classes, block=9)


@wrong(COUNT, "or the final norm")
def _(width, depth, patch, img_size=224, num_classes=1000):
    return count(width, depth, patch, img_size, num_classes, norm=0)


@wrong(COUNT, "the head's bias is missing")
def _(width, depth, patch, img_size=224, num_classes=1000):
    return count(width, depth, patch, img_size, num_classes, head_bias=0)


@wrong(COUNT, "the head is missing")
def _(width, depth, patch, img_size=224, num_classes=1000):
    return count(width, depth, patch, img_size, num_classes, head=0)


@wrong(COUNT, "in two directions")
def _(width, depth, patch, img_size=224, num_classes=1000):
    n = img_size // patch
    return count(width, depth, patch, img_size, num_classes) - n * n * width + n * width


@wrong(COUNT, "only one block")
def _(width, depth, patch, img_size=224, num_classes=1000):
    return count(width, 1, patch, img_size, num_classes)


def run(model, z):
    out = [z]
    for block in model.blocks:
        z = block(z)
        out.append(z)
    return out


@wrong(STREAM, "the final norm is in it")
def _(model, images):
    out = run(model, model.embed(images))
    out[-1] = model.norm(out[-1])
    return out


@wrong(STREAM, "before the first block are missing")
def _(model, images):
    return run(model, model.embed(images))[1:]


@wrong(STREAM, "after the last block are missing")
def _(model, images):
    return run(model, model.embed(images))[:-1]


@wrong(STREAM, "bare patches")
def _(model, images):
    return run(model, model.patch_embed(images))


@wrong(STREAM, "what the one before it gave")
def _(model, images):
    z = model.embed(images)
    return [z] + [block(z) for block in model.blocks]


@wrong(STREAM, "these are standard deviations")
def _(model, images):
    return [z.std().item() for z in run(model, model.embed(images))]


@wrong(STREAM, "each of them is normalised")
def _(model, images):
    return [model.norm(z) for z in run(model, model.embed(images))]


@wrong(STREAM, "what each block adds")
def _(model, images):
    out = run(model, model.embed(images))
    return out[:1] + [after - before for before, after in zip(out, out[1:])]


@wrong(STREAM, "only the last tokens are there")
def _(model, images):
    return model.blocks(model.embed(images))


@wrong(STREAM, "the last tokens stand in every place")
def _(model, images):
    z, out = model.embed(images), []
    for block in model.blocks:
        z = block(z)
    for _ in range(len(model.blocks) + 1):
        out.append(z)
    return torch.stack(out)


@wrong(STREAM, "or its one tensor changed by +=")
def _(model, images):
    z = model.embed(images)
    out = [z]
    for block in model.blocks:
        z += block(z) - z
        out.append(z)
    return out


@wrong(STREAM, "it is no block")
def _(model, images):
    out = run(model, model.embed(images))
    return [*out, model.norm(out[-1])]


@wrong(STREAM, "a block adds it itself")
def _(model, images):
    z = model.embed(images)
    out = [z]
    for block in model.blocks:
        z = z + block(z)
        out.append(z)
    return out


@wrong(STREAM, "hooks stay in the model")
def _(model, images):
    out = [model.embed(images)]
    for block in model.blocks:
        block.register_forward_hook(lambda block, x, y: out.append(y))
    model(images)
    return out
