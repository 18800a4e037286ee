"""How long a training goes on, and by what factor its learning rate is multiplied at every step."""

import math
from dataclasses import dataclass, field
from typing import Any

from sweep.config import Schedule

WARM = 20  # steps of warm-up, at most
COOL = 1 / 3  # of the steps so far are added in the end, while the learning rate falls to zero: a quarter of all
PATIENCE = 1 / 4  # of the steps so far without a better validation accuracy or loss are a plateau


@dataclass
class Course:
    """One training's course.

    plateau: a constant rate until validation has not improved for a quarter of the steps so far, but for `least` steps
    in all; then the rate falls to zero. Nothing but the plateau depends on the limit, so that a higher one changes
    nothing where it was not reached. cosine and constant go to the limit.

    steps: of one epoch.
    limit: epochs.
    least: steps, where the limit allows them.
    """

    schedule: Schedule
    steps: int
    limit: int
    least: int
    over: bool = False
    _cool: int = field(init=False)  # the step from which the rate falls
    _end: int = field(init=False)  # the step after the last
    _best: tuple[float, float] = (-math.inf, math.inf)  # validation accuracy and loss
    _better: int = 0  # the step after which one of these was last improved

    def __post_init__(self) -> None:
        self._end = self.limit * self.steps
        self._cool = math.ceil(self._end / (1 + COOL))

    def factor(self, step: int) -> float:
        """Return the factor of this step, the first being 0."""
        if self.schedule is Schedule.constant:
            return 1.0
        plateau = self.schedule is Schedule.plateau
        warm = max(1, min(WARM, self._end // 10) if plateau else self._end // 10)
        if step < warm:
            return (step + 1) / warm
        start = max(self._cool, warm) if plateau else warm
        return 0.5 * (1 + math.cos(math.pi * max(0, step - start) / max(1, self._end - start)))

    def after(self, epoch: int, accuracy: float | None, loss: float | None) -> None:
        """Take note of an epoch, the first being 1, and its validation; None where there are no such images."""
        step = epoch * self.steps
        if self.schedule is Schedule.plateau and accuracy is not None and loss is not None and step < self._cool:
            best, least = self._best
            if accuracy > best or loss < least:
                self._best, self._better = (max(best, accuracy), min(least, loss)), step
            if step - self._better >= PATIENCE * step and step * (1 + COOL) >= self.least:
                self._cool = step
                self._end = min(self._end, step + self.steps * math.ceil(COOL * epoch))
        self.over = step >= self._end

    def state(self) -> dict[str, Any]:
        """Return what notes have changed, as plain values."""
        return {name: value for name, value in vars(self).items() if name != "schedule"}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what state() returned."""
        vars(self).update(state)
