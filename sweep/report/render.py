"""Table, summary, figures and verdict from the records of one multirun. Needs no torch.

`python -m sweep.report outputs/<name>` makes all of it again.
"""

import argparse
import dataclasses
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from sweep.config import StudyConfig
from sweep.report import record, table
from sweep.stats import rule as verdict
from sweep.stats.rule import Verdict

FIGURE = "accuracy_by_depth"
EMBEDDED = "glyphs_latin"  # the letters source
HOW_TO_READ = """\
Test accuracy in %, mean ± half the 95 % interval of the mean over seeds (Student's t). `frozen` is freeze_depth of all
blocks; `kept` marks the deepest depth whose mean is within the margin of the best; `gain` is pretrained less random
weights at the same depth. With random weights, a depth above 0 is the control of frozen random features. The learning
rate was chosen on validation data for each seed; the test split was read once, for the chosen one. `s/epoch` is
training time without evaluation and without the pass through the frozen blocks (`prefix_seconds` in table.csv),
pretrained then random.

Kept depths describe the test curves; to choose a depth for use, compare `val_mean` in summary.csv."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """One combination of the settings that the sweep varies beside task, pretrained and freeze_depth."""

    label: str  # "" if there is only one
    summary: pd.DataFrame
    tasks: dict[str, verdict.TaskScores]
    verdict: Verdict


@dataclasses.dataclass(frozen=True)
class Report:
    """What build() wrote. text: what the terminal shows. missing: one line for each result that is not there."""

    text: str
    missing: list[str]


def build(root: Path, points: list[table.Entry] | None = None, study: StudyConfig | None = None) -> Report:
    """Write table.csv, table.parquet, curves.csv, summary.csv, verdict.json, report.md and figures/ under root.

    points, study: as in table.write_manifest; None = those of the last multirun.
    raises: FileNotFoundError if there is none.
    """
    if points is None or study is None:
        points, study = table.read_manifest(root)
    reads = table.read(root, points)
    rows = table.collect(root, reads)
    varied = table.variants(points)
    whole = table.summary(rows, varied)
    missing = table.missing(rows)
    doubts = table.contradictions(rows)
    variants = list(_variants(rows, whole, varied, study.allow_missing))

    _write_csv(root / "table.csv", rows)
    _replace(root / "table.parquet", rows.to_parquet)
    curves = table.curves(reads)
    _write_csv(root / "curves.csv", curves)
    _write_csv(root / "summary.csv", whole)
    record.write_json(root / "verdict.json", _verdict_json(variants, missing))
    figures = _draw(root / "figures", variants)
    tables = [(variant, comparison(variant)) for variant in variants]
    epochs = by_epoch(curves, study)
    text = _markdown(root.resolve().name, rows, tables, epochs, study, figures, missing, doubts)
    record.write_text(root / "report.md", text)
    return Report(_terminal(tables, epochs, study, missing, doubts), missing)


def by_epoch(curves: pd.DataFrame, study: StudyConfig) -> list[dict[str, str]]:
    """Return test accuracy in % after every epoch, a row per arm, references first; [] if it was not recorded."""
    if "test_accuracy" not in curves:
        return []
    lines = []
    for reference in study.reference:
        line = {"arm": reference.label}
        line |= {str(epoch): f"{100 * value:.1f}" for epoch, value in enumerate(reference.test_accuracy)}
        lines.append(line | {"s/epoch": f"{np.mean(reference.seconds_per_epoch):.1f}"})
    # With nothing frozen, both BatchNorm policies are the same job: one row.
    once = curves.drop_duplicates(["job", "seed", "lr", "epoch"])
    for _, arm in once.groupby(["job", "lr"], sort=False):
        first = arm.iloc[0]
        label = f"{first['task']}: pretrained={str(first['pretrained']).lower()}, freeze_depth={first['freeze_depth']}"
        line = {"arm": label + (f", batchnorm={first['batchnorm']}" if first["freeze_depth"] else "")}
        means = arm.groupby("epoch")["test_accuracy"].mean()
        line |= {str(epoch): f"{100 * value:.1f}" for epoch, value in means.items()}
        lines.append(line | {"s/epoch": f"{arm['epoch_seconds'].mean():.1f}"})
    # The columns in order, also where a reference has fewer epochs.
    columns = ["arm", *sorted({key for line in lines for key in line} - {"arm", "s/epoch"}, key=int), "s/epoch"]
    return [{column: line.get(column, "") for column in columns} for line in lines]


def _variants(rows: pd.DataFrame, whole: pd.DataFrame, varied: list[str], allow_missing: bool) -> Iterator[Variant]:
    def made(label: str, summary: pd.DataFrame, part: pd.DataFrame) -> Variant:
        tasks = table.accuracies(part)
        judged = verdict.judge(tasks, table.missing(part), allow_missing=allow_missing)
        return Variant(label, summary, tasks, judged)

    if not varied:
        yield made("", whole, rows)
        return
    for values, part in rows.groupby(varied, sort=False, dropna=False):
        chosen = whole[(whole[varied].astype(str) == [str(value) for value in values]).all(axis=1)]
        label = ", ".join(f"{key}={value}" for key, value in zip(varied, values, strict=True))
        yield made(label, chosen, part)


def comparison(variant: Variant) -> list[dict[str, str]]:
    """Return the table that a reader compares: a row per task and depth, test accuracy in %, mean +- 95 % interval."""
    lines = []
    for (task, case, depth), cell in variant.summary.groupby(["task", "case", "freeze_depth"], sort=False):
        arms = {bool(row["pretrained"]): row for _, row in cell.iterrows()}
        kept = variant.verdict.kept_depth.get(str(task)) == depth
        line = {"task": str(task), "case": str(case), "frozen": f"{depth}/{cell['n_blocks'].iloc[0]}"}
        if variant.summary["pretrained"].eq(True).any():
            line["pretrained"] = _accuracy(arms.get(True)) + (" kept" if kept else "")
        if variant.summary["pretrained"].eq(False).any():
            line["random"] = _accuracy(arms.get(False))
        if True in arms and False in arms:
            gain = 100 * (arms[True]["mean"] - arms[False]["mean"])
            line["gain"] = f"{gain:+.1f}" if np.isfinite(gain) else ""
        counts = sorted({str(int(row["n"])) for row in arms.values()})
        line["seeds"] = "/".join(counts)
        times = [row["seconds_per_epoch"] for row in arms.values()]
        line["s/epoch"] = " ".join(f"{seconds:.3f}" if np.isfinite(seconds) else "-" for seconds in times)
        lines.append(line)
    return lines


def _accuracy(row: Any) -> str:
    if row is None or not np.isfinite(row["mean"]):
        return "missing"
    half = row["high"] - row["mean"]
    return f"{100 * row['mean']:.1f}" + (f" ± {100 * half:.1f}" if np.isfinite(half) else "")


def sentences(judged: Verdict) -> str:
    """Return the verdict in two sentences: which depths were kept, and what that says of the rule."""
    kept = ", ".join(f"{depth} on {task}" for task, depth in judged.kept_depth.items())
    points = f"{100 * judged.margin:g} point" + ("" if judged.margin == 0.01 else "s")
    first = f"Deepest of the freezes tried whose mean test accuracy is within {points} of the best: {kept}."
    return f"{first if kept else 'No depth can be compared.'}\nThe rule of thumb: {judged.decision}; {judged.reason}."


def findings(judged: Verdict) -> list[str]:
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


def _interval(interval: tuple[float, float] | None, style: str) -> str:
    return f" [{interval[0]:+{style}}, {interval[1]:+{style}}]" if interval else ""


def test_table(judged: Verdict) -> list[dict[str, str]]:
    """Return a row per test; p-values one-sided, in the rule's direction."""
    return [
        {
            "test": each.name,
            "role": each.role,
            "n": str(each.n),
            "statistic": f"{each.statistic:.3g}",
            "effect": ""
            if each.effect is None
            else f"{each.effect:+.2g} {each.effect_unit}{_interval(each.interval, '.2g')}",
            "p": f"{each.p_value:.3f}",
            "p reversed": f"{each.p_reversed:.3f}",
            "p corrected": f"{each.corrected:.3f}",
        }
        for each in judged.tests
    ]


