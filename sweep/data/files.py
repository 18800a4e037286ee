"""What data sets of image files have in common, however the files are listed: by folders or by a table."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sweep.config import DataConfig, digest
from sweep.data import bands, decode
from sweep.data.deep import Span
from sweep.data.encoded import EncodedImages
from sweep.data.types import Labels, joined

PLAIN = "warning: data.pixel_range={} is for images with more than 8 bits, and there are none: it changes nothing"
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
    def unusual(self) -> decode.Unusual:
        """Which files have other values than 0..255, or several frames, by their headers."""
        paths = (path for files in self.listing.files.values() for path, _ in files)
        return decode.unusual(paths, bands.asked(self.channels))

    @cached_property
    def span(self) -> Span | None:
        """Which values are black and white, if there are images of more than 8 bits; by default, their own range."""
        if not self.unusual.deep:
            return None
        if self.asked_range is not None:
            low, high = self.asked_range
            return float(low), float(high)
        return decode.span_of(self.unusual.deep, bands.asked(self.channels))

    def pixel_range(self) -> Span | None:
        return self.span

    def validation(self) -> int:
        return len(self.listing.files.get("val", ()))

    def notes(self) -> list[str]:
        return [*self.looked[1], *self._of_frames(), *self._of_depth()]

    def _of_frames(self) -> list[str]:
        moving = self.unusual.moving
        return [f"of {len(moving)} files with several frames ({_first(moving)}) the first is read"] if moving else []

    def _of_depth(self) -> list[str]:
        """Return what is to be said of images of more than 8 bits, and of others beside them."""
        if self.span is None:
            return [PLAIN.format([*self.asked_range])] if self.asked_range is not None else []
        low, high = self.span
        why = "their own range; data.pixel_range=[low,high] sets another" if self.asked_range is None else "as asked"
        made = [f"of images with more than 8 bits, {low:g} is black and {high:g} is white ({why})"]
        count, deep = sum(map(len, self.listing.files.values())), len(self.unusual.deep)
        if deep < count:
            made.append(
                f"warning: {deep} of {count} images have more than 8 bits ({_first(self.unusual.deep)}), the others "
                "are read as they are: a network may tell them by that; look at both (python -m sweep.inspect)"
            )
        return made

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


def _first(paths: Sequence[Path]) -> str:
    return f"such as {paths[0].name}" if len(paths) > 1 else paths[0].name
