"""What a report says: sentences, findings, tables and settings as data; render.py puts them on a page. Pure pandas."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sweep.config import StudyConfig
from sweep.report import answer, costs, table
from sweep.report.answer import Row
from sweep.report.costs import half_shown, percent
from sweep.report.evidence import evidence
from sweep.report.warnings import warnings
from sweep.stats.components import components
from sweep.stats.types import Decision, Evidence, TaskEvidence
from sweep.stats.verdict import decide

if TYPE_CHECKING:
    from sweep.report.mistakes import Mistakes

# Columns that are named where they are not as usual.
USUAL = {"precision": "fp32", "prefix_precision": "fp32", "augment": "none"}


@dataclass(frozen=True)
class Variant:
    """One combination of the settings that the sweep varies beside task, pretrained and freeze_depth."""

    label: str  # "" if there is only one
    summary: pd.DataFrame
    tasks: dict[str, TaskEvidence]
    verdict: Decision
    jobs: frozenset[str]


@dataclass(frozen=True)
class Section:
    """What the report says of one variant."""

    variant: Variant
    rule: str  # what the verdict says of the rule of thumb; "" where there is nothing to say of it
    plain: list[str]  # a line per task: which depth to keep, which may be as good, what each costs
    findings: list[str]  # what it rests on
    warnings: list[str]  # what a reader should know before trusting the table
    comparison: list[Row]
    costs: list[Row]
    tests: list[Row]
    equivalence: str | None
    kept: list[Row]


@dataclass(frozen=True)
class Content:
    """What the report says.

    rows, summary, curves: the tables as they go to files.
    notes: on images and weights, from before any training.
    doubts: of declared cases.
    missing: one line for each result that is not there.
    """

    name: str
    rows: pd.DataFrame
    summary: pd.DataFrame
    curves: pd.DataFrame
    sections: list[Section]
    side_by_side: list[Row]
    luck: list[Row]
    epochs: list[Row]
    note: str | None
    notes: list[str]
    doubts: list[str]
    missing: list[str]
    certificate: list[str]  # what is known of the frozen tensors, before and after training
    settings: dict[str, str]
    mistakes: Sequence["Mistakes"] = ()  # of the models to keep, where their predictions are known

    def verdict(self) -> dict[str, Any]:
        """Return verdict.json: of one variant its decision, of several one that lists theirs."""
        decisions = [(each.variant.label, dataclasses.asdict(each.variant.verdict)) for each in self.sections]
        if len(decisions) == 1:
            return decisions[0][1]
        summed = Decision("untested", f"{len(decisions)} variants, one verdict each", missing=self.missing)
        parts = [{"variant": label, **decision} for label, decision in decisions]
        return {**dataclasses.asdict(summed), "variants": parts}


def gather(
    name: str,
    rows: pd.DataFrame,
    curves: pd.DataFrame,
    study: StudyConfig,
    notes: Sequence[str] = (),
    command: str | None = None,
) -> Content:
    """Return what there is to say of these rows, as table.collect() gives them.

    notes: from before any training. command: what the sweep was started with.
    """
    varied = table.variants(rows)
    summary = table.summary(rows, varied, curves)
    variants = list(_variants(rows, summary, varied, study.allow_missing))
    return Content(
        name=name,
        rows=rows,
        summary=summary,
        curves=curves,
        sections=[_section(each) for each in variants],
        side_by_side=side_by_side(variants, varied) if len(variants) > 1 else [],
        luck=luck(variants) if varied == ["source.seed"] else [],
        epochs=by_epoch(curves, study),
        note=study.note,
        notes=[*notes],
        doubts=[*table.contradictions(rows), *_devices(rows)],
        missing=table.missing(rows),
        certificate=certificate(rows),
        settings=settings(rows) | ({"command": command} if command else {}),
    )


def _variants(rows: pd.DataFrame, whole: pd.DataFrame, varied: list[str], allow_missing: bool) -> Iterator[Variant]:
    def made(label: str, summary: pd.DataFrame, part: pd.DataFrame) -> Variant:
        tasks = evidence(part)
        judged = decide(Evidence(tasks, table.missing(part), allow_missing))
        return Variant(label, summary, tasks, judged, frozenset(part["job"]))

    if not varied:
        yield made("", whole, rows)
        return
    for values, part in rows.groupby(varied, sort=False, dropna=False):
        chosen = whole[(whole[varied].astype(str) == [str(value) for value in values]).all(axis=1)]
        label = ", ".join(f"{key}={value}" for key, value in zip(varied, values, strict=True))
        yield made(label, chosen, part)


def _section(variant: Variant) -> Section:
    judged = variant.verdict
    equivalence = None
    if judged.p_equivalence is not None and judged.p_equivalence < 1:  # 1: a case with one task cannot be tested
        points = f"{100 * judged.margin:g} accuracy points"
        p_value = f"p = {judged.p_equivalence:.3f}"
        equivalence = f"No difference of {points} or more between cases at any depth (TOST): {p_value}."
    return Section(
        variant=variant,
        rule=answer.rule(judged),
        plain=costs.plain_words(judged, variant.summary),
        findings=answer.findings(judged),
        warnings=warnings(variant.summary),
        comparison=comparison(variant),
        costs=costs.rows(variant.summary),
        tests=answer.test_rows(judged),
        equivalence=equivalence,
        kept=answer.kept_rows(judged, variant.tasks),
    )


def comparison(variant: Variant) -> list[Row]:
    """Return the table that a reader compares: a row per task and depth, test accuracy in %, mean +- 95 % interval."""
    lines = []
    both = set(variant.summary["pretrained"]) == {True, False}
    compared = {str(task): part.nunique() for task, part in variant.summary.groupby("task")["freeze_depth"]}
    for (task, case, depth), cell in variant.summary.groupby(["task", "case", "freeze_depth"], sort=False):
        arms = {bool(row["pretrained"]): row for _, row in cell.iterrows()}
        mark = answer.mark(variant.verdict, str(task), int(str(depth))) if compared[str(task)] > 1 else ""
        line = {"task": str(task), "case": str(case), "frozen": f"{depth}/{cell['n_blocks'].iloc[0]}"}
        if variant.summary["pretrained"].eq(True).any():
            line["pretrained"] = accuracy(arms.get(True)) + mark
            if not both and variant.summary["val_mean"].notna().any():
                line["validation"] = percent(arms[True]["val_mean"])
        if variant.summary["pretrained"].eq(False).any():
            line["random"] = accuracy(arms.get(False))
        if True in arms and False in arms:
            gain = 100 * (arms[True]["mean"] - arms[False]["mean"])
            line["gain"] = f"{gain:+.1f}" if np.isfinite(gain) else ""
        counts = [str(int(row["n"])) for _, row in sorted(arms.items(), reverse=True)]  # pretrained first
        line["seeds"] = "/".join(dict.fromkeys(counts))
        times = [row["seconds_per_epoch"] for row in arms.values()]
        line["s/epoch"] = " ".join(f"{seconds:.3f}" if np.isfinite(seconds) else "-" for seconds in times)
        lines.append(line)
    return lines


def accuracy(row: Any) -> str:
    """Return the mean test accuracy of a cell in %, with half its interval; of two seeds, both values."""
    if row is None or not np.isfinite(row["mean"]):
        return "missing"
    half = half_shown(row)
    if row["n"] == 2:
        return f"{percent(row['mean'] - half)}, {percent(row['mean'] + half)}"
    return percent(row["mean"]) + (f" ± {percent(half)}" if np.isfinite(half) else "")


def side_by_side(variants: Sequence[Variant], varied: Sequence[str]) -> list[Row]:
    """Return test accuracy in % of the pretrained arm: a row per task and variant, a column per depth, * = best."""
    arms = [variant.summary[variant.summary["pretrained"].astype(bool)] for variant in variants]
    cells = pd.concat(arms)
    best = cells.groupby("task")["mean"].max()
    depths = sorted(int(depth) for depth in cells["freeze_depth"].unique())
    lines = []
    for task in cells["task"].unique():
        for part in (arm[arm["task"] == task].set_index("freeze_depth") for arm in arms):
            if part.empty:
                continue
            line = {"task": str(task)} | {name: str(part[name].iloc[0]) for name in varied}
            for depth in depths:
                mean = float(part["mean"].get(depth, float("nan")))
                line[f"{depth} frozen"] = percent(mean) + ("*" if mean == best[task] else "")
            lines.append(line)
    return lines


def luck(variants: Sequence[Variant]) -> list[Row]:
    """Return where the differences between depths come from, of a sweep over source networks alone: a row per depth.

    [] where tasks, depths or seeds are not the same under every source, or there is one seed.
    """
    tasks = {name: [each.tasks[name] for each in variants if name in each.tasks] for name in variants[0].tasks}
    every = [each for of_task in tasks.values() for each in of_task]
    if len(every) < len(tasks) * len(variants) or not all(each.complete and each.n_seeds > 1 for each in every):
        return []
    depths = every[0].depths.tolist()
    if any(each.depths.tolist() != depths or each.n_seeds != every[0].n_seeds for each in every):
        return []
    rows = []
    for index, depth in enumerate(depths[1:], start=1):
        found = components(tasks, index)._asdict()
        rows.append({"gain of": f"{depth} over {depths[0]} frozen"})
        rows[-1] |= {name: f"{value:.2f}" if np.isfinite(value) else "" for name, value in found.items()}
    return rows


def by_epoch(curves: pd.DataFrame, study: StudyConfig) -> list[Row]:
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


def certificate(rows: pd.DataFrame) -> list[str]:
    """Return in how many networks the frozen tensors are, after training, those of before, by their hashes."""
    known = rows.loc[rows["frozen_params"].fillna(0).gt(0), "certificate"].dropna()
    if known.empty:
        return []
    same, tracked = int((known != "changed").sum()), int((known == "parameters").sum())
    lines = [
        f"In {same} of {len(known)} networks with frozen blocks, every frozen tensor is what it was before training, by"
        " the hashes in their records."
    ]
    if tracked:
        lines.append(f"In {tracked} of them these are the parameters alone: statistics of BatchNorm follow the images.")
    return lines


def _devices(rows: pd.DataFrame) -> list[str]:
    """Return a sentence if times are means over different devices."""
    mixed = rows.groupby(["task", "pretrained", "freeze_depth"])["device"].nunique().gt(1).any()
    return ["Seeds were trained on different devices: times are means over these, and say little."] if mixed else []


def settings(rows: pd.DataFrame) -> dict[str, str]:
    """Return under which settings the rows came about, in words."""
    counted = [
        f"{task} {', '.join(map(str, part['n_train'].dropna().astype(int).unique())) or 'none'}"
        for task, part in rows.groupby("task", sort=False)
    ]
    trained = rows[rows["status"].isin(["ok", "diverged"])]
    facts = {
        "source": ", ".join(rows["source"].unique()) + _source_accuracy(rows),
        "model": ", ".join(rows["model"].unique()),
        "image size, pixels": ", ".join(map(str, rows["image_size"].unique())),
        "source resolution, pixels": _values(rows, "source_image_size"),
        "normalisation": _values(rows, "normalization"),
        "BatchNorm of frozen blocks": ", ".join(rows["batchnorm"].unique()),
        "training images per seed": ", ".join(counted),
        "epochs": _values(rows, "epochs"),
        "batch size": _values(rows, "batch_size"),
        "learning rates": ", ".join(f"{lr:g}" for lr in sorted(rows["lr"].dropna().unique())) or "none recorded",
        "seeds": ", ".join(map(str, sorted(rows["seed"].unique()))),
        "device": _values(rows, "device"),
        "versions": _values(trained, "versions"),
        "code": "; ".join(trained["git_commit"].fillna("an installed package").astype(str).unique()),
    }
    for column, usual in USUAL.items():
        values = [str(value) for value in rows[column].dropna().unique()]
        if set(values) - {usual}:
            facts[column.replace("_", " ")] = ", ".join(values)
    return facts


def _values(rows: pd.DataFrame, column: str) -> str:
    return "; ".join(map(str, rows[column].dropna().unique())) or "not recorded"


def _source_accuracy(rows: pd.DataFrame) -> str:
    """Return what the pretrained weights reach on the validation split of their own task, where it is known."""
    known = rows["source_accuracy"].dropna()
    if known.empty:
        return ""
    low, high = f"{100 * known.min():.1f}", f"{100 * known.max():.1f}"
    return f" (validation accuracy on its own task: {low if low == high else f'{low} to {high}'} %)"
