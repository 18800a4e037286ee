"""Which tests the tasks of a sweep allow, and their p-values, corrected.

The two primary tests, Holm-corrected together: the order of the cases (Jonckheere-Terpstra over tasks, or Page's L
where all tasks come in matched groups), which alone decides, and the slope of the kept share on measured similarity,
the one explanation of the order that is not confounded with how many images a task has, as the class count is. All
other tests are exploratory (Benjamini-Hochberg). p-values are one-sided in the rule's direction, and once more against
it: each of "supported" and "contradicted" is wrong in at most 5 % of the tables in which there is no order.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from scipy import stats

from sweep.stats import tests
from sweep.stats.regret import Regrets
from sweep.stats.rule import by_unit
from sweep.stats.tests import Trend
from sweep.stats.types import Floats, Interval, TaskEvidence, Test


class Hypothesis(NamedTuple):
    """One test, before it is corrected for the others.

    n: what was permuted, or whose signs were flipped.
    least_p: the smallest p-value that so few can give; only of tests that may decide.
    """

    name: str
    n: int
    trend: Trend
    least_p: float = 0.0
    effect: float | None = None
    interval: Interval | None = None
    effect_unit: str | None = None


class Tested(NamedTuple):
    """All tests, the deciding one first; its corrected p-values, and the smallest p that it could have given."""

    tests: list[Test]
    p_value: float
    p_value_reversed: float
    least_p: float


def all_tests(
    tasks: Mapping[str, TaskEvidence],
    kept: Mapping[str, int],
    cases: Sequence[str],
    regret: Regrets,
) -> Tested:
    """Return all tests that the tasks allow, the deciding one first, then the other primary, then the exploratory.

    kept: every task's kept depth.
    cases: those that the tasks have, in the rule's order.
    """
    # shares of the blocks are comparable across models; depths are not
    by_share = all(each.n_blocks for each in tasks.values())
    values = {task: each.share(kept[task]) if by_share else Fraction(kept[task]) for task, each in tasks.items()}
    shares = {task: each.share(kept[task]) for task, each in tasks.items()}
    order, paged = _order_of_cases(tasks, values, cases), _order_in_groups(tasks, values, cases)
    primary, exploratory = [order], []
    similarity = {task: each.similarity for task, each in tasks.items() if each.similarity is not None}
    slope = "Kendall tau-b, kept share on similarity"
    if paged and len(paged.cases) == len(cases) and all(each.matched_group is not None for each in tasks.values()):
        # all tasks are matched: order within groups is all that can be permuted
        primary = [paged.found, *_slope_in_groups(f"{slope}, in matched groups", tasks, shares, similarity)]
    else:
        exploratory += [paged.found] if paged else []
        primary += _slope(slope, shares, similarity)
    ratios = {
        task: math.log(each.n_classes / each.source_classes)
        for task, each in tasks.items()
        if each.n_classes and each.source_classes
    }
    exploratory += _slope("Kendall tau-b, kept share on fewer classes than the source", shares, ratios)
    exploratory += _class_contrast(tasks, kept)
    exploratory.append(_regret_saved(regret))
    return _corrected(primary, exploratory)


def _corrected(primary: Sequence[Hypothesis], exploratory: Sequence[Hypothesis]) -> Tested:
    rising = tests.holm([each.trend.p_rising for each in primary])
    falling = tests.holm([each.trend.p_falling for each in primary])
    others = stats.false_discovery_control([each.trend.p_rising for each in exploratory])
    found = [
        Test(
            name=each.name,
            role=role,
            statistic=each.trend.statistic,
            n=each.n,
            p_value=each.trend.p_rising,
            p_reversed=each.trend.p_falling,
            corrected=float(p),
            z=each.trend.z,
            effect=each.effect,
            interval=each.interval,
            effect_unit=each.effect_unit,
        )
        for role, hypotheses, corrected in (("primary", primary, rising), ("exploratory", exploratory, others))
        for each, p in zip(hypotheses, corrected, strict=True)
    ]
    return Tested(found, rising[0], falling[0], primary[0].least_p)


def _order_of_cases(
    tasks: Mapping[str, TaskEvidence], values: Mapping[str, Fraction], cases: Sequence[str]
) -> Hypothesis:
    groups = [by_unit(tasks, values, case) for case in cases]
    sizes = [len(group) for group in groups]
    name = "Jonckheere-Terpstra J, order of cases"
    return Hypothesis(name, sum(sizes), tests.jonckheere(groups), tests.smallest_p(sizes))


class _Paged(NamedTuple):
    found: Hypothesis
    cases: list[str]  # that were compared


def _order_in_groups(
    tasks: Mapping[str, TaskEvidence], values: Mapping[str, Fraction], cases: Sequence[str]
) -> _Paged | None:
    """Return Page's test over the matched groups that have two cases or more; None where there are not two of these.

    It compares the cases that all such groups share; several tasks of one group and case count as their mean.
    """
    groups: dict[str, dict[str, TaskEvidence]] = {}
    for task, each in tasks.items():
        if each.matched_group is not None:
            groups.setdefault(each.matched_group, {})[task] = each
    mixed = [members for members in groups.values() if len({each.case for each in members.values()}) > 1]
    shared = [case for case in cases if all(any(each.case == case for each in group.values()) for group in mixed)]
    if len(mixed) < 2 or len(shared) < 2:
        return None
    ranked = np.array([[by_unit(group, values, case)[0] for case in shared] for group in mixed])
    name = f"Page's L, order of {' < '.join(shared)} in matched groups"
    least = 1 / math.factorial(len(shared)) ** len(mixed)
    return _Paged(Hypothesis(name, len(mixed), tests.page(ranked), least), shared)


def _slope(name: str, shares: Mapping[str, Fraction], distance: Mapping[str, float]) -> list[Hypothesis]:
    """Return Kendall's test that the kept share rises as the distance falls; [] below four tasks or all the same."""
    far = np.array(list(distance.values()))
    share = np.array([float(shares[task]) for task in distance])
    if len(far) < 4 or np.ptp(far) == 0:
        return []
    trend = tests.kendall(-far, share)  # few distinct shares: as levels
    return [Hypothesis(name, len(far), _as_tau(trend, [(far, share)]))]


