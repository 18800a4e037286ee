"""The rule of thumb, tested: arrays in, verdict out. Pure numpy and scipy.

The rule: keep more layers when the new task is similar to the source; most if it also has fewer classes, fewer if it
has more, fewest if it is not similar. The unit of inference is the task; seeds are repeats within a task.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CASES = ("dissimilar", "similar_more", "similar_fewer")  # in the order in which the rule keeps more
MARGIN = 0.01  # accuracy that may be lost for a deeper freeze: one point
ALPHA = 0.05


class TaskScores(NamedTuple):
    """One task's pretrained arm. depths: (D,) ascending. accuracy: (D, S) in 0..1, one column per seed."""

    case: str
    depths: Ints
    accuracy: Floats


@dataclass(frozen=True)
class Verdict:
    """The answer, and all that it rests on.

    decision: supported, contradicted or inconclusive; descriptive (too few tasks for any test to reject at 5 %);
    incomplete (points are missing, so no answer); untested (the sweep cannot speak to the rule: one case, one depth).
    effect_blocks: mean kept depth of the case that the rule keeps most of, less that of the case it keeps fewest of.
    effect_points: what freezing the deepest instead of the shallowest depth gains in accuracy points on the first of
    those cases, less what it gains on the second. Intervals: 95 %, percentile bootstrap over what interval_over names:
    with one task per case they hold the noise of seeds only, not how tasks differ; with one seed there are none.
    """

    decision: str
    reason: str
    kept_depth: dict[str, int] = field(default_factory=dict)
    effect_blocks: float | None = None
    interval: tuple[float, float] | None = None
    effect_points: float | None = None
    effect_points_interval: tuple[float, float] | None = None
    interval_over: str | None = None  # seeds, or tasks and seeds
    p_value: float | None = None
    p_value_reversed: float | None = None
    n_tasks: int = 0
    n_seeds: int = 0
    margin: float = MARGIN
    missing: list[str] = field(default_factory=list)


def mean_interval(values: Floats, level: float = 0.95) -> tuple[float, float, float, float]:
    """Return (mean, sample standard deviation, low, high); Student's t interval of the mean.

    What one value cannot tell is NaN.

    >>> [round(x, 3) for x in mean_interval(np.array([1.0, 2.0, 3.0]))]
    [2.0, 1.0, -0.484, 4.484]
    """
    n = len(values)
    nan = float("nan")
    if n == 0:
        return nan, nan, nan, nan
    mean = float(np.mean(values))
    if n == 1:
        return mean, nan, nan, nan
    std = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * std / math.sqrt(n)
    return mean, std, mean - half, mean + half


def kept_depth(depths: Ints, accuracy: Floats, margin: float = MARGIN) -> int:
    """Return the deepest depth that loses at most `margin` against the best one.

    depths: (D,) ascending. accuracy: (D,) mean over seeds. The plain argmax would be unstable on flat curves; keeping
    more is preferred where nothing is lost, because it is cheaper.

    >>> kept_depth(np.array([0, 2, 4]), np.array([0.80, 0.85, 0.845]))
    4
    """
    near = accuracy >= accuracy.max() - margin - 1e-12  # equality counts, in spite of rounding
    return int(depths[near].max())


def ordered_alternative(groups: Sequence[Floats]) -> tuple[float, float]:
    """Return the one-sided p-values of the groups rising, and of them falling, in their order.

    Jonckheere-Terpstra: the count over pairs of groups of pairs of values in order, ties half; its distribution over
    all assignments of values to groups (or 19,999 random ones, seeded, where there are more).
    groups: values per group, e.g. kept depths of the tasks of each case.
    """
    sizes = np.cumsum([len(group) for group in groups])[:-1]

    def statistic(values: Floats) -> float:
        return _jonckheere(np.split(values, sizes))

    rising, falling = (
        stats.permutation_test(
            (np.concatenate(groups),),
            statistic,
            permutation_type="pairings",
            alternative=alternative,
            n_resamples=19_999,
            vectorized=False,
            rng=np.random.default_rng(0),
        ).pvalue
        for alternative in ("greater", "less")
    )
    return float(rising), float(falling)


def _jonckheere(groups: Sequence[Floats]) -> float:
    total = 0.0
    for later in range(1, len(groups)):
        for earlier in range(later):
            difference = groups[later][:, None] - groups[earlier][None, :]
            total += float(np.sum(difference > 0) + 0.5 * np.sum(difference == 0))
    return total


def smallest_p(sizes: Sequence[int]) -> float:
    """Return the smallest p-value that the exact test can give for groups of these sizes.

    >>> smallest_p([1, 1, 1]) == 1 / 6
    True
    """
    return math.prod(math.factorial(size) for size in sizes) / math.factorial(sum(sizes))


