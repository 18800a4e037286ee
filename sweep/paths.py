"""Where things lie: the YAML, what is kept between sweeps, what a sweep leaves."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from sweep import interrupt

_PACKAGE = Path(__file__).resolve().parent
# conf/ lies inside an installed wheel, and beside the package in a checkout.
CONF = next(path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if path.is_dir())


def cache_folder() -> Path:
    """Return where weights and data sets are kept: $SWEEP_CACHE, else the user's cache folder of the system."""
    return Path(os.environ.get("SWEEP_CACHE") or platformdirs.user_cache_dir("freeze-sweep"))


def results_folder(name: str) -> Path:
    """Return where the sweep of this name leaves its results."""
    return Path("outputs") / name


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
