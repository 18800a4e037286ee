"""The rule of thumb, tested: arrays in, verdict out. Pure numpy and scipy.

The rule: keep more layers when the new task is similar to the source; most if it also has fewer classes, fewer if it
has more, fewest if it is not similar. The unit of inference is the task; seeds are repeats within a task.

The two primary tests, Holm-corrected together: the order of the cases (Jonckheere-Terpstra over tasks, or Page's L
where all tasks come in matched blocks), which alone decides, and the slope of the kept share on measured similarity,
the one explanation of the order that is not confounded with how many images a task has, as the class count is. All
other tests are exploratory (Benjamini-Hochberg). p-values are one-sided in the rule's direction, and once more against
it: each of "supported" and "contradicted" is wrong in at most 5 % of the tables in which there is no order.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from sweep.stats import tests as inference
from sweep.stats.tests import Floats, Interval, Trend

Ints = npt.NDArray[np.int64]

CASES = ("dissimilar", "similar_more", "similar_fewer")  # in the order in which the rule keeps more
MARGIN = 0.01  # accuracy that may be lost for a deeper freeze: one point
ALPHA = 0.05
POWER = 0.8  # of the sweep that `to_decide` asks for
DRAWS = 2000  # of the bootstrap over seeds


class TaskScores(NamedTuple):
    """One task's pretrained arm, and what is known of the task.

    depths: (D,) ascending. accuracy: (D, S) in 0..1, one column per seed, NaN where there is no result.
    block: tasks of one block are matched (the same images); None = unmatched. similarity: position on a near-far
    scale, smaller = more similar. rates: the learning rates tried at each depth. scores: name to (D,), a
    transferability score of each depth, higher = better.
    """

    case: str
    depths: Ints
    accuracy: Floats
    block: str | None = None
    similarity: float | None = None
    n_classes: int | None = None
    source_classes: int | None = None
    n_blocks: int | None = None
    rates: tuple[tuple[float, ...], ...] | None = None
    scores: Mapping[str, Floats] | None = None
    which: str = "prefix"  # which blocks freeze_depth freezes


@dataclass(frozen=True)
class Test:
    """One test of the rule. p_value, p_reversed: one-sided, for the rule and for its reverse; corrected: p_value's.

    n: what was permuted, or whose signs were flipped: tasks, or matched blocks. statistic: as `name` says.
    """

    name: str
    role: str  # primary | exploratory
    statistic: float
    n: int
    p_value: float
    p_reversed: float
    corrected: float
    z: float  # distance of the statistic from its mean without order, in standard deviations
    effect: float | None = None  # in effect_unit
    interval: Interval | None = None
    effect_unit: str | None = None


@dataclass(frozen=True)
class Verdict:
    """The answer, and all that it rests on.

    decision: supported, contradicted, equivalent (the cases differ by less than the margin at every depth) or
    inconclusive; descriptive (too few tasks for any test to reject at 5 %); incomplete (points are missing, so no
    answer); untested (the sweep cannot speak to the rule: one case, one depth, unequal learning rates, not a prefix).
    effect_blocks: mean kept depth of the case that the rule keeps most of, less that of the case it keeps fewest of.
    effect_points: what freezing the deepest instead of the shallowest depth gains in accuracy points on the first of
    those cases, less what it gains on the second. Intervals: 95 %; Welch's over tasks (whose values hold the noise of
    their seeds), or, with one task per case, a percentile bootstrap over seeds, which does not hold how tasks differ.
    p_value, p_value_reversed: of the deciding test, corrected for the two primaries. p_equivalence: the largest p of
    the TOSTs over depths and pairs of cases. kept_interval: 95 % percentile bootstrap over three seeds or more.
    regret: per task, accuracy points lost against the best depth by each way to choose one; None = not applicable.
    """

    decision: str
    reason: str
    kept_depth: dict[str, int] = field(default_factory=dict)
    kept_interval: dict[str, tuple[int, int]] = field(default_factory=dict)
    effect_blocks: float | None = None
    interval: Interval | None = None
    effect_points: float | None = None
    effect_points_interval: Interval | None = None
    interval_over: str | None = None  # seeds, or tasks and seeds
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


def kept_depth(depths: Ints, accuracy: Floats, margin: float = MARGIN) -> int:
    """Return the deepest depth that loses at most `margin` against the best one.

    depths: (D,) ascending. accuracy: (D,) mean over seeds. The plain argmax would be unstable on flat curves; keeping
    more is preferred where nothing is lost, because it is cheaper.

    >>> kept_depth(np.array([0, 2, 4]), np.array([0.80, 0.85, 0.845]))
    4
    """
    return int(_kept(depths, accuracy[:, None], margin)[0])


def _kept(depths: Ints, curves: Floats, margin: float) -> Ints:
    """Return the kept depth of every column of curves (D, B)."""
    near = curves >= curves.max(axis=0) - margin - 1e-12  # equality counts, in spite of rounding
    return np.asarray(depths[len(depths) - 1 - near[::-1].argmax(axis=0)], np.int64)


def rule_depth(case: str, depths: Ints) -> int:
    """Return the depth that the rule picks of those tried: the deepest, the middle or the shallowest, by the case.

    The middle of an even number of depths is the shallower of the two.

    >>> rule_depth("similar_more", np.array([0, 2, 4, 5]))
    2
    """
    place = {"similar_fewer": len(depths) - 1, "similar_more": (len(depths) - 1) // 2, "dissimilar": 0}[case]
    return int(depths[place])


def judge(
    tasks: Mapping[str, TaskScores],
    missing: Sequence[str] = (),
    margin: float = MARGIN,
    allow_missing: bool = False,
) -> Verdict:
    """Return the verdict on the rule from the pretrained arm of every task; deterministic.

    missing: what the sweep lacks, a line each; with anything missing there is no answer, unless allow_missing: then
    seeds without a result at some depth and tasks without a whole seed are left out, and the reason says so.
    """
    other = next((each.which for each in tasks.values() if each.which != "prefix"), None)
    if other:
        return Verdict("untested", f"the rule is about the first blocks, and this sweep froze others ({other})")
    known = {task: each for task, each in tasks.items() if each.case in CASES and len(each.depths) > 1}
    whole = {task: _whole_seeds(each) if allow_missing else each for task, each in tasks.items() if len(each.depths)}
    whole = {task: each for task, each in whole.items() if each.accuracy.shape[1] and np.isfinite(each.accuracy).all()}
    kept = {task: kept_depth(each.depths, each.accuracy.mean(axis=1), margin) for task, each in whole.items()}
    # Two seeds have but three resamples: an interval from them would only seem to be one.
    draws = {task: _seed_draws(each, margin) for task, each in whole.items() if each.accuracy.shape[1] > 2}
    facts: dict[str, Any] = {
        "kept_depth": kept,
        "kept_interval": {task: _middle(drawn[0], whole=True) for task, drawn in draws.items()},
        "n_tasks": len(known),
        "n_seeds": min((each.accuracy.shape[1] for each in known.values()), default=0),
        "margin": margin,
    }
    lacking = list(missing) or [
        f"{task}: no accuracy at depth {depth}"
        for task, each in tasks.items()
        for depth, row in zip(each.depths, each.accuracy, strict=True)
        if not np.isfinite(row).all()
    ]
    caveat = ""
    if lacking:
        facts["missing"] = lacking
        reason = f"{len(lacking)} of the sweep's results are missing, so no verdict is drawn"
        if not allow_missing:
            return Verdict("incomplete", f"{reason} (study.allow_missing=true draws it from the rest)", **facts)
        left = [task for task in known if task in whole]
        dropped = f", {len(known) - len(left)} of {len(known)} tasks left out" if len(left) < len(known) else ""
        caveat = f"from an incomplete grid ({len(lacking)} results missing{dropped}): "
        known = {task: whole[task] for task in left}
        seeds = min((each.accuracy.shape[1] for each in known.values()), default=0)
        facts |= {"n_tasks": len(known), "n_seeds": seeds}
    for task, scores in known.items():
        if unequal := _unequal_rates(scores):
            return Verdict("untested", f"{caveat}{task}: {unequal}; give every depth the same optimizer.lr", **facts)
    cases = [case for case in CASES if any(each.case == case for each in known.values())]
    if len(cases) < 2:
        has = f"tasks of {cases[0]} only" if cases else "no task of known case with pretrained=true at two depths"
        advice = "sweep pretrained=true over two depths or more, on tasks of two cases or more"
        if any(each.case not in CASES for each in tasks.values()):
            advice += " (data.case=... declares a task's case)"
        reason = f"the rule compares cases, and this sweep has {has}; {advice}"
        return Verdict("untested", caveat + reason, **facts)

    regret = regrets(known)
    columns = list(dict.fromkeys(key for row in regret.values() for key in row))
    facts |= {"regret": regret, "mean_regret": {key: _mean_regret(regret, key) for key in columns}}
    tests = _tests(known, kept, cases, regret)
    decides = tests[0]
    groups = [_units(known, kept, case, by_share=False) for case in cases]
    facts |= {
        "tests": tests,
        "p_value": decides.corrected,
        "p_value_reversed": _reversed_corrected(tests),
        "p_equivalence": _equivalence(known, cases, margin),
    } | _effects(known, kept, draws, cases)
    order = caveat + _order(cases, groups)
    sizes = [len(group) for group in groups]
    least = inference.smallest_p(sizes)
    if decides.name.startswith("Page"):
        least = 1 / math.factorial(len(cases)) ** decides.n
    if least > ALPHA:
        each = next(n for n in range(1, 99) if inference.smallest_p([n] * len(cases)) <= ALPHA)
        facts["to_decide"] = f"{each} tasks or more of each of the {len(cases)} cases can be tested"
        reason = f"{order}; too few tasks to test (the smallest p that {len(known)} tasks can give is {least:.2f})"
        return Verdict("descriptive", reason, **facts)
    if facts["p_value"] <= ALPHA:
        return Verdict("supported", f"{order}; {_p(facts['p_value'])}", **facts)
    if facts["p_value_reversed"] <= ALPHA:
        reason = f"{order}; {_p(facts['p_value_reversed'])} for the reverse of the rule"
        return Verdict("contradicted", reason, **facts)
    if facts["p_equivalence"] <= ALPHA:
        reason = (
            f"{order}; at every depth the cases differ by less than {100 * margin:g} accuracy points"
            f" (TOST, {_p(facts['p_equivalence'])})"
        )
        return Verdict("equivalent", reason, **facts)
    facts |= _to_decide(len(known), decides.z, facts["kept_interval"])
    return Verdict("inconclusive", f"{order}; {_p(facts['p_value'])}", **facts)


def _whole_seeds(task: TaskScores) -> TaskScores:
    """Return the task with the seeds that have a result at every depth: a seed's depths belong together."""
    return task._replace(accuracy=task.accuracy[:, np.isfinite(task.accuracy).all(axis=0)])


