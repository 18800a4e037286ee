"""Images that are there twice or cannot be read, unequal classes: said, left out or refused, in all kinds of data."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Done
from PIL import Image

from sweep.config import Broken, DataConfig, Duplicates
from sweep.data import decode, decoded, registry
from sweep.data import task as data
from sweep.data.torchvision import DOWNLOADS
from sweep.data.types import Task
from sweep.errors import UserError
from sweep.report import record

Sweep = Callable[..., Done]
Files = dict[str, bytes]  # {"split/class/name.png": content}
KINDS = ["image_folder", "parquet"]


def png(*content: int) -> bytes:
    """Return an image of 8 x 8 pixels that is another one where the numbers are."""
    pixels = np.random.default_rng(content).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, "PNG")
    return made.getvalue()


def photos(train: int = 20, test: int = 10, classes: str = "ab") -> Files:
    """Return a data set without doubts."""
    return {
        f"{split}/{name}/{number:02}.png": png(ord(split[1]), ord(name), number)
        for split, count in (("train", train), ("test", test))
        for name in classes
        for number in range(count)
    }


def written(root: Path, kind: str, files: Files, **fields: Any) -> DataConfig:
    """Write the files as this kind of data."""
    if kind == "image_folder":
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
    else:
        root.mkdir(parents=True, exist_ok=True)
        for split in {name.split("/")[0] for name in files}:
            rows = [(content, name.split("/")[1]) for name, content in files.items() if name.startswith(f"{split}/")]
            images, labels = zip(*rows, strict=True)
            pq.write_table(pa.table({"image": [*images], "label": [*labels]}), root / f"{split}-0.parquet")
    registry.forget()
    return DataConfig(name=kind, root=str(root), **fields)


def sizes(config: DataConfig, task: Task) -> tuple[int, int, int]:
    fold = data.draw(config, task, 0)
    return len(fold.train), len(fold.val), len(task.test.rows)


def contents(task: Task, places: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in task.fit.take(places).images}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_said_of_images_that_differ(tmp_path: Path, kind: str) -> None:
    task = data.load(written(tmp_path, kind, photos(train=25)), 8)
    assert task.notes == ()
    assert task.copies is None


@pytest.mark.parametrize("kind", KINDS)
def test_copies_of_test_images_are_said_left_out_or_refused(tmp_path: Path, kind: str) -> None:
    files = photos(train=25)
    for number in range(3):
        files[f"train/a/copy{number}.png"] = files[f"test/a/{number:02}.png"]
    config = written(tmp_path, kind, files)
    (note,) = data.load(config, 8).notes
    example = {"image_folder": "(test/a/00.png is train/a/copy0.png)", "parquet": "is train-0.parquet row 50)"}[kind]
    assert note.startswith("warning: 3 of 20 test images have an equal one outside the test (")
    assert example in note
    config.duplicates = Duplicates.drop
    task = data.load(config, 8)
    fold = data.draw(config, task, 0)
    assert not contents(task, fold.train) & {image.tobytes() for image in task.test.images}
    assert len(task.test.rows) == 20
    plain = task.turns.fold(0)
    left = len(plain.train) - len(fold.train)
    assert left == len(contents(task, plain.train) & {image.tobytes() for image in task.test.images}) > 0
    assert task.notes[0].startswith(f"data.duplicates=drop: {left} of {len(plain.train)} training images are left out")
    config.duplicates = Duplicates.error
    with pytest.raises(UserError, match=r"^data.duplicates=error: 3 of 20 test images .*; remove them, or use .*=drop"):
        data.load(config, 8)


def test_copies_of_validation_images_leave_training_in_every_fold(tmp_path: Path) -> None:
    files = photos(train=25)
    files |= {name.replace("/a/", "/a/copy"): content for name, content in files.items() if name.startswith("train/a")}
    config = written(tmp_path, "image_folder", files, rotate=True)
    plain = data.load(config, 8)
    assert "validation images have an equal one in training (train/a/" in plain.notes[0]
    config.duplicates = Duplicates.drop
    task = data.load(config, 8)
    for seed in range(5):
        train, val = data.draw(config, task, seed)
        assert val.tolist() == plain.fold(seed).val.tolist()
        assert not contents(task, train) & contents(task, val)
        assert contents(plain, plain.fold(seed).train) & contents(plain, val)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_in_two_classes_is_said_and_left_out(tmp_path: Path, kind: str) -> None:
    files = photos(train=40)
    for number in range(8):
        files[f"train/b/same{number}.png"] = files[f"train/a/{number:02}.png"]
    config = written(tmp_path, kind, files)
    assert "8 images are in two classes or more (train" in data.load(config, 8).notes[0]
    # Of classes that are made one, no image is in two.
    both = written(tmp_path, kind, files | photos(40, 10, "cd"), groups=2)
    assert not any("two classes" in note for note in data.load(both, 8).notes)
    config.duplicates = Duplicates.drop
    task = data.load(config, 8)
    train = task.fold(0).train
    pixels = [(image.tobytes(), label) for image, label in zip(task.fit.images, task.fit.labels, strict=True)]
    twice = {content for content, label in pixels if (content, 1 - label) in pixels}
    assert len(twice) == 8
    assert not contents(task, train) & twice


def test_a_class_of_copies_alone_is_refused(tmp_path: Path) -> None:
    files = photos(10, 10)
    files |= {name.replace("test/a", "train/a"): content for name, content in files.items() if "test/a" in name}
    config = written(tmp_path, "image_folder", files, duplicates=Duplicates.drop)
    with pytest.raises(UserError, match=r"^data.duplicates=drop: no training image of class a is left; "):
        data.draw(config, data.load(config, 8), 0)


def test_keys_differ_where_one_pixel_does() -> None:
    images = np.zeros((2100, 3, 4, 4), np.uint8)
    images[np.arange(2100), 0, 0, 0] = np.arange(2100) % 256
    images[np.arange(2100), 2, 3, 3] = np.arange(2100) // 256
    keys = decoded.keys_of(images)
    assert len(np.unique(keys)) == 2100
    assert decoded.keys_of(images[::-1])[::-1].tolist() == keys.tolist()


def test_keys_and_unreadable_images_are_kept_with_decoded_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = photos(train=30) | {"train/a/00.png": b"no image", "train/b/copy.png": photos()["test/b/00.png"]}
    config = written(tmp_path, "image_folder", files, broken=Broken.skip)
    first = data.load(config, 8, max_gb=1.0)
    monkeypatch.setattr(decode, "decode", None)  # decoding again would fail
    again = data.load(config, 8, max_gb=1.0)
    assert (again.notes, again.unreadable) == (first.notes, first.unreadable)
    assert any("equal one" in note for note in again.notes)
    assert "00.png (cannot identify image file" in again.unreadable[0]
    assert again.fit.rows.tolist() == first.fit.rows.tolist()
    config.broken = Broken.error  # what is kept is refused as what is read
    with pytest.raises(
        UserError, match=r"1 unreadable image\(s\), repair or remove them, or add data.broken=skip: .*00"
    ):
        data.load(config, 8, max_gb=1.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("own_test", [True, False])
def test_unreadable_images_are_left_out(tmp_path: Path, kind: str, own_test: bool) -> None:
    whole = photos(30, 10 if own_test else 0)
    broken = dict.fromkeys(list(whole)[:4], b"broken") | (
        {"test/b/00.png": whole["train/a/09.png"][:60]} if own_test else {}
    )
    config = written(tmp_path, kind, whole | broken, broken=Broken.skip)
    task = data.load(config, 8)
    assert len(task.unreadable) == len(broken)
    count = len(task.fit.rows) + len(task.test.rows)
    assert count == len(whole) - len(broken)
    assert all(image.any() for split in (task.fit, task.test) for image in split.images)
    assert f"{len(broken)} unreadable images left out (" in task.notes[0]
    config.broken = Broken.error
    with pytest.raises(UserError, match=rf"^data.root={tmp_path}: {len(broken)} unreadable image\(s\), "):
        data.load(config, 8)


@pytest.mark.parametrize(("place", "split"), [("train/a", "training"), ("test/b", "test"), ("val/a", "validation")])
def test_a_class_that_becomes_empty_is_refused(tmp_path: Path, place: str, split: str) -> None:
    files = photos() | {f"val/{name}/0.png": png(9, ord(name)) for name in "ab"}
    files |= {name: b"broken" for name in files if name.startswith(place)}
    config = written(tmp_path, "image_folder", files, broken=Broken.skip)
    with pytest.raises(UserError, match=f"^data.broken=skip: no {split} image of class {place[-1]} is left; "):
        data.load(config, 8)


def test_unreadable_files_of_a_download_are_left_out(tmp_path: Path) -> None:
    for name in DOWNLOADS["eurosat"].classes:
        folder = tmp_path / "eurosat" / "2750" / name
        folder.mkdir(parents=True)
        for number in range(6):
            (folder / f"{number}.png").write_bytes(png(ord(name[0]), len(name), number))
    (folder / "3.png").write_bytes(b"broken")
    config = DataConfig(name="eurosat", root=str(tmp_path))
    with pytest.raises(UserError, match=r"1 unreadable image\(s\), .*train image 57 \(cannot identify"):
        data.load(config, 8)
    config.broken = Broken.skip
    task = data.load(config, 8)
    assert len(task.fit.rows) + len(task.test.rows) == 59
    assert sorted(np.bincount(np.r_[task.fit.labels, task.test.labels])) == [5] + [6] * 9


@pytest.mark.parametrize("kind", KINDS)
def test_unequal_classes_are_said_with_what_a_constant_scores(tmp_path: Path, kind: str) -> None:
    files = photos(30, 30, "a") | photos(6, 6, "b")
    unequal, few = data.load(written(tmp_path, kind, files), 8).notes
    said = "6 images of b against 30 of a outside the test; always saying a is right in 83.3 % of the test images"
    assert unequal.startswith(f"warning: unequal classes: {said}")
    assert few == "warning: too few images to judge a class by: validation 1 of b"


def test_few_test_images_are_said_of_data_without_files() -> None:
    task = data.load(DataConfig(name="digits", test_fraction=0.02), 8)
    assert "3 to 4 test images of 10 classes" in task.notes[-1]


def test_unreadable_images_are_listed_and_the_report_repeats_what_was_said(sweep: Sweep, tmp_path: Path) -> None:
    files = photos(20, 10) | {"train/a/00.png": b"broken"}
    files["train/b/copy.png"] = files["test/b/00.png"]
    written(tmp_path / "photos", "image_folder", files)
    settings = ["data=image_folder", "data.root=photos", "data.image_size=32", "epochs=1", "seeds=1", "freeze_depth=5"]
    settings += ["-m", "name=x", "pretrained=false", "optimizer.lr=0.001", "batch_size=20"]
    refused = sweep(*settings)
    assert (refused.returncode, (tmp_path / "outputs").exists()) == (2, False)
    done = sweep(*settings, "data.broken=skip")
    assert done.returncode == 0, done.stderr
    said = "photos: warning: 1 of 20 test images have an equal one outside the test (test/b/00.png is train/b/copy.png)"
    left = "photos: warning: 1 unreadable image left out"
    for line in (said, left):
        assert done.stderr.count(line) == 1
        report = (tmp_path / "outputs" / "x" / "report.md").read_text()
        assert report.count(line) == 1
    listed = (tmp_path / "outputs" / "x" / "unreadable-photos.txt").read_text()
    assert listed.startswith("photos/train/a/00.png (cannot identify")
    again = sweep(*settings, "data.broken=skip")  # nothing is read, and the report still says it
    assert "all finished before" in again.stdout
    assert said in (tmp_path / "outputs" / "x" / "report.md").read_text()
    for name in ("x", "y"):  # trained before, and not yet
        strict = sweep(*settings, "data.broken=skip", "strict=true", f"name={name}")
        assert strict.returncode == 2
        assert strict.stderr.startswith("error: strict=true: photos: warning: 1 unreadable image left out")
    assert not (tmp_path / "outputs" / "y").exists()


def test_what_was_held_out_and_what_each_test_image_is_taken_for_are_files(sweep: Sweep, tmp_path: Path) -> None:
    files = {name.removeprefix("train/"): content for name, content in photos(20, 0).items()}
    written(tmp_path / "flat", "image_folder", files)
    settings = ["data=image_folder", "data.root=flat", "data.image_size=32", "epochs=1", "seeds=2", "freeze_depth=5"]
    done = sweep(*settings, "name=x", "pretrained=false", "optimizer.lr=0.001", "batch_size=20")
    assert done.returncode == 0, done.stderr
    listed = pd.read_csv(tmp_path / "outputs/x/images-flat.csv")
    assert sorted(listed["image"]) == sorted(files)
    assert (listed["image"].str[0] == listed["class"]).all()
    assert listed["split"].value_counts().to_dict() == {"train": 26, "val": 6, "test": 8}
    for seed in (0, 1):
        (file,) = tmp_path.glob(f"outputs/x/jobs/*/predictions-{seed}.csv")
        predicted = pd.read_csv(file)
        assert predicted["image"].tolist() == listed.loc[listed["split"] == "test", "image"].tolist()
        right = (predicted["class"] == predicted["predicted"]).mean()
        member = next(each for each in record.read_members(file.parent, seed) or [] if each.selected)
        assert right == pytest.approx(member.test_accuracy)