def kept_table(variant: Variant) -> list[dict[str, str]]:
    """Return a row per task: its kept depth with interval, and the regret of each way to choose a depth."""
    judged, lines = variant.verdict, []
    for task, depth in judged.kept_depth.items():
        each = variant.tasks[task]
        low, high = judged.kept_interval.get(task, (None, None))
        line = {"task": task, "case": each.case, "kept": f"{depth}/{each.n_blocks}"}
        line |= {"95 % over seeds": "" if low is None else f"{low} to {high}"}
        line |= {"classes": f"{each.n_classes}/{each.source_classes}"}
        if any(other.similarity is not None for other in variant.tasks.values()):
            line |= {"distance": "" if each.similarity is None else f"{each.similarity:.3g}"}
        regret = judged.regret.get(task, {})
        lines.append(line | {f"lost: {way}": "" if x is None else f"{x:.1f}" for way, x in regret.items()})
    return lines


def side_by_side(variants: list[Variant]) -> list[dict[str, str]]:
    """Return test accuracy in % of the pretrained arm: a row per task and depth, * = the task's best."""
    cells: dict[tuple[str, int], dict[str, float]] = {}
    for variant in variants:
        arm = variant.summary[variant.summary["pretrained"].astype(bool)]
        for task, depth, mean in zip(arm["task"], arm["freeze_depth"], arm["mean"], strict=True):
            cells.setdefault((str(task), int(depth)), {})[variant.label] = float(mean)
    best: dict[str, float] = {}
    for (task, _), row in cells.items():
        best[task] = max([best.get(task, 0.0), *(mean for mean in row.values() if np.isfinite(mean))])
    lines = []
    for (task, depth), row in cells.items():
        line = {"task": task, "frozen": str(depth)}
        for variant in variants:
            mean = row.get(variant.label, float("nan"))
            shown = f"{100 * mean:.1f}" + ("*" if mean == best[task] else "")
            line[variant.label] = shown if np.isfinite(mean) else ""
        lines.append(line)
    return lines


