"""What the terminal shows while points train: a line per point, and under it points done and time left."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tqdm import tqdm

from sweep.plan.point import Point
from sweep.report.costs import duration
from sweep.report.record import Record

if TYPE_CHECKING:
    from sweep.run.estimate import Outlook
    from sweep.run.job import Outcome


class Progress:
    """total: points; labels: by job, how each point is called; outlook: knows the time left."""

    def __init__(self, total: int, labels: Mapping[str, str], outlook: "Outlook") -> None:
        self.total, self.labels, self.outlook = total, labels, outlook
        self.done = 0
        self.bar = tqdm(total=total, unit="point", dynamic_ncols=True, disable=None)  # no bar if no terminal

    def begin(self, point: Point) -> None:
        self.bar.set_description_str(self.labels[point.job])

    def end(self, point: Point, outcome: "Outcome") -> None:
        self.done += 1
        self.outlook.end(point, outcome.seconds if outcome.trained else None)
        score = "" if outcome.test_accuracy is None else f"  test {100 * outcome.test_accuracy:5.1f} %"
        if outcome.error:
            result = f"FAILED: {outcome.error}"
        elif outcome.trained:
            result = f"{outcome.seconds:5.1f} s{score}"
        else:
            result = f"already there{score}"
        seconds = self.outlook.left()
        left = f"  (about {duration(seconds)} left)" if seconds else ""
        place = f"[{self.done:{len(str(self.total))}}/{self.total}]"
        tqdm.write(f"{place} {self.labels[point.job]}  {result}{left}")
        self.bar.update()

    def close(self) -> None:
        self.bar.close()


def label(point: Point, varied: Mapping[str, str]) -> str:
    """Return how a point is called: its task, weights and depth, and whatever else the sweep varies."""
    weights = "pretrained" if point.config.pretrained else "random"
    parts = [point.facts.task, weights, f"{point.config.freeze_depth}/{point.facts.n_blocks} frozen"]
    return ", ".join([*parts, *(f"{key}={value}" for key, value in varied.items())])


def shares(member: Record) -> str:
    """Return the member's accuracies as text; that of validation where there are images for it."""
    val = "" if member.val_accuracy is None else f"validation {100 * member.val_accuracy:.1f} %, "
    return f"{val}test {100 * (member.test_accuracy or 0):.1f} %"
