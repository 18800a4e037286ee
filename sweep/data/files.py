"""What data sets of image files have in common, however the files are listed: by folders or by a table."""

from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sweep.config import DataConfig, digest
from sweep.data import bands, decode, walk
from sweep.data.encoded import EncodedImages
from sweep.data.types import Labels, joined

Files = dict[str, list[tuple[Path, int]]]  # {split: [(file, label), ...]}


class Listing(NamedTuple):
    """Which files there are; without a test split all are training images.

    fingerprint: a digest of every file's relative path, size and time: cheap, and any edit changes it.
    """

    classes: tuple[str, ...]
    files: Files
    fingerprint: str


class ImageFiles(EncodedImages):
    """Image files that are listed somewhere."""

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self.asked_range = config.pixel_range

    @property
    @abstractmethod
    def looked(self) -> tuple[Listing, list[str]]:
        """Return what there is and sentences on what is not plain in it; raise UserError if it is no data set."""

    def top(self) -> Path:
        """Return the folder that paths are relative to."""
        return Path(self.root or "").expanduser()

    @property
    def listing(self) -> Listing:
        """Which files there are."""
        return self.looked[0]

    def fingerprint(self) -> str:
        span = self.span
        return digest([self.listing.fingerprint, span]) if span else self.listing.fingerprint

    @cached_property
    def span(self) -> bands.Span | None:
        """Which values are black and white, if there are images of more than 8 bits; by default, their own range.

        Only if the first image of a kind and class is deep, all of them are looked at.
        """
        paths = [(path, label) for files in self.listing.files.values() for path, label in files]
        wanted = bands.asked(self.channels)
        suffixes = (*decode.DEEP, *(bands.ARRAYS if wanted else ()))
        deep = [(path, label) for path, label in paths if path.suffix.lower() in suffixes]
        first = {(path.suffix, label): path for path, label in reversed(deep)}
        if not decode.any_deep(first.values(), wanted):
            return None
        if self.asked_range is not None:
            low, high = self.asked_range
            return float(low), float(high)
        return decode.span_of((path for path, _ in deep), wanted)

    def pixel_range(self) -> tuple[float, float] | None:
        return self.span

    def validation(self) -> int:
        return len(self.listing.files.get("val", ()))

    def notes(self) -> list[str]:
        if self.span is None:
            return self.looked[1]
        low, high = self.span
        why = "their own range; data.pixel_range=[low,high] sets another" if self.asked_range is None else "as asked"
        return [*self.looked[1], f"of images with more than 8 bits, {low:g} is black and {high:g} is white ({why})"]

    def labels(self, split: str) -> Labels:
        return np.array([label for _, label in joined(self.listing.files)[split]], np.int64)

    def encoded(self, split: str) -> Iterator[decode.Encoded]:
        return (decode.Encoded(str(file), file) for file, _ in joined(self.listing.files)[split])

    def image_names(self, split: str) -> Iterator[str]:
        return (self._shown(path) for path, _ in joined(self.listing.files)[split])

    def image_name(self, split: str, row: int) -> str:
        return self._shown(joined(self.listing.files)[split][row][0])

    def _shown(self, path: Path) -> str:
        top = self.top()
        return path.relative_to(top).as_posix() if path.is_relative_to(top) else str(path)


def masks_among(files: Files) -> list[str]:
    """Return a sentence if there are masks among the images."""
    masks = walk.paired([path for entries in files.values() for path, _ in entries])
    return [f"warning: {masks}"] if masks else []
