"""Slurm, played by small programs: what is asked of it, and what becomes of jobs that die or are preempted."""

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from conftest import TIMES, Done, wait_for

from hydra_plugins.freeze_sweep import slurm
from sweep import interrupt
from sweep.cli.collect import Task

pytest.importorskip("submitit")

GRID = ["-m", "hydra/launcher=slurm", "data=textures", "data.per_class=3", "epochs=1", "pretrained=false", "seeds=1"]
Sweep = Callable[..., Done]

# $QUEUE has an empty file for every job that is not over; jobs run one after another. $DIES is the one that is lost.
PROGRAMS = {
    "sbatch": """
        case $(cat "$1") in *nowhere*) echo "sbatch: error: invalid partition specified: nowhere" >&2; exit 1;; esac
        last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1")
        for i in $(seq 0 $last); do touch "$QUEUE/7_$i"; done
        for i in $(seq 0 $last); do
          [ -e "$QUEUE/7_$i" ] || continue
          SLURM_JOB_ID=8$i SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$i SLURM_NTASKS=1 bash "$1"
          rm -f "$QUEUE/7_$i"
          for _ in $(seq ${PAUSE:-0}); do [ -e "$QUEUE.cancelled" ] || sleep 0.1; done
        done >"$QUEUE.log" 2>&1 &
        echo "Submitted batch job 7"
    """,
    "srun": """
        while [[ $1 == --* ]]; do
          if [ $1 = --output ] || [ $1 = --error ]; then
            log=${2/\\%A/7} log=${log/\\%a/$SLURM_ARRAY_TASK_ID}
            touch "${log/\\%t/0}"
            shift
          fi
          shift
        done
        [ "$SLURM_ARRAY_TASK_ID" = "$DIES" ] || exec "$@"
        exit 1
    """,
    "squeue": 'ls "$QUEUE"',
    "scancel": 'rm -f "$QUEUE"/*; echo "$@" >>"$QUEUE.cancelled"',  # in this order: then no job that waits may begin
    "sacct": "echo 'JobID|State|NodeList'; echo '7_0|NODE_FAIL|n1'; echo '7_1|OUT_OF_MEMORY|n1'",
}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the programs first on the path; return the folder of the queue."""
    programs, queue = tmp_path / "bin", tmp_path / "queue"
    programs.mkdir()
    queue.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("QUEUE", str(queue))
    monkeypatch.setattr(slurm, "POLL", 0.1)
    monkeypatch.setattr(slurm, "ASK", 0.2)
    return queue


@pytest.mark.slow
def test_a_lost_job_is_a_failure_and_the_others_go_on(
    cluster: Path, sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIES", "1")
    asked = ["timeout_min=7", "mem_gb=1.5", "cpus_per_task=2", "gpus_per_node=1", "partition=fast"]
    asked += ["array_parallelism=5", "retries=0", "setup=['export A=b']", "additional_parameters={account: me}"]
    done = sweep(*GRID, "freeze_depth=5,4", *(f"hydra.launcher.{each}" for each in asked))
    assert done.returncode == 1, done.stderr
    assert "[1/2] textures, random, 5/5 frozen  " in done.stdout
    assert "[2/2] textures, random, 4/5 frozen  FAILED: Slurm job 7_1 ended without a result (OUT_OF_MEMORY)" in (
        done.stdout
    )
    assert "missing" in done.stdout
    (script,) = tmp_path.rglob("*submission.sh")
    lines = script.read_text().splitlines()
    flags = ["time=7", "mem=1536MB", "cpus-per-task=2", "gpus-per-node=1", "partition=fast", "array=0-1%2"]
    flags += ["no-requeue", "account=me"]
    assert {f"#SBATCH --{flag}" for flag in flags} <= set(lines)
    assert {"export OMP_NUM_THREADS=2 MKL_NUM_THREADS=2", "export A=b"} <= set(lines)
    left = sorted(path.name for path in script.parent.glob("7_1*"))
    assert not [*script.parent.glob("7_0*")]
    assert left == ["7_1_0_log.err", "7_1_0_log.out", "7_1_submitted.pkl"]


@pytest.mark.slow
def test_the_epochs_of_a_point_are_seen(cluster: Path, sweep: Sweep, tmp_path: Path) -> None:
    done = sweep(*GRID, "freeze_depth=5,4", "epochs=60", "optimizer.lr=0.001", "log_level=debug")
    assert done.returncode == 0, done.stderr
    assert re.search(r"seed 0, lr 0.001, epoch \d+/60, ", (tmp_path / "outputs/sweep/sweep.log").read_text())
    assert list((tmp_path / "outputs/sweep/jobs").glob("*/ticks.jsonl")) == []


def test_after_a_failure_those_that_wait_are_cancelled_if_asked(
    cluster: Path, sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIES", "0")
    monkeypatch.setenv("PAUSE", "200")  # tenths of a second that Slurm leaves between jobs, until some are cancelled
    done = sweep(*GRID, "freeze_depth=5", "on_error=stop", "seeds=[0]", "epochs=1,2,3")
    assert done.returncode == 1
    assert done.stdout.count("FAILED: ") == 1
    assert cluster.with_name("queue.cancelled").read_text().startswith("--state=PENDING --name=sweep-")
    started = sorted(path.name for path in tmp_path.rglob("*_log.out"))
    assert started == ["7_0_0_log.out"], "no other has begun"


def test_what_slurm_refuses_is_one_line(cluster: Path, sweep: Sweep) -> None:
    done = sweep(*GRID, "freeze_depth=5,4", "hydra.launcher.partition=nowhere")
    assert done.returncode == 2
    refused = "error: hydra/launcher=slurm: sbatch refuses the jobs: invalid partition specified: nowhere\n"
    assert done.stderr.endswith(refused)
    assert "Traceback" not in done.stderr


def test_too_few_gpus_are_one_line_before_anything_is_queued(cluster: Path, sweep: Sweep) -> None:
    done = sweep(*GRID, "freeze_depth=5", "devices=2", "hydra.launcher.gpus_per_node=1")
    assert done.returncode == 2
    said = "hydra.launcher.gpus_per_node=1: device=auto with devices=2 takes 2 for each job"
    assert done.stderr.endswith(f"error: {said}\n")
    assert not [*cluster.iterdir()]


def test_an_interrupt_cancels_its_own_jobs(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = slurm.SlurmLauncher(gpus_per_node=0)
    config = SimpleNamespace(device="auto", devices=1)
    point = SimpleNamespace(job="a", facts=SimpleNamespace(network=(), prefix=0), config=config)
    own = {"points": {("a",): point}, "begin": lambda self, point: True, "hear": None, "root": cluster}
    launcher.job = type("Job", (), own)()
    (cluster / "7_0").touch()

    def submit(points: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launcher, "_submit", submit)
    with pytest.raises(KeyboardInterrupt):
        launcher.launch([("a",)], 0)
    assert cluster.with_name("queue.cancelled").read_text() == f"--name={launcher.name}\n"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("timeout_min=0", "use a whole number of at least 1"),
        ("cpus_per_task=-1", "use a whole number of at least 1"),
        ("array_parallelism=0", "use a whole number of at least 1"),
        ("retries=-1", "use a whole number of at least 0"),
        ("mem_gb=0", "use a number of gigabytes above 0"),
        ("mem_gb=much", "use a value of type float"),
        ("timeout_min=1.5", "use a value of type int"),
        ("minutes=3", "no such setting"),
        ("additional_parameters=account", "use names and values, such as {account: me}"),
        ("additional_parameters={job_name: mine}", "the launcher sets this itself; leave it out"),
    ],
)
def test_wrong_settings_are_one_line(cluster: Path, sweep: Sweep, tmp_path: Path, setting: str, said: str) -> None:
    done = sweep(*GRID, "freeze_depth=5,4", f"hydra.launcher.{setting}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: hydra.launcher.{setting.partition('=')[0]}")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


def test_without_slurm_one_line_says_so(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = sweep(*GRID, "freeze_depth=5,4")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: hydra/launcher=slurm: no sbatch here")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """Return what a job asks of Slurm; signals end with the test."""
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **options: commands.append(command))
    for name, value in {"JOB_ID": "7", "ARRAY_JOB_ID": "7", "ARRAY_TASK_ID": "3"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)}
    yield commands
    with suppress(SystemExit), interrupt.command():  # forgets the signal
        pass
    for number, handler in before.items():
        signal.signal(number, handler)


def attempt(monkeypatch: pytest.MonkeyPatch, number: int) -> Any:
    def train(task: Task) -> None:
        os.kill(os.getpid(), number)
        interrupt.check()

    monkeypatch.setattr(slurm, "train_elsewhere", train)
    return slurm.Attempt(retries=2)


def test_a_preempted_job_queues_itself_again(asked: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with pytest.raises(SystemExit):
        attempt(monkeypatch, signal.SIGUSR2)(None)
    assert asked == [["scontrol", "requeue", "7_3"]], "not the whole array"


def test_but_not_for_ever(asked: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    with pytest.raises(TimeoutError, match="out of time or preempted, 3 times; use a longer timeout_min"):
        attempt(monkeypatch, signal.SIGUSR2)(None)
    assert asked == []


def test_a_cancelled_job_ends_and_asks_nothing(asked: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        attempt(monkeypatch, signal.SIGTERM)(None)
    assert asked == []


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start a real Slurm on this machine, of two nodes, and stop it."""
    scripts = Path(os.environ.get("SWEEP_SHARED", "/nowhere")) / "slurm"
    if not (scripts / "start").exists():
        pytest.skip("$SWEEP_SHARED/slurm starts a Slurm cluster, where it is there")
    monkeypatch.setenv("SLURM_CONF", "/tmp/slurm-local/slurm.conf")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    if subprocess.run([scripts / "start"], check=False, capture_output=True).returncode:
        pytest.skip("Slurm cannot be started on this machine")
    yield
    subprocess.run([scripts / "stop"], check=True, capture_output=True)


