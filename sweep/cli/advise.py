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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from sweep import interrupt, paths
from sweep.cli import compose
from sweep.cli.halving import Arm, counted, halve, recommend
from sweep.config import Which
from sweep.data import task as data
from sweep.errors import UserError
from sweep.paths import results_folder
from sweep.plan.point import Point, plan
from sweep.report import record
from sweep.run import measure
from sweep.run.job import fetch, run_point
from sweep.run.session import Session
from sweep.stats import rule as verdict

HELP = """\
python -m sweep.advise [budget_minutes=10] [settings of python -m sweep]

Recommends how many blocks to keep frozen, for example:
  python -m sweep.advise data=image_folder data.root=photos source=imagenet model=resnet18
Takes every setting of `python -m sweep --help` but freeze_depth and pretrained, one value each."""

BUDGET = 10.0  # minutes
NAME = "advise"  # below outputs/


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
    root = results_folder(first.config.name)
    depths = range(first.facts.n_blocks + 1)
    session = Session()
    fetch([first], session)
    scores = score_depths(first, session)

    def train(depth: int, epochs: int, others: Sequence[int]) -> Arm | None:
        return _train(at(first, depth, epochs), others, root, session)

    arms, notes = halve(depths, first.config.epochs, train, lambda: deadline - time.monotonic())
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
    return plan(dataclasses.replace(point.config, freeze_depth=depth, epochs=epochs))


def score_depths(point: Point, session: Session) -> list[dict[str, float]]:
    """Return the transferability scores of every depth, from one pass."""
    config, facts = point.config, point.facts
    task = session.task(config.data, facts.image_size, config.cache.max_gb)
    chosen = task.fit.take(data.draw(config.data, task, config.seed_list[0]).train)
    head = session.weights(point.source, session.device(point)).head
    return measure.score_depths(session.network(point, 0, facts.n_blocks), chosen, head)


def _train(point: Point, others: Sequence[int], root: Path, session: Session) -> Arm | None:
    """Return what training the point showed; None if it failed or diverged, which is said.

    others: the depths that will be trained, too: their frozen blocks' outputs are kept on the way.
    """
    outcome = run_point(point, root, session, set(others) - {0})
    place = f"{point.config.freeze_depth}/{point.facts.n_blocks} frozen, {counted(point.config.epochs, 'epoch')}"
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
        among = f"trained for {counted(chosen.epochs, 'epoch')} ({', '.join(map(str, self.last))})"
        untried = len(self.arms) < len(self.scores)
        seeds, rates = len(point.config.seed_list), len(point.config.lr_list)
        models = f"{counted(seeds, 'seed')} x {counted(rates, 'learning rate')}"
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
                f"Expected accuracy after {counted(chosen.epochs, 'epoch')}: {100 * chosen.test_accuracy:.1f} % "
                "(test images; shown for this depth alone).",
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
