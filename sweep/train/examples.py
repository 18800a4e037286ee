"""What the trained part is given: inputs with their labels, in batches, on the device that computes."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sweep import interrupt
from sweep.data.types import Labels, class_weights
from sweep.models.frozen import channels_last

DEVICE_SHARE = 0.3  # of a GPU's free memory that one split may take; a larger one is streamed


@dataclass(frozen=True)
class Examples:
    """Inputs, images or features, with their labels.

    Inputs on another device than the labels are streamed: they may be a memory map larger than the device.
    """

    inputs: Tensor  # (M, ...)
    rows: Tensor  # (N,) int64: which of the inputs; on their device
    labels: Tensor  # (N,) int64, of these rows; on the device that computes
    weights: Tensor | None = None  # (N,) float64, of mean 1: what each counts in an accuracy; None = all alike

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, which: slice) -> "Examples":
        """Return these of the examples."""
        weights = None if self.weights is None else self.weights[which]
        return Examples(self.inputs, self.rows[which], self.labels[which], weights)

    def balanced(self) -> "Examples":
        """Return these with weights that make an accuracy the mean over classes."""
        weights = torch.from_numpy(class_weights(self.labels.cpu().numpy()))
        return replace(self, weights=weights.to(self.labels.device))

    def batches(self, order: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and labels, on the labels' device, for each (B,) of places in 0..N-1, in order."""
        if self.inputs.device == self.labels.device:
            for index in order:
                interrupt.check()
                # a third of the time of self.inputs[self.rows[index]], on a CPU
                yield _ready(self.inputs.index_select(0, self.rows[index])), self.labels[index]
        else:
            for index, inputs in zip(order, self.stream(order), strict=True):
                interrupt.check()
                yield _ready(inputs), self.labels[index]

    def stream(self, order: Sequence[Tensor], ahead: int = 2) -> Iterator[Tensor]:
        """Yield inputs on the labels' device; a thread gathers the next batches while this one is computed on."""
        device = self.labels.device

        def gather(index: Tensor) -> Tensor:
            batch = self.inputs.index_select(0, self.rows[index.to(self.rows.device)])
            return batch.pin_memory() if device.type == "cuda" else batch

        with ThreadPoolExecutor(1) as pool:
            waiting = deque(pool.submit(gather, index) for index in order[:ahead])
            for place in range(len(order)):
                batch = waiting.popleft().result()
                if place + ahead < len(order):
                    waiting.append(pool.submit(gather, order[place + ahead]))
                yield batch.to(device, non_blocking=True)


def place(pool: Tensor, rows: Labels, labels: Labels, device: torch.device) -> Examples:
    """Return these rows of a CPU tensor as examples for a device: copied there if they leave room for the training.

    pool: (M, ...), perhaps memory-mapped. rows, labels: (N,).
    """
    index, numbers = torch.from_numpy(rows), torch.from_numpy(labels).to(device)
    if device.type == "cuda":
        needed = pool[:1].nbytes * len(rows)
        if needed <= DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
            return Examples(pool[index].to(device), torch.arange(len(rows), device=device), numbers)
    return Examples(pool, index, numbers)


def _ready(inputs: Tensor) -> Tensor:
    return inputs if inputs.dtype == torch.uint8 else channels_last(inputs.float())


class Splits(NamedTuple):
    """What one training is given. val may be empty; test only where its accuracy is wanted after every epoch."""

    train: Examples
    val: Examples
    test: Examples | None = None


def shuffled(n: int, batch_size: int, generator: torch.Generator, device: torch.device) -> list[Tensor]:
    """Return the places 0..n-1 in an order drawn from this generator, in batches, on the device."""
    return batches(torch.randperm(n, generator=generator).to(device), batch_size)


def batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """Split an order of images into batches.

    A last batch of one image joins the batch before it: BatchNorm cannot normalise a single vector.

    >>> [len(batch) for batch in batches(torch.arange(9), 4)]
    [4, 5]
    """
    parts = list(torch.split(order, batch_size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def flip_crop(images: Tensor, generator: torch.Generator, of: int | None = None, part: slice = slice(None)) -> Tensor:
    """Return every image mirrored with probability 1/2 and shifted by up to an eighth of its side, black moving in.

    images: (N, 3, S, S) uint8, on any device; drawn on the CPU, so that every device sees the same views.
    of, part: where the images are a part of a batch, of how many, and which; each has the view that the batch gives it.
    """
    n, channels, size, _ = images.shape
    of = n if of is None else of
    pad = max(1, size // 8)
    shifts = torch.randint(2 * pad + 1, (2, of, 1), generator=generator)[:, part]
    flips = torch.rand(of, 1, generator=generator)[part] < 0.5
    rows, columns = shifts + torch.arange(size)  # (N, S) each
    columns = torch.where(flips, columns.flip(1), columns)
    padded = F.pad(images, (pad, pad, pad, pad))
    rows, columns = rows.to(images.device), columns.to(images.device)
    place = torch.arange(n, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return padded[place, channel, rows[:, None, :, None], columns[:, None, None, :]]  # (N, 3, S, S)
