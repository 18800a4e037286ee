"""Ray: a local one and a cluster of two nodes, for real; what becomes of jobs whose worker, node or head dies."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import TIMES, Done, wait_for

from hydra_plugins.freeze_sweep.ray import connected
from sweep import interrupt

pytest.importorskip("ray")

GRID = ["-m", "hydra/launcher=ray", "data=textures", "data.per_class=3", "epochs=1", "pretrained=false", "seeds=1"]
PORT = 6399
OTHER = """
import ray, time
@ray.remote(num_cpus=0)
def other():
    time.sleep(600)
ray.init("auto")
ray.get(other.remote())
"""


class Space:
    """Processes with a network and process numbers of their own: nothing listens outside, and nothing can stay."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "c" * 64, "OMP_NUM_THREADS": "1"}
        # Workers as any other process: on a busy machine Ray's own, of niceness 15, would hardly go on.
        self.environment |= {"RAY_worker_niceness": "0", "RAY_raylet_start_wait_time_s": "120"}
        first = "ip link set lo up; echo up; while :; do sleep 1; done"
        alone = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", first]
        self.holder = subprocess.Popen(alone, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.holder.stdout
        self.works = self.holder.stdout.readline() == "up\n"

    def start(self, *command: str | Path) -> subprocess.Popen[str]:
        children = Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text().split()
        enter = ["nsenter", "--target", children[0], "--net", "--pid", "--mount", f"--wd={self.folder}"]
        options: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": self.environment}
        return subprocess.Popen([*enter, *command], **options)

    def run(self, *command: str | Path) -> tuple[int, str]:
        with self.start(*command) as process:
            output = process.communicate(timeout=500)[0]
        return process.returncode, output

    def sweep(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "sweep", *arguments]

    def processes(self, pattern: str) -> list[str]:
        """Return the numbers, inside, of the processes with this pattern in their command line."""
        lines = self.run("ps", "-eo", "pid,stat,args", "-ww")[1].splitlines()[1:]
        found = [line.split(maxsplit=2) for line in lines]
        return [pid for pid, state, line in found if pattern in line and state[0] != "Z"]

    def close(self) -> None:
        self.holder.kill()  # and with it, the first process inside, whose end is that of all others
        self.holder.communicate()


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Space]:
    made = Space(tmp_path)
    try:
        if not made.works:
            pytest.skip("a network of its own needs root and unshare")
        yield made
    finally:
        made.close()


def table(folder: Path, name: str = "sweep") -> str:
    return str(pd.read_csv(folder / "outputs" / name / "table.csv").drop(columns=[*TIMES, "name"]).to_csv())


@pytest.mark.slow
def test_the_records_are_those_of_one_process(space: Space, sweep: Callable[..., Done], tmp_path: Path) -> None:
    grid = [*GRID, "freeze_depth=4,3", "optimizer.lr=0.001,1e30"]
    returncode, output = space.run(*space.sweep(*grid))
    assert returncode == 1, output
    assert output.count("FAILED: diverged") == 2
    assert output.count("frozen, optimizer.lr=[0.001]  ") == 2
    assert not space.processes("ray")
    sweep(*[each for each in grid if "launcher" not in each], "name=alone", "threads=1")
    assert table(tmp_path) == table(tmp_path, "alone")


