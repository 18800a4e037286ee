"""report.html while a sweep runs: written after a point, unless that would take more than 4 % of the time."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from sweep.report import page, record

LEAST = 3.0  # seconds between two writings
SHARE = 25  # times as long as the last writing took, at least


class Growing:
    """The page of the sweep in this folder. Processes that each have one take turns by the file's time.

    again: jobs, with their seeds, that are trained anew; results from before do not count as done.
    """

    def __init__(self, root: Path, again: Mapping[str, Sequence[int]] | None = None) -> None:
        self.root, self.pause, self.broken = root, LEAST, False
        self.again = again or {}
        self.old = {job: times for job in self.again if (times := self._times(job))}

    def _times(self, job: str) -> dict[str, int]:
        """Return when each result of the job was written, by its file's name."""
        files = [record.job_folder(self.root, job) / f"seed-{seed}.json" for seed in self.again[job]]
        return {file.name: file.stat().st_mtime_ns for file in files if file.exists()}

    def _redone(self, job: str) -> bool:
        """Return whether every result that there was is replaced."""
        now = self._times(job)
        return all(now.get(name) != before for name, before in self.old[job].items())

    def refresh(self, force: bool = False) -> None:
        """Write the page if it is old enough, or by force; a page that cannot be written stops no sweep."""
        if self.broken or not (force or self._old()):
            return
        start = time.perf_counter()
        try:
            from sweep.report import render  # noqa: PLC0415  the imports take a second

            self.old = {job: times for job, times in self.old.items() if not self._redone(job)}
            render.grow(self.root, self.pause, self.old)
        except Exception as error:
            self.broken = True
            print(f"warning: {self.root / page.NAME} is not kept up ({error}); training goes on", file=sys.stderr)
        self.pause = max(LEAST, SHARE * (time.perf_counter() - start))

    @contextmanager
    def kept_up(self) -> Iterator[None]:
        """Write it first, and in the end say that the sweep ended, if nothing else will."""
        self.refresh(force=True)
        try:
            yield
        except BaseException:
            from sweep.report import render  # noqa: PLC0415

            with suppress(Exception):
                render.grow(self.root, None)
            raise

    def _old(self) -> bool:
        try:
            return time.time() - (self.root / page.NAME).stat().st_mtime >= self.pause
        except OSError:
            return True
