"""Data sets whose images lie encoded in files, however these are listed; all are decoded alike."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, Protocol

from sweep.data import decode
from sweep.data.types import Allocate, Dataset, Labels, Unreadable, joined


class Listing(Protocol):
    """What there is: the classes, {split: its files}, and a digest that changes with them."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def files(self) -> dict[str, list[Any]]: ...
    @property
    def fingerprint(self) -> str: ...


class EncodedImages(Dataset):
    """Images in files of which a listing is made before any is decoded."""

    @property
    @abstractmethod
    def listing(self) -> Listing:
        """What there is, looked up once; raises UserError if it is no data set."""

    @abstractmethod
    def labels(self, split: str) -> Labels:
        """Return the label of each of a split's images, (N,)."""

    @abstractmethod
    def encoded(self, split: str) -> Iterable[decode.Encoded]:
        """Return a split's images as they lie in the files, in the order of labels()."""

    def classes(self) -> tuple[str, ...]:
        return self.listing.classes

    def fingerprint(self) -> str:
        return self.listing.fingerprint

    def splits(self) -> tuple[str, ...]:
        return tuple(joined(self.listing.files))

    def read(self, size: int, allocate: Allocate) -> Unreadable:
        bad: Unreadable = {}
        for split in self.splits():
            of_split = self.labels(split)
            images, labels = allocate(split, len(of_split))
            labels[:] = of_split
            bad[split] = decode.fill(images, self.encoded(split), self.pixel_range(), self.channels)
        return bad