class Cluster:
    """Two nodes of a core each."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.begin()

    def begin(self) -> None:
        self.node("--head", f"--port={PORT}", "--include-dashboard=false")
        self.node(f"--address=127.0.0.1:{PORT}")

    def node(self, *options: str) -> None:
        program = Path(sys.executable).with_name("ray")
        own = ["--num-cpus=1", "--node-ip-address=127.0.0.1", "--object-store-memory=80000000"]
        returncode, output = self.space.run(program, "start", *own, *options)
        assert returncode == 0, output

    def kill(self, pattern: str) -> None:
        """Kill the newest process of this pattern."""
        self.space.run("kill", "-9", self.space.processes(pattern)[-1])


@pytest.fixture
def cluster(space: Space) -> Cluster:
    return Cluster(space)


def begun(folder: Path, name: str, count: int) -> bool:
    return len([*folder.glob(f"outputs/{name}/jobs/*/config.yaml")]) >= count


@pytest.mark.marathon
def test_a_real_cluster(standin_source: None, cluster: Cluster, tmp_path: Path) -> None:
    space = cluster.space
    digits = ["-m", "data=digits", "data.per_class=5", "seeds=1"]
    grid = [*digits, "epochs=1", "pretrained=true", "freeze_depth=0,4"]
    there = ["hydra/launcher=ray", f"hydra.launcher.address=127.0.0.1:{PORT}"]
    for name, more in (("ray", there), ("basic", ["hydra/launcher=basic"])):
        returncode, output = space.run(*space.sweep(*grid, f"name={name}", *more))
        assert returncode == 0, output
    assert table(tmp_path, "ray") == table(tmp_path, "basic")

    # A killed worker fails its point if it may not start again, and else its job does.
    for retries, lost in ((0, 1), (3, 0)):
        name = f"retries{retries}"
        long = [*digits, f"name={name}", "pretrained=false", "freeze_depth=3,2", "epochs=40", *there]
        with space.start(*space.sweep(*long, f"hydra.launcher.retries={retries}")) as process:
            wait_for(partial(begun, tmp_path, name, 2))
            cluster.kill("ray::train_elsewhere")
            output = process.communicate()[0]
        assert process.returncode == lost, output
        assert output.count("FAILED: its Ray worker was lost") == lost
    returncode, output = space.run(*space.sweep(*[each.replace("retries3", "retries0") for each in long]))
    assert returncode == 0, output
    assert "2 points, 1 to train" in output
    assert table(tmp_path, "retries0") == table(tmp_path, "retries3")

    # The job of a node that dies moves to the other.
    long = [each.replace("retries3", "node") for each in long]
    with space.start(*space.sweep(*long)) as process:
        wait_for(lambda: begun(tmp_path, "node", 2))
        cluster.kill("raylet/raylet")
        output = process.communicate()[0]
    assert process.returncode == 0, output
    assert table(tmp_path, "node") == table(tmp_path, "retries3")
    cluster.node(f"--address=127.0.0.1:{PORT}")

    # Ctrl-C ends the jobs of this sweep, not the cluster's others.
    endless = [*digits, "name=endless", "pretrained=false", "freeze_depth=0..5", "epochs=9999", *there]
    with space.start(sys.executable, "-c", OTHER) as theirs, space.start(*space.sweep(*endless)) as process:
        wait_for(lambda: space.processes("ray::other"))
        wait_for(lambda: begun(tmp_path, "endless", 2))
        space.run("kill", "-INT", space.processes("name=endless")[-1])
        output = process.communicate()[0]
        assert process.returncode == 130, output
        wait_for(lambda: not space.processes("ray::train_elsewhere"), 20)
        assert space.processes("ray::other"), "the task of another"
        space.run("kill", "-9", space.processes("ray.get(other")[-1])
        theirs.wait()

    # Without its head the cluster is of no use: what ran is lost, and a rerun on a new one completes the sweep.
    long = [each.replace("node", "head") for each in long]
    with space.start(*space.sweep(*long)) as process:
        wait_for(lambda: begun(tmp_path, "head", 2))
        space.run("kill", "-STOP", *space.processes("ray::train_elsewhere"))  # else they may still be done in time
        cluster.kill("gcs/gcs_server")
        output = process.communicate()[0]
    assert process.returncode == 1, output
    assert output.count("FAILED: the head of the Ray cluster does not answer; the same command trains it again") == 2
    space.run(Path(sys.executable).with_name("ray"), "stop", "--force")
    cluster.begin()
    returncode, output = space.run(*space.sweep(*long))
    assert returncode == 0, output
    assert table(tmp_path, "head") == table(tmp_path, "retries3")


@pytest.mark.marathon
def test_two_hundred_jobs(cluster: Cluster, tmp_path: Path) -> None:
    rates = ",".join(f"{1 + number / 200:.3f}e-3" for number in range(200))
    there = [f"hydra.launcher.address=127.0.0.1:{PORT}", "freeze_depth=5", f"optimizer.lr={rates}"]
    returncode, output = cluster.space.run(*cluster.space.sweep(*GRID, *there))
    assert returncode == 0, output
    assert len(pd.read_csv(tmp_path / "outputs/sweep/table.csv")) == 200


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("num_cpus=0", "use a whole number of at least 1"),
        ("num_cpus=1.5", "use a value of type int"),
        ("num_gpus=1.5", "use a part of 1, such as 0.25, or a whole number"),
        ("num_gpus=-1", "use a part of 1, such as 0.25, or a whole number"),
        ("num_gpus=nan", "use a part of 1, such as 0.25, or a whole number"),
        ("memory_gb=0", "use a number of gigabytes above 0"),
        ("memory_gb=inf", "use a number of gigabytes above 0"),
        ("n_jobs=0", "use a whole number of at least 1"),
        ("retries=-1", "use a whole number of at least 0"),
        ("address=head", "use auto, or host:port of the cluster's head"),
        ("address=ray://head:10001", "use auto, or host:port of the cluster's head"),
        ("options=fast", "use names and values, such as {resources: {fast: 1}}"),
        ("options={num_cpus: 2}", "the launcher sets this itself; leave it out"),
        ("minutes=3", "no such setting"),
    ],
)
def test_wrong_settings_are_one_line(sweep: Callable[..., Done], tmp_path: Path, setting: str, said: str) -> None:
    done = sweep(*GRID, "freeze_depth=5,4", f"hydra.launcher.{setting}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: hydra.launcher.{setting.partition('=')[0]}")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


def test_a_cluster_that_is_not_there_is_one_line(sweep: Callable[..., Done]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = sweep(*GRID, "freeze_depth=5,4", f"hydra.launcher.address={address}")
    assert done.returncode == 2
    assert done.stderr.endswith(f"error: hydra.launcher.address={address}: nothing answers there\n")


def test_a_signal_while_ray_starts_waits_until_all_of_it_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray  # noqa: PLC0415

    done = []

    def init(**given: object) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))  # as Ray does
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("started")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: done.append("ended"))
    real = signal.signal
    with interrupt.caught(), pytest.raises(KeyboardInterrupt), connected(None):
        raise AssertionError("it was to stop")
    assert done == ["started", "ended"]
    assert signal.signal is real
