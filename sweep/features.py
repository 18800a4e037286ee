"""The prefix as a pure function: run it once, train the suffix on its outputs."""

import torch
from torch import Tensor

from sweep.freeze import Network

BATCH = 256  # images; large enough for the matrix units, small enough for the activations of a 224-pixel ResNet


def encode(network: Network, images: Tensor) -> Tensor:
    """Return the suffix's input for every image, in order.

    images: (N, 3, S, S) uint8, on the network's device. returns: (N, ...) float, same device, no gradient.
    raises: ValueError if the prefix moves with every batch (batchnorm=track), so that there is no such function.
    """
    if network.track:
        raise ValueError("a prefix with tracked BatchNorm statistics has no fixed outputs to keep")
    first = network.encode(images[:1] if len(images) else images.new_zeros(1, *images.shape[1:]))
    out = torch.empty((len(images), *first.shape[1:]), dtype=first.dtype, device=first.device)
    for start in range(0, len(images), BATCH):
        out[start : start + BATCH] = network.encode(images[start : start + BATCH])
    return out


def size_bytes(network: Network, images: Tensor) -> int:
    """Return the memory that encode() of these images would fill."""
    one = network.encode(images.new_zeros(1, *images.shape[1:]))
    return one.element_size() * one.numel() * len(images)
