"""What the data package hands out and what a data set must answer. Plain numpy; nothing here needs torch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from sweep.config import DataConfig

if TYPE_CHECKING:
    from sweep.data.decode import Encoded

Images = npt.NDArray[np.uint8]  # (N, C, S, S), where C is 3 unless data.channels says another
Labels = npt.NDArray[np.int64]  # (N,)
Keys = npt.NDArray[np.uint64]  # (N,) of images: equal where these are equal
Unreadable = dict[str, dict[int, str]]  # {split: {row: "name (why it cannot be read)"}}

T = TypeVar("T")

# allocate(split, count) -> (images (count, C, S, S) uint8, labels (count,) int64), to be filled
Allocate = Callable[[str, int], tuple[Images, Labels]]


def joined(splits: dict[str, list[T]]) -> dict[str, list[T]]:
    """Return what read() fills: the validation split's own items after the training split's, and the rest."""
    return {
        split: items + splits.get("val", []) if split == "train" else items
        for split, items in splits.items()
        if split != "val"
    }


@dataclass(frozen=True)
class Split:
    """Some rows of an array of images, which may be a memory map larger than the memory: take what is needed."""

    pool: Images  # (M, 3, S, S) uint8
    rows: Labels  # which images of the pool
    labels: Labels  # of these rows

    @property
    def images(self) -> Images:
        """Return a copy of the images (N, 3, S, S)."""
        return self.pool[self.rows]

    def take(self, index: Labels) -> "Split":
        """Return the part of this split at these positions, in their order."""
        return Split(self.pool, self.rows[index], self.labels[index])


def class_weights(labels: Labels) -> npt.NDArray[np.float64]:
    """Return (N,), of mean 1: what each of these images counts where every class among them counts alike.

    >>> class_weights(np.array([0, 0, 0, 2]))
    array([0.66666667, 0.66666667, 0.66666667, 2.        ])
    """
    counts = np.bincount(labels)
    weights: npt.NDArray[np.float64] = len(labels) / np.count_nonzero(counts) / counts[labels]
    return weights


class Fold(NamedTuple):
    """Places in Task.fit, sorted: which images are trained on, and which are for choosing."""

    train: Labels
    val: Labels


class Turns(NamedTuple):
    """How images take turns in being held out.

    place: (N,) of each image among the `members` of its class, in an order drawn once.
    held: (N,) how many of its class are held out at a time.
    """

    place: Labels
    members: Labels
    held: Labels

    @classmethod
    def fixed(cls, val: npt.NDArray[np.bool_]) -> "Turns":
        """Return the turns of which every fold holds out the same images, those that are marked (N,)."""
        return cls(np.zeros(len(val), np.int64), np.ones(len(val), np.int64), val.astype(np.int64))

    def fold(self, number: int) -> Fold:
        """Return a fold: of every class the next images in the order after those of the fold before."""
        val = (self.place - number * self.held) % self.members < self.held
        return Fold(np.flatnonzero(~val), np.flatnonzero(val))


class Copies(NamedTuple):
    """What is not to be trained on, because it would be judged by itself.

    keys: (N,) of the images of Task.fit.
    barred: (N,) whether an image has a copy among the test images or in another class.
    """

    keys: Keys
    barred: npt.NDArray[np.bool_]

    def left_out(self, fold: Fold) -> Fold:
        """Return the fold without what is barred, and without training copies of its validation images."""
        out = self.barred[fold.train] | np.isin(self.keys[fold.train], self.keys[fold.val])
        return fold._replace(train=fold.train[~out])


@dataclass(frozen=True)
class Task:
    """A target data set. The test images are the same for every member; the others have as many folds as are asked for.

    fit: the images that are not for testing.
    copies: which of them are left out of training; None = none.
    notes: what the images make doubtful, a sentence each.
    unreadable: the images that were left out because they cannot be read, by name.
    balanced: whether accuracies are means over classes; else over images.
    names: "fit" or "test" -> by which names the user finds its images; None where they have none.
    """

    classes: tuple[str, ...]
    fit: Split
    test: Split
    turns: Turns
    copies: Copies | None = None
    notes: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    balanced: bool = False
    names: Callable[[str], list[str]] | None = None

    def fold(self, number: int) -> Fold:
        """Return which images are trained on, and which are for choosing, in the fold of this number."""
        fold = self.turns.fold(number)
        return fold if self.copies is None else self.copies.left_out(fold)

    @property
    def train(self) -> Split:
        """Return the training images of fold 0."""
        return self.fit.take(self.fold(0).train)

    @property
    def val(self) -> Split:
        """Return the validation images of fold 0."""
        return self.fit.take(self.fold(0).val)


class Dataset(ABC):
    """A set of labelled images, opened: it answers every question but read() before any image is read.

    It is made of the settings that say which data set it is and where its files lie (config.FILES); what a task
    makes of it (classes, splits, transform) is no concern of it. It may keep what it learned of its files, never an
    image.
    """

    takes: frozenset[str] = frozenset()  # of the settings in task.MEANT, those that mean something here

    def __init__(self, config: DataConfig) -> None:
        self.name = config.name
        self.root = config.root
        self.channels = config.channels

    def where(self) -> str:
        """Return the setting that names the files, as errors begin."""
        return f"data={self.name}" if self.root is None else f"data.root={self.root}"

    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes, in label order; raise UserError if the files cannot be a data set."""

    @abstractmethod
    def fingerprint(self) -> Any:
        """Return a JSON value that changes when the images do. It is the same wherever the files lie."""

    @abstractmethod
    def read(self, size: int, allocate: Allocate) -> Unreadable:
        """Decode the images of every split, (C, size, size) each, into arrays that are asked for with allocate().

        Return the images that cannot be read, whose pixels and labels are anything.
        raises: KeyboardInterrupt, within an image, if the process was asked to stop.
        """

    def encoded(self, split: str) -> Iterable["Encoded"]:
        """Return a split's images as they lie in files, in the order of read(); none where they lie in no such form."""
        return ()

    def image_names(self, split: str) -> Iterable[str]:
        """Return by which names the user finds a split's images, in the order of read(); none where they have none."""
        return ()

    def image_name(self, split: str, row: int) -> str:
        """Return by which name the user finds an image that read() puts into this row."""
        return next(islice(self.image_names(split), row, None), f"{split} image {row}")

    def splits(self) -> tuple[str, ...]:
        """Return the names of the splits that read() fills; "test" is only there if the data has one of its own."""
        return ("train", "test")

    def validation(self) -> int:
        """Return how many of the training images, the last ones, are the validation split that the data has itself."""
        return 0

    def groups(self) -> Labels | None:
        """Return the group of each image that read() fills the training split with, (N,); None if there are none.

        Images of one group, such as those of one patient, are trained on or held out together.
        """
        return None

    def pixel_range(self) -> tuple[float, float] | None:
        """Return which values are black and white in images of more than 8 bits; None if there are no such images."""
        return None

    def notes(self) -> list[str]:
        """Return sentences on what is not plain in the files, each for one line on the terminal."""
        return []

    def files(self) -> Any:
        """Return a JSON value that changes with the files that are there, where fingerprint() goes by the name alone.

        It decides whether decoded images are used again, not what a task is called.
        """
        return None

    def fetch(self) -> None:
        """Make sure that the files are on this machine; raise AbsentError if they cannot be had."""
        return

    def label(self) -> str | None:
        """Return the name in tables that the files give, such as their folder's; None if the data set's name is it."""
        return None

    def similar(self, source: str) -> bool | None:
        """Return whether this data set is similar to what the source was trained on; None if that is not known."""
        return None
