"""Records to tables: one tidy row per member, and a summary per task and depth. No torch."""

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sweep import paths
from sweep.config import Reference, StudyConfig
from sweep.errors import UserError
from sweep.plan.facts import Facts
from sweep.report import record
from sweep.report.record import Record
from sweep.stats.tests import mean_interval
from sweep.stats.types import Floats

# Columns that name a cell of the summary; whatever else varies over the points (see variants()) joins them.
CELL = ["task", "case", "pretrained", "freeze_depth"]
MEMBER = ["job", "seed", "lr"]
RISE = 0.01  # accuracy; less is noise of a few hundred validation images


@dataclass(frozen=True)
class Entry:
    """One point of a multirun, as the manifest lists it.

    seeds: those that the sweep asks of it. varied: the settings that differ over the points, beyond task, pretrained
    and freeze_depth.
    """

    job: str
    seeds: list[int]
    facts: Facts
    varied: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> "Entry":
        """Return the entry that as_json() describes (version 0.1: other names)."""
        given = content.get("facts") or content["common"]
        facts = {"matched_group" if name == "block" else name: value for name, value in given.items()}
        return cls(content["job"], content["seeds"], Facts(**facts), content["varied"])


# What a report consists of; all of it can be made again from the records.
REPORT = (
    "table.csv",
    "table.parquet",
    "curves.csv",
    "summary.csv",
    "verdict.json",
    "report.md",
    "report.html",
    "table.md",
    "table.tex",
)


def clear(root: Path) -> None:
    """Remove an earlier report: it describes other points than those that are about to be trained."""
    for path in (*(root / name for name in REPORT), *(root / "figures").glob("accuracy_by_depth*")):
        path.unlink(missing_ok=True)


def write_manifest(root: Path, points: Sequence[Entry], study: StudyConfig) -> None:
    """Write which points the last multirun has: the report covers exactly these."""
    content = {"points": [each.as_json() for each in points], "study": dataclasses.asdict(study)}
    paths.write_json(manifest_path(root), content)


def manifest_path(root: Path) -> Path:
    return root / "sweep.json"


def read_manifest(root: Path) -> tuple[list[Entry], StudyConfig]:
    """Return the points and the study of the last multirun; raise UserError if root has none that can be read."""
    content = paths.read_json(manifest_path(root))
    if not content or not content.get("points"):
        raise UserError(f"{root}: no sweep.json there; give the folder of a multirun, such as outputs/sweep")
    try:
        study = dict(content.get("study") or {})
        study["reference"] = [Reference(**each) for each in study.get("reference", [])]
        return [Entry.of_json(each) for each in content["points"]], StudyConfig(**study)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        advice = "report with the version that wrote it, or run the sweep again"
        raise UserError(f"{manifest_path(root)}: not a manifest of this version ({error}); {advice}") from error


class Read(typing.NamedTuple):
    """What a point has of one seed: its members, none if there is no result, and then why, where that is known."""

    point: Entry
    seed: int
    members: list[Record]
    error: str | None = None


def read(root: Path, points: Sequence[Entry]) -> list[Read]:
    """Return what is on disk of every seed of every point, in the manifest's order; each file is read once."""
    reads = []
    for point in points:
        folder = record.job_folder(root, point.job)
        found = {seed: record.read_members(folder, seed, point.facts.n_blocks) or [] for seed in point.seeds}
        error = None if all(found.values()) else record.read_failure(folder)
        reads += [
            Read(point, seed, members, None if members else record.damage(folder, seed, point.facts.n_blocks) or error)
            for seed, members in found.items()
        ]
    return reads


def notes(root: Path, points: Sequence[Entry]) -> list[str]:
    """Return what was said of the points' images and weights before they were trained, each sentence once."""
    return [*dict.fromkeys(note for each in points for note in record.read_notes(record.job_folder(root, each.job)))]


