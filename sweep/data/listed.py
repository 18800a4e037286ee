"""Image files that a table lists: the path and the label of each and, where there are such columns, split and group."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sweep.config import DataConfig, OwnTest, digest
from sweep.data import layout, marks, masks, table, walk
from sweep.data.files import ImageFiles, Listing
from sweep.data.located import Located, locate
from sweep.data.types import Labels, joined
from sweep.errors import AbsentError, UserError

NEEDS = "data=csv needs data.file=path/to/labels.csv: a csv, tsv or parquet table with a row per image"
TABLES = (".csv", ".tsv", ".parquet")
KINDS = {"path": table.PATH, "label": table.LABEL, "split": table.SPLIT, "group": table.GROUP}
NEEDED = ("path", "label")
FLOAT = re.compile(r"-?[0-9]{1,15}\.0+")


class Row(NamedTuple):
    """What the table says of one image; "" where it says nothing. place: where it says so."""

    place: str
    path: str
    label: str
    split: str
    group: str


class Image(NamedTuple):
    """A row with its file. split: train, val or test."""

    row: Row
    found: Located
    split: str


@dataclass(frozen=True)
class Columns:
    """The names of the columns; None where there is none.

    classes: where there is none of labels, the rows of each class, by its name, from a column of yes and no.
    marks: where there is none of splits, the columns of yes and no that mark the images of a split, by split.
    """

    path: str
    label: str | None
    split: str | None
    group: str | None
    classes: Mapping[str, list[bool]]
    marks: Mapping[str, str]


class Listed(ImageFiles):
    """The images that the table data.file lists."""

    takes = frozenset(
        {
            *("root", "file", "path_column", "label_column", "split_column", "group_column"),
            *("exclude", "pixel_range", "test", "channels"),
        }
    )

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self.config = config

    def where(self) -> str:
        return f"data.file={self.config.file}"

    def label(self) -> str | None:
        return Path(self.config.file).stem if self.config.file else None

    def top(self) -> Path:
        return self._places()[1]

    @property
    def looked(self) -> tuple[Listing, list[str]]:
        return self.everything[:2]

    def groups(self) -> Labels | None:
        return self.everything[2]

    @cached_property
    def everything(self) -> tuple[Listing, list[str], Labels | None]:
        """What the table lists, sentences on what is not plain, and groups(); looked up once. raises: UserError."""
        file, root = self._places()
        opened = table.read(self.where(), file)
        columns, notes = _columns(self.where(), opened, self.config)
        rows = _rows(self.where(), opened, columns)
        _refuse_empty(self.where(), rows, columns)
        split_of, said = _splits(self.where(), rows, columns, self.config.test)
        found, told = locate(self.where(), root, [(row.path, row.place) for row in rows])
        images = [Image(row, each, split_of[row.split]) for row, each in zip(rows, found, strict=True)]
        images, again = _once(self.where(), images)
        images = [each for each in images if not walk.fits(each.found.path, root, self.config.exclude)]
        classes = _classes(self.where(), images, self.config.exclude)
        number_of = {name: number for number, name in enumerate(classes)}
        # In this order the images of a folder come too, so that the same images are split alike.
        images.sort(key=lambda each: (number_of[each.row.label], each.found.path))
        by_split = {split: [each for each in images if each.split == split] for split in layout.WORDS}
        by_split = {split: each for split, each in by_split.items() if each}
        files = {split: [(i.found.path, number_of[i.row.label]) for i in each] for split, each in by_split.items()}
        listing = Listing(classes, files, _fingerprint(images))
        groups = _numbers(joined(by_split)["train"]) if columns.group else None
        notes = [*opened.notes, *notes, *said, *told, *again, *_broken(by_split), *_alike(classes)]
        return listing, notes + masks.among((each.found.path for each in images), [root.parent]), groups

    def _places(self) -> tuple[Path, Path]:
        """Return the table and the folder that its paths are relative to."""
        given, root = self.config.file, self.config.root
        folder = Path(root).expanduser() if root else None
        if not given:
            beside = sorted(each.name for each in folder.iterdir()) if folder and folder.is_dir() else []
            seen = [name for name in beside if name.lower().endswith(TABLES)][:3]
            raise UserError(f"data.file is not set: {NEEDS}" + (f"; {root} has {', '.join(seen)}" if seen else ""))
        file = Path(given).expanduser()
        if not file.exists():
            raise AbsentError(f"data.file={given}: no such file; {NEEDS}")
        if not file.is_file():
            raise UserError(f"data.file={given}: is {'a folder' if file.is_dir() else 'no plain file'}; {NEEDS}")
        if folder is not None and not folder.is_dir():
            raise AbsentError(f"data.root={root}: no such folder; paths in data.file={given} are relative to it")
        return file, folder if folder is not None else file.parent


def _columns(where: str, opened: table.Table, config: DataConfig) -> tuple[Columns, list[str]]:
    """Return which column is which, as asked or by usual names, and what to say of it."""
    notes: list[str] = []
    chosen: dict[str, str | None] = {}
    for kind in KINDS:
        asked: str | None = getattr(config, f"{kind}_column")
        free = [name for name in opened.names if name not in chosen.values()]
        usual = table.find(free, KINDS[kind])
        chosen[kind] = usual[0] if usual and not asked else None
        if asked and (asked in opened.names or kind in NEEDED or asked != table.NONE):
            same = [name for name in opened.names if table.plain(name) == table.plain(asked)]
            chosen[kind] = asked if asked in opened.names else next(iter(same), None)
            if chosen[kind] is None:
                raise _no_column(where, opened, kind, f"no column {asked}")
        if chosen[kind] is None and kind == "path":
            raise _no_column(where, opened, kind, _lacks(kind))
        if not asked and len(usual) > 1:
            notes.append(
                f"the {kind} is column {usual[0]}, not {usual[1]} (data.{kind}_column={usual[1]} changes that)"
            )
    marked = _split_columns(opened, chosen, config.split_column)
    taken = [*chosen.values(), *marked.values()]
    classes = {} if chosen["label"] else marks.of_classes(opened, (each for each in opened.names if each not in taken))
    if not chosen["label"] and not classes:
        raise _no_column(where, opened, "label", _lacks("label"))
    found = [f"{kind} is {name}" for kind, name in chosen.items() if name is not None]
    found += [f"{' and '.join(marked.values())} {'say' if len(marked) > 1 else 'says'} the split"] if marked else []
    found += [f"{_some([*classes])} mark a class each"] if classes else []
    others = [name for name in opened.names if name and name not in {*taken, *classes}]
    rest = f"; not read: {_some(others)}" if others else ""
    notes.insert(0, f"of the columns, {', '.join(found)}{rest}")
    if chosen["group"] and not config.group_column:
        notes.append(f"images with the same {chosen['group']} are never parted (data.group_column=none parts them)")
    return Columns(str(chosen["path"]), chosen["label"], chosen["split"], chosen["group"], classes, marked), notes


def _split_columns(opened: table.Table, chosen: dict[str, str | None], asked: str | None) -> dict[str, str]:
    """Return the columns that mark a split's images; if there are none, choose one that names splits."""
    named = chosen["split"] or asked
    marked = marks.of_splits(opened, [named] if named else opened.names)
    if marked:
        chosen["split"] = None
    elif not named:
        chosen["split"] = marks.by_words(opened, (name for name in opened.names if name not in chosen.values()))
    return marked


