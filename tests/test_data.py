import dataclasses
import itertools
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image
from torchvision.datasets import ImageFolder

from sweep import interrupt
from sweep.config import Augment, Case, DataConfig, Normalization, Transform
from sweep.data import decode, registry, store
from sweep.data import task as data
from sweep.data.folder import list_images
from sweep.data.glyphs import Embedded
from sweep.data.types import Images, Labels, Task
from sweep.errors import UserError


def load(config: DataConfig, size: int = 32) -> Task:
    return data.load(config, size)


def folder(root: Path, **fields: Any) -> DataConfig:
    registry.forget()  # as a new process would look at the files
    return DataConfig(name="image_folder", root=str(root), **fields)


@pytest.mark.parametrize(
    ("name", "classes", "train", "val", "test"),
    [
        ("glyphs_latin", 26, 5200, 1300, 1040),
        ("glyphs_digits", 10, 400, 100, 500),
        ("glyphs_greek_cyrillic", 40, 800, 200, 800),
        ("textures", 10, 400, 100, 500),
        ("digits", 10, 1151, 287, 359),
    ],
)
def test_embedded_tasks_have_the_sizes_that_the_yaml_says(
    name: str, classes: int, train: int, val: int, test: int
) -> None:
    task = load(DataConfig(name=name))
    assert len(task.classes) == classes
    assert [len(split.labels) for split in (task.train, task.val, task.test)] == [train, val, test]
    for split in (task.train, task.val, task.test):
        assert split.images.shape[1:] == (3, 32, 32)
        assert set(split.labels) == set(range(classes))


def test_splits_are_disjoint_and_depend_on_the_data_seed_alone() -> None:
    first, other = load(DataConfig(name="digits")), load(DataConfig(name="digits", seed=1))
    images = [{image.tobytes() for image in split.images} for split in (first.train, first.val, first.test)]
    assert not images[0] & images[1]
    assert not images[0] & images[2]
    assert not images[1] & images[2]
    assert images[2] != {image.tobytes() for image in other.test.images}


def test_subsample_takes_per_class_and_differs_by_seed() -> None:
    task = load(DataConfig(name="textures"))
    config = DataConfig(name="textures", per_class=7)
    chosen = data.subsample(config, task.train.labels, 0, task.classes)
    assert np.bincount(task.train.labels[chosen]).tolist() == [7] * 10
    assert chosen.tolist() == data.subsample(config, task.train.labels, 0, task.classes).tolist()
    assert chosen.tolist() != data.subsample(config, task.train.labels, 1, task.classes).tolist()


def test_limit_train_keeps_class_shares() -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 2])
    chosen = data.subsample(DataConfig(limit_train=30), labels, 0, ("a", "b", "c"))
    assert np.bincount(labels[chosen]).tolist() == [19, 10, 1]


