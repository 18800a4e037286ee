"""What a user is told when something that was given cannot be right."""

import difflib
import re
from collections.abc import Iterable, Sequence

_WORD, _LINE = 300, 3000  # signs; paths and lists of names are shorter


class UserError(ValueError):
    """What arrived, what is allowed, what to change: one line, shown without a traceback."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class AbsentError(UserError):
    """Data that is not on this machine and cannot be fetched."""


def one_line(text: str) -> str:
    r"""Return text as one line that any terminal shows: what was given may have line ends, escapes or no end.

    >>> print(one_line("name=a\nb"))
    name=a\nb
    """
    plain = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
    plain = re.sub(rf"\S{{{_WORD + 1},}}", lambda word: f"{word[0][: _WORD - 100]}...{word[0][-60:]}", plain)
    return plain if len(plain) <= _LINE else f"{plain[: _LINE - 500]} ... {plain[-400:]}"


# What libraries say where there is no room, in errors of many kinds: torch, oneDNN, CUDA, numpy, the system's loader.
_NO_ROOM = re.compile(
    r"can(no|')t allocate memory|out of memory|unable to allocate|failed to map segment|ALLOC_FAILED"
    r"|could not create a (primitive|memory)|can't start new thread",
    re.I,
)


def line_of(error: Exception) -> str | None:
    """Return what a user is told of an error that something given, or too little memory, has brought; None of others.

    >>> line_of(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))[:64]
    'out of memory (CUDA out of memory. Tried to allocate 2 GiB): use'
    """
    if isinstance(error, UserError):
        return str(error)
    said = str(error) or type(error).__name__
    if not isinstance(error, MemoryError) and not _NO_ROOM.search(said):
        return None
    advice = "use a smaller batch_size or data.image_size, fewer jobs at once, or a machine with more"
    first = re.sub(r"^\[enforce fail.*?\] err == 0\. ", "", said.splitlines()[0])
    return one_line(f"out of memory ({first}): {advice}")


def described(error: Exception) -> str:
    """Return any error in one line: as line_of() says it, else with its kind."""
    return " ".join((line_of(error) or f"{type(error).__name__}: {error}").split())


def reason(error: OSError) -> str:
    """Return what the system says of a file, and which file that is, where it says so."""
    file = error.filename2 or error.filename
    return f"{error.strerror or error}" + (f": {file}" if file and error.strerror else "")


def unknown(setting: str, value: str, allowed: Iterable[str]) -> UserError:
    """Return the error for a name that no table has, with the nearest name that one does."""
    names = list(allowed)
    return UserError(f"{setting}={value}: unknown; use one of {', '.join(names)}{nearest(value, names)}")


def nearest(value: str, names: Sequence[str], most: int = 1) -> str:
    """Return "; did you mean ...?" with the names that are nearest, `most` at most; nothing if none is near."""
    near = difflib.get_close_matches(value, names, n=most)
    return f"; did you mean {' or '.join(near)}?" if near else ""
