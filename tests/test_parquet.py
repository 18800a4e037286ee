import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweep import interrupt
from sweep.config import DataConfig, OwnTest
from sweep.data import decode, parquet, registry
from sweep.data import task as data
from sweep.data.folder import list_images
from sweep.data.rows import list_rows
from sweep.errors import UserError


def config(root: Path, **fields: Any) -> DataConfig:
    registry.forget()  # as a new process would look at the files
    return DataConfig(name="parquet", root=str(root), **fields)


def write(
    path: Path,
    images: list[bytes | None],
    labels: list[Any],
    names: list[str] | None = None,
    struct: bool = True,
    columns: tuple[str, str] = ("image", "label"),
) -> Path:
    """Write a file as the datasets library does."""
    content = pa.array([{"bytes": each, "path": "x"} for each in images]) if struct else pa.array(images, pa.binary())
    table = pa.table({columns[0]: content, columns[1]: labels})
    if names:
        info = {"info": {"features": {columns[1]: {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=5)
    return path


@pytest.fixture
def rows(folder_of_images: Path) -> tuple[list[bytes | None], list[int]]:
    """Return the bytes and labels of an image folder, in its order."""
    files = list_images(str(folder_of_images)).files["train"]
    return [file.read_bytes() for file, _ in files], [label for _, label in files]


@pytest.mark.parametrize("struct", [True, False])
def test_pixels_labels_and_splits_are_those_of_the_same_image_folder(
    folder_of_images: Path, rows: tuple[list[bytes | None], list[int]], tmp_path: Path, struct: bool
) -> None:
    path = write(tmp_path / "pets.parquet", *rows, names=["cat", "dog"], struct=struct)
    ours = data.load(config(path), 24)
    theirs = data.load(DataConfig(name="image_folder", root=str(folder_of_images)), 24)
    assert ours.classes == theirs.classes == ("cat", "dog")
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(ours, split).images, getattr(theirs, split).images)
        np.testing.assert_array_equal(getattr(ours, split).labels, getattr(theirs, split).labels)
    assert data.label(config(path)) == "pets"


def test_folders_of_shards_are_read_in_order(rows: tuple[list[bytes | None], list[int]], tmp_path: Path) -> None:
    images, labels = rows
    for number in range(2):
        part = slice(number, None, 2)
        write(tmp_path / f"data/train-0000{number}-of-00002.parquet", images[part], labels[part])
    write(tmp_path / "data/validation-00000-of-00001.parquet", images[::3], labels[::3])
    task = data.load(config(tmp_path, val_fraction=0.25), 24)
    assert [len(split.labels) for split in (task.train, task.val, task.test)] == [18, 6, 8]
    assert task.train.pool.shape[0] == 24
    bright = task.train.pool.mean((1, 2, 3)) > 120  # dogs are
    assert bright.tolist() == [bool(label) for part in (0, 1) for label in labels[part::2]]
    write(tmp_path / "data/test-00000-of-00001.parquet", images[::2], labels[::2])
    assert len(data.load(config(tmp_path, val_fraction=0.25, seed=1), 24).test.labels) == 12


@pytest.mark.parametrize(
    "names",
    [
        ("mnist_train", "mnist_validation", "mnist_test"),
        ("train", "val", "test"),
        ("data-train-00000-of-00001", "data-dev-00000-of-00001", "data-eval-00000-of-00001"),
        ("0000.training", "0000.valid", "0000.testing"),
    ],
)
def test_the_split_is_known_wherever_it_stands_in_the_name(
    rows: tuple[list[bytes | None], list[int]], tmp_path: Path, names: tuple[str, str, str]
) -> None:
    for step, name in enumerate(names, 1):
        write(tmp_path / f"{name}.parquet", rows[0][::step], rows[1][::step])
    task = data.load(config(tmp_path), 24)
    assert [len(split.labels) for split in (task.train, task.val, task.test)] == [24, 12, 8]
    np.testing.assert_array_equal(task.val.images, task.train.images[::2])
    said = data.notes(config(tmp_path))
    assert "own validation split is used" in said[-1]
    for name, split in zip(names, ("train", "val", "test"), strict=True):
        assert f"{name}.parquet is the {split} split" in said[0]


def test_a_lone_validation_split_is_tested_on_unless_that_is_held_out(
    rows: tuple[list[bytes | None], list[int]], tmp_path: Path
) -> None:
    write(tmp_path / "train-0.parquet", *rows)
    write(tmp_path / "validation-0.parquet", rows[0][::2], rows[1][::2])
    task = data.load(config(tmp_path), 24)
    assert [len(split.labels) for split in (task.train, task.val, task.test)] == [20, 4, 12]
    assert data.notes(config(tmp_path)) == [
        "no test split: its validation split is tested on (data.test=train to choose on it instead)"
    ]
    held = config(tmp_path, test=OwnTest.train)
    task = data.load(held, 24)
    assert [len(split.labels) for split in (task.train, task.val, task.test)] == [20, 12, 4]
    assert data.fingerprint(held) != data.fingerprint(config(tmp_path))


def test_string_labels_and_numbers_without_names_are_sorted(
    rows: tuple[list[bytes | None], list[int]], tmp_path: Path
) -> None:
    images, labels = rows
    path = write(tmp_path / "a.parquet", images, [("wolf", "bear")[label] for label in labels])
    assert data.classes(config(path)) == ("bear", "wolf")
    path = write(tmp_path / "b.parquet", images, [(12, 7)[label] for label in labels], columns=("img", "fine_label"))
    assert data.classes(config(path)) == ("7", "12")
    assert list_rows(parquet.FORMAT, str(path), None, None).labels["train"][0] == 1


def test_fingerprint_follows_the_files_not_their_place(
    rows: tuple[list[bytes | None], list[int]], tmp_path: Path
) -> None:
    path = write(tmp_path / "a" / "x.parquet", *rows)
    before = data.fingerprint(config(path))
    (tmp_path / "a").rename(tmp_path / "b")
    moved = tmp_path / "b" / "x.parquet"
    assert data.fingerprint(config(moved)) == before
    write(moved, rows[0][:-1], rows[1][:-1])
    assert data.fingerprint(config(moved)) != before


def test_unreadable_images_are_named_by_file_and_row(
    rows: tuple[list[bytes | None], list[int]], tmp_path: Path
) -> None:
    images, labels = rows
    images[7], images[20] = b"no image", None
    write(tmp_path / "x.parquet", images, labels)
    message = r"2 unreadable image\(s\), .*x.parquet row 20 \(no bytes in this row\); x.parquet row 7 \(cannot identify"
    with pytest.raises(UserError, match=message) as caught:
        data.load(config(tmp_path / "x.parquet"), 24)
    assert "BytesIO" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "names", "columns", "message"),
    [
        ([0, 1, 2], ["cat", "dog"], ("image", "label"), r"x.parquet row 2 has label 2; labels are 0..1 \(cat..dog\)"),
        ([0, 1, -1], ["cat", "dog"], ("image", "label"), r"x.parquet row 2 has label -1"),
        (
            [0, 1, None],
            None,
            ("image", "label"),
            r"x.parquet row 2 has label None; labels are numbers from 0 or strings, never empty",
        ),
        ([0, 0, 1], ["a", "b", "c"], ("image", "label"), r"train has no image of class c"),
        ([0.0, 1.0, 1.0], None, ("image", "label"), r"column label is double; labels are integers or strings"),
        ([0, 1, 1], None, ("photo", "label"), r"no column image or img; give data.image_column, one of photo, label"),
        ([0, 1, 1], None, ("image", "kind"), r"no column label or .*; give data.label_column, one of image, kind"),
        ([0, 0, 0], ["cat"], ("image", "label"), r"only one class \(cat\); at least two"),
    ],
)
def test_wrong_files_are_one_line_before_any_image_is_read(
    tmp_path: Path, labels: list[Any], names: list[str] | None, columns: tuple[str, str], message: str
) -> None:
    path = write(tmp_path / "x.parquet", [b"x"] * 3, labels, names, columns=columns)
    with pytest.raises(UserError, match=message) as caught:
        data.check(config(path))
    assert "\n" not in str(caught.value)