def collect(name: str, reads: Sequence[Read]) -> pd.DataFrame:
    """Return the tidy table: one row per member, one row with its status for every seed without a result.

    name: of the sweep.

    Columns: those of record.Record less curves (of the certificate what certified() says), the sweep's name first, one
    per varied setting, and one per measured distance to the source (distance_x) and transferability score (score_x).
    Rows are in the manifest's order, then by seed and learning rate.
    """
    rows: list[dict[str, Any]] = []
    for each in reads:
        for member in each.members or [_absent(each)]:
            # The case is declared, not measured by the run: the manifest's is the current one.
            rows.append({"name": name} | member.as_row() | vars(each.point.facts) | each.point.varied)
    table = pd.DataFrame(rows)
    # A column that happens to be empty keeps its type, so that files of different sweeps fit together.
    kinds: dict[Any, Any] = {int: "Int64", float: "float64", str: "string"}
    for column, hint in (typing.get_type_hints(Facts) | typing.get_type_hints(Record)).items():
        plain = {hint, *(typing.get_args(hint) if isinstance(hint, types.UnionType) else ())}
        for kind in plain & kinds.keys():
            table[column] = table[column].astype(kinds[kind])
    table["versions"] = table["versions"].map(lambda versions: json.dumps(versions, sort_keys=True))
    table["selected"] = table["selected"].eq(True)
    table = _with_cases(table)
    for column, prefix in (("distances", "distance_"), ("scores", "score_")):
        wide = pd.DataFrame(table.pop(column).tolist(), index=table.index)
        table = table.join(wide.add_prefix(prefix))
    table["certificate"] = table["certificate"].map(record.certified).astype("string")
    return table.drop(columns="curves")