def _lacks(kind: str) -> str:
    return f"no column for the {kind} ({', '.join(KINDS[kind][:5])}, ...)"


def _no_column(where: str, opened: table.Table, kind: str, what: str) -> UserError:
    names = [name for name in opened.names if name]
    seen = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    header = "; the first line must name the columns" if any(Path(name).suffix for name in names) else ""
    header += "; cells are parted by a comma, semicolon, tab or |" if len(opened.names) == 1 else ""
    none = "" if kind in NEEDED else f", or {table.NONE}"
    return UserError(f"{where}: {what}; data.{kind}_column names it, one of {seen}{none}{header}")


def _rows(where: str, opened: table.Table, columns: Columns) -> list[Row]:
    count = range(len(opened.column(columns.path)))
    of = [
        opened.column(name) if name else [""] * len(count)
        for name in (columns.path, columns.label, columns.split, columns.group)
    ]
    of[1] = _whole_numbers(of[1]) if columns.label else marks.classes(where, opened, columns.classes)
    of[2] = marks.splits(where, opened, columns.marks) if columns.marks else of[2]
    return [Row(opened.place(number), *(column[number] for column in of)) for number in count]


def _whole_numbers(labels: list[str]) -> list[str]:
    """Return 1.0, 2.0 as 1, 2: integers become that in a column that had empty cells once."""
    return [each.partition(".")[0] for each in labels] if all(FLOAT.fullmatch(each) for each in {*labels}) else labels


