"""Arrays kept on disk between jobs, processes and sweeps: whole or absent, checked, bounded, memory-mapped.

<cache folder>/arrays/<group>/<name>.<crc32>.npy    plain numpy files; the name says what the bytes must sum up to
<cache folder>/arrays/<group>.lock                  held by whoever reads, fills or removes the group

A group is what is made, used and removed together: the decoded images of a data set, or the outputs of one network's
blocks for one split.
"""

import os
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from sweep import paths
from sweep.paths import cache_folder

Array = npt.NDArray[Any]
NewArray = Callable[[str, tuple[int, ...], npt.DTypeLike], Array]  # (name, shape, dtype) -> an array to be filled

told: list[str] = []  # why nothing more can be kept

verified: set[Path] = set()  # files whose bytes this process has read once and found right


class Group:
    """One locked group. Arrays that it hands out stay valid after the lock is released, and after a removal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str) -> Array | None:
        """Return the array, memory-mapped, private and copy-on-write; None if it is absent or damaged."""
        for path in self.folder.glob(f"{name}.????????.npy"):
            with suppress(OSError, EOFError, ValueError):  # cut short, or not numpy's
                array: Array = np.load(path, mmap_mode="c", allow_pickle=False)
                if path in verified or f"{_crc32(array):08x}" == path.name.split(".")[-2]:
                    verified.add(path)
                    with suppress(OSError):  # a cache may be there to be read only
                        os.utime(self.folder)  # least recently used goes first
                    return array
            with suppress(OSError):
                path.unlink(missing_ok=True)
        return None

    @contextmanager
    def write(self) -> Iterator[NewArray]:
        """Give a function that makes arrays to be filled; they become readable when the block ends without an error.

        The function takes name, shape and dtype, and raises OSError if the disk has no room.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._clean()  # whoever left a file half written is gone: the lock is ours
        made: dict[str, Array] = {}

        def new_array(name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
            made[name] = _on_disk(self.folder / f"{name}.tmp", shape, dtype)
            return made[name]

        try:
            yield new_array
            for name, array in made.items():
                final = self.folder / f"{name}.{_crc32(array):08x}.npy"
                (self.folder / f"{name}.tmp").replace(final)
                verified.add(final)
        finally:
            self._clean()
            with suppress(OSError):  # it is empty only if nothing could be made
                self.folder.rmdir()

    def _clean(self) -> None:
        for path in self.folder.glob("*.tmp"):
            path.unlink(missing_ok=True)


@contextmanager
def group(name: str) -> Iterator[Group]:
    """Hold one group: nobody else reads, fills or removes it meanwhile. Not to be entered twice by one thread.

    In a cache folder that cannot be written it is not held, and write() raises OSError.
    """
    folder = arrays_folder() / name
    with locked(folder.parent / f"{folder.name}.lock"):
        yield Group(folder)


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold a lock file of the cache folder; give False, without a lock, where that folder cannot be written."""
    with ExitStack() as stack:
        try:
            stack.enter_context(paths.locked(path))
            writable = True
        except OSError as error:
            unkept(error)
            writable = False
        yield writable


def unkept(error: Exception) -> None:
    """Say, once, that the sweep goes on without keeping anything in the cache folder."""
    if not told:
        told.append(str(error))
        print(f"warning: nothing more is kept in {cache_folder()} ({error}); going on without", file=sys.stderr)


def trim(max_bytes: float) -> None:
    """Remove groups, least recently used first, until the rest fits; the last one used is left, and those in use."""
    found = []
    for folder in arrays_folder().glob("*/"):
        with suppress(OSError):  # removed meanwhile
            found.append((folder.stat().st_mtime, sum(file.stat().st_size for file in folder.iterdir()), folder))
    total = sum(size for _, size, _ in found)
    for _, size, folder in sorted(found)[:-1]:
        if total <= max_bytes:
            return
        with suppress(Timeout, OSError), FileLock(f"{folder}.lock", timeout=0):
            shutil.rmtree(folder)
            total -= size


def arrays_folder() -> Path:
    """Return the folder that holds every group."""
    return cache_folder() / "arrays"


def _on_disk(path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    array: Array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    if array.size and hasattr(os, "posix_fallocate"):  # else a full disk kills the process at the first write
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _crc32(array: Array) -> int:
    total, view = 0, array.reshape(-1).view(np.uint8)
    for start in range(0, len(view), 1 << 24):
        total = zlib.crc32(view[start : start + (1 << 24)].data, total)
    return total
