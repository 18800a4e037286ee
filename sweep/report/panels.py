"""The pictures of report.html: a panel per task, or one of all tasks."""

from collections.abc import Callable, Iterable
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from sweep.report import content, costs, figures, similarity
from sweep.report.content import Content, Variant
from sweep.report.drawing import AXES, CLEAR, DEPTHS, MARKERS, STYLE, WITH_LEGEND, Panel, Tips, grid, panel, svg


def of(kind: str, said: Content, variant: Variant) -> list[Panel]:
    """Return the panels of this kind (accuracy, cost, memory, curves, scores, map) with something to show."""
    if kind == "map":
        return similarity.panels(said, variant)
    found = [_drawn(kind, said, variant, str(task)) for task in variant.summary["task"].unique()]
    return [panel for panel in found if panel]


_kept: dict[tuple[str, ...], Panel | None] = {}  # while a sweep runs, a point changes the panels of one task


def _drawn(kind: str, said: Content, variant: Variant, task: str) -> Panel | None:
    """Return the panel; the one that was drawn before of the same data, where there is one."""
    part = variant.summary[variant.summary["task"] == task]
    judged, each = variant.verdict, variant.tasks.get(task)
    shown: dict[str, Callable[[], object]] = {
        "accuracy": lambda: (part.to_csv(), judged.choices.get(task), judged.kept_depth.get(task)),
        "cost": lambda: part.to_csv(),
        "memory": lambda: (part.to_csv(), said.rows["device"].unique().tolist()),
        "curves": lambda: chosen_curves(said, variant, task).to_csv(),
        "scores": lambda: each and (each.depths.tolist(), {name: list(x) for name, x in (each.scores or {}).items()}),
    }
    draw: dict[str, Callable[[], Panel | None]] = {
        "accuracy": lambda: accuracy(variant, task),
        "cost": lambda: cost(variant, task),
        "memory": lambda: memory(said, variant, task),
        "curves": lambda: curves(said, variant, task),
        "scores": lambda: scores(variant, task),
    }
    key = (kind, variant.label, task, repr(shown[kind]()))
    if key not in _kept:
        for old in [each for each in _kept if each[:3] == key[:3]]:
            del _kept[old]
        _kept[key] = draw[kind]()
    return _kept[key]


def accuracy(variant: Variant, task: str) -> Panel | None:
    """Return test accuracy against frozen blocks, both arms, with the good depths."""
    part = variant.summary[(variant.summary["task"] == task) & variant.summary["mean"].notna()]
    if part.empty:
        return None
    with mpl.rc_context({**STYLE, "svg.hashsalt": f"accuracy {variant.label} {task}"}):
        figure, axis = panel(AXES)
        figures.draw_task(axis, variant, task)
        axis.set_title("")
        axis.set_ylabel("test accuracy, %")
        tips, words = Tips(), []
        for _, cell in part.iterrows():
            said = f"{_arm(cell)}, {cell['freeze_depth']} frozen: {_share(cell)}"
            tips.add(axis, cell["freeze_depth"], 100 * cell["mean"], said)
            words.append(said)
        case = str(part["case"].iloc[0]).replace("_", ", ")
        return Panel(f"{task} ({case})", f"Test accuracy in % of {task}. {'; '.join(words)}.", svg(figure, tips))


def cost(variant: Variant, task: str) -> Panel | None:
    """Return test accuracy against training time, with the Pareto front, and memory in the tooltips."""
    part = variant.summary[variant.summary["task"] == task]
    return _against(part, part["train_seconds"], "training time", "s", variant.label)


def memory(said: Content, variant: Variant, task: str) -> Panel | None:
    """Return test accuracy against peak memory, with the Pareto front; None of a CPU.

    There the peak is of the process: whichever points it trained before, later ones have at least theirs.
    """
    if said.rows["device"].astype(str).str.startswith("cpu").any():
        return None
    part = variant.summary[variant.summary["task"] == task]
    return _against(part, part["peak_memory_bytes"] / 2**20, "peak memory", "MiB", variant.label)


