"""One picture per variant: test accuracy against frozen blocks, and the transferability scores below it."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sweep import paths
from sweep.report.content import Variant
from sweep.report.costs import half_shown
from sweep.stats.types import Floats, TaskEvidence

NAME = "accuracy_by_depth"
MANY = 9  # tasks; of more, panels are smaller
MARKERS = "v^<>dPXph8"
# Told apart by line, marker and fill, so that colour is not needed.
ARMS: Sequence[tuple[bool, str, Mapping[str, Any]]] = (
    (True, "pretrained", {"color": "#08519c", "marker": "o", "linestyle": "-"}),
    (False, "random weights", {"color": "#7f7f7f", "marker": "s", "linestyle": "--", "mfc": "white"}),
)


FORMATS: Mapping[str, dict[str, Any]] = {  # and what keeps the date out of the files
    "png": {"dpi": 150, "metadata": {"Software": None}},
    "svg": {"metadata": {"Date": None}},
    "pdf": {"metadata": {"CreationDate": None}},
}


def write(folder: Path, variants: Sequence[Variant], formats: Sequence[str] = ("png",)) -> dict[str, str]:
    """Write one figure per variant and remove those of an earlier sweep; return the PNG files' names by label.

    formats: of FORMATS; png is among them always, since report.md shows it.
    """
    names, written = {}, set()
    for variant in variants:
        plain = "".join(char if char.isalnum() or char in "=._-" else "_" for char in variant.label)
        name = NAME + (f"-{plain}" if plain else "")
        names[variant.label] = f"{name}.png"
        with mpl.rc_context({"svg.hashsalt": name}):
            figure = draw(variant)
            for kind in dict.fromkeys(("png", *formats)):
                buffer = io.BytesIO()
                figure.savefig(buffer, format=kind, **FORMATS[kind])
                paths.write_bytes(folder / f"{name}.{kind}", buffer.getvalue())
                written.add(f"{name}.{kind}")
    for old in drawn(folder):
        if old.name not in written:
            old.unlink()
    return names


def drawn(folder: Path) -> list[Path]:
    """Return the files of figures that a report has left there."""
    return [path for kind in FORMATS for path in folder.glob(f"{NAME}*.{kind}")]


def draw(variant: Variant) -> Figure:
    """Return the figure: a panel per task, three in a row, each row of panels with its scores below it.

    Many tasks are small multiples: five smaller panels in a row, so that a page holds them and they can be read.
    """
    tasks = [str(task) for task in variant.summary["task"].unique()]
    scored = any(score_curves(each) for each in variant.tasks.values())
    many = len(tasks) > MANY
    columns = 5 if many else min(3, len(tasks))
    lines = -(-len(tasks) // columns)
    width, height = (2.4, 2.3) if many else (3.3, 3.1)  # inches of a panel
    figure = Figure(figsize=(1.2 + width * columns, 0.8 + height * lines * (1 + scored)), layout="constrained")
    panels = figure.subplots(lines * (1 + scored), columns, squeeze=False, sharey="row")
    for axis in panels.flat:
        axis.set_axis_off()
    if scored:
        _draw_scores(panels[1::2], variant, tasks)
    for axis, task in zip(panels[:: 1 + scored].flat, tasks, strict=False):
        draw_task(axis, variant, task)
    for axis in panels[:: 1 + scored, 0]:
        axis.set_ylabel("test accuracy, %")
    handles = {
        label: handle for axis in panels.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    if handles:
        fit = {"ncols": 2 if columns == 1 else 4, "frameon": False, "fontsize": 9}  # one panel is too narrow for four
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", **fit)
    if variant.label:
        figure.suptitle(variant.label, fontsize=10, parse_math=False)
    return figure


def draw_task(axis: Axes, variant: Variant, task: str) -> None:
    """Draw one task's curves, its good depths and the level of chance."""
    part = variant.summary[variant.summary["task"] == task]
    pretrained = part["pretrained"].astype(bool)
    blocks = part["n_blocks"].iloc[0]
    axis.set_axis_on()
    for is_pretrained, label, style in ARMS:
        arm = part[pretrained == is_pretrained]
        if arm["mean"].notna().any():
            half = np.nan_to_num(half_shown(arm))
            axis.errorbar(arm["freeze_depth"], 100 * arm["mean"], yerr=100 * half, label=label, capsize=3, **style)
    choice = variant.verdict.choices.get(task)
    if choice and len(choice.good) > 1 and task not in variant.verdict.without_signal:
        here = part[pretrained & part["freeze_depth"].isin(choice.good)]
        ring: dict[str, Any] = {"mfc": "none", "mec": "#e6550d", "markersize": 14, "markeredgewidth": 1.5, "zorder": 4}
        axis.plot(here["freeze_depth"], 100 * here["mean"], "o", label="good depths", **ring)
    if task in variant.verdict.kept_depth and task not in variant.verdict.without_signal:
        here = part[pretrained & (part["freeze_depth"] == variant.verdict.kept_depth[task])]
        style = {"color": "black", "markersize": 15, "zorder": 5}
        axis.plot(here["freeze_depth"], 100 * here["mean"], "*", label="depth to keep", **style)
    _title(axis, f"{task}\n({str(part['case'].iloc[0]).replace('_', ', ')})")
    _depth_axis(axis, sorted(part["freeze_depth"].unique()), int(blocks), str(blocks))
    axis.axhline(100 / part["n_classes"].iloc[0], color="black", linestyle=":", linewidth=1, label="chance")
    axis.set_ylim(0, 102)
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)


