"""Successive halving over depths (Jamieson and Talwalkar 2016), and the depth that it ends with.

All depths are trained for a short while, the better half for twice as long, until few are left that have had all
epochs.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sweep.stats import rule as verdict
from sweep.stats.types import MARGIN, Floats

DRAWS = 2000


@dataclass(frozen=True)
class Arm:
    """What is known of one depth. accuracy: (seeds,) on n_val validation images, after `epochs` epochs.

    seconds: of one epoch of one model, and of the frozen blocks before the first; similar: of the task, if measured.
    """

    depth: int
    epochs: int
    accuracy: Floats
    n_val: int
    epoch_seconds: float
    prefix_seconds: float
    test_accuracy: float
    placement: tuple[float, bool | None] | None


def rungs(arms: int, epochs: int) -> list[tuple[int, int]]:
    """Return (depths, epochs) of every round: half as many depths, twice as many epochs, at last all epochs.

    With few epochs, fewer rounds: none has as many epochs as the one before.

    >>> rungs(6, 4)
    [(6, 1), (3, 2), (2, 4)]
    >>> rungs(6, 3)
    [(6, 1), (3, 3)]
    """
    rounds = max(1, min(math.ceil(math.log2(arms)), epochs.bit_length()))
    return [(math.ceil(arms / 2**number), max(1, epochs // 2 ** (rounds - 1 - number))) for number in range(rounds)]


def halve(
    depths: Sequence[int],
    epochs: int,
    train: Callable[[int, int, Sequence[int]], Arm | None],
    left: Callable[[], float],
) -> tuple[dict[int, Arm], list[str]]:
    """Return the last that is known of every depth, and what the user should know of the search.

    train: trains one depth for that many epochs, as one of these depths.
    left: gives the seconds that are left.

    The first round goes from the deepest, which is cheapest; it stops where the time is over, and a later one is not
    begun if the one before says that it would not fit.
    """
    found: dict[int, Arm] = {}
    notes = []
    alive = sorted(depths, reverse=True)
    needed = dict.fromkeys(alive, 0.0)  # seconds per epoch, all seeds and learning rates
    for number, (count, length) in enumerate(rungs(len(alive), epochs)):
        if number:
            alive = sorted(alive, key=lambda depth: (-found[depth].accuracy.mean(), -depth))[:count]
            estimate = sum(needed[depth] * length for depth in alive)
            if estimate > left():
                notes.append(
                    f"out of time: {count} depths for {counted(length, 'epoch')} would have taken {estimate:.0f} s more"
                )
                break
        print(f"{len(alive)} depths, {counted(length, 'epoch')}:", flush=True)
        for depth in sorted(alive, reverse=True):
            if left() <= 0 and found:
                skipped = [each for each in sorted(alive) if each <= depth]
                notes.append(f"out of time before {counted(length, 'epoch')} of {', '.join(map(str, skipped))} frozen")
                break
            start = time.monotonic()
            arm = train(depth, length, alive)
            needed[depth] = (time.monotonic() - start) / length
            if arm:
                found[depth] = arm
        alive = [depth for depth in alive if depth in found]
        if notes or len(alive) < 2:
            break
    return found, notes


def recommend(arms: Sequence[Arm], margin: float = MARGIN) -> tuple[int, int, int]:
    """Return the deepest depth that loses at most the margin on validation, and its 95 % interval, as three depths.

    arms: ascending depths, the same epochs. Seeds are drawn again, and then the validation images, of every depth
    apart: as the depths share these, the interval is rather too wide than too narrow.
    """
    depths = np.array([arm.depth for arm in arms])
    seeds = min(len(arm.accuracy) for arm in arms)
    accuracy = np.array([arm.accuracy[:seeds] for arm in arms])
    best = verdict.kept_depth(depths, accuracy.mean(axis=1), margin)
    rng = np.random.default_rng(0)
    drawn = accuracy[:, rng.integers(seeds, size=(DRAWS, seeds))].mean(axis=2)  # (D, DRAWS)
    drawn = rng.binomial(arms[0].n_val, drawn) / arms[0].n_val
    kept = [verdict.kept_depth(depths, column, margin) for column in drawn.T]
    low, high = np.percentile(kept, [2.5, 97.5], method="nearest")
    return best, min(best, int(low)), max(best, int(high))


def counted(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)
