"""How a command ends: one line for bad input, one for Ctrl-C or SIGTERM, wherever the process happens to be.

The first signal only leaves a mark. Whatever takes long looks at it with check(): training after every batch, decoding
after every image, encoding after every block. So nothing is torn in the middle, no import stays half done, and no
library can swallow the request: the next check() finds the mark again. The second signal ends the process at once;
records are written whole or not at all, so that is safe, too.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from sweep.errors import line_of

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_KEPT = "what is finished is kept; the same command goes on from there"


class _State:
    """What has happened to this process.

    came: the first signal.
    waiting: how many waiting() blocks are open.
    full: whether errors show their traceback.
    led: whether another process says that this one stops, and ends it if it does not.
    """

    came: int | None = None
    waiting: int = 0
    full: bool = False
    led: bool = False


def install(*more: int, led: bool = False) -> None:
    """Catch Ctrl-C, SIGTERM, SIGHUP and what else is named from now on, but not where ignored, as under nohup.

    led: print nothing then, and let a second signal be nothing new: the first may have reached a whole group of
        processes, of which one then passes it on.
    """
    _State.led = led
    for number in (*_SIGNALS, *more):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


@contextmanager
def caught() -> Iterator[None]:
    """Catch signals in this block, and let them be what they were after it; other threads than the main one may not."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    install()
    try:
        yield
    finally:
        _State.came = None
        for number, handler in before.items():
            signal.signal(number, handler)


def came() -> int | None:
    """Return the signal that asks the process to stop, if one came."""
    return _State.came


def check() -> None:
    """Raise KeyboardInterrupt if the process was asked to stop; cheap enough for every batch and every image."""
    if _State.came is not None:
        raise KeyboardInterrupt


@contextmanager
def waiting() -> Iterator[None]:
    """Let a signal break off this block at once: it waits for a download or for other processes, and cannot check()."""
    check()
    _State.waiting += 1
    try:
        yield
    finally:
        _State.waiting -= 1
    check()


@contextmanager
def postponed() -> Iterator[None]:
    """Let what follows this block run also after an interrupt in it; the next check() raises it again."""
    try:
        yield
    except BaseException as error:
        if _State.came is None and not isinstance(error, KeyboardInterrupt):
            raise
        _State.came = _State.came or signal.SIGINT


@contextmanager
def command() -> Iterator[None]:
    """Run a command line's body and end the process.

    Exit code 2 with one line after bad input, or where memory ran out (with its traceback if HYDRA_FULL_ERROR=1), 128
    plus the signal's number with one line after a signal (130 after Ctrl-C, 143 after SIGTERM), whatever error came of
    it, and in silence where nobody reads the output any more, as under `| head` (141, as if by SIGPIPE).
    """
    _State.full = bool(os.environ.get("HYDRA_FULL_ERROR"))
    with caught():
        try:
            with one_line():
                check()
                try:
                    yield
                finally:
                    sys.stdout.flush()  # what is still to be written finds now whether anyone reads it
                check()
        except BaseException as error:
            if isinstance(error, BrokenPipeError) and _State.came is None:
                _silence()
                sys.exit(141)
            if _State.came is None and not isinstance(error, KeyboardInterrupt):
                raise
            number = _State.came or signal.SIGINT
            print(f"\n{_verb(number)}: {_KEPT}", file=sys.stderr)
            sys.exit(128 + number)


@contextmanager
def one_line() -> Iterator[None]:
    """End the process where an error of line_of() leaves this block: before a library adds words of its own."""
    try:
        yield
    except Exception as error:
        line = line_of(error)
        if line is None or _State.full or _State.came is not None:
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(2)


def _silence() -> None:
    """Let what is printed from now on go nowhere: Python would complain of the reader once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # some streams have no file
            os.dup2(nowhere, stream.fileno())


def _handle(number: int, frame: FrameType | None) -> None:
    if _State.came is not None:
        if _State.led:
            return
        _say(f"\n{_verb(number)} at once: {_KEPT}\n")
        os._exit(128 + number)
    _State.came = number
    _say(f"\n{_verb(number)}: stopping after this step; once more stops at once\n")
    if _State.waiting:
        raise KeyboardInterrupt


def _verb(number: int) -> str:
    return "interrupted" if number == signal.SIGINT else "terminated"


def _say(line: str) -> None:
    if _State.led:
        return
    with suppress(OSError):  # print() may be what was interrupted, and is not to be entered twice
        os.write(2, line.encode())
