"""The images of a data set, decoded once and kept on disk, with a key of each one's content and what is unreadable."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from sweep import interrupt
from sweep.config import Transform, digest
from sweep.data import bands, store
from sweep.data.types import Dataset, Images, Keys, Labels, Split, Unreadable
from sweep.errors import UserError
from sweep.seeds import stream

# Part of the name of every decoded array. Raise it when a change of the code changes pixels.
DECODING = 1
AT_ONCE = 1000  # rows: the images may be a map larger than the memory


class Wanted(NamedTuple):
    """How images are wanted. skip: whether those that cannot be read are left out, or refused. channels: how many."""

    size: int  # pixels
    transform: Transform
    skip: bool
    channels: int = bands.COLOUR


class Decoded(NamedTuple):
    """What a data set holds.

    splits: every readable image; a row is its place in the pool.
    keys: {split: (N,) of every row}, equal where the pixels are.
    unreadable: what is left out.
    """

    splits: dict[str, Split]
    keys: dict[str, Keys]
    unreadable: Unreadable

    def left_out(self) -> tuple[str, ...]:
        """Return the names of what cannot be read, and why."""
        return tuple(sorted(name for of_split in self.unreadable.values() for name in of_split.values()))


def load(dataset: Dataset, wanted: Wanted, max_gb: float) -> Decoded:
    """Return the data set's own splits: from disk if they were decoded before; see task.load().

    raises: UserError that names the unreadable images, unless they are to be left out.
    """
    if max_gb > 0:
        own = [] if dataset.channels == bands.COLOUR else [dataset.channels]
        files = [dataset.fingerprint(), dataset.files()]
        key = digest([DECODING, dataset.name, wanted.size, *files, wanted.transform, *own])
        try:
            with store.group(f"images-{dataset.name}-{key}") as group:
                found = _stored(group, dataset)
                if found is None:
                    with group.write() as new_array:
                        _read(dataset, wanted, new_array)
                    found = _stored(group, dataset)
            store.trim(max_gb * 1e9)
            if found is not None:
                return _judged(found, dataset, wanted)
        except OSError as error:  # no room, or no right to write there
            store.unkept(error)
    arrays: dict[str, npt.NDArray[Any]] = {}

    def in_memory(name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        arrays[name] = np.empty(shape, dtype)
        return arrays[name]

    _read(dataset, wanted, in_memory)
    return _made(arrays, dataset)


def _read(dataset: Dataset, wanted: Wanted, new_array: store.NewArray) -> None:
    """Decode every split, transform it in place, and give every image its key."""
    made: dict[str, Images] = {}

    def allocate(split: str, count: int) -> tuple[Images, Labels]:
        made[split] = new_array(f"{split}-images", (count, wanted.channels, wanted.size, wanted.size), np.uint8)
        return made[split], new_array(f"{split}-labels", (count,), np.int64)

    unreadable = {split: rows for split, rows in dataset.read(wanted.size, allocate).items() if rows}
    if not wanted.skip:
        _refuse(dataset, unreadable)
    for split, images in made.items():
        if wanted.transform is not Transform.none:
            for first in range(0, len(images), AT_ONCE):
                interrupt.check()
                part = images[first : first + AT_ONCE]
                images[first : first + AT_ONCE] = transformed(part, wanted.transform)
        new_array(f"{split}-keys", (len(images),), np.uint64)[:] = keys_of(images)
    text = np.frombuffer(json.dumps(unreadable).encode(), np.uint8)
    new_array("unreadable", text.shape, np.uint8)[:] = text


def keys_of(images: Images) -> Keys:
    """Return a hash of every image's pixels, (N,), computed on two threads or more."""

    def key(image: Images) -> bytes:
        return hashlib.blake2b(image.tobytes(), digest_size=8).digest()

    found: list[bytes] = []
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(images), AT_ONCE):
            interrupt.check()
            found += pool.map(key, images[first : first + AT_ONCE], chunksize=50)
    return np.frombuffer(b"".join(found), np.uint64)


def transformed(images: Images, transform: Transform) -> Images:
    """Return images (N, 3, S, S) blurred (sigma a sixteenth of the side), inverted, or with pixels in another order."""
    if transform is Transform.blur:
        sigma = images.shape[-1] / 16
        blurred: Images = gaussian_filter(images, (0, 0, sigma, sigma))
        return blurred
    if transform is Transform.invert:
        return 255 - images
    if transform is Transform.permute:  # the same order for every image: what is left of a class is its histogram
        order = stream(0, "permuted pixels").permutation(images[0, 0].size)
        return images.reshape(*images.shape[:2], -1)[..., order].reshape(images.shape)
    return images


def _stored(group: store.Group, dataset: Dataset) -> Decoded | None:
    names = [f"{split}-{kind}" for split in dataset.splits() for kind in ("images", "labels", "keys")]
    arrays = {name: group.read(name) for name in (*names, "unreadable")}
    there = {name: array for name, array in arrays.items() if array is not None}
    return _made(there, dataset) if len(there) == len(arrays) else None


def _made(arrays: dict[str, npt.NDArray[Any]], dataset: Dataset) -> Decoded:
    kept = json.loads(arrays["unreadable"].tobytes())
    unreadable: Unreadable = {split: {int(row): name for row, name in rows.items()} for split, rows in kept.items()}
    splits = {}
    for split in dataset.splits():
        labels = np.array(arrays[f"{split}-labels"])
        rows = np.setdiff1d(np.arange(len(labels)), [*unreadable.get(split, ())]).astype(np.int64)
        splits[split] = Split(arrays[f"{split}-images"], rows, labels[rows])
    return Decoded(splits, {split: np.array(arrays[f"{split}-keys"]) for split in splits}, unreadable)


def _judged(found: Decoded, dataset: Dataset, wanted: Wanted) -> Decoded:
    if not wanted.skip:  # whoever kept them did skip
        _refuse(dataset, found.unreadable)
    return found


def _refuse(dataset: Dataset, unreadable: Unreadable) -> None:
    """Raise UserError if there are unreadable images; it names the first five."""
    bad = sorted(name for of_split in unreadable.values() for name in of_split.values())
    if bad:
        shown = "; ".join(bad[:5]) + (f"; and {len(bad) - 5} more" if len(bad) > 5 else "")
        what = f"{len(bad)} unreadable image(s), repair or remove them, or add data.broken=skip: {shown}"
        raise UserError(f"{dataset.where()}: {what}")
