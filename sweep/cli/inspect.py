"""`python -m sweep.inspect data=image_folder data.root=...`: what a sweep would start from, before anything is trained.

Images as they are split, classes, sizes, what was left out, copies and near copies, unequal classes; weights as they
were found, and whether they were trained; what each freeze_depth freezes. A contact sheet shows some of the images.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from sweep import interrupt, paths
from sweep.cli import compose
from sweep.cli.flags import SettingsCommand
from sweep.cli.multirun import WARNING, writing
from sweep.data import alike, bands, doubts, headers, registry, sheet
from sweep.data import task as data
from sweep.data.types import Dataset, Labels, Split, Task
from sweep.errors import UserError, one_line
from sweep.models import proof
from sweep.models.table import block_table
from sweep.paths import results_folder
from sweep.plan import catalog
from sweep.plan.point import Point
from sweep.runs import machine, pretrain
from sweep.runs.session import Session

WHAT = """\
Print, without training, what a sweep with these settings would start from: splits and where they come from, classes,
sizes and kinds of the images, what was left out and why, images that are there twice or look alike, unequal classes and
what a constant would score; which weights were found and whether they were trained; what freeze_depth=k freezes. Writes
some images of every class to outputs/<name>/inspect.png. Several values, separated by commas, are looked at in turn."""
EXAMPLES = {
    "source=imagenet data=image_folder data.root=my/photos": "your own images, and ImageNet's weights",
    "data=image_folder data.root=my/photos strict=true": "refuse what is else a warning, with exit code 2",
}

CLASSES = 20  # that are listed
SPLITS = ("training", "validation", "test")


def command() -> SettingsCommand:
    """Return what the command takes."""
    made = SettingsCommand("sweep.inspect", WHAT, EXAMPLES)
    made.add_argument("-m", "--multirun", action="store_true", help="changes nothing: several values need no -m here")
    return made


def main() -> None:
    """Run the command line; exit 0, 2 for bad input and, if strict, for warnings, 130 after Ctrl-C."""
    with interrupt.command():
        inspect(command().read(sys.argv[1:]))


def inspect(arguments: Sequence[str]) -> list[str]:
    """Print what there is to know of these settings' images, weights and blocks; write contact sheets.

    returns: the warnings among it.
    raises: UserError, with strict=true also for a warning.
    """
    points = compose.points(arguments, multirun=True)
    machine.check(points[0].config.device, points[0].config.precision)
    session, warnings = Session(), list[str]()
    tasks = _first_of(points, lambda point: data.loaded_key(point.config.data, point.facts.image_size))
    for point in tasks:
        warnings += _images(session, point, alone=len(tasks) == 1)
    for point in _first_of([each for each in points if each.config.pretrained], lambda point: point.source.key):
        warnings += _weights(session, point)
    for point in _first_of(points, lambda point: (point.facts.model, point.facts.unit, point.facts.image_size)):
        _say(["", *_blocks(point)])
    count = len(warnings)
    _say(["", f"{count} warning{'s' * (count > 1)}, see above." if count else "No warnings."])
    if count and points[0].config.strict:
        raise UserError(f"strict=true: {warnings[0]}")
    return warnings


def _first_of(points: Sequence[Point], key: Callable[[Point], Any]) -> list[Point]:
    """Return the first point of each key, in order."""
    return list({key(point): point for point in reversed(points)}.values())[::-1]


def _say(lines: Sequence[str]) -> None:
    print("\n".join(lines), flush=True)


def _images(session: Session, point: Point, alone: bool) -> list[str]:
    """Print what there is to know of a task's images, write its contact sheet, and return its warnings.

    alone: whether it is the only task.
    """
    config, facts = point.config, point.facts
    dataset = registry.open(config.data)
    dataset.fetch()
    task = session.task(config.data, facts.image_size, config.cache.max_gb)
    data.draw(config.data, task, config.seed_list[0])  # raises if there are too few images
    where = f" in {config.data.root}" if config.data.root else ""
    _say([f"{facts.task}: data={config.data.name}{where}, {facts.n_classes} classes, {facts.image_size} pixels", ""])
    pools = {"train": len(task.fit.pool), "test": len(task.test.pool)}
    seen = headers.look(dataset, {split: pools[split] for split in dataset.splits()})
    _say([*_origins(point, dataset, task), "", _counts(task), "", *seen.lines()])
    near = _near(task, dataset)
    notes = [one_line(note) for note in (*data.notes(config.data), *task.notes, *near)]
    equal = any("equal one" in note or "in two classes" in note for note in notes)
    share = f"always saying the most frequent class is right in {100 * doubts.majority(task):.1f} % of the test images"
    _say([*([] if equal else ["no equal images in two splits or two classes"]), share, *notes])
    if task.unreadable:
        _say([one_line(f"left out: {name}") for name in task.unreadable[:10]])
    file = results_folder(config.name) / ("inspect.png" if alone else f"inspect-{paths.plain(facts.task)}.png")
    with writing(config.name):
        paths.write_bytes(file, sheet.draw(task, f"{facts.task}, {facts.image_size} pixels"))
        data.list_unreadable(file.parent, facts.task, task)
    _say([f"some images of every class: {file}", ""])
    return [f"{facts.task}: {note}" for note in notes if note.startswith(WARNING)]


def _origins(point: Point, dataset: Dataset, task: Task) -> list[str]:
    """Return where each split comes from, a line each."""
    config = point.config.data
    own_test = "test" in dataset.splits()
    drawn = f"of every class, drawn with data.seed={config.seed}"
    test = "the data's own split" if own_test else f"data.test_fraction={config.test_fraction:g} {drawn}"
    val = f"data.val_fraction={config.val_fraction:g} {drawn}" + (", another fold for every seed" * config.rotate)
    if dataset.validation():
        val = "the data's own split"
    limit = config.per_class or config.limit_train
    fewer = f"; of which every seed takes {limit}{' of each class' * bool(config.per_class)}" if limit else ""
    counts = [len(split.rows) for split in (task.train, task.val, task.test)]
    return [
        f"{name}: {count} images, {origin}"
        for name, count, origin in zip(SPLITS, counts, (f"the rest{fewer}", val, test), strict=True)
    ]


def _counts(task: Task) -> str:
    """Return the table of classes and their images in each split; of many classes the first, and the smallest."""
    splits = (task.train, task.val, task.test)
    counts = np.stack([np.bincount(each.labels, minlength=len(task.classes)) for each in splits], axis=1)  # (C, 3)
    shown = list(range(len(task.classes)))
    if len(shown) > CLASSES:
        smallest = np.argsort(counts.sum(1), kind="stable")[: CLASSES // 4].tolist()
        shown = sorted({*shown[: CLASSES - len(smallest)], *smallest})
    rows = [[one_line(task.classes[each])[:40], *counts[each].tolist()] for each in shown]
    if len(shown) < len(task.classes):
        rows.append([f"({len(task.classes) - len(shown)} more)", *np.delete(counts, shown, axis=0).sum(0).tolist()])
    rows.append(["all", *counts.sum(0).tolist()])
    return tabulate(rows, headers=["class", *SPLITS], colglobalalign="right", colalign=["left"], disable_numparse=True)


def _near(task: Task, dataset: Dataset) -> list[str]:
    """Return a sentence on images that are not equal but look alike, in two splits."""
    test_of = "test" if "test" in dataset.splits() else "train"
    sides = [("test", task.test, test_of, "outside the test", task.fit)]
    sides.append(("validation", task.val, "train", "in training", task.train))
    made = []
    for who, ours, split, whom, theirs in sides:
        if not len(ours.rows) or not len(theirs.rows):
            continue
        one, other, all_of_them = alike.pairs(alike.small(ours), alike.small(theirs))
        different = _different(ours, theirs, one, other)
        if not len(different):
            continue
        first = different[0]
        names = (
            dataset.image_name(split, int(ours.rows[one[first]])),
            dataset.image_name("train", int(theirs.rows[other[first]])),
        )
        some = "" if all_of_them else " (only some were compared)"
        made.append(
            f"{WARNING}{len(different)} of {len(ours.rows)} {who} images look like one {whom} ({names[0]} and "
            f"{names[1]}){some}: the same picture at another size or compression, or nearly; look at them"
        )
    return made


def _different(ours: Split, theirs: Split, one: Labels, other: Labels) -> Labels:
    """Return which of these pairs are not equal: the equal ones are counted elsewhere."""
    equal = [
        np.array_equal(ours.pool[ours.rows[i]], theirs.pool[theirs.rows[j]]) for i, j in zip(one, other, strict=True)
    ]
    return np.flatnonzero(~np.array(equal, bool))


def _weights(session: Session, point: Point) -> list[str]:
    """Print what there is to know of the pretrained weights; return the warnings."""
    source = point.source
    mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (source.mean, source.std))
    what = f"{point.facts.model} trained on {source.task}, {source.n_classes} classes, {source.image_size} pixels"
    _say([f"weights: {what}, mean {mean}, std {std}"])
    if source.config.name == "pretrain" and not pretrain.path(source).exists():
        _say(["they are trained here, once, when the first sweep needs them; not there yet"])
        return []
    loaded = session.weights(source, session.device(point))  # says what was loaded and skipped
    if source.config.name == "pretrain":
        _say([f"trained here before: {pretrain.path(source)}"])
    found = proof.look(loaded.state)
    count = sum(value.numel() for value in loaded.state.values())
    lines, warnings = [f"{len(loaded.state)} tensors before the head, {count:,} numbers", found.line()], []
    if not found.trained:
        warnings.append(f"{WARNING}the weights look like those of a network that was never trained")
    rows = loaded.head["weight"].shape[0] if loaded.head else None
    if rows is not None:
        lines.append(f"its own classifier has {rows} classes")
        if rows != source.n_classes:
            warnings.append(f"{WARNING}source.n_classes={source.n_classes}, but its own classifier has {rows}")
    if loaded.accuracy is not None:
        lines.append(f"validation accuracy on its own task: {100 * loaded.accuracy:.1f} %")
    _say([*lines, *warnings])
    warnings += [note for note in loaded.notes if note.startswith(WARNING)]  # said where the weights were loaded
    return [f"{source.task}: {warning}" for warning in warnings]


def _blocks(point: Point) -> list[str]:
    """Return the table of what each freeze_depth freezes and leaves to train."""
    facts, unit = point.facts, point.config.freeze.unit
    names = catalog.spec(facts.model, facts.image_size).block_names(unit)
    channels = bands.count(point.config.data.channels)
    return [block_table(facts.model, unit, facts.image_size, facts.n_classes, names, channels)]
