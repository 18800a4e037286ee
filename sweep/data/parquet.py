"""Images in parquet files, as on Hugging Face's hub: one row per image, with its encoded bytes and its label."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sweep.config import DataConfig, OwnTest, digest
from sweep.data import decode, layout
from sweep.data.types import Allocate, Dataset, Labels, Unreadable, joined
from sweep.errors import UserError

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")
LAYOUT = "a .parquet file, or a folder of them: train-*.parquet and test-*.parquet (and validation-*.parquet)"
BATCH = 64  # rows read at a time


@dataclass(frozen=True)
class Listing:
    """What the files hold. files: {split: its files, in order}; labels: {split: (N,) numbers into classes}.

    image: the column with the images. fingerprint: a digest of every file's name, size and time, as an image folder's.
    """

    classes: tuple[str, ...]
    files: dict[str, list[Path]]
    labels: dict[str, Labels]
    image: str
    fingerprint: str
    notes: list[str]  # sentences on what is not plain


class Parquet(Dataset):
    """The images in one parquet file, or in a folder of them, at data.root."""

    takes = frozenset({"root", "image_column", "label_column", "test"})

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self.image_column = config.image_column
        self.label_column = config.label_column
        self.test = config.test

    @cached_property
    def listing(self) -> Listing:
        """What the files hold, looked up once; raises UserError, also for a wrong label."""
        return list_rows(self.root, self.image_column, self.label_column, self.test)

    def classes(self) -> tuple[str, ...]:
        return self.listing.classes

    def fingerprint(self) -> str:
        return self.listing.fingerprint

    def splits(self) -> tuple[str, ...]:
        return tuple(joined(self.listing.files))

    def validation(self) -> int:
        return len(self.listing.labels.get("val", ()))

    def notes(self) -> list[str]:
        return self.listing.notes

    def label(self) -> str | None:
        return Path(self.root).expanduser().resolve().name.removesuffix(".parquet") if self.root else None

    def read(self, size: int, allocate: Allocate) -> Unreadable:
        bad: Unreadable = {}
        numbers = joined({split: [of_split] for split, of_split in self.listing.labels.items()})
        for split, files in joined(self.listing.files).items():
            of_split = np.concatenate(numbers[split])
            images, labels = allocate(split, len(of_split))
            labels[:] = of_split
            bad[split] = decode.fill(images, (row for file in files for row in self._rows(file)))
        return bad

    def image_name(self, split: str, row: int) -> str:
        for file in joined(self.listing.files)[split]:
            with _whole(self.root, file):
                count = pq.read_metadata(file).num_rows
            if row < count:
                return f"{file.name} row {row}"
            row -= count
        raise IndexError(row)

    def _rows(self, file: Path) -> Iterator[decode.Encoded]:
        index = 0
        with _whole(self.root, file), pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(BATCH, columns=[self.listing.image]):
                values = batch.column(0)
                for content in (values.field("bytes") if pa.types.is_struct(values.type) else values).to_pylist():
                    yield decode.Encoded(f"{file.name} row {index}", content)
                    index += 1


def list_rows(
    root: str | None, image_column: str | None, label_column: str | None, own_test: OwnTest = OwnTest.auto
) -> Listing:
    """Return what the parquet files hold; reads their labels, no image. raises: UserError, also for a wrong label."""
    if not root:
        raise UserError(f"data.root is not set: data=parquet needs data.root=path/to/files ({LAYOUT})")
    path = Path(root).expanduser()
    files, notes = _files(root, path, own_test)
    every = [file for group in files.values() for file in group]
    schemas = [_schema(root, file) for file in every]
    image = _column(root, schemas[0], "image_column", image_column, IMAGE_COLUMNS)
    label = _column(root, schemas[0], "label_column", label_column, LABEL_COLUMNS)
    for file, schema in zip(every, schemas, strict=True):
        _check_same(root, (every[0], schemas[0]), (file, schema), (image, label))
    _check_kinds(root, schemas[0], image, label)
    classes, labels = _read_labels(root, files, _names(schemas[0], label), label)
    base = path if path.is_dir() else path.parent
    rows = [[str(f.relative_to(base)), f.stat().st_size, f.stat().st_mtime_ns] for f in every]
    # Also which images choose, where that is not left to data.val_fraction: without it, names stay what they were.
    roles = [{split: len(group) for split, group in files.items()}] if "val" in files else []
    return Listing(classes, files, labels, image, digest([rows, image, label, *roles]), notes)


def _read_labels(
    root: str,
    files: dict[str, list[Path]],
    names: list[str] | None,
    column: str,
) -> tuple[tuple[str, ...], dict[str, Labels]]:
    """Return the classes, and {split: (N,) numbers into them}; every class must have an image in every split."""
    values = {file: _column_values(root, file, column) for group in files.values() for file in group}
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


def _files(root: str, path: Path, own_test: OwnTest) -> tuple[dict[str, list[Path]], list[str]]:
    """Return {split: its files}, and sentences on what is not plain."""
    if path.is_file() and path.suffix == ".parquet":
        return {"train": [path]}, []
    if not path.is_dir():
        raise UserError(
            f"data.root={root}: " + ("not a .parquet file; use " if path.exists() else "no such file; use ") + LAYOUT
        )
    found = sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))
    if not found:
        raise UserError(f"data.root={root}: no .parquet files in it; use {LAYOUT}")
    named: dict[str, list[Path]] = {}
    for file in found:
        said = layout.split_name(file.stem)
        named.setdefault(said[0] if said else "", []).append(file)
    if list(named) == [""]:
        return {"train": found}, []
    if "" in named or "train" not in named:
        odd = named.get("", found)[0]
        raise UserError(f"data.root={root}: {odd.name} belongs to no training split; use {LAYOUT}")
    splits, notes = layout.choose_test(root, named, own_test, OwnTest.val)
    if any(re.match(r"(train|test|validation)(?![A-Za-z])", file.name) is None for file in found):
        files = [f"{group[0].name}{' ...' * (len(group) > 1)} is the {split} split" for split, group in named.items()]
        notes.insert(0, ", ".join(files))
    return splits, notes


@contextmanager
def _whole(root: str | None, file: Path) -> Iterator[None]:
    """Turn what pyarrow raises for a damaged file into a UserError that names it."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"data.root={root}: {file.name} is no whole parquet file ({' '.join(str(error).split())[:150]})"
        ) from error


def _schema(root: str, file: Path) -> pa.Schema:
    with _whole(root, file):
        return pq.read_schema(file)


def _column_values(root: str, file: Path, column: str) -> list[Any]:
    with _whole(root, file):
        values: list[Any] = pq.read_table(file, columns=[column]).column(0).to_pylist()
        return values


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
