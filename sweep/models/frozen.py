"""Frozen means frozen: the network cut at a depth, and the certificate that its prefix did not change."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from sweep import interrupt
from sweep.config import BatchNorm, Precision, Which, frozen_blocks

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


class Frozen(nn.Sequential):
    """Blocks that get no gradient and stay in evaluation mode, dropout and BatchNorm included, whatever mode is asked.

    With track, their BatchNorms normalise by the batch and move their running statistics in training mode; their
    weights still do not change.
    """

    def __init__(self, *blocks: nn.Module, track: bool) -> None:
        super().__init__(*blocks)
        self.track = track and any(isinstance(module, _BATCHNORMS) for module in self.modules())
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> "Frozen":
        super().train(False)
        for module in self.modules():
            if mode and self.track and isinstance(module, _BATCHNORMS):
                module.train()
        return self


class Network(nn.Module):
    """Normalisation, frozen prefix, suffix: what is trained, and whatever is frozen behind that.

    frozen: how many of the first blocks are frozen, or for every block whether it is. The prefix ends before the first
    block that is trained. precision: of the prefix alone; its blocks' outputs are rounded to it, whether they are kept
    or not.

    >>> from sweep.config import Unit
    >>> from sweep.models import build as models
    >>> state = models.random_state("resnet18", image_size=32, seed=0)
    >>> parts, head = models.blocks(models.build("resnet18", state, 10, 32, head_seed=0), "resnet18", Unit.stage)
    >>> network = Network(Normalize([0.5] * 3, [0.5] * 3), parts, head, frozen=2, batchnorm=BatchNorm.frozen)
    >>> network.encode(torch.zeros(7, 3, 32, 32, dtype=torch.uint8)).shape
    torch.Size([7, 64, 8, 8])
    """

    def __init__(
        self,
        normalize: Normalize,
        blocks: Sequence[nn.Module],
        head: nn.Module,
        frozen: int | Sequence[bool],
        batchnorm: BatchNorm,
        precision: Precision = Precision.fp32,
    ) -> None:
        super().__init__()
        track = batchnorm is BatchNorm.track
        if isinstance(frozen, int):
            frozen = frozen_blocks(Which.prefix, frozen, len(blocks))
        first = [*frozen, False].index(False)  # to be trained
        rest = zip(blocks[first:], frozen[first:], strict=True)
        self.normalize = normalize
        self.prefix = Frozen(*blocks[:first], track=track)
        self.suffix = nn.Sequential(*(Frozen(block, track=track) if each else block for block, each in rest), head)
        self.precision = precision
        self.train()

    @property
    def track(self) -> bool:
        """Return whether statistics of frozen blocks move."""
        return any(part.track for part in self._frozen_parts())

    def _frozen_parts(self) -> list[Frozen]:
        return [module for module in self.modules() if isinstance(module, Frozen)]

    def parts(self) -> list[nn.Module]:
        """Return the blocks in forward order, and the head."""
        return [*self.prefix, *(part[0] if isinstance(part, Frozen) else part for part in self.suffix)]

    def thawed(self) -> "Network":
        """Return the network of the same blocks, weights shared, in which all of them are trained."""
        *blocks, head = self.parts()
        for block in blocks:
            block.requires_grad_(True)
        return Network(self.normalize, blocks, head, 0, BatchNorm.frozen)

    @property
    def device(self) -> torch.device:
        return self.normalize.mean.device

    def steps(self, inputs: Tensor, start: int = 0) -> Iterator[Tensor]:
        """Yield the output of one frozen block after the other, in the precision in which it would be kept.

        inputs: (N, 3, S, S) uint8 images, or the outputs of the first `start` blocks. The caller turns gradients off.
        """
        x = channels_last(inputs if start else self.normalize(inputs))
        for block in list(self.prefix)[start:]:
            interrupt.check()
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
                return channels_last(self.normalize(images))
            return deque(self.steps(images), maxlen=1).pop().float()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) of uint8 images (N, 3, S, S)."""
        logits: Tensor = self.suffix(self.encode(images))
        return logits

    def frozen_tensors(self) -> list[Tensor]:
        """Return what must not change: the frozen blocks' parameters, and their buffers unless they are tracked."""
        parts = self._frozen_parts()
        buffers = [] if self.track else [buffer for part in parts for buffer in part.buffers()]
        return [*(parameter for part in parts for parameter in part.parameters()), *buffers]

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


def channels_last(images: Tensor) -> Tensor:
    """Return images or maps with their channels last in memory, which convolutions take faster; others as they are."""
    return images.contiguous(memory_format=torch.channels_last) if images.dim() == 4 else images


def mixed(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context in which matrix products and convolutions are computed in bfloat16, if that is asked for."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision is Precision.bf16)
