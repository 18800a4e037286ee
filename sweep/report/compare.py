"""Two sweeps side by side: at every point that both have, what the second gains over the first, seed by seed."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from tabulate import tabulate

from sweep.errors import UserError
from sweep.plan.facts import Facts
from sweep.report import table
from sweep.report.answer import Row
from sweep.stats.tests import mean_interval
from sweep.stats.types import Floats

POINT = ["task", "pretrained", "freeze_depth"]
SAME = ["n_classes", "n_test", "n_blocks", "metric"]  # what must be the same where accuracies are compared
# What may differ and should be told; a case, a matched group and similar are of the analysis.
TOLD = [each.name for each in dataclasses.fields(Facts) if each.name not in (*POINT, *SAME, "case", "matched_group")]


class Pair(NamedTuple):
    """One point in both sweeps, at the seeds that both have. outcomes: (S, I), of the second less the first."""

    label: Row
    means: tuple[float, float]
    outcomes: Floats


def compare(names: tuple[str, str], first: pd.DataFrame, second: pd.DataFrame) -> str:
    """Return what the terminal shows of two tables, as table.collect() gives them.

    names: what the sweeps are called. raises: UserError where they have no point and seed in common.
    """
    for name, rows in zip(names, (first, second), strict=True):
        if lacking := {*POINT, *SAME, "job", "seed", "selected", "test_accuracy", "test_correct"} - set(rows.columns):
            raise UserError(f"{name}: its table has no {', '.join(sorted(lacking))}; give the folder of a sweep")
    varied = [name for name in table.variants(first) if name in table.variants(second)]
    keys = [*POINT, *varied]
    cells = [_cells(each, keys) for each in (first, second)]
    shared = [key for key in cells[0] if key in cells[1]]
    pairs, unlike = [], []
    for key in shared:
        label = _label(keys, key)
        found = _pair(label, cells[0][key], cells[1][key])
        if isinstance(found, str):
            unlike.append(f"Not comparable: {_words(label)}: {found}.")
        else:
            pairs.append(found)
    alone = [[_words(_label(keys, key)) for key in side if key not in shared] for side in cells]
    only = [f"Only in {name}: {_some(labels)}." for name, labels in zip(names, alone, strict=True) if labels]
    if not pairs:
        raise UserError(" ".join([f"{names[0]} and {names[1]}: no result to compare in both.", *unlike, *only]))
    shown = tabulate([_row(names, pair) for pair in pairs], headers="keys", disable_numparse=True)
    both = [pd.concat([of_side[key] for key in shared]) for of_side in cells]
    return "\n".join([shown, "", *_summary(names, pairs), *_differences(both[0], both[1]), *unlike, *only])


def _cells(rows: pd.DataFrame, keys: Sequence[str]) -> dict[tuple[str, ...], pd.DataFrame]:
    """Return the chosen members of every point that has a result."""
    chosen = rows[rows["selected"]]
    groups = chosen.groupby(list(keys), sort=False, dropna=False)
    return {tuple(str(value) for value in key): part for key, part in groups}


def _label(keys: Sequence[str], key: Sequence[str]) -> Row:
    named = dict(zip(keys, key, strict=True))
    weights = "pretrained" if named["pretrained"] == "True" else "random"
    label = {"task": named["task"], "weights": weights, "frozen": named["freeze_depth"]}
    return label | {name: value for name, value in named.items() if name not in POINT}


def _words(label: Row) -> str:
    first = f"{label['task']} {label['weights']} {label['frozen']}"
    return ", ".join([first, *(f"{name}={value}" for name, value in [*label.items()][3:])])


def _pair(label: Row, first: pd.DataFrame, second: pd.DataFrame) -> Pair | str:
    """Return the pair; what stands in the way of one."""
    for part, name in ((first, "the first"), (second, "the second")):
        if (count := len(part["job"].unique())) > 1:
            return f"{name} has {count} such points"
    for column in SAME:
        values = [part[column].dropna().unique().tolist() for part in (first, second)]
        if all(values) and values[0] != values[1]:
            return f"{column} is {_listed(values[0])} and {_listed(values[1])}"
    seeds = sorted(set(first["seed"]) & set(second["seed"]))
    if not seeds:
        return f"no seed in both ({_listed(sorted(first['seed']))} and {_listed(sorted(second['seed']))})"
    sides = [part.set_index("seed").loc[seeds].reset_index() for part in (first, second)]
    images = [table.outcomes(side) for side in sides]
    if images[0] is not None and images[1] is not None:
        outcomes = images[1] - images[0]
    else:
        accuracies = [side["test_accuracy"].to_numpy(float) for side in sides]
        outcomes = (accuracies[1] - accuracies[0])[:, None]
    return Pair(label, (float(sides[0]["test_accuracy"].mean()), float(sides[1]["test_accuracy"].mean())), outcomes)


def _row(names: tuple[str, str], pair: Pair) -> Row:
    mean, _, low, high = (100 * value for value in mean_interval(pair.outcomes))
    gain = f"{mean:+.1f}" + (f" [{low:+.1f}, {high:+.1f}]" if np.isfinite(low) else "")
    sides = {name: f"{100 * value:.1f}" for name, value in zip(names, pair.means, strict=True)}
    return {**pair.label, **sides, "difference": gain, "seeds": str(len(pair.outcomes))}


def _summary(names: tuple[str, str], pairs: Sequence[Pair]) -> list[str]:
    intervals = [mean_interval(pair.outcomes) for pair in pairs]
    better = sum(low > 0 for _, _, low, _ in intervals)
    worse = sum(high < 0 for _, _, _, high in intervals)
    over = "seeds and test images" if all(pair.outcomes.shape[1] > 1 for pair in pairs) else "seeds"
    mean = 100 * float(np.mean([each[0] for each in intervals]))
    lines = [
        f"Test accuracy in %; difference: {names[1]} less {names[0]} in points, paired by seed, and its 95 % interval"
        f" over {over}. Each point is judged by itself: of twenty, one can look different by luck.",
        f"{names[1]} is better at {better} and worse at {worse} of {len(pairs)} points; {mean:+.1f} in the mean.",
    ]
    if any(not np.isfinite(low) for _, _, low, _ in intervals):
        lines.append("One seed in both has no interval.")
    return lines


def _differences(first: pd.DataFrame, second: pd.DataFrame) -> list[str]:
    """Return in which settings the points that both have differ."""
    told = []
    for column in [*TOLD, "n_train", "lr_given", "device"]:
        if column not in first or column not in second:
            continue
        values = [sorted(map(str, part[column].dropna().unique())) for part in (first, second)]
        if values[0] != values[1]:
            told.append(f"{column} ({_listed(values[0])} and {_listed(values[1])})")
    return [f"They differ in {', '.join(told)}."] if told else ["Their recorded settings are the same."]


def _some(labels: Sequence[str], most: int = 12) -> str:
    more = f"; and {len(labels) - most} more" if len(labels) > most else ""
    return "; ".join(labels[:most]) + more


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values)) or "not recorded"
