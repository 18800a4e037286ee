"""What makes the results of a task doubtful: images that are in it twice, classes that are unequal or hardly there."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sweep.config import Duplicates
from sweep.data.types import Copies, Fold, Keys, Labels, Task
from sweep.errors import UserError

UNEQUAL = 5  # times as many images of one class as of another
LOOKED_AT = 200  # images, evenly spread
BLACK, MANY_DARK = 24, 0.1  # of 255, the brightest value of what is nearly black; the share that is many
FEW = 5  # images of a class: with fewer, each is 20 points or more of its accuracy

Name = Callable[[str, int], str]  # ("fit" or "test", place in Task.fit or Task.test) -> by which name the user finds it


def without_copies(task: Task, fit: Keys, test: Keys, asked: Duplicates, name: Name) -> Task:
    """Return the task with what is to be said of images of equal pixels, and, if asked to drop, without the copies.

    fit, test: the keys of the task's images.
    raises: UserError if there are copies in two splits or classes and the task asks for an error.
    """
    mixed = _in_several_classes(np.r_[fit, test], np.r_[task.fit.labels, task.test.labels])
    copies = Copies(fit, np.isin(fit, test) | np.isin(fit, mixed))
    first = task.turns.fold(0)
    parts = [
        _across(fit, test, name),
        _across_fold(first, fit, name),
        _mixed(mixed, fit, test, name),
    ]
    told = "; ".join(part for part in parts if part)
    if not told:
        return task
    if asked is Duplicates.error:
        raise UserError(f"data.duplicates=error: {told}; remove them, or use data.duplicates=drop or warn")
    if asked is Duplicates.warn:
        line = f"warning: {told}; data.duplicates=drop leaves such copies out of training"
        return replace(task, notes=(*task.notes, line))
    left = len(first.train) - len(copies.left_out(first).train)
    line = f"data.duplicates=drop: {left} of {len(first.train)} training images are left out ({told})"
    return replace(task, notes=(*task.notes, line), copies=copies)


def _in_several_classes(keys: Keys, labels: Labels) -> Keys:
    """Return the keys that come with more than one label."""
    order = np.lexsort((labels, keys))
    keys, labels = keys[order], labels[order]
    return np.unique(keys[1:][(keys[1:] == keys[:-1]) & (labels[1:] != labels[:-1])])


def _across(fit: Keys, test: Keys, name: Name) -> str:
    """Return what is to be said of test images that are among the others, too."""
    count, ours, theirs = _shared(test, fit)
    if not count:
        return ""
    example = f"{name('test', ours)} is {name('fit', theirs)}"
    return f"{count} of {len(test)} test images have an equal one outside the test ({example})"


def _across_fold(fold: Fold, fit: Keys, name: Name) -> str:
    """Return what is to be said of validation images that are among those trained on."""
    count, ours, theirs = _shared(fit[fold.val], fit[fold.train])
    if not count:
        return ""
    example = f"{name('fit', int(fold.val[ours]))} is {name('fit', int(fold.train[theirs]))}"
    return f"{count} of {len(fold.val)} validation images have an equal one in training ({example})"


def _shared(ours: Keys, theirs: Keys) -> tuple[int, int, int]:
    """Return how many of our keys are theirs, too, and the first places of the first such; zeros if there is none."""
    found = np.flatnonzero(np.isin(ours, theirs))
    if not len(found):
        return 0, 0, 0
    return len(found), int(found[0]), int(np.flatnonzero(theirs == ours[found[0]])[0])


def _mixed(mixed: Keys, fit: Keys, test: Keys, name: Name) -> str:
    """Return what is to be said of images that are in more than one class."""
    if not len(mixed):
        return ""
    places = [
        *(name("fit", int(row)) for row in np.flatnonzero(fit == mixed[0])[:3]),
        *(name("test", int(row)) for row in np.flatnonzero(test == mixed[0])[:3]),
    ]
    count = f"{len(mixed)} images are" if len(mixed) > 1 else "1 image is"
    return f"{count} in two classes or more ({', '.join(places[:3])})"


def dark(task: Task, name: Name) -> list[str]:
    """Return a sentence if many images are nearly black, as those are whose few bits lie low in files of more."""
    some = np.unique(np.linspace(0, len(task.fit.rows) - 1, LOOKED_AT).astype(np.int64))
    brightest = np.array([task.fit.pool[row].max() for row in task.fit.rows[some]])
    black = np.flatnonzero(brightest < BLACK)
    if len(black) < MANY_DARK * len(some):
        return []
    return [
        f"warning: {len(black)} of {len(some)} images that were looked at are nearly black, such as "
        f"{name('fit', int(some[black[0]]))}: if their files have 12 bits in 16, or 0 and 1 alone, scale them before"
    ]


def require_classes(labels: Labels, classes: tuple[str, ...], split: str, why: str) -> None:
    """Raise UserError if one of the classes has no image in this split; why: the setting that left them out."""
    absent = [name for name, count in zip(classes, _counts(labels, len(classes)), strict=True) if not count]
    if absent:
        shown = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
        raise UserError(f"{why}: no {split} image of class {shown} is left; add some, or leave the class out")


def judged(task: Task, balanced: bool | None) -> Task:
    """Return the task with how it is judged, and with what is to be said of unequal classes and of those hardly there.

    balanced: whether accuracies are means over classes; None where the classes are unequal.
    """
    fold, unequal = task.turns.fold(0), _unequal(task)
    held = {"test": task.test.labels, "validation": task.fit.labels[fold.val]}
    balanced = bool(unequal) if balanced is None else balanced
    if unequal and balanced:
        unequal += ", so every accuracy is the mean over classes (data.balanced_accuracy=false: over images)"
    elif unequal:
        unequal += ", so look at balanced accuracy (data.balanced_accuracy=true)"
    made = [unequal, _few({name: _counts(labels, len(task.classes)) for name, labels in held.items()}, task)]
    return replace(task, notes=(*task.notes, *(sentence for sentence in made if sentence)), balanced=balanced)


def _counts(labels: Labels, n_classes: int) -> npt.NDArray[Any]:
    return np.bincount(labels, minlength=n_classes)


def _unequal(task: Task) -> str:
    """Return which classes are unequal and what a constant scores, to be gone on; empty if they are not."""
    test, fit = (_counts(split.labels, len(task.classes)) for split in (task.test, task.fit))
    counts, where = (test, "in ") if test.max() * fit.min() > fit.max() * test.min() else (fit, "outside ")
    most, fewest = counts.argmax(), counts.argmin()
    if counts[most] < UNEQUAL * counts[fewest]:
        return ""
    return (
        f"warning: unequal classes: {counts[fewest]} images of {task.classes[fewest]} against {counts[most]} of "
        f"{task.classes[most]} {where}the test; always saying {task.classes[fit.argmax()]} is right in "
        f"{100 * majority(task):.1f} % of the test images"
    )


def majority(task: Task) -> float:
    """Return the share of the test images that the most frequent class of the training images is."""
    common = _counts(task.fit.labels, len(task.classes)).argmax()
    return float(np.mean(task.test.labels == common))


def _few(held: dict[str, npt.NDArray[Any]], task: Task) -> str:
    """Return which classes have too few images in what is held out, and how many."""
    told = []
    for split, counts in held.items():
        few = np.flatnonzero(counts < FEW) if counts.any() else np.array([], int)
        if not len(few):
            continue
        if len(few) > 3:
            told.append(f"{counts[few].min()} to {counts[few].max()} {split} images of {len(few)} classes")
        else:
            told.append(f"{split} " + ", ".join(f"{counts[each]} of {task.classes[each]}" for each in few))
    return f"warning: too few images to judge a class by: {'; '.join(told)}" if told else ""
