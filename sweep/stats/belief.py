"""Which network to train next, and which depth to keep: a Gaussian belief about accuracy, sharpened run by run.

A cell is a depth (how many blocks are frozen) with a learning rate. A run is one network of a cell, trained on one fold
and judged on the fold's validation images; that these are easy or hard is believed too, so that cells which were judged
on the same images are compared more closely. The next run is the one whose outcome is expected to raise the accuracy of
the cell that would then be believed best the most, for its time (the knowledge gradient of Frazier, Powell and Dayanik
2009).

How much rates change is believed too: on tasks far from the source the best is often a decade from where it usually
is, and 20 points above. What is believed before any run (the constants below) follows 15 pairs of target and source
of docs/rule that were drawn by lot for it: how accuracy changes with depth and around the best rate there, rounded so
that searches replayed from their curves expected about what they lost. Advice is judged on the other pairs
(docs/evidence.md).
"""

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from sweep.stats.types import Floats

# The belief before any run, in accuracy. The share of frozen blocks goes from 0 to 1.
WHOLE, SLOPE = 0.12, -0.07  # SD and mean of what freezing everything changes: Brownian motion over the share
LAST, DROP = 0.05, -0.08  # SD and mean of what freezing the last block changes besides
# Over the learning rate, in decades from the middle of the usual ones: a hill, for a head alone with its top elsewhere;
# a tilt, which all depths but the head share and which moves their tops by 0.6 of a decade, for example; a smooth rest.
CURVATURE, TOP, HEAD_TOP = 0.08, 0.1, 0.6  # per squared decade; decades
TILT = 0.09  # SD, per decade
REST, NEAR_SHARE, NEAR_RATE = 0.05, 0.3, 0.5  # SD; how far in the share and in decades it is alike
SCALES = (1.0, 1.5, 2.0, 3.0, 4.0)  # times the tilt and the rest may be, as the runs say; as likely as 1 / scale**2
LUCK = 0.025  # SD of a network's own luck, and of what else this is too smooth for
ALIKE = 0.6  # correlation of two networks' answers on an image, where it is not known
LEVEL = 1.0  # SD of the level of all: all but unknown
KEEP = 0.005  # a deeper freeze may cost that much expected accuracy
LEAST = 0.0002  # expected accuracy for which no further run is worth its time
DRAWS = 4000

Cell = tuple[int, int]  # depth, and the learning rate's place in the list


class Run(NamedTuple):
    """One network.

    correct: (N,), which of the fold's validation images it gets right, or what stands for that (record.outcomes()).
    """

    depth: int
    rate: int
    fold: int
    correct: Floats | npt.NDArray[np.bool_]
    seconds: float

    @property
    def cell(self) -> Cell:
        return self.depth, self.rate


@dataclass(frozen=True)
class Belief:
    """What the accuracies of cells and folds may be: normal, the cells first, by depth and then by rate.

    state: (D * R + F,) means; covariance: of the state; shape: (D, R); folds: their numbers, in the order of the state.
    own: variance of one more run of a cell around the cell and the fold together.
    """

    state: Floats
    covariance: Floats
    shape: tuple[int, int]
    folds: tuple[int, ...]
    own: float

    @property
    def mean(self) -> Floats:
        """The expected accuracies (D, R) of the cells."""
        return self.state[: self.shape[0] * self.shape[1]].reshape(self.shape)

    @property
    def sd(self) -> Floats:
        """How well each is known, (D, R); that the level of all is unknown does not count."""
        known: Floats = np.sqrt(np.diag(self.covariance)[: self.mean.size]).reshape(self.shape)
        return known

    def best(self, depth: int, among: Collection[Cell]) -> Cell:
        """Return which of these cells is expected to be the best one of a depth."""
        return max((cell for cell in among if cell[0] == depth), key=lambda cell: self.mean[cell])

    def keep(self, among: Collection[Cell]) -> int:
        """Return the deepest depth of which one of these cells is expected to lose at most KEEP against the best."""
        best = max(self.mean[cell] for cell in among)
        return max(depth for depth, rate in among if self.mean[depth, rate] >= best - KEEP)

    @functools.cached_property
    def _lost(self) -> Floats:
        """Draws (D, DRAWS) of the accuracy of every depth below the best, each at the rate expected to be its best."""
        chosen = np.arange(self.shape[0]) * self.shape[1] + self.mean.argmax(axis=1)
        values, vectors = np.linalg.eigh(self.covariance[np.ix_(chosen, chosen)])
        normal = np.random.default_rng(0).standard_normal((len(chosen), DRAWS))
        drawn = self.state[chosen, None] + (vectors * np.sqrt(values.clip(min=0))) @ normal
        lost: Floats = drawn.max(axis=0) - drawn
        return lost

    def expected_loss(self) -> Floats:
        """Return (D,): expected accuracy below the best depth, whichever that is, both at their best rates."""
        loss: Floats = self._lost.mean(axis=1)
        return loss

    def good(self, margin: float) -> Floats:
        """Return (D,): the probability of each depth to lose at most the margin."""
        likely: Floats = (self._lost <= margin).mean(axis=1)
        return likely

    def worth(self, cell: Cell, fold: int) -> float:
        """Return what one more run is expected to gain: accuracy of the cell that would be believed best after it."""
        size = self.mean.size
        moved, spread = self._answer(cell, fold)
        step = moved[:size] / spread  # one number is learned, so one direction moves
        outcomes = stats.norm.ppf((np.arange(99) + 0.5) / 99)
        best = (self.state[:size, None] + step[:, None] * outcomes).max(axis=0).mean()
        return max(0.0, float(best - self.state[:size].max()))

    def after(self, cell: Cell, fold: int, accuracy: float) -> "Belief":
        """Return the belief after one run."""
        moved, spread = self._answer(cell, fold)
        surprise = accuracy - self.state[self._place(cell)] - self.state[self._fold(fold)]
        state = self.state + moved * surprise / spread**2
        covariance = self.covariance - np.outer(moved, moved) / spread**2
        return Belief(state, covariance, self.shape, self.folds, self.own)

    def evidence(self, cell: Cell, fold: int, accuracy: float) -> float:
        """Return the log of how likely one run's accuracy is."""
        _, spread = self._answer(cell, fold)
        expected = self.state[self._place(cell)] + self.state[self._fold(fold)]
        return float(stats.norm.logpdf(accuracy, expected, spread))

    def _answer(self, cell: Cell, fold: int) -> tuple[Floats, float]:
        """Return the covariance (S,) of the state with a run's accuracy, and the SD of the latter."""
        place, other = self._place(cell), self._fold(fold)
        moved: Floats = self.covariance[place] + self.covariance[other]
        return moved, float(np.sqrt(moved[place] + moved[other] + self.own))

    def _place(self, cell: Cell) -> int:
        return cell[0] * self.shape[1] + cell[1]

    def _fold(self, fold: int) -> int:
        return self.mean.size + self.folds.index(fold)


