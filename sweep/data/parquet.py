"""Images in parquet files, as on Hugging Face's hub: one row per image, with its encoded bytes and its label."""

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sweep.config import digest
from sweep.errors import UserError

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")
LAYOUT = "a .parquet file, or a folder of them: train-*.parquet and test-*.parquet (or validation-*.parquet)"
BATCH = 64  # images decoded at a time


@dataclass(frozen=True)
class Listing:
    """What the files hold. files: {split: its files, in order}; labels: {split: (N,) numbers into classes}.

    image: the column with the images. fingerprint: a digest of every file's name, size and time, as an image folder's.
    """

    classes: tuple[str, ...]
    files: dict[str, list[Path]]
    labels: dict[str, npt.NDArray[np.int64]]
    image: str
    fingerprint: str


@functools.lru_cache(maxsize=8)
def listing(root: str | None, image_column: str | None, label_column: str | None) -> Listing:
    """Return what the parquet files hold; reads their labels, no image. raises: UserError, also for a wrong label."""
    if not root:
        raise UserError(f"data.root is not set: data=parquet needs data.root=path/to/files ({LAYOUT})")
    path = Path(root).expanduser()
    files = _files(root, path)
    every = [file for group in files.values() for file in group]
    schemas = [_schema(root, file) for file in every]
    image = _column(root, schemas[0], "image_column", image_column, IMAGE_COLUMNS)
    label = _column(root, schemas[0], "label_column", label_column, LABEL_COLUMNS)
    for file, schema in zip(every, schemas, strict=True):
        differing = [
            name
            for name in (image, label)
            if name not in schema.names or _kind(schema, name) != _kind(schemas[0], name)
        ]
        if differing:
            raise UserError(f"data.root={root}: {file.name} and {every[0].name} differ in column {differing[0]}")
    kind = schemas[0].field(image).type
    if not _is_bytes(kind) and not (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0):
        raise UserError(f"data.root={root}: column {image} is {kind}; images are binary, or a struct with bytes")
    kind = schemas[0].field(label).type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise UserError(f"data.root={root}: column {label} is {kind}; labels are integers or strings")
    values = {file: pq.read_table(file, columns=[label]).column(0).to_pylist() for file in every}
    if not any(values.values()):
        raise UserError(f"data.root={root}: no rows in {', '.join(file.name for file in every[:3])}")
    names = _names(schemas[0], label)
    classes, place = _classes(names, values)
    for file, column in values.items():
        for row, value in enumerate(column):
            if value not in place:
                allowed = (
                    f"0..{len(classes) - 1} ({classes[0]}..{classes[-1]})"
                    if names
                    else "numbers from 0 or strings, never empty"
                )
                raise UserError(f"data.root={root}: {file.name} row {row} has {label} {value}; labels are {allowed}")
    labels = {
        split: np.array([place[value] for file in group for value in values[file]], dtype=np.int64)
        for split, group in files.items()
    }
    for split, numbers in labels.items():
        empty = set(range(len(classes))) - set(numbers.tolist())
        if empty:
            raise UserError(f"data.root={root}: {split} has no image of class {classes[min(empty)]}")
    base = path if path.is_dir() else path.parent
    rows = [[str(f.relative_to(base)), f.stat().st_size, f.stat().st_mtime_ns] for f in every]
    return Listing(classes, files, labels, image, digest([rows, image, label]))


def images(file: Path, column: str) -> Iterator[list[bytes | None]]:
    """Yield the encoded images of a file in its order, BATCH rows at a time; None where a row has no bytes."""
    with pq.ParquetFile(file) as opened:
        for batch in opened.iter_batches(BATCH, columns=[column]):
            values = batch.column(0)
            yield (values.field("bytes") if pa.types.is_struct(values.type) else values).to_pylist()


def _files(root: str, path: Path) -> dict[str, list[Path]]:
    if path.is_file() and path.suffix == ".parquet":
        return {"train": [path]}
    if not path.is_dir():
        raise UserError(
            f"data.root={root}: " + ("not a .parquet file; use " if path.exists() else "no such file; use ") + LAYOUT
        )
    found = sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))
    if not found:
        raise UserError(f"data.root={root}: no .parquet files in it; use {LAYOUT}")
    named: dict[str, list[Path]] = {}
    for file in found:
        match = re.match(r"(train|test|valid(?:ation)?)(?![A-Za-z])", file.name)
        named.setdefault(match[1][:5] if match else "", []).append(file)
    if list(named) == [""]:
        return {"train": found}
    if "" in named or "train" not in named:
        odd = named.get("", found)[0]
        raise UserError(f"data.root={root}: {odd.name} belongs to no training split; use {LAYOUT}")
    held = named.get("test") or named.get("valid")
    return {"train": named["train"]} | ({"test": held} if held else {})


def _schema(root: str, file: Path) -> pa.Schema:
    try:
        return pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"data.root={root}: {file.name} is no whole parquet file ({' '.join(str(error).split())[:150]})"
        ) from error


def _column(root: str, schema: pa.Schema, setting: str, asked: str | None, common: tuple[str, ...]) -> str:
    for name in (asked,) if asked else common:
        if name in schema.names:
            return name
    missing = asked or " or ".join(common)
    raise UserError(f"data.root={root}: no column {missing}; give data.{setting}, one of {', '.join(schema.names)}")


def _kind(schema: pa.Schema, name: str) -> pa.DataType:
    return schema.field(name).type


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
