"""Images in tar archives: every way to label them, every way to be damaged."""

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.config import DataConfig
from sweep.data import registry, tar
from sweep.data import task as data
from sweep.data.folder import list_images
from sweep.errors import UserError

Members = list[tuple[str, bytes]]


def config(root: Path, **fields: Any) -> DataConfig:
    registry.forget()  # as a new process would look at the files
    return DataConfig(name="webdataset", root=str(root), **fields)


def pack(path: Path, members: Members, links: Sequence[tuple[str, bytes, str]] = ()) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, kind, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return path


def as_json(label: int) -> bytes:
    return json.dumps({"width": 3, "label": label}).encode()


LABELS: dict[str, Callable[[int], bytes]] = {
    "cls": lambda label: b"%d\n" % label,
    "txt": lambda label: (b"cat", "\ufeffd\u00f6g".encode())[label],
    "json": as_json,
    "JSON": lambda label: b'"%d"' % label,
}


@pytest.fixture
def images(folder_of_images: Path) -> list[tuple[bytes, int, str]]:
    """Return the bytes, labels and suffixes of an image folder, in its order."""
    files = list_images(str(folder_of_images)).files["train"]
    return [(file.read_bytes(), label, file.suffix[1:]) for file, label in files]


def samples(images: list[tuple[bytes, int, str]], kind: str = "cls", folder: str = "") -> Members:
    made: Members = []
    for number, (content, label, suffix) in enumerate(images):
        made += [(f"{folder}{number:03}.{kind}", LABELS[kind](label)), (f"{folder}{number:03}.{suffix}", content)]
    return made


@pytest.mark.parametrize("name", ["pets.tar", "pets.tar.gz", "pets.tgz"])
@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("folder", ["", "./", "a/b.c/"])
def test_pixels_labels_and_splits_are_those_of_the_same_image_folder(
    folder_of_images: Path, images: list[tuple[bytes, int, str]], tmp_path: Path, name: str, kind: str, folder: str
) -> None:
    path = pack(tmp_path / name, samples(images, kind, folder))
    ours = data.load(config(path), 16)
    theirs = data.load(DataConfig(name="image_folder", root=str(folder_of_images)), 16)
    assert ours.classes == (("cat", "d\u00f6g") if kind == "txt" else ("0", "1"))
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(ours, split).images, getattr(theirs, split).images)
        np.testing.assert_array_equal(getattr(ours, split).labels, getattr(theirs, split).labels)
    assert data.label(config(path)) == "pets"


@pytest.mark.parametrize(
    "names",
    [
        ("train-000000.tar", "val-000000.tar", "test-000000.tar"),
        ("pets-training-0.tar.gz", "pets-valid-0.tar.gz", "pets-testing-0.tar.gz"),
        ("Train/0.tar", "validation/0.tar", "eval/0.tar"),
    ],
)
def test_splits_are_known_by_the_names_of_archives_or_folders(
    images: list[tuple[bytes, int, str]], tmp_path: Path, names: tuple[str, str, str]
) -> None:
    for step, name in enumerate(names, 1):
        pack(tmp_path / name, samples(images[::step]))
    task = data.load(config(tmp_path), 8)
    assert [len(each.labels) for each in (task.train, task.val, task.test)] == [24, 12, 8]