def _unequal_rates(task: TaskScores) -> str | None:
    """Return in words where the learning rates differ from those of the first depth; empty grids are not compared."""
    pairs = [(depth, rates) for depth, rates in zip(task.depths, task.rates or (), strict=False) if rates]
    for depth, rates in pairs:
        if rates != pairs[0][1]:
            first, other = (", ".join(f"{rate:g}" for rate in grid) for grid in (pairs[0][1], rates))
            return f"learning rates {first} at depth {pairs[0][0]}, but {other} at depth {depth}"
    return None


def _seed_draws(task: TaskScores, margin: float) -> tuple[Ints, Floats]:
    """Return the bootstrap over seeds of the kept depth (DRAWS,) and of the gain in points (DRAWS,)."""
    n = task.accuracy.shape[1]
    curves = task.accuracy @ _weights(n)  # (D, DRAWS)
    return _kept(task.depths, curves, margin), 100 * (curves[-1] - curves[0])


@functools.cache
def _weights(n: int) -> Floats:
    """Return (n, DRAWS): in which share each of n seeds is in each draw."""
    return np.random.default_rng([0, n]).multinomial(n, [1 / n] * n, size=DRAWS).T / n


def _middle(draws: npt.NDArray[Any], whole: bool = False) -> tuple[Any, Any]:
    """Return the 2.5 and 97.5 % points; whole: of what was drawn, not between."""
    low, high = np.quantile(draws, [0.025, 0.975], method="inverted_cdf" if whole else "linear")
    return (int(low), int(high)) if whole else (float(low), float(high))


