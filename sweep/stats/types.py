"""What goes into a verdict and what comes out of it, and the words that all of it is said in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Interval = tuple[float, float]

CASES = ("dissimilar", "similar_more", "similar_fewer")  # in the order in which the rule keeps more
MARGIN = 0.01  # accuracy that may be lost for a deeper freeze: one point
ALPHA = 0.05
POWER = 0.8  # of the sweep that `to_decide` asks for


@dataclass(frozen=True)
class TaskEvidence:
    """One task's pretrained arm, and what is known of the task.

    depths: (D,) ascending.
    accuracy: (D, S) in 0..1, one column per seed, NaN where there is no result.
    matched_group: tasks of one group have the same images; None = no other task has them.
    similarity: position on a near-far scale, smaller = more similar.
    rates: the learning rates tried at each depth.
    scores: name to (D,), a transferability score of each depth, higher = better.
    correct: (D, S, I), 1 where a test image is classified right, and 0 where not, or what stands for that in a balanced
        accuracy (record.outcomes()); None if it is not known.
    seconds: (D,), what training took, mean over seeds.
    which: the blocks that freeze_depth freezes, as freeze.which says it.
    """

    case: str
    depths: Ints
    accuracy: Floats
    matched_group: str | None = None
    similarity: float | None = None
    n_classes: int | None = None
    source_classes: int | None = None
    n_blocks: int | None = None
    rates: tuple[tuple[float, ...], ...] | None = None
    scores: Mapping[str, Floats] | None = None
    correct: Floats | npt.NDArray[np.bool_] | None = None
    seconds: Floats | None = None
    which: str = "prefix"

    @property
    def n_seeds(self) -> int:
        return int(self.accuracy.shape[1])

    @property
    def curve(self) -> Floats:
        """Return the mean accuracy over seeds at every depth (D,)."""
        curve: Floats = self.accuracy.mean(axis=1)
        return curve

    @property
    def outcomes(self) -> Floats:
        """Return `correct` as numbers; (D, S, 1), accuracies, if that is not known."""
        return self.accuracy[:, :, None] if self.correct is None else self.correct.astype(float)

    @property
    def complete(self) -> bool:
        """Return whether every depth has the accuracy of every seed, of one seed at least."""
        return bool(self.accuracy.size and np.isfinite(self.accuracy).all())

    def share(self, depth: int) -> Fraction:
        """Return which share of the blocks a depth is; the depth itself where their number is not known."""
        return Fraction(int(depth), self.n_blocks or 1)


@dataclass(frozen=True)
class Evidence:
    """All that a verdict is drawn from.

    tasks: by name.
    missing: what the sweep lacks, a line each.
    allow_missing: draw a verdict also from what is there; the reason then says so.
    """

    tasks: Mapping[str, TaskEvidence]
    missing: Sequence[str] = ()
    allow_missing: bool = False
    margin: float = MARGIN


@dataclass(frozen=True)
class Choice:
    """Which depths of one task are good, that is lose at most the margin against the best one, and how sure that is.

    Lists are over the depths that were tried; gains and losses are in accuracy points. See depths.py for the model.

    good: those that may be: the set holds the truly good ones in 95 % of sweeps.
    likely: the probability of each being good.
    deepest_good: the probability of each being the deepest good one.
    expected_loss: against the best depth, whichever that is.
    gain: 95 % interval of what each depth gains over the shallowest.
    cost: of training, against the depth that took longest; None if it is not known.
    margin_share: the margin as a share of what the best depth has above chance; None if it has nothing above it.
    over: what varied: seeds and test images, or seeds alone.
    """

    depths: list[int]
    good: list[int]
    likely: list[float]
    deepest_good: list[float]
    expected_loss: list[float]
    gain: list[Interval]
    cost: list[float] | None
    margin_share: float | None
    over: str


@dataclass(frozen=True)
class Test:
    """One test of the rule.

    statistic: as `name` says.
    n: what was permuted, or whose signs were flipped: tasks, or matched groups.
    p_value, p_reversed: one-sided, for the rule and for its reverse.
    corrected: p_value, for the other tests of the same role.
    z: distance of the statistic from its mean without order, in standard deviations.
    """

    name: str
    role: str  # primary | exploratory
    statistic: float
    n: int
    p_value: float
    p_reversed: float
    corrected: float
    z: float
    effect: float | None = None  # in effect_unit
    interval: Interval | None = None
    effect_unit: str | None = None


@dataclass(frozen=True)
class Decision:
    """The answer, and all that it rests on.

    decision: supported, contradicted (either of them partly, where the test finds an order though not all cases lie in
    it), equivalent (the cases differ by less than the margin at every depth) or inconclusive; descriptive (too few
    tasks for any test to reject at 5 %); incomplete (points are missing, so no answer); untested (the sweep cannot
    speak to the rule: one case, one depth, unequal learning rates, not a prefix).
    kept_depth: the deepest depth whose mean is within the margin of the best. It is also what expected loss and cost
    recommend: of the depths whose expected loss is within the margin of the least, the cheapest.
    choices: by task, which depths are good; of tasks with several depths, where it is known how sure their means are.
    effect_blocks: mean kept depth of the case that the rule keeps most of, less that of the case it keeps fewest of.
    effect_points: what freezing the deepest instead of the shallowest depth gains in accuracy points on the first of
    those cases, less what it gains on the second.
    interval, effect_points_interval: 95 %; Welch's over tasks (whose values hold the noise of their seeds), or, with
    one task in a case, Satterthwaite's over seeds, of the points alone, which does not hold how tasks differ.
    p_value, p_value_reversed: of the deciding test, corrected for the primary tests.
    p_equivalence: the largest p of the TOSTs over depths and pairs of cases.
    regret: per task, accuracy points lost against the best depth by each way to choose one; None = not applicable.
    """

    decision: str
    reason: str
    kept_depth: dict[str, int] = field(default_factory=dict)
    choices: dict[str, Choice] = field(default_factory=dict)
    effect_blocks: float | None = None
    interval: Interval | None = None
    effect_points: float | None = None
    effect_points_interval: Interval | None = None
    interval_over: str | None = None  # seeds, seeds and test images, or tasks and seeds
    p_value: float | None = None
    p_value_reversed: float | None = None
    p_equivalence: float | None = None
    tests: list[Test] = field(default_factory=list)
    regret: dict[str, dict[str, float | None]] = field(default_factory=dict)
    mean_regret: dict[str, float | None] = field(default_factory=dict)
    to_decide: str | None = None  # what would decide it, where this sweep does not
    more_tasks: int | None = None
    n_tasks: int = 0
    n_seeds: int = 0
    margin: float = MARGIN
    missing: list[str] = field(default_factory=list)
    without_signal: list[str] = field(default_factory=list)  # tasks near chance at every depth, left out of the tests
