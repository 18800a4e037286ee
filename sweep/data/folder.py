"""Images in folders: one subfolder per class, or splits with one each (see layout.py)."""

from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from sweep.config import DataConfig, Layout, OwnTest, digest
from sweep.data import decode, layout, walk
from sweep.data.types import Allocate, Dataset, Unreadable, joined
from sweep.errors import UserError

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
    has_folders = True
    has_validation = True

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self.layout, self.test = config.layout, config.test
        self.exclude = config.exclude
        self.asked_range = config.pixel_range

    @cached_property
    def looked(self) -> tuple[Listing, list[str]]:
        """What the folder holds and what is not plain in it, looked up once; raises UserError if it is no data set."""
        return look(self.root, self.layout, self.test, self.exclude)

    @property
    def listing(self) -> Listing:
        """What the folder holds."""
        return self.looked[0]

    def classes(self) -> tuple[str, ...]:
        return self.listing.classes

    def fingerprint(self) -> str:
        span = self.span
        return digest([self.listing.fingerprint, span]) if span else self.listing.fingerprint

    @cached_property
    def span(self) -> decode.Span | None:
        """Which values are black and white, if there are images of more than 8 bits; by default, their own range.

        Only if the first image of a kind and class is deep, all of them are looked at.
        """
        paths = [(path, label) for files in self.listing.files.values() for path, label in files]
        deep = [(path, label) for path, label in paths if path.suffix.lower() in decode.DEEP]
        first = {(path.suffix, label): path for path, label in reversed(deep)}
        if not decode.any_deep(first.values()):
            return None
        if self.asked_range is not None:
            low, high = self.asked_range
            return float(low), float(high)
        return decode.span_of(path for path, _ in deep)

    def pixel_range(self) -> tuple[float, float] | None:
        return self.span

    def splits(self) -> tuple[str, ...]:
        return tuple(joined(self.listing.files))

    def validation(self) -> int:
        return len(self.listing.files.get("val", ()))

    def notes(self) -> list[str]:
        if self.span is None:
            return self.looked[1]
        low, high = self.span
        why = "their own range; data.pixel_range=[low,high] sets another" if self.asked_range is None else "as asked"
        return [*self.looked[1], f"of images with more than 8 bits, {low:g} is black and {high:g} is white ({why})"]

    def label(self) -> str | None:
        return Path(self.root).expanduser().resolve().name if self.root else None

    def read(self, size: int, allocate: Allocate) -> Unreadable:
        bad: Unreadable = {}
        for split, files in joined(self.listing.files).items():
            images, labels = allocate(split, len(files))
            labels[:] = [label for _, label in files]
            bad[split] = decode.fill(images, (decode.Encoded(str(file), file) for file, _ in files), self.span)
        return bad

    def image_name(self, split: str, row: int) -> str:
        path, _ = joined(self.listing.files)[split][row]
        return path.relative_to(Path(self.root or "").expanduser()).as_posix()


def list_images(root: str | None) -> Listing:
    """Return what the folder holds, every file in sorted order; raise UserError if it cannot be a data set."""
    return look(root, Layout.auto, OwnTest.auto)[0]


def look(root: str | None, kind: Layout, own_test: OwnTest, exclude: str | None = None) -> tuple[Listing, list[str]]:
    """Return what the folder holds, every file in sorted order, and sentences on what is not plain in it.

    raises: UserError if it cannot be a data set.
    """
    if not root:
        raise UserError(f"data.root is not set: data=image_folder needs data.root=path/to/images ({layout.PLAIN})")
    folder = Path(root).expanduser()
    splits, notes = layout.find(root, folder, kind, own_test)
    classes = _shared_classes(root, folder, splits)
    tally = walk.Tally()
    files = {
        split: [
            (file, label)
            for label, found in enumerate(walk.images_of(root, [path / name for name in classes], tally))
            for file in found
            if not walk.fits(file, folder, exclude)
        ]
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
    # Also which images choose, where that is not left to data.val_fraction: without it, names stay what they were.
    roles: Any = [rows, {split: len(entries) for split, entries in files.items()}] if "val" in files else rows
    masks = walk.paired([path for entries in files.values() for path, _ in entries])
    return Listing(classes, files, digest(roles)), notes + tally.notes() + ([masks] if masks else [])


def _shared_classes(root: str, folder: Path, splits: dict[str, Path]) -> tuple[str, ...]:
    """Return the classes, which every split must have."""
    names = {split: layout.subfolders(path) for split, path in splits.items()}
    classes = names["train"]
    if not classes:
        raise UserError(f"data.root={root}: no class folders{_seen(splits['train'])}; use {layout.PLAIN}")
    for split, found in names.items():
        if found != classes:
            one, two = (splits[each].relative_to(folder).as_posix() for each in ("train", split))
            only = [(one, sorted(set(classes) - set(found))), (two, sorted(set(found) - set(classes)))]
            lacks = " and ".join(f"only {name}/ has {', '.join(extra[:5])}" for name, extra in only if extra)
            raise UserError(f"data.root={root}: {two}/ and {one}/ differ in classes: {lacks}")
    return classes


def _seen(folder: Path) -> str:
    """Return what lies in a folder without folders, for whoever took another one for it."""
    names = sorted(entry.name for entry in folder.iterdir() if not layout.hidden(entry.name))
    images = [name for name in names if name.lower().endswith(decode.EXTENSIONS)]
    others = [name for name in names if name not in images][:3]
    seen = ([f"{len(images)} images"] if images else []) + others
    return f" in it, but {', '.join(seen)}" if seen else " in it, it is empty"