def _share(task: TaskScores, depth: float) -> float:
    return depth / task.n_blocks if task.n_blocks else float(depth)


def _units(tasks: Mapping[str, TaskScores], kept: Mapping[str, int], case: str, by_share: bool = True) -> Floats:
    """Return the kept depths (or shares of the blocks) of a case; tasks of one block are one unit, their mean."""
    units: dict[str, list[float]] = {}
    for task, each in tasks.items():
        if each.case == case:
            name = f"block {each.block}" if each.block is not None else f"task {task}"
            units.setdefault(name, []).append(_share(each, kept[task]) if by_share else float(kept[task]))
    return np.array([np.mean(values) for values in units.values()])


_Found = tuple[str, int, Trend, dict[str, Any]]  # name, n, the test, its effect's fields


def _tests(
    tasks: Mapping[str, TaskScores],
    kept: Mapping[str, int],
    cases: Sequence[str],
    regret: Mapping[str, Mapping[str, float | None]],
) -> list[Test]:
    """Return all tests that the tasks allow, the deciding one first, then the other primary, then the exploratory."""
    by_share = all(each.n_blocks for each in tasks.values())  # comparable across models; else blocks
    groups = [_units(tasks, kept, case, by_share) for case in cases]
    name = "Jonckheere-Terpstra J, order of cases"
    primary: list[_Found] = [(name, sum(map(len, groups)), inference.jonckheere(groups), {})]
    exploratory: list[_Found] = []
    matched, shared = _matched(tasks, kept, cases, by_share)
    if len(matched) >= 2:
        paged: _Found = f"Page's L, order of {' < '.join(shared)} in blocks", len(matched), inference.page(matched), {}
        if len(shared) == len(cases) and all(each.block is not None for each in tasks.values()):
            primary = [paged]  # all tasks are matched: order within blocks is all that can be permuted
        else:
            exploratory.append(paged)
    placed = {task: each.similarity for task, each in tasks.items() if each.similarity is not None}
    if slope := _slope(tasks, kept, placed):
        primary.append(("Kendall tau-b, kept share on similarity", len(placed), *slope))
    ratios = {
        task: math.log(each.n_classes / each.source_classes)
        for task, each in tasks.items()
        if each.n_classes and each.source_classes
    }
    if slope := _slope(tasks, kept, ratios):
        exploratory.append(("Kendall tau-b, kept share on fewer classes than the source", len(ratios), *slope))
    if len(contrast := _class_contrast(tasks, kept)) >= 2:
        effect = {"effect": float(contrast.mean()), "interval": inference.bca(contrast), "effect_unit": "blocks"}
        name = "Sign-flip, kept depth of fewer classes less of more, same images"
        exploratory.append((name, len(contrast), inference.sign_flip(contrast), effect))
    saved = np.array([(row["constant"] or 0.0) - (row["rule"] or 0.0) for row in regret.values()])
    effect = {"effect": float(saved.mean()), "interval": inference.bca(saved), "effect_unit": "points"}
    name = "Sign-flip, regret of one constant depth less the rule's"
    exploratory.append((name, len(saved), inference.sign_flip(saved), effect))
    corrected = inference.holm([trend.p_rising for _, _, trend, _ in primary])
    corrected += [float(p) for p in stats.false_discovery_control([trend.p_rising for _, _, trend, _ in exploratory])]
    roles = ["primary"] * len(primary) + ["exploratory"] * len(exploratory)
    return [
        Test(name, role, trend.statistic, n, trend.p_rising, trend.p_falling, p, trend.z, **effect)
        for (name, n, trend, effect), role, p in zip([*primary, *exploratory], roles, corrected, strict=True)
    ]


