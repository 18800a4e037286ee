"""How far points are that other machines train: told in a file of each job's folder, which the command reads."""

import dataclasses
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sweep.plan.point import Point
from sweep.report import record
from sweep.runs.tick import Hear, Tick

NAME = "ticks.jsonl"
LEAST = 1.0  # seconds between two lines of one training: the folder may be on a network


@contextmanager
def told(folder: Path) -> Iterator[Hear]:
    """Yield what tells ticks in a job's folder; nothing is told where it cannot be written. In the end it is gone."""
    file, last = folder / NAME, float("-inf")

    def hear(tick: Tick) -> None:
        nonlocal last
        now = time.monotonic()
        if 0 < tick.epoch < tick.epochs and now - last < LEAST:
            return
        last = now
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(dataclasses.asdict(tick)) + "\n")

    _remove(file)
    try:
        yield hear
    finally:
        _remove(file)


class Followed:
    """Reads what is told of points, from where it stopped last."""

    def __init__(self, root: Path, hear: Hear, points: Iterable[Point] = ()) -> None:
        self.root, self.hear = root, hear
        self.places: dict[str, int] = {}
        for point in points:
            self.begin(point)

    def begin(self, point: Point) -> None:
        """Forget what an earlier run has left of the point."""
        _remove(self._file(point))

    def look(self, points: Iterable[Point]) -> None:
        """Hear what is new of these points."""
        for point in points:
            with suppress(OSError):  # nothing is told yet, or no longer
                self._read(point.job, self._file(point))

    def _read(self, job: str, file: Path) -> None:
        with file.open("rb") as lines:
            place = self.places.get(job, 0)
            if place > file.stat().st_size:  # the job was started again
                place = 0
            lines.seek(place)
            new = lines.read()
        whole = new[: new.rfind(b"\n") + 1]  # the last line may be half written
        self.places[job] = place + len(whole)
        for line in whole.splitlines():
            with suppress(ValueError, TypeError):  # two starts of one job wrote at once
                self.hear(Tick(**json.loads(line)))

    def _file(self, point: Point) -> Path:
        return record.job_folder(self.root, point.job) / NAME


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink(missing_ok=True)
