"""Images in files with a row per image, its encoded bytes and its label, whatever format the files have."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from sweep.config import DataConfig, OwnTest, digest
from sweep.data import decode
from sweep.data.encoded import EncodedImages
from sweep.data.types import Labels, joined
from sweep.errors import UserError

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")
BATCH = 64  # rows read at a time


class Format(NamedTuple):
    """How files of a format are found and read; all but find may raise what pyarrow raises for damaged ones.

    find(root, path, own_test) -> ({split: its files}, sentences on what is not plain).
    column(file, name) -> its values. parts(file, name) -> the same as arrays of a few rows each.
    suffix: what the files are called.
    """

    layout: str  # which files belong where, for errors
    suffix: str
    find: Callable[[str, Path, OwnTest], tuple[dict[str, list[Path]], list[str]]]
    schema: Callable[[Path], pa.Schema]
    column: Callable[[Path, str], list[Any]]
    parts: Callable[[Path, str], Iterator[pa.Array]]


@dataclass(frozen=True)
class Listing:
    """What the files hold. files: {split: its files, in order}; labels: {split: (N,) numbers into classes}.

    counts: rows of each file. image: the column with the images.
    fingerprint: a digest of every file's name, size and time, as an image folder's.
    """

    classes: tuple[str, ...]
    files: dict[str, list[Path]]
    labels: dict[str, Labels]
    counts: dict[Path, int]
    image: str
    fingerprint: str
    notes: list[str]  # sentences on what is not plain


class Rows(EncodedImages):
    """The images in files of one format at data.root."""

    format: Format

    takes = frozenset({"root", "image_column", "label_column", "test", "channels"})

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self.image_column = config.image_column
        self.label_column = config.label_column
        self.test = config.test

    @cached_property
    def listing(self) -> Listing:
        """What the files hold, looked up once; raises UserError, also for a wrong label."""
        return list_rows(self.format, self.root, self.image_column, self.label_column, self.test)

    def validation(self) -> int:
        return len(self.listing.labels.get("val", ()))

    def notes(self) -> list[str]:
        return self.listing.notes

    def label(self) -> str | None:
        return Path(self.root).expanduser().resolve().name.removesuffix(self.format.suffix) if self.root else None

    def labels(self, split: str) -> Labels:
        numbers = joined({name: [of_split] for name, of_split in self.listing.labels.items()})
        return np.concatenate(numbers[split])

    def encoded(self, split: str) -> Iterator[decode.Encoded]:
        return (row for file in joined(self.listing.files)[split] for row in self._rows(file))

    def image_names(self, split: str) -> Iterator[str]:
        counts = self.listing.counts
        return (f"{file.name} row {row}" for file in joined(self.listing.files)[split] for row in range(counts[file]))

    def _rows(self, file: Path) -> Iterator[decode.Encoded]:
        index = 0
        with whole(self.root, file):
            for values in self.format.parts(file, self.listing.image):
                for content in (values.field("bytes") if pa.types.is_struct(values.type) else values).to_pylist():
                    yield decode.Encoded(f"{file.name} row {index}", content)
                    index += 1


def list_rows(
    form: Format, root: str | None, image_column: str | None, label_column: str | None, own_test: OwnTest = OwnTest.auto
) -> Listing:
    """Return what the files hold; reads their labels, no image. raises: UserError, also for a wrong label."""
    if not root:
        kind = form.suffix.removeprefix(".")
        raise UserError(f"data.root is not set: data={kind} needs data.root=path/to/files ({form.layout})")
    path = Path(root).expanduser()
    files, notes = form.find(root, path, own_test)
    every = [file for group in files.values() for file in group]
    schemas = [_schema(form, root, file) for file in every]
    image = _column(root, schemas[0], "image_column", image_column, IMAGE_COLUMNS)
    label = _column(root, schemas[0], "label_column", label_column, LABEL_COLUMNS)
    for file, schema in zip(every, schemas, strict=True):
        _check_same(root, (every[0], schemas[0]), (file, schema), (image, label))
    _check_kinds(root, schemas[0], image, label)
    values = {file: _column_values(form, root, file, label) for file in every}
    classes, labels = _read_labels(root, files, _names(schemas[0], label), (label, values))
    base = path if path.is_dir() else path.parent
    rows = [[str(f.relative_to(base)), f.stat().st_size, f.stat().st_mtime_ns] for f in every]
    # Also which images choose, where that is not left to data.val_fraction: without it, names stay what they were.
    roles = [{split: len(group) for split, group in files.items()}] if "val" in files else []
    counts = {file: len(found) for file, found in values.items()}
    return Listing(classes, files, labels, counts, image, digest([rows, image, label, *roles]), notes)


def _read_labels(
    root: str,
    files: dict[str, list[Path]],
    names: list[str] | None,
    read: tuple[str, dict[Path, list[Any]]],
) -> tuple[tuple[str, ...], dict[str, Labels]]:
    """Return the classes, and {split: (N,) numbers into them}; every class must have an image in every split.

    read: the column with the labels, and its values in each file.
    """
    column, values = read
    if not any(values.values()):
        raise UserError(f"data.root={root}: no rows in {', '.join(file.name for file in [*values][:3])}")
    classes, number_of = _classes(names, values)
    for file, found in values.items():
        for row, value in enumerate(found):
            if value not in number_of:
                allowed = (
                    f"0..{len(classes) - 1} ({classes[0]}..{classes[-1]})"
                    if names
                    else "numbers from 0 or strings, never empty"
                )
                raise UserError(f"data.root={root}: {file.name} row {row} has {column} {value}; labels are {allowed}")
    labels = {
        split: np.array([number_of[value] for file in group for value in values[file]], dtype=np.int64)
        for split, group in files.items()
    }
    for split, numbers in labels.items():
        empty = set(range(len(classes))) - set(numbers.tolist())
        if empty:
            raise UserError(f"data.root={root}: {split} has no image of class {classes[min(empty)]}")
    return classes, labels


@contextmanager
def whole(root: str | None, file: Path) -> Iterator[None]:
    """Turn what pyarrow raises for a damaged file into a UserError that names it."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"data.root={root}: {file.name} is no whole {file.suffix[1:]} file ({' '.join(str(error).split())[:150]})"
        ) from error


