"""hydra/launcher=slurm: every point is a job of a Slurm array, which submitit submits and this process follows."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from omegaconf import DictConfig

from hydra_plugins.freeze_sweep.launcher import PointLauncher, require_gpus, require_least, require_others, require_size
from sweep import interrupt
from sweep.cli.collect import Task, stopped, train_elsewhere, warm_first
from sweep.cli.ticks import Followed
from sweep.cores import bound
from sweep.errors import UserError
from sweep.plan.point import Point

if TYPE_CHECKING:
    import submitit

    from sweep.runs.job import Outcome


@dataclass
class SlurmLauncherConf:
    """Settings under hydra.launcher, called as submitit and sbatch call them.

    timeout_min: minutes that a job may take.
    mem_gb: gigabytes of memory of a job; null: what the cluster gives.
    cpus_per_task, gpus_per_node: cores and GPUs of a job.
    partition: null: the cluster's own choice.
    array_parallelism: jobs at once.
    retries: how often a job starts again that was preempted or ran out of time; its finished seeds are kept.
    setup: lines of shell before Python starts, such as "module load cuda".
    additional_parameters: others of sbatch, such as {account: me, constraint: a100}.
    """

    _target_: str = "hydra_plugins.freeze_sweep.slurm.SlurmLauncher"
    timeout_min: int = 60
    mem_gb: float | None = None
    cpus_per_task: int = 1
    gpus_per_node: int = 0
    partition: str | None = None
    array_parallelism: int = 100
    retries: int = 3
    setup: list[str] = field(default_factory=list)
    additional_parameters: Any = None


ConfigStore.instance().store("slurm", SlurmLauncherConf, group="hydra/launcher", provider="freeze_sweep")
MOST = 1000  # jobs of an array: Slurm's own limit, unless a cluster has another
POLL = 1.0  # seconds between looks for results
ASK = 10.0  # seconds between questions to Slurm
GRACE = 15.0  # seconds that cancelled jobs have to end
OURS = {"array", "error", "job_name", "open_mode", "output", "requeue", "no_requeue", "signal"}


def check(settings: DictConfig) -> bool:
    """Return whether points are trained on other machines.

    raises: UserError for a setting that is out of its range, or if there is no Slurm.
    """
    least = {"timeout_min": 1, "cpus_per_task": 1, "array_parallelism": 1, "gpus_per_node": 0, "retries": 0}
    require_least(settings, least)
    require_size(settings, "mem_gb")
    require_others(settings, "additional_parameters", OURS, "{account: me}")
    if importlib.util.find_spec("submitit") is None:
        raise UserError("hydra/launcher=slurm: needs submitit; pip install submitit")
    for program in ("sbatch", "squeue", "scancel", "srun"):
        if shutil.which(program) is None:
            raise UserError(f"hydra/launcher=slurm: no {program} here; give the command where Slurm's programs are")
    return True


class SlurmLauncher(PointLauncher):
    """Submits the points and collects what comes of them; the records lie in the shared folder."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.name = f"sweep-{uuid.uuid4().hex[:8]}"  # by which Slurm tells our jobs from all others

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train the points with these overrides; what came of them is in their records alone."""
        points = warm_first(self.points(job_overrides))
        require_gpus(points, "gpus_per_node", self.settings["gpus_per_node"])
        try:
            for first in range(0, len(points), MOST):
                part = [point for point in points[first : first + MOST] if self.job.begin(point)]
                if part:
                    followed = Followed(self.job.root, self.job.hear, part)
                    self._follow(self._submit(part), followed)
        except BaseException:
            self._cancel()
            raise
        return []

    def _submit(self, points: Sequence[Point]) -> dict["submitit.Job[Outcome | None]", Point]:
        """Return the jobs in Slurm's queue. raises: UserError if Slurm refuses them."""
        import submitit  # noqa: PLC0415  optional
        from submitit.core.utils import FailedJobError, FailedSubmissionError  # noqa: PLC0415

        executor = submitit.AutoExecutor(self.job.root.resolve() / "slurm", cluster="slurm")
        executor.update_parameters(**parameters(self.settings, self.name))
        tasks = [self.job.task(point) for point in points]
        try:
            jobs = executor.map_array(Attempt(self.settings["retries"]), tasks)
        except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
            interrupt.check()  # Ctrl-C reaches sbatch, too
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            said = [line.partition("error: ")[2] for line in lines if "error: " in line]
            raise UserError(f"hydra/launcher=slurm: sbatch refuses the jobs: {(said or lines)[-1]}") from error
        number = jobs[0].job_id.partition("_")[0]
        print(f"Slurm job {number}, {len(jobs)} points; logs are in {executor.folder}", flush=True)
        return dict(zip(jobs, points, strict=True))

    def _follow(self, left: dict["submitit.Job[Outcome | None]", Point], followed: Followed) -> None:
        """Collect every job on its own, until none is left."""
        begun = asked = time.monotonic()
        gone: set[str] = set()
        while left:
            followed.look(left.values())
            for job in [job for job in left if job.paths.result_pickle.exists()]:
                self._take(job, left.pop(job), time.monotonic() - begun)
            if time.monotonic() - asked >= ASK:
                asked = time.monotonic()
                queued = self._queued()
                missing = set() if queued is None else {job.job_id for job in left} - queued
                # Twice in a row, because files of a network may be seen late.
                for job in [job for job in left if job.job_id in missing & gone]:
                    self._lost(job, left.pop(job), time.monotonic() - begun)
                gone = missing
            if left:
                with interrupt.waiting():
                    time.sleep(POLL)

    def _take(self, job: "submitit.Job[Outcome | None]", point: Point, seconds: float) -> None:
        error = job.exception()
        if error:
            *details, last = str(error).split("-" * 22)[1].strip().splitlines()
            self.job.lost(point, f"Slurm job {job.job_id}: {last}", seconds, "\n".join(details))
        else:
            outcome = job.result()
            self.job.end(point, outcome)
            if outcome is None or outcome.error is None:
                for path in job.paths.folder.glob(f"{job.job_id}_*"):
                    path.unlink(missing_ok=True)
        self._stop(point)

    def _lost(self, job: "submitit.Job[Outcome | None]", point: Point, seconds: float) -> None:
        """Record how a job ended without a result, unless it was not to start."""
        if stopped(point, self.job.root, self.job.jobs) and not job.paths.stdout.exists():
            return
        state = job.get_info().get("State", "") if shutil.which("sacct") else ""
        how = f" ({state})" if state else ""
        self.job.lost(point, f"Slurm job {job.job_id} ended without a result{how}, see {job.paths.stderr}", seconds)
        self._stop(point)

    def _stop(self, point: Point) -> None:
        """Cancel those that wait, if none is to start after a failure."""
        if stopped(point, self.job.root, self.job.jobs):
            subprocess.run(["scancel", "--state=PENDING", f"--name={self.name}"], check=False)

    def _queued(self) -> set[str] | None:
        """Return which of our jobs Slurm has still to do, or None if it does not answer."""
        ask = ["squeue", "--noheader", "--array", f"--name={self.name}", "--format=%i"]
        done = subprocess.run(ask, capture_output=True, text=True, check=False)
        return set(done.stdout.split()) if done.returncode == 0 else None

    def _cancel(self) -> None:
        """Leave none of our jobs behind: wait until they have ended, but not for ever."""
        end = time.monotonic() + GRACE
        subprocess.run(["scancel", f"--name={self.name}"], check=False)
        while self._queued() and time.monotonic() < end:
            time.sleep(POLL)


