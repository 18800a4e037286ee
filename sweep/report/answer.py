"""What a verdict says in words and rows: which depths are good, what to keep, and what that says of the rule."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

from sweep.stats.types import Choice, Decision, Interval, TaskEvidence

Row = dict[str, str]  # of a table that is shown: its columns' headings, and its cells


def sentences(judged: Decision) -> list[str]:
    """Return the verdict in a few sentences: what to keep, which depths are good, and what that says of the rule."""
    if not judged.kept_depth:
        return ["No depth can be compared.", _rule(judged)]
    margin = _points(judged)
    kept = ", ".join(f"{depth} on {task}" for task, depth in judged.kept_depth.items())
    lines = [f"Keep {kept}: the deepest of those tried whose mean test accuracy is within {margin} of the best."]
    if judged.choices:
        over = sorted({choice.over for choice in judged.choices.values()})
        good = "; ".join(
            f"{_listed(choice.good)} on {task}{_saved(choice, judged.kept_depth[task])}"
            for task, choice in judged.choices.items()
        )
        lines.append(f"Within {margin} of the best as far as {' or '.join(over)} can tell (95 %): {good}.")
    return [*lines, _rule(judged)]


def _rule(judged: Decision) -> str:
    return f"The rule of thumb: {judged.decision}; {judged.reason}."


def _points(judged: Decision) -> str:
    return f"{100 * judged.margin:g} point" + ("" if judged.margin == 0.01 else "s")


def _listed(depths: Sequence[int]) -> str:
    """Return the depths in words.

    >>> _listed([0, 2, 4])
    '0, 2 and 4'
    """
    *others, last = map(str, depths)
    return f"{', '.join(others)} and {last}" if others else f"{last} alone"


def _saved(choice: Choice, kept: int) -> str:
    """Return in words what the depth to keep saves against the slowest good one; "" if that is not much."""
    if choice.cost is None:
        return ""
    costs = dict(zip(choice.depths, choice.cost, strict=True))
    share = costs[kept] / max(costs[depth] for depth in choice.good)
    return f" ({kept} takes {cost(share)} of the time)" if share < 0.6 else ""


def mark(judged: Decision, task: str, depth: int) -> str:
    """Return what is written behind a depth's accuracy: the one to keep, or another good one."""
    if judged.kept_depth.get(task) == depth:
        return " keep"
    choice = judged.choices.get(task)
    return " good" if choice and depth in choice.good else ""


def findings(judged: Decision) -> list[str]:
    """Return what the answer rests on, a line each: the effect, the regrets, what would decide it."""
    lines = []
    if judged.effect_blocks is not None and judged.effect_points is not None:
        over = f" (95 % over {judged.interval_over})" if judged.interval_over else ""
        lines.append(
            f"Effect: {judged.effect_blocks:+.2g} blocks{_interval(judged.interval, '.2g')},"
            f" {judged.effect_points:+.1f} accuracy points{_interval(judged.effect_points_interval, '.1f')}{over};"
            f" {judged.n_tasks} tasks, {judged.n_seeds} seeds."
        )
    lost = [f"{way} {value:.1f}" for way, value in judged.mean_regret.items() if value is not None]
    if lost:
        lines.append(f"Accuracy points lost against the best depth, mean over tasks: {', '.join(lost)}.")
    if judged.to_decide:
        lines.append(f"What would decide: {judged.to_decide}.")
    return lines


def _interval(interval: Interval | None, style: str) -> str:
    return f" [{interval[0]:+{style}}, {interval[1]:+{style}}]" if interval else ""


def test_rows(judged: Decision) -> list[Row]:
    """Return a row per test; p-values one-sided, in the rule's direction."""
    rows = []
    for each in judged.tests:
        effect = ""
        if each.effect is not None:
            effect = f"{each.effect:+.2g} {each.effect_unit}{_interval(each.interval, '.2g')}"
        rows.append(
            {
                "test": each.name,
                "role": each.role,
                "n": str(each.n),
                "statistic": f"{each.statistic:.3g}",
                "effect": effect,
                "p": f"{each.p_value:.3f}",
                "p reversed": f"{each.p_reversed:.3f}",
                "p corrected": f"{each.corrected:.3f}",
            }
        )
    return rows


def kept_rows(judged: Decision, tasks: Mapping[str, TaskEvidence]) -> list[Row]:
    """Return a row per task: what to keep and how sure that is, and the regret of each way to choose a depth."""
    lines = []
    for task, depth in judged.kept_depth.items():
        each = tasks[task]
        line = {"task": task, "case": each.case, "keep": f"{depth}/{each.n_blocks}"}
        if judged.choices:
            line |= _sureness(judged.choices.get(task), depth)
        line |= {"classes": f"{each.n_classes}/{each.source_classes}"}
        if any(other.similarity is not None for other in tasks.values()):
            line |= {"distance": "" if each.similarity is None else f"{each.similarity:.3g}"}
        regret = judged.regret.get(task, {})
        lines.append(line | {f"lost: {way}": "" if x is None else f"{x:.1f}" for way, x in regret.items()})
    return lines


def _sureness(choice: Choice | None, depth: int) -> Row:
    """Return how sure it is that this depth is to be kept, what it is expected to lose, and what it costs."""
    names = ("good depths", "deepest good one, %", "expected loss", "training time", "margin / gain, %")
    if choice is None:
        return dict.fromkeys(names, "")
    here = choice.depths.index(depth)
    likely = [
        f"{each}: {100 * p:.0f}" for each, p in zip(choice.depths, choice.deepest_good, strict=True) if p >= 0.005
    ]
    cells = (
        ", ".join(map(str, choice.good)),
        ", ".join(likely),
        f"{choice.expected_loss[here]:.1f}",
        "" if choice.cost is None else cost(choice.cost[here]),
        "" if choice.margin_share is None else f"{100 * choice.margin_share:.1f}",
    )
    return dict(zip(names, cells, strict=True))


def cost(share: float) -> str:
    """Return a share of a time as a fraction that can be read.

    >>> cost(0.048), cost(0.61), cost(1.0)
    ('1/21', '3/5', '1')
    """
    return str(Fraction(1, round(1 / share)) if share < 0.3 else Fraction(share).limit_denominator(6))
