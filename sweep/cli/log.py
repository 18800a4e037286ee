"""What a command says: in the terminal as far as log_level lets it, and in the sweep's log file."""

import logging
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from sweep import __version__
from sweep.config import LogLevel

NAME = "sweep.log"
DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR


class _State:
    """shown: the least level that the terminal shows. lines: that wait for the file. file: where they go."""

    shown = INFO
    lines: list[str] | None = None
    file: TextIO | None = None


def say(text: str, level: int = INFO, stream: TextIO | None = None) -> None:
    """Print the text, on stdout unless another stream is given, and keep it in the log file if there is one."""
    if level >= min(_State.shown, INFO):
        _keep(text, level)
    if level >= _State.shown:
        print(text, file=stream or sys.stdout, flush=True)


def _keep(text: str, level: int) -> None:
    # Not by a logger: Hydra, as it starts each job, closes the handlers of all loggers.
    if _State.lines is None:
        return
    _State.lines.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {logging.getLevelName(level)} {text}\n")
    if _State.file:
        with suppress(OSError):  # a full disk; where it matters, records say so
            _State.file.writelines(_State.lines)
            _State.file.flush()
        _State.lines.clear()


@contextmanager
def kept(root: Path, level: LogLevel) -> Iterator[Callable[[], None]]:
    """Keep what is said in this block in the folder's log file, behind what earlier commands left there.

    level: of what the terminal shows; the file has what is worth knowing at any level, with debug every epoch.
    yields: a function to call once the folder is sure to stay; until then nothing is written.
    """
    before = _State.shown
    _State.shown, _State.lines = logging.getLevelNamesMapping()[level.upper()], []
    _keep(f"freeze-sweep {__version__}: {shlex.join(sys.argv)}", INFO)

    def stay() -> None:
        _State.file = (root / NAME).open("a", encoding="utf-8")

    try:
        yield stay
    except BaseException as error:
        _keep(f"ended by {type(error).__name__}: {error}", ERROR)
        raise
    else:
        _keep("ended", INFO)
    finally:
        if _State.file:
            _State.file.close()
        _State.shown, _State.lines, _State.file = before, None, None
