"""The convolutions of a model that read images, made for images of other than three channels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sweep.errors import UserError


def widen(model: nn.Module, channels: int) -> None:
    """Let a model of colour images take images of so many channels, in place; raise UserError if it cannot.

    Some models read the images by several convolutions, one beside another.
    """
    if channels == 3:
        return
    layers = [each for each in model.modules() if isinstance(each, nn.Conv2d)]
    first = [each for each in layers if each.in_channels == 3 and each.groups == 1]
    for layer in first:
        layer.weight = nn.Parameter(spread(layer.weight.detach(), channels))
        layer.in_channels = channels
    if first:
        return
    raise UserError(
        f"data.channels: {type(model).__name__} has no first convolution of three channels; use data.channels=3, for "
        "which three bands can be listed"
    )


def spread(weight: Tensor, channels: int) -> Tensor:
    """Return the weights of a first convolution (O, 3, h, w) for images of so many channels, (O, channels, h, w).

    One channel has the sum over the colours: what three equal ones give. Of others each takes a colour in turn, times
    3 / channels, so that the outputs stay as large as they are, as in timm.
    """
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return (weight[:, torch.arange(channels) % 3] * (3 / channels)).contiguous()


def normalization(values: Sequence[float], channels: int) -> list[float]:
    """Return a mean or deviation per channel: of the colour that it takes, or of grey the mean of the colours."""
    if channels == 1:
        return [sum(values) / len(values)]
    return [values[each % len(values)] for each in range(channels)]
