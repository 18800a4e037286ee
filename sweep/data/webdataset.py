"""Images in tar archives, as the webdataset library has them: key.jpg, and its label in key.cls, .json or .txt."""

import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sweep.config import DataConfig, OwnTest, digest
from sweep.data import decode, layout, shards, table, tar
from sweep.data.encoded import EncodedImages
from sweep.data.types import Labels, joined
from sweep.errors import AbsentError, UserError

LAYOUT = "a .tar or .tar.gz archive, or a folder of them: train-*.tar and test-*.tar, or train/*.tar and test/*.tar"
SUFFIXES = (".tar", ".tar.gz", ".tgz")
LABELS = ("cls", "json", "txt")  # what files with labels are called; earlier ones go first
TEXT = 1 << 20  # bytes of a label, at most


class Image(NamedTuple):
    """An image in an archive. number: its place among all members."""

    key: str
    number: int
    label: str


@dataclass
class Shard:
    """What lies in an archive. images: {key: (number, name)}; labels: {kind: {key: text}}; other: what is not read."""

    images: dict[str, tuple[int, str]] = field(default_factory=dict)
    labels: dict[str, dict[str, str]] = field(default_factory=lambda: {kind: {} for kind in LABELS})
    other: Counter[str] = field(default_factory=Counter)


class Listing(NamedTuple):
    """Which images there are. files: {split: its archives}; images: {archive: its images, in order}."""

    classes: tuple[str, ...]
    files: dict[str, list[Path]]
    images: dict[Path, list[Image]]
    fingerprint: str
    notes: list[str]


class WebDataset(EncodedImages):
    """The images in one archive, or in a folder of them, at data.root."""

    takes = frozenset({"root", "label_column", "test", "channels"})

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self.test, self.label_column = config.test, config.label_column

    @cached_property
    def listing(self) -> Listing:
        """What the archives hold, looked up once; decodes no image. raises: UserError, also for a wrong label."""
        if not self.root:
            raise UserError(f"data.root is not set: data=webdataset needs data.root=path/to/archives ({LAYOUT})")
        path = Path(self.root).expanduser()
        files, notes = _files(self.root, path, self.test)
        every = [file for group in files.values() for file in group]
        found = {file: _look(self.where(), file) for file in every}
        kind = _kind(self.where(), found, self.label_column)
        images = {file: _images(self.where(), file, found[file], kind, self.label_column) for file in every}
        labels = {split: {each.label for file in group for each in images[file]} for split, group in files.items()}
        classes = table.in_order(set().union(*labels.values()))
        for split, own in labels.items():
            if absent := [name for name in classes if name not in own]:
                raise UserError(f"{self.where()}: {split} has no image of class {', '.join(absent[:3])}")
        rows: list[Any] = [_stamp(file, path if path.is_dir() else path.parent) for file in every]
        roles = [{split: len(group) for split, group in files.items()}] if "val" in files else []
        return Listing(classes, files, images, digest([rows, kind, self.label_column, *roles]), notes + _left(found))

    def validation(self) -> int:
        return sum(len(self.listing.images[file]) for file in self.listing.files.get("val", ()))

    def notes(self) -> list[str]:
        return self.listing.notes

    def label(self) -> str | None:
        return _stem(Path(self.root).expanduser().resolve()) if self.root else None

    def labels(self, split: str) -> Labels:
        number_of = {name: number for number, name in enumerate(self.listing.classes)}
        files = joined(self.listing.files)[split]
        return np.array([number_of[i.label] for file in files for i in self.listing.images[file]], np.int64)

    def encoded(self, split: str) -> Iterator[decode.Encoded]:
        return (image for file in joined(self.listing.files)[split] for image in self._encoded(file))

    def image_names(self, split: str) -> Iterator[str]:
        files = joined(self.listing.files)[split]
        return (f"{file.name} {i.key}" for file in files for i in self.listing.images[file])

    def _encoded(self, file: Path) -> Iterator[decode.Encoded]:
        key_of = {image.number: image.key for image in self.listing.images[file]}
        found = 0
        for number, (_, content) in enumerate(tar.members(self.where(), file, lambda number, _: number in key_of)):
            if number in key_of:
                found += 1
                yield decode.Encoded(f"{file.name} {key_of[number]}", content)
        if found < len(key_of):
            raise UserError(f"{self.where()}: {file.name} was changed while it was read; run the command again")


def _files(root: str, path: Path, own_test: OwnTest) -> tuple[dict[str, list[Path]], list[str]]:
    """Return {split: its archives}, by their names or their folders', and sentences on what is not plain."""
    if path.is_file():
        if not path.name.lower().endswith(SUFFIXES):
            raise UserError(f"data.root={root}: not a tar archive; use {LAYOUT}")
        return {"train": [path]}, []
    if not path.is_dir():
        raise AbsentError(f"data.root={root}: no such file or folder; use {LAYOUT}")
    if found := _archives(path):
        return shards.by_name(root, found, own_test, LAYOUT)
    folders = {name: _archives(path / name) for name in layout.subfolders(path)}
    splits: dict[str, list[Path]] = {}
    for name, (split, _) in layout.split_names(name for name, inside in folders.items() if inside).items():
        splits.setdefault(split, []).extend(folders[name])
    if "train" not in splits:
        seen = ", ".join(f"{name}/" for name, inside in folders.items() if inside) or "no archives"
        raise UserError(f"data.root={root}: no training archives in it, but {seen}; use {LAYOUT}")
    return shards.with_left(root, splits, [name for name, inside in folders.items() if inside], own_test)


