"""What is seen while points train: bars in a terminal, plain lines elsewhere, a log file of each sweep."""

import dataclasses
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Done

from sweep.cli import log, progress, ticks
from sweep.cli.progress import Progress, watched
from sweep.config import Config, LogLevel
from sweep.plan.point import Point, plan
from sweep.report import record
from sweep.runs.job import Outcome
from sweep.runs.tick import LEAST, Tick, telling
from sweep.train.loop import Curves

Tiny = Callable[..., Config]
Sweep = Callable[..., Done]
GRID = ["-m", "name=x", "data=textures", "data.per_class=3", "epochs=2", "pretrained=false", "seeds=1"]
GRID += ["freeze_depth=5", "optimizer.lr=0.001"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    """Return a function that makes stderr a terminal of 160 columns."""

    def make() -> Terminal:
        made = Terminal()
        monkeypatch.setattr(sys, "stderr", made)
        for name in ("NO_COLOR", "CI"):
            monkeypatch.delenv(name, raising=False)
        for name, value in (("TERM", "xterm"), ("COLUMNS", "160"), ("LINES", "30")):
            monkeypatch.setenv(name, value)
        return made

    return make


@pytest.fixture
def point(tiny: Tiny) -> Point:
    return plan(tiny(freeze_depth=5))


def tick(point: Point, epoch: int, val: float | None = 0.5) -> Tick:
    return Tick(point.job, "seed 0, lr 0.001", 4, 100, 1, epoch, 0.5, 1.25, val, 2_000_000_000)


def test_a_terminal_sees_bars_and_the_epochs_of_a_point(
    terminal: Callable[[], Terminal], point: Point, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = terminal()
    with Progress(2, {point.job: "the point"}) as shown:
        shown.begin(point)
        shown.hear(tick(point, 1, 0.75))
        shown.hear(tick(point, 2))
        row = next(each for each in shown.bars.tasks if each.description == "the point")
        assert row.completed == 0.5
        assert row.fields["said"] == (
            "seed 0, lr 0.001, epoch 2/4, 200 images/s, loss 1.250, validation 50.0 %, best 75.0 %, 2.0 GB"
        )
        assert shown.bars.tasks[0].completed == 0.5, "parts of points move the bar of all"
        shown.bars.refresh()
        assert "epoch 2/4" in screen.getvalue()
        shown.end(point, Outcome(1, 3.0, None, 0.5))
        assert [each.description for each in shown.bars.tasks] == ["all points"]
    assert capsys.readouterr().out == "[1/2] the point    3.0 s  test  50.0 %\n"


def test_a_long_queue_does_not_fill_the_terminal(terminal: Callable[[], Terminal], tiny: Tiny) -> None:
    terminal()
    queue = [plan(tiny(freeze_depth=5, optimizer_lr=0.001 * number)) for number in range(1, progress.MOST + 5)]
    with Progress(len(queue), {point.job: point.job for point in queue}) as shown:
        for point in queue:
            shown.begin(point)
        assert len(shown.bars.tasks) == 1 + progress.MOST
        shown.hear(tick(queue[-1], 1))
        assert shown.bars.tasks[-1].description == queue[-1].job, "one that is heard of has a bar"
        for point in queue:
            shown.end(point, Outcome(1, 3.0, None, 0.5))
        assert len(shown.bars.tasks) == 1


def test_where_there_is_no_validation_none_is_shown(terminal: Callable[[], Terminal], point: Point) -> None:
    terminal()
    with Progress(1, {point.job: "the point"}) as shown:
        shown.begin(point)
        shown.hear(tick(point, 1, None))
        assert "validation" not in shown.bars.tasks[1].fields["said"]


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("CI", "true"), ("TERM", "dumb")])
def test_elsewhere_nobody_watches(
    name: str, value: str, terminal: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal()
    assert watched()
    monkeypatch.setenv(name, value)
    assert not watched()


def test_a_long_point_says_a_line_now_and_then(
    point: Point, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(1, {point.job: "the point"}) as shown:
        shown.begin(point)
        shown.hear(tick(point, 1))
        assert capsys.readouterr() == ("", "")
        monkeypatch.setattr(progress, "PAUSE", -1.0)
        shown.hear(tick(point, 2))
        said = capsys.readouterr()
    assert said.out.startswith("the point: seed 0, lr 0.001, epoch 2/4, 200 images/s")
    assert said.err == ""


def test_the_training_of_a_source_is_seen(terminal: Callable[[], Terminal], capsys: pytest.CaptureFixture[str]) -> None:
    terminal()
    with Progress() as shown:
        begun = Tick("file", "pretraining x on y, once", 2, 100)
        shown.hear(begun)
        shown.hear(Tick("file", begun.what, 2, 100, 1, 1, 1.0, 2.0, 0.5))
        assert [(each.description, each.completed) for each in shown.bars.tasks] == [(begun.what, 0.5)]
        shown.hear(Tick("file", begun.what, 2, 100, 1, 2, 1.0, 2.0, 0.5))
        assert shown.bars.tasks == []
    assert capsys.readouterr().out == "pretraining x on y, once: 2 epochs of 100 images\n"


def test_short_epochs_are_not_all_told_but_the_last_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now, heard, curves = [0.0], list[Tick](), Curves()
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    told = telling(heard.append, Tick("job", "seed 0", 20, 10), lambda: None)
    for epoch in range(20):
        curves.train_loss.append(float(epoch))
        curves.epoch_seconds.append(LEAST / 4)
        now[0] += LEAST / 4
        told(curves)
    assert [each.epoch for each in heard] == [1, 6, 11, 16, 20] or len(heard) == 6
    assert (heard[-1].epoch, heard[-1].loss) == (20, 19.0)


@pytest.mark.slow
def test_redirected_output_is_plain_and_a_log_is_kept(sweep: Sweep, tmp_path: Path) -> None:
    first = sweep(*GRID)
    second = sweep(*GRID, "seeds=2", "log_level=debug")
    third = sweep(*GRID, "seeds=3", "log_level=error")
    assert [each.returncode for each in (first, second, third)] == [0, 0, 0]
    for done in (first, second, third):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", done.stdout + done.stderr), "no control characters"
        assert "report.html has it all" in done.stdout, "the answer is shown at any level"
    assert "[1/1] textures, random, 5/5 frozen" in first.stdout
    assert "epoch" not in first.stdout.partition("task ")[0]
    assert "1 heads at once, epoch 2/2" in second.stdout
    assert "[1/1]" not in third.stdout
    kept = (tmp_path / "outputs/x/sweep.log").read_text()
    assert kept.count(" INFO freeze-sweep ") == kept.count(" INFO ended\n") == 3, "a rerun adds to it"
    assert kept.count("[1/1] textures, random, 5/5 frozen") == 3
    assert kept.count("DEBUG textures, random, 5/5 frozen: ") == second.stdout.count(": 1 heads at once")


def test_a_command_that_fails_before_it_trains_leaves_no_log(tmp_path: Path) -> None:
    def fail(trains: bool) -> None:
        with log.kept(tmp_path, LogLevel.info) as stay:
            log.say("something")
            if trains:
                stay()
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        fail(trains=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="wrong"):
        fail(trains=True)
    assert re.search(r" INFO something\n.* ERROR ended by ValueError: wrong\n$", (tmp_path / log.NAME).read_text())


def test_epochs_of_points_elsewhere_travel_by_a_file(
    point: Point, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Tick] = []
    folder = record.job_folder(tmp_path, point.job)
    folder.mkdir(parents=True)
    (folder / ticks.NAME).write_text("of an earlier run")
    followed = ticks.Followed(tmp_path, heard.append, [point])
    followed.look([point])
    sent = [tick(point, 0, None), tick(point, 1), tick(point, 2), tick(point, 4)]
    with ticks.told(folder) as hear:
        for each in sent[:2]:
            hear(each)
            followed.look([point])
        assert heard == sent[:1], "the second epoch came within a second of the first"
        monkeypatch.setattr(ticks, "LEAST", 0.0)
        hear(sent[1])
        with (folder / ticks.NAME).open("a") as file:
            file.write('{"half')
        followed.look([point])
        assert heard == sent[:2]
        with (folder / ticks.NAME).open("a") as file:
            file.write('": 1}\n')  # no tick at all
        hear(sent[2])
        followed.look([point])
        assert heard == sent[:3]
    with ticks.told(folder) as hear:  # started again
        hear(sent[0])
        followed.look([point])
        assert heard == [*sent[:3], sent[0]]
    followed.look([point])
    assert [*folder.iterdir()] == []
    (folder / ticks.NAME).mkdir()
    with ticks.told(folder) as hear:
        hear(sent[3])  # where nothing can be written, training goes on


def test_a_cluster_that_is_heard_of_does_not_fill_the_terminal(terminal: Callable[[], Terminal], point: Point) -> None:
    terminal()
    jobs = [f"job {number}" for number in range(3 * progress.MOST)]
    with Progress(len(jobs), {job: job for job in jobs}) as shown:
        for job in jobs:
            shown.hear(dataclasses.replace(tick(point, 1), job=job))
        assert len(shown.bars.tasks) == 1 + 2 * progress.MOST
