"""Ctrl-C and SIGTERM, wherever they come: one line, the right exit code, nothing half done, and soon."""

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Done

from sweep import interrupt
from sweep.models.frozen import Network
from sweep.paths import locked
from sweep.report import record
from sweep.runs import feature_cache
from sweep.train import loop
from sweep.train.examples import Examples

pytestmark = pytest.mark.slow

SMALL = [
    *("data=textures", "data.per_class=4", "epochs=1", "seeds=1", "optimizer.lr=0.001", "pretrained=false"),
    "freeze_depth=2,5",
]
ENDS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
Sweep = Callable[..., Done]


def send_before(number: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as it is, but for a signal that comes when it is called for the first time."""
    sent = False

    def wrapped(*arguments: Any, **options: Any) -> Any:
        nonlocal sent
        if not sent:
            sent = True
            os.kill(os.getpid(), number)
        return real(*arguments, **options)

    return wrapped


PLACES = [
    "sweep.cli.compose.plan",
    "sweep.data.task.load",
    "sweep.runs.members.fit",
    "sweep.train.loop.evaluate",
    "sweep.runs.measure.encode",
    "sweep.report.record.write_members",
    "sweep.report.render.build",
]


@pytest.mark.parametrize("number", ENDS)
@pytest.mark.parametrize("place", PLACES)
def test_a_signal_anywhere_ends_the_sweep_in_one_line(
    standin_source: None, sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, number: int
) -> None:
    module, _, name = place.rpartition(".")
    monkeypatch.setattr(place, send_before(number, vars(importlib.import_module(module))[name]))
    handlers = [signal.getsignal(each) for each in ENDS]
    done = sweep("-m", *SMALL, "pretrained=true" if place.endswith("encode") else "pretrained=false")
    code, verb = ENDS[signal.Signals(number)]
    assert done.returncode == code
    assert done.stderr.count(f"\n{verb}: what is finished is kept; the same command goes on from there\n") == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(tmp_path.glob("outputs/sweep/jobs/*/failure.json"))
    assert [signal.getsignal(each) for each in ENDS] == handlers


def test_what_was_finished_is_reported_and_the_rest_goes_on(
    standin_source: None, sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        real = record.write_members
        patch.setattr("sweep.report.record.write_members", send_before(signal.SIGINT, real))
        done = sweep("-m", *SMALL)
    assert done.returncode == 130
    assert done.stdout.index("[1/2] textures") < done.stdout.index("task ")
    assert pd.read_csv(tmp_path / "outputs" / "sweep" / "table.csv")["test_accuracy"].notna().sum() == 1
    rest = sweep("-m", *SMALL)
    assert rest.returncode == 0
    assert "2 points, 1 to train" in rest.stdout


def test_a_point_that_was_stopped_has_not_diverged(
    standin_source: None, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("sweep.runs.members.fit", send_before(signal.SIGTERM, loop.fit))
        done = sweep(*SMALL[:-1], "freeze_depth=2")
    assert done.returncode == 143
    assert "not trained yet: seed " in done.stderr
    assert "diverged" not in done.stderr


@pytest.mark.parametrize("kind", ["batch", "block"])
def test_it_takes_effect_within_one_batch_and_one_block(
    standin_source: None, sweep: Sweep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    """Count how often the network is used after the signal."""
    after: list[int] = []
    batches, steps = Examples.batches, Network.steps

    def watched(real: Callable[..., Any], at: int) -> Callable[..., Any]:
        def generator(*arguments: Any, **options: Any) -> Any:
            for number, each in enumerate(real(*arguments, **options)):
                if after or number == at:
                    after.append(number)
                    if len(after) == 1:
                        os.kill(os.getpid(), signal.SIGINT)
                yield each

        return generator

    if kind == "batch":
        monkeypatch.setattr(Examples, "batches", watched(batches, at=1))
        done = sweep("-m", *SMALL[:-1], "freeze_depth=0", "batch_size=5")
    else:
        monkeypatch.setattr(Network, "steps", watched(steps, at=1))
        monkeypatch.setattr(feature_cache, "BATCH", 7)
        done = sweep("-m", *SMALL[:-1], "freeze_depth=4", "data.seed=77")
    assert done.returncode == 130
    assert len(after) == 1, "nothing more was computed than what was under way"


def test_a_library_that_swallows_it_cannot_keep_it(
    standin_source: None, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some libraries turn the exception into another error, or drop it: the next check raises it again."""

    def swallowing(*arguments: Any, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        with suppress(KeyboardInterrupt):
            interrupt.check()

    def turning(*arguments: Any, **options: Any) -> None:
        try:
            swallowing()
            interrupt.check()
        except KeyboardInterrupt:
            raise AttributeError("of a broken finally") from None

    for fault in (swallowing, turning):
        monkeypatch.setattr("sweep.runs.job.fetch_images", fault)
        done = sweep("-m", *SMALL, f"name={fault.__name__}")
        assert done.returncode == 130, done.stderr
        assert "Error" not in done.stderr


def test_while_waiting_it_takes_effect_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    reached = []

    def wait() -> None:
        with interrupt.command(), interrupt.waiting():
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append("never")

    with pytest.raises(SystemExit) as stopped:
        wait()
    assert (stopped.value.code, reached) == (143, [])
    assert "terminated" in capfd.readouterr().err


def test_a_lock_that_another_holds_is_waited_for_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.paths.interrupt.check", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    holder = (
        f"from filelock import FileLock\nwith FileLock({str(tmp_path / 'lock')!r}):\n    print(flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(KeyboardInterrupt), locked(tmp_path / "lock"):
            pytest.fail("the lock is held")
        process.communicate(b"\n")


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("command", ["sweep", "sweep.advise", "sweep.report", "sweep.models"])
@pytest.mark.parametrize("number", ENDS)
def test_during_imports_there_is_no_traceback(command: str, number: int) -> None:
    """The signal comes with the first import after the handler is there; the imports are finished first."""
    module = {"sweep.report": "sweep.report.__main__", "sweep.models": "sweep.models.__main__"}
    code = f"""
import os, sys
from sweep import interrupt
real = interrupt.install
def install():
    interrupt.install = real
    real()
    os.kill(os.getpid(), {int(number)})
interrupt.install = install
sys.argv = ["x", "outputs/none"]
from {module.get(command, "sweep.__main__" if command == "sweep" else command)} import main
main()
"""
    done = run(code)
    code_, verb = ENDS[signal.Signals(number)]
    assert done.returncode == code_, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.endswith(f"{verb}: what is finished is kept; the same command goes on from there\n")


def test_the_second_stops_at_once() -> None:
    code = """
import os, signal
from sweep import interrupt
with interrupt.command():
    os.kill(os.getpid(), signal.SIGINT)
    print("under way", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    print("never")
"""
    done = run(code)
    assert (done.returncode, done.stdout) == (130, "under way\n")
    assert "once more stops at once" in done.stderr
    assert done.stderr.endswith("interrupted at once: what is finished is kept; the same command goes on from there\n")


def test_where_it_is_ignored_it_stays_ignored() -> None:
    code = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as under nohup
from sweep import interrupt
with interrupt.command():
    os.kill(os.getpid(), signal.SIGINT)
    print("goes on")
"""
    done = run(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "goes on\n", "")
