"""Where things lie: the YAML, what is kept between sweeps, what a sweep leaves. Files are written whole or not."""

import csv
import io
import json
import math
import os
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from sweep import interrupt

_PACKAGE = Path(__file__).resolve().parent
_TEMPORARY = ".tmp"  # what is being written ends so
_OLD = 24 * 3600.0  # seconds, after which nobody writes it any more, wherever that was
# conf/ lies inside an installed wheel, and beside the package in a checkout.
CONF = next(path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if path.is_dir())


def cache_folder() -> Path:
    """Return where weights and data sets are kept: $SWEEP_CACHE, else the user's cache folder of the system."""
    return Path(os.environ.get("SWEEP_CACHE") or platformdirs.user_cache_dir("freeze-sweep"))


def results_folder(name: str) -> Path:
    """Return where the sweep of this name leaves its results."""
    return Path("outputs") / name


def plain(name: str) -> str:
    """Return a name that every file system takes; `..` is none."""
    made = "".join(char if char.isalnum() or char in "._-" else "_" for char in name)
    return made if made.strip(".") else "_" * max(1, len(made))


_HOST = plain(platform.node())  # in names of temporary files: process numbers mean nothing elsewhere


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold this lock file; while another process holds it, wait, unless this one is asked to stop."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    while True:
        try:
            lock.acquire(timeout=0.5)
            break
        except Timeout:
            interrupt.check()
    try:
        yield
    finally:
        lock.release()


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(finite(content), indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the content, or None if the file is not there or not whole."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_rows(path: Path, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([heads, *rows])
    write_text(path, text.getvalue())


def write_bytes(path: Path, content: bytes) -> None:
    """Write to a temporary file in the same folder, then rename: a reader or a kill never sees half a file."""
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file beside this path to be written and renamed to it; what is left of it in the end is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{_HOST}-{os.getpid()}{_TEMPORARY}")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def clean(folder: Path) -> None:
    """Remove what writers that were killed have left in this folder; what belongs to one alive stays."""
    for path in folder.glob(f"*{_TEMPORARY}"):
        with suppress(OSError):  # another process cleans, too, or the folder is not ours to change
            host, _, process = path.name.removesuffix(_TEMPORARY).rpartition(".")[2].rpartition("-")
            if (host == _HOST and not _alive(process)) or time.time() - path.stat().st_mtime > _OLD:
                path.unlink()


def _alive(process: str) -> bool:
    """Return whether a process of this number runs here; True where that cannot be told."""
    if os.name != "posix" or not process.isdecimal():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def finite(value: Any) -> Any:
    """Return the value as JSON has words for it: a NaN or infinite loss becomes null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
