"""Wrong answers to the exercises of chapter 15."""

import torch
import torch.nn.functional as F
from wrong_answers import wrong

from vit_edu.attention_maps import attention_maps, gradient_maps, patch_map, relevance, rollout

QUERY, DROP, CONTRAST = "query_map", "rollout_of_largest", "contrast"


@wrong(QUERY, "the row that asks is not the patch's")
def _(maps, model, row, column):
    rows, columns = model.patch_embed.grid_size
    return maps[..., row * columns + column, model.n_prefix :].reshape(*maps.shape[:-2], rows, columns)


@wrong(QUERY, "the columns are shifted")
def _(maps, model, row, column):
    rows, columns = model.patch_embed.grid_size
    asks = model.n_prefix + row * columns + column
    return maps[..., asks, : rows * columns].unflatten(-1, (rows, columns))


@wrong(QUERY, "forgotten, in the row that asks and in the columns")
def _(maps, model, row, column):
    rows, columns = model.patch_embed.grid_size
    return maps[..., row * columns + column, : rows * columns].unflatten(-1, (rows, columns))


@wrong(QUERY, "the registers are forgotten in the row that asks")
def _(maps, model, row, column):
    rows, columns = model.patch_embed.grid_size
    asks = row * columns + column + (1 if model.pool == "cls" else 0)
    return maps[..., asks, -rows * columns :].unflatten(-1, (rows, columns))


@wrong(QUERY, "this is a column")
def _(maps, model, row, column):
    grid, first = model.patch_embed.grid_size, model.n_prefix
    return maps[..., first:, first + row * grid[1] + column].unflatten(-1, grid)


@wrong(QUERY, "multiplies by the number of rows")
def _(maps, model, row, column):
    grid, first = model.patch_embed.grid_size, model.n_prefix
    return maps[..., first + row * grid[0] + column, first:].unflatten(-1, grid)


@wrong(QUERY, "folded as columns × rows")
def _(maps, model, row, column):
    (rows, columns), first = model.patch_embed.grid_size, model.n_prefix
    return maps[..., first + row * columns + column, first:].unflatten(-1, (columns, rows))


@wrong(QUERY, "whichever patch is asked for")
def _(maps, model, row, column):
    return patch_map(maps, model)


@wrong(QUERY, "scaled to sum to 1")
def _(maps, model, row, column):
    grid, first = model.patch_embed.grid_size, model.n_prefix
    seen = maps[..., first + row * grid[1] + column, first:]
    return (seen / seen.sum(dim=-1, keepdim=True)).unflatten(-1, grid)


@wrong(QUERY, "stops in line")
def _(maps, model, row, column):
    grid = model.patch_embed.grid_size
    return maps[..., 1 + row * grid[1] + column, 1:].unflatten(-1, grid)


def kept(a, keep):
    return a * (a >= a.topk(keep, dim=-1).values[..., -1:])


@wrong(DROP, "without keepdim=True")
def _(maps, keep):
    mixed = torch.eye(maps.shape[-1])
    for weights in maps.mean(dim=1):
        a = kept(weights, keep) + torch.eye(maps.shape[-1])
        a = a / a.sum(dim=-1)
        mixed = a @ mixed
    return mixed


@wrong(DROP, "the columns are made to sum to 1")
def _(maps, keep):
    mixed = torch.eye(maps.shape[-1])
    for weights in maps.mean(dim=1):
        a = kept(weights, keep) + torch.eye(maps.shape[-1])
        mixed = a / a.sum(dim=0, keepdim=True) @ mixed
    return mixed


@wrong(DROP, "never divided")
def _(maps, keep):
    mixed = torch.eye(maps.shape[-1])
    for weights in maps.mean(dim=1):
        mixed = (kept(weights, keep) + torch.eye(maps.shape[-1])) @ mixed
    return mixed


@wrong(DROP, "as if nothing had been dropped")
def _(maps, keep):
    mixed = torch.eye(maps.shape[-1])
    for weights in maps.mean(dim=1):
        mixed = (0.5 * kept(weights, keep) + 0.5 * torch.eye(maps.shape[-1])) @ mixed
    return mixed


@wrong(DROP, "the product is turned round")
def _(maps, keep):
    mixed = torch.eye(maps.shape[-1])
    for weights in maps.mean(dim=1):
        a = kept(weights, keep) + torch.eye(maps.shape[-1])
        mixed = mixed @ (a / a.sum(dim=-1, keepdim=True))
    return mixed


@wrong(DROP, "the identity is missing")
def _(maps, keep):
    mixed = torch.eye(maps.shape[-1])
    for weights in maps.mean(dim=1):
        a = kept(weights, keep)
        mixed = F.normalize(a, p=1, dim=-1) @ mixed
    return mixed


