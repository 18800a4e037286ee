"""`python -m sweep.advise data=image_folder data.root=...`: which depth to keep frozen for one task, in limited time.

Scores of all depths from one pass through the frozen network, then successive halving over depths (Jamieson and
Talwalkar 2016): all are trained for a short while, the better half for twice as long, until few are left that
have had all epochs. Only validation images decide. Records are those of a sweep: what was trained is not trained again.
"""

import dataclasses
import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from sweep import interrupt, paths
from sweep.cli import compose
from sweep.config import Which
from sweep.errors import UserError
from sweep.report import record, table
from sweep.run import job as run
from sweep.run.job import Point
from sweep.stats import rule as verdict
from sweep.stats.types import MARGIN, Floats

HELP = """\
python -m sweep.advise [budget_minutes=10] [settings of python -m sweep]

Recommends how many blocks to keep frozen, for example:
  python -m sweep.advise data=image_folder data.root=photos source=imagenet model=resnet18
Takes every setting of `python -m sweep --help` but freeze_depth and pretrained, one value each."""

BUDGET = 10.0  # minutes
DRAWS = 2000
NAME = "advise"  # below outputs/


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


def main() -> None:
    """Run the command line; exit 0 with advice, 1 if no depth could be trained, 2 for bad input, 130 after Ctrl-C."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(HELP)
        return
    with interrupt.command():
        print(advise(arguments))


def advise(arguments: Sequence[str]) -> str:
    """Return the advice as text; it is also in outputs/<name>/advice.json. raises: UserError."""
    deadline = time.monotonic() + 60 * _budget(arguments)
    overrides = [each for each in arguments if not each.startswith("budget_minutes=")]
    first = _plan(overrides)
    root = Path("outputs") / first.config.name
    depths = range(first.facts.n_blocks + 1)
    run.fetch([first])
    scores = run.score_depths(first)

    def train(depth: int, epochs: int) -> Arm | None:
        return _train(at(first, depth, epochs), root)

    def announce(chosen: Sequence[int], epochs: int) -> None:
        # the frozen blocks keep, in one pass, the outputs of all depths that the manifest names
        points = [at(first, depth, epochs) for depth in chosen]
        entries = [table.Entry(each.job, each.config.seed_list, each.facts, {}) for each in points]
        table.write_manifest(root, entries, first.config.study)

    arms, notes = halve(depths, first.config.epochs, train, announce, lambda: deadline - time.monotonic())
    if not arms:
        raise UserError(f"no depth could be trained; {root} has the errors")
    made = Advice.of(arms, scores, first)
    paths.write_text(root / "advice.json", json.dumps(made.as_dict(), indent=1))
    return made.text(overrides, notes, first)


def _budget(arguments: Sequence[str]) -> float:
    given = [each.partition("=")[2] for each in arguments if each.startswith("budget_minutes=")]
    try:
        minutes = float(given[-1]) if given else BUDGET
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise UserError(f"budget_minutes={given[-1]}: use a number of minutes above 0")
    return minutes


def _plan(overrides: Sequence[str]) -> Point:
    """Return the point with nothing frozen that these settings describe."""
    for each in overrides:
        key = each.lstrip("+~").partition("=")[0]
        if key in ("freeze_depth", "pretrained"):
            raise UserError(f"{each}: advise chooses the depth, of pretrained weights; leave it out")
        if each.startswith("-"):
            raise UserError(f"{each}: no such option; use key=value, and see --help")
    # what comes first gives way to the user's own
    try:
        (point,) = compose.points([f"name={NAME}", *overrides, "freeze_depth=0", "pretrained=true"], multirun=False)
    except UserError as error:
        raise UserError(str(error).replace("several values need -m", "advise takes one value")) from error
    if point.config.freeze.which is not Which.prefix or point.config.freeze.epochs is not None:
        raise UserError("freeze.which, freeze.epochs: advise freezes the first blocks, for good; leave these out")
    if not point.config.data.val_fraction:
        raise UserError("data.val_fraction=0.0: advise chooses on validation images; use 0.1, for example")
    return point


def at(point: Point, depth: int, epochs: int) -> Point:
    """Return the same point at another depth, for that many epochs."""
    return run.plan(dataclasses.replace(point.config, freeze_depth=depth, epochs=epochs))


def _train(point: Point, root: Path) -> Arm | None:
    """Return what training the point showed; None if it failed or diverged, which is said."""
    outcome = run.run_point(point, root)
    place = f"{point.config.freeze_depth}/{point.facts.n_blocks} frozen, {_count(point.config.epochs, 'epoch')}"
    if outcome.error:
        print(f"  {place}  FAILED: {outcome.error}", flush=True)
        return None
    folder = record.job_folder(root, point.job)
    members = [m for seed in point.config.seed_list for m in record.read_members(folder, seed) or [] if m.selected]
    accuracy = np.array([member.val_accuracy for member in members], float)
    print(f"  {place}  {outcome.seconds:6.1f} s  validation {100 * accuracy.mean():5.1f} %", flush=True)
    first = members[0]
    return Arm(
        point.config.freeze_depth,
        point.config.epochs,
        accuracy,
        first.n_val or 0,
        float(np.mean([member.seconds_per_epoch for member in members])),
        max(float(member.prefix_seconds or 0.0) for member in members),
        float(np.mean([member.test_accuracy for member in members])),
        None if first.similarity is None else (first.similarity, first.similar),
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)


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
    train: Callable[[int, int], Arm | None],
    announce: Callable[[Sequence[int], int], None],
    left: Callable[[], float],
) -> tuple[dict[int, Arm], list[str]]:
    """Return the last that is known of every depth, and what the user should know of the search.

    train: trains one depth for that many epochs. announce: is told every round. left: seconds. The first round goes
    from the deepest, which is cheapest; it stops where the time is over, and a later one is not begun if the one before
    says that it would not fit.
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
                    f"out of time: {count} depths for {_count(length, 'epoch')} would have taken {estimate:.0f} s more"
                )
                break
        print(f"{len(alive)} depths, {_count(length, 'epoch')}:", flush=True)
        announce(alive, length)
        for depth in sorted(alive, reverse=True):
            if left() <= 0 and found:
                skipped = [each for each in sorted(alive) if each <= depth]
                notes.append(f"out of time before {_count(length, 'epoch')} of {', '.join(map(str, skipped))} frozen")
                break
            start = time.monotonic()
            arm = train(depth, length)
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