def _title(axis: Axes, text: str) -> None:
    axis.set_title(text, fontsize=10, parse_math=False)  # a task's name may have a $ in it


def _depth_axis(axis: Axes, depths: Sequence[int], end: int, blocks: str) -> None:
    axis.set_xticks(depths)
    axis.set_xlim(-0.4, end + 0.4)
    axis.set_xlabel(f"frozen blocks (of {blocks})")


def score_curves(task: TaskEvidence) -> dict[str, Floats]:
    """Return the scores that make a curve: of one depth, or of two scaled to 0 and 1, there is nothing to see."""
    return {name: score for name, score in (task.scores or {}).items() if np.isfinite(score).sum() > 2}


def _draw_scores(panels: Any, variant: Variant, tasks: Sequence[str]) -> None:
    for axis, task in zip(panels.flat, tasks, strict=False):
        each = variant.tasks.get(task)
        if each is not None and score_curves(each):
            axis.set_axis_on()
            draw_scores(axis, variant, each)
            _title(axis, f"{task}: scores")
    for axis in panels[:, 0]:
        axis.set_ylabel("score, min-max")


def draw_scores(axis: Axes, variant: Variant, task: TaskEvidence) -> None:
    """Draw a task's transferability scores over depth, each scaled to 0..1: only where it peaks can be compared.

    Of a score that was also corrected for the number of classes, only that is drawn.
    """
    named = list(dict.fromkeys(name for each in variant.tasks.values() for name in each.scores or {}))
    names = [name for name in named if f"{name}_corrected" not in named]
    curves = score_curves(task)
    for index, name in enumerate(names):
        if name in curves:
            marker = MARKERS[index % len(MARKERS)]
            axis.plot(task.depths, scaled(curves[name]), marker=marker, markersize=5, linewidth=1, label=name)
    _depth_axis(axis, task.depths.tolist(), task.n_blocks or int(task.depths[-1]), str(task.n_blocks))
    axis.set_ylim(-0.05, 1.05)


def scaled(score: Floats) -> Floats:
    """Return the score from 0 to 1; 0.5 where it is the same everywhere."""
    low, high = np.nanmin(score), np.nanmax(score)
    result: Floats = (score - low) / (high - low) if high > low else np.where(np.isfinite(score), 0.5, np.nan)
    return result