@wrong(DROP, "the largest of the whole table")
def _(maps, keep):
    n = maps.shape[-1]
    mixed = torch.eye(n)
    for weights in maps.mean(dim=1):
        least = weights.flatten().sort(descending=True).values[keep * n - 1]
        a = weights * (weights >= least) + torch.eye(n)
        mixed = a / a.sum(dim=-1, keepdim=True) @ mixed
    return mixed


@wrong(DROP, "head by head")
def _(maps, keep):
    mixed = torch.eye(maps.shape[-1])
    for weights in kept(maps, keep).mean(dim=1):
        a = weights + torch.eye(maps.shape[-1])
        mixed = a / a.sum(dim=-1, keepdim=True) @ mixed
    return mixed


@wrong(DROP, "nothing is dropped")
def _(maps, keep):
    return rollout(maps[:, None])[-1, 0]


@wrong(DROP, "the smallest weights are kept")
def _(maps, keep):
    mixed = torch.eye(maps.shape[-1])
    for weights in maps.mean(dim=1):
        a = weights.where(weights <= weights.sort(dim=-1).values[:, keep - 1, None], 0) + torch.eye(maps.shape[-1])
        mixed = a / a.sum(dim=-1, keepdim=True) @ mixed
    return mixed


@wrong(DROP, "before the identity is added")
def _(maps, keep):
    mixed = torch.eye(maps.shape[-1])
    for weights in maps.mean(dim=1):
        a = kept(weights, keep)
        a = a / a.sum(dim=-1, keepdim=True)
        mixed = (a + torch.eye(maps.shape[-1])) / 2 @ mixed
    return mixed


@wrong(DROP, "only the last block is there")
def _(maps, keep):
    identity = torch.eye(maps.shape[-1])
    for weights in maps.mean(dim=1):
        a = kept(weights, keep) + identity
        mixed = a / a.sum(dim=-1, keepdim=True) @ identity
    return mixed


@wrong(DROP, "the rows do not sum to 1")
def _(maps, keep):
    mixed = torch.eye(maps.shape[-1])
    for weights in maps.mean(dim=1):
        a = kept(weights, keep) + torch.eye(maps.shape[-1])
        mixed = a / a.norm(dim=-1, keepdim=True) @ mixed
    return mixed


def drawn(model, images, classes):
    return patch_map(relevance(gradient_maps(model, images, classes)), model)


@wrong(CONTRAST, "raw maps and rollout are the same whatever the class")
def _(model, images, a, b):
    map = patch_map(rollout(attention_maps(model, images)[0])[-1], model)
    map = map / map.sum(dim=(1, 2), keepdim=True)
    return torch.minimum(map, map).sum(dim=(1, 2))


@wrong(CONTRAST, "not scaled to sum to 1")
def _(model, images, a, b):
    return torch.minimum(drawn(model, images, a), drawn(model, images, b)).sum(dim=(1, 2))


@wrong(CONTRAST, "scale each picture's map")
def _(model, images, a, b):
    r, s = drawn(model, images, a), drawn(model, images, b)
    return torch.minimum(r / r.sum(), s / s.sum()).sum(dim=(1, 2))


@wrong(CONTRAST, "the larger of the two shares")
def _(model, images, a, b):
    r, s = (x / x.sum(dim=(1, 2), keepdim=True) for x in (drawn(model, images, a), drawn(model, images, b)))
    return torch.maximum(r, s).sum(dim=(1, 2))


@wrong(CONTRAST, "counts each shift twice")
def _(model, images, a, b):
    r, s = (x / x.sum(dim=(1, 2), keepdim=True) for x in (drawn(model, images, a), drawn(model, images, b)))
    return 1 - (r - s).abs().sum(dim=(1, 2))


@wrong(CONTRAST, "the cosine of the two maps")
def _(model, images, a, b):
    r, s = drawn(model, images, a).flatten(1), drawn(model, images, b).flatten(1)
    return (F.normalize(r, dim=1) * F.normalize(s, dim=1)).sum(dim=1)


@wrong(CONTRAST, "the mean over patches is taken")
def _(model, images, a, b):
    r, s = (x / x.sum(dim=(1, 2), keepdim=True) for x in (drawn(model, images, a), drawn(model, images, b)))
    return torch.minimum(r, s).mean(dim=(1, 2))


@wrong(CONTRAST, "the last block's map alone")
def _(model, images, a, b):
    r, s = (patch_map(gradient_maps(model, images, c)[-1], model) for c in (a, b))
    return torch.minimum(r / r.sum((1, 2), True), s / s.sum((1, 2), True)).sum((1, 2))


@wrong(CONTRAST, "changes its argument `images`")
def _(model, images, a, b):
    images -= images.mean()
    return torch.ones(len(images))
