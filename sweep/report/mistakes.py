"""What the chosen models take the test images for: left beside a seed's records, read for the page alone. No torch.

outputs/<name>/jobs/<job>/tested-<s>.json     classes, labels, predictions, and the images that were most wrong
"""

import base64
import binascii
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sweep import paths
from sweep.report import record
from sweep.report.answer import Row
from sweep.report.content import Content, Variant
from sweep.report.record import packed_numbers, unpacked_numbers
from sweep.stats.types import Ints

WORST = 8  # images that are kept of a seed, and shown of a task
MATRIX = 20  # classes of which a matrix can still be read
PAIRS = 12  # most frequent confusions that are listed


@dataclass(frozen=True)
class Tested:
    """One seed's chosen model on the test images: classes, and of every image its label and the prediction, (I,).

    worst: the images that are wrong and have the largest loss, that first: their places, and a small JPEG as base64.
    """

    classes: tuple[str, ...]
    labels: Ints
    predicted: Ints
    worst: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Thumbnail:
    """An image that the model mistakes: a JPEG as base64; by how many of the seeds it is mistaken."""

    jpeg: str
    label: str
    taken_for: str
    wrong: int
    seeds: int


@dataclass(frozen=True)
class Mistakes:
    """A task's chosen depth, over seeds. counts: (C, C), rows true, columns predicted."""

    variant: str
    task: str
    chosen: str  # in words
    classes: tuple[str, ...]
    counts: Ints
    thumbnails: tuple[Thumbnail, ...]

    @property
    def matrix(self) -> bool:
        """Return whether there are few enough classes for a matrix."""
        return len(self.classes) <= MATRIX

    @property
    def shares(self) -> list[list[float]]:
        """Return the counts as shares of their row."""
        totals = np.maximum(1, self.counts.sum(axis=1, keepdims=True))
        return [[float(share) for share in row] for row in self.counts / totals]

    def pairs(self) -> list[Row]:
        """Return the most frequent confusions, a row each."""
        wrong = self.counts * (1 - np.eye(len(self.classes), dtype=int))
        order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
        places = [divmod(int(place), len(self.classes)) for place in order]
        totals = self.counts.sum(axis=1)
        return [
            {
                "task": self.task,
                "true class": self.classes[true],
                "taken for": self.classes[taken],
                "predictions": str(wrong[true, taken]),
                "of its class, %": f"{100 * wrong[true, taken] / totals[true]:.1f}",
            }
            for true, taken in places
            if wrong[true, taken]
        ]


def write(folder: Path, seed: int, tested: Tested) -> None:
    """Leave this beside the seed's records."""
    content = {
        "classes": [*tested.classes],
        "count": len(tested.labels),
        "labels": packed_numbers(tested.labels),
        "predicted": packed_numbers(tested.predicted),
        "worst": [[place, jpeg] for place, jpeg in tested.worst],
    }
    paths.write_json(folder / f"tested-{seed}.json", content)


def read(folder: Path, seed: int) -> Tested | None:
    """Return what write() left; None if there is nothing, as in older folders, or nothing that fits together."""
    content = paths.read_json(folder / f"tested-{seed}.json")
    if content is None:
        return None
    try:
        classes = tuple(str(name) for name in content["classes"])
        labels, predicted = (unpacked_numbers(content[key], int(content["count"])) for key in ("labels", "predicted"))
        worst = tuple((int(place), str(jpeg)) for place, jpeg in content["worst"])
        for place, jpeg in worst:
            base64.b64decode(jpeg, validate=True)
            labels[place]
        if labels.size == 0 or max(labels.max(), predicted.max()) >= len(classes):
            return None
    except (KeyError, TypeError, ValueError, IndexError, binascii.Error, zlib.error):
        return None
    return Tested(classes, labels, predicted, worst)


def gather(root: Path, said: Content) -> list[Mistakes]:
    """Return what is known of every task's depth to keep, else of the one with the best validation accuracy."""
    found = [
        _of_task(root, said, section.variant, str(task))
        for section in said.sections
        for task in section.variant.summary["task"].unique()
    ]
    return [each for each in found if each]


def _of_task(root: Path, said: Content, variant: Variant, task: str) -> Mistakes | None:
    cells = variant.summary[(variant.summary["task"] == task) & variant.summary["mean"].notna()]
    arm = cells[cells["pretrained"].astype(bool)] if cells["pretrained"].any() else cells
    if arm.empty:
        return None
    cell = arm.iloc[int(arm["val_mean"].fillna(0).to_numpy(float).argmax())]
    depth = variant.verdict.kept_depth.get(task, int(cell["freeze_depth"]))
    rows = said.rows[said.rows["selected"] & said.rows["job"].isin(variant.jobs) & said.rows["task"].eq(task)]
    rows = rows[rows["pretrained"].eq(bool(cell["pretrained"])) & rows["freeze_depth"].eq(depth)]
    tested = [
        each for job, seed in zip(rows["job"], rows["seed"], strict=True)
        if (each := read(record.job_folder(root, str(job)), int(seed)))
    ]  # fmt: skip
    if not tested or any(each.classes != tested[0].classes for each in tested):
        return None
    count = len(tested[0].classes)
    counts = np.zeros((count, count), int)
    for each in tested:
        np.add.at(counts, (each.labels, each.predicted), 1)
    weights = "pretrained" if cell["pretrained"] else "random weights"
    chosen = f"{weights}, {depth} frozen, {len(tested)} seed" + ("s" if len(tested) > 1 else "")
    return Mistakes(variant.label, task, chosen, tested[0].classes, counts, _thumbnails(tested))


def _thumbnails(tested: Sequence[Tested]) -> tuple[Thumbnail, ...]:
    """Return the images that most seeds mistake, of those that were kept; none where seeds have other test images."""
    first = tested[0]
    if any(not np.array_equal(each.labels, first.labels) for each in tested):
        return ()
    images: dict[int, str] = {}
    for each in tested:
        for place, jpeg in each.worst:
            images.setdefault(place, jpeg)
    shown = []
    for place, jpeg in images.items():
        guesses = [int(each.predicted[place]) for each in tested if each.predicted[place] != first.labels[place]]
        if guesses:
            usual = Counter(guesses).most_common(1)[0][0]
            label, guess = first.classes[first.labels[place]], first.classes[usual]
            shown.append(Thumbnail(jpeg, label, guess, len(guesses), len(tested)))
    return tuple(sorted(shown, key=lambda each: -each.wrong)[:WORST])
