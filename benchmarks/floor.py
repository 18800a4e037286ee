"""What the arithmetic alone costs: the FLOPs of ResNet-18 at 32 pixels, and how fast this machine computes them."""

import math
import time
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn

BLOCKS = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))  # of torchvision's ResNet-18
IMAGE_SIZE = 32  # pixels


def best_rate(dtype: torch.dtype) -> float:
    """Return the FLOP/s of the faster of a large matrix product and one of ResNet's own convolutions."""
    a, b = torch.randn(2, 1024, 1024).to(dtype)
    x = torch.randn(256, 128, 8, 8).to(dtype).to(memory_format=torch.channels_last)
    conv = nn.Conv2d(128, 128, 3, padding=1, bias=False).to(dtype).to(memory_format=torch.channels_last)
    steps: list[tuple[Callable[[], Tensor], int]] = [
        (lambda: a @ b, 2 * 1024**3),
        (lambda: conv(x), 2 * 256 * 64 * 128 * 128 * 9),
    ]
    best = 0.0
    with torch.no_grad():
        for step, flops in steps:
            for _ in range(20):
                start = time.perf_counter()
                step()
                best = max(best, flops / (time.perf_counter() - start))
    return best


def block_flops() -> list[int]:
    """Return the FLOPs of one image's forward pass through each block of ResNet-18 at 32 pixels, and the head.

    Convolutions and the linear layer count, two for each product and sum; of a kernel, the taps that only padding
    meets do not.
    """
    model = torchvision.models.resnet18(num_classes=10).eval()
    parts = [*BLOCKS, ("fc",)]
    each = [0] * len(parts)

    def count(index: int, module: nn.Module, x: Tensor, output: Tensor) -> None:
        taps = 1
        if isinstance(module, nn.Conv2d):
            taps = math.prod(_taps(module, axis, x.shape[2 + axis], output.shape[2 + axis]) for axis in (0, 1))
        each[index] += 2 * output.numel() * x.shape[1] * taps

    for index, names in enumerate(parts):
        for name in names:
            for module in model.get_submodule(name).modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    module.register_forward_hook(
                        lambda module, inputs, output, index=index: count(index, module, inputs[0], output)
                    )
    with torch.no_grad():
        model(torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE))
    return each


def _taps(conv: nn.Conv2d, axis: int, n_in: int, n_out: int) -> int:
    """Return how many of the kernel's taps along this axis ever meet one of n_in pixels."""
    pad, stride = int(conv.padding[axis]), conv.stride[axis]
    starts = range(-pad, n_out * stride - pad, stride)
    return sum(any(0 <= start + tap < n_in for start in starts) for tap in range(conv.kernel_size[axis]))


def step_flops(each: list[int], depth: int) -> int:
    """Return the FLOPs of training one image: backward costs twice the forward, but no gradient for what is frozen."""
    return 3 * sum(each[depth:]) - each[depth]


def job_flops(each: list[int], depth: int, images: tuple[int, int], epochs: int) -> tuple[int, int]:
    """Return the FLOPs of one member at this depth: of the frozen blocks, once, and of all epochs.

    images: to train on, and to evaluate on after every epoch.
    """
    train, test = images
    prefix, suffix = sum(each[:depth]), sum(each[depth:])
    return prefix * (train + test), epochs * (step_flops(each, depth) * train + suffix * test)
