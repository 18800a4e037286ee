"""What each way to choose a depth costs against the best depth."""

from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from sweep.stats.rule import rule_depth
from sweep.stats.types import Floats, TaskEvidence

Regrets = dict[str, dict[str, float | None]]  # by task, then by way to choose


def regrets(tasks: Mapping[str, TaskEvidence]) -> Regrets:
    """Return, per task, the accuracy points lost against its best depth by each way to choose a depth.

    The ways: rule; constant (one depth for all tasks, the best on the mean of the other tasks, of equals the deepest;
    depths are matched by their share of the blocks); depth 0; head only; and each score (of the depths that have one,
    that with the highest). The best depth is that of the same test means, so that noise adds to all regrets. None: that
    depth was not tried, there is no such score, or there is one task only.
    """
    lost = {task: 100 * (each.curve.max() - each.curve) for task, each in tasks.items()}  # (D,)
    constant = _constant_choices(tasks, lost)
    found: Regrets = {}
    for task, each in tasks.items():
        chosen: dict[str, int | None] = {
            "rule": int(np.flatnonzero(each.depths == rule_depth(each.case, each.depths))[0]),
            "constant": constant[task],
            "depth 0": 0 if each.depths[0] == 0 else None,
            "head only": len(each.depths) - 1 if each.depths[-1] == each.n_blocks else None,
        }
        chosen |= {name: _best_scored((each.scores or {}).get(name)) for name in _score_names(tasks)}
        found[task] = {way: None if index is None else float(lost[task][index]) for way, index in chosen.items()}
    return found


def mean_regrets(regret: Regrets) -> dict[str, float | None]:
    """Return the mean over tasks of each way; None where it applies to some tasks only, so that means compare."""
    ways = dict.fromkeys(way for row in regret.values() for way in row)
    found: dict[str, float | None] = {}
    for way in ways:
        values = [row[way] for row in regret.values()]
        numbers = [value for value in values if value is not None]
        found[way] = float(np.mean(numbers)) if len(numbers) == len(values) else None
    return found


def _score_names(tasks: Mapping[str, TaskEvidence]) -> list[str]:
    """Return the tasks' scores; corrected for the number of classes, one ranks a task's depths as before."""
    names = dict.fromkeys(name for each in tasks.values() for name in each.scores or {})
    return [name for name in names if not name.endswith("_corrected")]


def _best_scored(score: Floats | None) -> int | None:
    """Return the index of the highest score; images themselves have none, and of one depth alone nothing is chosen."""
    return int(np.nanargmax(score)) if score is not None and np.isfinite(score).sum() > 1 else None


def _constant_choices(tasks: Mapping[str, TaskEvidence], lost: Mapping[str, Floats]) -> dict[str, int | None]:
    """Return the index of the depth that is best on the mean of the other tasks; None where there are none."""
    shares = sorted({each.share(depth) for each in tasks.values() for depth in each.depths})
    at_share = {task: np.array([lost[task][_nearest(each, share)] for share in shares]) for task, each in tasks.items()}
    choices: dict[str, int | None] = {}
    for task, each in tasks.items():
        others = [at_share[other] for other in tasks if other != task]
        choices[task] = _nearest(each, shares[_lowest(np.mean(others, axis=0))]) if others else None
    return choices


def _lowest(lost: Floats) -> int:
    """Return the index of the least, of equals the last: the deepest is the cheapest."""
    return int(np.flatnonzero(lost <= lost.min() + 1e-9)[-1])


def _nearest(task: TaskEvidence, share: Fraction) -> int:
    """Return the index of the depth nearest to this share of the blocks, the shallower of two."""
    return int(np.argmin([float(abs(task.share(depth) - share)) for depth in task.depths]))
