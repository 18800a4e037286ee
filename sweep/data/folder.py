"""Images in folders: one subfolder per class, or splits with one each (see layout.py)."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from sweep.config import DataConfig, Layout, OwnTest, digest
from sweep.data import bands, decode, hints, layout, masks, walk
from sweep.data.files import Files, ImageFiles, Listing
from sweep.errors import UserError


class ImageFolder(ImageFiles):
    """The images below data.root, labelled by the folders that they lie in."""

    takes = frozenset({"root", "layout", "exclude", "pixel_range", "test", "channels"})

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self.layout, self.test = config.layout, config.test
        self.exclude = config.exclude

    @cached_property
    def looked(self) -> tuple[Listing, list[str]]:
        """What the folder holds and what is not plain in it, looked up once; raises UserError if it is no data set."""
        also = bands.ARRAYS if bands.asked(self.channels) else ()
        return look(self.root, self.layout, self.test, self.exclude, also)

    def label(self) -> str | None:
        return Path(self.root).expanduser().resolve().name if self.root else None


def list_images(root: str | None) -> Listing:
    """Return what the folder holds, every file in sorted order; raise UserError if it cannot be a data set."""
    return look(root, Layout.auto, OwnTest.auto)[0]


def look(
    root: str | None, kind: Layout, own_test: OwnTest, exclude: str | None = None, also: Sequence[str] = ()
) -> tuple[Listing, list[str]]:
    """Return what the folder holds, every file in sorted order, and sentences on what is not plain in it.

    also: suffixes of further files that are images.
    raises: UserError if it cannot be a data set.
    """
    if not root:
        raise UserError(f"data.root is not set: data=image_folder needs data.root=path/to/images ({layout.PLAIN})")
    folder = Path(root).expanduser()
    splits, notes = layout.find(root, folder, kind, own_test)
    classes = _shared_classes(root, folder, splits)
    tally = walk.Tally(also)
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
            inner = hints.nested(splits[split], classes)
            hint = f"; one folder too high? {inner}" if inner else ""
            if tally.suffixes:
                hint += f"; {tally.left_out()}"
            if tally.suffixes[".npy"]:
                hint += "; .npy files are read where data.channels names bands, such as data.channels=4"
            raise UserError(f"data.root={root}: no images in {where}; add some ({allowed}) or remove it{hint}")
    if len(classes) == 1:
        raise UserError(
            f"data.root={root}: only one class ({classes[0]}); at least two are needed{hints.listed(folder)}"
        )
    rows = []
    for path, _ in (entry for entries in files.values() for entry in entries):
        stat = path.stat()
        rows.append([str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns])
    # Also which images choose, where that is not left to data.val_fraction: without it, names stay what they were.
    roles: Any = [rows, {split: len(entries) for split, entries in files.items()}] if "val" in files else rows
    if kind is Layout.auto and len(splits) == 1:
        _refuse_splits_inside(root, splits["train"], classes)
    told = masks.among((path for entries in files.values() for path, _ in entries), splits.values())
    notes += tally.notes() + (told or _too_high(classes, files, splits))
    return Listing(classes, files, digest(roles)), notes


def _refuse_splits_inside(root: str, top: Path, classes: tuple[str, ...]) -> None:
    """Raise UserError if every class folder holds folders that are splits: read as one, test images are trained on."""
    inside = [layout.subfolders(top / name) for name in classes]
    said = [
        {found[0] if (found := layout.split_name(each)) and not found[1] else "" for each in names} for names in inside
    ]
    if all({"train"} < own <= layout.WORDS.keys() for own in said):
        own = ", ".join(f"{classes[0]}/{each}/" for each in inside[0])
        moved = ", ".join(f"{each}/{classes[0]}/" for each in inside[0])
        raise UserError(
            f"data.root={root}: the class folders hold splits ({own}); move them to {moved} and so on, or add "
            "data.layout=classes to hold out images at random"
        )


def _too_high(classes: tuple[str, ...], files: Files, splits: dict[str, Path]) -> list[str]:
    """Return a sentence if no image lies in a class folder itself, but all in folders further in."""
    if any(path.parent == splits[split] / classes[label] for split, each in files.items() for path, label in each):
        return []
    inner = hints.nested(splits["train"], classes)
    below = [set[str]() for _ in classes]  # the folders inside a class folder that hold its images
    for path, label in files["train"]:
        below[label].add(path.relative_to(splits["train"] / classes[label]).parts[0])
    if not inner or all(len(names) == 1 for names in below):
        return []
    # Each class has patients or days of its own; where all have the same folders, these may be the classes.
    alike = all(names == below[0] for names in below)
    return [f"{'warning: ' * alike}every image lies in a folder inside its class folder; one folder too high? {inner}"]


def _shared_classes(root: str, folder: Path, splits: dict[str, Path]) -> tuple[str, ...]:
    """Return the classes, which every split must have."""
    names = {split: layout.subfolders(path) for split, path in splits.items()}
    classes = names["train"]
    loose = [path for split, path in splits.items() if not names[split]]
    if loose and len(splits) > 1:
        raise UserError(f"data.root={root}: {hints.unlabelled(loose[0], splits, folder)}")
    if loose:
        raise UserError(f"data.root={root}: no class folders{hints.without_classes(loose[0])}")
    for split, found in names.items():
        if found != classes:
            one, two = (splits[each].relative_to(folder).as_posix() for each in ("train", split))
            only = [(one, sorted(set(classes) - set(found))), (two, sorted(set(found) - set(classes)))]
            lacks = " and ".join(f"only {name}/ has {', '.join(extra[:5])}" for name, extra in only if extra)
            raise UserError(f"data.root={root}: {two}/ and {one}/ differ in classes: {lacks}")
    return classes
