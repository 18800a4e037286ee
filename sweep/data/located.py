"""Where the files are that a table names: below a folder, or where an absolute path says."""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sweep import interrupt
from sweep.data import decode, layout, walk
from sweep.errors import UserError


class Located(NamedTuple):
    """A file. name: its path below the folder, or an absolute one outside. real: what it is without links.

    size: bytes; time: when it was changed, in nanoseconds.
    """

    path: Path
    name: str
    real: str
    size: int
    time: int


def locate(where: str, root: Path, named: Sequence[tuple[str, str]]) -> tuple[list[Located], list[str]]:
    """Return the file of each (path as written, place where it is), and sentences on what is not plain.

    where: the setting that names the table. root: what paths are relative to.
    raises: UserError for files that are not there or no plain files, and for paths that lead out of the folder by `..`.
    """
    found, missing, completed = [], [], []
    folders, top = _Folders(), root.absolute()
    for written, place in named:
        interrupt.check()
        path = _path(where, root, written, place, folders)
        if path is None:
            missing.append((written, place))
            continue
        if unicodedata.normalize("NFC", path.stem) == unicodedata.normalize("NFC", _last(written)):
            completed.append(f"{written} to {path.name}")
        known = walk.plain_file(where, path)
        inside = path.absolute().is_relative_to(top)
        name = (path.absolute().relative_to(top) if inside else path).as_posix()
        found.append(Located(path, name, folders.real(path), known.st_size, known.st_mtime_ns))
    if missing:
        shown = ", ".join(f"{written[:100]} ({place})" for written, place in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(
            f"{where}: {len(missing)} of {len(named)} files are not there: {shown}{more}; {_hint(root, missing[0][0])}"
        )
    notes = [f"{len(completed)} names without a suffix are completed, such as {completed[0]}"] if completed else []
    return found, notes


class _Folders:
    """What was learnt of folders: where they really are, and which images in them are called what."""

    def __init__(self) -> None:
        self._real: dict[Path, str] = {}
        self._images: dict[Path, dict[str, list[str]]] = {}

    def real(self, path: Path) -> str:
        """Return the path without links."""
        if path.is_symlink():
            return os.path.realpath(path)
        folder = path.parent
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        return os.path.join(self._real[folder], path.name)  # noqa: PTH118 a Path for each of a million files is slow

    def image(self, path: Path) -> Path | None:
        """Return the only image that is called as this path and has a suffix; None if there is none or several."""
        if path.parent not in self._images:
            names: dict[str, list[str]] = {}
            for entry in os.scandir(path.parent) if path.parent.is_dir() else ():
                if entry.name.lower().endswith(decode.EXTENSIONS):
                    names.setdefault(Path(entry.name).stem, []).append(entry.name)
            self._images[path.parent] = names
        same = self._images[path.parent].get(path.name, [])
        return path.parent / same[0] if len(same) == 1 else None


def _path(where: str, root: Path, written: str, place: str, folders: _Folders) -> Path | None:
    """Return the path of what is there under this name, or under one that another system would write; else None."""
    for spelling in _spellings(written):
        below = Path(os.path.normpath(spelling))
        path = root / below
        if below.parts[:1] == ("..",):
            raise UserError(
                f"{where}: {place} has {written}, which leads out of {root}; write an absolute path, or set data.root"
            )
        try:
            if path.is_symlink() or path.exists():
                return path
            if path.suffix.lower() not in decode.FORMATS and (image := folders.image(path)):
                return image
        except (OSError, ValueError):  # too long, or a zero byte
            return None
    return None


def _spellings(written: str) -> Iterator[str]:
    """Yield a path as written, and then as other systems write it."""
    forms = dict.fromkeys([written, *(unicodedata.normalize(form, written) for form in ("NFC", "NFD"))])
    yield from forms
    if "\\" in written:
        yield from (form.replace("\\", "/") for form in forms)


def _last(written: str) -> str:
    return written.replace("\\", "/").rpartition("/")[2]


def _hint(root: Path, written: str) -> str:
    """Return what to do about a file that is not there."""
    if "://" in written:
        return "nothing is downloaded: give paths of files"
    folders = [root / name for name in layout.subfolders(root)][:100]
    for folder in (*folders, Path(os.path.normpath(root / ".."))):
        with suppress(OSError, ValueError):
            if not (folder / written).exists():
                continue
            return f"data.root={folder} has {written}"
    return f"paths are relative to {root}; data.root=FOLDER sets another folder"
