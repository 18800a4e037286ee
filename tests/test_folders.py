"""Folders as people have them: which folder is which split, whatever it is called."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn

from sweep.config import DataConfig, Layout, OwnTest
from sweep.data import decode, layout, registry
from sweep.data import task as data
from sweep.data.folder import list_images
from sweep.data.types import Task
from sweep.errors import UserError
from sweep.export import Classifier

GREY = {"train": 40, "val": 120, "test": 200}  # of the images of a split, so that it is known where one came from


def folder(root: Path, **fields: Any) -> DataConfig:
    registry.forget()  # as a new process would look at the files
    return DataConfig(name="image_folder", root=str(root), **fields)


def fill(path: Path, grey: int = 40, count: int = 6, classes: str = "ab") -> Path:
    for name in classes:
        (path / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("RGB", (8, 8), (grey, number, ord(name))).save(path / name / f"{number}.png")
    return path


def greys(task: Task) -> dict[str, set[int]]:
    """Return where the images of each split came from."""
    return {name: set(getattr(task, name).images[:, 0, 0, 0].tolist()) for name in ("train", "val", "test")}


SPELLINGS = [
    ("Training", "Testing"),
    ("Train", "Test"),
    ("TRAIN", "TEST"),
    ("trn", "eval"),
    ("x_train", "x_test"),
    ("X-Train", "X-Test"),
    ("photos.training", "photos.evaluation"),
    ("train_images", "test_images"),
    ("TrainImages", "TestImages"),
    ("train2017", "test2017"),
    ("1_train", "2_test"),
    ("training_set", "test_set"),
]


@pytest.mark.parametrize("names", SPELLINGS)
def test_splits_are_known_by_any_spelling_and_said(tmp_path: Path, names: tuple[str, str]) -> None:
    for name, split in zip(names, ("train", "test"), strict=True):
        fill(tmp_path / name, GREY[split])
    task = data.load(folder(tmp_path), 8)
    assert task.classes == ("a", "b")
    assert greys(task) == {"train": {40}, "val": {40}, "test": {200}}
    (note,) = data.notes(folder(tmp_path))
    assert f"{names[0]}/ is the train split" in note
    assert f"{names[1]}/ is the test split" in note


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "Val", "VALIDATION"])
@pytest.mark.parametrize("rotate", [False, True])
def test_ones_own_validation_split_chooses_in_every_fold(tmp_path: Path, name: str, rotate: bool) -> None:
    for each, split in (("train", "train"), (name, "val"), ("test", "test")):
        fill(tmp_path / each, GREY[split])
    config = folder(tmp_path, rotate=rotate, val_fraction=0.5)
    task = data.load(config, 8, max_gb=1)
    assert greys(task) == {"train": {40}, "val": {120}, "test": {200}}
    assert [len(each.labels) for each in (task.train, task.val, task.test)] == [12, 12, 12]
    first, other = (data.draw(config, task, seed) for seed in (0, 3))
    np.testing.assert_array_equal(first.val, other.val)
    assert any("own validation split is used" in note for note in data.notes(config))
    few = data.load(folder(tmp_path, classes=["b"]), 8)
    assert greys(few) == greys(task)
    assert [len(each.labels) for each in (few.train, few.val, few.test)] == [6, 6, 6]


def test_without_a_test_split_it_is_held_out_or_taken_from_validation(tmp_path: Path) -> None:
    fill(tmp_path / "train", GREY["train"], 10)
    fill(tmp_path / "val", GREY["val"])
    held = data.load(folder(tmp_path), 8)
    assert greys(held) == {"train": {40}, "val": {120}, "test": {40}}
    assert [len(each.labels) for each in (held.train, held.val, held.test)] == [16, 12, 4]
    images = [{image.tobytes() for image in each.images} for each in (held.train, held.test)]
    assert not images[0] & images[1]
    assert "data.test=val" in data.notes(folder(tmp_path))[-1]
    given = folder(tmp_path, test=OwnTest.val)
    taken = data.load(given, 8)
    assert greys(taken) == {"train": {40}, "val": {40}, "test": {120}}
    assert [len(each.labels) for each in (taken.train, taken.val, taken.test)] == [16, 4, 12]
    assert data.fingerprint(given) != data.fingerprint(folder(tmp_path))


def test_data_test_is_refused_where_nothing_is_to_be_said(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        fill(tmp_path / split)
    with pytest.raises(UserError, match=r"data.test=val: is for data with a validation split and no test split; .*"):
        data.check(folder(tmp_path, test=OwnTest.val))
    with pytest.raises(UserError, match=r"data.test=val: data=textures has no validation split"):
        data.check(DataConfig("textures", test=OwnTest.val))
    with pytest.raises(UserError, match=r"data.layout=splits: data=textures has no folders"):
        data.check(DataConfig("textures", layout=Layout.splits))


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("data/train", "data/test"),
        ("one/two/Train", "one/two/Test"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("train/train", "test/test"),
        ("train/images", "test/images"),
    ],
)
def test_one_more_folder_level_is_read_and_said(tmp_path: Path, train: str, test: str) -> None:
    fill(tmp_path / train, GREY["train"])
    fill(tmp_path / test, GREY["test"])
    task = data.load(folder(tmp_path), 8)
    assert task.classes == ("a", "b")
    assert greys(task) == {"train": {40}, "val": {40}, "test": {200}}
    (note,) = data.notes(folder(tmp_path))
    assert note == f"{train}/ is the train split, {test}/ is the test split"


def test_one_folder_too_high_is_read_and_said(tmp_path: Path) -> None:
    fill(tmp_path / "photos")
    assert data.classes(folder(tmp_path)) == ("a", "b")
    assert data.notes(folder(tmp_path)) == ["its classes are the folders in photos/"]


@pytest.mark.parametrize("name", ["train", "Train", "training"])
def test_a_class_called_like_a_split_is_asked_about(tmp_path: Path, name: str) -> None:
    fill(tmp_path)
    shutil.copytree(tmp_path / "a", tmp_path / name)
    with pytest.raises(
        UserError, match=rf"{name}/ may be a split or a class beside a/, b/; add data.layout=classes or"
    ):
        data.check(folder(tmp_path))
    assert set(data.classes(folder(tmp_path, layout=Layout.classes))) == {"a", "b", name}
    assert data.notes(folder(tmp_path, layout=Layout.classes)) == []
    with pytest.raises(UserError, match=f"has {name}/ but no test/"):
        data.check(folder(tmp_path, layout=Layout.splits))


def test_classes_called_test_and_train_are_classes_where_that_is_said(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "test")
    assert data.classes(folder(tmp_path, layout=Layout.classes)) == ("test", "train")
    assert data.classes(folder(tmp_path, layout=Layout.splits)) == ("a", "b")


@pytest.mark.parametrize("names", [("valid", "invalid"), ("cat", "trainer"), ("speed_train", "bus"), ("dev", "ops")])
def test_classes_that_only_sound_like_splits_are_classes(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        shutil.move(fill(tmp_path / "made", classes="a") / "a", tmp_path / name)
    shutil.rmtree(tmp_path / "made")
    assert data.classes(folder(tmp_path)) == tuple(sorted(names))
    assert data.notes(folder(tmp_path)) == []


def test_folders_beside_splits_are_left_out_and_said(tmp_path: Path) -> None:
    for name in ("Train", "Test"):
        fill(tmp_path / name)
    (tmp_path / "docs").mkdir()
    assert data.classes(folder(tmp_path)) == ("a", "b")
    assert data.notes(folder(tmp_path))[1] == "not read, because they are no split: docs/"


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    for name in ("Train", "Training", "Test"):
        fill(tmp_path / name)
    with pytest.raises(UserError, match=r": Train/, Training/ are several folders for one split"):
        data.check(folder(tmp_path))
    for name in ("x_train", "x_test", "y_train", "y_test"):
        fill(tmp_path / "both" / name)
    with pytest.raises(UserError, match="several folders for one split"):
        data.check(folder(tmp_path / "both"))


@pytest.mark.parametrize("names", [("train", "eval", "test"), ("Training", "Evaluation", "Testing")])
def test_eval_beside_a_test_split_is_for_validation(tmp_path: Path, names: tuple[str, ...]) -> None:
    for number, name in enumerate(names):
        fill(tmp_path / name, 50 * number)
    assert greys(data.load(folder(tmp_path), 8)) == {"train": {0}, "val": {50}, "test": {100}}
    shutil.rmtree(tmp_path / names[2])
    assert greys(data.load(folder(tmp_path), 8))["test"] == {50}, "alone it is the test"


@pytest.mark.parametrize("name", ["dev", "training", "eval2", "train2"])
def test_a_second_folder_for_a_split_is_a_warning(tmp_path: Path, name: str) -> None:
    for each in ("train", "val", "test", name):
        fill(tmp_path / each)
    assert data.notes(folder(tmp_path))[0] == (
        f"warning: not read, because there is another folder for that split: {name}/"
    )


def test_splits_without_class_folders_are_refused_with_what_to_do(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    (tmp_path / "test").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "test" / "1.png")
    with pytest.raises(UserError, match=r"test/ holds no class folders, but 1 image; data.root=\S+/train reads"):
        data.check(folder(tmp_path))
    assert data.classes(folder(tmp_path / "train")) == ("a", "b"), "as it says"
    shutil.rmtree(tmp_path / "train")
    (tmp_path / "train").mkdir()
    for number in range(6):
        Image.new("RGB", (8, 8)).save(tmp_path / "train" / f"{number}.png")
        Image.new("RGB", (8, 8), "red").save(tmp_path / "test" / f"{number}.png")
    with pytest.raises(
        UserError,
        match=r"train/ holds no class folders, but 6 images; data=csv .*; data.layout=classes takes train/",
    ):
        data.check(folder(tmp_path))
    assert data.classes(folder(tmp_path, layout=Layout.classes)) == ("test", "train"), "as it says"


def test_hidden_folders_are_named_where_there_are_no_others(tmp_path: Path) -> None:
    fill(tmp_path, classes="ab")
    for name in "ab":
        (tmp_path / name).rename(tmp_path / f".{name}")
    with pytest.raises(UserError, match=r"but folders that count as hidden \(\.a, \.b\); rename them"):
        data.check(folder(tmp_path))


@pytest.mark.parametrize("tops", [("trainieren", "testen"), ("fold1", "fold2", "fold3"), ("site_a", "site_b")])
def test_folders_of_equal_folders_are_a_warning(tmp_path: Path, tops: tuple[str, ...]) -> None:
    for name in tops:
        fill(tmp_path / name)
    (warning,) = data.notes(folder(tmp_path))
    assert warning.startswith("warning: every image lies in a folder inside its class folder; one folder too high?")


def test_folders_of_patients_are_none(tmp_path: Path) -> None:
    fill(tmp_path / "sick", classes="ab")
    fill(tmp_path / "well", classes="cd")
    (note,) = data.notes(folder(tmp_path))
    assert note.startswith("every image lies in a folder")


def test_images_without_class_folders_are_refused_with_what_is_there(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    (tmp_path / "labels.csv").write_text("0.png,a\n")
    with pytest.raises(UserError, match=r"no class folders in it, but 3 images, labels.csv; use one subfolder"):
        data.check(folder(tmp_path))


@pytest.mark.parametrize("names", [("train", "test"), ("Training", "Validation", "Testing")])
def test_splits_inside_the_classes_are_not_read_as_one(tmp_path: Path, names: tuple[str, ...]) -> None:
    for split in names:
        for name in "ab":
            fill(tmp_path / name, classes="x").joinpath("x").rename(tmp_path / name / split)
    with pytest.raises(UserError, match=r"the class folders hold splits \(a/.*move them to .*/a/ and so on, or add"):
        data.check(folder(tmp_path))
    data.check(folder(tmp_path, layout=Layout.classes))


def test_folders_inside_the_classes_that_are_no_splits_are_read(tmp_path: Path) -> None:
    for name, inside in (("a", "train"), ("a", "test"), ("b", "north"), ("b", "south")):
        fill(tmp_path / name, classes="x").joinpath("x").rename(tmp_path / name / inside)
    data.check(folder(tmp_path))  # a is a kind of picture of stations, perhaps


@pytest.mark.parametrize(("suffix", "hint"), [("", "6 without a suffix"), (".heics", "6 .heics")])
def test_a_class_without_images_says_what_else_it_holds(tmp_path: Path, suffix: str, hint: str) -> None:
    fill(tmp_path)
    for file in (tmp_path / "a").iterdir():
        file.rename(file.with_suffix(suffix))
    with pytest.raises(UserError, match=rf"no images in .*a; add some .*can be read: {hint}"):
        data.check(folder(tmp_path))


def test_plain_folders_need_no_words(tmp_path: Path) -> None:
    fill(tmp_path / "plain")
    for split in ("train", "test"):
        fill(tmp_path / "split" / split)
    assert data.notes(folder(tmp_path / "plain")) == []
    assert data.notes(folder(tmp_path / "split")) == []


def test_the_terminal_says_it_once(tmp_path: Path, sweep: Callable[..., Any], standin_source: None) -> None:
    for name in ("Train", "Val"):
        fill(tmp_path / "photos" / name)
    common = ("data=image_folder", f"data.root={tmp_path / 'photos'}", "epochs=1", "seeds=1", "optimizer.lr=0.001")
    done = sweep("-m", *common, "freeze_depth=4,5")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("photos: Train/ is the train split, Val/ is the val split\n") == 1
    assert done.stderr.count("photos: no test split: data.test_fraction of the training images is held out") == 1


@pytest.mark.parametrize(
    "name",
    [
        ".ipynb_checkpoints/0.png", "@eaDir/0.png", "__MACOSX/._0.png", "deep/__MACOSX/0.png", "._0.png", ".hidden.png",
        "Thumbs.db", ".DS_Store", "deep/.ipynb_checkpoints/0.png", "#recycle/0.png", "~$0.png",
    ],
)  # fmt: skip
def test_hidden_and_system_names_are_skipped_at_any_depth(tmp_path: Path, name: str) -> None:
    before = data.fingerprint(folder(fill(tmp_path / "photos")))
    for place in (tmp_path / "photos", tmp_path / "photos" / "a"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes((tmp_path / "photos/a/0.png").read_bytes())
        if name.startswith("deep"):
            break  # a folder of its own beside the classes would be a class
    if name.startswith("deep"):
        shutil.move(tmp_path / "photos" / "deep", tmp_path / "photos" / "a" / "deep")
    config = folder(tmp_path / "photos")
    assert data.fingerprint(config) == before
    assert data.notes(config) == []


@pytest.mark.parametrize("target", [".", "a", "a/in", "b"])
@pytest.mark.parametrize("place", ["a/again", "a/in/again"])
def test_links_never_loop_and_each_file_is_read_once(tmp_path: Path, target: str, place: str) -> None:
    fill(tmp_path)
    (tmp_path / "a" / "in").mkdir()
    (tmp_path / "a" / "0.png").rename(tmp_path / "a" / "in" / "0.png")
    (tmp_path / place).symlink_to((tmp_path / target).resolve())
    files = list_images(str(tmp_path)).files["train"]
    assert [label for _, label in files] == [0] * 6 + [1] * 6
    assert len({file.resolve() for file, _ in files}) == 12
    assert all(file.resolve().parent.name != "b" for file, label in files if label == 0)


def test_images_that_are_all_links_are_read_as_before(tmp_path: Path) -> None:
    fill(tmp_path / "store")
    for name in "ab":
        (tmp_path / "links" / name).mkdir(parents=True)
        for file in sorted((tmp_path / "store" / name).iterdir()):
            (tmp_path / "links" / name / file.name).symlink_to(file)
    (tmp_path / "links" / "a" / "twice.png").symlink_to(tmp_path / "store" / "a" / "0.png")
    config = folder(tmp_path / "links")
    assert len(data.load(config, 8).train.pool) == 12
    assert data.notes(config) == ["1 links to images that are there already are left out"]


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match=r"a/gone.png is a link to nothing \(.*nowhere.png\); repair or remove it"):
        data.check(folder(tmp_path))
    (tmp_path / "a" / "gone.png").unlink()
    (tmp_path / "a" / "round.png").symlink_to(tmp_path / "a" / "round.png")
    with pytest.raises(UserError, match=r"a/round.png is a link to nothing"):
        data.check(folder(tmp_path))
    (tmp_path / "a" / "round.png").unlink()
    os.mkfifo(tmp_path / "a" / "pipe.png")
    with pytest.raises(UserError, match=r"a/pipe.png is a pipe, a socket or a device"):
        data.check(folder(tmp_path))
    (tmp_path / "a" / "pipe.png").unlink()
    (tmp_path / "a" / "null.png").symlink_to("/dev/null")
    with pytest.raises(UserError, match=r"a/null.png is a pipe, a socket or a device"):
        data.check(folder(tmp_path))


WRITTEN = {
    "jpe": "JPEG", "jfif": "JPEG", "JPG": "JPEG", "gif": "GIF", "pbm": "PPM", "pnm": "PPM", "bmp": "BMP", "dib": "DIB",
    "tga": "TGA", "pcx": "PCX", "sgi": "SGI", "ico": "ICO", "dds": "DDS", "qoi": "QOI", "jp2": "JPEG2000",
    "j2k": "JPEG2000", "avif": "AVIF", "webp": "WEBP", "apng": "PNG",
}  # fmt: skip


@pytest.mark.parametrize(("suffix", "written"), WRITTEN.items())
def test_every_format_that_is_promised_is_read(tmp_path: Path, suffix: str, written: str) -> None:
    if f".{suffix.lower()}" not in decode.FORMATS:
        pytest.skip("PIL is built without it")
    for label, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        for number in range(5):
            image = Image.new("RGB", (32, 32), (200 * label, 200 * label, 200 * label))
            image.save(tmp_path / name / f"{number}.{suffix}", written)
    task = data.load(folder(tmp_path), 16)
    assert len(task.fit.labels) == 8
    means = task.fit.images.mean((1, 2, 3))
    assert np.allclose(means, 200 * task.fit.labels, atol=4)


def test_what_is_left_out_is_counted_by_suffix(tmp_path: Path) -> None:
    fill(tmp_path)
    for name in ("x.eps", "y.EPS", "z.txt", "README"):
        (tmp_path / "a" / name).write_text("%!PS-Adobe-3.0 EPSF-3.0")
    (note,) = data.notes(folder(tmp_path))
    assert note == "left out, because they are no images that can be read: 2 .eps, 1 .txt, 1 without a suffix"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "I;16"])
@pytest.mark.parametrize("shape", [(20, 31), (16, 16)])
def test_serving_sees_what_training_saw(tmp_path: Path, orientation: int, mode: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, shape).astype(np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (*shape, 4), dtype=np.uint8)).convert(mode)
    exif = image.getexif()
    exif[0x0112] = orientation
    path = tmp_path / "x.png"
    image.save(path, exif=exif)
    trained = decode.decode(path, 16)
    facts = {"mean": [0.0] * 3, "std": [1.0] * 3, "image_size": 16, "classes": ["a", "b"]}
    served = Classifier(nn.Identity(), facts)
    with Image.open(path) as opened:
        several = served.prepare([opened, str(path), path])
        np.testing.assert_array_equal(served.prepare(opened).numpy()[0], trained)
    assert several.shape == (3, 3, 16, 16)
    for each in several.numpy():
        np.testing.assert_array_equal(each, trained)
    np.testing.assert_array_equal(served.prepare(str(path)).numpy()[0], trained)


def test_serving_refuses_what_is_no_image_in_one_line(tmp_path: Path) -> None:
    served = Classifier(nn.Identity(), {"mean": [0.0] * 3, "std": [1.0] * 3, "image_size": 16, "classes": ["a", "b"]})
    (tmp_path / "x.png").write_text("no image")
    for wrong, message in (
        (tmp_path / "x.png", "cannot be read"),
        (tmp_path / "gone.png", "cannot be read"),
        ([], "no image"),
    ):
        with pytest.raises(UserError, match=message):
            served.prepare(wrong)


@pytest.mark.parametrize(
    ("suffix", "kind", "scale"),
    [
        ("png", "uint16", 1),
        ("tif", "uint16", 1),
        ("tif", "float32", 1 / 4095),
        ("pgm", "uint16", 1),
        ("tif", "int32", 1),
    ],
)
def test_deep_pixels_are_scaled_by_their_own_range_in_training_and_serving(
    tmp_path: Path, suffix: str, kind: str, scale: float
) -> None:
    for label, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        for number in range(6):
            level = scale * (600 + 2000 * label + 100 * number)
            Image.fromarray(np.full((8, 8), level).astype(kind)).save(tmp_path / name / f"{number}.{suffix}")
    Image.new("RGB", (8, 8), (7, 7, 7)).save(tmp_path / "a" / "z.png")  # of 8 bits, which stays as it is
    config = folder(tmp_path)
    pool = data.load(config, 8).fit.pool
    expected = [*(100 * n for n in range(6)), *(2000 + 100 * n for n in range(6))]
    levels = np.round(255 * np.array(expected) / 2500).astype(int)
    assert np.abs(np.delete(pool[:, 0, 0, 0], 6).astype(int) - levels).max() <= 1
    assert (pool[6] == 7).all()
    span = data.pixel_range(config)
    assert span == pytest.approx((600 * scale, 3100 * scale))
    assert "600 is black" in data.notes(config)[-2] or scale != 1
    facts = {"mean": [0.0] * 3, "std": [1.0] * 3, "image_size": 8, "classes": ["a", "b"], "pixel_range": span}
    served = Classifier(nn.Identity(), facts).prepare([tmp_path / "b" / f"{n}.{suffix}" for n in range(6)])
    np.testing.assert_array_equal(served.numpy(), pool[7:])
    asked = folder(tmp_path, pixel_range=[0, 4095 * scale])
    level = data.load(asked, 8).fit.pool[7, 0, 0, 0]
    assert abs(int(level) - round(255 * 2600 / 4095)) <= 1
    assert data.fingerprint(asked) != data.fingerprint(folder(tmp_path))


@pytest.mark.parametrize("given", [[1], [2, 1], ["a", 1], [0, float("nan")], 5, [0, 1, 2]])
def test_wrong_pixel_ranges_are_refused(tmp_path: Path, given: Any) -> None:
    with pytest.raises(UserError, match=r"data.pixel_range=.*: use two numbers"):
        data.check(folder(fill(tmp_path), pixel_range=given))


@pytest.mark.parametrize("ending", ["_mask", "_seg", "_label", "_Mask"])
def test_masks_are_said_and_can_be_left_out(tmp_path: Path, ending: str) -> None:
    fill(tmp_path)
    before = list_images(str(tmp_path)).files
    for name in "ab":
        for number in range(6):
            Image.new("L", (8, 8)).save(tmp_path / name / f"{number}{ending}.png")
    (note,) = data.notes(folder(tmp_path))
    assert note.startswith("warning: 12 files are called as masks of others")
    assert f'data.exclude="*{ending}.*"' in note
    without = folder(tmp_path, exclude=f"*{ending}.*")
    assert data.notes(without) == []
    assert len(data.load(without, 8).fit.labels) + len(data.load(without, 8).test.labels) == len(before["train"])
    assert data.fingerprint(without) != data.fingerprint(folder(tmp_path))


@pytest.mark.parametrize(("images", "masks"), [("images", "masks"), ("img", "Mask"), ("photos", "ground_truth")])
@pytest.mark.parametrize("ending", ["", "_mask"])
def test_folders_of_masks_are_said_and_can_be_left_out(tmp_path: Path, images: str, masks: str, ending: str) -> None:
    for number, name in enumerate(("x", "y")):
        fill(tmp_path / "inside" / name, 10 * number, classes="a")
        (tmp_path / "inside" / name / "a").rename(tmp_path / "inside" / name / images)
        (tmp_path / "inside" / name / masks).mkdir()
        for each in range(6):
            Image.new("L", (8, 8)).save(tmp_path / "inside" / name / masks / f"{each}{ending}.png")
    (warning,) = data.notes(folder(tmp_path / "inside"))
    assert warning.startswith(f"warning: 12 files lie in {masks}/ as others do in {images}/ (such as x/{masks}/0")
    assert f'data.exclude="*{masks}/*"' in warning
    assert not any("warning" in note for note in data.notes(folder(tmp_path / "inside", exclude=f"*{masks}/*")))
    fill(tmp_path / "beside" / images)
    fill(tmp_path / "beside" / masks)
    (warning,) = data.notes(folder(tmp_path / "beside"))
    assert f"data.root={tmp_path / 'beside' / images} is without them" in warning


@pytest.mark.parametrize("name", ["retrain", "contest", "training test", "develop", "evals", "latest"])
def test_words_that_contain_others_are_no_splits(name: str) -> None:
    assert layout.split_name(name) is None