def _archives(folder: Path) -> list[Path]:
    return sorted(
        each
        for each in folder.iterdir()
        if each.name.lower().endswith(SUFFIXES) and not layout.hidden(each.name) and each.is_file()
    )


def _look(where: str, file: Path) -> Shard:
    """Return what lies in an archive; reads labels, no image."""
    shard = Shard()
    for number, (member, content) in enumerate(tar.members(where, file, _is_label)):
        key, kind = _parted(member.name)
        if member.isdir() or layout.hidden(member.name.rpartition("/")[2]):
            continue
        if not member.isreg():
            shard.other["links and devices"] += 1
        elif f".{kind}" in decode.FORMATS:
            if key in shard.images:
                two = f"{shard.images[key][1]} and {member.name}"
                raise UserError(f"{where}: {file.name} has two images for {key}, {two}; leave one")
            shard.images[key] = number, member.name
        elif kind in LABELS:
            shard.labels[kind][key] = _text(f"{where}: {file.name} {member.name}", content)
        else:
            shard.other[f".{kind}" if kind else "without a suffix"] += 1
    return shard


def _parted(name: str) -> tuple[str, str]:
    """Return what images and labels share, and the kind of file, as the webdataset library does.

    >>> _parted("./a/1.seg.PNG")
    ('a/1', 'seg.png')
    """
    folder, _, last = name.rpartition("/")
    base, _, kind = last.partition(".")
    return f"{folder}/{base}".removeprefix("./").lstrip("/"), kind.casefold()


def _is_label(number: int, member: tarfile.TarInfo) -> bool:
    return _parted(member.name)[1] in LABELS and member.size <= TEXT


def _text(where: str, content: bytes | None) -> str:
    if content is None:
        raise UserError(f"{where} is no label: it has more than {TEXT >> 20} MB")
    try:
        return content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is no label: it is not UTF-8") from error


def _kind(where: str, found: dict[Path, Shard], asked: str | None) -> str:
    """Return which files the labels are in: the first kind that every image has."""
    kinds = ("json",) if asked else LABELS
    lacks: dict[str, str] = {}
    for kind in kinds:
        without = [f"{file.name} {key}" for file, s in found.items() for key in s.images if key not in s.labels[kind]]
        if not without:
            break
        lacks[kind] = without[0]
    else:
        last = max(lacks, key=lambda kind: sum(len(each.labels[kind]) for each in found.values()))
        raise UserError(f"{where}: {lacks[last]} has no label; use KEY.{', KEY.'.join(kinds)} beside each image")
    if not any(each.images for each in found.values()):
        raise UserError(f"{where}: no images in {', '.join(file.name for file in [*found][:3])}; use {LAYOUT}")
    return kind


def _images(where: str, file: Path, shard: Shard, kind: str, asked: str | None) -> list[Image]:
    made = []
    for key, (number, _) in shard.images.items():
        label = shard.labels[kind][key]
        if kind == "json":
            label = _value(f"{where}: {file.name} {key}.json", label, asked)
        if not label:
            raise UserError(f"{where}: {file.name} {key}.{kind} is empty; it must hold the label")
        made.append(Image(key, number, label))
    return made


def _value(where: str, text: str, asked: str | None) -> str:
    """Return the label in JSON: a text or a number, or the value of such a name."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is no JSON") from error
    if isinstance(content, dict):
        usual = table.find(content, table.LABEL)
        name = asked or (usual[0] if usual else None)
        if name not in content:
            seen = ", ".join(map(str, content)) or "nothing"
            raise UserError(f"{where} has no {name or 'label'}; data.label_column names it, one of {seen[:200]}")
        content = content[name]
    if not isinstance(content, str | int | float):
        raise UserError(f"{where} has the label {str(content)[:50]}; labels are text or numbers")
    return table.cell(content)


def _left(found: dict[Path, Shard]) -> list[str]:
    """Return a sentence on what is not read."""
    other = sum((each.other for each in found.values()), Counter[str]())
    alone = sum(len(set().union(*each.labels.values()) - set(each.images)) for each in found.values())
    notes = [f"{alone} labels have no image, and are left out"] if alone else []
    counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(other.items())[:10])
    return notes + ([f"left out, because they are no images or labels: {counts}"] if counts else [])


def _stamp(file: Path, base: Path) -> list[Any]:
    known = file.stat()
    return [file.relative_to(base).as_posix(), known.st_size, known.st_mtime_ns]


def _stem(path: Path) -> str:
    return next((path.name[: -len(each)] for each in SUFFIXES if path.name.lower().endswith(each)), path.name)
