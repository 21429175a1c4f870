"""Other right answers than the chapters': a check that refuses one of them would be worse than none."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

RIGHT = []


def right(function):
    RIGHT.append(function)
    return function


@right
def patchify_unfold(images, P):
    return nn.Unfold((P, P), stride=(P, P))(images).permute(0, 2, 1).contiguous()


@right
def patchify_last(images, P):
    tiles = images.permute(0, 2, 3, 1).unfold(1, P, P).unfold(2, P, P)    # (B, rows, columns, C, P, P)
    return tiles.permute(0, 1, 2, 4, 5, 3).flatten(3).flatten(1, 2)


@right
def unpatchify_last(patches, P, H, W):
    images = torch.empty(len(patches), patches.shape[2] // P**2, H, W)
    n = 0
    for i in range(0, H, P):
        for j in range(0, W, P):
            images[:, :, i : i + P, j : j + P] = patches[:, n].view(len(patches), P, P, -1).permute(0, 3, 1, 2)
            n += 1
    return images


@right
def attention_in_pieces(query, keys, values, piece=5):
    m, total, out = -math.inf, 0.0, 0.0
    for k, v in zip(keys.split(piece), values.split(piece), strict=True):
        scores = (k * query).sum(1) / math.sqrt(query.numel())
        new = max(m, scores.max().item())
        weights = torch.exp(scores - new)
        shrink = math.exp(m - new)
        total, out, m = total * shrink + weights.sum(), out * shrink + (weights[:, None] * v).sum(0), new
    return out / total


def in_logarithms(query, keys, values, piece=5):
    """Each piece's own softmax, put together by their log-sum-exp."""
    outputs, logs = [], []
    query = query / len(query) ** 0.5
    for start in range(0, keys.shape[0], piece):
        scores = keys[start : start + piece] @ query
        outputs.append(scores.softmax(-1) @ values[start : start + piece])
        logs.append(scores.logsumexp(-1))
    return torch.stack(logs).softmax(0) @ torch.stack(outputs)


in_logarithms.__name__ = "attention_in_pieces"
right(in_logarithms)


@right
def bias_gradients(layer, x):
    (gradient,) = torch.autograd.grad((layer(x) ** 2).mean(), layer.qkv.bias)
    return gradient.reshape(3, -1).norm(dim=1).tolist()


@right
def fold_norm(norm, linear):
    new = copy.deepcopy(linear)
    new.weight.data = linear.weight.data @ torch.diag(norm.weight.data)
    new.bias.data = linear(norm.bias).data
    return new


@right
def collapse(mlp):
    """By asking what the layers make of zeros and of each unit vector."""
    one = nn.Linear(mlp.fc1.in_features, mlp.fc2.out_features)
    with torch.no_grad():
        shift = mlp.fc2(mlp.fc1(torch.zeros(mlp.fc1.in_features)))
        one.bias.copy_(shift)
        one.weight.copy_((mlp.fc2(mlp.fc1(torch.eye(mlp.fc1.in_features))) - shift).T)
    return one


