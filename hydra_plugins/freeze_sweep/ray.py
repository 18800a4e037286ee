"""hydra/launcher=ray: every point is a task of Ray, here or on a running cluster, which this process follows."""

import dataclasses
import importlib.util
import logging
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from omegaconf import DictConfig

from hydra_plugins.freeze_sweep.launcher import PointLauncher, require_gpus, require_least, require_others, require_size
from sweep import interrupt
from sweep.cli.collect import train_elsewhere, warm_first
from sweep.cli.ticks import Followed
from sweep.cores import bound
from sweep.errors import UserError
from sweep.plan.point import Point


@dataclass
class RayLauncherConf:
    """Settings under hydra.launcher, called as Ray calls them.

    address: of a cluster, host:port, or auto for the one that this machine belongs to; null: Ray is started on this
        machine and ends with the sweep.
    num_cpus: cores of a job, and its threads.
    num_gpus: GPUs of a job; 0.25 lets four jobs share one.
    memory_gb: gigabytes that Ray sets aside for a job; null: it does not count them.
    n_jobs: at once; null: as many as there is room for.
    retries: how often a job starts again whose worker or node was lost; its finished seeds are kept.
    options: others of a Ray task, such as {resources: {fast: 1}}.
    """

    _target_: str = "hydra_plugins.freeze_sweep.ray.RayLauncher"
    address: str | None = None
    num_cpus: int = 1
    num_gpus: float = 0.0
    memory_gb: float | None = None
    n_jobs: int | None = None
    retries: int = 3
    options: Any = None


ConfigStore.instance().store("ray", RayLauncherConf, group="hydra/launcher", provider="freeze_sweep")
OBJECTS = 80_000_000  # bytes that Ray keeps for results: ours are a line each, and this is the least it takes
LOOK = 1.0  # seconds between looks how far points are
ASK = 5.0  # seconds between looks whether the head of the cluster is still there
GIVE_UP = 4  # such looks in vain, one after another; 60 s after it has lost its head Ray ends this process
OURS = {"max_retries", "memory", "num_cpus", "num_gpus", "num_returns", "retry_exceptions"}


def check(settings: DictConfig) -> bool:
    """Return whether points are trained on other machines.

    raises: UserError for a setting that is out of its range, or if there is no Ray.
    """
    require_least(settings, {"num_cpus": 1, "n_jobs": 1, "retries": 0})
    if not (0 <= settings.num_gpus <= 1 or settings.num_gpus % 1 == 0 < settings.num_gpus < float("inf")):
        raise UserError(
            f"hydra.launcher.num_gpus={settings.num_gpus}: use a part of 1, such as 0.25, or a whole number"
        )
    require_size(settings, "memory_gb")
    if settings.address not in (None, "auto") and not re.fullmatch(r"[^\s/]+:\d{1,5}", settings.address):
        raise UserError(f"hydra.launcher.address={settings.address}: use auto, or host:port of the cluster's head")
    require_others(settings, "options", OURS, "{resources: {fast: 1}}")
    if importlib.util.find_spec("ray") is None:
        raise UserError("hydra/launcher=ray: needs ray; pip install 'freeze-sweep[ray]'")
    return settings.address is not None