def _schema(form: Format, root: str, file: Path) -> pa.Schema:
    with whole(root, file):
        return form.schema(file)


def _column_values(form: Format, root: str, file: Path, column: str) -> list[Any]:
    with whole(root, file):
        return form.column(file, column)


def _column(root: str, schema: pa.Schema, setting: str, asked: str | None, common: tuple[str, ...]) -> str:
    for name in (asked,) if asked else common:
        if name in schema.names:
            return name
    missing = asked or " or ".join(common)
    raise UserError(f"data.root={root}: no column {missing}; give data.{setting}, one of {', '.join(schema.names)}")


def _check_same(
    root: str,
    first: tuple[Path, pa.Schema],
    other: tuple[Path, pa.Schema],
    columns: tuple[str, ...],
) -> None:
    """Raise UserError unless the other file has these columns with the types of the first."""
    for name in columns:
        if name not in other[1].names or other[1].field(name).type != first[1].field(name).type:
            raise UserError(f"data.root={root}: {other[0].name} and {first[0].name} differ in column {name}")


def _check_kinds(root: str, schema: pa.Schema, image: str, label: str) -> None:
    kind = schema.field(image).type
    if not _is_bytes(kind) and not (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0):
        table = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        paths = f"; data=csv data.file={root} reads paths" if table else ""
        raise UserError(f"data.root={root}: column {image} is {kind}; images are binary, or a struct with bytes{paths}")
    kind = schema.field(label).type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise UserError(f"data.root={root}: column {label} is {kind}; labels are integers or strings")


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _names(schema: pa.Schema, label: str) -> list[str] | None:
    """Return the class names that the datasets library keeps beside the columns, None if there are none."""
    try:
        kept = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in kept] if isinstance(kept, list) and kept else None


def _classes(names: list[str] | None, values: dict[Path, list[Any]]) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Return the classes, and the number of each label: its place in the names, or, without names, in sorted order."""
    seen = {value for column in values.values() for value in column if value is not None}
    seen = {value for value in seen if isinstance(value, str) or value >= 0}
    if names and not any(isinstance(value, str) for value in seen):
        return tuple(names), {number: number for number in range(len(names))}
    ordered = sorted(seen)
    return tuple(str(value) for value in ordered), {value: number for number, value in enumerate(ordered)}