SIDE_BY_SIDE = "Test accuracy in % of the pretrained arm, side by side; * marks the best of each task."
HOW_TESTED = """\
Primary tests are corrected by Holm, exploratory ones by Benjamini-Hochberg; p-values are one-sided in the rule's
direction. `lost` is accuracy points below the task's best depth, by each way to choose one: the rule (deepest tried
if similar with fewer classes, middle if similar with more, shallowest if dissimilar), one constant depth (the best of
the other tasks), none frozen, head only, and the highest transferability score where there are scores."""


def warnings(variant: Variant) -> list[str]:
    """Return what a reader should know before trusting the table, a line each."""
    whole = variant.summary
    lines = []
    if (whole["n"] == 1).any():
        lines.append("One seed: no interval, and differences may be noise.")
    arms = whole.pivot_table(index=["task", "freeze_depth"], columns="pretrained", values="mean", sort=False)
    if {True, False} <= set(arms.columns):
        worse = [f"{task} at {depth}" for task, depth in arms.index[arms[True] < arms[False]]]
        if worse:
            lines.append(f"Random weights did better than pretrained ones on {', '.join(worse)}.")
    # Only the embedded source is known to reach more; what another source should reach, its own task decides.
    low = whole.loc[(whole["source_accuracy"] < 0.9) & whole["source"].eq(EMBEDDED), "source_accuracy"]
    if len(low):
        lines.append(f"The source was learned poorly: validation accuracy {low.min():.2f} on its own task.")
    return lines


EPOCHS_TITLE = "Test accuracy in % after every epoch; nothing was chosen by it."