class RayLauncher(PointLauncher):
    """Gives the points to Ray and collects what comes of them; the records lie in the shared folder."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train the points with these overrides; what came of them is in their records alone."""
        points = warm_first(self.points(job_overrides))
        require_gpus(points, "num_gpus", self.settings["num_gpus"])
        with connected(self.settings["address"]):
            self._follow(points, self._remote())
        return []

    def _remote(self) -> Any:
        """Return what trains a task, as Ray's own. raises: UserError for options that Ray does not take."""
        import ray  # noqa: PLC0415  optional

        asked = {"num_cpus": self.settings["num_cpus"], "num_gpus": self.settings["num_gpus"]}
        if self.settings["memory_gb"]:
            asked["memory"] = int(self.settings["memory_gb"] * 1e9)
        more = self.settings["options"] or {}
        try:
            remote = ray.remote(train_elsewhere).options(**asked, max_retries=self.settings["retries"], **more)
        except (TypeError, ValueError) as error:
            raise UserError(f"hydra.launcher.options={more}: {str(error).splitlines()[0]}") from error
        needed = {"CPU": asked.pop("num_cpus"), "GPU": asked.pop("num_gpus"), **asked, **more.get("resources", {})}
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        have = [node["Resources"] for node in nodes if node["Alive"]]
        if not any(all(node.get(name, 0) >= count for name, count in needed.items()) for node in have):
            most = {name: max(node.get(name, 0) for node in have) for name in needed}
            said = f"a job needs {_counts(needed)}, and no node has that (the most there is: {_counts(most)})"
            if self.settings["address"] is None:
                raise UserError(f"hydra/launcher=ray: {said}; ask for less")
            print(f"hydra/launcher=ray: {said}; the jobs wait for a node that has it", file=sys.stderr, flush=True)
        return remote

    def _follow(self, waiting: list[Point], remote: Any) -> None:
        """Give Ray as many points at once as asked for, and collect each on its own, until none is left."""
        import ray  # noqa: PLC0415

        threads = bound(self.settings["num_cpus"])
        head = ray.get_runtime_context().gcs_address
        running: dict[Any, tuple[Point, float]] = {}
        asked, silent = time.monotonic(), 0
        followed = Followed(self.job.root, self.job.hear)
        while silent < GIVE_UP:
            while waiting and len(running) < (self.settings["n_jobs"] or len(waiting) + len(running)):
                point = waiting.pop(0)
                if self.job.begin(point):
                    followed.begin(point)
                    task = self.job.task(point)
                    task = dataclasses.replace(task, variables={**task.variables, **threads})
                    running[remote.remote(task)] = point, time.monotonic()
            if not running:
                return
            with interrupt.waiting():
                done, _ = ray.wait(list(running), timeout=LOOK)
            followed.look(point for each, (point, _) in running.items() if each not in done)
            for each in done:
                self._take(each, *running.pop(each))
            if time.monotonic() - asked >= ASK:
                silent = 0 if reachable(head) else silent + 1
                asked = time.monotonic()
        for point, since in running.values():
            self.job.lost(point, "the head of the Ray cluster does not answer", time.monotonic() - since)

    def _take(self, each: Any, point: Point, since: float) -> None:
        import ray  # noqa: PLC0415

        seconds = time.monotonic() - since
        try:
            outcome = ray.get(each)
        except ray.exceptions.RayTaskError as error:  # outside of training, such as a package that a node lacks
            self.job.lost(point, f"on its Ray worker: {type(error.cause).__name__}: {error.cause}", seconds, str(error))
        except ray.exceptions.RayError as error:
            how = f"its Ray worker was lost ({str(error).splitlines()[0].rstrip('.')})"
            self.job.lost(point, how, seconds, str(error))
        else:
            self.job.end(point, outcome)


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Be a driver of the cluster at this address, or of one of this machine's own; leave no job behind.

    raises: UserError if there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    import ray  # noqa: PLC0415  optional

    where = f"hydra.launcher.address={address}" if address else "hydra/launcher=ray"
    if ray.is_initialized():
        raise UserError(f"{where}: this process uses Ray already; ray.shutdown() first")
    if address not in (None, "auto") and not reachable(address):
        raise UserError(f"{where}: nothing answers there")
    own: dict[str, Any] = {} if address else {"include_dashboard": False, "object_store_memory": OBJECTS}
    try:
        try:  # not broken off by a signal: half of what it starts would stay
            with _own_sigterm():
                ray.init(address=address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **own)
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            interrupt.check()
            raise UserError(f"{where}: {str(error).splitlines()[0]}") from error
        interrupt.check()
        yield
    finally:
        ray.shutdown()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Let nobody set another handler of SIGTERM in this block: Ray's would end this process without a report.

    While Ray starts, it would also leave some of its processes behind.
    """
    real = signal.signal

    def kept(number: int, handler: Any) -> Any:
        return signal.getsignal(number) if number == signal.SIGTERM else real(number, handler)

    signal.signal = kept  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = real


def reachable(address: str) -> bool:
    """Return whether somebody listens at host:port."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5):
            return True
    except (OSError, OverflowError):
        return False


def _counts(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {count:g}" for name, count in resources.items() if name != "memory" or count)