def _reversed_corrected(tests: Sequence[Test]) -> float:
    return inference.holm([test.p_reversed for test in tests if test.role == "primary"])[0]


def _matched(
    tasks: Mapping[str, TaskScores], kept: Mapping[str, int], cases: Sequence[str], by_share: bool
) -> tuple[Floats, list[str]]:
    """Return kept values (blocks, cases) of the matched blocks that have two cases or more, and those cases.

    The cases are those that all such blocks share; several tasks of one block and case count as their mean.
    """
    blocks: dict[str, dict[str, TaskScores]] = {}
    for task, each in tasks.items():
        if each.block is not None:
            blocks.setdefault(each.block, {})[task] = each
    mixed = [members for members in blocks.values() if len({each.case for each in members.values()}) > 1]
    shared = [case for case in cases if all(any(each.case == case for each in block.values()) for block in mixed)]
    if not mixed or len(shared) < 2:
        return np.empty((0, 0)), []
    return np.array([[_units(block, kept, case, by_share)[0] for case in shared] for block in mixed]), shared


def _slope(
    tasks: Mapping[str, TaskScores], kept: Mapping[str, int], distance: Mapping[str, float]
) -> tuple[Trend, dict[str, Any]] | None:
    """Return Kendall's test that the kept share rises as the distance falls; None below four tasks or all the same."""
    far = np.array(list(distance.values()))
    share = np.array([_share(tasks[task], kept[task]) for task in distance])
    if len(far) < 4 or np.ptp(far) == 0:
        return None
    trend = inference.kendall(-far, share)  # few distinct shares: as levels
    untied = [np.sum(np.sign(np.subtract.outer(values, values)) != 0) / 2 for values in (far, share)]
    tau = trend.statistic / math.sqrt(untied[0] * untied[1]) if all(untied) else 0.0
    return trend._replace(statistic=tau), {}