def merged(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return one table of several; of a job's seed that has a result in two, the rows of the later one.

    Rows are in an order that does not depend on which table they came from.
    """
    whole = pd.concat(tables, keys=range(len(tables)), names=["part"]).reset_index("part")
    has_result = whole.groupby(["job", "seed", "part"])["selected"].transform("any")
    rank = whole["part"] + len(tables) * has_result  # what is missing in one table replaces nothing
    last = rank.groupby([whole["job"], whole["seed"]]).transform("max")
    kept = whole[rank == last].drop(columns="part")
    order = ["task", "pretrained", "freeze_depth", "job", "seed", "lr"]
    return kept.sort_values(order, ascending=[True, False, True, True, True, True]).reset_index(drop=True)


def _with_cases(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with every case that is neither declared nor known as it was measured, where it was."""
    cases = table["case"].astype(str).tolist()
    measured = measured_cases(table)
    places = zip(table["task"], table["source"], strict=True)
    return table.assign(
        case=[
            measured.get(place, case) if case == "unknown" else case for place, case in zip(places, cases, strict=True)
        ],
        case_from=["measured" if case == "unknown" else "declared" for case in cases],
    )


def measured_cases(table: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Return the rule's case by (task, source), from the measured similarity and the class counts."""
    found = {}
    for (task, source), rows in table[table["similar"].notna()].groupby(["task", "source"], sort=False):
        fewer = rows["n_classes"].iloc[0] < rows["source_classes"].iloc[0]
        similar = "similar_fewer" if fewer else "similar_more"
        found[str(task), str(source)] = similar if rows["similar"].iloc[0] else "dissimilar"
    return found


def contradictions(table: pd.DataFrame) -> list[str]:
    """Return a line for every task whose declared case is not the measured one, or is not sure by the measurement."""
    lines = []
    measured = measured_cases(table)
    for (task, source), rows in table[table["similarity"].notna()].groupby(["task", "source"], sort=False):
        declared, first = rows["case"].iloc[0], rows.iloc[0]
        case = measured.get((str(task), str(source)))
        between = f"{first['similarity_low']:.2f} to {first['similarity_high']:.2f}"
        place = f"at {first['similarity']:.2f} from {source}, {between}"
        if case and declared not in ("unknown", case):
            lines.append(f"{task} is declared {declared}, and measured {case} ({place}).")
        elif not case and declared != "unknown":
            lines.append(
                f"{task} is declared {declared}; its images do not decide that ({place}; similar is below 0.5)."
            )
    return lines


def _absent(read: Read) -> Record:
    point, status = read.point, "failed" if read.error else "missing"
    return Record(point.facts, point.job, status, read.seed, error=read.error)


def curves(reads: Sequence[Read]) -> pd.DataFrame:
    """Return one row per member and epoch: job, its arm, seed, lr, epoch (from 0) and the curves."""
    rows = []
    for point, _, members, _ in reads:
        arm = {key: getattr(point.facts, key) for key in ("task", "pretrained", "freeze_depth", "batchnorm")}
        for member in members:
            facts = {"job": member.job, **arm, "seed": member.seed, "lr": member.lr}
            epochs = zip(*member.curves.values(), strict=True)
            rows += [
                facts | {"epoch": epoch} | dict(zip(member.curves, values, strict=True))
                for epoch, values in enumerate(epochs)
            ]
    first = ["job", "task", "pretrained", "freeze_depth", "batchnorm", "seed", "lr", "epoch"]
    if not rows:
        return pd.DataFrame(columns=first)
    whole = pd.DataFrame(rows)
    measured = list(whole.columns.difference(first, sort=False))
    return whole[[*first, *measured]].astype(dict.fromkeys(measured, float))  # null, for what was not finite, is NaN


def variants(table: pd.DataFrame) -> list[str]:
    """Return the columns of settings that vary over the points beyond task, pretrained and freeze_depth.

    They are those that no record has, and of the points' facts those that differ between two points of one cell.
    """
    known = {"name", "case_from", *(each.name for kind in (Facts, Record) for each in dataclasses.fields(kind))}
    named = [str(column) for column in table.columns]
    own = [name for name in named if name not in known and not name.startswith(("distance_", "score_"))]
    for name in (each.name for each in dataclasses.fields(Facts) if each.name in named and each.name not in CELL):
        if table.groupby([*CELL, *own], dropna=False)[name].nunique(dropna=False).gt(1).any():
            own.append(name)  # what follows from it, as a source's classes do, varies no more
    return sorted(own)


def missing(table: pd.DataFrame) -> list[str]:
    """Return one line for every point that lacks results: its seeds without one, and why."""
    lines = []
    empty = table[~table.groupby(["job", "seed"])["selected"].transform("any")]
    for job, without in empty.groupby("job", sort=False):
        for (status, error), part in without.groupby(["status", "error"], sort=False, dropna=False):
            seeds = ", ".join(str(seed) for seed in part["seed"].unique())
            lines.append(f"{job} seed {seeds}: {status}" + (f": {error}" if isinstance(error, str) else ""))
    return lines


def summary(table: pd.DataFrame, varied: list[str], curves: pd.DataFrame) -> pd.DataFrame:
    """Return mean, standard deviation over seeds and 95 % interval of the test accuracy, per cell.

    curves: as curves() gives them; without any, what needs them is empty.

    Columns: varied..., task, case, pretrained, freeze_depth, n_blocks, n_classes, source, n (seeds with a result),
    n_missing, mean, std, low, high (accuracies in 0..1; see mean_interval, empty for n = 1), metric (accuracy, or
    balanced_accuracy, if that is what accuracies are), balanced_mean, val_mean, source_accuracy, lr_low and lr_high (of
    the learning rates tried), lr_spread (decades between those that seeds chose), at_edge (seeds whose choice is the
    lowest or highest that it tried), rising (seeds whose validation was still rising at the end: see _rising),
    epochs_trained, steps of the optimizer, seconds_per_epoch, train_seconds (of a chosen member, mean),
    peak_memory_bytes (largest), trainable_params.
    Cells are in the table's order, depths ascending.
    """
    keys = [*varied, *CELL]
    rows = table.assign(
        cell=table.groupby(keys, sort=False, dropna=False).ngroup(),
        rising=_rising(curves).reindex(pd.MultiIndex.from_frame(table[MEMBER])).to_numpy(),
        at_edge=table["lr_edge"].isin(["lower", "upper"]),
        steps=table["epochs_trained"] * np.ceil(table["n_train"] / table["batch_size"]),
    )
    first = rows.drop_duplicates("cell")[["cell", *keys, "n_blocks", "n_classes", "source"]]
    frame = pd.DataFrame(first.to_dict("records")).set_index("cell")
    whole, of_chosen = rows.groupby("cell"), rows[rows["selected"]].groupby("cell")

    def over_seeds(name: str, how: Callable[[pd.Series], float] | str = _mean) -> pd.Series:
        return of_chosen[name].agg(how).reindex(frame.index).astype(float)

    tested = of_chosen[["test_accuracy", "test_correct", "test_classes", "n_test"]]
    chosen = [tested.get_group(cell) if cell in of_chosen.groups else rows.iloc[:0] for cell in frame.index]
    frame["n"] = [len(each) for each in chosen]
    frame["n_missing"] = whole["seed"].nunique() - frame["n"]
    frame[["mean", "std", "low", "high"]] = [mean_interval(_outcomes(each)) for each in chosen]
    frame[["low", "high"]] = frame[["low", "high"]].clip(0, 1)
    frame["metric"] = of_chosen["metric"].agg(_one).reindex(frame.index)
    frame["balanced_mean"] = over_seeds("test_balanced_accuracy")
    frame["val_mean"] = over_seeds("val_accuracy")
    frame["source_accuracy"] = over_seeds("source_accuracy")
    frame["lr_low"], frame["lr_high"] = whole["lr"].min(), whole["lr"].max()
    frame["lr_spread"] = over_seeds("lr", lambda each: np.log10(each.max() / each.min()))
    frame["at_edge"] = over_seeds("at_edge", "sum").fillna(0).astype(int)
    frame["rising"] = over_seeds("rising", lambda each: each.sum(min_count=1))
    for name in ("epochs_trained", "steps", "seconds_per_epoch", "train_seconds"):
        frame[name] = over_seeds(name)
    frame["peak_memory_bytes"] = over_seeds("peak_memory_bytes", "max")
    frame["trainable_params"] = over_seeds("trainable_params")
    order = {key: {value: place for place, value in enumerate(table[key].unique())} for key in (*varied, "task")}
    ranks = [frame[key].map(order[key]) for key in (*varied, "task")]
    ranks += [~frame["pretrained"].astype(bool), frame["freeze_depth"]]
    sorting = pd.concat(ranks, axis=1, keys=range(len(ranks)))
    return frame.loc[sorting.sort_values(list(sorting.columns), kind="stable").index].reset_index(drop=True)


def _rising(curves: pd.DataFrame) -> "pd.Series[float]":
    """Return by MEMBER whether validation accuracy rose by RISE or more in the last quarter of training, 1 or 0."""
    if "val_accuracy" not in curves:
        return pd.Series(dtype=float, index=pd.MultiIndex.from_tuples([], names=MEMBER))
    known = curves.dropna(subset="val_accuracy")
    member = known.groupby(MEMBER, sort=False)
    length = member["epoch"].transform("size")
    before = member.cumcount() < length - (length // 4).clip(lower=1)
    highest = known["val_accuracy"].where(before).groupby([known[each] for each in MEMBER], sort=False).max()
    return (member["val_accuracy"].last() - highest >= RISE).astype(float)


def _outcomes(chosen: pd.DataFrame) -> Floats:
    """Return outcomes(), or (S, 1), accuracies, where images are not known."""
    known = outcomes(chosen)
    return chosen["test_accuracy"].to_numpy(float)[:, None] if known is None else known


def outcomes(chosen: pd.DataFrame) -> Floats | None:
    """Return record.outcomes() of every seed's network (S, I); None where they were not kept or images differ."""
    if chosen.empty or chosen["test_correct"].isna().any() or chosen["n_test"].min() != chosen["n_test"].max():
        return None
    count = int(chosen["n_test"].iloc[0])
    classes = chosen["test_classes"].astype(object).where(chosen["test_classes"].notna(), None)
    pairs = zip(chosen["test_correct"], classes, strict=True)
    return np.array([record.outcomes(correct, each, count) for correct, each in pairs])


def _one(metrics: pd.Series) -> str:
    """Return the metric of a cell's records; those of before it was recorded have plain accuracies."""
    return ", ".join(metrics.fillna("accuracy").unique())


def _mean(values: pd.Series) -> float:
    numbers = values.dropna().to_numpy(float)
    return float(numbers.mean()) if len(numbers) else float("nan")
