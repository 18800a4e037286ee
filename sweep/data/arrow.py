"""Images in a data set of Hugging Face's datasets library, as its save_to_disk() leaves it; without that library."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from sweep.config import OwnTest
from sweep.data import layout, rows, shards
from sweep.errors import AbsentError, UserError
from sweep.paths import read_json

LAYOUT = "a folder that save_to_disk() of the datasets library made, with train and test splits or without"
HUGGINGFACE = b"huggingface"  # what the library keeps its features under, beside the columns


def find(root: str, path: Path, own_test: OwnTest) -> tuple[dict[str, list[Path]], list[str]]:
    """Return {split: its files}, and sentences on what is not plain."""
    if path.is_file() and path.suffix == ".arrow":
        return {"train": [path]}, []
    if not path.is_dir():
        if path.exists():
            raise UserError(f"data.root={root}: not an .arrow file; use {LAYOUT}")
        raise AbsentError(f"data.root={root}: no such folder; use {LAYOUT}")
    if (path / "state.json").exists():
        return {"train": _files(root, path)}, []
    named = {name: path / name for name in layout.subfolders(path) if any((path / name).glob("*.arrow"))}
    if not named:
        found = sorted(each for each in path.glob("*.arrow") if each.is_file())
        if not found:
            parquet = any(path.glob("**/*.parquet"))
            hint = "; data=parquet reads the .parquet files in it" if parquet else ""
            raise UserError(f"data.root={root}: no .arrow files in it; use {LAYOUT}{hint}")
        return shards.by_name(root, found, own_test, LAYOUT)
    return _splits(root, named, own_test)


def _splits(root: str, named: dict[str, Path], own_test: OwnTest) -> tuple[dict[str, list[Path]], list[str]]:
    """Return what find() does, of a data set with a folder for each split."""
    splits: dict[str, list[Path]] = {}
    for name, (split, _) in layout.split_names(named).items():
        if split in splits:
            several = ", ".join(named)
            raise UserError(f"data.root={root}: {several} are several folders for one split; leave one of each")
        splits[split] = _files(root, named[name])
    if "train" not in splits:
        raise UserError(f"data.root={root}: has no train split, only {', '.join(named)}; use {LAYOUT}")
    return shards.with_left(root, splits, named, own_test)


def _files(root: str, folder: Path) -> list[Path]:
    """Return the files of one split, in the order in which the library reads them."""
    state = read_json(folder / "state.json") or {}
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise UserError(
            f"data.root={root}: {folder.name} chooses its rows by a second file; save it anew with "
            "flatten_indices().save_to_disk()"
        )
    listed = state.get("_data_files")
    names = [each.get("filename") for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    files = [folder / name for name in names if isinstance(name, str) and Path(name).name == name]
    files = files if files and len(files) == len(names) else sorted(folder.glob("*.arrow"))
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise UserError(f"data.root={root}: {folder.name} lacks {', '.join(missing[:3]) or 'its .arrow files'}")
    return files


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """Open a file of either of the two kinds that Arrow has."""
    with pa.memory_map(str(file)) as source:
        magic = source.read(6)
        source.seek(0)
        with pa.ipc.open_file(source) if magic == b"ARROW1" else pa.ipc.open_stream(source) as reader:
            yield reader


def _batches(file: Path, name: str) -> Iterator[pa.Array]:
    with _opened(file) as reader:
        stream = hasattr(reader, "read_next_batch")
        for batch in reader if stream else map(reader.get_batch, range(reader.num_record_batches)):
            column = batch.column(batch.schema.get_field_index(name))
            column.validate(full=True)  # Arrow trusts a file, and would read beyond its end
            yield column


def _schema(file: Path) -> pa.Schema:
    """Return the columns, with the library's features, from the file beside them if not from there."""
    with _opened(file) as reader:
        schema = reader.schema
    kept = schema.metadata or {}
    beside = read_json(file.parent / "dataset_info.json")
    if HUGGINGFACE in kept or not beside:
        return schema
    return schema.with_metadata(kept | {HUGGINGFACE: json.dumps({"info": beside}).encode()})


def _column(file: Path, name: str) -> list[Any]:
    return [value for part in _batches(file, name) for value in part.to_pylist()]


def _parts(file: Path, name: str) -> Iterator[pa.Array]:
    for column in _batches(file, name):
        for first in range(0, len(column), rows.BATCH):
            yield column.slice(first, rows.BATCH)


FORMAT = rows.Format(LAYOUT, ".arrow", find, _schema, _column, _parts)


class Arrow(rows.Rows):
    """The images in a data set that was saved to data.root."""

    format = FORMAT