class Attempt:
    """What a job does: it trains its point, and queues itself again if Slurm wants its place before it is done.

    Slurm says so by SIGUSR2 some time before the end. After SIGTERM it is Slurm that knows what comes next.
    """

    def __init__(self, retries: int) -> None:
        self.retries = retries

    def __call__(self, task: Task) -> "Outcome | None":
        interrupt.install(signal.SIGUSR2)
        try:
            outcome = train_elsewhere(task)
            if outcome and outcome.error:
                interrupt.check()  # a library may have made another error of it
        except KeyboardInterrupt:
            if interrupt.came() == signal.SIGUSR2:
                self._again()
            sys.exit(1)  # without a result
        return outcome

    def _again(self) -> None:
        if int(os.environ.get("SLURM_RESTART_COUNT", "0")) >= self.retries:
            raise TimeoutError(
                f"out of time or preempted, {self.retries + 1} times; use a longer timeout_min"
            ) from None
        # By its place in the array: the number of one of the jobs stands for the whole array, too.
        number = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
        subprocess.run(["scontrol", "requeue", number], check=True)


def parameters(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the settings as submitit's AutoExecutor takes them."""
    cores = settings["cpus_per_task"]
    more = {**(settings["additional_parameters"] or {}), "requeue" if settings["retries"] else "no-requeue": True}
    return {
        "name": name,
        "timeout_min": settings["timeout_min"],
        "mem_gb": settings["mem_gb"],
        "cpus_per_task": cores,
        "gpus_per_node": settings["gpus_per_node"] or None,
        "slurm_partition": settings["partition"],
        "slurm_array_parallelism": settings["array_parallelism"],
        "slurm_signal_delay_s": min(90, 15 * settings["timeout_min"]),
        "slurm_setup": [f"export {' '.join(map('='.join, bound(cores).items()))}", *settings["setup"]],
        "slurm_srun_args": [f"--cpus-per-task={cores}"],  # Slurm since 22.05 does not take it from sbatch
        "slurm_additional_parameters": more,
    }
