"""What each depth costs: training time and memory beside accuracy, and which are worth their cost. Pure pandas."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sweep.report.answer import Row
from sweep.stats.types import Decision

NOISE = 1.1  # times what a training took, which another of the same kind may take


def plain_words(judged: Decision, summary: pd.DataFrame) -> list[str]:
    """Return the answer, a line per task: which depth to keep, which may be as good, what each costs."""
    if not judged.kept_depth:
        return ["No depth can be compared."]
    arm = summary[summary["pretrained"].astype(bool)]
    cells = {(str(row["task"]), int(row["freeze_depth"])): row for _, row in arm.iterrows()}
    lines = []
    for task, kept in judged.kept_depth.items():
        if task in judged.without_signal:
            best = cells[task, kept]
            lines.append(
                f"{task}: near chance at every depth ({kept} of {best['n_blocks']} frozen: {_cost(best)}); none can be"
                " chosen."
            )
            continue
        if sum(name == task for name, _ in cells) < 2:
            lines.append(f"{task}: one depth, {kept}, was tried ({_cost(cells[task, kept])}): none to compare it with.")
            continue
        blocks = cells[task, kept]["n_blocks"]
        line = f"{task}: keep {kept} of {blocks} blocks frozen ({_cost(cells[task, kept])})."
        choice = judged.choices.get(task)
        others = [depth for depth in choice.good if depth != kept] if choice else []
        if choice and others:
            likely = dict(zip(choice.depths, choice.likely, strict=True))
            named = [f"{depth} ({chance(likely[depth])} likely; {_cost(cells[task, depth])})" for depth in others]
            line += f" May be as good: {', '.join(named)}."
        elif choice:
            line += " No other depth that was tried may be as good."
        lines.append(line)
    return lines


def chance(share: float) -> str:
    """Return a probability in whole %, as it is read.

    >>> chance(0.634), chance(0.004)
    ('63 %', 'under 1 %')
    """
    return f"{100 * share:.0f} %" if share >= 0.005 else "under 1 %"


def _cost(cell: Any) -> str:
    validated = _if_known(percent(cell["val_mean"]), "validation {} %")
    trained = _if_known(duration(cell["train_seconds"]), "{} to train")
    return ", ".join([f"test {100 * cell['mean']:.1f} %", *validated, *trained])


def half_shown(cells: Any) -> Any:
    """Return half of what is drawn through the mean of each cell: of its interval; of two seeds, from one to the other.

    An interval over two seeds is wide beyond use: their values say more.
    """
    return np.where(cells["n"] == 2, cells["std"] / np.sqrt(2), cells["high"] - cells["mean"])[()]


def percent(share: float) -> str:
    """Return a share in %, to a tenth; "" for none.

    >>> percent(0.8664), percent(float("nan"))
    ('86.6', '')
    """
    return f"{100 * share:.1f}" if np.isfinite(share) else ""


def _if_known(value: str, sentence: str) -> list[str]:
    return [sentence.format(value)] if value else []


def duration(seconds: float) -> str:
    """Return a time as it is read; "" for none.

    >>> duration(0.0421), duration(9.96), duration(75), duration(5400), duration(float("nan"))
    ('0.042 s', '10 s', '75 s', '90 min', '')
    """
    if not np.isfinite(seconds):
        return ""
    if seconds >= 120:
        return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
    return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.2g} s"


def front(seconds: Sequence[float], accuracy: Sequence[float]) -> list[bool]:
    """Return which are on the Pareto front: none is as fast or faster and more accurate, or as accurate and faster.

    Times within NOISE of each other are equal.

    >>> front([1.0, 2.0, 3.0, 3.0, 1.97], [0.5, 0.7, 0.6, 0.7, 0.6])
    [True, True, False, False, False]
    """
    pairs = list(zip(seconds, accuracy, strict=True))

    def beaten(time: float, share: float) -> bool:
        return any((t <= NOISE * time and a > share) or (t < time and a >= share) for t, a in pairs)

    return [bool(np.isfinite(pair).all()) and not beaten(*pair) for pair in pairs]


def rows(summary: pd.DataFrame) -> list[Row]:
    """Return a row per cell whose training time is known: accuracy, time, memory, and whether it is on the front."""
    known = summary[summary["train_seconds"].notna() & summary["mean"].notna()]
    lines = []
    for task, part in known.groupby("task", sort=False):
        best = front(part["train_seconds"].tolist(), part["mean"].tolist())
        for (_, cell), on_front in zip(part.iterrows(), best, strict=True):
            memory = cell["peak_memory_bytes"]
            lines.append(
                {
                    "task": str(task),
                    "weights": "pretrained" if cell["pretrained"] else "random",
                    "frozen": f"{cell['freeze_depth']}/{cell['n_blocks']}",
                    "test accuracy, %": f"{100 * cell['mean']:.1f}",
                    "training time, s": f"{cell['train_seconds']:.3g}",
                    "peak memory, MiB": f"{memory / 2**20:.0f}" if np.isfinite(memory) else "",
                    "front": "front" if on_front else "",
                }
            )
    if not any(line["peak memory, MiB"] for line in lines):
        lines = [{key: cell for key, cell in line.items() if key != "peak memory, MiB"} for line in lines]
    return lines
