"""Images that look alike: the same picture at another size or compression, by difference hashes and correlation."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sweep import interrupt
from sweep.data.types import Images, Keys, Labels, Split

BITS = 6  # of 64, by which the hashes of two such images may differ
CORRELATION = 0.97  # of their grey values, at least
SIDE = 16  # pixels, at which they are correlated
AT_ONCE = 1000  # images
PAIRS = 4e8  # that are compared, at most: some seconds


class Small(NamedTuple):
    """Images made small. hashes: (N,) of 64 bits. grey: (N, SIDE * SIDE), of mean 0 and length 1, or 0 if flat."""

    hashes: Keys
    grey: npt.NDArray[np.float32]


def small(split: Split) -> Small:
    """Return the split's images made small."""
    hashes, grey = [], []
    for first in range(0, len(split.rows), AT_ONCE):
        interrupt.check()
        part = split.pool[split.rows[first : first + AT_ONCE]]
        hashes.append(difference_hash(part))
        flat = _resized(part, SIDE, SIDE).reshape(len(part), -1)
        flat = flat - flat.mean(1, keepdims=True)
        grey.append((flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)).astype(np.float32))
    return Small(np.concatenate(hashes), np.concatenate(grey))


def difference_hash(images: Images) -> Keys:
    """Return 64 bits of each image (N, 3, S, S): whether each of 8 x 9 grey values is below its right neighbour."""
    values = _resized(images, 8, 9)
    bits = values[:, :, :-1] < values[:, :, 1:]  # (N, 8, 8)
    return np.packbits(bits.reshape(len(images), 64), axis=1).view(np.uint64)[:, 0]


def _resized(images: Images, height: int, width: int) -> npt.NDArray[np.float64]:
    """Return grey values (N, height, width), each the mean of its part of the image."""
    grey: npt.NDArray[np.float64] = images.mean(1)
    for axis, size in ((1, height), (2, width)):
        side = grey.shape[axis]
        edges = np.arange(size + 1) * side / size  # cells may end within a pixel, which then counts in part
        summed = np.concatenate([np.zeros_like(grey.take([0], axis)), grey.cumsum(axis)], axis)
        low = np.minimum(edges.astype(int), side - 1)
        share = (edges - low).reshape([-1 if each == axis else 1 for each in range(3)])
        at_edge = summed.take(low, axis) * (1 - share) + summed.take(low + 1, axis) * share
        grey = np.diff(at_edge, axis=axis) * size / side
    return grey


def pairs(one: Small, other: Small) -> tuple[Labels, Labels, bool]:
    """Return the places (P,) of images of the one that look like an image of the other, and of the most alike.

    The last value is whether all were compared; if not, the first images of the one were.
    """
    most = max(1, int(PAIRS / max(1, len(other.hashes))))
    step = max(1, 2_000_000 // max(1, len(other.hashes)))
    ours, theirs = [], []
    for first in range(0, min(most, len(one.hashes)), step):
        interrupt.check()
        apart = _ones(one.hashes[first : min(first + step, most), None] ^ other.hashes[None])
        row, column = np.nonzero(apart <= BITS)
        close = np.einsum("ij,ij->i", one.grey[first + row], other.grey[column])
        order = np.lexsort((-close, row))
        order = order[close[order] >= CORRELATION]
        rows, at = np.unique(row[order], return_index=True)
        ours.append(first + rows)
        theirs.append(column[order][at])
    empty = np.array([], np.int64)
    return np.concatenate([empty, *ours]), np.concatenate([empty, *theirs]), most >= len(one.hashes)


def _ones(values: Keys) -> npt.NDArray[np.uint64]:
    """Return how many bits are set (numpy has this since 2.0)."""
    masks = [np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)]
    values = values - ((values >> np.uint64(1)) & masks[0])
    values = (values & masks[1]) + ((values >> np.uint64(2)) & masks[1])
    values = (values + (values >> np.uint64(4))) & masks[2]
    return (values * np.uint64(0x0101010101010101)) >> np.uint64(56)
