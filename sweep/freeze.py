"""Frozen means frozen: the network cut at a depth, and the certificate that its prefix did not change."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from sweep.config import BatchNorm, Precision

# channels_last pays from here on: ResNet-18 on two CPU cores is a tenth faster at 128 images, no faster at 50
LARGE_BATCH = 128

_KEPT = {Precision.bf16: torch.bfloat16, Precision.fp16: torch.float16}
_BATCHNORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Normalize(nn.Module):
    """Turn uint8 images into the floats that the source's weights expect, bit for bit as torchvision's transforms do.

    It has nothing to train or freeze. Exactness is not for show: with BatchNorm over single pixels, a last bit in the
    images moves the loss of three epochs by half a per cent.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        return images.float().div_(255).sub_(self.mean).div_(self.std)  # (N, 3, S, S), uint8 to float


class Network(nn.Module):
    """Normalisation, frozen prefix, trainable suffix.

    The prefix gets no gradient and stays in evaluation mode, dropout and BatchNorm included, whatever mode the
    network is in. With batchnorm=track its BatchNorms normalise by the batch and move their running statistics while
    the network trains; their weights still do not change. precision is that of the prefix alone: its blocks' outputs
    are rounded to it, whether they are kept or not.

    >>> from sweep import models
    >>> state = models.random_state("resnet18", image_size=32, seed=0)
    >>> parts, head = models.blocks(models.build("resnet18", state, 10, 32, head_seed=0), "resnet18", "stage")
    >>> network = Network(Normalize([0.5] * 3, [0.5] * 3), parts, head, depth=2, batchnorm=BatchNorm.frozen)
    >>> network.encode(torch.zeros(7, 3, 32, 32, dtype=torch.uint8)).shape
    torch.Size([7, 64, 8, 8])
    """

    def __init__(
        self,
        normalize: Normalize,
        blocks: Sequence[nn.Module],
        head: nn.Module,
        depth: int,
        batchnorm: BatchNorm,
        precision: Precision = Precision.fp32,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.prefix = nn.Sequential(*blocks[:depth])
        self.suffix = nn.Sequential(*blocks[depth:], head)
        self.precision = precision
        self.track = batchnorm is BatchNorm.track and any(isinstance(m, _BATCHNORMS) for m in self.prefix.modules())
        for parameter in self.prefix.parameters():
            parameter.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "Network":
        super().train(mode)
        self.prefix.eval()
        if self.track and mode:
            for module in self.prefix.modules():
                if isinstance(module, _BATCHNORMS):
                    module.train()
        return self

    @property
    def device(self) -> torch.device:
        return self.normalize.mean.device

    def steps(self, inputs: Tensor, start: int = 0) -> Iterator[Tensor]:
        """Yield the output of one frozen block after the other, in the precision in which it would be kept.

        inputs: (N, 3, S, S) uint8 images, or the outputs of the first `start` blocks. The caller turns gradients off.
        """
        x = large(inputs if start else self.normalize(inputs))
        for block in self.prefix[start:]:
            with mixed(self.device, self.precision):
                x = block(x.float() if self.precision is Precision.fp16 else x)
            x = x.to(_KEPT.get(self.precision, torch.float32))
            yield x

    def encode(self, images: Tensor) -> Tensor:
        """Return the suffix's input.

        images: (N, 3, S, S) uint8. returns: (N, ...) float32, the last frozen block's output, without gradient.
        """
        with torch.no_grad():
            if len(self.prefix) == 0:
                return large(self.normalize(images))
            return deque(self.steps(images), maxlen=1).pop().float()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) of uint8 images (N, 3, S, S)."""
        logits: Tensor = self.suffix(self.encode(images))
        return logits

    def frozen_tensors(self) -> list[Tensor]:
        """Return what must not change: the prefix's parameters, and its buffers unless they are tracked."""
        buffers = [] if self.track else list(self.prefix.buffers())
        return [*self.prefix.parameters(), *buffers]

    def count(self) -> tuple[int, int]:
        """Return (trainable, frozen) numbers of parameters."""
        trainable = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return trainable, sum(p.numel() for p in self.parameters()) - trainable


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """Return 16 hexadecimal digits that change with any bit of any tensor, its shape or its place in the order."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()[:16]


def large(images: Tensor) -> Tensor:
    """Return a large batch of images or maps as channels_last, which convolutions take faster; others as they are."""
    if images.dim() == 4 and len(images) >= LARGE_BATCH:
        return images.contiguous(memory_format=torch.channels_last)
    return images


def mixed(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context in which matrix products and convolutions are computed in bfloat16, if that is asked for."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision is Precision.bf16)
