"""Tables to evidence: what the statistics are given of every task. No torch."""

from typing import Any

import numpy as np
import pandas as pd

from sweep.report.table import outcomes
from sweep.stats.types import Floats, TaskEvidence


def evidence(table: pd.DataFrame) -> dict[str, TaskEvidence]:
    """Return, per task, what its pretrained arm shows: test accuracies (depths, seeds), NaN where missing, and more."""
    arm = table[table["pretrained"].astype(bool)]
    found = {}
    for task, rows in arm.groupby("task", sort=False):
        grid = rows.assign(accuracy=rows["test_accuracy"].where(rows["selected"]).astype(float)).pivot_table(
            index="freeze_depth", columns="seed", values="accuracy", aggfunc="max", dropna=False
        )
        matched_group, similarity = (_only(rows, column) for column in ("matched_group", "similarity"))
        found[str(task)] = TaskEvidence(
            case=str(rows["case"].iloc[0]),
            depths=grid.index.to_numpy(int),
            accuracy=grid.to_numpy(float),
            matched_group=None if matched_group is None else str(matched_group),
            similarity=None if similarity is None else float(similarity),
            n_classes=int(rows["n_classes"].iloc[0]),
            source_classes=int(rows["source_classes"].iloc[0]),
            n_blocks=int(rows["n_blocks"].iloc[0]),
            rates=tuple(_rates(part) for _, part in rows.groupby("freeze_depth")),
            scores={
                column.removeprefix("score_"): rows.groupby("freeze_depth")[column].mean().to_numpy(float)
                for column in score_columns(rows)
            },
            correct=_cube(rows, grid),
            seconds=_seconds(rows),
            which=str(rows["which"].iloc[0]),
        )
    return found


def _cube(rows: pd.DataFrame, grid: pd.DataFrame) -> Floats | None:
    """Return (D, S, I) for the grid of depths and seeds, 0 where a seed has no result; None if it is not known."""
    chosen = rows[rows["selected"]]
    right = outcomes(chosen)
    if right is None:
        return None
    cube = np.zeros((*grid.shape, right.shape[1]))
    places = (pd.Index(chosen["freeze_depth"]), pd.Index(chosen["seed"]))
    cube[grid.index.get_indexer(places[0]), grid.columns.get_indexer(places[1])] = right
    return cube


def _seconds(rows: pd.DataFrame) -> Floats | None:
    """Return (D,): the training time of a chosen member at every depth, mean over seeds; None if one is not known."""
    taken = rows["train_seconds"].where(rows["selected"]).astype(float).groupby(rows["freeze_depth"]).mean()
    return np.asarray(taken, np.float64) if taken.gt(0).all() else None


def _rates(rows: pd.DataFrame) -> tuple[float, ...]:
    """Return the learning rates that were given; in version 0.1, all that were tried were. Each seed may try more."""
    given = rows["lr_given"].dropna().unique()
    named = {float(rate) for each in given for rate in each.split()}
    return tuple(sorted(named or set(map(float, rows["lr"].dropna().unique()))))


def score_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of transferability scores that hold a value."""
    named = [str(column) for column in table.columns if str(column).startswith("score_")]
    return [column for column in named if table[column].notna().any()]


def _only(rows: pd.DataFrame, column: str) -> Any:
    """Return the column's first value; None if there is no such column or no value."""
    values = rows[column].dropna().tolist() if column in rows else []
    return values[0] if values else None
