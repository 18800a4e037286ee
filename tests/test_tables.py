"""Images that a table lists: whatever it is called, parted by, encoded in, and whatever is wrong with it."""

import csv
import dataclasses
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Done
from PIL import Image

from sweep.config import Config, DataConfig, OwnTest
from sweep.data import registry, turns
from sweep.data import task as data
from sweep.data.folder import list_images
from sweep.data.types import Task
from sweep.errors import UserError
from sweep.plan.point import plan

GREY = {"train": 40, "val": 120, "test": 200}


def config(file: Path, **fields: Any) -> DataConfig:
    registry.forget()  # as a new process would look at the files
    return DataConfig(name="csv", file=str(file), **fields)


def text(rows: Sequence[Sequence[Any]], separator: str = ",") -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter=separator).writerows(rows)
    return stream.getvalue()


def write(path: Path, rows: Sequence[Sequence[Any]], separator: str = ",", encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text(rows, separator).encode(encoding))
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a folder with 0.png to 23.png, of the grey values 0, 10, ... 230."""
    for number in range(24):
        Image.new("RGB", (8, 8), (10 * number,) * 3).save(tmp_path / f"{number}.png")
    return tmp_path


def rows(count: int = 24, *more: Callable[[int], Any], head: Sequence[str] = ("path", "label")) -> list[list[Any]]:
    """Return a header and rows of two classes, even and odd, with more columns."""
    return [[*head], *([f"{n}.png", ("even", "odd")[n % 2], *(each(n) for each in more)] for n in range(count))]


def greys(task: Task) -> dict[str, set[int]]:
    return {name: {int(g) // 10 for g in getattr(task, name).images[:, 0, 0, 0]} for name in ("train", "val", "test")}


def test_a_table_of_a_folder_is_that_folder(folder_of_images: Path, tmp_path: Path) -> None:
    found = list_images(str(folder_of_images))
    listed = [[str(f.relative_to(folder_of_images)), found.classes[label]] for f, label in found.files["train"]]
    ours = data.load(
        config(write(tmp_path / "t.csv", [["path", "label"], *listed[::-1]]), root=str(folder_of_images)), 24
    )
    theirs = data.load(DataConfig(name="image_folder", root=str(folder_of_images)), 24)
    assert ours.classes == theirs.classes == ("cat", "dog")
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(ours, split).images, getattr(theirs, split).images)
        np.testing.assert_array_equal(getattr(ours, split).labels, getattr(theirs, split).labels)


HEADS = [
    ("path", "label"), ("file", "class"), ("filename", "category"), ("File Name", "Target"), ("image_path", "class_id"),
    ("IMAGE", "LABEL"), ("filepath", "y"), ("img", "labels"), ("image_id", "label_name"), ("file-name", "Ground Truth"),
]  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_columns_are_found_by_usual_names_wherever_they_stand(images: Path, head: tuple[str, str]) -> None:
    table = [["", "width", *head[::-1]], *([n, 8, row[1], row[0]] for n, row in enumerate(rows()[1:]))]
    asked = config(write(images / "t.csv", table))
    assert data.classes(asked) == ("even", "odd")
    assert f"path is {head[0]}, label is {head[1]}" in data.notes(asked)[0]


@pytest.mark.parametrize(
    ("suffix", "separator"), [("csv", ","), ("csv", ";"), ("csv", "\t"), ("tsv", "\t"), ("tsv", ","), ("txt", "|")]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_separators_encodings_and_line_ends(
    images: Path, suffix: str, separator: str, encoding: str, ends: str
) -> None:
    names = ("café; a, <b>b|c</b>", 'the "ü"')
    table = [["Path", "Label"], *([f"{n}.png", names[n % 2]] for n in range(24))]
    file = images / f"t.{suffix}"
    file.write_bytes(text(table, separator).replace("\r\n", ends).encode(encoding))
    assert data.classes(config(file)) == tuple(sorted(names))
    said = any("is not UTF-8" in note for note in data.notes(config(file)))
    assert said == (encoding == "latin-1")


def test_parquet_is_known_by_its_content(images: Path) -> None:
    table = pa.table({"file": [f"{n}.png" for n in range(24)], "label": [float(n % 3) for n in range(24)]})
    pq.write_table(table, images / "t.csv")
    assert data.classes(config(images / "t.csv")) == ("0", "1", "2")


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([0, 1, 10, 2], ("0", "1", "2", "10")),
        (["1.0", "0.0", "10.0", "2.0"], ("0", "1", "2", "10")),
        (["01", "1", "b", "a"], ("01", "1", "a", "b")),
        (["日本", "no", "None", "NA"], ("NA", "None", "no", "日本")),
        ([" a ", "a", "b ", "c"], ("a", "b", "c")),
    ],
)
def test_labels_are_numbers_or_any_text(images: Path, labels: list[Any], classes: tuple[str, ...]) -> None:
    table = [["path", "label"], *([f"{n}.png", labels[n % 4]] for n in range(24))]
    assert data.classes(config(write(images / "t.csv", table))) == classes


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("split", ("train", "val", "test")),
        ("Set", ("Training", "Validation", "Testing")),
        ("subset", ("TRAIN", "dev", "eval")),
        ("fold", ("train_set", "valid", "test-set")),
        ("partition", ("trn", "val", "tst")),
        ("data set", ("train", "valid", "test")),
        ("subset", ("train", "eval", "test")),
        ("where it belongs", ("training", "validation", "test")),
    ],
)
def test_the_tables_own_splits_are_used(images: Path, head: str, words: tuple[str, str, str]) -> None:
    asked = config(write(images / "t.csv", rows(24, lambda n: words[n // 8], head=("path", "label", head))))
    task = data.load(asked, 8)
    assert greys(task) == {"train": {*range(8)}, "val": {*range(8, 16)}, "test": {*range(16, 24)}}
    assert any("own validation split" in note for note in data.notes(asked))
    asked = dataclasses.replace(asked, split_column="none")
    task = data.load(asked, 8)
    assert [len(each.labels) for each in (task.train, task.val, task.test)] == [16, 4, 4]


@pytest.mark.parametrize(
    ("marks", "test", "val"),
    [
        ({"is_train": "01"}, {0, 1, 2, 3}, None),
        ({"train": ["False", "True"]}, {0, 1, 2, 3}, None),
        ({"is_training_image": "01"}, {0, 1, 2, 3}, None),
        ({"is_training_img": "01"}, {0, 1, 2, 3}, None),
        ({"TrainSet": "01"}, {0, 1, 2, 3}, None),
        ({"used for training": "01"}, {0, 1, 2, 3}, None),
        ({"testimages": "10"}, {0, 1, 2, 3}, None),
        ({"is_eval": "10"}, {0, 1, 2, 3}, None),
        ({"Is Test": ["yes", "no"]}, {0, 1, 2, 3}, None),
        ({"is_valid": ["TRUE", "FALSE"]}, None, {0, 1, 2, 3}),
        ({"test": ["1.0", "0.0"], "valid": ["", "0"]}, {0, 1, 2, 3}, None),
        ({"is_val": "10", "is_train": "01"}, None, {0, 1, 2, 3}),
    ],
    ids=str,
)
@pytest.mark.parametrize("named", [False, True])
def test_columns_of_yes_and_no_say_the_split(
    images: Path, marks: dict[str, Sequence[str]], test: set[int] | None, val: set[int] | None, named: bool
) -> None:
    """The first four images are of another split than the rest."""
    more = [lambda n, words=words: words[n >= 4] for words in marks.values()]
    table = rows(24, *more, head=("path", "label", *marks))
    first = next(iter(marks))
    task = data.load(
        config(write(images / "t.csv", table), split_column=first if named and len(marks) == 1 else None), 8
    )
    found = greys(task)
    for split, wanted in (("test", test), ("val", val)):
        assert found[split] == wanted if wanted else len(found[split]) == 4
    assert any(f"{first}" in note and "the split" in note for note in data.notes(config(images / "t.csv")))


def test_columns_of_yes_and_no_of_other_names_or_beside_a_split_say_none(images: Path) -> None:
    table = rows(24, lambda n: n % 2, lambda n: ("train", "test")[n >= 16], head=("path", "label", "is_train", "split"))
    assert greys(data.load(config(write(images / "t.csv", table)), 8))["test"] == {*range(16, 24)}
    table = rows(24, lambda n: n, lambda n: n % 2, head=("path", "label", "train", "is_male"))
    assert len(data.load(config(write(images / "t.csv", table)), 8).test.labels) == 4


@pytest.mark.parametrize("head", [("filepaths", "labels"), ("Image Paths", "class names"), ("filenames", "categorys")])
def test_plurals_are_found(images: Path, head: tuple[str, str]) -> None:
    assert data.classes(config(write(images / "t.csv", rows(head=head)))) == data.classes(
        config(write(images / "u.csv", rows()))
    )


@pytest.mark.parametrize(
    "other", [lambda n: ("train/a", "test/b")[n % 2], lambda n: "train", lambda n: ("train", "pixel")[n % 2]]
)
def test_a_column_that_does_not_name_splits_is_none(images: Path, other: Callable[[int], str]) -> None:
    asked = config(write(images / "t.csv", rows(24, other, head=("path", "label", "dataset"))))
    assert "split" not in data.notes(asked)[0]
    assert len(data.load(asked, 8).test.labels) == 4


@pytest.mark.parametrize("words", [("0", "1"), ("0.0", "1.0"), ("false", "true"), ("", "x")])
def test_a_column_per_class_is_the_label(images: Path, words: tuple[str, str]) -> None:
    """As challenges publish them; beside them may stand columns of other things."""
    head = ("image", "MEL", "NV", "BCC", "age")
    table: list[list[Any]] = [[*head]]
    table += [[f"{n}", *(words[n % 3 == kind] for kind in range(3)), n] for n in range(24)]
    asked = config(write(images / "t.csv", table))
    if words == ("", "x"):
        with pytest.raises(UserError, match="no column for the label"):
            data.check(asked)
        return
    assert data.classes(asked) == ("BCC", "MEL", "NV")
    assert greys(data.load(asked, 8))["train"] <= {*range(24)}
    counts = np.bincount(data.load(asked, 8).train.labels)
    assert [*counts] == [5, 5, 5]
    assert any("MEL, NV, BCC mark a class each; not read: age" in note for note in data.notes(asked))


def test_without_a_test_split_it_is_held_out_of_train(images: Path) -> None:
    table = rows(24, lambda n: ("train", "val")[n >= 16], head=("path", "label", "split"))
    task = data.load(config(write(images / "t.csv", table)), 8)
    assert greys(task)["val"] == {*range(16, 24)}
    assert len(task.test.labels) == 4
    task = data.load(config(images / "t.csv", test=OwnTest.val), 8)
    assert greys(task)["test"] == {*range(16, 24)}


def test_named_columns_are_taken_in_any_spelling(images: Path) -> None:
    table = [["path", "label", "Foto Pfad", "Art"], *(["x", "y", f"{n}.png", "ab"[n % 2]] for n in range(24))]
    asked = config(write(images / "t.csv", table), path_column="Foto Pfad", label_column="art")
    assert data.classes(asked) == ("a", "b")


def sizes(group_of: Sequence[Any], **fields: Any) -> Callable[[Path], Task]:
    def load(images: Path) -> Task:
        table = rows(24, lambda n: group_of[n], head=("path", "label", "patient"))
        return data.load(config(write(images / "t.csv", table), **fields), 8)

    return load


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "group_of",
    [
        [f"p{n // 4}" for n in range(24)],  # both classes in each
        [f"p{n % 8}" for n in range(24)],  # one class in each
        ["" if n < 6 else f"p{n // 3}" for n in range(24)],  # some images stand alone
        ["big" if n < 10 else f"p{n // 2}" for n in range(24)],
    ],
)
def test_no_group_is_parted(images: Path, group_of: list[str], seed: int) -> None:
    task = sizes(group_of, seed=seed, rotate=True)(images)
    held = greys(task)["test"]
    for member in range(7):
        fold = data.draw(DataConfig(name="csv", rotate=True), task, member)
        parts = [{int(g) // 10 for g in task.fit.images[index, 0, 0, 0]} for index in fold] + [held]
        groups = [{group_of[n] for n in part if group_of[n]} for part in parts]
        assert not groups[0] & groups[1]
        assert not groups[0] & groups[2]
        assert not groups[1] & groups[2]
        assert sum(map(len, parts)) == 24
    for each in (task.train, task.val, task.test):
        assert set(each.labels) == {0, 1}


def test_groups_that_the_tables_splits_part_are_said(images: Path) -> None:
    head = ("path", "label", "split", "subject")
    table = rows(24, lambda n: ("train", "test")[n >= 12], lambda n: f"s{n % 6}" if n % 3 else f"t{n}", head=head)
    notes = data.notes(config(write(images / "t.csv", table)))
    assert any("warning: the table's splits part 4 of 12 groups, such as s1 in train and test" in n for n in notes)
    table = rows(24, lambda n: ("train", "test")[n >= 12], lambda n: f"s{n // 2}", head=head)
    assert not any("warning" in note for note in data.notes(config(write(images / "t.csv", table))))


def test_a_class_in_one_group_cannot_be_shared(images: Path) -> None:
    with pytest.raises(UserError, match=r"class odd lies in 1 group\(s\), too few .*\(data.group_column=none\)"):
        sizes(["p" if n % 2 else f"q{n}" for n in range(24)])(images)
    free = ["p" if n % 2 else f"q{n}" for n in range(24)]
    assert len(sizes(free, group_column="none")(images).test.labels) == 4


@pytest.mark.parametrize("fraction", [0.04, 0.1, 0.2, 0.33, 0.5, 0.8])
def test_shares_of_classes_are_kept_by_whole_groups(fraction: float) -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 60, 1000)
    for labels in (
        groups % 4,
        rng.integers(0, 4, 1000),
        np.where(groups < 30, groups % 2, 2 + rng.integers(0, 2, 1000)),
    ):
        made = turns.draw_groups(labels, groups, fraction, np.random.default_rng(1), ("a", "b", "c", "d"))
        for number in range(3):
            fold = made.fold(number)
            assert not {*groups[fold.train]} & {*groups[fold.val]}
            shares = np.bincount(labels[fold.val], minlength=4) / np.bincount(labels, minlength=4)
            assert abs(len(fold.val) / 1000 - fraction) < 0.09
            assert (abs(shares - fraction) < 0.25).all()
            assert (shares > 0).all()


def test_groups_of_one_image_change_nothing() -> None:
    labels = np.arange(50) % 3
    one = turns.draw(labels, 0.2, np.random.default_rng(3), ("a", "b", "c"))
    other = turns.draw_groups(labels, np.arange(50)[::-1], 0.2, np.random.default_rng(3), ("a", "b", "c"))
    np.testing.assert_array_equal(one.fold(1).val, other.fold(1).val)


def test_paths_as_other_systems_write_them(images: Path) -> None:
    (images / "a").mkdir()
    for number in range(24):
        (images / f"{number}.png").rename(images / "a" / f"{number} e\u0301.png")
    table = rows()
    forms = ["a/{} \u00e9.png", "a\\{} e\u0301.png", "./a/{} \u00e9", f"{images}/a/{{}} e\u0301.png"]
    for number, row in enumerate(table[1:]):
        row[0] = forms[number % 4].format(number)
    asked = config(write(images / "t.csv", table))
    assert len(data.load(asked, 8).fit.labels) == 20
    assert any("6 names without a suffix are completed" in note for note in data.notes(asked))


def test_what_is_listed_again_is_read_once_and_said(images: Path) -> None:
    (images / "link.png").symlink_to("1.png")
    table = [*rows(), ["./0.png", "even"], [str(images / "0.png"), "even"], ["link.png", "odd"]]
    asked = config(write(images / "t.csv", table))
    task = data.load(asked, 8)
    assert len(task.fit.labels) + len(task.test.labels) == 24
    assert "3 rows list an image again, and are left out" in data.notes(asked)


def changed(number: int, cell: int, value: Any) -> Callable[[list[list[Any]]], None]:
    def change(table: list[list[Any]]) -> None:
        table[number][cell] = value

    return change


def marked(*columns: str) -> Callable[[list[list[Any]]], Any]:
    """Return what puts two columns of 0 and 1 in place of label and split."""

    def change(table: list[list[Any]]) -> None:
        for number, row in enumerate(table):
            row[1:3] = [words[number % len(words)] for words in columns] if number else ["a", "b"]

    return change


WRONG: list[tuple[Callable[[list[list[Any]]], Any], str]] = [
    (changed(0, 0, "where"), r"no column for the path \(path, .*\); data.path_column names it, one of where, label"),
    (changed(0, 1, "kind"), r"no column for the label \(label, .*\); data.label_column names it, one of path, kind, s"),
    (changed(0, 0, "0.png"), r"the first line must name the columns"),
    (changed(3, 0, "gone.png"), r"1 of 24 files are not there: gone.png \(line 4\); paths are relative to .*;"),
    (changed(3, 0, "http://a.b/c.png"), r"http://a.b/c.png \(line 4\); nothing is downloaded"),
    (changed(3, 0, ""), r"no path in line 4; fill it in or remove the row"),
    (changed(3, 1, " "), r"no label in line 4"),
    (changed(3, 2, ""), r"no split in line 4"),
    (changed(3, 2, "holdout"), r"line 4 has split holdout; use train, val or test, or data.split_column=none"),
    (changed(3, 0, "../x.png"), r"line 4 has ../x.png, which leads out of"),
    (changed(3, 0, "sub"), r"sub is a folder, not an image file"),
    (changed(3, 0, "pipe.png"), r"pipe.png is a pipe, a socket or a device"),
    (changed(3, 0, "dangling.png"), r"dangling.png is a link to nothing \(nowhere\)"),
    (changed(3, 0, "a\0.png"), r"is no table of text"),
    (changed(3, 0, "a" * 5000), r"1 of 24 files are not there: aaa"),
    (changed(4, 0, "1.png"), r"line 3 and line 5 give 1.png different splits, train and test"),
    (changed(4, 1, "rare"), r"train has no image of class rare"),
    (lambda table: table.append(["0.png", "odd", "train"]), r"line 2 and line 26 give 0.png different labels"),
    (lambda table: table.append(["0.png", "even"]), r"line 26 has 2 cells, and the first line 3; put quotes round"),
    (lambda table: table.append(["0.png", "even", "train", "x"]), r"line 26 has 4 cells"),
    (lambda table: table.__delitem__(slice(1, None)), r"has no rows; the first line names the columns"),
    (lambda table: [row.__setitem__(1, "x") for row in table[1:]], r"data.file=.*only one class \(x\); at least two"),
    (lambda table: [row.__setitem__(2, "test") for row in table[1:]], r"column split has no train, only test"),
    (marked("01", "11"), r"line 2 has 2 classes marked in the columns a, b; an image needs one; data.label_column"),
    (marked("010", "001"), r"line 4 has no class marked in the columns a, b; an image needs one"),
    (lambda table: table[0].__setitem__(2, "label"), r"2 columns are called label; rename one"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_wrong_tables_are_one_line_before_any_image_is_read(
    images: Path, change: Callable[[list[list[Any]]], Any], message: str
) -> None:
    (images / "sub").mkdir()
    os.mkfifo(images / "pipe.png")
    (images / "dangling.png").symlink_to("nowhere")
    table = rows(24, lambda n: ("train", "test")[n % 4 > 1 and n > 1], head=("path", "label", "split"))
    change(table)
    with pytest.raises(UserError, match=message) as caught:
        data.check(config(write(images / "t.csv", table)))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("data.file=")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no rows"),
        (b"\n\n", "has no rows"),
        (b'path,label\n0.png,"open\n1.png,b\n', r"cannot be read from line 2 on \(.*\); look for a stray quote"),
        (b'[{"path": "0.png", "label": "a"}]', "is JSON; save it as a csv"),
        (b'{"path": "0.png", "label": "a"}\n', "is JSON; save it as a csv"),
        (b"\x1f\x8b....", "is compressed; unpack it"),
        (b"path label\n0.png a\n", "one of path label; cells are parted by a comma"),
        (b"PK\x03\x04....", "is a spreadsheet or an archive; save it as CSV"),
        (b"PAR1....", "is no whole parquet file"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is no table of text"),
        (b"just words\nwithout a table\n", "no column for the path"),
    ],
)
def test_files_that_are_no_table_are_one_line(images: Path, content: bytes, message: str) -> None:
    (images / "t.csv").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        data.check(config(images / "t.csv"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("start", ["sep=;\n", '"sep=;"\r\n', "# made by me\n", "# made by me\n# in May\n"])
def test_what_programs_write_above_the_header_is_passed_over(images: Path, start: str) -> None:
    plain = data.load(config(write(images / "plain.csv", rows())), 8)
    content = start + text(rows(), ";" if "sep" in start else ",")
    (images / "t.csv").write_text(content)
    assert greys(data.load(config(images / "t.csv"), 8)) == greys(plain)
    (images / "t.csv").write_text(content + "gone\n")
    with pytest.raises(UserError, match=rf"line {25 + start.count(chr(10)) + 1} has 1 cells"):
        data.check(config(images / "t.csv"))


def test_columns_that_are_not_read_are_said(images: Path) -> None:
    table = rows(24, lambda n: n % 2, head=("path", "label", "is_male"))
    notes = data.notes(config(write(images / "t.csv", table)))
    assert "of the columns, path is path, label is label; not read: is_male" in notes


def test_settings_that_do_not_belong_together_are_one_line(images: Path) -> None:
    file = str(write(images / "t.csv", rows()))
    for asked, message in (
        (DataConfig("csv"), r"data.file is not set: data=csv needs data.file=path/to/labels.csv"),
        (DataConfig("csv", root=str(images)), r"data.file is not set: .*; .* has t.csv$"),
        (DataConfig("csv", file=str(images)), r"is a folder; data=csv needs"),
        (DataConfig("csv", file="none.csv"), r"data.file=none.csv: no such file"),
        (DataConfig("csv", file=file, root="nowhere"), r"data.root=nowhere: no such folder"),
        (DataConfig("csv", file=file, image_column="a"), r"data.image_column=a: data=csv has no columns of images"),
        (DataConfig("csv", file=file, path_column="none"), r"no column none; data.path_column names it, one of path"),
        (DataConfig("csv", file=file, group_column="who"), r"no column who; data.group_column names it, .*, or none"),
        (DataConfig("csv", file=file, exclude="*"), r"data.exclude=\* leaves out every image"),
        (
            DataConfig("image_folder", root=file, file=file),
            r"data=image_folder reads no table; add data=csv",
        ),
        (DataConfig("textures", group_column="who"), r"data=textures has no column of groups; add data=csv"),
    ):
        registry.forget()
        with pytest.raises(UserError, match=message):
            data.check(asked)


def test_a_table_is_the_same_wherever_it_lies(images: Path, tmp_path: Path) -> None:
    write(images / "t.csv", rows())
    before = data.fingerprint(config(images / "t.csv"))
    moved = tmp_path.parent / "moved"
    images.rename(moved)
    assert data.fingerprint(config(moved / "t.csv")) == before
    settings = Config(freeze_depth=1)
    settings.data = config(moved / "t.csv")
    one = plan(settings).job
    write(moved / "other.csv", rows()[:1] + rows()[:0:-1])
    settings.data = config(moved / "other.csv", label="t")
    assert plan(settings).job == one, "neither the order of rows nor the place of the table"
    table = rows(24, lambda n: n // 2, head=("path", "label", "group"))
    assert data.fingerprint(config(write(moved / "t.csv", table))) != before


def test_folders_say_which_setting_reads_the_table_beside_the_images(images: Path) -> None:
    write(images / "t.csv", rows())
    (images / "below").mkdir()
    Image.new("RGB", (8, 8)).save(images / "below" / "x.png")
    for root in (images, images / "below"):
        registry.forget()
        with pytest.raises(UserError, match=rf"data=csv data.file={images}/t.csv.* reads the labels from that table$"):
            data.check(DataConfig("image_folder", root=str(root)))


def test_a_folder_too_high_or_too_low_is_said(folder_of_images: Path) -> None:
    (folder_of_images.parent / "docs").mkdir()
    above = DataConfig("image_folder", root=str(folder_of_images.parent))
    with pytest.raises(
        UserError,
        match=r"no images in .*docs; .*one folder too high\? photos/ holds the folders cat, dog; data.root=.*photos",
    ):
        data.check(above)
    Image.new("RGB", (8, 8)).save(folder_of_images.parent / "docs" / "x.png")
    registry.forget()
    data.check(above)
    assert not any("too high" in note for note in data.notes(above))
    (folder_of_images.parent / "docs" / "x.png").unlink()
    for name in ("a", "b"):
        (folder_of_images.parent / "docs" / name).mkdir()
        Image.new("RGB", (8, 8)).save(folder_of_images.parent / "docs" / name / "x.png")
    registry.forget()
    assert any("docs/ holds the folders a, b; data.root=" in note for note in data.notes(above))
    registry.forget()
    with pytest.raises(UserError, match=r"12 images; use .*; data.root=.*photos reads the folders cat, dog as classes"):
        data.check(DataConfig("image_folder", root=str(folder_of_images / "cat")))


@pytest.mark.slow
def test_a_table_is_read_from_the_command_line(sweep: Callable[..., Done], images: Path) -> None:
    write(images / "my labels, new.csv", rows(24, lambda n: n // 3, head=("file", "class", "patient")))
    small = ["freeze_depth=0", "pretrained=false", "epochs=1", "seeds=1", "optimizer.lr=0.001", "data.image_size=32"]
    done = sweep("-m", "data=csv", "data.file=my labels, new.csv", *small)
    assert done.returncode == 0, done.stderr
    assert "images with the same patient are never parted" in done.stdout + done.stderr
    (images / "3.png").unlink()
    registry.forget()
    done = sweep("data=csv", "data.file=my labels, new.csv", *small)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "1 of 24 files are not there: 3.png (line 5)" in done.stderr