@dataclass(frozen=True)
class Advice:
    """The recommended depth and all that it rests on. last: the depths that had the most epochs."""

    depth: int
    low: int
    high: int
    arms: Mapping[int, Arm]
    last: tuple[int, ...]
    scores: Sequence[Mapping[str, float]]
    rule: str

    @classmethod
    def of(cls, arms: Mapping[int, Arm], scores: Sequence[Mapping[str, float]], point: Point) -> "Advice":
        """Decide among the depths that were trained longest."""
        longest = max(arm.epochs for arm in arms.values())
        last = tuple(sorted(depth for depth, arm in arms.items() if arm.epochs == longest))
        depth, low, high = recommend([arms[each] for each in last])
        placed = next((arm.placement for arm in arms.values() if arm.placement), None)
        return cls(depth, low, high, arms, last, scores, rule(point, placed))

    def rows(self, epochs: int) -> list[dict[str, str]]:
        """Return the table; times are of one model for that many epochs."""
        lines = []
        for depth in range(len(self.scores)):
            line = {"frozen": f"{depth}/{len(self.scores) - 1}" + (" <-" if depth == self.depth else "")}
            arm = self.arms.get(depth)
            if arm:
                mean = 100 * arm.accuracy.mean()
                half = 196 * math.sqrt(max(arm.accuracy.mean() * (1 - arm.accuracy.mean()), 1e-12) / arm.n_val)
                line |= {
                    "validation %": f"{mean:.1f} ± {half:.1f}",
                    "after epochs": str(arm.epochs),
                    "s/epoch": f"{arm.epoch_seconds:.3g}",
                    f"s for {epochs} epochs": f"{arm.prefix_seconds + epochs * arm.epoch_seconds:.3g}",
                }
            else:
                line |= {"validation %": "-", "after epochs": "-", "s/epoch": "-", f"s for {epochs} epochs": "-"}
            for name in ("logme", "knn"):
                value = self.scores[depth].get(name)
                line[{"logme": "LogME", "knn": "5-NN %"}[name]] = (
                    "-" if value is None else f"{value:.3f}" if name == "logme" else f"{100 * value:.1f}"
                )
            lines.append(line)
        return lines

    def text(self, overrides: Sequence[str], notes: Sequence[str], point: Point) -> str:
        """Return what the terminal shows."""
        chosen = self.arms[self.depth]
        among = f"trained for {_count(chosen.epochs, 'epoch')} ({', '.join(map(str, self.last))})"
        untried = len(self.arms) < len(self.scores)
        seeds, rates = len(point.config.seed_list), len(point.config.lr_list)
        models = f"{_count(seeds, 'seed')} x {_count(rates, 'learning rate')}"
        interval = f"95 % interval {self.low} to {self.high}, among the depths {among}"
        settings = [each for each in overrides if not each.startswith("name=")]
        settings += ["pretrained=true", f"freeze_depth={self.depth}", f"name={point.config.name}", "export=best"]
        return "\n".join(
            [
                "",
                tabulate(self.rows(point.config.epochs), headers="keys", disable_numparse=True, stralign="right"),
                "",
                *(f"Note: {note}." for note in notes),
                f"{'Of the depths that were trained, keep' if untried else 'Keep'} "
                f"{self.depth} of {len(self.scores) - 1} blocks frozen "
                f"({interval if len(self.last) > 1 else 'no interval: the only depth ' + among}).",
                f"Expected accuracy after {_count(chosen.epochs, 'epoch')}: {100 * chosen.test_accuracy:.1f} % "
                "(test images, read for this depth alone).",
                f"Validation: ± is 95 %, over {chosen.n_val} images; depths dropped early have had fewer epochs.",
                f"Seconds are of one model; the command below trains {models}.",
                self.rule,
                "",
                "Train and export it:",
                f"  python -m sweep {shlex.join(settings)}",
            ]
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values; test accuracy of the recommended depth only."""
        return {
            "freeze_depth": self.depth,
            "interval": [self.low, self.high],
            "compared": list(self.last),
            "test_accuracy": self.arms[self.depth].test_accuracy,
            "rule": self.rule,
            "depths": [
                {
                    "freeze_depth": depth,
                    "epochs": arm.epochs,
                    "val_accuracy": arm.accuracy.tolist(),
                    "n_val": arm.n_val,
                    "seconds_per_epoch": arm.epoch_seconds,
                    "prefix_seconds": arm.prefix_seconds,
                    "scores": dict(self.scores[depth]),
                }
                for depth, arm in sorted(self.arms.items())
            ],
        }


def rule(point: Point, placed: tuple[float, bool | None] | None) -> str:
    """Return what the rule of thumb would have said of this task."""
    case, n_classes, source_classes = point.facts.case, point.facts.n_classes, point.facts.source_classes
    depths = np.arange(point.facts.n_blocks + 1)
    fewer = "similar_fewer" if n_classes < source_classes else "similar_more"
    counts = f"{n_classes} classes, the source {source_classes}"
    if case == "unknown" and placed and placed[1] is not None:
        case = fewer if placed[1] else "dissimilar"
        counts += f"; measured at {placed[0]:.2f} between the source (0) and noise (1)"
    if case != "unknown":
        return f"The rule of thumb says {verdict.rule_depth(case, depths)} ({case.replace('_', ', ')}: {counts})."
    return (
        f"The rule of thumb says {verdict.rule_depth(fewer, depths)} if the images are similar to the source's, else "
        f"{verdict.rule_depth('dissimilar', depths)} ({counts}; no measurement decides which)."
    )