def _slope_in_groups(
    name: str, tasks: Mapping[str, TaskEvidence], shares: Mapping[str, Fraction], distance: Mapping[str, float]
) -> list[Hypothesis]:
    """Return the same test within matched groups; [] where no group has two distances, or one has too many tasks."""
    groups: dict[str | None, list[tuple[float, float]]] = {}
    for task, far in distance.items():
        groups.setdefault(tasks[task].matched_group, []).append((-far, float(shares[task])))
    pairs = [tuple(np.array(members).T) for members in groups.values() if len({far for far, _ in members}) > 1]
    sizes = [len(far) for far, _ in pairs]
    if not pairs or max(sizes) > tests.MOST_WITHIN:
        return []
    return [Hypothesis(name, sum(sizes), _as_tau(tests.kendall_within(pairs), pairs))]


def _as_tau(trend: Trend, groups: Sequence[tuple[Floats, Floats]]) -> Trend:
    """Return the trend with Kendall's tau-b in the place of the score S that is summed over these groups."""
    untied = [
        sum(np.sum(np.sign(np.subtract.outer(x, x)) != 0) / 2 for x in axis) for axis in zip(*groups, strict=True)
    ]
    return trend._replace(statistic=trend.statistic / math.sqrt(untied[0] * untied[1]) if all(untied) else 0.0)


def _class_contrast(tasks: Mapping[str, TaskEvidence], kept: Mapping[str, int]) -> list[Hypothesis]:
    """Return the test that the fewest classes keep more than the most of the same images; [] below two such groups."""
    groups: dict[str, list[tuple[int, int]]] = {}
    for task, each in tasks.items():
        if each.matched_group is not None and each.n_classes:
            groups.setdefault(each.matched_group, []).append((each.n_classes, kept[task]))
    contrasts = []
    for pairs in groups.values():
        counts = [count for count, _ in pairs]
        if min(counts) < max(counts):
            few, many = (np.mean([k for count, k in pairs if count == end]) for end in (min(counts), max(counts)))
            contrasts.append(float(few - many))
    if len(contrasts) < 2:
        return []
    name = "Sign-flip, kept depth of fewer classes less of more, same images"
    return [_sign_flip(name, np.array(contrasts), "blocks")]


def _regret_saved(regret: Regrets) -> Hypothesis:
    saved = np.array([(row["constant"] or 0.0) - (row["rule"] or 0.0) for row in regret.values()])
    return _sign_flip("Sign-flip, regret of one constant depth less the rule's", saved, "points")


def _sign_flip(name: str, differences: Floats, unit: str) -> Hypothesis:
    trend = tests.sign_flip(differences)
    return Hypothesis(
        name,
        len(differences),
        trend,
        effect=float(differences.mean()),
        interval=tests.bca(differences),
        effect_unit=unit,
    )
