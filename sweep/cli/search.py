"""Trains networks for advice: one depth and one fold at a time, each time the one that is worth most for its time."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sweep.errors import UserError
from sweep.plan.point import Point, plan
from sweep.report import record
from sweep.report.record import Record
from sweep.run.job import run_point
from sweep.run.members import half_decade
from sweep.run.session import Session
from sweep.stats.belief import Belief, Run, believe, next_run, prices

HEAD_RATES = (0.003, 0.01)  # learning rates of the first network, a head alone


@dataclass
class Search:
    """Trains depth after depth until time is over or no network is worth its time.

    point: with nothing frozen, as all are trained.
    given: the learning rates that the user asks for; else they follow from those that were best deeper.
    """

    point: Point
    root: Path
    session: Session
    given: Sequence[float] | None
    runs: list[Run] = field(default_factory=list)
    chosen: list[Record] = field(default_factory=list)  # the best network of every run
    failed: set[int] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    @property
    def n_depths(self) -> int:
        return self.point.facts.n_blocks + 1

    def run(self, left: Callable[[], float]) -> None:
        """Train; left: gives the seconds that are left. The first network is a head, however short the time is.

        raises: UserError if no depth could be trained.
        """
        config = self.point.config
        folds = config.seed_list if config.data.rotate else config.seed_list[:1]  # else all judge the same images
        action: tuple[int, int] | None = (self.n_depths - 1, folds[0])
        while action:
            self._train(*action)
            open_depths = [depth for depth in range(self.n_depths) if depth not in self.failed]
            if not open_depths:
                raise UserError(f"no depth could be trained; {self.root} has the errors")
            if not self.runs:
                action = open_depths[-1], folds[0]
                continue
            each = prices(self.n_depths, self.runs)
            tried = {run.depth for run in self.runs}
            # Of a new depth, about three learning rates are tried, unless the user says which.
            rates = {depth: len(self.given or ()) or (1 if depth in tried else 3) for depth in open_depths}
            seconds = {depth: each[depth] * rates[depth] for depth in open_depths}
            affordable = {depth: price for depth, price in seconds.items() if price < left()}
            action = next_run(self.n_depths, self.runs, affordable, folds)
            if action is None and len(affordable) < len(seconds):
                late = ", ".join(str(depth) for depth in seconds if depth not in affordable)
                self.notes.append(f"out of time for more networks with {late} frozen")

    def belief(self) -> Belief:
        """Return what is believed of the depths by now."""
        return believe(self.n_depths, self.runs)

    def rates(self, depth: int) -> list[float]:
        """Return the learning rates to try: the best of this depth if it is known, else about that of the next deeper.

        With fewer blocks frozen, the best rate is the same or lower, but for sources that are far.
        """
        if self.given is not None:
            return list(self.given)
        deeper = [member for member in self.chosen if member.facts.freeze_depth >= depth]
        if not deeper:
            return list(HEAD_RATES)
        nearest = min(deeper, key=lambda member: member.facts.freeze_depth)
        assert nearest.lr is not None, "a network that was trained has one"
        if nearest.facts.freeze_depth == depth:
            return [nearest.lr]
        return [half_decade(nearest.lr, -1), nearest.lr]

    def _train(self, depth: int, fold: int) -> None:
        config = self.point.config
        optimizer = dataclasses.replace(config.optimizer, lr=self.rates(depth))
        point = plan(dataclasses.replace(config, freeze_depth=depth, seeds=[fold], optimizer=optimizer))
        outcome = run_point(point, self.root, self.session, set(range(1, self.n_depths)))
        place = f"  {depth}/{self.n_depths - 1} frozen, fold {fold}"
        members = record.read_members(record.job_folder(self.root, point.job), fold) or []
        best = next((member for member in members if member.selected), None)
        if outcome.error or best is None or best.val_correct is None:
            self.failed.add(depth)
            print(f"{place}  FAILED: {outcome.error}", flush=True)
            return
        seconds = sum(member.train_seconds or 0.0 for member in members) / len(members)
        correct = record.unpacked(best.val_correct, best.n_val or 0)
        self.runs.append(Run(depth, fold, correct, max(seconds, 1e-3)))
        self.chosen.append(best)
        belief = self.belief()
        keep = belief.keep({run.depth for run in self.runs})
        print(
            f"{place}, lr {best.lr:g}  {outcome.seconds:6.1f} s  validation {100 * correct.mean():5.1f} %"
            f"   so far: keep {keep}, expected loss {100 * belief.expected_loss()[keep]:.1f} points",
            flush=True,
        )
