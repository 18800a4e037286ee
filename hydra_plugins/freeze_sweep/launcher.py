"""What our launchers have in common: what they are given, and how their settings are refused."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from sweep.errors import UserError
from sweep.plan.point import Point

if TYPE_CHECKING:
    from sweep.cli.job import Job


class PointLauncher(Launcher):
    """A launcher of points; what came of them is in their records alone, so that it returns nothing."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.job: Job = task_function  # type: ignore[assignment]  # the sweeper launches nothing else

    def points(self, job_overrides: Sequence[Sequence[str]]) -> list[Point]:
        """Return the points with these overrides."""
        return [self.job.points[tuple(overrides)] for overrides in job_overrides]


def require_least(settings: DictConfig, least: Mapping[str, int]) -> None:
    """Raise UserError for one of these settings that is below its least value; null is none."""
    for name, low in least.items():
        if settings.get(name) is not None and settings[name] < low:
            raise UserError(f"hydra.launcher.{name}={settings[name]}: use a whole number of at least {low}")


def require_gpus(points: Sequence[Point], name: str, count: float) -> None:
    """Raise UserError for a point that is to train on more GPUs than each job gets. name: the launcher's setting.

    count: 0 says nothing: they may be asked for in another way.
    """
    for config in (point.config for point in points):
        if config.device != "cpu" and 0 < count < config.devices:
            raise UserError(
                f"hydra.launcher.{name}={count:g}: device={config.device} with devices={config.devices} takes "
                f"{config.devices} for each job"
            )


def require_size(settings: DictConfig, name: str) -> None:
    """Raise UserError for a setting that is no number of gigabytes; null is none."""
    if settings[name] is not None and not 0 < settings[name] < float("inf"):
        raise UserError(f"hydra.launcher.{name}={settings[name]}: use a number of gigabytes above 0")


def require_others(settings: DictConfig, name: str, ours: Collection[str], example: str) -> None:
    """Raise UserError for a setting that is no names and values, or names what the launcher sets itself."""
    more = settings[name] or {}
    if not isinstance(more, Mapping | DictConfig):
        raise UserError(f"hydra.launcher.{name}={more}: use names and values, such as {example}")
    for each in more:
        if str(each).replace("-", "_") in ours:
            raise UserError(f"hydra.launcher.{name}.{each}: the launcher sets this itself; leave it out")