def _refuse_empty(where: str, rows: list[Row], columns: Columns) -> None:
    """Raise UserError if a row says nothing of what it must say. A row without a group stands alone."""
    for kind in ("path", "label", "split") if columns.split else ("path", "label"):
        empty = [row.place for row in rows if not getattr(row, kind)]
        if empty:
            raise UserError(f"{where}: no {kind} in {_some(empty)}; fill it in or remove {_it(empty)}")


def _splits(where: str, rows: list[Row], columns: Columns, own_test: OwnTest) -> tuple[dict[str, str], list[str]]:
    """Return the split of each word in the column of splits, and what to say of it."""
    if columns.split is None and not columns.marks:
        used, notes = layout.choose_test(where, {"train": ""}, own_test, OwnTest.train)
        return {"": "train"}, notes
    words = {row.split: row for row in reversed(rows)}
    said = layout.split_names(words)
    for word, row in reversed(words.items()):
        if word not in said:
            raise UserError(
                f"{where}: {row.place} has {columns.split} {word}; use train, val or test, or data.split_column=none "
                "to hold out images at random"
            )
    split_of = {word: split for word, (split, _) in said.items()}
    if "train" not in split_of.values():
        named = columns.split or " and ".join(columns.marks.values())
        raise UserError(f"{where}: column {named} has no train, only {', '.join(words)}")
    used, notes = layout.choose_test(where, {split: split for split in split_of.values()}, own_test, OwnTest.train)
    role = {own: use for use, own in used.items()}
    return {word: role[split] for word, split in split_of.items()}, notes


def _once(where: str, images: list[Image]) -> tuple[list[Image], list[str]]:
    """Return each file once, and a note of those that are listed again; raise UserError if rows say different things.

    A file is the same however its path is written and whatever links lead to it.
    """
    seen: dict[str, Image] = {}
    for each in images:
        other = seen.setdefault(each.found.real, each)
        for kind, ours, theirs in (
            ("labels", each.row.label, other.row.label),
            ("splits", each.split, other.split),
            ("groups", each.row.group, other.row.group),
        ):
            if ours != theirs:
                raise UserError(
                    f"{where}: {other.row.place} and {each.row.place} give {other.row.path} different {kind}, "
                    f"{theirs or 'none'} and {ours or 'none'}; leave one"
                )
    again = len(images) - len(seen)
    return [*seen.values()], [f"{again} rows list an image again, and are left out"] if again else []


def _classes(where: str, images: list[Image], exclude: str | None) -> tuple[str, ...]:
    """Return the labels, in numerical order if all are whole numbers; each must have an image in every split."""
    if not images:
        raise UserError(f"{where}: data.exclude={exclude} leaves out every image")
    classes = table.in_order(each.row.label for each in images)
    for split in layout.WORDS:
        own = {each.row.label for each in images if each.split == split}
        absent = [name for name in classes if name not in own]
        if own and absent:
            raise UserError(f"{where}: {split} has no image of class {_some(absent)}; add some, or remove the class")
    return classes


def _fingerprint(images: list[Image]) -> str:
    rows = [
        [each.found.name, each.found.size, each.found.time, each.row.label, each.split, each.row.group]
        for each in images
    ]
    return digest(rows)


def _numbers(images: list[Image]) -> Labels:
    """Return the number of each image's group (N,), which its own is if it has none."""
    number_of: dict[str, int] = {}
    own = iter(range(len(images), 2 * len(images)))
    return np.array(
        [number_of.setdefault(i.row.group, len(number_of)) if i.row.group else next(own) for i in images], np.int64
    )


def _broken(by_split: dict[str, list[Image]]) -> list[str]:
    """Return a sentence if the table's own splits part a group."""
    where: dict[str, set[str]] = {}
    for split, images in by_split.items():
        for each in images:
            if each.row.group:
                where.setdefault(each.row.group, set()).add(split)
    broken = {group: splits for group, splits in where.items() if len(splits) > 1}
    if not broken:
        return []
    group, splits = min(broken.items())
    return [
        f"warning: the table's splits part {len(broken)} of {len(where)} groups, such as {group} in "
        f"{' and '.join(split for split in layout.WORDS if split in splits)}: results may be better than on new groups"
    ]


def _alike(classes: tuple[str, ...]) -> list[str]:
    """Return a sentence if classes differ in nothing but case or spaces."""
    counts = Counter(" ".join(name.casefold().split()) for name in classes)
    alike = [name for name in classes if counts[" ".join(name.casefold().split())] > 1]
    return [f"warning: the classes {', '.join(alike[:4])} differ in case or spaces alone"] if alike else []


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _it(names: Sequence[str]) -> str:
    return "the row" if len(names) == 1 else "these rows"
