"""Which depths of one task are good, and how sure that is: seeds and test images are crossed, and both vary.

What the true curve may be, given the sweep: the mean curve plus what seeds and images could have moved it by.

- Seeds: multivariate t. Each depth's spread over seeds is its own, drawn towards what the depths share once every seed
  has its mean taken out (a normal model with a conjugate inverse-Wishart prior). This prior counts as PRIOR degrees of
  freedom, and at most a quarter of those that the other contrasts have: three seeds say little about a spread, and of
  two depths alone nothing else is known.
- Images, and how networks of different seeds err on different ones: normal, with their covariance; images are many.

A depth is good if it loses at most the margin against the best one.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sweep.stats import tests
from sweep.stats.rule import kept_depths
from sweep.stats.types import MARGIN, Choice, Floats, Interval, TaskEvidence

DRAWS = 4000
PRIOR = 2.0  # degrees of freedom
# A depth is left out if it is good with a smaller probability. So a good one is named in 95 % of sweeps or more, also
# where curves are flat and noisy, and the best of many draws is better than any depth (tests/calibration.py).
UNLIKELY = 0.01
LEAST_GAIN = 0.1  # accuracy over chance, ten points


class Spread(NamedTuple):
    """How a mean curve may be off: covariances (D, D) of seeds alone, and of all that is in images.

    freedom: degrees of freedom of the seeds'.
    """

    seeds: Floats
    images: Floats
    freedom: float


def choose(task: TaskEvidence, margin: float = MARGIN) -> Choice | None:
    """Return which depths are good, with probabilities; None for one depth, and for one seed: its luck is not known."""
    if min(task.accuracy.shape) < 2:
        return None
    mean = task.curve
    drawn = (mean[:, None] + _drawn(spread(task))).clip(0, 1)  # (D, DRAWS)
    lost = drawn.max(axis=0) - drawn
    likely = np.mean(lost <= margin + 1e-12, axis=1)
    good = likely >= UNLIKELY
    good |= mean >= mean.max() - margin - 1e-12  # what is within the margin as it stands is not left out
    kept = kept_depths(task.depths, drawn, margin)
    chance = 1 / task.n_classes if task.n_classes else 0.0
    gained = float(mean.max()) - chance
    return Choice(
        depths=task.depths.tolist(),
        good=task.depths[good].tolist(),
        likely=likely.tolist(),
        deepest_good=[float(np.mean(kept == depth)) for depth in task.depths],
        expected_loss=(100 * lost.mean(axis=1)).tolist(),
        gain=[_interval(100 * each) for each in drawn - drawn[0]],
        cost=None if task.seconds is None else (task.seconds / task.seconds.max()).tolist(),
        margin_share=margin / gained if gained > 0 else None,
        over="seeds" if task.correct is None else "seeds and test images",
    )


def has_signal(task: TaskEvidence) -> bool:
    """Return whether a task can say anything of depths; what is not known counts as signal.

    It has none if its best depth may gain less than LEAST_GAIN over chance (lower 95 % limit), and its depths' means
    differ by no more than two standard errors of that difference. Fixed before the study ran (docs/rule/plan.md).
    """
    if min(task.accuracy.shape) < 2 or not task.n_classes:
        return True
    curve = task.curve
    best, worst = int(curve.argmax()), int(curve.argmin())
    outcomes = task.outcomes
    low = tests.mean_interval(outcomes[best])[2]
    parts = tests.parts_of_mean(outcomes[best] - outcomes[worst])
    error = math.sqrt(sum(part.variance for part in parts))
    return low - 1 / task.n_classes >= LEAST_GAIN or float(curve[best] - curve[worst]) > 2 * error


def spread(task: TaskEvidence) -> Spread:
    """Return how the mean curve of a task with two depths and two seeds or more may be off."""
    seeds, freedom = _of_seeds(task.accuracy)
    if task.correct is None or task.correct.shape[2] < 2:
        return Spread(seeds, np.zeros_like(seeds), freedom)
    images, together = _of_images(task.correct)
    return Spread(_positive(seeds - together), _positive(images - together) + together, freedom)


def _of_images(correct: Floats | npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return the covariance of the mean curve over images, and what of it seeds and images have together, both (D, D).

    The second is how a network errs on an image that others get right; it is in the seeds' covariance as well.
    correct: (D, S, I).
    """
    _, n_seeds, n_images = correct.shape
    of_images, of_seeds = correct.mean(axis=1), correct.mean(axis=2)  # (D, I), (D, S)
    rest = correct - of_images[:, None] - of_seeds[:, :, None] + of_seeds.mean(axis=1)[:, None, None]
    together = np.einsum("dsi,esi->de", rest, rest) / ((n_seeds - 1) * (n_images - 1))
    return np.cov(of_images) / n_images, together / (n_seeds * n_images)


def _positive(matrix: Floats) -> Floats:
    """Return the nearest covariance: a difference of estimates may have negative directions."""
    values, vectors = np.linalg.eigh(matrix)
    nearest: Floats = (vectors * values.clip(min=0)) @ vectors.T
    return nearest


def _of_seeds(accuracy: Floats) -> tuple[Floats, float]:
    """Return the covariance of the mean curve over seeds and its degrees of freedom; accuracy: (D, S)."""
    n_depths, n_seeds = accuracy.shape
    own = accuracy - accuracy.mean(axis=1, keepdims=True)
    beside = own - own.mean(axis=0)  # what depths share, they share in every contrast of two
    shared = float((beside**2).sum()) / ((n_seeds - 1) * (n_depths - 1))
    prior = min(PRIOR, (n_seeds - 1) * (n_depths - 2) / 4)
    freedom = prior + n_seeds - 1
    covariance = (prior * shared * np.eye(n_depths) + own @ own.T) / freedom
    return covariance / n_seeds, freedom


def _drawn(found: Spread) -> Floats:
    """Return (D, DRAWS): what could be added to the mean curve."""
    seeds, images, mixed = _random(len(found.seeds), found.freedom)
    return _root(found.seeds) @ seeds * mixed + _root(found.images) @ images


@functools.lru_cache(maxsize=32)
def _random(n: int, freedom: float) -> tuple[Floats, Floats, Floats]:
    """Return standard normal (n, DRAWS) twice, and what makes them Student's t (DRAWS,); the same in every call."""
    rng = np.random.default_rng([0, n])
    normal, other = rng.standard_normal((2, n, DRAWS))
    return normal, other, np.sqrt(freedom / rng.chisquare(freedom, DRAWS))


def _root(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh(covariance)
    root: Floats = vectors * np.sqrt(values.clip(min=0))
    return root


def _interval(values: Floats) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
