"""Images in parquet files, as on Hugging Face's hub."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sweep.config import OwnTest
from sweep.data import rows, shards
from sweep.errors import UserError

LAYOUT = "a .parquet file, or a folder of them: train-*.parquet and test-*.parquet (and validation-*.parquet)"


def find(root: str, path: Path, own_test: OwnTest) -> tuple[dict[str, list[Path]], list[str]]:
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
    return shards.by_name(root, found, own_test, LAYOUT)


def _column(file: Path, name: str) -> list[Any]:
    values: list[Any] = pq.read_table(file, columns=[name]).column(0).to_pylist()
    return values


def _parts(file: Path, name: str) -> Iterator[pa.Array]:
    with pq.ParquetFile(file) as opened:
        for batch in opened.iter_batches(rows.BATCH, columns=[name]):
            yield batch.column(0)


FORMAT = rows.Format(LAYOUT, ".parquet", find, pq.read_schema, _column, _parts)


class Parquet(rows.Rows):
    """The images in one parquet file, or in a folder of them, at data.root."""

    format = FORMAT
