"""What a user is told when something that was given cannot be right."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """What arrived, what is allowed, what to change: one line, shown without a traceback."""


class AbsentError(UserError):
    """Data that is not on this machine and cannot be fetched."""


def unknown(setting: str, value: str, allowed: Iterable[str]) -> UserError:
    """Return the error for a name that no table has, with the nearest name that one does."""
    names = list(allowed)
    near = difflib.get_close_matches(value, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return UserError(f"{setting}={value}: unknown; use one of {', '.join(names)}{hint}")
