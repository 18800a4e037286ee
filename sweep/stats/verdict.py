"""The verdict on the rule of thumb: evidence in, decision out.

The unit of inference is the task; seeds are repeats within a task. The order of the cases alone decides; see
hypotheses.py for the tests and rule.py for the rule.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from sweep.stats import depths, effects, tests
from sweep.stats.hypotheses import Tested, all_tests
from sweep.stats.regret import mean_regrets, regrets
from sweep.stats.rule import by_unit, kept_depth
from sweep.stats.types import ALPHA, CASES, Decision, Evidence, Floats, TaskEvidence

Tasks = Mapping[str, TaskEvidence]


def decide(evidence: Evidence) -> Decision:
    """Return the verdict on the rule from the pretrained arm of every task; deterministic.

    With anything missing there is no answer, unless the evidence allows it: then seeds without a result at some depth
    and tasks without a whole seed are left out, and the reason says so.
    """
    other = next((each.which for each in evidence.tasks.values() if each.which != "prefix"), None)
    if other:
        return Decision("untested", f"the rule is about the first blocks, and this sweep froze others ({other})")
    whole = _whole(evidence)
    choices = {task: depths.choose(each, evidence.margin) for task, each in whole.items()}
    known = {task: each for task, each in evidence.tasks.items() if each.case in CASES and len(each.depths) > 1}
    tasks = {task: whole[task] for task in known if task in whole and depths.has_signal(whole[task])}
    silent = [task for task in known if task in whole and task not in tasks]
    others = [task for task, each in whole.items() if task not in known and len(each.depths) > 1]
    seen = Decision(
        "untested",
        "",
        kept_depth={task: kept_depth(each.depths, each.curve, evidence.margin) for task, each in whole.items()},
        choices={task: found for task, found in choices.items() if found},
        n_tasks=len(known),
        n_seeds=_seeds(known),
        margin=evidence.margin,
        missing=_missing(evidence),
        without_signal=silent + [task for task in others if not depths.has_signal(whole[task])],
    )
    caveat = f"without {', '.join(silent)}, near chance at every depth: " if silent else ""
    if seen.missing:
        if not evidence.allow_missing:
            reason = f"{len(seen.missing)} of the sweep's results are missing, so no verdict is drawn"
            reason += " (study.allow_missing=true draws it from the rest)"
            return replace(seen, decision="incomplete", reason=reason)
        caveat += _caveat(seen.missing, len(known), len(tasks) + len(silent))
    seen = replace(seen, n_tasks=len(tasks), n_seeds=_seeds(tasks))
    if obstacle := _unequal_rates(tasks) or _one_case(tasks, evidence.tasks):
        return replace(seen, reason=caveat + obstacle)
    return _compare(seen, tasks, caveat)


def _whole(evidence: Evidence) -> dict[str, TaskEvidence]:
    """Return the tasks with an accuracy of every seed at every depth.

    Where results may be missing, a task is cut to the seeds that have them all: a seed's depths belong together.
    """
    tasks = dict(evidence.tasks)
    if evidence.allow_missing:
        for task, each in tasks.items():
            seeds = np.isfinite(each.accuracy).all(axis=0)
            correct = None if each.correct is None else each.correct[:, seeds]
            tasks[task] = replace(each, accuracy=each.accuracy[:, seeds], correct=correct)
    return {task: each for task, each in tasks.items() if each.complete}


def _seeds(tasks: Tasks) -> int:
    return min((each.n_seeds for each in tasks.values()), default=0)


def _missing(evidence: Evidence) -> list[str]:
    return list(evidence.missing) or [
        f"{task}: no accuracy at depth {depth}"
        for task, each in evidence.tasks.items()
        for depth, row in zip(each.depths, each.accuracy, strict=True)
        if not (row.size and np.isfinite(row).all())
    ]


def _caveat(missing: Sequence[str], tasks: int, left: int) -> str:
    dropped = f", {tasks - left} of {tasks} tasks left out" if left < tasks else ""
    return f"from an incomplete grid ({len(missing)} results missing{dropped}): "


def _unequal_rates(tasks: Tasks) -> str | None:
    """Return in words which task's depths were not tuned alike; grids that were not recorded are not compared."""
    for task, each in tasks.items():
        pairs = [(depth, rates) for depth, rates in zip(each.depths, each.rates or (), strict=False) if rates]
        for depth, rates in pairs:
            if rates != pairs[0][1]:
                first, other = (", ".join(f"{rate:g}" for rate in grid) for grid in (pairs[0][1], rates))
                unequal = f"learning rates {first} at depth {pairs[0][0]}, but {other} at depth {depth}"
                return f"{task}: {unequal}; give every depth the same optimizer.lr"
    return None


