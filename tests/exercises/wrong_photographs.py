"""Wrong answers to the exercises of chapter 12."""

import torch
from PIL import Image, ImageOps
from wrong_answers import wrong

SMALLER, SQUARE = "smaller", "random_square"


@wrong(SMALLER, "the longer side gets `side` pixels")
def _(image, side):
    scale = min(1, side / max(image.width, image.height))
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.BICUBIC)


@wrong(SMALLER, "the width gets `side` pixels")
def _(image, side):
    scale = min(1, side / image.width)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.BICUBIC)


@wrong(SMALLER, "the height gets `side` pixels")
def _(image, side):
    scale = min(1, side / image.height)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.BICUBIC)


@wrong(SMALLER, "is enlarged")
def _(image, side):
    scale = side / min(image.size)
    return image.resize([round(length * scale) for length in image.size])


@wrong(SMALLER, "all images become squares")
def _(image, side):
    return image.resize((side, side))


@wrong(SMALLER, "the middle is cut out")
def _(image, side):
    return ImageOps.fit(image, (side, side))


@wrong(SMALLER, "sizes are cut off, not rounded")
def _(image, side):
    shorter = min(image.size)
    if shorter <= side:
        return image
    return image.resize((image.width * side // shorter, image.height * side // shorter), Image.BICUBIC)


@wrong(SMALLER, "the shape is turned")
def _(image, side):
    scale = min(1, side / min(image.size))
    return image.resize((round(image.height * scale), round(image.width * scale)), Image.BICUBIC)


@wrong(SMALLER, "the pixels are not BICUBIC's")
def _(image, side):
    scale = min(1, side / min(image.size))
    return image.resize([round(length * scale) for length in image.size], Image.LANCZOS)


@wrong(SMALLER, "the pixels are not BICUBIC's")
def _(image, side):
    scale = min(1, side / min(image.size))
    return image.resize([round(length * scale) for length in image.size], Image.NEAREST)


@wrong(SMALLER, "changes its argument `image`")
def _(image, side):
    image.thumbnail((10**6, side))
    return image


@wrong(SMALLER, "returns a tuple; the task asks for Image")
def _(image, side):
    scale = min(1, side / min(image.size))
    return tuple(round(length * scale) for length in image.size)


@wrong(SQUARE, "the largest side never comes")
def _(width, height, seed):
    g = torch.Generator().manual_seed(seed)
    n = min(width, height)
    side = torch.randint(n // 2, n, (1,), generator=g).item()
    left = torch.randint(0, width - side + 1, (1,), generator=g).item()
    top = torch.randint(0, height - side + 1, (1,), generator=g).item()
    return left, top, side


@wrong(SQUARE, "the last place for left and top never comes")
def _(width, height, seed):
    g = torch.Generator().manual_seed(seed)
    n = min(width, height)
    side = torch.randint(n // 2, n + 1, (1,), generator=g).item()
    left = torch.randint(0, width - side, (1,), generator=g).item()
    top = torch.randint(0, height - side, (1,), generator=g).item()
    return left, top, side


@wrong(SQUARE, "the square may stick out")
def _(width, height, seed):
    g = torch.Generator().manual_seed(seed)
    n = min(width, height)
    side = torch.randint(n // 2, n + 1, (1,), generator=g).item()
    left = torch.randint(0, width, (1,), generator=g).item()
    top = torch.randint(0, height, (1,), generator=g).item()
    return left, top, side


@wrong(SQUARE, "the longer side decides")
def _(width, height, seed):
    g = torch.Generator().manual_seed(seed)
    n = max(width, height)
    side = torch.randint(n // 2, n + 1, (1,), generator=g).item()
    left = torch.randint(0, width - side + 1, (1,), generator=g).item()
    top = torch.randint(0, height - side + 1, (1,), generator=g).item()
    return left, top, side


@wrong(SQUARE, "top is drawn before left")
def _(width, height, seed):
    g = torch.Generator().manual_seed(seed)
    n = min(width, height)
    side = torch.randint(n // 2, n + 1, (1,), generator=g).item()
    top = torch.randint(0, height - side + 1, (1,), generator=g).item()
    left = torch.randint(0, width - side + 1, (1,), generator=g).item()
    return left, top, side


@wrong(SQUARE, "left and top are swapped")
def _(width, height, seed):
    g = torch.Generator().manual_seed(seed)
    n = min(width, height)
    side = torch.randint(n // 2, n + 1, (1,), generator=g).item()
    left = torch.randint(0, width - side + 1, (1,), generator=g).item()
    top = torch.randint(0, height - side + 1, (1,), generator=g).item()
    return top, left, side


@wrong(SQUARE, "begins anew before each draw")
def _(width, height, seed):
    def draw(low, high):
        return int(torch.randint(low, high, (), generator=torch.Generator().manual_seed(seed)))

    side = draw(min(width, height) // 2, min(width, height) + 1)
    return draw(0, width - side + 1), draw(0, height - side + 1), side


@wrong(SQUARE, "torch's own generator draws")
def _(width, height, seed):
    n = min(width, height)
    side = torch.randint(n // 2, n + 1, ()).item()
    return torch.randint(0, width - side + 1, ()).item(), torch.randint(0, height - side + 1, ()).item(), side


@wrong(SQUARE, "begins at one and the same place")
def _(width, height, seed):
    g = torch.Generator()
    n = min(width, height)
    side = torch.randint(n // 2, n + 1, (), generator=g).item()
    left = torch.randint(0, width - side + 1, (), generator=g).item()
    return left, torch.randint(0, height - side + 1, (), generator=g).item(), side


@wrong(SQUARE, "is not where it was")
def _(width, height, seed):
    torch.manual_seed(seed)
    n = min(width, height)
    side = torch.randint(n // 2, n + 1, ()).item()
    return torch.randint(0, width - side + 1, ()).item(), torch.randint(0, height - side + 1, ()).item(), side