def _terminal(
    tables: list[tuple[Variant, list[dict[str, str]]]],
    epochs: list[dict[str, str]],
    study: StudyConfig,
    missing: list[str],
    doubts: list[str],
) -> str:
    out = []
    for variant, lines in tables:
        if variant.label:
            out.append(f"{variant.label}\n")
        # No colour, no dependence on the terminal's width: what is printed can be pasted and compared.
        out.append(tabulate(lines, headers="keys", disable_numparse=True) + "\n")
        judged = variant.verdict
        out.append("\n".join([sentences(judged), *findings(judged), *warnings(variant)]) + "\n")
    if len(tables) > 1:
        lines = side_by_side([variant for variant, _ in tables])
        out.append(f"{SIDE_BY_SIDE}\n\n" + tabulate(lines, headers="keys", disable_numparse=True) + "\n")
    out.append(
        "Test accuracy in %, mean ± half the 95 % interval over seeds (Student's t). s/epoch: pretrained, random."
    )
    if epochs:
        out.append(f"\n{EPOCHS_TITLE}\n\n" + tabulate(epochs, headers="keys", disable_numparse=True))
    if study.note:
        out.append("\n" + study.note)
    out += doubts
    if missing:
        out.append("Missing:\n" + "\n".join(f"  {line}" for line in missing))
    return "\n".join(out)


def _markdown(
    name: str,
    rows: pd.DataFrame,
    tables: list[tuple[Variant, list[dict[str, str]]]],
    epochs: list[dict[str, str]],
    study: StudyConfig,
    figures: dict[str, Path],
    missing: list[str],
    doubts: list[str],
) -> str:
    first = rows[rows["selected"]].iloc[0] if rows["selected"].any() else rows.iloc[0]
    out = [f"# {name}", ""]
    for variant, lines in tables:
        if variant.label:
            out += [f"## {variant.label}", ""]
        out += [sentences(variant.verdict).replace("\n", " "), ""]
        out += [line + "\n" for line in warnings(variant)]
        out += [tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True), ""]
        out += [f"![Test accuracy against frozen blocks](figures/{figures[variant.label].name})", ""]
        out += _evidence(variant)
    if len(tables) > 1:
        lines = side_by_side([variant for variant, _ in tables])
        out += ["## Side by side", "", SIDE_BY_SIDE, ""]
        out += [tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True), ""]
    if epochs:
        out += ["## Epoch by epoch", "", EPOCHS_TITLE, ""]
        out += [tabulate(epochs, headers="keys", tablefmt="github", disable_numparse=True), ""]
    if study.note:
        out += [study.note, ""]
    out += [line + "\n" for line in doubts]
    out += [
        "## How to read this",
        "",
        HOW_TO_READ,
        "",
        "## Missing",
        "",
        *([f"- {line}" for line in missing] or ["Nothing: every point of the sweep has its result."]),
        "",
        "## Setting",
        "",
    ]
    counted = [
        f"{task} {part['n_train'].dropna().astype(int).unique().tolist()}"
        for task, part in rows.groupby("task", sort=False)
    ]
    facts = {
        "source": ", ".join(rows["source"].unique()) + _source_accuracy(rows),
        "model": ", ".join(rows["model"].unique()),
        "image size, pixels": ", ".join(map(str, rows["image_size"].unique())),
        "source resolution, pixels": _values(rows, "source_image_size"),
        "normalisation": _values(rows, "normalization"),
        "BatchNorm of frozen blocks": ", ".join(rows["batchnorm"].unique()),
        "training images per seed": ", ".join(counted),
        "epochs, batch size": f"{first['epochs']}, {first['batch_size']}",
        "learning rates": ", ".join(f"{lr:g}" for lr in sorted(rows["lr"].dropna().unique())) or "none recorded",
        "seeds": ", ".join(map(str, sorted(rows["seed"].unique()))),
        "device": first["device"],
        "versions": first["versions"],
        "code": "an installed package" if pd.isna(first["git_commit"]) else first["git_commit"],
    }
    for column, usual in USUAL.items():
        values = [str(value) for value in rows[column].dropna().unique()] if column in rows else []
        if set(values) - {usual}:
            facts[column.replace("_", " ")] = ", ".join(values)
    out += [f"- {key}: {value}" for key, value in facts.items()]
    return "\n".join(out) + "\n"


