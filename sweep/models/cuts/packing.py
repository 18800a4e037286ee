"""Several tensors as one: where a model passes more than one on, they go side by side, a row for every image."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# The shape of a value for one image: of a tensor (k, ...) with k rows per image, or of several tensors, in a list.
Form = tuple[int, ...] | list["Form"]


def form(value: Any, batch: int) -> Form | None:
    """Return the form of a value for so many images, None if it cannot be packed."""
    if isinstance(value, list | tuple):
        forms = [form(each, batch) for each in value]
        return None if None in forms or not forms else forms  # type: ignore[return-value]
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.dim() < 1 or len(value) % batch:
        return None
    return (len(value) // batch, *value.shape[1:])


def pack(values: Any, forms: Sequence[Form]) -> Tensor:
    """Return (N, D) of values of these forms.

    >>> pack([torch.zeros(2, 3), [torch.ones(4, 1, 2)]], [(1, 3), [(2, 1, 2)]]).shape
    torch.Size([2, 7])
    """
    return torch.cat([*_rows(list(values), list(forms))], 1)


def _rows(values: Any, forms: Form) -> Sequence[Tensor]:
    if isinstance(forms, list):
        return [row for value, each in zip(values, forms, strict=True) for row in _rows(value, each)]
    return [values.reshape(len(values) // forms[0], -1)]


def unpack(x: Tensor, forms: Sequence[Form]) -> list[Any]:
    """Return the values that pack() made into one.

    >>> first, (second,) = unpack(torch.zeros(2, 7), [(1, 3), [(2, 1, 2)]])
    >>> first.shape, second.shape
    (torch.Size([2, 3]), torch.Size([4, 1, 2]))
    """
    start = 0

    def next_of(each: Form) -> Any:
        nonlocal start
        if isinstance(each, list):
            return [next_of(inner) for inner in each]
        size = math.prod(each)
        start += size
        return x[:, start - size : start].reshape(len(x) * each[0], *each[1:])

    return [next_of(each) for each in forms]