def judge(tasks: Mapping[str, TaskScores], missing: Sequence[str] = (), margin: float = MARGIN) -> Verdict:
    """Return the verdict on the rule from the pretrained arm of every task; deterministic."""
    known = {task: scores for task, scores in tasks.items() if scores.case in CASES and len(scores.depths) > 1}
    n_seeds = min((scores.accuracy.shape[1] for scores in known.values()), default=0)
    whole = {task: each for task, each in tasks.items() if len(each.depths) and np.isfinite(each.accuracy).all()}
    kept = {task: kept_depth(each.depths, each.accuracy.mean(axis=1), margin) for task, each in whole.items()}
    facts: dict[str, Any] = {"kept_depth": kept, "n_tasks": len(known), "n_seeds": n_seeds, "margin": margin}
    if missing:
        reason = f"{len(missing)} of the sweep's results are missing, so no verdict is drawn"
        return Verdict("incomplete", reason, missing=list(missing), **facts)
    cases = [case for case in CASES if any(scores.case == case for scores in known.values())]
    if len(cases) < 2:
        reason = (
            "the rule compares cases, and this sweep has "
            + (f"tasks of {cases[0]} only" if cases else "no task of known case with pretrained=true at two depths")
            + "; sweep pretrained=true over two depths or more, on tasks of two cases or more"
        )
        return Verdict("untested", reason, **facts)

    groups = [np.array([kept[task] for task in known if known[task].case == case], float) for case in cases]
    p_value, p_reversed = ordered_alternative(groups)
    least = smallest_p([len(group) for group in groups])
    blocks, points = _effects(known, cases, margin)
    facts |= {
        "effect_blocks": blocks,
        "effect_points": points,
        "p_value": p_value,
        "p_value_reversed": p_reversed,
    }
    if n_seeds > 1:
        draws = np.array([_effects(_resample(known, rng), cases, margin) for rng in _generators(2000)])
        low, high = np.percentile(draws, [2.5, 97.5], axis=0)
        facts |= {
            "interval": (float(low[0]), float(high[0])),
            "effect_points_interval": (float(low[1]), float(high[1])),
            "interval_over": "tasks and seeds" if min(len(group) for group in groups) > 1 else "seeds",
        }
    order = _order(cases, groups)
    if least > ALPHA:
        reason = f"{order}; too few tasks to test (the smallest p that {len(known)} tasks can give is {least:.2f})"
        return Verdict("descriptive", reason, **facts)
    if p_value <= ALPHA:
        return Verdict("supported", f"{order}; p = {p_value:.3f}", **facts)
    if p_reversed <= ALPHA:
        return Verdict("contradicted", f"{order}; p = {p_reversed:.3f} for the reverse of the rule", **facts)
    return Verdict("inconclusive", f"{order}; p = {p_value:.3f}", **facts)


def _order(cases: Sequence[str], groups: Sequence[Floats]) -> str:
    """Return in words how the mean kept depths lie, most to be kept first: "in the rule's order: ..."."""
    means = [float(group.mean()) for group in groups]
    shown = ", ".join(f"{case} {mean:g}" for case, mean in reversed(list(zip(cases, means, strict=True))))
    steps = np.diff(means)
    if not steps.any():
        return f"the same kept depth in every case: {shown}"
    if (steps >= 0).all():
        return f"in the rule's order: {shown}"
    if (steps <= 0).all():
        return f"in the reverse of the rule's order: {shown}"
    return f"not in the rule's order: {shown}"


def _effects(tasks: Mapping[Any, TaskScores], cases: Sequence[str], margin: float) -> tuple[float, float]:
    """Return (blocks, accuracy points): the last case's value less the first's."""
    values = []
    for case in (cases[-1], cases[0]):
        curves = [(each.depths, each.accuracy.mean(axis=1)) for each in tasks.values() if each.case == case]
        depth = np.mean([kept_depth(depths, curve, margin) for depths, curve in curves])
        gain = np.mean([100 * (curve[-1] - curve[0]) for _, curve in curves])
        values.append((depth, gain))
    return float(values[0][0] - values[1][0]), float(values[0][1] - values[1][1])


def _generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng([0, number]) for number in range(count)]


def _resample(tasks: Mapping[str, TaskScores], rng: np.random.Generator) -> dict[int, TaskScores]:
    """Draw tasks within each case, then seeds within each task (whole columns: a seed's depths belong together)."""
    drawn: dict[int, TaskScores] = {}
    for case in CASES:
        members = [scores for scores in tasks.values() if scores.case == case]
        for place in rng.integers(len(members), size=len(members)) if members else ():
            scores = members[place]
            columns = rng.integers(scores.accuracy.shape[1], size=scores.accuracy.shape[1])
            drawn[len(drawn)] = scores._replace(accuracy=scores.accuracy[:, columns])
    return drawn