def _values(rows: pd.DataFrame, column: str) -> str:
    return "; ".join(map(str, rows[column].dropna().unique())) or "not recorded"


# Columns that are named where they are not as usual.
USUAL = {"normalize": "source", "precision": "fp32", "prefix_precision": "fp32", "augment": "none"}


def _source_accuracy(rows: pd.DataFrame) -> str:
    """Return what the pretrained weights reach on the validation split of their own task, where it is known."""
    known = rows["source_accuracy"].dropna()
    if known.empty:
        return ""
    low, high = f"{100 * known.min():.1f}", f"{100 * known.max():.1f}"
    return f" (validation accuracy on its own task: {low if low == high else f'{low} to {high}'} %)"


def _evidence(variant: Variant) -> list[str]:
    """Return what the verdict rests on, as lines of Markdown."""
    judged = variant.verdict
    out = ["### What the verdict rests on", "", *(line + "\n" for line in findings(judged))]
    if judged.tests:
        out += [tabulate(test_table(judged), headers="keys", tablefmt="github", disable_numparse=True), ""]
    if judged.p_equivalence is not None and judged.p_equivalence < 1:  # 1: a case with one task cannot be tested
        points = f"{100 * judged.margin:g} accuracy points"
        out += [
            f"No difference of {points} or more between cases at any depth (TOST): p = {judged.p_equivalence:.3f}.",
            "",
        ]
    if judged.kept_depth:
        out += [tabulate(kept_table(variant), headers="keys", tablefmt="github", disable_numparse=True), ""]
    return [*out, HOW_TESTED.replace("\n", " "), ""] if judged.tests else out


def _verdict_json(variants: list[Variant], missing: list[str]) -> dict[str, Any]:
    parts = [{"variant": each.label, **dataclasses.asdict(each.verdict)} for each in variants]
    if len(parts) == 1:
        return {key: value for key, value in parts[0].items() if key != "variant"}
    summed = Verdict("untested", f"{len(parts)} variants, one verdict each", missing=missing)
    return {**dataclasses.asdict(summed), "variants": parts}


