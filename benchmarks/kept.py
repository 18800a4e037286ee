"""Data sets in tables, parquet, arrow and tar files, as they come, for benchmarks/compatibility.py."""

import csv
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from sweep.config import DataConfig

COUNT = 6  # images of each class and split
CLASSES = ("a", "b")


class Kept(NamedTuple):
    """A data set of one kind. example: its files, in words. write: makes it in a folder and returns its settings."""

    example: str
    write: Callable[[Path], DataConfig]


def _png(split: str, label: int, number: int) -> bytes:
    file = io.BytesIO()
    pixels = np.full((8, 8, 3), (40 * label + len(split), 40 * number, 90), np.uint8)
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def _all(split: str) -> list[tuple[str, int, bytes]]:
    """Return name, label and bytes of every image of a split."""
    return [
        (f"{split}{label}{number}", label, _png(split, label, number)) for label in range(2) for number in range(COUNT)
    ]


def _table(
    folder: Path,
    head: Sequence[str] = ("path", "label"),
    splits: Sequence[str] = ("",),
    separator: str = ",",
    encoding: str = "utf-8",
    end: str = ".png",
) -> DataConfig:
    rows = [(each, split) for split in splits for each in _all(split)]
    file = folder / ("labels.tsv" if (separator, encoding) == ("\t", "utf-8") else "labels.csv")
    with file.open("w", encoding=encoding, newline="") as opened:
        writer = csv.writer(opened, delimiter=separator)
        writer.writerow(head)
        for (name, label, content), split in rows:
            (folder / f"{name}.png").write_bytes(content)
            writer.writerow([f"{name}{end}", CLASSES[label], split][: len(head)])
    return DataConfig("csv", file=str(file))


def _hugging_face(split: str, named: bool, content: str = "image") -> pa.Table:
    rows = _all(split)
    images: Any = [{"bytes": png, "path": f"{name}.png"} for name, _, png in rows]
    table = pa.table({content: pa.array(images), "label": [label for _, label, _ in rows]})
    features = {"label": {"names": CLASSES, "_type": "ClassLabel"}, content: {"_type": "Image"}}
    info = {"huggingface": json.dumps({"info": {"features": features}})}
    return table.replace_schema_metadata(info) if named else table


def _parquet(folder: Path, names: Sequence[str], named: bool = True, content: str = "image") -> DataConfig:
    for name in names:
        pq.write_table(_hugging_face(name.partition("-")[0], named, content), folder / f"{name}.parquet")
    return DataConfig("parquet", root=str(folder))


def _arrow(folder: Path, splits: Sequence[str], kind: str = "stream") -> DataConfig:
    for split in splits:
        own = folder / split
        own.mkdir(exist_ok=True)
        table = _hugging_face(split, named=True)
        write = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
        with pa.OSFile(str(own / "data-00000-of-00001.arrow"), "wb") as sink, write(sink, table.schema) as writer:
            writer.write_table(table)
        (own / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
        (own / "dataset_info.json").write_text("{}")
    return DataConfig("arrow", root=str(folder))


def _tar(folder: Path, archives: Sequence[str], label: str = "cls") -> DataConfig:
    for name in archives:
        with tarfile.open(folder / name, "w:gz" if name.endswith("gz") else "w") as archive:
            for key, number, png in _all(name.partition("-")[0]):
                text = {"cls": str(number), "txt": CLASSES[number], "json": json.dumps({"label": CLASSES[number]})}
                for suffix, content in (("png", png), (label, text[label].encode())):
                    info = tarfile.TarInfo(f"{key}.{suffix}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    return DataConfig("webdataset", root=str(folder))


KEPT: dict[str, Kept] = {
    "csv": Kept("path,label", _table),
    "csv, splits": Kept("path,label,split", partial(_table, head=("path", "label", "split"), splits=("train", "test"))),
    "csv, other names": Kept("File Name;Category", partial(_table, head=("File Name", "Category"), separator=";")),
    "csv, of a spreadsheet": Kept("byte order mark, semicolons", partial(_table, separator=";", encoding="utf-8-sig")),
    "csv, UTF-16": Kept("tabs", partial(_table, separator="\t", encoding="utf-16")),
    "tsv": Kept("path, label", partial(_table, separator="\t")),
    "csv, names without suffix": Kept("image_id,label", partial(_table, head=("image_id", "label"), end="")),
    "csv without a header": Kept("0.png,a", partial(_table, head=("x0.png", "a"))),
    "parquet": Kept("data.parquet", partial(_parquet, names=("data",))),
    "parquet, splits": Kept("train-0.parquet, test-0.parquet", partial(_parquet, names=("train-0", "test-0"))),
    "parquet, shards": Kept("train-0.parquet, train-1.parquet", partial(_parquet, names=("train-0", "train-1"))),
    "parquet, other names": Kept(
        "column img, no class names", partial(_parquet, names=("data",), named=False, content="img")
    ),
    "arrow": Kept("one split", partial(_arrow, splits=("",))),
    "arrow, splits": Kept("train/, test/", partial(_arrow, splits=("train", "test"))),
    "arrow, file format": Kept("one split", partial(_arrow, splits=("",), kind="file")),
    "webdataset": Kept("data.tar, .cls", partial(_tar, archives=("data-0.tar",))),
    "webdataset, splits": Kept(
        "train-0.tar, test-0.tar, .txt", partial(_tar, archives=("train-0.tar", "test-0.tar"), label="txt")
    ),
    "webdataset, packed": Kept("data.tar.gz, .json", partial(_tar, archives=("data-0.tar.gz",), label="json")),
}
