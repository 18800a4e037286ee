"""Members of tar archives, one after the other: nothing goes to disk, no link is followed, little is read at once."""

import gzip
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sweep import interrupt
from sweep.errors import UserError

LARGEST = 1 << 28  # bytes of a member
Wanted = Callable[[int, tarfile.TarInfo], bool]
BROKEN = (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, zlib.error)


class Source:
    """A file that gives no more than LARGEST bytes at once, so that a header cannot ask for all the memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.last = b""

    def read(self, size: int) -> bytes:
        """Return so many bytes, fewer at the end."""
        if not 0 <= size <= LARGEST:
            raise tarfile.ReadError(f"more than {LARGEST >> 20} MB at once")
        self.last = self.file.read(size)
        return self.last

    def seek(self, place: int) -> None:
        """Go on at this byte."""
        self.file.seek(place)

    def tell(self) -> int:
        """Return the byte that is read next."""
        return self.file.tell()


@contextmanager
def _file(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            yield file
            return
        with gzip.open(file) as unpacked:
            yield unpacked  # type: ignore[misc]


def members(where: str, path: Path, wanted: Wanted) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    """Yield every member, with its content if it is a plain file and wanted(its number, it) is true.

    where: the setting that names the archive. raises: UserError for one that is damaged.
    """
    try:
        with _file(path) as file:
            source = Source(file)
            number = -1
            with tarfile.TarFile(fileobj=source, mode="r", errors="surrogateescape") as archive:  # type: ignore[arg-type]
                while member := archive.next():
                    interrupt.check()
                    archive.members.clear()  # type: ignore[attr-defined]  # it would keep them all
                    number += 1
                    if member.isreg() and member.size > LARGEST:
                        raise tarfile.ReadError(f"{member.name} has {member.size >> 20} MB, of at most {LARGEST >> 20}")
                    opened = archive.extractfile(member) if member.isreg() and wanted(number, member) else None
                    yield member, opened.read() if opened else None
            # tarfile takes for the end what is no header, and a file that is cut short between two members.
            if source.last.strip(b"\0") or not source.last:
                raise tarfile.ReadError("no header or end where one must be")
    except BROKEN as error:
        if isinstance(error, UserError):
            raise
        why = " ".join(str(error).split())[:150]
        raise UserError(f"{where}: {path.name} is no whole tar archive ({why})") from error