@right
def as_convolutions(mlp):
    class Convolutions(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv1d(*mlp.fc1.weight.shape[::-1], 1)
            self.second = nn.Conv1d(*mlp.fc2.weight.shape[::-1], 1)
            for conv, fc in (self.first, mlp.fc1), (self.second, mlp.fc2):
                conv.load_state_dict({"weight": fc.weight.unsqueeze(2), "bias": fc.bias})

        def forward(self, x):
            return self.second(F.gelu(self.first(x)))

    return Convolutions()


@right
def to_pytorch(block):
    width, hidden = block.mlp.fc2.out_features, block.mlp.fc1.out_features
    layer = nn.TransformerEncoderLayer(width, block.attn.n_heads, hidden, 0, F.gelu, block.norm1.eps, True)
    names = {"attn.qkv.": "self_attn.in_proj_", "attn.proj": "self_attn.out_proj"}
    names |= {"mlp.fc1": "linear1", "mlp.fc2": "linear2"}
    state = {}
    for name, value in block.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        state[name] = value
    layer.load_state_dict(state)
    return layer.eval()


@right
def vit_parameters(width, depth, patch, img_size=224, num_classes=1000):
    rows = img_size // patch
    linear = lambda a, b: a * b + b    # noqa: E731
    block = 2 * 2 * width + linear(width, 3 * width) + linear(width, width)
    block += linear(width, 4 * width) + linear(4 * width, width)
    return (
        linear(3 * patch * patch, width) + width + (rows * rows + 1) * width + depth * block
        + 2 * width + linear(width, num_classes)
    )  # fmt: skip


@right
def all_tokens(model, images):
    tokens = model.embed(images)
    kept = (tokens.clone(),)
    for number in range(len(model.blocks)):
        tokens = model.blocks[number](tokens)
        kept += (tokens,)
    return kept


@right
def query_map(maps, model, row, column):
    """The whole table unfolded first."""
    patches = maps[..., model.n_prefix :, model.n_prefix :]
    rows, columns = model.patch_embed.grid_size
    return patches.reshape(*maps.shape[:-2], rows, columns, rows, columns)[..., row, column, :, :]


@right
def rollout_of_largest(maps, keep):
    """With halves, and by following one row after the other."""
    tokens = torch.eye(maps.shape[-1])
    for block in maps:
        average = block.sum(dim=0) / len(block)
        rows = []
        for i, row in enumerate(average):
            new = torch.zeros_like(row)
            best = row.argsort(descending=True)[:keep]
            new[best] = 0.5 * row[best]
            new[i] += 0.5
            rows.append(new / new.sum() @ tokens)
        tokens = torch.stack(rows)
    return tokens


@right
def contrast(model, images, a, b):
    from vit_edu.attention_maps import gradient_maps, patch_map, relevance

    r, s = (patch_map(relevance(gradient_maps(model, images, c)), model).flatten(1) for c in (a, b))
    r, s = r / r.sum(dim=1, keepdim=True), s / s.sum(dim=1, keepdim=True)
    return 1 - (r - s).abs().sum(dim=1) / 2


@right
def moments_in_pieces(pieces):
    """By counting how often each byte occurs, as `moments` does."""
    counts = 0
    for part in pieces:
        channels = part.transpose(0, 1).flatten(1)
        counts = counts + torch.stack([channel.bincount(minlength=256) for channel in channels])
    share, value = counts.double() / counts.sum(1, keepdim=True), torch.arange(256) / 255
    mean = share @ value.double()
    return mean.float(), ((share * (value - mean[:, None]) ** 2).sum(1)).sqrt().float()


@right
def other_deviations(images):
    own = [(image / 255).flatten(1).var(1, correction=0).sqrt() for image in images]
    return torch.stack(own).mean(dim=0).tolist()


@right
def occlusion(model, images, classes):
    """All pictures that lack a patch in one batch."""
    (rows, columns), (height, width) = model.patch_embed.grid_size, model.patch_embed.patch_size
    keep = 1 - torch.eye(rows * columns).view(-1, rows, columns)
    keep = keep.repeat_interleave(height, 1).repeat_interleave(width, 2)[:, None, None]    # (N, 1, 1, H, W)
    p = model((images * keep).flatten(0, 1)).softmax(-1).unflatten(0, (-1, len(images)))    # (N, B, K)
    fall = (model(images).softmax(-1) - p)[:, range(len(images)), classes]                # (N, B)
    return fall.T.reshape(-1, rows, columns)


@right
def lead(own, rival):
    differences = [a - b for a, b in zip(own.tolist(), rival.tolist())]
    n, mean = len(differences), sum(differences) / len(differences)
    return mean, math.sqrt(sum((d - mean) ** 2 for d in differences) / (n - 1) / n)


@right
def filled_area(model, images, maps, classes, filler, every=8):
    """Patch by patch, in place, on a copy."""
    (height, width), columns = model.patch_embed.patch_size, maps.shape[2]
    mixed, order = images.clone(), maps.flatten(1).argsort(1, descending=True)
    points = [model(mixed).softmax(1).gather(1, classes[:, None])]
    for n in range(order.shape[1]):
        for b, patch in enumerate(order[:, n].tolist()):
            y, x = patch // columns * height, patch % columns * width
            mixed[b, :, y : y + height, x : x + width] = filler[b, :, y : y + height, x : x + width]
        if (n + 1) % every == 0:
            points.append(model(mixed).softmax(1).gather(1, classes[:, None]))
    points = torch.cat(points, 1)
    return (points[:, 1:] + points[:, :-1]).mean(1) / 2


@right
def sorted_qkv(rows, n_heads):
    d = len(rows) // (3 * n_heads)
    order = [head * 3 * d + kind * d + i for kind in range(3) for head in range(n_heads) for i in range(d)]
    return rows[order]


@right
def move_value_bias(layer):
    dim = layer.proj.in_features
    new = type(layer)(dim, layer.n_heads, qkv_bias=True)
    state = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    state["proj.bias"] = layer.proj(state["qkv.bias"][-dim:]).detach()
    state["qkv.bias"][-dim:] = 0
    new.load_state_dict(state)
    return new


@right
def some_grey(images, probability):
    """With a mask, on a copy."""
    out, chosen = images.clone(), torch.bernoulli(torch.full((len(images),), float(probability))).bool()
    out[chosen] = (images[chosen].sum(1, keepdim=True) / 3).round().to(torch.uint8)
    return out


@right
def smaller(image, side):
    """A small image itself, others by the ratio of their sides."""
    if min(image.size) <= side:
        return image
    if image.width < image.height:
        return image.resize((side, round(image.height * side / image.width)))
    return image.resize((round(image.width * side / image.height), side))


@right
def random_square(width, height, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        n = min(width, height)
        side = torch.randint(n // 2, n + 1, (1,)).item()
        return [torch.randint(0, length - side + 1, (1,)).item() for length in (width, height)] + [side]


@right
def effective_patches(model, images):
    """Block by block and head by head, with the logarithm kept away from 0."""
    from vit_edu.attention_maps import attention_maps

    rows = []
    for block in attention_maps(model, images)[0]:
        heads = [-(a * a.clamp_min(1e-30).log()).sum(-1) for a in block.unbind(1)]    # (B, N) each
        rows.append([head.exp().mean().item() for head in heads])
    return torch.tensor(rows)


@right
def centred_similarity(vectors):
    own = vectors - vectors.sum(1, keepdim=True) / vectors.shape[1]
    own = own / own.norm(dim=2, keepdim=True)
    return (own[:, None] * own[None]).sum(-1).mean(-1)


@right
def half_decay(recipe):
    from dataclasses import fields

    training = type(recipe.training)(**(vars(recipe.training) | {"weight_decay": recipe.training.weight_decay * 0.5}))
    values = {field.name: getattr(recipe, field.name) for field in fields(recipe)}
    return type(recipe)(**(values | {"training": training, "changes": recipe.changes + ("half-decay",)}))


@right
def two_looks(model, images):
    with torch.no_grad():
        looks = model(torch.cat([images, images.flip(dims=[-1])]))
    return looks.unflatten(0, (2, len(images))).mean(dim=0)


@right
def factors(sizes):
    """By the mean size of a part."""
    sizes = torch.tensor(sizes, dtype=torch.double)
    return sizes / sizes.mean()


@right
def ring(gradients):
    """To the left, all processes at once, and counting as it goes."""
    W, n = gradients.shape
    held, ranks, sent = gradients.reshape(W, W, n // W).clone(), torch.arange(W), 0
    for adding in [True] * (W - 1) + [False] * (W - 1):
        going = (ranks + sent // (n // W)) % W
        moved = held[ranks, going]
        left = (ranks - 1) % W
        held[left, going] = moved + held[left, going] if adding else moved
        sent += n // W
    return list(held.flatten(1)), sent


@right
def letterbox(image, mean):
    """Pasted on a sheet."""
    from PIL import Image

    from vit_edu.pictures import to_rgb

    image = to_rgb(image)
    side = max(image.size)
    sheet = Image.new("RGB", (side, side), tuple(int(255 * m + 0.5) for m in mean))
    sheet.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return sheet


@right
def hits_by_shift(model, pictures, truth, names):
    """By the classes' numbers: one prediction a picture."""
    from vit_edu.predict import predict

    n = len(names)
    found = [int(predict(model, picture, top=1, classes=[str(i) for i in range(n)])[0][0]) for picture in pictures]
    return tuple(sum(names[(i + s) % n] == t for i, t in zip(found, truth)) for s in range(n))


@right
def with_contrast(images, labels):
    return images * torch.empty(1).uniform_(0.5, 1.5).item(), labels


@right
def exactly_one(s):
    """At least one, less twice both."""
    from vit_edu.mlp import MLP

    mlp = MLP(2, 2, 1)
    mlp.fc1.weight.data = torch.full((2, 2), float(s))
    mlp.fc1.bias.data = torch.tensor([0.0, -s])
    mlp.fc2.weight.data = torch.tensor([[1 / s, -2 / s]])
    mlp.fc2.bias.data = torch.zeros(1)
    return mlp


@right
def parts_needed(images, weights, each, card):
    """From large parts to small ones."""
    room = 0.9 * card - weights
    for part in range(images, 0, -1):
        if images % part == 0 and each * part < room:
            return images // part
    return 0


@right
def stratified(labels, n_each, seed=0):
    """One random order of all, then a stable sort by class."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    order = order[labels[order].argsort(stable=True)]
    counts = labels.bincount()
    starts = counts.cumsum(0) - counts
    return order[(starts[:, None] + torch.arange(n_each)).flatten()]


@right
def gradients_in_parts(model, images, labels, k):
    sums = [torch.zeros_like(p) for p in model.parameters()]
    for rows in torch.arange(len(images)).chunk(k):
        loss = F.cross_entropy(model(images[rows]), labels[rows], reduction="sum") / len(images)
        for total, gradient in zip(sums, torch.autograd.grad(loss, list(model.parameters()))):
            total += gradient
    return sums
