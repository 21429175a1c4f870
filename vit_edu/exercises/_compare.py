"""What the checks need to compare two answers and to put one into words."""

from typing import Any

import torch
from torch import Tensor, nn


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def same(a: Any, b: Any, tolerance: float, nan: bool = False) -> bool:
    """Whether two answers agree: numbers and tensors within `tolerance`, lists and tuples item by item."""
    if isinstance(a, (Tensor, int, float)) and isinstance(b, (Tensor, int, float)):
        a, b = torch.as_tensor(a), torch.as_tensor(b)
        if a.shape != b.shape:
            return False
        return torch.allclose(a.double(), b.double(), rtol=tolerance, atol=tolerance, equal_nan=nan)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same(x, y, tolerance, nan) for x, y in zip(a, b))
    if isinstance(a, nn.Module) and isinstance(b, nn.Module):
        return same(list(a.state_dict().values()), list(b.state_dict().values()), tolerance, nan)
    return type(a) is type(b) and bool(a == b)


def show(value: Any) -> str:
    """A value in a few words: small tensors in full, large ones by their shape, modules by their first weights."""
    if isinstance(value, Tensor):
        if value.numel() > 8:
            return f"a tensor {tuple(value.shape)}"
        return str(rounded(value.detach().double().tolist()))
    if isinstance(value, nn.Module):
        sizes = [f"{name} {tuple(p.shape)}" for name, p in value.named_parameters() if p.ndim > 1]
        return f"{type(value).__name__} with {', '.join(sizes[:2])}" if sizes else type(value).__name__
    if isinstance(value, tuple):
        return f"({', '.join(map(show, value))}{',' * (len(value) == 1)})"
    if isinstance(value, list):
        return f"[{', '.join(map(show, value))}]"
    return str(rounded(value)) if is_number(value) else repr(value)


def rounded(value: Any) -> Any:
    """The same with four digits, whole numbers without a point."""
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e9:
        return int(value)
    return float(f"{value:.4g}") if isinstance(value, float) else value


def difference(got: Any, right: Any, tolerance: float) -> str:
    """What distinguishes an answer from the right one, without guessing why."""
    if isinstance(right, Tensor) and isinstance(got, (Tensor, int, float)):
        got = torch.as_tensor(got)
        if got.shape != right.shape:
            words = f"the shape is {tuple(got.shape)}, it should be {tuple(right.shape)}"
            if got.numel() == right.numel() and same(got.flatten(), right.flatten(), tolerance):
                words += "; the numbers are right"
            return words
        if got.isnan().any():
            return "there are NaNs in it"
        return "the shape is right, the numbers are not"
    if isinstance(right, (list, tuple)) and isinstance(got, (list, tuple)):
        if len(got) != len(right):
            return f"it has {len(got)} items, it should have {len(right)}"
        n = next(n for n, (x, y) in enumerate(zip(got, right)) if not same(x, y, tolerance))
        return f"item {n}: {difference(got[n], right[n], tolerance)}"
    if isinstance(right, (Tensor, list, tuple, nn.Module)):
        return f"it is of type {type(got).__name__}, it should be of type {type(right).__name__}"
    return "it is not the right one"


def place(got: Any, right: Any, tolerance: float) -> str:
    """Both answers beside each other: in full if they are short, else where they first differ."""
    if isinstance(right, (list, tuple)) and isinstance(got, (list, tuple)) and len(got) == len(right):
        for n, (x, y) in enumerate(zip(got, right)):
            if not same(x, y, tolerance):
                return f"in item {n}, {place(x, y, tolerance)}"
    if isinstance(right, Tensor) and isinstance(got, Tensor) and right.numel() > 8 and got.shape == right.shape:
        wrong = ~torch.isclose(got.double(), right.double(), rtol=tolerance, atol=tolerance)
        at = wrong.nonzero()[0].tolist()
        return f"at {at} yours is {show(got[tuple(at)])}, right is {show(right[tuple(at)])}"
    return f"yours is {show(got)}, right is {show(right)}"
