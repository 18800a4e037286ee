"""Convolutions onto few pixels, on a CPU: the same sums in less time. Elsewhere the library's own run.

Where the output is one pixel, most taps of a kernel multiply only padding. ResNet-18's last stage, three quarters of
its weights, is so at 32 pixels: of each kernel's 9 taps, 1 or 4 meet the image. Leaving out the others changes nothing
but the order of a sum, and a training step of that stage takes a fifth of its time (50 images).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# ResNet-18 at 32 pixels trains a tenth faster for it; DenseNet-121, whose convolutions give 32 channels, slower.
WIDE = 128  # channels, in and out


class Window(NamedTuple):
    """Where the image lies: its size when it comes to the convolution, and what of the kernel meets it."""

    size: torch.Size  # height, width
    rows: slice
    columns: slice


class FewPixelsConv2d(nn.Conv2d):
    """A convolution onto at most 2 x 2 pixels: with wide kernels and many channels it is slower on channels_last."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.contiguous() if x.device.type == "cpu" else x)


class OnePixelConv2d(nn.Conv2d):
    """A convolution whose output is one pixel, computed as a product with the taps that see the image.

    With images of another size it is any convolution.
    """

    window: Window
    taps: nn.Parameter | None  # (O, C, h, w), a copy of those in the window, while trained in place of the weight

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, O, 1, 1) of (N, C, H, W)."""
        if x.device.type != "cpu" or x.shape[2:] != self.window.size:
            assert self.taps is None, "images have one size while training"
            return super().forward(x)
        taps = self.seen() if self.taps is None else self.taps
        image = x[:, :, : taps.shape[2], : taps.shape[3]]
        return F.linear(image.flatten(1), taps.flatten(1), self.bias)[:, :, None, None]

    def seen(self) -> Tensor:
        """Return the part of the weight that is in the window, as a view."""
        return self.weight[:, :, self.window.rows, self.window.columns]


def choose(model: nn.Module, image_size: int) -> dict[str, Window | None]:
    """Return which convolutions replace() may replace, by path, for images of this many pixels.

    model: on the meta device, where nothing is computed; it is changed. returns: the window of those that become
    OnePixelConv2d, None for those that become FewPixelsConv2d.
    """
    chosen: dict[str, Window | None] = {}

    def look(path: str, conv: nn.Conv2d, x: Tensor, output: Tensor) -> None:
        dense = conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros"
        if not dense or isinstance(conv.padding, str) or max(conv.kernel_size) == 1:
            return
        if output.shape[2:] == (1, 1):
            sides = zip(conv.padding, x.shape[2:], conv.kernel_size, strict=True)
            chosen[path] = Window(x.shape[2:], *(slice(pad, min(pad + side, kernel)) for pad, side, kernel in sides))
        elif max(output.shape[2:]) == 2 and conv.kernel_size == (3, 3) and min(conv.weight.shape[:2]) >= WIDE:
            chosen[path] = None

    for path, module in model.named_modules():
        if type(module) is nn.Conv2d:
            module.register_forward_hook(lambda conv, args, output, path=path: look(path, conv, args[0], output))
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, image_size, image_size, device="meta"))
    return chosen


def replace(model: nn.Module, chosen: Mapping[str, Window | None]) -> None:
    """Make these convolutions compute in their faster way; their weights stay as they are."""
    for path, window in chosen.items():
        conv = model.get_submodule(path)
        if window is None:
            conv.__class__ = FewPixelsConv2d
        else:
            conv.__class__ = OnePixelConv2d
            conv.window = window  # type: ignore[assignment]
            conv.register_parameter("taps", None)


def restore(model: nn.Module) -> None:
    """Give the model back torch's own convolutions, which replace() had replaced; weights stay as they are."""
    for module in model.modules():
        if isinstance(module, OnePixelConv2d):
            assert module.taps is None, "taps are trained only within seen_alone()"
            del module.taps, module.window
        if isinstance(module, OnePixelConv2d | FewPixelsConv2d):
            conv: nn.Module = module
            conv.__class__ = nn.Conv2d


@contextmanager
def seen_alone(model: nn.Module) -> Iterator[nn.Parameter | None]:
    """Within this, train the taps that see the image in place of the whole kernels; then put them back.

    The others have a gradient of zero, and an optimizer that works weight by weight multiplies all such weights by one
    number: 1, or less with weight decay. Yields a parameter, a one, that stands for them and is to be trained with a
    gradient of zero; None if there is nothing to leave out.
    """
    convs = [
        module
        for module in model.modules()
        if isinstance(module, OnePixelConv2d) and module.weight.requires_grad and module.weight.device.type == "cpu"
    ]
    others = nn.Parameter(torch.ones(()))
    for conv in convs:
        conv.taps = nn.Parameter(conv.seen().detach().clone())
        conv.weight.requires_grad_(False)
    try:
        yield others if convs else None
    finally:
        for conv in convs:
            assert conv.taps is not None
            with torch.no_grad():
                conv.weight.mul_(others)
                conv.seen().copy_(conv.taps)
            conv.taps = None
            conv.weight.requires_grad_(True)