def test_wrong_roots_are_one_line(rows: tuple[list[bytes | None], list[int]], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.parquet").write_bytes(write(tmp_path / "whole.parquet", *rows).read_bytes()[:1000])
    write(tmp_path / "held" / "test-0.parquet", *rows)
    for root, message in (
        (tmp_path / "nowhere", "no such file; use a .parquet file, or a folder"),
        (tmp_path / "empty", "no .parquet files in it"),
        (tmp_path / "cut.parquet", "cut.parquet is no whole parquet file"),
        (tmp_path / "held", "test-0.parquet belongs to no training split"),
    ):
        with pytest.raises(UserError, match=message):
            data.check(config(root))
    with pytest.raises(UserError, match=r"data\.root is not set"):
        data.check(DataConfig(name="parquet"))
    with pytest.raises(UserError, match="data=textures has no columns"):
        data.check(DataConfig(name="textures", label_column="label"))


@pytest.mark.parametrize("struct", [True, False])
def test_only_promised_formats_are_opened(
    rows: tuple[list[bytes | None], list[int]], tmp_path: Path, struct: bool
) -> None:
    images, labels = rows
    images[3] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 30\n%%EndComments\nshowpage\n%%EOF\n"
    write(tmp_path / "x.parquet", images, labels, struct=struct)
    with pytest.raises(UserError, match=r"1 unreadable image\(s\), .*x.parquet row 3 \(cannot identify image file\)$"):
        data.load(config(tmp_path / "x.parquet"), 24)


def test_file_that_is_damaged_in_its_images_is_one_line(
    rows: tuple[list[bytes | None], list[int]], tmp_path: Path
) -> None:
    path = write(tmp_path / "x.parquet", *rows)
    column = pq.read_metadata(path).row_group(2).column(0)
    content = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    asked = config(path)
    data.check(asked)  # the labels are whole
    with pytest.raises(UserError, match=r"data.root=.*: x.parquet is no whole parquet file \(") as caught:
        data.load(asked, 24)
    assert "\n" not in str(caught.value)


def test_reading_stops_within_an_image_per_thread(
    rows: tuple[list[bytes | None], list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[object] = []

    def counted(content: Path | bytes | None, size: int, *how: object) -> np.ndarray:
        decoded.append(content)
        return np.zeros((3, size, size), np.uint8)

    def check() -> None:
        if decoded:
            raise KeyboardInterrupt

    monkeypatch.setattr(decode, "decode", counted)
    monkeypatch.setattr(interrupt, "check", check)
    asked = config(write(tmp_path / "x.parquet", *rows))
    with pytest.raises(KeyboardInterrupt):
        data.load(asked, 24)
    assert 1 <= len(decoded) <= (os.cpu_count() or 1)
