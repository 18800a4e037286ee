"""How large the difference between the cases is, whether there is none, and what would decide where neither is sure."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scipy import stats

from sweep.stats import tests
from sweep.stats.rule import by_unit
from sweep.stats.types import ALPHA, MARGIN, POWER, Choice, Interval, TaskEvidence


class Effect(NamedTuple):
    """How much more the last case keeps than the first: see Decision for the fields of these names."""

    effect_blocks: float
    effect_points: float
    interval: Interval | None = None
    effect_points_interval: Interval | None = None
    interval_over: str | None = None


def effect(tasks: Mapping[str, TaskEvidence], kept: Mapping[str, int], cases: Sequence[str]) -> Effect:
    """Return what the last of the cases keeps and gains, less the first; intervals over tasks where there are several.

    With one unit in one of the two cases, the interval of the gain is over seeds, and the blocks have none: what three
    seeds keep are three whole numbers.
    """
    ends = (cases[-1], cases[0])
    blocks = [by_unit(tasks, kept, case) for case in ends]
    points = [100 * by_unit(tasks, gains(tasks, -1), case) for case in ends]
    found = Effect(float(blocks[0].mean() - blocks[1].mean()), float(points[0].mean() - points[1].mean()))
    if min(map(len, blocks)) > 1:
        return found._replace(
            interval=tests.difference_interval(blocks[0], blocks[1]),
            effect_points_interval=tests.difference_interval(points[0], points[1]),
            interval_over="tasks and seeds",
        )
    half = _half_over_seeds(tasks, ends)
    if half is None:
        return found
    interval = found.effect_points - half, found.effect_points + half
    images = all(each.correct is not None for each in tasks.values() if each.case in ends)
    over = "seeds and test images" if images else "seeds"
    return found._replace(effect_points_interval=interval, interval_over=over)


def _half_over_seeds(tasks: Mapping[str, TaskEvidence], ends: Sequence[str]) -> float | None:
    """Return half the 95 % interval, over seeds and known images, of the gain of one case's tasks less the other's.

    Every task's seeds have a spread of their own (Satterthwaite 1946; with one task in each case, Welch's). None where
    a task has one seed, or none has a spread.
    """
    compared = {task: each for task, each in tasks.items() if each.case in ends}
    if min(each.n_seeds for each in compared.values()) < 2:
        return None
    parts = []
    for task, each in compared.items():
        weight = float(by_unit(tasks, {other: float(other == task) for other in tasks}, each.case).mean())
        outcomes = each.outcomes
        own = tests.parts_of_mean(100 * (outcomes[-1] - outcomes[0]))
        parts.append([part._replace(variance=weight**2 * part.variance) for part in own])
    half = math.hypot(*(tests.half_interval(kind) for kind in zip(*parts, strict=True)))
    return half if half > 1e-10 else None


def gains(tasks: Mapping[str, TaskEvidence], index: int) -> dict[str, float]:
    """Return, per task, the accuracy of the depth at this index less that of the shallowest."""
    return {task: float(each.curve[index] - each.curve[0]) for task, each in tasks.items()}


def equivalence(tasks: Mapping[str, TaskEvidence], cases: Sequence[str], margin: float = MARGIN) -> float:
    """Return the p-value that no two cases differ by margin or more in what any depth gains over the shallowest.

    All tests must reject, so that the largest p counts and needs no correction (intersection-union, Berger 1982).
    Where tasks differ in their depths, only the deepest is compared.
    """
    grids = {tuple(each.depths.tolist()) for each in tasks.values()}
    p_values = []
    for index in range(1, len(next(iter(grids)))) if len(grids) == 1 else (-1,):
        gained = gains(tasks, index)
        groups = [by_unit(tasks, gained, case) for case in cases]
        p_values += [
            tests.equivalence(first, second, margin) for row, first in enumerate(groups) for second in groups[row + 1 :]
        ]
    return max(p_values)


def to_decide(n: int, z: float, primaries: int, choices: Mapping[str, Choice]) -> tuple[str, int | None]:
    """Return in words how many more tasks than these n would decide with POWER, and that number where it is below 1000.

    z: how clear the order was seen.
    primaries: the tests that its p-value is corrected for, itself among them.
    choices: which depths are good, where that is known.

    Normal approximation: the order's z grows with the square root of the number of tasks, and has to reach
    z(1 - ALPHA / primaries) + z(POWER) (Noether 1987; the first step of Holm's correction). An estimate from one
    sweep, as uncertain as its effect.
    """
    unsure = sum(len(choice.good) > 1 for choice in choices.values())
    sharper = f"; more seeds would tell good depths apart on {unsure} of {len(choices)} tasks" if unsure else ""
    if not choices:
        sharper = "; with one seed, how sure the kept depths are is not known"
    need = float(stats.norm.isf(ALPHA / primaries) + stats.norm.ppf(POWER))
    if abs(z) < need * math.sqrt(n / 1000):
        return "the order seen is so weak that over 1000 tasks would be needed" + sharper, None
    more = max(1, math.ceil(n * (need / z) ** 2) - n)
    answer = "supported" if z > 0 else "contradicted"
    return f"about {more} more tasks, if the order stays as seen, for {answer} with {POWER:.0%} power{sharper}", more