def test_what_is_no_image_or_label_is_said_and_left_out(images: list[tuple[bytes, int, str]], tmp_path: Path) -> None:
    more = [("x.cls", b"0"), ("000.seg.png", b"mask"), ("001.npy", b"x"), ("._002.jpg", b"x")]
    links = [
        ("004.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        ("y.jpg", tarfile.LNKTYPE, "000.cls"),
        ("f.jpg", tarfile.FIFOTYPE, ""),
    ]
    path = pack(tmp_path / "x.tar", samples(images) + more, links)
    task = data.load(config(path), 8)
    assert len(task.fit.labels) + len(task.test.labels) == 24
    assert data.notes(config(path)) == [
        "1 labels have no image, and are left out",
        "left out, because they are no images or labels: 1 .npy, 1 .seg.png, 3 links and devices",
    ]


def replaced(name: str, content: bytes) -> Callable[[Members], Members]:
    return lambda members: [(each, content if each == name else whole) for each, whole in members]


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("cls", lambda m: [each for each in m if each[0] != "003.cls"], r"x.tar 003 has no label; use KEY.cls, "),
        ("cls", lambda m: [*m, ("003.bmp", b"x")], r"x.tar has two images for 003, 003.png and 003.bmp"),
        ("cls", lambda m: [each for each in m if each[0].endswith("cls")], r"no images in x.tar"),
        ("cls", lambda m: [], r"no images in x.tar"),
        ("cls", replaced("003.cls", b" "), r"x.tar 003.cls is empty"),
        ("cls", replaced("003.cls", b"\xff\xfe"), r"003.cls is no label: it is not UTF-8"),
        ("cls", replaced("003.cls", b"1" * (1 << 21)), r"003.cls is no label: it has more than 1 MB"),
        ("json", replaced("003.json", b"{"), r"x.tar 003.json is no JSON"),
        ("json", replaced("003.json", b"[" * 100_000), r"x.tar 003.json is no JSON"),
        ("json", replaced("003.json", b'{"kind": 1, "w": 2}'), r"003.json has no label; .*names it, one of kind, w"),
        ("json", replaced("003.json", b'{"label": [1]}'), r"003.json has the label \[1\]; labels are text or numbers"),
        ("cls", lambda m: [(n, b"0" if n.endswith("cls") else c) for n, c in m], r"only one class \(0\)"),
    ],
)  # fmt: skip
def test_wrong_samples_are_one_line_before_any_image_is_read(
    images: list[tuple[bytes, int, str]], tmp_path: Path, kind: str, change: Callable[[Members], Members], message: str
) -> None:
    path = pack(tmp_path / "x.tar", change(samples(images, kind)))
    with pytest.raises(UserError, match=message) as caught:
        data.check(config(path))
    assert "\n" not in str(caught.value)


def test_wrong_roots_are_one_line(images: list[tuple[bytes, int, str]], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    pack(tmp_path / "held" / "test" / "0.tar", samples(images))
    (tmp_path / "x.zip").write_bytes(b"PK")
    (tmp_path / "junk.tar").write_bytes(b"no archive" * 100)
    for name, message in (
        ("nowhere", "no such file or folder"),
        ("empty", "no training archives in it, but no archives"),
        ("held", "no training archives in it, but test/"),
        ("x.zip", "not a tar archive"),
        ("junk.tar", r"junk.tar is no whole tar archive \("),
    ):
        with pytest.raises(UserError, match=message):
            data.check(config(tmp_path / name))


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_damaged_archives_are_one_line(images: list[tuple[bytes, int, str]], tmp_path: Path, suffix: str) -> None:
    path = pack(tmp_path / f"x{suffix}", samples(images))
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    cut = 0
    for number in range(40):
        changed = bytearray(content)
        if number % 2:
            del changed[int(rng.integers(len(content) // 2)) :]
        else:
            for place in rng.integers(0, len(content), 20):
                changed[place] = rng.integers(256)
        path.write_bytes(changed)
        said = ""
        try:
            data.load(config(path), 8)
        except UserError as error:
            said = str(error)
        assert "\n" not in said
        cut += number % 2 and "no whole tar archive" in said
    assert cut == 20, "one that is cut short is never read as a smaller one"


def test_a_header_that_is_no_header_is_not_taken_for_the_end(
    images: list[tuple[bytes, int, str]], tmp_path: Path
) -> None:
    path = pack(tmp_path / "x.tar", samples(images))
    content = bytearray(path.read_bytes())
    place = content.index(b"012.cls")
    path.write_bytes(content[:place])
    with pytest.raises(UserError, match="no whole tar archive"):
        data.check(config(path))
    content[place : place + 512] = b"x" * 512
    path.write_bytes(content)
    with pytest.raises(UserError, match="no whole tar archive"):
        data.check(config(path))


def test_members_and_headers_are_bounded(
    images: list[tuple[bytes, int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack(tmp_path / "x.tar.gz", [*samples(images), ("big.jpg", bytes(1 << 22)), ("big.cls", b"0")])
    long = tarfile.TarInfo("n" * (1 << 22))  # its name is a member of its own, which tarfile reads whole
    with tarfile.open(tmp_path / "long.tar.gz", "w:gz", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(long)
    monkeypatch.setattr(tar, "LARGEST", 1 << 20)
    with pytest.raises(UserError, match=r"big.jpg has 4 MB, of at most 1"):
        data.check(config(path))
    with pytest.raises(UserError, match="more than 1 MB at once"):
        data.check(config(tmp_path / "long.tar.gz"))


def test_unreadable_images_are_named(images: list[tuple[bytes, int, str]], tmp_path: Path) -> None:
    path = pack(tmp_path / "x.tar", replaced("004.jpg", b"%!PS-Adobe-3.0")(samples(images)))
    with pytest.raises(UserError, match=r"1 unreadable image\(s\).*x.tar 004 \(cannot identify image file\)"):
        data.load(config(path), 8)
