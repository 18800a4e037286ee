"""What processes that this one starts have in common: how they begin, and how they end. No torch."""

import multiprocessing
import os
import signal
import threading

# Not forked: a child of a process that has used threads or CUDA cannot use them.
CONTEXT = multiprocessing.get_context("spawn")
_SIGNALS = ("SIGINT", "SIGHUP")


def belong_to_parent(*more: str) -> None:
    """End when the parent does, and ignore signals that reach it, too, which then ends this process.

    more: names of signals to ignore beside Ctrl-C and SIGHUP.
    """
    for name in (*_SIGNALS, *more):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def how_it_ended(code: int | None) -> str:
    """Return, as the end of a sentence, how a process ended. code: its exit code, as multiprocessing gives it."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"was ended by {name}" + (" (is memory short?)" if name == "SIGKILL" else "")
    return f"ended with code {code}"
