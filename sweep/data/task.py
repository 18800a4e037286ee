"""What makes a task of a data set: which classes, how they are split, how the images are changed, and its case."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sweep.config import Broken, Case, DataConfig, Transform, digest
from sweep.data import bands, decoded, doubts, registry, turns
from sweep.data.decoded import Decoded
from sweep.data.types import Dataset, Fold, Labels, Split, Task, Turns
from sweep.errors import UserError, unknown
from sweep.paths import plain, write_rows, write_text
from sweep.seeds import stream

# What load() does not look at: tasks that differ in nothing else are one when loaded.
NOT_LOADED = (
    *("label", "matched_group", "image_size", "normalize", "augment", "case", "per_class", "limit_train", "rotate"),
)


NOTHING_SAID = DataConfig()
# Settings of the files that not every data set has: what the others lack, and what to do.
MEANT = {
    "root": ("reads no files", "add data=image_folder"),
    "factory": ("is made by no function of yours", "add data=module"),
    "file": ("reads no table", "add data=csv"),
    "path_column": ("has no column of paths", "add data=csv"),
    "image_column": ("has no columns of images", "add data=parquet"),
    "label_column": ("has no columns", "add data=csv or data=parquet"),
    "split_column": ("has no column of splits", "add data=csv"),
    "group_column": ("has no column of groups", "add data=csv"),
    "layout": ("has no folders", "add data=image_folder"),
    "exclude": ("has no folders", "add data=image_folder"),
    "pixel_range": ("has no folders", "add data=image_folder"),
    "test": ("has no validation split", "leave it out"),
    "channels": ("reads no files of images", "leave it out"),
}


def check(config: DataConfig) -> None:
    """Raise UserError if this data set is unknown or its files cannot be as they should; reads no image."""
    _check_pixel_range(config.pixel_range)
    bands.check("data.channels", config.channels)
    dataset = registry.open(config)
    _check_meant(config, dataset)
    kept = len(kept_classes(config))
    if config.groups is not None and not 2 <= config.groups <= kept:
        raise UserError(f"data.groups={config.groups}: {kept} classes make 2 to {kept} groups")
    names = classes(config)
    if len(names) < 2:
        raise UserError(f"{dataset.where()}: only one class ({', '.join(names)}); at least two are needed")
    if config.limit_train is not None and config.limit_train < len(names):
        raise UserError(
            f"data.limit_train={config.limit_train}: {len(names)} classes need at least one image each; "
            f"use {len(names)} or more"
        )


def _check_meant(config: DataConfig, dataset: Dataset) -> None:
    """Raise UserError for a setting of the files that this data set knows nothing of."""
    for name, (lack, other) in MEANT.items():
        given = getattr(config, name)
        if given != getattr(NOTHING_SAID, name) and name not in dataset.takes:
            raise UserError(f"data.{name}={given}: data={config.name} {lack}; {other}")


def _check_pixel_range(given: Any) -> None:
    """Raise UserError unless it is null or two numbers, the first below the second."""
    numbers = isinstance(given, list) and all(type(each) in (int, float) and np.isfinite(each) for each in given)
    if given is not None and not (numbers and len(given) == 2 and given[0] < given[1]):
        raise UserError(f"data.pixel_range={given}: use two numbers, the lower first, such as [0,4095], or null")


def pixel_range(config: DataConfig) -> tuple[float, float] | None:
    """Return which values are black and white in images of more than 8 bits; None if there are no such images."""
    return registry.open(config).pixel_range()


def notes(config: DataConfig) -> list[str]:
    """Return what the user should know of the files before anything is trained, a sentence each."""
    return registry.open(config).notes()


def fingerprint(config: DataConfig) -> str:
    """Return what names the task's images and classes by content."""
    own = [] if config.channels == bands.COLOUR else [config.channels]
    return digest([config.name, registry.open(config).fingerprint(), classes(config), str(config.transform), *own])


def classes(config: DataConfig) -> tuple[str, ...]:
    """Return the names of the task's classes, in label order: the data set's, or data.classes, or groups of them."""
    names = _kept_names(config)
    if config.groups is None:
        return names
    members: list[list[str]] = [[] for _ in range(config.groups)]
    for name, group in zip(names, _groups(config, len(names)), strict=True):
        members[group].append(name)
    return tuple("+".join(each) for each in members)


def _kept_names(config: DataConfig) -> tuple[str, ...]:
    """Return the data set's names of the classes that the task keeps, in the task's order."""
    names = registry.open(config).classes()
    return tuple(names[number] for number in kept_classes(config))


def _groups(config: DataConfig, count: int) -> Labels:
    """Return the label of each of `count` classes: neighbours share one, as evenly as can be."""
    return np.arange(count) * (config.groups or count) // count


