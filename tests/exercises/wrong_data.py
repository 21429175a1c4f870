"""Wrong answers to the exercises of chapter 09."""

import torch
from wrong_answers import wrong

MOMENTS, DEVIATIONS = "moments_in_pieces", "other_deviations"


@wrong(MOMENTS, "each piece has a deviation of its own, and these are averaged; how pieces differ is lost")
def _(pieces):
    means = [part.float().div(255).mean((0, 2, 3)) for part in pieces]
    deviations = [part.float().div(255).std((0, 2, 3), unbiased=False) for part in pieces]
    return torch.stack(means).mean(0), torch.stack(deviations).mean(0)


@wrong(MOMENTS, "each piece has a variance of its own")
def _(pieces):
    means, variances = 0, 0
    for part in pieces:
        x = part.double() / 255
        means = means + x.mean((0, 2, 3)) / len(pieces)
        variances = variances + x.var((0, 2, 3), correction=0) / len(pieces)
    return means, variances.sqrt()


@wrong(MOMENTS, "a shorter piece counts as much as the others")
def _(pieces):
    mean = torch.stack([(p.double() / 255).mean((0, 2, 3)) for p in pieces]).mean(0)
    square = torch.stack([(p.double() / 255).pow(2).mean((0, 2, 3)) for p in pieces]).mean(0)
    return mean, (square - mean**2).sqrt()


@wrong(MOMENTS, "divide by 255")
def _(pieces):
    n, s, q = 0, 0, 0
    for part in pieces:
        n, s, q = n + part[:, 0].numel(), s + part.double().sum((0, 2, 3)), q + part.double().pow(2).sum((0, 2, 3))
    return s / n, torch.sqrt(q / n - (s / n) ** 2)


@wrong(MOMENTS, "the largest byte is 255")
def _(pieces):
    n, s, q = 0, 0, 0
    for part in pieces:
        x = part.double() / 256
        n, s, q = n + x[:, 0].numel(), s + x.sum((0, 2, 3)), q + x.pow(2).sum((0, 2, 3))
    return s / n, torch.sqrt(q / n - (s / n) ** 2)


@wrong(MOMENTS, "this is the variance")
def _(pieces):
    n, s, q = 0, 0, 0
    for part in pieces:
        x = part.double() / 255
        n, s, q = n + x[:, 0].numel(), s + x.sum((0, 2, 3)), q + x.pow(2).sum((0, 2, 3))
    return s / n, q / n - (s / n) ** 2


@wrong(MOMENTS, "divided by n − 1")
def _(pieces):
    n, s, q = 0, 0, 0
    for part in pieces:
        x = part.double() / 255
        n, s, q = n + x[:, 0].numel(), s + x.sum((0, 2, 3)), q + x.pow(2).sum((0, 2, 3))
    return s / n, ((q - s**2 / n) / (n - 1)).sqrt()


@wrong(MOMENTS, "count pixels")
def _(pieces):
    n, s, q = 0, 0, 0
    for part in pieces:
        x = part.double() / 255
        n, s, q = n + len(x), s + x.sum((0, 2, 3)), q + x.pow(2).sum((0, 2, 3))
    return s / n, (q / n - (s / n) ** 2).sqrt()


@wrong(MOMENTS, "pixels of all channels together")
def _(pieces):
    n, s, q = 0, 0, 0
    for part in pieces:
        x = part.double() / 255
        n, s, q = n + x.numel(), s + x.sum((0, 2, 3)), q + x.pow(2).sum((0, 2, 3))
    return s / n, (q / n - (s / n) ** 2).sqrt()


@wrong(MOMENTS, "wrap around at 256")
def _(pieces):
    n, s, q = 0, 0, 0
    for part in pieces:
        n, s, q = n + part[:, 0].numel(), s + part.sum((0, 2, 3)), q + (part * part).sum((0, 2, 3))
    mean = s / n / 255
    return mean, (q / n / 255**2 - mean**2).sqrt()


@wrong(MOMENTS, "is the `return` inside the loop?")
def _(pieces):
    for part in pieces:
        x = part.double() / 255
        return x.mean((0, 2, 3)), x.std((0, 2, 3), correction=0)


