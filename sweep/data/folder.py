"""Images in folders: one subfolder per class, or train/ and test/ with one each."""

import os
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from sweep.config import digest
from sweep.data import decode
from sweep.data.types import Allocate, Dataset
from sweep.errors import AbsentError, UserError

LAYOUT = "one subfolder of images per class, or train/ and test/ with one each"

Files = dict[str, list[tuple[Path, int]]]  # {split: [(file, label), ...]}


class Listing(NamedTuple):
    """What a folder holds; one without train/ and test/ is all training images.

    fingerprint: a digest of every file's relative path, size and time: cheap, and any edit changes it.
    """

    classes: tuple[str, ...]
    files: Files
    fingerprint: str


class ImageFolder(Dataset):
    """The images below data.root, labelled by the folders that they lie in."""

    reads_files = True

    @cached_property
    def listing(self) -> Listing:
        """What the folder holds, looked up once; raises UserError if it cannot be a data set."""
        return list_images(self.root)

    def classes(self) -> tuple[str, ...]:
        return self.listing.classes

    def fingerprint(self) -> str:
        return self.listing.fingerprint

    def splits(self) -> tuple[str, ...]:
        return tuple(self.listing.files)

    def label(self) -> str | None:
        return Path(self.root).expanduser().resolve().name if self.root else None

    def read(self, size: int, allocate: Allocate) -> None:
        bad: list[str] = []
        for split, files in self.listing.files.items():
            images, labels = allocate(split, len(files))
            labels[:] = [label for _, label in files]
            bad += decode.fill(images, (decode.Encoded(str(file), file) for file, _ in files))
        decode.refuse_unreadable(self.root, bad)


def list_images(root: str | None) -> Listing:
    """Return what the folder holds, every file in sorted order; raise UserError if it cannot be a data set."""
    if not root:
        raise UserError(f"data.root is not set: data=image_folder needs data.root=path/to/images ({LAYOUT})")
    folder = Path(root).expanduser()
    splits = _split_folders(root, folder)
    classes = _shared_classes(root, splits)
    files = {
        split: [(file, label) for label, name in enumerate(classes) for file in _images_below(path / name)]
        for split, path in splits.items()
    }
    for split, entries in files.items():
        empty = set(range(len(classes))) - {label for _, label in entries}
        if empty:
            where, allowed = splits[split] / classes[min(empty)], ", ".join(decode.EXTENSIONS)
            raise UserError(f"data.root={root}: no images in {where}; add some ({allowed}) or remove it")
    rows = []
    for path, _ in (entry for entries in files.values() for entry in entries):
        stat = path.stat()
        rows.append([str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns])
    return Listing(classes, files, digest(rows))


def _split_folders(root: str, folder: Path) -> dict[str, Path]:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"data.root={root}: is a file, not a folder; use a folder that holds {LAYOUT}")
    if not folder.is_dir():
        raise AbsentError(f"data.root={root}: no such folder; it must hold {LAYOUT}")
    there = [name for name in ("train", "test") if (folder / name).is_dir()]
    if len(there) == 1:
        absent = "test" if there == ["train"] else "train"
        raise UserError(f"data.root={root}: has {there[0]}/ but no {absent}/; use {LAYOUT}")
    return {name: folder / name for name in there} or {"train": folder}


def _shared_classes(root: str, splits: dict[str, Path]) -> tuple[str, ...]:
    """Return the classes, which every split must have."""
    names = {split: _subfolders(path) for split, path in splits.items()}
    classes = names["train"]
    if not classes:
        raise UserError(f"data.root={root}: no class folders; use {LAYOUT}")
    for split, found in names.items():
        if found != classes:
            only = [
                (name, sorted(set(one) - set(two)))
                for name, one, two in (("train", classes, found), (split, found, classes))
            ]
            lacks = " and ".join(f"only {name}/ has {', '.join(extra[:5])}" for name, extra in only if extra)
            raise UserError(f"data.root={root}: {split}/ and train/ differ in classes: {lacks}")
    return classes


def _subfolders(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."))


def _images_below(folder: Path) -> list[Path]:
    found = [
        Path(parent) / name
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(decode.EXTENSIONS) and name[0] != "."
    ]
    return sorted(found)
