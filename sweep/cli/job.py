"""What a launcher runs for every point that is owed, in this process or in another."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from sweep import interrupt
from sweep.cli import compose
from sweep.cli.pool import Pool
from sweep.cli.progress import Progress
from sweep.config import OnError
from sweep.paths import results_folder
from sweep.plan.point import Point, plan
from sweep.report import record
from sweep.report.live import Growing
from sweep.run.job import Outcome, run_point
from sweep.run.session import Session


class Job:
    """Hydra's task function, with what the sweep knows handed down to it.

    points: by their overrides.
    depths: by job, which outputs of frozen blocks other points will ask for.
    page: report.html, which shows what has come so far.
    """

    def __init__(
        self,
        points: Mapping[tuple[str, ...], Point],
        depths: Mapping[str, frozenset[int]],
        session: Session,
        progress: Progress,
        page: Growing,
    ) -> None:
        self.points, self.depths, self.page = points, depths, page
        self.jobs = [point.job for point in points.values()]
        self.session, self.progress = session, progress

    def __getstate__(self) -> dict[str, Any]:
        # Another process plans its own point, keeps a session of its own and shows nothing.
        shared = {"jobs": self.jobs, "depths": self.depths, "page": self.page}
        return {"points": {}, "session": None, "progress": None, **shared}

    def __call__(self, cfg: DictConfig) -> None:
        """Run one point. Its failure is a record, not an exception, so every launcher treats it alike."""
        interrupt.check()
        point = self.points.get(tuple(HydraConfig.get().overrides.task)) or plan(compose.to_config(cfg))
        if self._begin(point):
            root, depths = results_folder(point.config.name), self.depths.get(point.job, frozenset())
            self._end(point, run_point(point, root, self.session or Session(), depths))

    def run_in_pool(self, points: Sequence[Point], environments: Sequence[Mapping[str, str]]) -> None:
        """Run these points in worker processes, each of which has these variables beside this process's own."""
        root = results_folder(points[0].config.name)
        Pool(root, self.depths, environments).run(points, self._begin, self._end)

    def _begin(self, point: Point) -> bool:
        """Return whether the point may start; of what has failed by now, the records tell every process."""
        root = results_folder(point.config.name)
        if point.config.on_error is OnError.stop and any(
            record.read_failure(record.job_folder(root, job)) for job in self.jobs
        ):
            return False
        if self.progress:
            self.progress.begin(point)
        return True

    def _end(self, point: Point, outcome: Outcome) -> None:
        if self.progress:
            self.progress.end(point, outcome)
        self.page.refresh()