def _against(part: pd.DataFrame, spent: pd.Series, name: str, unit: str, label: str) -> Panel | None:
    """Return test accuracy against what was spent for it, with the Pareto front. label: the variant's."""
    known = part["mean"].notna() & spent.gt(0)
    part, spent = part[known], spent[known].astype(float)
    if part.empty:
        return None
    task = str(part["task"].iloc[0])
    with mpl.rc_context({**STYLE, "svg.hashsalt": f"{name} {label} {task}"}):
        figure, axis = panel(AXES)
        tips, words = Tips(), []
        best = costs.front(spent.tolist(), part["mean"].tolist())
        line = spent[best].sort_values()
        heights = 100 * part["mean"]
        axis.plot(line, heights[line.index], color="#e6550d", linewidth=1.2, drawstyle="steps-post", zorder=1)
        for is_pretrained, _, style in figures.ARMS:
            arm = part[part["pretrained"].astype(bool) == is_pretrained]
            plain = {**style, "linestyle": "none", "markersize": 7}
            half = np.nan_to_num(costs.half_shown(arm))
            axis.errorbar(spent[arm.index], 100 * arm["mean"], yerr=100 * half, elinewidth=0.7, **plain)
        for (_, cell), x, on_front in zip(part.iterrows(), spent.tolist(), best, strict=True):
            place = (x, 100 * cell["mean"])
            words.append(f"{_arm(cell)}, {cell['freeze_depth']} frozen: {_share(cell)} after {_spent(cell)}")
            words[-1] += " (front)" if on_front else ""
            tips.add(axis, *place, words[-1])
        _scale(axis, spent)
        axis.set_ylim(0, 102)
        _numbers(axis, zip(spent, heights, strict=True), part["freeze_depth"])
        axis.set_xlabel(f"{name} of one model, {unit}" if unit == "s" else f"{name}, {unit}")
        axis.set_ylabel("test accuracy, %")
        grid(axis)
        return Panel(task, f"Test accuracy against {name}, {task}. {'; '.join(words)}.", svg(figure, tips))


def _numbers(axis: Axes, places: Iterable[tuple[float, float]], numbers: Iterable[int]) -> None:
    """Write a number beside each place, at the first side that is clear of all else, or at the one that is clearest."""
    per_point = axis.figure.dpi / 72
    points = axis.transData.transform([*places]) / per_point  # in points, as offsets are
    taken = [*points]
    for point, number in zip(points, numbers, strict=True):
        sides = [(8, 8), (8, -8), (-8, 8), (-8, -8), (0, 11), (0, -11)]
        room = [min(np.abs(point + side - each).max() for each in taken) for side in sides]
        right, up = sides[next((place for place, free in enumerate(room) if free >= CLEAR), int(np.argmax(room)))]
        taken.append(point + np.array((right, up)))
        x, y = axis.transData.inverted().transform(point * per_point)
        middle: dict[str, Any] = {"textcoords": "offset points", "color": "#000000", "ha": "center", "va": "center"}
        axis.annotate(str(number), (x, y), (right, up), **middle)


def _scale(axis: Axes, spent: pd.Series) -> None:
    """Make the axis logarithmic where values differ much."""
    low, high = spent.min(), spent.max()
    if high > 8 * low:
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlim(low / 1.4, high * 1.5)
    else:
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.set_xlim(0, 1.12 * high)


