"""Where differences between depths come from: the source network, the seed, the test images, the task."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sweep.stats.tests import two_way
from sweep.stats.types import TaskEvidence


class Components(NamedTuple):
    """Standard deviations, in accuracy points, of what a depth gains over the shallowest; NaN where not known.

    source: over source networks.
    seed: over seeds of one source, with how they err on different images.
    images: of a mean over as many test images as there are.
    task: over tasks, of what they gain; of two tasks or more.
    """

    source: float
    seed: float
    images: float
    task: float


def components(tasks: Mapping[str, Sequence[TaskEvidence]], index: int) -> Components:
    """Return the components of the gain of the depth at this index, means over the tasks.

    tasks: by name, one entry per source network, of the same depths and seeds: two sources and two seeds or more.

    Analysis of variance with seeds nested in sources and images crossed with both (Searle, Casella and McCulloch 1992);
    an estimate below 0 is 0.
    """
    of_source, of_seed, of_images, means, errors = [], [], [], [], []
    for sources in tasks.values():
        gain = np.array([each.accuracy[index] - each.accuracy[0] for each in sources])  # (R, S)
        within = float(gain.var(axis=1, ddof=1).mean())
        between = float(gain.mean(axis=1).var(ddof=1))
        of_source.append(between - within / gain.shape[1])
        of_seed.append(within)
        of_images.append(_of_images(sources, index))
        means.append(float(gain.mean()))
        errors.append(between / len(sources))
    of_task = float(np.var(means, ddof=1) - np.mean(errors)) if len(means) > 1 else math.nan
    variances = (np.mean(of_source), np.mean(of_seed), np.mean(of_images), of_task)
    return Components(*(100 * math.sqrt(max(0.0, each)) if np.isfinite(each) else math.nan for each in variances))


def _of_images(sources: Sequence[TaskEvidence], index: int) -> float:
    """Return the variance that the choice of test images gives the mean gain, less what networks add to it."""
    known = [each.correct for each in sources if each.correct is not None]
    if len(known) < len(sources):
        return math.nan
    gain = np.concatenate([each[index].astype(float) - each[0] for each in known])  # (R S, I)
    _, own, together = two_way(gain)
    return own - together