def kept_classes(config: DataConfig) -> list[int]:
    """Return the data set's labels that the task keeps, in the task's order."""
    names = registry.open(config).classes()
    if config.classes is None:
        return list(range(len(names)))
    asked = config.classes if isinstance(config.classes, list) else [config.classes]
    # A name goes before a number: the classes of digits are called 0 to 9.
    by_name = {name: number for number, name in enumerate(names)}
    kept = []
    for each in asked:
        number = by_name.get(str(each), each)
        if not isinstance(number, int) or not 0 <= number < len(names):
            raise unknown("data.classes", str(each), names if len(names) <= 50 else [*names[:3], "...", names[-1]])
        kept.append(number)
    if len(set(kept)) != len(kept):
        raise UserError(f"data.classes={config.classes}: the same class twice; list each once")
    return kept


def label(config: DataConfig) -> str:
    """Return the task's name in tables: data.label, else the folder's name, else the data set's."""
    if config.label:
        return config.label
    given = registry.open(config).label()
    if given is not None:
        return given
    own = "" if config.classes is None and config.groups is None else f"-{len(classes(config))}classes"
    return config.name + own + ("" if config.transform is Transform.none else f"-{config.transform}")


def case(config: DataConfig, source: str, source_classes: int) -> Case:
    """Return the rule's case of this task: as declared, else as known for embedded tasks, else unknown."""
    n_classes = len(classes(config))
    declared, fewer = config.case, n_classes < source_classes
    if declared is Case.auto:
        known = registry.open(config).similar(source)
        if known is None or config.transform is not Transform.none:
            return Case.unknown
        return (Case.similar_fewer if fewer else Case.similar_more) if known else Case.dissimilar
    if declared in (Case.similar_fewer, Case.similar_more) and fewer != (declared is Case.similar_fewer):
        right = Case.similar_fewer if fewer else Case.similar_more
        raise UserError(
            f"data.case={declared}: {config.name} has {n_classes} classes and source {source} has "
            f"{source_classes}; use {right}, dissimilar or auto"
        )
    return declared


def load(config: DataConfig, image_size: int, max_gb: float = 0.0) -> Task:
    """Return the task; its test split and its folds depend on data.seed alone, never on which seeds are asked for.

    Images are decoded once and kept on disk, memory-mapped, in the store, which is trimmed to max_gb; with 0 they are
    kept in memory alone, by whoever holds the task.
    raises: UserError for unreadable images (by name), for copies that are not to be there, and for classes too small
    to be split.
    """
    dataset, skip = registry.open(config), config.broken is Broken.skip
    wanted = decoded.Wanted(image_size, config.transform, skip, bands.count(config.channels))
    whole = decoded.load(dataset, wanted, max_gb)
    task = _parted(config, dataset, whole)
    unreadable = whole.left_out()
    notes = []
    if unreadable:
        count = f"{len(unreadable)} unreadable image" + "s" * (len(unreadable) > 1)
        notes.append(
            f"warning: {count} left out ({unreadable[0]}); the results folder lists them in "
            f"{unreadable_file(label(config))}"
        )
    task = doubts.judged(replace(task, notes=tuple(notes), unreadable=unreadable), config.balanced_accuracy)
    own_test = "test" if "test" in whole.splits else "train"

    def name(part: str, place: int) -> str:
        split = task.test if part == "test" else task.fit
        return dataset.image_name(own_test if part == "test" else "train", int(split.rows[place]))

    def names(part: str) -> list[str]:
        split, whole_split = (task.test, own_test) if part == "test" else (task.fit, "train")
        every = list(dataset.image_names(whole_split))
        return [every[row] for row in split.rows]

    task = replace(task, notes=(*task.notes, *doubts.dark(task, name)))
    if any(dataset.image_names("train")):
        task = replace(task, names=names)
    keys = whole.keys["train"][task.fit.rows], whole.keys[own_test][task.test.rows]
    return doubts.without_copies(task, *keys, config.duplicates, name)


def _parted(config: DataConfig, dataset: Dataset, whole: Decoded) -> Task:
    """Return the task's classes and splits, with what takes turns in validating."""
    kept, names = kept_classes(config), _kept_names(config)
    splits = whole.splits
    chooses = len(splits["train"].pool) - dataset.validation()  # from this row on
    if config.classes is not None:
        splits = {name: _relabel(split, kept) for name, split in splits.items()}
    fit, test = splits["train"], splits.get("test")
    own = fit.rows >= chooses
    if whole.unreadable:
        parts = {"training": fit.labels[~own]} | ({"validation": fit.labels[own]} if dataset.validation() else {})
        for part, labels in (parts | ({"test": test.labels} if test else {})).items():
            doubts.require_classes(labels, names, part, "data.broken=skip")
    if test is None:
        given, fit = fit.take(np.flatnonzero(own)), fit.take(np.flatnonzero(~own))
        rest, held = _turns(config, fit, names, test=True).fold(0)
        test = fit.take(held)
        fit = replace(fit, rows=np.r_[fit.rows[rest], given.rows], labels=np.r_[fit.labels[rest], given.labels])
    folds = Turns.fixed(fit.rows >= chooses) if dataset.validation() else _turns(config, fit, names)
    coarse = _groups(config, len(names))  # after the splits, so that coarse and fine labels name the same images
    fit, test = (replace(split, labels=coarse[split.labels]) for split in (fit, test))
    return Task(classes(config), fit, test, folds)


