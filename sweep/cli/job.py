"""What a launcher runs for every point that is owed, in this process or in another; and what it tells of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from sweep import interrupt
from sweep.cli import collect, compose
from sweep.cli.collect import Task
from sweep.cli.progress import Progress
from sweep.config import OnError
from sweep.plan.point import Point, plan
from sweep.report import record
from sweep.report.live import Growing
from sweep.runs.job import Outcome
from sweep.runs.session import Session
from sweep.runs.tick import Tick


class Job:
    """Hydra's task function, with what the sweep knows handed down to it.

    root: where records go.
    points: by their overrides.
    depths: by job, which outputs of frozen blocks other points will ask for.
    page: report.html, which shows what has come so far.
    """

    def __init__(
        self,
        root: Path,
        points: Mapping[tuple[str, ...], Point],
        depths: Mapping[str, frozenset[int]],
        session: Session | None = None,
        progress: Progress | None = None,
        page: Growing | None = None,
    ) -> None:
        self.root, self.points, self.depths, self.page = root, points, depths, page
        self.jobs = [point.job for point in points.values()]
        self.session, self.progress = session, progress

    def __getstate__(self) -> dict[str, Any]:
        # Another process plans its own point, keeps a session of its own and shows nothing.
        return {**vars(self), "points": {}, "session": None, "progress": None}

    def __call__(self, cfg: DictConfig) -> None:
        """Run one point. Its failure is a record, not an exception, so every launcher treats it alike."""
        interrupt.check()
        point = self.points.get(tuple(HydraConfig.get().overrides.task)) or plan(compose.to_config(cfg))
        if self.begin(point):
            self.end(point, collect.train(self.task(point), self.session))

    def task(self, point: Point) -> Task:
        """Return what another process needs to train this point."""
        jobs = self.jobs if point.config.on_error is OnError.stop else ()
        depths = self.depths.get(point.job, frozenset())
        return Task(point, self.root, depths, jobs, Path.cwd(), collect.variables())

    def begin(self, point: Point) -> bool:
        """Return whether the point may start, and show that it does."""
        if collect.stopped(point, self.root, self.jobs):
            return False
        if self.progress:
            self.progress.begin(point)
        return True

    def hear(self, tick: Tick) -> None:
        """Show how far a point is that another process trains."""
        if self.progress:
            self.progress.hear(tick)

    def end(self, point: Point, outcome: Outcome | None) -> None:
        """Show what came of a point; nothing where it was not to start."""
        if self.progress and outcome:
            self.progress.end(point, outcome)
        if self.page:
            self.page.refresh()

    def lost(self, point: Point, how: str, seconds: float, details: str = "") -> None:
        """Record, as the point's failure, how the process that trained it ended; and show it."""
        error = f"{how}; the same command trains it again"
        record.write_failure(record.job_folder(self.root, point.job), error, details)
        self.end(point, Outcome(0, seconds, error))