def queue(state: str = "all") -> list[str]:
    """Return the numbers of our jobs in Slurm's queue."""
    ask = ["squeue", "-h", "-r", "-o", "%i %j", *(["-t", state] if state != "all" else [])]
    lines = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.split()[0] for line in lines if " sweep-" in line]


@pytest.mark.campaign
def test_a_real_cluster(standin_source: None, real: None, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sweep", "-m", "data=digits", "data.per_class=5", "seeds=1"]
    grid = [*command, "epochs=1", "pretrained=true", "freeze_depth=0,4"]
    tables = []
    for launcher in ("slurm", "basic"):
        (tmp_path / launcher).mkdir()
        subprocess.run([*grid, f"hydra/launcher={launcher}"], cwd=tmp_path / launcher, check=True)
        tables.append(pd.read_csv(tmp_path / launcher / "outputs/sweep/table.csv").drop(columns=TIMES).to_csv())
    assert tables[0] == tables[1]

    long = [*command, "name=long", "hydra/launcher=slurm", "pretrained=false", "freeze_depth=3,2", "epochs=150"]
    log = tmp_path / "outputs/long/slurm"
    with subprocess.Popen(long, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        first, second = wait_for(lambda: len(found := sorted(queue("R"))) == 2 and found)
        wait_for(lambda: len([*tmp_path.glob("outputs/long/jobs/*/config.yaml")]) == 2)
        subprocess.run(["scancel", first], check=True)
        subprocess.run(["scancel", "--signal=USR2", second], check=True)
        output = process.communicate()[0]
    assert process.returncode == 1
    assert output.count("FAILED") == 1
    assert f"FAILED: Slurm job {first} ended without a result (CANCELLED" in output
    assert "3/5 frozen" in output[: output.index("FAILED")].splitlines()[-1]
    assert len([*tmp_path.glob("outputs/long/jobs/*/seed-0.json")]) == 1, "it was queued again"
    assert [*log.glob(f"{first}_*")]
    done = subprocess.run(long, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "2 points, 1 to train" in done.stdout

    endless = [*command, "name=endless", "hydra/launcher=slurm", "pretrained=false", "freeze_depth=0..5", "epochs=9999"]
    with subprocess.Popen(endless, cwd=tmp_path, stdout=subprocess.DEVNULL, text=True) as process:
        wait_for(lambda: queue("R"))
        other = ["sbatch", "--parsable", "--hold", "--job-name=sweep-other", "--wrap=true"]
        subprocess.run(other, check=True, capture_output=True, cwd=tmp_path)
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    assert len(queue()) == 1, "the job of another"


@pytest.mark.marathon
def test_two_hundred_jobs(standin_source: None, real: None, tmp_path: Path) -> None:
    rates = ",".join(f"{1 + number / 200:.3f}e-3" for number in range(200))
    settings = ["data=digits", "data.per_class=5", "seeds=1", "epochs=1", "pretrained=true", "freeze_depth=5"]
    command, launchers = [sys.executable, "-m", "sweep", "-m", *settings, f"optimizer.lr={rates}"], ("slurm", "basic")
    for name in launchers:
        subprocess.run([*command, f"hydra/launcher={name}", f"name={name}"], cwd=tmp_path, check=True)
    tables = [pd.read_csv(tmp_path / f"outputs/{name}/table.csv") for name in launchers]
    ours, alone = (table.drop(columns=[*TIMES, "name", "git_commit"]) for table in tables)
    assert len(ours) == 200
    pd.testing.assert_frame_equal(ours, alone)
    assert not queue()
