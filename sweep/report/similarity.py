"""The map of tasks: how far each is from its source, and how many classes it has of those that the source has."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from sweep.report.content import Content, Variant
from sweep.report.drawing import DEPTHS, MARKERS, STYLE, Panel, Tips, grid, panel, svg
from sweep.stats.types import CASES, TaskEvidence

CAPTION = (
    "Each point is a task. To the right its images are less like the source's (0: the source's own other half, 1: its"
    " pixels shuffled; similar is below 0.5, bars are 95 % intervals); upwards it has more classes. Numbers are the"
    " blocks to keep: the rule of thumb says most at the lower left, fewer at the upper left, fewest at the right."
)
PLACE = (0.16, 0.155, 0.82, 0.75)  # of the axes, below their legend; see drawing.AXES
BORDER = 0.5  # of similar and dissimilar


def panels(said: Content, variant: Variant) -> list[Panel]:
    """Return one panel of all tasks whose distance to the source is known; [] of fewer than two."""
    tasks = {name: each for name, each in variant.tasks.items() if each.similarity is not None and each.source_classes}
    kept = variant.verdict.kept_depth
    if len(tasks) < 2:
        return []
    low, high = (_limits(said.rows[said.rows["job"].isin(variant.jobs)], name) for name in ("low", "high"))
    with mpl.rc_context({**STYLE, "svg.hashsalt": f"map {variant.label}"}):
        figure, axis = panel(PLACE)
        tips, words = Tips(), []
        for name, each in tasks.items():
            x, y = float(each.similarity or 0), _times(each)
            depth = kept.get(name)
            style = _style(each.case)
            ends = [[x - low.get(name, x)], [high.get(name, x) - x]]
            axis.errorbar([x], [y], xerr=np.abs(ends), elinewidth=0.7, **style, label=each.case.replace("_", ", "))
            words.append(f"{name}: distance {x:.2f}, {each.n_classes} classes, {each.source_classes} of the source")
            words[-1] += "" if depth is None else f", keep {depth} of {each.n_blocks}"
            tips.add(axis, x, y, words[-1])
            if depth is not None:
                axis.annotate(str(depth), (x, y), color="#ffffff", ha="center", va="center", fontsize=8, zorder=5)
        axis.axvline(BORDER, color="#7f7f7f", linestyle=":", linewidth=1)
        axis.axhline(1, color="#7f7f7f", linestyle=":", linewidth=1)
        axis.set_yscale("log", base=2)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        bottom, top = (limit(map(_times, tasks.values())) for limit in (min, max))
        axis.set_ylim(min(bottom, 1) / 1.7, max(top, 1) * 1.9)
        axis.set_xlim(min([0.0, *low.values()]), max([1.05, *high.values()]))
        axis.set_xlabel("distance to the source")
        axis.set_ylabel("classes, times the source's")
        grid(axis)
        handles = dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
        place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.45, 1.0), "ncols": 4, "markerscale": 0.7}
        axis.legend(handles.values(), handles.keys(), frameon=False, columnspacing=1, handletextpad=0.3, **place)
        return [
            Panel("all tasks", f"Tasks by distance to the source and classes. {'; '.join(words)}.", svg(figure, tips))
        ]


def _times(task: TaskEvidence) -> float:
    return (task.n_classes or 1) / (task.source_classes or 1)


def _limits(rows: pd.DataFrame, end: str) -> dict[str, float]:
    """Return an end of the distance's interval by task."""
    known = rows.dropna(subset=[f"similarity_{end}"])
    return {str(task): float(part[f"similarity_{end}"].iloc[0]) for task, part in known.groupby("task", sort=False)}


def _style(case: str) -> dict[str, Any]:
    """Return how a case's points look; of an unknown one, grey."""
    number = CASES.index(case) if case in CASES else 3
    colour = (DEPTHS[0], DEPTHS[2], DEPTHS[4], "#7f7f7f")[number]
    return {"color": colour, "marker": MARKERS[number], "markersize": 11, "linestyle": "none", "mec": "#ffffff"}