@wrong(MOMENTS, "do the sums begin anew in the loop?")
def _(pieces):
    for part in pieces:
        x = part.double() / 255
        mean, std = x.mean((0, 2, 3)), x.std((0, 2, 3), correction=0)
    return mean, std


@wrong(MOMENTS, "the square of the mean is to be subtracted")
def _(pieces):
    n, s, q = 0, 0, 0
    for part in pieces:
        x = part.double() / 255
        n, s, q = n + x[:, 0].numel(), s + x.sum((0, 2, 3)), q + x.pow(2).sum((0, 2, 3))
    return s / n, (q / n).sqrt()


@wrong(MOMENTS, "32 bits are too few")
def _(pieces):
    n, s, q = 0, 0, 0
    for part in pieces:
        x = part / 255
        n, s, q = n + x[:, 0].numel(), s + x.sum((0, 2, 3)), q + x.pow(2).sum((0, 2, 3))
    return s / n, (q / n - (s / n) ** 2).sqrt()


@wrong(MOMENTS, "all pieces are in memory at once")
def _(pieces):
    x = torch.cat(pieces).double() / 255
    return x.mean((0, 2, 3)), x.std((0, 2, 3), correction=0)


@wrong(MOMENTS, "all channels are taken together")
def _(pieces):
    n, s, q = 0, 0, 0
    for part in pieces:
        x = part.double() / 255
        n, s, q = n + x.numel(), s + x.sum(), q + x.pow(2).sum()
    return s / n, (q / n - (s / n) ** 2).sqrt()


@wrong(DEVIATIONS, "the deviation of all pixels")
def _(images):
    return images.transpose(0, 1).flatten(1).float().std(1) / 255


@wrong(DEVIATIONS, "near: this is the root of the mean variance")
def _(images):
    return images.float().div(255).var((2, 3)).mean(0).sqrt()


@wrong(DEVIATIONS, "the mean variance within a picture")
def _(images):
    return images.float().div(255).var((2, 3)).mean(0)


@wrong(DEVIATIONS, "differ from each other in brightness")
def _(images):
    return images.float().div(255).mean((2, 3)).std(0)


@wrong(DEVIATIONS, "how much one place differs from picture to picture")
def _(images):
    return images.float().div(255).std(0).mean((1, 2))


@wrong(DEVIATIONS, "with all channels in one")
def _(images):
    return torch.stack([image.float().div(255).std() for image in images]).mean()


@wrong(DEVIATIONS, "divide by 255")
def _(images):
    return images.float().std((2, 3)).mean(0)


@wrong(DEVIATIONS, "the numbers of all pictures are there")
def _(images):
    return images.float().div(255).std((2, 3))


@wrong(DEVIATIONS, "the deviation along a row")
def _(images):
    return images.float().div(255).std(3).mean((0, 2))


@wrong(DEVIATIONS, "the deviation along a column")
def _(images):
    return (images / 255).std(-2).mean((0, 2))


@wrong(MOMENTS, "of n − 1 pixels, and these are averaged")
def _(pieces):
    means = torch.stack([(part.float() / 255).mean((0, 2, 3)) for part in pieces])
    deviations = torch.stack([(part.float() / 255).std((0, 2, 3)) for part in pieces])
    return means.mean(0), deviations.mean(0)


@wrong(MOMENTS, "their mean by size is taken")
def _(pieces):
    n, means, variances = 0, 0, 0
    for part in pieces:
        x = part.double() / 255
        n += len(x)
        means = means + len(x) * x.mean((0, 2, 3))
        variances = variances + len(x) * x.var((0, 2, 3), unbiased=False)
    return means / n, (variances / n).sqrt()


@wrong(MOMENTS, "its square is to be")
def _(pieces):
    n, s, q = 0, 0, 0
    for part in pieces:
        x = part.double() / 255
        n, s, q = n + x[:, 0].numel(), s + x.sum((0, 2, 3)), q + x.pow(2).sum((0, 2, 3))
    return s / n, (q / n - s / n).sqrt()