def _turns(config: DataConfig, fit: Split, names: tuple[str, ...], test: bool = False) -> Turns:
    """Return how these training images take turns in being held out, for the test or for validation."""
    fraction = config.test_fraction if test else config.val_fraction
    rng = stream(config.seed, "test split" if test else "validation split")
    groups = registry.open(config).groups()
    if groups is None:
        return turns.draw(fit.labels, fraction, rng, names)
    return turns.draw_groups(fit.labels, groups[fit.rows], fraction, rng, names)


def unreadable_file(task: str) -> str:
    """Return the name of the file in the results folder that lists the images which were left out."""
    return f"unreadable-{plain(task)}.txt"


def list_unreadable(root: Path, name: str, task: Task) -> None:
    """Write that file, if images of the task with this name were left out."""
    if task.unreadable:
        write_text(root / unreadable_file(name), "".join(f"{image}\n" for image in task.unreadable))


def list_images(root: Path, name: str, task: Task) -> None:
    """Write images-NAME.csv, if images have names: each with its class, and whether in train, val (fold 0) or test."""
    if task.names is None:
        return
    splits = np.full(len(task.fit.labels), "train")
    splits[task.turns.fold(0).val] = "val"
    parts = (("fit", task.fit.labels, splits), ("test", task.test.labels, np.full(len(task.test.labels), "test")))
    rows = [
        (image, task.classes[label], split)
        for part, labels, held in parts
        for image, label, split in zip(task.names(part), labels, held, strict=True)
    ]
    write_rows(root / f"images-{plain(name)}.csv", ["image", "class", "split"], rows)


def loaded_key(config: DataConfig, image_size: int) -> str:
    """Return what names the result of load() within a process: tasks with the same key are equal once loaded."""
    looked_at = sorted((key, value) for key, value in vars(config).items() if key not in NOT_LOADED)
    return repr((image_size, looked_at))


def draw(config: DataConfig, task: Task, seed: int) -> Fold:
    """Return which images a member with this seed trains on, and which it is chosen by.

    raises: UserError if there are fewer than the config asks for.
    """
    fold = task.fold(seed if config.rotate else 0)
    if task.copies is not None:
        doubts.require_classes(task.fit.labels[fold.train], task.classes, "training", "data.duplicates=drop")
    return fold._replace(train=fold.train[subsample(config, task.fit.labels[fold.train], seed, task.classes)])


def subsample(config: DataConfig, labels: Labels, seed: int, classes: tuple[str, ...]) -> Labels:
    """Return the sorted indices of the images, of those with these labels, that a member with this seed trains on.

    data.per_class takes that many of each class; data.limit_train that many in all, keeping the class shares
    (largest remainder, at least one each); neither takes all.
    """
    counts = np.bincount(labels, minlength=len(classes))
    if config.per_class is not None:
        if counts.min() < config.per_class:
            raise UserError(
                f"data.per_class={config.per_class}: class {classes[counts.argmin()]} has only {counts.min()} "
                f"training images after the validation split; use {counts.min()} or fewer"
            )
        quota = np.full(len(classes), config.per_class)
    elif config.limit_train is not None:
        if config.limit_train > len(labels):
            raise UserError(
                f"data.limit_train={config.limit_train}: {label(config)} has {len(labels)} training images after "
                f"the validation split; use {len(labels)} or fewer, or null for all"
            )
        quota = _shares(counts, config.limit_train)
    else:
        return np.arange(len(labels))
    order = stream(seed, "subsample").permutation(len(labels))
    chosen = [order[labels[order] == label][: quota[label]] for label in range(len(classes))]
    return np.sort(np.concatenate(chosen))


def _shares(counts: Labels, total: int) -> Labels:
    exact = total * counts / counts.sum()
    quota: Labels = np.maximum(1, np.floor(exact).astype(np.int64))
    while quota.sum() < total:
        quota[np.argmax(np.where(quota < counts, exact - quota, -np.inf))] += 1
    while quota.sum() > total:  # classes lifted to one image took more than there was
        quota[np.argmax(np.where(quota > 1, quota - exact, -np.inf))] -= 1
    return quota


def _relabel(split: Split, kept: list[int]) -> Split:
    """Return the images of these classes, labelled by their places in the list."""
    place = np.full(max(int(split.labels.max()), *kept) + 1, -1)
    place[kept] = np.arange(len(kept))
    chosen = split.take(np.flatnonzero(place[split.labels] >= 0))
    return Split(chosen.pool, chosen.rows, place[chosen.labels])
