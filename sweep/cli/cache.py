"""`python -m sweep.cache`: what is kept between sweeps, how much of it, and how to be rid of it."""

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from tabulate import tabulate

from sweep import interrupt
from sweep.commands import Command
from sweep.errors import UserError
from sweep.paths import cache_folder

KINDS = {
    "images": "decoded images, decoded again when needed",
    "features": "outputs of frozen blocks, computed again when needed",
    "sources": "weights trained here, trained again when needed",
    "data": "data sets, downloaded again when needed",
    "models": "what is known of models",
    "other": "anything else",
}
SHOWN = 20  # entries that are listed one by one


@dataclass(frozen=True)
class Entry:
    """What is kept and removed together. bytes: on disk; used: seconds since 1970; lock: held by who uses it."""

    kind: str
    path: Path
    bytes: int
    used: float
    lock: Path | None = None

    @property
    def days(self) -> float:
        """Days since it was used last, as far as the file system notes that."""
        return max(0.0, (time.time() - self.used) / 86400)

    def remove(self) -> bool:
        """Remove it unless another process holds its lock; return whether it is gone."""
        with ExitStack() as held, suppress(Timeout, OSError):
            if self.lock:
                held.enter_context(FileLock(self.lock, timeout=0))
            if self.path.is_dir():
                shutil.rmtree(self.path)
            else:
                self.path.unlink(missing_ok=True)
        return not self.path.exists()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit 0, 1 where something that is in use was left, 2 for bad input, 130 after Ctrl-C."""
    parser = Command(
        "sweep.cache",
        "List what is kept between sweeps, in $SWEEP_CACHE or the user's cache folder; remove some of it. What a\n"
        "running sweep uses is left, with exit code 1.",
        {"": "what there is", "--clear all --older-than 30": "remove what was not used for 30 days, after a question"},
        "\n".join(["kinds:", *(f"  {kind}: {what}" for kind, what in KINDS.items())]),
    )
    kinds = [*KINDS, "all"]
    parser.add_argument("--clear", nargs="+", metavar="KIND", choices=kinds, help="remove these kinds, or all")
    parser.add_argument("--older-than", type=float, metavar="DAYS", help="only what was not used for so many days")
    parser.add_argument("--yes", action="store_true", help="remove without asking")
    with interrupt.command():
        given = parser.parse_args(arguments)
        if given.older_than is not None and not given.older_than >= 0:
            raise UserError(f"--older-than {given.older_than}: use a number of days of at least 0")
        if given.yes and not given.clear:
            raise UserError("--yes: nothing is removed without --clear KIND")
        chosen = kinds if not given.clear or "all" in given.clear else given.clear
        wanted = [each for each in entries() if each.kind in chosen and each.days >= (given.older_than or 0)]
        print("\n".join(listing(wanted)), flush=True)
        if given.clear and wanted and (given.yes or _agreed(wanted)):
            _clear(wanted)


def _agreed(wanted: Sequence[Entry]) -> bool:
    if not sys.stdin.isatty():
        raise UserError("--clear: there is no terminal to ask in; add --yes")
    with interrupt.waiting():
        answer = input(f"Remove {len(wanted)}, {size(sum(each.bytes for each in wanted))}? [y/N] ")
    return answer.strip().lower() in ("y", "yes")


def _clear(wanted: Sequence[Entry]) -> None:
    """Remove these and say so; SystemExit with code 1 if something is left."""
    gone: list[Entry] = []
    left: list[Entry] = []
    for each in wanted:
        interrupt.check()
        (gone if each.remove() else left).append(each)
    print(f"removed {len(gone)} of {len(wanted)}, {size(sum(each.bytes for each in gone))}")
    for each in left:
        why = "is in use, or cannot be removed"
        print(f"warning: {each.path}: {why}; it is left", file=sys.stderr)
    if left:
        sys.exit(1)


def entries() -> list[Entry]:
    """Return all that is kept, largest first."""
    folder = cache_folder()
    found = [*_arrays(folder / "arrays"), *_sources(folder / "sources")]
    for kind in ("data", "models"):
        found += [_entry(kind, path) for path in _inside(folder / kind)]
    known = {"arrays", "sources", "data", "models"}
    found += [_entry("other", path) for path in _inside(folder) if path.name not in known]
    return sorted(found, key=lambda each: (-each.bytes, each.path))


def _arrays(folder: Path) -> Iterator[Entry]:
    for path in _inside(folder):
        if path.is_dir():  # beside it lies its lock
            kind = path.name.partition("-")[0]
            yield _entry(kind if kind in KINDS else "other", path, folder / f"{path.name}.lock")


def _sources(folder: Path) -> Iterator[Entry]:
    for path in _inside(folder):
        if path.suffix != ".lock":
            yield _entry("sources", path, path.with_suffix(".lock"))


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _entry(kind: str, path: Path, lock: Path | None = None) -> Entry:
    total, used = 0, 0.0
    for each in (path, *(path.rglob("*") if path.is_dir() else ())):
        with suppress(OSError):  # removed meanwhile
            stat, folder = each.lstat(), each.is_dir()
            total += 0 if folder else stat.st_size
            used = max(used, stat.st_mtime, 0.0 if folder else stat.st_atime)
    return Entry(kind, path, total, used, lock)


def listing(found: Sequence[Entry]) -> list[str]:
    """Return the lines that show these entries: in sum, by kind, and the largest."""
    folder = cache_folder()
    if not found:
        return [f"{folder}: nothing of that there"]
    single = [
        {"size": size(each.bytes), "used": f"{each.days:.0f} days ago", "entry": str(each.path.relative_to(folder))}
        for each in found[:SHOWN]
    ]
    more = [f"and {len(found) - SHOWN} smaller ones"] if len(found) > SHOWN else []
    table = tabulate(single, headers="keys", disable_numparse=True)
    return [f"{folder}: {size(sum(each.bytes for each in found))}", "", *by_kind(found), "", table, *more]


def by_kind(found: Sequence[Entry]) -> list[str]:
    """Return the lines of a table: what these entries are, and how much of each kind."""
    rows = []
    for kind, what in KINDS.items():
        of_kind = [each for each in found if each.kind == kind]
        if of_kind:
            total = size(sum(each.bytes for each in of_kind))
            rows.append({"kind": kind, "entries": str(len(of_kind)), "size": total, "what": what})
    return tabulate(rows, headers="keys", disable_numparse=True).splitlines()


def size(count: float) -> str:
    """Return a number of bytes as it is read.

    >>> size(2.16e6), size(480)
    ('2.16 MB', '0.48 kB')
    """
    unit, name = next((each for each in ((1e9, "GB"), (1e6, "MB")) if count >= each[0]), (1e3, "kB"))
    return f"{count / unit:.3g} {name}"
