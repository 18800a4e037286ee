"""hydra/launcher=local: several jobs at once on this machine, each in a process with its share of cores and GPUs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from omegaconf import DictConfig

from hydra_plugins.freeze_sweep.launcher import PointLauncher, require_least
from sweep.cli.pool import Pool
from sweep.cores import bound, usable


@dataclass
class LocalLauncherConf:
    """Settings under hydra.launcher.

    n_jobs: at once; null: jobs_per_gpu for every GPU, or for as many as devices= says together, and without a GPU as
        many as there are cores, at most 8.
    jobs_per_gpu: small images leave a GPU idle, so that several jobs share one.
    threads: of each job; null: an equal share of the cores.
    """

    _target_: str = "hydra_plugins.freeze_sweep.local.LocalLauncher"
    n_jobs: int | None = None
    jobs_per_gpu: int = 1
    threads: int | None = None


ConfigStore.instance().store("local", LocalLauncherConf, group="hydra/launcher", provider="freeze_sweep")
MOST = 8  # jobs at once without a GPU, unless more are asked for: each needs a gigabyte or two


def check(settings: DictConfig) -> bool:
    """Return whether points are trained on other machines. raises: UserError for a setting that is out of its range."""
    require_least(settings, {"n_jobs": 1, "jobs_per_gpu": 1, "threads": 1})
    return False


class LocalLauncher(PointLauncher):
    """Hands the points to a pool of processes."""

    def __init__(self, n_jobs: int | None, jobs_per_gpu: int, threads: int | None) -> None:
        self.n_jobs, self.jobs_per_gpu, self.threads = n_jobs, jobs_per_gpu, threads

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train the points with these overrides; what came of them is in their records alone."""
        points = self.points(job_overrides)
        one_gpu = any(":" in point.config.device for point in points)  # device=cuda:1 says which
        threads = [point.config.threads for point in points]
        most = None if None in threads else max(filter(None, threads))
        devices = max((point.config.devices for point in points), default=1)
        gpus = [] if one_gpu else grouped(visible_gpus(), devices)
        Pool(self.environments(len(points), gpus, most)).run(points, self.job)
        return []

    def environments(self, n_points: int, gpus: Sequence[str], most: int | None = None) -> list[dict[str, str]]:
        """Return the variables of each worker: GPUs in turn, and no more threads than cores.

        gpus: of one job each.
        most: threads that a point is to have, at most; None: as many as there are for it.
        """
        cores = usable()
        n_jobs = min(n_points, self.n_jobs or (len(gpus) * self.jobs_per_gpu if gpus else min(cores, MOST)))
        share = max(1, cores // n_jobs)
        own = bound(self.threads or min(share, most or share))
        return [own | ({"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if gpus else {}) for index in range(n_jobs)]


def grouped(gpus: Sequence[str], devices: int) -> list[str]:
    """Return the GPUs of one job each, as CUDA_VISIBLE_DEVICES names them.

    >>> grouped(["0", "1", "2", "3", "4"], 2)
    ['0,1', '2,3']
    """
    return [",".join(gpus[start : start + devices]) for start in range(0, len(gpus) - devices + 1, devices)]


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch  # noqa: PLC0415  # Hydra imports every plugin, also where nothing is trained

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(index) for index in range(torch.cuda.device_count())]
