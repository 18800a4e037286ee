"""Which depth to train next, and which to keep: a Gaussian belief about the curve over depth, sharpened run by run.

Before any run, neighbouring depths are believed to be alike: the curve is Brownian motion over the share of blocks that
are frozen. A run is one network, trained on one fold and judged on the fold's validation images; runs of one fold see
the same images, so that their difference is known better than either. The next run is the one whose outcome is expected
to raise the accuracy of the depth that would then be kept the most, for its time (the knowledge gradient of Frazier,
Powell and Dayanik 2009).
"""

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from sweep.stats.types import Floats

# The belief before any run, in accuracy: stated, not learned from the task.
WHOLE = 0.08  # SD of what freezing everything changes
LUCK = 0.015  # SD of a network's own luck
ALIKE = 0.6  # correlation of two depths' answers on an image, where it is not known
KEEP = 0.005  # a deeper freeze may cost that much expected accuracy
LEAST = 0.0002  # expected accuracy for which no further run is worth its time
DRAWS = 4000


class Run(NamedTuple):
    """The best network of a depth on a fold: which of the fold's validation images it gets right (N,).

    seconds: what one network took, of those that were trained to find the best.
    """

    depth: int
    fold: int
    correct: npt.NDArray[np.bool_]
    seconds: float


@dataclass(frozen=True)
class Belief:
    """What the accuracies of the depths may be: normal. mean: (D,). covariance: (D, D)."""

    mean: Floats
    covariance: Floats

    def keep(self, among: Collection[int]) -> int:
        """Return the deepest of these depths that is expected to lose at most KEEP against the best of them."""
        best = max(self.mean[depth] for depth in among)
        return max(depth for depth in among if self.mean[depth] >= best - KEEP)

    @functools.cached_property
    def _lost(self) -> Floats:
        values, vectors = np.linalg.eigh(self.covariance)
        normal = np.random.default_rng(0).standard_normal((len(self.mean), DRAWS))
        drawn = self.mean[:, None] + (vectors * np.sqrt(values.clip(min=0))) @ normal
        lost: Floats = drawn.max(axis=0) - drawn
        return lost

    def expected_loss(self) -> Floats:
        """Return (D,): expected accuracy below the best depth, whichever that is."""
        loss: Floats = self._lost.mean(axis=1)
        return loss

    def good(self, margin: float) -> Floats:
        """Return (D,): the probability of each depth to lose at most the margin."""
        likely: Floats = (self._lost <= margin).mean(axis=1)
        return likely


def believe(n_depths: int, runs: Sequence[Run]) -> Belief:
    """Return the belief about the depths 0 to n_depths - 1 after these runs."""
    precision = _prior(n_depths)
    weighted = np.zeros(n_depths)
    for fold in _folds(runs).values():
        rows = list(fold)
        noise = np.linalg.inv(_noise([fold[depth] for depth in rows]))
        precision[np.ix_(rows, rows)] += noise
        weighted[rows] += noise @ [fold[depth].correct.mean() for depth in rows]
    covariance = np.asarray(np.linalg.inv(precision), float)
    return Belief(covariance @ weighted, covariance)


def _prior(n_depths: int) -> Floats:
    """Return the precision (D, D) of Brownian motion over depth whose level is all but unknown."""
    steps = np.diff(np.eye(n_depths), axis=0) / (WHOLE / np.sqrt(n_depths - 1))
    precision: Floats = steps.T @ steps + np.eye(n_depths) * 1e-4
    return precision


def _folds(runs: Sequence[Run]) -> dict[int, dict[int, Run]]:
    """Return the runs by fold and depth; of a depth that was trained twice in a fold, the last."""
    folds: dict[int, dict[int, Run]] = {}
    for run in runs:
        folds.setdefault(run.fold, {})[run.depth] = run
    return folds


def _noise(runs: Sequence[Run]) -> Floats:
    """Return the covariance (R, R) of the accuracies of one fold's runs, around those of their depths."""
    correct = np.array([run.correct for run in runs], float)
    n = correct.shape[1]
    share = (correct.sum(axis=1) + 1) / (n + 2)  # never quite 0 or 1, so that images always vary
    spread = np.sqrt(share * (1 - share))
    alike = np.full((len(runs), len(runs)), ALIKE)
    if n > 1 and (correct.std(axis=1) > 0).all():
        alike = np.corrcoef(correct).reshape(alike.shape)
    np.fill_diagonal(alike, 1)
    noise: Floats = alike * np.outer(spread, spread) / n + np.eye(len(runs)) * LUCK**2
    return noise


def worth(belief: Belief, depth: int, fold: Mapping[int, Run], images: int) -> float:
    """Return what one more run of a depth is expected to gain: accuracy of the depth that would be believed best after.

    fold: the runs that it would share its validation images with, by depth; images: how many these are.
    """
    rows = [*fold, depth]
    share = float(np.clip(belief.mean[depth], 0.05, 0.95))
    spread = np.sqrt(
        [*(run.correct.mean() * (1 - run.correct.mean()) + 1e-3 for run in fold.values()), share * (1 - share)]
    )
    alike = np.full((len(rows), len(rows)), ALIKE)
    np.fill_diagonal(alike, 1)
    noise = alike * np.outer(spread, spread) / images + np.eye(len(rows)) * LUCK**2
    after = np.linalg.inv(belief.covariance)
    after[np.ix_(rows, rows)] += np.linalg.inv(noise)
    if fold:  # what the fold's runs say already
        after[np.ix_(rows[:-1], rows[:-1])] -= np.linalg.inv(noise[:-1, :-1])
    moved = belief.covariance - np.linalg.inv(after)
    values, vectors = np.linalg.eigh(moved)
    step = vectors[:, -1] * np.sqrt(max(0.0, values[-1]))  # one number is learned, so one direction moves
    outcomes = stats.norm.ppf((np.arange(99) + 0.5) / 99)
    best = (belief.mean[:, None] + step[:, None] * outcomes).max(axis=0).mean()
    return float(best - belief.mean.max())


def next_run(
    n_depths: int, runs: Sequence[Run], seconds: Mapping[int, float], folds: Sequence[int]
) -> tuple[int, int] | None:
    """Return (depth, fold) of the run that is worth most for its time; None where none is worth it.

    runs: one at least.
    seconds: what a run takes, of every depth that may be trained.
    folds: their numbers, in the order in which a depth is trained on them.
    """
    belief, made = believe(n_depths, runs), _folds(runs)
    images = len(runs[0].correct)
    rates = {}
    for depth, price in seconds.items():
        fold = next((number for number in folds if depth not in made.get(number, {})), None)
        gain = 0.0 if fold is None else worth(belief, depth, made.get(fold, {}), images)
        if fold is not None and gain >= LEAST:
            rates[depth, fold] = gain / price
    return max(rates, key=rates.__getitem__) if rates else None


def prices(n_depths: int, runs: Sequence[Run]) -> list[float]:
    """Return the seconds that a network of each depth takes: as measured, else as the nearest deeper one suggests.

    A depth that was not trained is taken to cost, more than that one, in proportion to the blocks that it trains.
    """
    known = {depth: [run.seconds for run in runs if run.depth == depth] for depth in range(n_depths)}
    found = [float(np.mean(each)) if each else float("nan") for each in known.values()]
    for depth in reversed(range(n_depths)):
        if np.isnan(found[depth]):
            deeper = next((other for other in range(depth + 1, n_depths) if not np.isnan(found[other])), None)
            if deeper is None:
                found[depth] = 1.0
                continue
            found[depth] = found[deeper] * (n_depths - depth) / (n_depths - deeper)
    return found
