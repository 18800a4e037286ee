"""How a command ends: one line for bad input, one for Ctrl-C, also where a library loses it.

Python raises KeyboardInterrupt wherever the process happens to be. In a `finally` of a library that can become an error
of another kind, and in a destructor it is dropped. So this remembers that it came.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sweep.errors import UserError

_came = False


def _handle(number: int, frame: FrameType | None) -> None:
    global _came  # a process has one Ctrl-C
    _came = True
    raise KeyboardInterrupt


def came() -> bool:
    """Return whether Ctrl-C was pressed since command() was entered."""
    return _came


def check() -> None:
    """Raise KeyboardInterrupt if the process was asked to stop; cheap enough to be called for every batch and image."""
    if _came:
        raise KeyboardInterrupt


@contextmanager
def heeded() -> Iterator[None]:
    """Make any error that leaves this block after Ctrl-C a KeyboardInterrupt.

    raises: KeyboardInterrupt, as is or for the error that came of it.
    """
    try:
        yield
    except BaseException as error:
        if _came and not isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise


@contextmanager
def command() -> Iterator[None]:
    """Run a command line's body; exit 2 with one line after a UserError, 130 with one after Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored, as under nohup
        signal.signal(signal.SIGINT, _handle)
    try:
        with heeded():
            yield
    except UserError as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted: what is finished is kept; the same command goes on from there", file=sys.stderr)
        sys.exit(130)
