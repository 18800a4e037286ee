"""What is told of a training while it goes on, in this process or to another one that shows it. No torch."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweep.train.loop import Curves

LEAST = 0.1  # seconds between two ticks of one training: nobody reads faster


@dataclass(frozen=True)
class Tick:
    """The end of an epoch.

    job: of the point; of a source that is trained for points, its file.
    what: which of its trainings, such as "seed 0, lr 0.001".
    images: that are trained on. together: how many trainings go on at once.
    epoch: the one that has ended, the first being 1, of so many at most; 0 as the training begins.
    seconds: of the epoch, less its evaluation. loss: of the epoch, nats. memory: bytes, where that is known.
    """

    job: str
    what: str
    epochs: int
    images: int
    together: int = 1
    epoch: int = 0
    seconds: float = 0.0
    loss: float | None = None
    val_accuracy: float | None = None
    memory: int | None = None


Hear = Callable[[Tick], None]


def unheard(tick: Tick) -> None:
    """Show nothing."""


def telling(hear: Hear, start: Tick, memory: Callable[[], int | None], before: int = 0) -> "Callable[[Curves], None]":
    """Return what a training calls after each epoch: it tells of the last one, and of others unless they are short.

    before: epochs of an earlier part of the same training.
    """
    last = float("-inf")

    def told(curves: "Curves") -> None:
        nonlocal last
        epoch, now = before + len(curves.train_loss), time.monotonic()
        if epoch < start.epochs and now - last < LEAST:
            return
        last = now
        hear(
            dataclasses.replace(
                start,
                epoch=epoch,
                seconds=curves.epoch_seconds[-1],
                loss=curves.train_loss[-1],
                val_accuracy=curves.val_accuracy[-1] if curves.val_accuracy else None,
                memory=memory(),
            )
        )

    return told
