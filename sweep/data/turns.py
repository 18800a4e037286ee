"""Who is held out when: shares of every class, in turns, and images of one group (a patient, a scene) never parted."""

import numpy as np
import numpy.typing as npt

from sweep.data.types import Labels, Turns
from sweep.errors import UserError

TRIES = 20  # orders of the groups, of which the one with the most even shares is taken
FOLDS = 10  # of an order, at most, that are looked at


def draw(labels: Labels, fraction: float, rng: np.random.Generator, classes: tuple[str, ...]) -> Turns:
    """Return how images with these labels take turns: of every class this fraction is held out, at least one (0: none).

    raises: UserError for a class that is too small to be shared.
    """
    for label, name in enumerate(classes):
        count = int((labels == label).sum())
        if fraction and max(1, round(fraction * count)) >= count:
            raise UserError(
                f"class {name} has {count} image(s) to share between training and the held-out "
                f"{fraction:g}; add images, or remove the class"
            )
    return _circles(labels, len(classes), fraction, rng.permutation(len(labels)))


def draw_groups(
    labels: Labels, groups: Labels, fraction: float, rng: np.random.Generator, classes: tuple[str, ...]
) -> Turns:
    """Return turns as draw() does, in which all images of a group are held out together; groups: (N,) numbers.

    Of several orders the one is taken in which most classes are trained and held out in every fold, and their shares
    are nearest to the fraction.
    raises: UserError for a class that lies in too few groups to be on both sides of the first fold.
    """
    _, first, of = np.unique(groups, return_index=True, return_inverse=True)
    if len(first) == len(labels) or not fraction:
        return draw(labels, fraction, rng, classes)
    counts = np.zeros((len(first), len(classes)), np.int64)  # images of each group, by class
    np.add.at(counts, (of, labels), 1)
    spread = (counts > 0).sum(0)  # groups of each class
    rarest = np.where(counts > 0, spread, len(labels) + 1).argmin(1)  # of the classes in a group
    best, least = None, (np.inf, np.inf)
    for _ in range(TRIES):
        order = rng.permutation(len(first))
        for kinds in (rarest, np.zeros_like(rarest)):  # each class in a circle of its own, or all groups in one
            turns = _circles(kinds, len(classes), fraction, order)
            if (score := _score(turns, counts, fraction)) < least:
                best, least = turns, score
    assert best is not None
    held = best.fold(0).val
    absent = (counts[held].sum(0) == 0) | (counts[held].sum(0) == counts.sum(0))
    if absent.any():
        worst = int(np.where(absent, spread, len(labels) + 1).argmin())
        raise UserError(
            f"class {classes[worst]} lies in {spread[worst]} group(s), too few to share between training and the "
            f"held-out {fraction:g} without parting one; add images of other groups, or leave the groups out "
            "(data.group_column=none)"
        )
    return Turns(*(each[of] for each in best))


def _circles(kinds: Labels, count: int, fraction: float, order: npt.NDArray[np.int64]) -> Turns:
    """Return turns in which each kind goes round in its own circle, in this order; the only one of a kind stays."""
    place, members, held = np.zeros((3, len(kinds)), np.int64)
    for kind in range(count):
        own = order[kinds[order] == kind]
        place[own], members[own] = np.arange(len(own)), len(own)
        held[own] = min(max(1, round(fraction * len(own))), len(own) - 1) if fraction and len(own) else 0
    return Turns(place, members, held)


def _score(turns: Turns, counts: Labels, fraction: float) -> tuple[float, float]:
    """Return how many classes are missing on a side, over all folds, and how far shares are from the fraction."""
    missing, off, whole = 0, 0.0, counts.sum(0)
    for number in range(min(FOLDS, round(1 / fraction) or 1)):
        held = counts[turns.fold(number).val].sum(0)
        # The first fold counts most: it is the only one unless folds rotate.
        missing += int(((held == 0) | (held == whole)).sum()) * (1 if number else 1000)
        off += float(np.abs(held / np.maximum(whole, 1) - fraction).mean() + abs(held.sum() / whole.sum() - fraction))
    return missing, off