def believe(n_depths: int, decades: Sequence[float], runs: Sequence[Run], folds: Sequence[int]) -> Belief:
    """Return the belief after these runs, with the scale of what rates change under which they are the most likely.

    decades: log10 of every learning rate over the middle of the usual ones. folds: all that may be trained on.
    """
    share = float(np.clip(np.mean([run.correct.mean() for run in runs]) if runs else 0.5, 0.05, 0.95))
    images = len(runs[0].correct) if runs else 100
    spread, alike = share * (1 - share) / images * _weight(runs), _alike(runs)
    found = []
    for scale in SCALES:
        mean, cells = _prior(n_depths, decades, scale)
        covariance = np.zeros((len(mean) + len(folds),) * 2)
        covariance[: len(mean), : len(mean)] = cells
        covariance[len(mean) :, len(mean) :] = np.eye(len(folds)) * alike * spread
        own = (1 - alike) * spread + LUCK**2
        state, shape = np.append(mean, np.zeros(len(folds))), (n_depths, len(decades))
        belief, evidence = Belief(state, covariance, shape, tuple(folds), own), -2 * float(np.log(scale))
        for run in runs:
            accuracy = float(run.correct.mean())
            evidence += belief.evidence(run.cell, run.fold, accuracy)
            belief = belief.after(run.cell, run.fold, accuracy)
        found.append((evidence, belief))
    return max(found, key=lambda each: each[0])[1]


def _prior(n_depths: int, decades: Sequence[float], scale: float) -> tuple[Floats, Floats]:
    """Return means (D * R,) and their covariance, before any run; around a level that is all but unknown."""
    share = np.repeat(np.linspace(0, 1, n_depths), len(decades))
    rate = np.tile(np.asarray(decades, float), n_depths)
    last = (share == 1).astype(float)
    top = np.where(share == 1, HEAD_TOP, TOP)
    mean = 0.5 + SLOPE * share + DROP * last - CURVATURE * (rate - top) ** 2
    apart, ratio = np.abs(share[:, None] - share), (rate[:, None] - rate) / NEAR_RATE
    tilt = TILT * (1 - last) * rate
    of_rates = np.outer(tilt, tilt) + REST**2 * np.exp(-apart / NEAR_SHARE - ratio**2 / 2)
    of_depths = WHOLE**2 * np.minimum(share[:, None], share) + LAST**2 * np.outer(last, last)
    return mean, LEVEL**2 + of_depths + scale**2 * of_rates


def _weight(runs: Sequence[Run]) -> float:
    """Return by how much images that count differently raise the variance of an accuracy; 1 where all count alike."""
    shares = [float(run.correct.mean()) for run in runs]
    alike = sum(share * (1 - share) for share in shares)
    return float(sum(run.correct.astype(float).var() for run in runs)) / alike if alike else 1.0


def _alike(runs: Sequence[Run]) -> float:
    """Return the mean correlation of the answers of two networks that were judged on the same images."""
    found = []
    for fold in {run.fold for run in runs}:
        correct = np.array([run.correct for run in runs if run.fold == fold], float)
        correct = correct[correct.std(axis=1) > 0]
        if len(correct) > 1:
            found += list(np.corrcoef(correct)[np.triu_indices(len(correct), 1)])
    return float(np.clip(np.mean(found), 0, 0.95)) if found else ALIKE


def next_run(
    belief: Belief, runs: Sequence[Run], open_cells: Collection[Cell], seconds: Mapping[int, float]
) -> tuple[Cell, int] | None:
    """Return the cell and the fold of the run that is worth most for its time; None where none is worth it.

    open_cells: those that may be trained; a cell's next fold is the first that it was not trained on.
    seconds: what a run of each depth takes.
    """
    made = {(run.cell, run.fold) for run in runs}
    rates = {}
    for cell in open_cells:
        fold = next((number for number in belief.folds if (cell, number) not in made), None)
        gain = 0.0 if fold is None else belief.worth(cell, fold)
        if fold is not None and gain >= LEAST:
            rates[cell, fold] = gain / seconds[cell[0]]
    return max(sorted(rates), key=rates.__getitem__) if rates else None


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