def _class_contrast(tasks: Mapping[str, TaskScores], kept: Mapping[str, int]) -> Floats:
    """Return, per matched block, the kept depth with the fewest classes less that with the most, in blocks."""
    blocks: dict[str, list[tuple[int, int]]] = {}
    for task, each in tasks.items():
        if each.block is not None and each.n_classes:
            blocks.setdefault(each.block, []).append((each.n_classes, kept[task]))
    contrasts = []
    for pairs in blocks.values():
        counts = [count for count, _ in pairs]
        if min(counts) < max(counts):
            few, many = (np.mean([k for count, k in pairs if count == end]) for end in (min(counts), max(counts)))
            contrasts.append(float(few - many))
    return np.array(contrasts)


def regrets(tasks: Mapping[str, TaskScores]) -> dict[str, dict[str, float | None]]:
    """Return, per task, the accuracy points lost against its best depth by each way to choose a depth.

    Ways: those below and the tasks' scores (of the depths that have one, that with the highest). constant: one depth
    for all tasks, the best on the mean of the other tasks, of equals the deepest; depths are matched by their share of
    the blocks. The best depth is that of the same test means: noise adds to all regrets. None: that depth was not
    tried, or one task only.
    """
    lost = {}
    for task, each in tasks.items():
        curve = each.accuracy.mean(axis=1)
        lost[task] = 100 * (curve.max() - curve)  # (D,)
    shares = sorted({_share(each, float(depth)) for each in tasks.values() for depth in each.depths})
    at_share = {  # (shares,): at the nearest depth tried, the shallower of two
        task: np.array([lost[task][_nearest(each, share)] for share in shares]) for task, each in tasks.items()
    }
    names = dict.fromkeys(name for each in tasks.values() for name in each.scores or {})
    # corrected for the number of classes, a score ranks a task's depths as before
    names = {name: None for name in names if not name.endswith("_corrected")}
    found: dict[str, dict[str, float | None]] = {}
    for task, each in tasks.items():
        others = [at_share[other] for other in tasks if other != task]
        places: dict[str, int | None] = {
            "rule": int(np.flatnonzero(each.depths == rule_depth(each.case, each.depths))[0]),
            "constant": _nearest(each, shares[_lowest(np.mean(others, axis=0))]) if others else None,
            "depth 0": 0 if each.depths[0] == 0 else None,
            "head only": len(each.depths) - 1 if each.depths[-1] == each.n_blocks else None,
        }
        for name in names:
            score = (each.scores or {}).get(name)
            # Images themselves have no score, so depth 0 is never chosen by one; of one depth alone, nothing is.
            usable = score is not None and np.isfinite(score).sum() > 1
            places[name] = int(np.nanargmax(score)) if score is not None and usable else None
        found[task] = {name: None if place is None else float(lost[task][place]) for name, place in places.items()}
    return found


def _lowest(lost: Floats) -> int:
    """Return the place of the least, of equals the last: the deepest is the cheapest."""
    return int(np.flatnonzero(lost <= lost.min() + 1e-9)[-1])


def _nearest(task: TaskScores, share: float) -> int:
    return int(np.argmin([abs(_share(task, float(depth)) - share) for depth in task.depths]))


def _mean_regret(regret: Mapping[str, Mapping[str, float | None]], key: str) -> float | None:
    """Return the mean over tasks; None where the way applies to some tasks only, so that means compare."""
    values = [row[key] for row in regret.values()]
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if len(numbers) == len(values) else None


def _equivalence(tasks: Mapping[str, TaskScores], cases: Sequence[str], margin: float) -> float:
    """Return the p-value that no two cases differ by margin or more in what any depth gains over the shallowest.

    All tests must reject, so that the largest p counts and needs no correction (intersection-union, Berger 1982).
    Where tasks differ in their depths, only the deepest is compared.
    """
    grids = {tuple(each.depths.tolist()) for each in tasks.values()}
    places = range(1, len(next(iter(grids)))) if len(grids) == 1 else (-1,)
    gains = {case: _gains(tasks, case) for case in cases}
    return max(
        inference.equivalence(
            np.array([gain[place] for gain in gains[first]]), np.array([gain[place] for gain in gains[second]]), margin
        )
        for place in places
        for row, first in enumerate(cases)
        for second in cases[row + 1 :]
    )


