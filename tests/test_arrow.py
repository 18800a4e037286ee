"""Data sets as Hugging Face's datasets library saves them to disk, written by hand in its layout."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sweep.config import DataConfig, OwnTest
from sweep.data import registry
from sweep.data import task as data
from sweep.data.folder import list_images
from sweep.errors import UserError

NAMES = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
Pictures = tuple[list[bytes | None], list[int]]


def config(root: Path, **fields: Any) -> DataConfig:
    registry.forget()  # as a new process would look at the files
    return DataConfig(name="arrow", root=str(root), **fields)


def save(
    folder: Path,
    images: list[bytes | None],
    labels: list[Any],
    shards: int = 1,
    named: str = "schema",
    kind: str = "stream",
) -> Path:
    """Write one split; named: where the class names stand, in the schema or beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(shards):
        part = slice(number * len(images) // shards, (number + 1) * len(images) // shards)
        content = pa.array([{"bytes": each, "path": "x"} for each in images[part]])
        table = pa.table({"image": content, "label": labels[part]})
        if named == "schema":
            info = {"info": {"features": NAMES}}
            table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        files.append(f"data-{number:05}-of-{shards:05}.arrow")
        write = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
        with pa.OSFile(str(folder / files[-1]), "wb") as sink, write(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=5)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": each} for each in files]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": NAMES if named == "beside" else {}}))
    return folder


@pytest.fixture
def pictures(folder_of_images: Path) -> Pictures:
    """Return the bytes and labels of an image folder, in its order."""
    files = list_images(str(folder_of_images)).files["train"]
    return [file.read_bytes() for file, _ in files], [label for _, label in files]


@pytest.mark.parametrize("named", ["schema", "beside"])
@pytest.mark.parametrize("kind", ["stream", "file"])
@pytest.mark.parametrize("shards", [1, 3])
def test_pixels_labels_and_splits_are_those_of_the_same_image_folder(
    folder_of_images: Path, pictures: Pictures, tmp_path: Path, named: str, kind: str, shards: int
) -> None:
    root = save(tmp_path / "pets", *pictures, shards=shards, named=named, kind=kind)
    ours = data.load(config(root), 24)
    theirs = data.load(DataConfig(name="image_folder", root=str(folder_of_images)), 24)
    assert ours.classes == theirs.classes == ("cat", "dog")
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(ours, split).images, getattr(theirs, split).images)
        np.testing.assert_array_equal(getattr(ours, split).labels, getattr(theirs, split).labels)
    assert data.label(config(root)) == "pets"


def test_a_dictionary_of_splits_is_read_by_their_names(pictures: Pictures, tmp_path: Path) -> None:
    images, labels = pictures
    save(tmp_path / "train", images, labels)
    save(tmp_path / "validation", images[::2], labels[::2])
    save(tmp_path / "unsupervised", images[::2], labels[::2])
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation", "unsupervised"]}))
    task = data.load(config(tmp_path), 24)
    assert [len(each.labels) for each in (task.train, task.val, task.test)] == [20, 4, 12]
    assert "not read, because they are no split: unsupervised" in data.notes(config(tmp_path))
    task = data.load(config(tmp_path, test=OwnTest.train), 24)
    assert [len(each.labels) for each in (task.train, task.val, task.test)] == [20, 12, 4]
    save(tmp_path / "test", images[::4], labels[::4])
    task = data.load(config(tmp_path), 24)
    assert [len(each.labels) for each in (task.train, task.val, task.test)] == [24, 12, 6]


def test_shards_are_read_in_the_order_of_their_list(pictures: Pictures, tmp_path: Path) -> None:
    save(tmp_path, *pictures, shards=2)
    state = json.loads((tmp_path / "state.json").read_text())
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": state["_data_files"][::-1]}))
    listing = registry.open(config(tmp_path)).listing  # type: ignore[attr-defined]
    assert listing.labels["train"].tolist() == [1] * 12 + [0] * 12


@pytest.mark.parametrize("names", [["../../x.arrow"], ["/etc/passwd"], [3], "x", None, []])
def test_a_list_of_shards_that_cannot_be_right_leads_nowhere(pictures: Pictures, tmp_path: Path, names: Any) -> None:
    save(tmp_path, *pictures)
    listed = [{"filename": each} for each in names] if isinstance(names, list) else names
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": listed}))
    assert len(data.load(config(tmp_path), 8).fit.labels) == 20


def test_wrong_folders_are_one_line(pictures: Pictures, tmp_path: Path) -> None:
    images, labels = pictures
    (tmp_path / "empty").mkdir()
    save(tmp_path / "held" / "test", images, labels)
    save(tmp_path / "twice" / "train", images, labels)
    save(tmp_path / "twice" / "training", images, labels)
    (save(tmp_path / "gone", images, labels, shards=2) / "data-00001-of-00002.arrow").unlink()
    (save(tmp_path / "chosen", images, labels) / "state.json").write_text(
        '{"_indices_data_files": [{"filename": "i"}]}'
    )
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "a.arrow").write_bytes(b"no arrow at all" * 10)
    save(tmp_path / "far", images, [*labels[:-1], 7])
    save(tmp_path / "one", images, [0] * 24)
    (tmp_path / "file.txt").write_text("x")
    for name, message in (
        ("nowhere", "no such folder; use a folder that save_to_disk"),
        ("file.txt", "not an .arrow file"),
        ("empty", "no .arrow files in it"),
        ("held", "has no train split, only test"),
        ("twice", "train, training are several folders for one split"),
        ("gone", "gone lacks data-00001-of-00002.arrow"),
        ("chosen", r"chooses its rows by a second file; save it anew with flatten_indices\(\)"),
        ("junk", r"a.arrow is no whole arrow file \("),
        ("far", r"row 23 has label 7; labels are 0..1 \(cat..dog\)"),
        ("one", "train has no image of class dog"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            data.check(config(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_damaged_and_cut_files_are_one_line(pictures: Pictures, tmp_path: Path) -> None:
    file = save(tmp_path, *pictures) / "data-00000-of-00001.arrow"
    content = file.read_bytes()
    rng = np.random.default_rng(0)
    for number in range(60):
        changed = bytearray(content)
        if number % 2:
            del changed[int(rng.integers(len(content))) :]
        else:
            for place in rng.integers(0, len(content), 20):
                changed[place] = rng.integers(256)
        file.write_bytes(changed)
        said = ""
        try:
            data.load(config(tmp_path), 8)
        except UserError as error:
            said = str(error)
        assert "\n" not in said


def test_rows_without_bytes_are_named(pictures: Pictures, tmp_path: Path) -> None:
    images, labels = pictures
    images[5] = None
    save(tmp_path, images, labels)
    with pytest.raises(UserError, match=r"1 unreadable image\(s\).*row 5 \(no bytes in this row\)"):
        data.load(config(tmp_path), 8)


def test_a_folder_of_images_says_which_data_reads_it(pictures: Pictures, tmp_path: Path) -> None:
    root = save(tmp_path / "saved", *pictures)
    registry.forget()
    with pytest.raises(UserError, match=r"no class folders .*; data=arrow data.root=.* reads images that are in such"):
        data.check(DataConfig("image_folder", root=str(root)))
