"""What a user is told when something that was given cannot be right."""

import difflib
from collections.abc import Iterable, Sequence


class UserError(ValueError):
    """What arrived, what is allowed, what to change: one line, shown without a traceback."""


class AbsentError(UserError):
    """Data that is not on this machine and cannot be fetched."""


def unknown(setting: str, value: str, allowed: Iterable[str]) -> UserError:
    """Return the error for a name that no table has, with the nearest name that one does."""
    names = list(allowed)
    return UserError(f"{setting}={value}: unknown; use one of {', '.join(names)}{nearest(value, names)}")


def nearest(value: str, names: Sequence[str], most: int = 1) -> str:
    """Return "; did you mean ...?" with the names that are nearest, `most` at most; nothing if none is near."""
    near = difflib.get_close_matches(value, names, n=most)
    return f"; did you mean {' or '.join(near)}?" if near else ""