@pytest.mark.parametrize(
    ("counts", "total", "shares"), [([100, 50, 2], 152, [100, 50, 2]), ([98, 1, 1], 4, [2, 1, 1]), ([5, 5], 3, [2, 1])]
)
def test_shares_by_hand(counts: list[int], total: int, shares: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    chosen = data.subsample(DataConfig(limit_train=total), labels, 0, ("a", "b", "c")[: len(counts)])
    assert np.bincount(labels[chosen]).tolist() == shares


def test_more_images_than_there_are_is_refused() -> None:
    labels = np.repeat([0, 1], [9, 5])
    with pytest.raises(UserError, match=r"data.per_class=6: class b has only 5 training images .*; use 5 or fewer"):
        data.subsample(DataConfig(per_class=6), labels, 0, ("a", "b"))
    with pytest.raises(UserError, match=r"data.limit_train=15: .* has 14 training images .*; use 14 or fewer"):
        data.subsample(DataConfig(limit_train=15), labels, 0, ("a", "b"))


def test_image_folder_reads_every_kind_of_image(folder_of_images: Path) -> None:
    task = load(folder(folder_of_images), 24)
    assert task.classes == ("cat", "dog")
    assert [len(split.labels) for split in (task.train, task.val, task.test)] == [16, 4, 4]
    for split in (task.train, task.val, task.test):
        assert split.images.shape[1:] == (3, 24, 24)
        bright = split.images.mean((1, 2, 3)) > 120
        assert bright.tolist() == (split.labels == 1).tolist()


def test_image_folder_lists_files_as_torchvision_does(folder_of_images: Path) -> None:
    (folder_of_images / "cat" / "more").mkdir()
    (folder_of_images / "cat" / "00.jpg").rename(folder_of_images / "cat" / "more" / "Z.JPG")
    (folder_of_images / "cat" / "notes.txt").write_text("not an image")
    classes, files, _ = list_images(str(folder_of_images))
    theirs = ImageFolder(str(folder_of_images))
    assert list(classes) == theirs.classes
    assert sorted((str(path), label) for path, label in files["train"]) == sorted(theirs.samples)


def test_train_and_test_folders_are_used_as_they_are(folder_of_images: Path, tmp_path: Path) -> None:
    root = tmp_path / "split"
    root.mkdir()
    for split in ("train", "test"):
        (root / split).symlink_to(folder_of_images)
    task = load(folder(root))
    assert [len(split.labels) for split in (task.train, task.val, task.test)] == [20, 4, 24]


def test_decoding_by_hand(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))  # fully transparent red
    clear.save(tmp_path / "clear.png")
    assert decode.decode(tmp_path / "clear.png", 8).min() == 255  # white shows through

    wide = Image.fromarray(np.full((4, 4), 40000, np.uint16))
    wide.save(tmp_path / "wide.png")
    assert set(decode.decode(tmp_path / "wide.png", 4).flat) == {40000 >> 8}

    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255  # the middle square is white, and a centre crop is all that is left
    Image.fromarray(pixels).save(tmp_path / "crop.png")
    assert decode.decode(tmp_path / "crop.png", 10).min() == 255

    turned = Image.fromarray(np.r_[np.zeros((4, 8, 3)), np.full((4, 8, 3), 255)].astype(np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 3  # upside down
    turned.save(tmp_path / "turned.png", exif=exif)
    assert decode.decode(tmp_path / "turned.png", 8)[0, 0, 0] == 255


def test_unreadable_images_are_reported_by_name(folder_of_images: Path) -> None:
    whole = (folder_of_images / "cat" / "00.jpg").read_bytes()
    (folder_of_images / "cat" / "00.jpg").write_bytes(whole[: len(whole) // 2])
    (folder_of_images / "dog" / "01.png").write_text("no image")
    with pytest.raises(UserError, match=r"2 unreadable image\(s\), repair or remove them, .*00\.jpg .*01\.png"):
        load(folder(folder_of_images))


def test_wrong_folders_are_refused_before_any_image_is_read(folder_of_images: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    (empty / "cat").mkdir(parents=True)
    one_sided = tmp_path / "one_sided"
    (one_sided / "train" / "cat").mkdir(parents=True)
    differing = tmp_path / "differing"
    for path in ("train/cat", "train/dog", "test/cat"):
        (differing / path).mkdir(parents=True)
    for root, message in (
        (tmp_path / "nowhere", "no such folder"),
        (empty, r"no images in .*cat; add some"),
        (one_sided, "has train/ but no test/"),
        (differing, "test/ and train/ differ in classes: only train/ has dog"),
        (folder_of_images / "cat", "no class folders"),
    ):
        with pytest.raises(UserError, match=message):
            data.check(folder(root))
    with pytest.raises(UserError, match=r"data\.root is not set"):
        data.check(DataConfig(name="image_folder"))
    single = tmp_path / "single"
    single.mkdir()
    (folder_of_images / "cat").rename(single / "cat")
    with pytest.raises(UserError, match=r"only one class \(cat\); at least two are needed"):
        data.check(folder(single))


def test_fingerprint_follows_the_files(folder_of_images: Path) -> None:
    before = data.fingerprint(folder(folder_of_images))
    assert before == data.fingerprint(folder(folder_of_images))
    moved = folder_of_images.rename(folder_of_images.with_name("moved"))
    assert before == data.fingerprint(folder(moved))
    (moved / "cat" / "00.jpg").unlink()
    assert before != data.fingerprint(folder(moved))


def test_case_is_known_for_embedded_tasks_declared_for_others() -> None:
    assert data.case(DataConfig(name="textures"), "glyphs_latin", 26) is Case.dissimilar
    assert data.case(DataConfig(name="textures"), "imagenet", 1000) is Case.unknown
    assert data.case(DataConfig(name="textures", case=Case.similar_fewer), "imagenet", 1000) is Case.similar_fewer
    message = re.escape("data.case=similar_more: textures has 10 classes and source glyphs_latin has 26")
    with pytest.raises(UserError, match=message):
        data.case(DataConfig(name="textures", case=Case.similar_more), "glyphs_latin", 26)


def test_images_are_decoded_once_and_mapped(folder_of_images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = folder(folder_of_images)
    first = data.load(config, 24, max_gb=1.0)
    monkeypatch.setattr(decode, "decode", None)  # decoding again would fail
    again = data.load(config, 24, max_gb=1.0)
    assert isinstance(again.train.pool, np.memmap)
    for name in ("train", "val", "test"):
        ours, theirs = getattr(again, name), getattr(first, name)
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
    monkeypatch.undo()
    in_memory = data.load(config, 24)
    np.testing.assert_array_equal(in_memory.test.images, again.test.images)


def test_changed_files_are_decoded_anew(folder_of_images: Path) -> None:
    before = data.load(folder(folder_of_images), 24, max_gb=1.0)
    Image.new("RGB", (30, 30), "white").save(folder_of_images / "cat" / "00.jpg")
    after = data.load(folder(folder_of_images), 24, max_gb=1.0)
    assert (after.train.pool[0] == 255).all()
    assert not (before.train.pool[0] == 255).all()


def test_images_that_cannot_be_kept_are_used_all_the_same(
    folder_of_images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(store, "told", [])
    task = data.load(folder(folder_of_images), 20, max_gb=1.0)
    assert len(task.train.labels)
    assert capsys.readouterr().err.startswith("warning: nothing more is kept in ")


def test_coarse_labels_name_the_same_images_as_fine_ones() -> None:
    fine = load(DataConfig(name="glyphs_greek_cyrillic", classes=[*range(7)]))
    coarse = load(DataConfig(name="glyphs_greek_cyrillic", classes=[*range(7)], groups=3))
    assert coarse.classes == ("Γ+Δ+Θ", "Λ+Ξ", "Π+Σ")
    for one, other in ((fine.train, coarse.train), (fine.val, coarse.val), (fine.test, coarse.test)):
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_array_equal(np.array([0, 0, 0, 1, 1, 2, 2])[one.labels], other.labels)


def test_too_many_groups_are_refused() -> None:
    with pytest.raises(UserError, match=re.escape("data.groups=11: 10 classes make 2 to 10 groups")):
        data.check(DataConfig(name="textures", groups=11))


def test_transforms_by_hand() -> None:
    plain = load(DataConfig(name="textures")).test.images
    inverted, permuted, blurred = (
        load(DataConfig(name="textures", transform=transform)).test.images
        for transform in (Transform.invert, Transform.permute, Transform.blur)
    )
    np.testing.assert_array_equal(inverted, 255 - plain)
    np.testing.assert_array_equal(
        np.sort(permuted.reshape(len(plain), 3, -1)), np.sort(plain.reshape(len(plain), 3, -1))
    )
    assert (permuted != plain).mean() > 0.9
    assert blurred.std() < plain.std()
    assert abs(blurred.mean() - plain.mean()) < 1, "blurring keeps the mean"
    # The order is the same for every image and channel: where one pixel goes, all of them go.
    to = [place for place in range(1024) if (permuted.reshape(-1, 1024)[:, place] == plain[:, :, 0, 0].ravel()).all()]
    assert len(to) == 1


def test_transform_and_groups_change_name_fingerprint_and_known_case() -> None:
    plain, permuted = DataConfig(name="glyphs_digits"), DataConfig(name="glyphs_digits", transform=Transform.permute)
    assert data.fingerprint(plain) != data.fingerprint(permuted)
    assert data.label(permuted) == "glyphs_digits-permute"
    assert data.case(permuted, "glyphs_latin", 26) is Case.unknown
    few = DataConfig(name="glyphs_greek_cyrillic", groups=5)
    assert data.label(few) == "glyphs_greek_cyrillic-5classes"
    assert data.case(few, "glyphs_latin", 26) is Case.similar_fewer


def test_every_field_that_changes_what_is_loaded_is_part_of_the_loaded_key() -> None:
    base = DataConfig(name="textures")
    same = dataclasses.replace(
        base,
        label="mine",
        image_size=8,
        normalize=Normalization.none,
        augment=Augment.flip_crop,
        case=Case.dissimilar,
        per_class=3,
        limit_train=30,
    )
    assert data.loaded_key(same, 32) == data.loaded_key(base, 32)
    one, other = load(base), load(same)
    for name in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(one, name).images, getattr(other, name).images)
        np.testing.assert_array_equal(getattr(one, name).labels, getattr(other, name).labels)
    changes: dict[str, Any] = {
        "name": "digits",
        "root": "photos",
        "image_column": "img",
        "label_column": "kind",
        "classes": [0, 1],
        "groups": 5,
        "transform": Transform.blur,
        "val_fraction": 0.5,
        "test_fraction": 0.5,
        "seed": 1,
    }
    keys = {data.loaded_key(dataclasses.replace(base, **{name: value}), 32) for name, value in changes.items()}
    assert len(keys | {data.loaded_key(base, 32), data.loaded_key(base, 16)}) == len(changes) + 2


def test_files_are_looked_at_once_until_forgotten(folder_of_images: Path) -> None:
    config = folder(folder_of_images)
    before = data.fingerprint(config)
    (folder_of_images / "cat" / "00.jpg").unlink()
    assert registry.open(dataclasses.replace(config, seed=3, classes=["cat"])) is registry.open(config)
    assert data.fingerprint(config) == before
    assert data.fingerprint(folder(folder_of_images)) != before


class Stripes(Embedded):
    """What someone who adds a data set writes."""

    def classes(self) -> tuple[str, ...]:
        return ("across", "along")

    def fingerprint(self) -> str:
        return "stripes"

    def similar(self, source: str) -> bool | None:
        return False if source == "glyphs_latin" else None

    def make(self, split: str) -> tuple[Images, Labels]:
        across = np.zeros((3, 8, 8), np.uint8)
        across[:, ::2] = 255
        return np.stack([across, across.transpose(0, 2, 1)] * 10), np.arange(20) % 2


def test_a_class_and_a_table_line_add_a_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    config = DataConfig(name="stripes", per_class=4)
    with pytest.raises(UserError, match=r"data\.name=stripes: unknown; use one of glyphs_latin, "):
        data.check(config)
    monkeypatch.setitem(registry.DATASETS, "stripes", Stripes)
    data.check(config)
    assert data.label(config) == "stripes"
    assert data.case(config, "glyphs_latin", 26) is Case.dissimilar
    for max_gb in (0.0, 1.0):
        task = data.load(config, 8, max_gb)
        assert [len(split.labels) for split in (task.train, task.val, task.test)] == [16, 4, 20]
        assert (task.test.images[task.test.labels == 0][:, :, 0] == 255).all()
    with pytest.raises(UserError, match=r"data\.root=here: data=stripes reads no files"):
        data.check(DataConfig(name="stripes", root="here"))


def test_every_promised_extension_is_a_format_that_is_opened() -> None:
    Image.init()
    known = Image.registered_extensions()
    assert {suffix: known[suffix] for suffix in decode.EXTENSIONS} == decode.FORMATS


def test_formats_that_are_not_promised_are_never_opened(
    folder_of_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is called .jpg and holds PostScript would have Ghostscript run it."""
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 30\n%%EndComments\n0 0 30 30 rectfill\nshowpage\n%%EOF\n"
    (folder_of_images / "cat" / "00.jpg").write_bytes(page)
    started: list[object] = []

    def ghostscript(*arguments: object, **options: object) -> Any:
        started.append(arguments)
        return Image.new("RGB", (30, 30)).im

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    with Image.open(folder_of_images / "cat" / "00.jpg") as image:
        image.load()
    assert len(started) == 1, "left to itself, PIL starts it"
    with pytest.raises(UserError, match=r"1 unreadable image\(s\), .*00\.jpg \(cannot identify image file") as caught:
        load(folder(folder_of_images))
    assert len(started) == 1
    assert "\n" not in str(caught.value)


class Stop:
    """Stands in for interrupt.check(): asks to stop from the n-th call on, as Ctrl-C does."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.calls = itertools.count()  # next() is safe between threads

    def __call__(self) -> None:
        if next(self.calls) >= self.after:
            raise KeyboardInterrupt


def test_reading_a_folder_stops_within_an_image_per_thread(
    folder_of_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[object] = []
    really = decode.decode

    def counted(content: Path | bytes | None, *how: Any) -> Any:
        decoded.append(content)
        return really(content, *how)

    config = folder(folder_of_images)
    data.fingerprint(config)  # headers are looked at once, before
    monkeypatch.setattr(decode, "decode", counted)
    monkeypatch.setattr(interrupt, "check", Stop(after=3))
    with pytest.raises(KeyboardInterrupt):
        data.load(config, 24, max_gb=1.0)
    assert len(decoded) == 3
    monkeypatch.setattr(interrupt, "check", Stop(after=1000))
    assert len(data.load(folder(folder_of_images), 24, max_gb=1.0).test.labels) == 4, "nothing half read is kept"
    assert len(decoded) == 3 + 24


@pytest.mark.parametrize("name", ["glyphs_digits", "textures"])
def test_rendering_stops_at_an_image(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Stop(after=5)
    monkeypatch.setattr(interrupt, "check", stop)
    with pytest.raises(KeyboardInterrupt):
        load(DataConfig(name=name))
    assert next(stop.calls) == 6


def test_classes_are_numbered_in_the_order_in_which_they_are_asked_for() -> None:
    whole = load(DataConfig(name="glyphs_digits"))
    some = load(DataConfig(name="glyphs_digits", classes=["7", "2", "5"]))
    assert some.classes == ("7", "2", "5")
    for label, name in enumerate(some.classes):
        asked = some.test.images[some.test.labels == label]
        np.testing.assert_array_equal(asked, whole.test.images[whole.test.labels == int(name)])


def test_folds_rotate_with_the_seed_and_share_no_image_until_all_were_used() -> None:
    config = DataConfig(name="textures", val_fraction=0.2)
    task = data.load(config, 32)
    folds = [data.draw(dataclasses.replace(config, rotate=True), task, seed) for seed in range(6)]
    assert sorted(np.concatenate([fold.val for fold in folds[:5]]).tolist()) == list(range(500))
    assert folds[5].val.tolist() == folds[0].val.tolist()
    for fold in folds:
        assert np.bincount(task.fit.labels[fold.val]).tolist() == [10] * 10
        assert not set(fold.train) & set(fold.val)
        assert len(fold.train) + len(fold.val) == 500
    assert folds[0].val.tolist() == task.fold(0).val.tolist()
    fixed = [data.draw(config, task, seed).val.tolist() for seed in range(3)]
    assert fixed == [folds[0].val.tolist()] * 3


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5, 0.9])
def test_every_image_of_a_class_validates_as_often_as_the_others_but_for_one_turn(fraction: float) -> None:
    task = data.load(DataConfig(name="textures", val_fraction=fraction), 32)
    times = np.zeros(500, int)
    for seed in range(50):  # as many turns as a class has images
        times[task.fold(seed).val] += 1
    assert set(times) == {round(fraction * 50)}
