"""What a launcher runs for every point that is owed, in this process or in another."""

from collections.abc import Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from sweep import interrupt
from sweep.cli import compose
from sweep.cli.progress import Progress
from sweep.paths import results_folder
from sweep.plan.point import Point, plan
from sweep.run.job import run_point
from sweep.run.session import Session


class Job:
    """Hydra's task function, with what the sweep knows handed down to it.

    points: by their overrides.
    depths: by job, which outputs of frozen blocks other points will ask for.
    """

    def __init__(
        self,
        points: Mapping[tuple[str, ...], Point],
        depths: Mapping[str, frozenset[int]],
        session: Session,
        progress: Progress,
    ) -> None:
        self.points, self.depths = points, depths
        self.session, self.progress = session, progress

    def __getstate__(self) -> dict[str, Any]:
        # Another process plans its own point, keeps a session of its own and shows nothing.
        return {"points": {}, "depths": self.depths, "session": None, "progress": None}

    def __call__(self, cfg: DictConfig) -> None:
        """Run one point. Its failure is a record, not an exception, so every launcher treats it alike."""
        interrupt.check()
        point = self.points.get(tuple(HydraConfig.get().overrides.task)) or plan(compose.to_config(cfg))
        if self.progress:
            self.progress.begin(point)
        session = self.session or Session()
        outcome = run_point(point, results_folder(point.config.name), session, self.depths.get(point.job, frozenset()))
        if self.progress:
            self.progress.end(point, outcome)
