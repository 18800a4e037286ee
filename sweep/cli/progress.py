"""What the terminal shows while points train: a line per finished point, and below bars that move with every epoch.

Where nobody watches (a pipe, a file, CI, NO_COLOR) there are plain lines alone, and one a minute within a long point.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column

from sweep.cli import log
from sweep.plan.point import Point
from sweep.report.costs import duration
from sweep.report.record import Record
from sweep.runs.tick import Tick

if TYPE_CHECKING:
    from sweep.runs.estimate import Outlook
    from sweep.runs.job import Outcome

BAR = 12  # columns
MOST = 12  # bars of points: a cluster's queue is longer than a terminal is high
PAUSE = 60.0  # seconds without a word, where there are no bars


def _text(share: int) -> Column:
    """Return a column of text that is cut where a terminal is narrow, so that the bar is not."""
    return Column(ratio=share, no_wrap=True, overflow="ellipsis")


def watched() -> bool:
    """Return whether somebody watches, in a terminal that can move its cursor."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("CI") or os.environ.get("TERM", "dumb") in ("dumb", "unknown")
    return sys.stderr.isatty() and not plain


class Progress:
    """Shows points; also what is trained before them. To be entered.

    total: points; labels: by job, how each point is called. outlook: knows the time left, once it is set.
    on_end: is called with every point that has ended, and its label.
    """

    def __init__(self, total: int = 0, labels: Mapping[str, str] | None = None) -> None:
        self.total, self.labels = total, labels or {}
        self.outlook: Outlook | None = None
        self.on_end: Callable[[Point, str], None] = lambda point, label: None
        self.done = 0
        self.rows: dict[str, TaskID] = {}
        self.best: dict[str, float] = {}  # validation accuracy, by task
        self.tasks: dict[str, str] = {}  # by job
        self.trainings: dict[str, list[str]] = {}  # by job, those that were heard of
        self.said = time.monotonic()
        self.bars = Bars(
            TextColumn("{task.description}", markup=False, table_column=_text(2)),
            BarColumn(bar_width=BAR),
            TextColumn("{task.fields[said]}", markup=False, table_column=_text(3)),
            console=Console(stderr=True),
            expand=True,
            transient=True,
            refresh_per_second=4,
            redirect_stdout=sys.stdout.isatty(),
            disable=not watched(),
        )

    def __enter__(self) -> Self:
        self.bars.start()
        if self.total:
            self.all = self.bars.add_task("all points", total=self.total, said="")
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def begin(self, point: Point) -> None:
        self.tasks[point.job] = point.facts.task
        if len(self.rows) < MOST:
            self._row(point.job, self.labels[point.job])

    def hear(self, tick: Tick) -> None:
        """Show an epoch."""
        done = self._share(tick)
        name = self.labels.get(tick.job)
        shown = tick.job in self.rows or len(self.rows) < 2 * MOST  # many at once, on a cluster
        if name is None and tick.epoch == 0:
            log.say(f"{tick.what}: {tick.epochs} epochs of {tick.images} images")
        if tick.val_accuracy is not None and (task := self.tasks.get(tick.job)):
            self.best[task] = max(self.best.get(task, 0.0), tick.val_accuracy)
        text = self._text(tick, name is not None)
        if shown:
            self.bars.update(self._row(tick.job, name or tick.what), completed=done, said=text)
        if name is None and tick.epoch >= tick.epochs:
            self._forget(tick.job)
        if self.outlook:
            self.outlook.hear(tick, done)
        left = self._left()
        if self.total:
            self.bars.update(self.all, completed=self._passed(), said=self._count() + left)
        line = f"{name or tick.what}: {text}{left}" if tick.epoch else ""
        if line and self.bars.disable and time.monotonic() - self.said > PAUSE:
            self._say(line)
        elif line:
            log.say(line, log.DEBUG)

    def end(self, point: Point, outcome: "Outcome") -> None:
        self.done += 1
        self._forget(point.job)
        self.on_end(point, self.labels[point.job])
        if self.outlook:
            self.outlook.end(point, outcome.seconds if outcome.trained else None)
        score = "" if outcome.test_accuracy is None else f"  test {100 * outcome.test_accuracy:5.1f} %"
        if outcome.error:
            result = f"FAILED: {outcome.error}"
        elif outcome.trained:
            result = f"{outcome.seconds:5.1f} s{score}"
        else:
            result = f"already there{score}"
        left = self._left()
        line = f"[{self.done:{len(str(self.total))}}/{self.total}] {self.labels[point.job]}  {result}{left}"
        self._say(line, log.ERROR if outcome.error else log.INFO)
        self.bars.update(self.all, completed=self._passed(), said=self._count() + left)

    def _say(self, line: str, level: int = log.INFO) -> None:
        self.said = time.monotonic()
        log.say(line, level)

    def _row(self, job: str, name: str) -> TaskID:
        if job not in self.rows:
            self.rows[job] = self.bars.add_task(name, total=1.0, said="")
        return self.rows[job]

    def _forget(self, job: str) -> None:
        if job in self.rows:
            self.bars.remove_task(self.rows.pop(job))
        self.trainings.pop(job, None)

    def _share(self, tick: Tick) -> float:
        """Return how much of the trainings of a point, or of its source, is done, as far as their number is known."""
        heard = self.trainings.setdefault(tick.job, [])
        if tick.what not in heard:
            heard.append(tick.what)
        work = self.outlook.works.get(tick.job) if self.outlook else None
        count = max(len(heard), work.trainings if work and tick.together == 1 else 1)
        return (len(heard) - 1 + tick.epoch / tick.epochs) / count

    def _passed(self) -> float:
        """Return points that are done, parts of them counted."""
        return self.done + sum(self.bars.tasks[self.bars.task_ids.index(row)].completed for row in self.rows.values())

    def _count(self) -> str:
        return f"{self.done}/{self.total}"

    def _left(self) -> str:
        seconds = self.outlook.left() if self.outlook else None
        return f"  (about {duration(seconds)} left)" if seconds else ""

    def _text(self, tick: Tick, of_point: bool) -> str:
        parts = [tick.what] if of_point else []
        parts += [f"epoch {tick.epoch}/{tick.epochs}"]
        if tick.seconds:
            parts.append(f"{tick.images / tick.seconds:.0f} images/s")
        if tick.loss is not None:
            parts.append(f"loss {tick.loss:.3f}")
        if tick.val_accuracy is not None:
            best = self.best.get(self.tasks.get(tick.job, ""), tick.val_accuracy)
            parts.append(f"validation {100 * tick.val_accuracy:.1f} %, best {100 * best:.1f} %")
        if tick.memory:
            parts.append(f"{tick.memory / 1e9:.1f} GB")
        return ", ".join(parts)


def label(point: Point, varied: Mapping[str, str]) -> str:
    """Return how a point is called: its task, weights and depth, and whatever else the sweep varies."""
    weights = "pretrained" if point.config.pretrained else "random"
    parts = [point.facts.task, weights, f"{point.config.freeze_depth}/{point.facts.n_blocks} frozen"]
    return ", ".join([*parts, *(f"{key}={value}" for key, value in varied.items())])


def shares(member: Record) -> str:
    """Return the member's accuracies as text; that of validation where there are images for it."""
    val = "" if member.val_accuracy is None else f"validation {100 * member.val_accuracy:.1f} %, "
    return f"{val}test {100 * (member.test_accuracy or 0):.1f} %"