def _draw(folder: Path, variants: list[Variant]) -> dict[str, Path]:
    """Draw one figure per variant; return the files by label."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for variant in variants:
        plain = "".join(char if char.isalnum() or char in "=._-" else "_" for char in variant.label)
        path = folder / (FIGURE + (f"-{plain}" if plain else "") + ".png")
        _figure(variant, path)
        files[variant.label] = path
    for old in set(folder.glob(f"{FIGURE}*.png")) - set(files.values()):  # of an earlier sweep under this name
        old.unlink()
    return files


def _figure(variant: Variant, path: Path) -> None:
    from matplotlib.figure import Figure

    whole = variant.summary
    tasks = list(whole["task"].unique())
    scored = any(_curves(each) for each in variant.tasks.values())
    columns = min(3, len(tasks))
    lines = -(-len(tasks) // columns)
    figure = Figure(figsize=(1.2 + 3.3 * columns, 0.8 + 3.1 * lines * (1 + scored)), layout="constrained")
    panels = figure.subplots(lines * (1 + scored), columns, squeeze=False, sharey="row")
    axes = panels[:: 1 + scored]  # each line of curves has its line of scores below it
    for axis in panels.flat:
        axis.set_axis_off()
    if scored:
        _draw_scores(panels[1::2], variant, tasks)
    for axis, task in zip(axes.flat, tasks, strict=False):
        axis.set_axis_on()
        part = whole[whole["task"] == task]
        # Told apart by line, marker and fill, so that colour is not needed.
        for pretrained, label, style in (
            (True, "pretrained", {"color": "#08519c", "marker": "o", "linestyle": "-"}),
            (False, "random weights", {"color": "#7f7f7f", "marker": "s", "linestyle": "--", "mfc": "white"}),
        ):
            arm = part[part["pretrained"].astype(bool) == pretrained]
            if arm["mean"].notna().any():
                half = (arm["high"] - arm["mean"]).to_numpy(float)
                axis.errorbar(
                    arm["freeze_depth"],
                    100 * arm["mean"],
                    yerr=100 * np.nan_to_num(half),
                    label=label,
                    capsize=3,
                    **style,
                )
        kept = variant.verdict.kept_depth.get(task)
        if kept is not None:
            here = part[part["pretrained"].astype(bool) & (part["freeze_depth"] == kept)]
            axis.plot(
                here["freeze_depth"],
                100 * here["mean"],
                "*",
                color="black",
                markersize=15,
                label="kept depth",
                zorder=5,
            )
        axis.set_title(f"{task}\n({str(part['case'].iloc[0]).replace('_', ', ')})", fontsize=10)
        axis.set_xticks(sorted(part["freeze_depth"].unique()))
        axis.set_xlim(-0.4, part["n_blocks"].iloc[0] + 0.4)
        axis.set_xlabel(f"frozen blocks (of {part['n_blocks'].iloc[0]})")
        axis.axhline(100 / part["n_classes"].iloc[0], color="black", linestyle=":", linewidth=1, label="chance")
        axis.set_ylim(0, 102)
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
    axes[0][0].set_ylabel("test accuracy, %")
    handles = {
        label: handle for axis in panels.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    if handles:
        fit = {"ncols": 2 if columns == 1 else 4, "frameon": False, "fontsize": 9}  # one panel is too narrow for four
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", **fit)
    if variant.label:
        figure.suptitle(variant.label, fontsize=10)
    _replace(path, lambda target: figure.savefig(target, format="png", dpi=150, metadata={"Software": None}))


def _curves(task: verdict.TaskScores) -> dict[str, Any]:
    """Return the scores that make a curve: of one depth, or of two scaled to 0 and 1, there is nothing to see."""
    return {name: score for name, score in (task.scores or {}).items() if np.isfinite(score).sum() > 2}


def _draw_scores(axes: Any, variant: Variant, tasks: list[str]) -> None:
    """Draw each task's transferability scores over depth, each scaled to 0..1: only where it peaks can be compared.

    Of a score that was also corrected for the number of classes, only that is drawn.
    """
    named = list(dict.fromkeys(name for each in variant.tasks.values() for name in each.scores or {}))
    names = [name for name in named if f"{name}_corrected" not in named]
    for axis, task in zip(axes.flat, tasks, strict=False):
        each = variant.tasks.get(task)
        curves = _curves(each) if each else {}
        if each is None or not curves:
            continue
        axis.set_axis_on()
        for place, name in enumerate(names):
            score = curves.get(name)
            if score is None:
                continue
            low, high = np.nanmin(score), np.nanmax(score)
            scaled = (score - low) / (high - low) if high > low else np.where(np.isfinite(score), 0.5, np.nan)
            axis.plot(each.depths, scaled, marker="v^<>dPXph8"[place % 10], markersize=5, linewidth=1, label=name)
        axis.set_xlim(-0.4, (each.n_blocks or each.depths[-1]) + 0.4)
        axis.set_xticks(each.depths)
        axis.set_ylim(-0.05, 1.05)
        axis.set_title(f"{task}: scores", fontsize=10)
        axis.set_xlabel(f"frozen blocks (of {each.n_blocks})")
    axes[0][0].set_ylabel("score, min-max")


def _write_csv(path: Path, frame: pd.DataFrame) -> None:
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False, lineterminator="\n")
    record.write_text(path, buffer.getvalue())


def _replace(path: Path, write: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m sweep.report",
        description="Make table, summary, figures and verdict again from the records of a multirun.",
    )
    parser.add_argument("folder", type=Path, help="outputs/<name>")
    options = parser.parse_args(argv)
    try:
        report = build(options.folder)
    except FileNotFoundError:
        parser.exit(
            2,
            f"error: {options.folder}: no sweep.json there; give the folder of a multirun, such as outputs/sweep\n",
        )
    print(report.text)
    sys.exit(1 if report.missing else 0)