def _one_case(tasks: Tasks, swept: Tasks) -> str | None:
    """Return in words that these tasks, those that can be compared of all that were swept, are not of two cases."""
    cases = _cases(tasks)
    if len(cases) > 1:
        return None
    has = f"tasks of {cases[0]} only" if cases else "no task of known case with pretrained=true at two depths"
    advice = "sweep pretrained=true over two depths or more, on tasks of two cases or more"
    if any(each.case not in CASES for each in swept.values()):
        advice += " (data.case=... declares a task's case)"
    return f"the rule compares cases, and this sweep has {has}; {advice}"


def _cases(tasks: Tasks) -> list[str]:
    return [case for case in CASES if any(each.case == case for each in tasks.values())]


def _compare(seen: Decision, tasks: Tasks, caveat: str) -> Decision:
    """Return the decision from tasks of two cases or more, all of them whole and tuned alike."""
    cases = _cases(tasks)
    regret = regrets(tasks)
    tested = all_tests(tasks, seen.kept_depth, cases, regret)
    seen = replace(
        seen,
        regret=regret,
        mean_regret=mean_regrets(regret),
        tests=tested.tests,
        p_value=tested.p_value,
        p_value_reversed=tested.p_value_reversed,
        p_equivalence=effects.equivalence(tasks, cases, seen.margin),
        **effects.effect(tasks, seen.kept_depth, cases)._asdict(),
    )
    means = {case: float(by_unit(tasks, seen.kept_depth, case).mean()) for case in cases}
    return _conclude(seen, caveat + _order(means), tested, np.diff(list(means.values())))


def _conclude(seen: Decision, order: str, tested: Tested, steps: Floats) -> Decision:
    """Return the first answer that the p-values allow: for the rule, against it, no difference, or none.

    steps: from case to case, by how much the mean kept depth rises. A test may reject although one of them falls.
    """
    if tested.least_p > ALPHA:
        each = next(n for n in range(1, 99) if tests.smallest_p([n] * (len(steps) + 1)) <= ALPHA)
        least = f"the smallest p that {seen.n_tasks} tasks can give is {tested.least_p:.2f}"
        reason = f"{order}; too few tasks to test ({least})"
        advice = f"{each} tasks or more of each of the {len(steps) + 1} cases can be tested"
        return replace(seen, decision="descriptive", reason=reason, to_decide=advice)
    if tested.p_value <= ALPHA:
        partly = "" if (steps >= 0).all() else "partly "
        return replace(seen, decision=f"{partly}supported", reason=f"{order}; {_p(tested.p_value)}")
    if tested.p_value_reversed <= ALPHA:
        reason = f"{order}; {_p(tested.p_value_reversed)} for the reverse of the rule"
        partly = "" if (steps <= 0).all() else "partly "
        return replace(seen, decision=f"{partly}contradicted", reason=reason)
    if seen.p_equivalence is not None and seen.p_equivalence <= ALPHA:
        differ = f"at every depth the cases differ by less than {100 * seen.margin:g} accuracy points"
        return replace(seen, decision="equivalent", reason=f"{order}; {differ} (TOST, {_p(seen.p_equivalence)})")
    primaries = sum(each.role == "primary" for each in tested.tests)
    words, more = effects.to_decide(seen.n_tasks, tested.tests[0].z, primaries, seen.choices)
    reason = f"{order}; {_p(tested.p_value)}"
    return replace(seen, decision="inconclusive", reason=reason, to_decide=words, more_tasks=more)


def _p(value: float) -> str:
    return f"p = {value:.3f}" if value >= 0.001 else "p < 0.001"


def _order(means: dict[str, float]) -> str:
    """Return in words how the mean kept depths lie, most to be kept first: "in the rule's order: ..."."""
    shown = ", ".join(f"{case} {mean:.3g}" for case, mean in reversed(means.items()))
    steps = np.diff(list(means.values()))
    if not steps.any():
        return f"the same kept depth in every case: {shown}"
    tied = "" if steps.all() else ", with a tie"
    if (steps >= 0).all():
        return f"in the rule's order{tied}: {shown}"
    if (steps <= 0).all():
        return f"in the reverse of the rule's order{tied}: {shown}"
    return f"not in the rule's order: {shown}"
