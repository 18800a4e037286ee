"""A data set of the user's own: what a function that data.factory names returns, torch's Datasets of (image, label)."""

import hashlib
import operator
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from sweep import factory, interrupt
from sweep.config import DataConfig
from sweep.data import decode
from sweep.data.types import Allocate, Dataset, Unreadable
from sweep.errors import UserError

SETTING = "data.factory"
FIRST = 10  # images that are read twice, to see whether they are the same
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by channels


class WrongItemError(TypeError):
    """What no image or label can be: whose code gives it must change it."""


class Looked(NamedTuple):
    """What one pass over all items tells: the labels of every split, -1 where there is none, and a digest of all."""

    labels: dict[str, list[int]]
    digest: str


class OwnData(Dataset):
    """The Datasets that a function returns: one, or several as train, val and test."""

    takes = frozenset({"factory"})

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        if not config.factory:
            raise UserError(
                "data.factory is not set: data=module needs data.factory=FILE:NAME, such as my_file:dataset"
            )
        self.spec = config.factory
        self.content = factory.content(SETTING, self.spec)

    @cached_property
    def parts(self) -> dict[str, Any]:
        """The Datasets by split: train, and val and test where they are given; raises UserError for anything else."""
        return self._made()

    def _made(self) -> dict[str, Any]:
        build = factory.made(SETTING, self.spec, self.content)
        call = f"{self.spec.partition(':')[2]}()"
        factory.arguments(SETTING, self.spec, build, {})
        with factory.one_line(SETTING, self.spec, call):
            made = build()
        if isinstance(made, tuple | list) and len(made) in (1, 2, 3):
            names = (("train",), ("train", "test"), ("train", "val", "test"))[len(made) - 1]
            made = dict(zip(names, made, strict=True))
        parts = dict(made) if isinstance(made, Mapping) else {"train": made}
        if "train" not in parts or not {*parts} <= {"train", "val", "test"}:
            raise self._refuse(f"{call} returned the splits {', '.join(map(str, parts))}; use train, val and test")
        for split, each in parts.items():
            if not (hasattr(each, "__getitem__") and hasattr(each, "__len__")) or isinstance(each, str):
                kind = type(each).__name__
                raise self._refuse(f"{split} is a {kind}, not a Dataset with __len__ and __getitem__")
            if not len(each):
                raise self._refuse(f"{split} is empty")
        return parts

    @cached_property
    def looked(self) -> Looked:
        """What one pass over all items tells, made once; raises UserError for what can be no image or label."""
        total, labels = hashlib.sha256(), dict[str, list[int]]()
        first = [[*islice(self._items("train", made["train"]), FIRST)] for made in (self.parts, self._made())]
        if first[0] != first[1]:
            raise self._refuse(
                "train has other images each time; seed what is drawn, such as a split, and leave random changes of "
                "images to data.augment"
            )
        for split, dataset in self.parts.items():
            labels[split] = []
            for label, content in self._items(split, dataset):
                labels[split].append(label)
                total.update(f"{split} {label} ".encode() + content)
        return Looked(labels, total.hexdigest()[:16])

    def _items(self, split: str, dataset: Any) -> Iterator[tuple[int, bytes]]:
        """Yield (label, digest of the image) of every item; (-1, digest of the error) where it raises one."""
        for row in range(len(dataset)):
            interrupt.check()
            try:
                image, label = _item(dataset, row)
                text = f"{image.mode}{image.size}".encode()
                yield label, hashlib.sha256(text + image.tobytes()).digest()
            except WrongItemError as error:
                raise self._refuse(f"{split}[{row}] {error}") from error
            except Exception as error:  # whatever the user's code raises; read() names it
                yield -1, hashlib.sha256(repr(error).encode()).digest()

    def classes(self) -> tuple[str, ...]:
        labels = {label for of_split in self.looked.labels.values() for label in of_split if label >= 0}
        given = _classes(self.parts["train"])
        count = max(labels, default=0) + 1
        names = tuple(map(str, range(count))) if given is None else given
        if count > len(names):
            raise self._refuse(f"has the label {count - 1}, and only {len(names)} names in classes")
        if len({*names}) < len(names):
            raise self._refuse("has the same name twice in classes")
        absent = [names[label] for label in range(len(names)) if label not in self.looked.labels["train"]]
        if absent:
            raise self._refuse(f"has no training image of {', '.join(absent[:5])}; labels count from 0 without gaps")
        return names

    def fingerprint(self) -> list[str]:
        return [self.content, self.looked.digest]

    def splits(self) -> tuple[str, ...]:
        return ("train", "test") if "test" in self.parts else ("train",)

    def validation(self) -> int:
        return len(self.parts["val"]) if "val" in self.parts else 0

    def notes(self) -> list[str]:
        titles = {"train": "training", "val": "validation", "test": "test"}
        counts = ", ".join(f"{len(self.parts[each])} {title}" for each, title in titles.items() if each in self.parts)
        return [f"{counts} images of {len(self.classes())} classes, from {self.spec}"]

    def label(self) -> str:
        return self.spec

    def read(self, size: int, allocate: Allocate) -> Unreadable:
        unreadable: Unreadable = {}
        for split in self.splits():
            rows = self._rows(split)
            images, labels = allocate(split, len(rows))
            unreadable[split] = {}
            for place, (part, row) in enumerate(rows):
                interrupt.check()
                try:
                    image, labels[place] = _item(self.parts[part], row)
                    images[place] = decode.square(image, size)
                except Exception as error:  # whatever the user's code raises
                    labels[place] = 0
                    why = f"{type(error).__name__}: {' '.join(str(error).split())}"
                    unreadable[split][place] = f"{self.image_name(split, place)} ({why})"
        return unreadable

    def _rows(self, split: str) -> list[tuple[str, int]]:
        """Return (part, row) of every image of a split: the validation images come after those of training."""
        parts = [part for part in (split, "val" if split == "train" else "") if part in self.parts]
        return [(part, row) for part in parts for row in range(len(self.parts[part]))]

    def image_names(self, split: str) -> Iterator[str]:
        return (f"{self.spec} {part}[{place}]" for part, place in self._rows(split))

    def _refuse(self, why: str) -> UserError:
        return UserError(f"{SETTING}={self.spec}: {why}")


