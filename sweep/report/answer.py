"""What a verdict says in words and rows: what it says of the rule, what that rests on, and which depths are good."""

from collections.abc import Mapping
from fractions import Fraction

from sweep.stats.types import Choice, Decision, Interval, TaskEvidence

Row = dict[str, str]  # of a table that is shown: its columns' headings, and its cells


def rule(judged: Decision) -> str:
    """Return in a sentence what the verdict says of the rule; "" of one task or none, which it cannot be tested on."""
    if judged.decision == "untested" and len(judged.kept_depth) < 2:
        return ""
    return f"The rule of thumb: {judged.decision}; {judged.reason}."


def mark(judged: Decision, task: str, depth: int) -> str:
    """Return what is written behind an accuracy: whether the depth is to be kept, or good; "" of chance."""
    if task in judged.without_signal:
        return ""
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
    said = {name for line in lines for name, cell in line.items() if cell}
    return [{name: cell for name, cell in line.items() if name in said} for line in lines]


def _sureness(choice: Choice | None, depth: int) -> Row:
    """Return how sure it is that this depth is to be kept, what it is expected to lose, and what it costs."""
    names = ("good depths", "to keep, %", "expected loss", "training time", "margin / above chance, %")
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