def curves(said: Content, variant: Variant, task: str) -> Panel | None:
    """Return validation accuracy (else training loss) of the chosen models after every epoch, mean over seeds."""
    whole = chosen_curves(said, variant, task)
    if whole.empty:
        return None
    measured = "val_accuracy" if whole.get("val_accuracy", pd.Series(dtype=float)).notna().any() else "train_loss"
    factor, name = (100, "validation accuracy, %") if measured == "val_accuracy" else (1, "training loss")
    means = whole.groupby(["pretrained", "freeze_depth", "epoch"])[measured].mean().dropna() * factor
    if means.empty:
        return None
    depths = sorted(whole["freeze_depth"].unique().tolist())
    with mpl.rc_context({**STYLE, "svg.hashsalt": f"curves {variant.label} {task}"}):
        figure, axis = panel(WITH_LEGEND)
        tips, words = Tips(), []
        for (is_pretrained, depth), line in means.groupby(["pretrained", "freeze_depth"]):
            epochs, values = 1 + line.index.get_level_values("epoch").to_numpy(int), line.to_numpy(float)
            axis.plot(
                epochs, values, **_depth_style(depths.index(depth), len(depths), bool(is_pretrained), len(epochs))
            )
            arm = "pretrained" if is_pretrained else "random"
            words.append(f"{arm}, {depth} frozen: {values[-1]:.3g} after {epochs[-1]} epochs")
            tips.add(axis, epochs[-1], values[-1], words[-1])
        if factor == 100:
            axis.set_ylim(0, 102)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axis.set_xlim(0.5, 0.5 + means.index.get_level_values("epoch").max() + 1)
        axis.set_xlabel("epoch")
        axis.set_ylabel(name)
        grid(axis)
        styles = [_depth_style(number, len(depths), True, 1) for number in range(len(depths))]
        handles = [axis.plot([], [], **style, label=str(depth))[0] for style, depth in zip(styles, depths, strict=True)]
        axis.legend(handles=handles, title="frozen", loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False)
        return Panel(task, f"{name.capitalize()} by epoch, {task}. {'; '.join(words)}.", svg(figure, tips))


def chosen_curves(said: Content, variant: Variant, task: str) -> pd.DataFrame:
    """Return the epochs of the chosen members of one task and variant."""
    rows = said.rows.loc[said.rows["selected"] & said.rows["job"].isin(variant.jobs), ["job", "seed", "lr"]]
    of_task = said.curves[said.curves["task"].astype(str) == task]
    kinds = {"job": str, "seed": float, "lr": float}  # a table without rows has no types of its own
    return of_task.astype(kinds).merge(rows.astype(kinds), on=list(kinds))


def _depth_style(number: int, count: int, pretrained: bool, epochs: int) -> dict[str, Any]:
    colour = DEPTHS[round(number * (len(DEPTHS) - 1) / max(1, count - 1))]
    return {
        "color": colour, "marker": MARKERS[number % len(MARKERS)], "markersize": 5, "linewidth": 1.4,
        "linestyle": "-" if pretrained else "--", "mfc": colour if pretrained else "#ffffff",
        "markevery": max(1, epochs // 6),
    }  # fmt: skip


def scores(variant: Variant, task: str) -> Panel | None:
    """Return the transferability scores of every depth, each scaled to 0..1."""
    each = variant.tasks.get(task)
    drawn = figures.score_curves(each) if each else {}
    if each is None or not drawn:
        return None
    with mpl.rc_context({**STYLE, "svg.hashsalt": f"scores {variant.label} {task}"}):
        figure, axis = panel(WITH_LEGEND)
        tips, words = Tips(), []
        figures.draw_scores(axis, variant, each)
        axis.set_prop_cycle(None)
        for number, line in enumerate(axis.get_lines()):
            style = _depth_style(number, len(axis.get_lines()), True, 1)
            line.set(color=style["color"], marker=style["marker"])
            name, values = str(line.get_label()), np.asarray(line.get_ydata(), float)
            best = int(each.depths[np.nanargmax(values)])
            words.append(f"{name} is highest at {best} frozen")
        for name in [str(line.get_label()) for line in axis.get_lines()]:
            for depth, value, shown in zip(each.depths, drawn[name], figures.scaled(drawn[name]), strict=True):
                if np.isfinite(shown):
                    tips.add(axis, depth, shown, f"{name}, {depth} frozen: {value:.4g}")
        axis.set_ylabel("score, min-max")
        grid(axis)
        axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), frameon=False, handlelength=1.2)
        alt = f"Transferability scores of {task}, each from 0 to 1. {'; '.join(words)}."
        return Panel(task, alt, svg(figure, tips))


def _arm(cell: pd.Series) -> str:
    return "pretrained" if cell["pretrained"] else "random"


def _share(cell: pd.Series) -> str:
    return f"{content.accuracy(cell)} %"


def _spent(cell: pd.Series) -> str:
    memory = cell["peak_memory_bytes"]
    return costs.duration(cell["train_seconds"]) + (f", {memory / 2**20:.0f} MiB" if np.isfinite(memory) else "")
