"""Several jobs at once on one machine: the same records, and what becomes of the others when one dies."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from conftest import TIMES

from hydra_plugins.freeze_sweep import local
from hydra_plugins.freeze_sweep.local import LocalLauncher
from sweep.cli.collect import warm_first
from sweep.cli.job import Job
from sweep.cli.pool import Pool
from sweep.config import Config
from sweep.plan.point import Point, plan
from sweep.report import record
from sweep.runs.job import Outcome, run_point
from sweep.runs.session import Session
from sweep.runs.tick import Tick

pytestmark = pytest.mark.slow  # a worker imports torch

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
GRID = ["-m", "data=textures", "data.per_class=3", "epochs=1", "pretrained=false", "seeds=2", "hydra/launcher=local"]


@pytest.fixture
def points(tiny: Callable[..., Config]) -> list[Point]:
    return [plan(tiny(freeze_depth=depth, pretrained=False, seeds=1, data_per_class=3)) for depth in (5, 4, 3)]


def members(root: Path, point: Point) -> list[dict[str, object]]:
    found = record.read_members(record.job_folder(root, point.job), 0) or []
    return [{key: value for key, value in asdict(each).items() if key not in (*TIMES, "curves")} for each in found]


class Watched(Job):
    """Keeps what came of the points; does something before each."""

    def __init__(self, root: Path, points: list[Point], before: Callable[[Point], None] = lambda point: None) -> None:
        super().__init__(root, {(point.job,): point for point in points}, {})
        self.outcomes: dict[str, Outcome | None] = {}
        self.heard: list[Tick] = []
        self.before = before

    def begin(self, point: Point) -> bool:
        self.before(point)
        return super().begin(point)

    def hear(self, tick: Tick) -> None:
        self.heard.append(tick)

    def end(self, point: Point, outcome: Outcome | None) -> None:
        self.outcomes[point.job] = outcome

    def errors(self) -> list[str | None]:
        """Return, by point, why it has no result."""
        found = [self.outcomes[job] for job in self.jobs]
        return [outcome.error if outcome else "not started" for outcome in found]


def test_records_are_those_of_one_process(points: list[Point], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Watched(tmp_path / "pool", points)
    Pool([ONE_THREAD] * 2).run(points, job)
    assert job.errors() == [None] * 3
    assert {tick.job for tick in job.heard} == {point.job for point in points}, "each tells of its epochs"
    monkeypatch.setattr("sweep.runs.machine.FROM_START", 1)  # threads, as the workers have
    session = Session()
    for point in points:
        run_point(point, tmp_path / "alone", session)
        assert members(tmp_path / "pool", point) == members(tmp_path / "alone", point) != []


def test_a_worker_that_dies_takes_one_point_with_it(points: list[Point], tmp_path: Path) -> None:
    pool = Pool([ONE_THREAD])
    (worker,) = pool.workers

    def kill_before_the_second(point: Point) -> None:
        if point is points[1]:
            assert worker.running
            worker.running.process.kill()
            worker.running.process.join()

    job = Watched(tmp_path, points, kill_before_the_second)
    pool.run(points, job)
    first, error, third = job.errors()
    assert (first, third) == (None, None)
    assert error == record.read_failure(record.job_folder(tmp_path, points[1].job))
    assert error
    assert "SIGKILL" in error
    again = Watched(tmp_path, points[1:2])
    Pool([ONE_THREAD]).run(points[1:2], again)
    assert again.errors() == [None], "a rerun completes it"


def test_one_of_every_network_starts_first(tiny: Callable[..., Config]) -> None:
    asked = [(True, 0), (True, 2), (True, 4), (False, 4), (False, 5)]
    points = [plan(tiny(pretrained=pretrained, freeze_depth=depth)) for pretrained, depth in asked]
    order = [(point.config.pretrained, point.config.freeze_depth) for point in warm_first(points)]
    assert order == [(True, 0), (True, 2), (False, 4), (True, 4), (False, 5)]


def test_an_interrupt_leaves_no_worker_behind(points: list[Point], tmp_path: Path) -> None:
    pool = Pool([ONE_THREAD] * 2)
    seen = []

    def interrupt(point: Point) -> None:
        seen.append(point)
        if len(seen) == 3:  # two are at work
            raise KeyboardInterrupt

    processes = []
    with pytest.raises(KeyboardInterrupt):
        pool.run(points, Watched(tmp_path, points, interrupt))
    processes = [worker.running.process for worker in pool.workers if worker.running]
    assert len(processes) == 2
    assert not any(process.is_alive() for process in processes)


def test_an_interrupt_lets_each_worker_keep_what_it_has_trained(tiny: Callable[..., Config], tmp_path: Path) -> None:
    changes = {"freeze_depth": 4, "pretrained": False, "seeds": 1, "data_per_class": 3, "epochs": 10**5}
    points = [plan(tiny(data_name=name, **changes)) for name in ("textures", "glyphs_digits")]
    heard: dict[str, int] = {}

    class Impatient(Watched):
        def hear(self, tick: Tick) -> None:
            heard[tick.job] = max(heard.get(tick.job, 0), tick.epoch)
            if len(heard) == 2 and min(heard.values()) >= 2:
                for worker in pool.workers:
                    assert worker.running
                    worker.running.process.terminate()  # as one that reaches all processes does, before the pool's own
                raise KeyboardInterrupt

    pool = Pool([ONE_THREAD] * 2)
    with pytest.raises(KeyboardInterrupt):
        pool.run(points, Impatient(tmp_path, points))
    assert [worker.running and worker.running.process.exitcode for worker in pool.workers] == [-signal.SIGTERM] * 2
    for point in points:  # long before checkpoint.minutes are over
        (kept,) = record.job_folder(tmp_path, point.job).glob("checkpoint.*.pt")
        (training,) = torch.load(kept, weights_only=True)["trainings"].values()
        assert len(training["curves"]["train_loss"]) >= heard[point.job]


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sweep", *GRID, "freeze_depth=0,1", "epochs=500", "hydra.launcher.n_jobs=2"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        children = wait_for(lambda: workers(process.pid))
        wait_for(lambda: list((tmp_path / "outputs").rglob("config.yaml")))
        process.kill()
    wait_for(lambda: not any(Path(f"/proc/{child}/stat").exists() for child in children))


def workers(parent: int) -> list[int]:
    """Return the process numbers of both workers, once they are there."""
    children = Path(f"/proc/{parent}/task/{parent}/children")
    found = [int(child) for child in children.read_text().split()] if children.exists() else []
    spawned = [child for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return spawned if len(spawned) == 2 else []


def wait_for(condition: Callable[[], object], seconds: float = 60) -> list[int]:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)
    return found if isinstance(found, list) else []


@pytest.mark.parametrize("launcher", ["local", "basic"])
def test_after_a_failure_none_starts_if_asked(launcher: str, sweep: Callable[..., object], tmp_path: Path) -> None:
    grid = [*GRID[:-1], f"hydra/launcher={launcher}", "freeze_depth=4,3,2", "optimizer.lr=1e30"]
    grid += ["hydra.launcher.n_jobs=1"] * (launcher == "local")
    jobs = tmp_path / "outputs" / "sweep" / "jobs"
    done = sweep(*grid, "on_error=stop")
    assert done.returncode == 1  # type: ignore[attr-defined]
    assert done.stdout.count("FAILED") == 1  # type: ignore[attr-defined]
    assert len(list(jobs.glob("*/failure.json"))) == 1
    done = sweep(*grid)
    assert done.stdout.count("FAILED") == 3, "on_error=continue is the default"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("settings", "points", "gpus", "expected"),
    [
        ((2, 1, None), 9, [], [("2", None)] * 2),
        ((None, 1, None), 9, [], [("1", None)] * 4),
        ((None, 1, None), 1, [], [("4", None)]),
        ((8, 1, None), 9, [], [("1", None)] * 8),
        ((8, 1, 3), 2, [], [("3", None)] * 2),
        ((None, 1, None), 9, ["0", "1"], [("2", "0"), ("2", "1")]),
        ((None, 2, None), 9, ["3", "GPU-a"], [("1", "3"), ("1", "GPU-a")] * 2),
        ((3, 1, None), 9, ["0", "1"], [("1", "0"), ("1", "1"), ("1", "0")]),
    ],
)
def test_cores_and_gpus_are_shared_out(
    settings: tuple[int | None, int, int | None],
    points: int,
    gpus: list[str],
    expected: list[tuple[str, str | None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "usable", lambda: 4)
    found = LocalLauncher(*settings).environments(points, gpus)
    assert [(each["OMP_NUM_THREADS"], each.get("CUDA_VISIBLE_DEVICES")) for each in found] == expected


@pytest.mark.parametrize("name", ["n_jobs", "jobs_per_gpu", "threads"])
@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_wrong_settings_are_one_line(name: str, value: str, sweep: Callable[..., object], tmp_path: Path) -> None:
    done = sweep(*GRID, "freeze_depth=5,4", f"hydra.launcher.{name}={value}")
    assert done.returncode == 2  # type: ignore[attr-defined]
    assert done.stderr.startswith(f"error: hydra.launcher.{name}")  # type: ignore[attr-defined]
    assert done.stderr.count("\n") == 1  # type: ignore[attr-defined]
    assert not list(tmp_path.rglob("seed-*.json"))