def _gains(tasks: Mapping[str, TaskScores], case: str) -> list[Floats]:
    """Return, per unit of a case, the accuracy of every depth less that of the shallowest; blocks are one unit."""
    units: dict[str, list[Floats]] = {}
    for task, each in tasks.items():
        if each.case == case:
            curve = each.accuracy.mean(axis=1)
            name = f"block {each.block}" if each.block is not None else f"task {task}"
            units.setdefault(name, []).append(curve - curve[0])
    return [np.mean(curves, axis=0) if len(curves) > 1 else curves[0] for curves in units.values()]


def _effects(
    tasks: Mapping[str, TaskScores],
    kept: Mapping[str, int],
    draws: Mapping[str, tuple[Ints, Floats]],
    cases: Sequence[str],
) -> dict[str, Any]:
    """Return the two effects, last case less first, their intervals, and what these are over."""
    ends = (cases[-1], cases[0])
    blocks = [_units(tasks, kept, case, by_share=False) for case in ends]
    points = [np.array([100 * gain[-1] for gain in _gains(tasks, case)]) for case in ends]
    effects: dict[str, Any] = {
        "effect_blocks": float(blocks[0].mean() - blocks[1].mean()),
        "effect_points": float(points[0].mean() - points[1].mean()),
    }
    if min(map(len, blocks)) > 1:
        effects |= {
            "interval": inference.difference_interval(blocks[0], blocks[1]),
            "effect_points_interval": inference.difference_interval(points[0], points[1]),
            "interval_over": "tasks and seeds",
        }
    elif all(task in draws for task in tasks):
        rng = np.random.default_rng(0)  # seeds of different tasks have nothing in common
        drawn = [
            [[rng.permutation(draws[task][kind]) for task, each in tasks.items() if each.case == case] for case in ends]
            for kind in (0, 1)
        ]
        low_high = [_middle(np.mean(last, axis=0) - np.mean(first, axis=0)) for last, first in drawn]
        effects |= {"interval": low_high[0], "effect_points_interval": low_high[1], "interval_over": "seeds"}
    return effects


def _to_decide(n: int, z: float, intervals: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """Return how many more tasks than these n would decide with POWER, if the order stays as clear as it was seen.

    Normal approximation: the order's z grows with the square root of the number of tasks, and has to reach
    z(1 - ALPHA) + z(POWER) (Noether 1987). An estimate from one sweep, as uncertain as its effect.
    """
    wide = sum(low < high for low, high in intervals.values())
    sharper = f"; more seeds would sharpen {wide} of {len(intervals)} kept depths" if wide else ""
    if not intervals:
        sharper = "; with fewer than three seeds, how sure the kept depths are is not known"
    need = float(stats.norm.isf(ALPHA) + stats.norm.ppf(POWER))
    if abs(z) < need * math.sqrt(n / 1000):
        return {"to_decide": "the order seen is so weak that over 1000 tasks would be needed" + sharper}
    more = max(1, math.ceil(n * (need / z) ** 2) - n)
    answer = "supported" if z > 0 else "contradicted"
    words = f"about {more} more tasks, if the order stays as seen, for {answer} with {POWER:.0%} power{sharper}"
    return {"to_decide": words, "more_tasks": more}


def _p(value: float) -> str:
    return f"p = {value:.3f}" if value >= 0.001 else "p < 0.001"


def _order(cases: Sequence[str], groups: Sequence[Floats]) -> str:
    """Return in words how the mean kept depths lie, most to be kept first: "in the rule's order: ..."."""
    means = [float(group.mean()) for group in groups]
    shown = ", ".join(f"{case} {mean:.3g}" for case, mean in reversed(list(zip(cases, means, strict=True))))
    steps = np.diff(means)
    if not steps.any():
        return f"the same kept depth in every case: {shown}"
    tied = "" if steps.all() else ", with a tie"
    if (steps >= 0).all():
        return f"in the rule's order{tied}: {shown}"
    if (steps <= 0).all():
        return f"in the reverse of the rule's order{tied}: {shown}"
    return f"not in the rule's order: {shown}"
