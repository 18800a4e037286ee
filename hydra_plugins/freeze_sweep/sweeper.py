"""What -m does: expand, plan and check every point once, then launch what is owed, through any launcher.

Hydra finds this module by its place, a namespace package; the work is done in sweep.cli.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.freeze_sweep import local, ray, slurm
from sweep.cli import compose
from sweep.cli.suite import EMBEDDED

if TYPE_CHECKING:
    from sweep.report.render import Result


@dataclass
class FreezeSweeperConf:
    """Settings under hydra.sweeper.

    params: swept where the command line says nothing else, as in an experiment's YAML.
    stands_for: options of a group that are swept as several others.
    show: instead of training, print the composed settings: what compose.shown() takes.
    """

    _target_: str = "hydra_plugins.freeze_sweep.sweeper.FreezeSweeper"
    params: dict[str, str] | None = None
    stands_for: dict[str, str] = field(default_factory=lambda: {"data=embedded": ",".join(EMBEDDED)})
    show: Any = None


ConfigStore.instance().store("freeze_sweep", FreezeSweeperConf, group="hydra/sweeper", provider="freeze_sweep")


# Of our own launchers: what looks at their settings, and says whether they train on other machines.
CHECKS = {
    local.LocalLauncherConf._target_: local.check,
    ray.RayLauncherConf._target_: ray.check,
    slurm.SlurmLauncherConf._target_: slurm.check,
}


class FreezeSweeper(Sweeper):
    """Hydra's part of a multirun."""

    def __init__(self, params: DictConfig | None, stands_for: DictConfig, show: DictConfig | None) -> None:
        self.show = show
        self.params = {str(key): str(value) for key, value in (params or {}).items()}
        self.stands_for = {str(key): str(value) for key, value in stands_for.items()}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context = hydra_context
        self.master = config
        self.task = task_function

    def sweep(self, arguments: list[str]) -> "Result | None":
        """Train what is owed and report, or show settings.

        raises: UserError; SystemExit if results are missing, but not where Python asks.
        """
        settings = self.master.hydra.launcher
        elsewhere = settings._target_ in CHECKS and CHECKS[settings._target_](settings)
        loader = self.context.config_loader
        grid = compose.expand(loader, self.master, [*self._given(), *arguments], self.stands_for)
        composed = compose.composed(loader, self.master, grid)

        if self.show:
            print(compose.shown(composed, self.show), end="")
            return None

        def launch(job: TaskFunction, owed: Sequence[Sequence[str]]) -> None:
            # What is composed is not composed again. Other processes compose for themselves.
            context = HydraContext(config_loader=compose.Composed(loader, composed), callbacks=self.context.callbacks)
            launcher = Plugins.instance().instantiate_launcher(
                hydra_context=context, task_function=job, config=self.master
            )
            launcher.launch(owed, initial_job_idx=0)

        from sweep.cli import multirun  # noqa: PLC0415  Hydra imports every plugin, also to complete or explain

        from_python = self.task is multirun.from_python
        tell = (lambda text: None) if from_python else print  # a notebook shows the result
        result = multirun.run(self.master, composed, launch, elsewhere=elsewhere, tell=tell)
        if result and result.missing and not from_python:
            sys.exit(1)
        return result

    def _given(self) -> list[str]:
        return [f"{key}={value}" for key, value in self.params.items()]
