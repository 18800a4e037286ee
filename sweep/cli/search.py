"""Trains networks for advice: one depth, rate and fold at a time, each time the one that is worth most for its time."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sweep.data import task as data
from sweep.errors import UserError
from sweep.plan.point import Point, plan
from sweep.report import record
from sweep.report.record import Record
from sweep.runs.job import list_images, run_point
from sweep.runs.members import half_decade
from sweep.runs.session import Session
from sweep.stats.belief import Belief, Cell, Run, believe, next_run, prices

BEYOND = 3  # half-decades below and above the usual learning rates that may be tried


def usual_and_beyond(usual: Sequence[float]) -> list[float]:
    """Return the learning rates that may be tried, ascending, from the usual ones."""
    rates = list(usual)
    for _ in range(BEYOND):
        rates = [half_decade(rates[0], -1), *rates, half_decade(rates[-1], 1)]
    return rates


def first(cells: Sequence[Cell], runs: Sequence[Run], belief: Belief) -> Cell | None:
    """Return one of the first two cells, of a head and a block more, from which follows what others take; else None."""
    tried = {run.depth for run in runs}
    fresh = [cell for cell in cells if cell[0] not in tried]
    if len(tried) > 1 or not fresh:
        return None
    return max(fresh, key=lambda cell: (cell[0], belief.mean[cell]))


def near(cells: Iterable[Cell], runs: Sequence[Run]) -> list[Cell]:
    """Return the cells whose rate is a half-decade at most from one that was tried; farther off, little is known."""
    tried = {run.rate for run in runs}
    return [cell for cell in cells if not tried.isdisjoint(range(cell[1] - 1, cell[1] + 2))]


def choose(
    belief: Belief, runs: Sequence[Run], cells: Sequence[Cell], left: Callable[[], float]
) -> tuple[Cell, int] | None:
    """Return the cell and the fold of the network to train next; None if time is over or none is worth its time.

    cells: those that may be trained. left: gives the seconds that are left; the first two are trained whatever it says.
    """
    if cell := first(cells, runs, belief):
        return cell, belief.folds[0]
    seconds = prices(belief.shape[0], runs)
    affordable = [cell for cell in near(cells, runs) if seconds[cell[0]] < left()]
    return next_run(belief, runs, affordable, dict(enumerate(seconds)))


def decades(rates: Sequence[float]) -> list[float]:
    """Return how many decades each rate lies above the middle of all."""
    powers = np.log10(rates)
    return [float(power) for power in powers - powers.mean()]


@dataclass
class Search:
    """Trains network after network until time is over or none is worth its time.

    point: with nothing frozen, as all are trained; its learning rates are the usual ones.
    given: the learning rates that the user asks for; else those around the usual ones may be tried.
    """

    point: Point
    root: Path
    session: Session
    given: Sequence[float] | None
    runs: list[Run] = field(default_factory=list)
    members: list[Record] = field(default_factory=list)  # of every run
    failed: set[Cell] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    @property
    def n_depths(self) -> int:
        return self.point.facts.n_blocks + 1

    @property
    def rates(self) -> list[float]:
        """The learning rates that may be tried, ascending."""
        return list(self.given) if self.given else usual_and_beyond(self.point.config.lr_list)

    @functools.cached_property
    def folds(self) -> list[int]:
        """The seeds to train with: those that validate on other images than the seeds before them."""
        config = self.point.config
        task = self.session.task(config.data, self.point.facts.image_size, config.cache.max_gb)
        found: dict[int, set[int]] = {}
        for seed in config.seed_list:
            held = set(data.draw(config.data, task, seed).val.tolist())
            if all(2 * len(held & other) < len(held) for other in found.values()):
                found[seed] = held
        return list(found)

    def run(self, left: Callable[[], float]) -> None:
        """Train; left: gives the seconds that are left. The first two are trained, however short the time is.

        raises: UserError if no depth could be trained.
        """
        list_images([self.point], self.root, self.session)
        cells = [(depth, rate) for depth in range(self.n_depths) for rate in range(len(self.rates))]
        while cells and (action := choose(self.belief(), self.runs, cells, left)):
            self._train(*action)
            cells = [cell for cell in cells if cell not in self.failed]
        if not self.runs:
            raise UserError(f"no depth could be trained; {self.root} has the errors")
        seconds = prices(self.n_depths, self.runs)
        late = sorted({depth for depth, _ in near(cells, self.runs) if seconds[depth] >= left()})
        if late:
            which = "" if len(late) == self.n_depths else f" with {', '.join(map(str, late))} frozen"
            self.notes.append(f"out of time for more networks{which}")

    def belief(self) -> Belief:
        """Return what is believed by now."""
        return believe(self.n_depths, decades(self.rates), self.runs, self.folds)

    @property
    def tried(self) -> set[Cell]:
        return {run.cell for run in self.runs}

    def member(self, cell: Cell) -> Record:
        """Return the record of the first run of a cell."""
        return next(member for run, member in zip(self.runs, self.members, strict=True) if run.cell == cell)

    def _train(self, cell: Cell, fold: int) -> None:
        config, (depth, rate) = self.point.config, cell
        lr = self.rates[rate]
        optimizer = dataclasses.replace(config.optimizer, lr=lr)
        point = plan(dataclasses.replace(config, freeze_depth=depth, seeds=[fold], optimizer=optimizer))
        outcome = run_point(point, self.root, self.session, set(range(1, self.n_depths)))
        place = f"  {depth}/{self.n_depths - 1} frozen, lr {lr:<6g} fold {fold}"
        found = record.read_members(record.job_folder(self.root, point.job), fold) or []
        member = next((each for each in found if each.selected), None)
        if outcome.error or member is None or member.val_correct is None:
            # A rate that is too high fails alone, with those above it; any other error is the depth's.
            diverged = any(each.status == "diverged" for each in found)
            self.failed |= {(depth, each) for each in range(rate if diverged else 0, len(self.rates))}
            print(f"{place}  FAILED: {outcome.error}", flush=True)
            return
        correct = record.outcomes(member.val_correct, member.val_classes, member.n_val or 0)
        self.runs.append(Run(depth, rate, fold, correct, max(member.train_seconds or 0.0, 1e-3)))
        self.members.append(member)
        belief = self.belief()
        keep = belief.keep(self.tried)
        print(
            f"{place} {outcome.seconds:6.1f} s  validation {100 * correct.mean():5.1f} %"
            f"   so far: keep {keep}, expected loss {100 * belief.expected_loss()[keep]:.1f} points",
            flush=True,
        )
