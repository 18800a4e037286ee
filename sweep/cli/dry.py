"""What a sweep would do and take: its points, what is there, what they share; time, disk and memory. Nothing trains."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from sweep.cli.cache import size as in_words
from sweep.config import FreezeConfig
from sweep.errors import UserError
from sweep.plan.facts import Facts
from sweep.plan.point import Point
from sweep.report.costs import duration
from sweep.runs import estimate, machine, pretrain, work
from sweep.runs.session import Session
from sweep.runs.work import Work

RECORD = 20e3  # bytes that a training leaves, about: records, curves, what a model mistakes


@dataclass(frozen=True)
class Forecast:
    """What points that are owed take in one process here.

    works: by job.
    seconds: by job, those of sources, too.
    sources: of those that would be trained here first, what each is called, by job.
    memory: bytes; None if that is not known. device: which was measured.
    """

    works: Mapping[str, Work]
    seconds: Mapping[str, float]
    sources: Mapping[str, str]
    memory: int | None
    device: str

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def forecast(points: Sequence[Point], root: Path, session: Session) -> Forecast:
    """Return what these points, which are owed, take; a few batches of every kind are trained, with random weights."""
    works = work.of_all(points, estimate.missing(points, root), session)
    sources = [_of_source(point) for point in points if _trains_source(point)]
    for each in sources:
        counts = session.counts(each.config.data, each.facts.image_size)
        works[each.job] = work.of(each, counts, 1)
    device = session.device(points[0])
    machine.reset_peak_memory(device)
    pace = estimate.measured([*points, *sources], works, session)
    return Forecast(
        works={point.job: works[point.job] for point in points},
        seconds={job: pace.seconds(each) or 0.0 for job, each in works.items()},
        sources={each.job: f"{each.facts.task} for {each.facts.model}" for each in sources},
        memory=machine.peak_memory(device),
        device=machine.device_name(device),
    )


def _trains_source(point: Point) -> bool:
    source = point.source
    return point.config.pretrained and source.config.name == "pretrain" and not pretrain.path(source).exists()


def _of_source(point: Point) -> Point:
    """Return the training of a point's source as if it were a point."""
    source, how = point.source, point.source.config
    config, facts = copy.copy(point.config), dict(vars(point.facts))
    config.pretrained, config.freeze_depth, config.seeds = False, 0, [0]
    config.epochs, config.batch_size = how.epochs, how.batch_size
    config.optimizer, config.data = how.optimizer, how.data
    config.freeze = FreezeConfig(unit=config.freeze.unit)
    facts |= {"task": source.task, "n_classes": source.n_classes, "image_size": source.image_size, "pretrained": False}
    facts |= {"freeze_depth": 0, "epochs": how.epochs, "batch_size": how.batch_size, "optimizer": how.optimizer.name}
    facts |= {"which": "prefix", "frozen_epochs": None, "augment": str(how.data.augment), "precision": "fp32"}
    return Point(config, source, Facts(**facts), source.key, f"source {source.key}")


def require_short(points: Sequence[Point], root: Path, session: Session) -> None:
    """Raise UserError if what these points take, which are owed, is beyond the hours that they may."""
    allowed = points[0].config.confirm_above
    assert allowed is not None, "it was asked for"
    hours = forecast(points, root, session).total / 3600
    if hours > allowed:
        raise UserError(
            f"confirm_above={allowed:g}: {_count(len(points), 'point')} to train, expected to take"
            f" {duration(3600 * hours)} in one process here; nothing was trained; give more hours, or"
            " leave it out; dry_run=true says which"
            " points take how long"
        )


def report(points: Sequence[Point], labels: Mapping[str, str], root: Path, session: Session) -> str:
    """Return the points, what is there of them, what they share, and what the rest takes, as text."""
    apart = list({point.job: point for point in points}.values())
    same = len(points) - len(apart)  # freeze.epochs changes nothing where nothing is frozen, for example
    left = estimate.missing(apart, root)
    owed = [point for point in apart if left[point.job]]
    head = f"{_count(len(points), 'point')}{f' ({same} the same as others)' if same else ''}, {len(owed)} to train"
    head += "; dry_run=true: nothing is trained"
    if not owed:
        return f"{head}\nresults are in {root}"
    found = forecast(owed, root, session)
    rows = []
    for point in apart:
        count = len(point.config.seed_list)
        row = {"point": labels[point.job], "there": f"{count - left[point.job]} of {count} seeds"}
        if each := found.works.get(point.job):
            frozen = {"none": "", "cached": "once", "recomputed": "every batch: too large to keep"}
            row |= {"to train": f"{each.trainings} x {each.epochs} epochs"}
            row |= {"frozen part is run": frozen.get(each.feed, f"every batch: {each.feed}")}
            row |= {"about": duration(found.seconds[point.job])}
        rows.append(row)
    return "\n".join([head, "", tabulate(rows, headers="keys", disable_numparse=True), "", *_sums(owed, found)])


def _sums(owed: Sequence[Point], found: Forecast) -> list[str]:
    """Return what is shared, and the sums, a sentence a line."""
    lines = [
        f"Trained first, once for all: the source {name} (about {duration(found.seconds[job])})."
        for job, name in found.sources.items()
    ]
    kept: dict[tuple[object, ...], dict[int, float]] = {}
    for point in owed:
        if size := found.works[point.job].kept:
            kept.setdefault(point.facts.network, {})[point.facts.prefix] = size
    bytes_kept = sum(sum(sizes.values()) for sizes in kept.values())
    most = owed[0].config.cache.max_gb
    if kept:
        lines.append(
            f"Shared by the points of a network and task: outputs of frozen blocks, of"
            f" {_count(len(kept), 'network')}, at most {in_words(bytes_kept)} in the cache, which may hold"
            f" {most:g} GB (cache.max_gb)."
        )
    memory = f", {in_words(found.memory)} of memory" if found.memory else ""
    at_most = ", at most" if any(str(point.config.optimizer.schedule) == "plateau" for point in owed) else ""
    results = RECORD * sum(each.trainings for each in found.works.values())
    lines.append(
        f"All of it: about {duration(found.total)}{at_most}, in one process on this machine ({found.device}); about"
        f" {in_words(results)} of results, up to {in_words(min(bytes_kept, 1e9 * most))} of cache{memory}."
    )
    if any(point.config.optimizer.extend for point in owed):
        lines.append("optimizer.extend may add trainings, which are not counted.")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)
