"""The image files below the class folders of one split: each real file once, whatever the links."""

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from sweep.data import decode, layout
from sweep.errors import UserError


class Found(NamedTuple):
    """An image file. linked: whether a link inside its class folder leads to it. real: where it lies."""

    path: Path
    real: str
    linked: bool


class Tally:
    """What is left out while folders are walked through, for the notes. also: suffixes of further images."""

    def __init__(self, also: Sequence[str] = ()) -> None:
        self.also = also
        self.suffixes: Counter[str] = Counter()
        self.again = 0  # files that links lead to once more
        self.loops: list[str] = []  # links to a folder that they lie in

    def left_out(self) -> str:
        """Return how many files of which suffix are no images."""
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(self.suffixes.items()))
        heif = "; pip install pillow-heif reads .heic" if self.suffixes[".heic"] or self.suffixes[".heif"] else ""
        return f"left out, because they are no images that can be read: {counts}{heif}"

    def notes(self) -> list[str]:
        """Return a sentence on each."""
        made = []
        if self.suffixes:
            made.append(self.left_out())
        if self.loops:
            made.append(f"not followed, because they lead back to where they lie: {', '.join(self.loops[:3])}")
        if self.again:
            made.append(f"{self.again} links to images that are there already are left out")
        return made


def images_of(root: str, classes: list[Path], tally: Tally) -> list[list[Path]]:
    """Return the sorted image files below each class folder. A file that lies in a class goes before links to it.

    raises: UserError that names a link to nothing, a pipe, a device or a folder that may not be looked into.
    """
    found = [sorted(_walk(root, folder, tally)) for folder in classes]
    taken = {each.real for of_class in found for each in of_class if not each.linked}
    kept = []
    for of_class in found:
        paths = []
        for each in of_class:
            if each.linked and each.real in taken:
                tally.again += 1
                continue
            taken.add(each.real)
            paths.append(each.path)
        kept.append(paths)
    return kept


def fits(path: Path, top: Path, pattern: str | None) -> bool:
    """Return whether a file's name, or its path below the top folder, fits a pattern with * and ?."""
    if pattern is None:
        return False
    below = path.relative_to(top) if path.is_relative_to(top) else path
    return fnmatchcase(path.name, pattern) or fnmatchcase(below.as_posix(), pattern)


def _walk(root: str, top: Path, tally: Tally) -> Iterator[Found]:
    """Yield the image files below a folder; folders that are links come last, each real folder once."""
    home = os.path.realpath(top)
    folders, links = [(top, home, False)], list[tuple[Path, str, bool]]()
    seen = set()
    while folders or links:
        folder, real, linked = folders.pop() if folders else links.pop(0)
        if real in seen:
            continue
        seen.add(real)
        for entry in _entries(root, folder):
            path, target = folder / entry.name, f"{real}{os.sep}{entry.name}"
            if not entry.is_symlink():
                if entry.is_dir():
                    folders.append((path, target, linked))
                elif _is_image(root, path, tally):
                    yield Found(path, target, linked)
                continue
            target = os.path.realpath(path)
            if not Path(target).is_dir():
                if _is_image(root, path, tally):
                    yield Found(path, target, True)
            elif Path(real).is_relative_to(target) or Path(home).is_relative_to(target):
                tally.loops.append(str(path))
            else:
                links.append((path, target, True))


def _entries(root: str, folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((each for each in entries if not layout.hidden(each.name)), key=lambda each: each.name)
    except OSError as error:
        raise UserError(
            f"data.root={root}: {folder} cannot be looked into ({error.strerror}); repair or remove it"
        ) from error


def _is_image(root: str, path: Path, tally: Tally) -> bool:
    """Return whether a file is called like an image; count it if not; raise UserError if it is no plain file."""
    suffix = path.suffix.lower()
    if suffix not in decode.FORMATS and suffix not in tally.also:
        tally.suffixes[suffix or "without a suffix"] += 1
        return False
    plain_file(f"data.root={root}", path)
    return True


def plain_file(where: str, path: Path) -> os.stat_result:
    """Return what the system knows of a file; raise UserError if it is a link to nothing, a pipe or a device."""
    try:
        known = path.stat()
    except OSError as error:
        what = f"a link to nothing ({path.readlink()})" if path.is_symlink() else f"not to be read ({error.strerror})"
        raise UserError(f"{where}: {path} is {what}; repair or remove it") from error
    if stat.S_ISDIR(known.st_mode):
        raise UserError(f"{where}: {path} is a folder, not an image file")
    if not stat.S_ISREG(known.st_mode):
        raise UserError(f"{where}: {path} is a pipe, a socket or a device, not an image file; remove it")
    return known