def _item(dataset: Any, row: int) -> tuple[Image.Image, int]:
    """Return an item's image and label; raise WrongItemError for what is none, or whatever the user's code raises."""
    item = dataset[row]
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise WrongItemError(f"is {_kind(item)}; give (image, label)")
    try:
        label = operator.index(item[1])
    except TypeError:
        raise WrongItemError(f"has the label {_kind(item[1])}; give a whole number, counted from 0") from None
    if label < 0:
        raise WrongItemError(f"has the label {label}; give a whole number, counted from 0")
    return picture(item[0]), label


def _classes(dataset: Any) -> tuple[str, ...] | None:
    """Return the names of the classes, of the Dataset or of the one that it is a subset of; None if it says none."""
    while getattr(dataset, "classes", None) is None and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    given = getattr(dataset, "classes", None)
    return None if given is None else tuple(map(str, given))


def picture(image: Any) -> Image.Image:
    """Return an image of PIL's, an array (H, W), (H, W, C) or (C, H, W), or a tensor, as an image of PIL's.

    Bytes are pixels as they are, floats are pixels in 0..1. raises: WrongItemError for anything else.
    """
    if isinstance(image, Image.Image):
        image.load()
        return image
    first = hasattr(image, "detach")  # torch's, whose channels come first
    if not first and not isinstance(image, np.ndarray):
        raise WrongItemError(f"has {_kind(image)} for an image; give an image of PIL's, an array or a tensor")
    pixels = np.asarray(image.detach().cpu() if first else image)
    if pixels.ndim == 3:
        sides = [side for side in ((0, 2) if first else (2, 0)) if pixels.shape[side] in MODES]
        if not sides:
            raise WrongItemError(f"has an image of shape {pixels.shape}; give 1, 3 or 4 channels")
        pixels = np.moveaxis(pixels, sides[0], 2)
    if pixels.ndim not in (2, 3) or not pixels.size:
        raise WrongItemError(f"has an image of shape {pixels.shape}; give (H, W), (H, W, C) or (C, H, W)")
    if pixels.dtype.kind == "f":
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 1):
            raise WrongItemError(
                f"has pixels from {low:.3g} to {high:.3g}; give floats in 0..1, not normalised, or uint8"
            )
        pixels = (255 * pixels).round().astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise WrongItemError(f"has pixels of type {pixels.dtype}; give uint8, or floats in 0..1")
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.ndim == 3 and channels == 1 else pixels))


def _kind(value: Any) -> str:
    text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"
