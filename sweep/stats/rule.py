"""The rule of thumb: which depth it picks, which depth a curve keeps, and how the tasks of a case are counted.

The rule: keep more layers when the new task is similar to the source; most if it also has fewer classes, fewer if it
has more, fewest if it is not similar.
"""

import statistics
from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from sweep.stats.types import MARGIN, Floats, Ints, TaskEvidence


def kept_depth(depths: Ints, accuracy: Floats, margin: float = MARGIN) -> int:
    """Return the deepest depth that loses at most `margin` against the best one.

    depths: (D,) ascending.
    accuracy: (D,) mean over seeds.

    The plain argmax would be unstable on flat curves; keeping more is preferred where nothing is lost, because it is
    cheaper.

    >>> kept_depth(np.array([0, 2, 4]), np.array([0.80, 0.85, 0.845]))
    4
    """
    return int(kept_depths(depths, accuracy[:, None], margin)[0])


def kept_depths(depths: Ints, curves: Floats, margin: float = MARGIN) -> Ints:
    """Return the kept depth (B,) of every column of curves (D, B)."""
    near = curves >= curves.max(axis=0) - margin - 1e-12  # equality counts, in spite of rounding
    return np.asarray(depths[len(depths) - 1 - near[::-1].argmax(axis=0)], np.int64)


def rule_depth(case: str, depths: Ints) -> int:
    """Return the depth that the rule picks of those tried: the deepest, the middle or the shallowest, by the case.

    The middle of an even number of depths is the shallower of the two.

    >>> rule_depth("similar_more", np.array([0, 2, 4, 5]))
    2
    """
    index = {"similar_fewer": len(depths) - 1, "similar_more": (len(depths) - 1) // 2, "dissimilar": 0}[case]
    return int(depths[index])


def by_unit(
    tasks: Mapping[str, TaskEvidence], values: Mapping[str, float] | Mapping[str, Fraction], case: str
) -> Floats:
    """Return a case's values, one per unit of inference.

    A unit is a task, or all tasks of the case in one matched group: they share images, so that their mean counts once.
    Means are rounded once, at the end: those of fractions that are equal are equal, and so tie in a test.
    """
    units: dict[tuple[str, str], list[Fraction]] = {}
    for task, each in tasks.items():
        if each.case == case:
            unit = ("task", task) if each.matched_group is None else ("matched group", each.matched_group)
            units.setdefault(unit, []).append(Fraction(values[task]))
    return np.array([float(statistics.mean(members)) for members in units.values()])
