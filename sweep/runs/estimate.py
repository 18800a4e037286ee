"""How long work takes here: learnt from points that are done, or measured on a few batches of every kind."""

import dataclasses
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls

from sweep.config import Which
from sweep.models.frozen import Network
from sweep.plan.point import Point
from sweep.report import record
from sweep.report.record import Record
from sweep.runs import machine
from sweep.runs.members import recipe_of
from sweep.runs.session import Counts, Session
from sweep.runs.tick import Tick
from sweep.runs.work import Work, of, of_all
from sweep.train.examples import Examples, Splits, place
from sweep.train.heads import fit_heads, is_head
from sweep.train.loop import fit

FARTHEST = 30.0  # times the FLOPs of a step of which the time is known; beyond, nothing is said
PRIOR = 0.03  # of all work counts as done in the time that was expected: a little says nothing of the pace
FRESH = 1.0  # seconds for which the time left is not reckoned anew
OVERHEAD = 0.2  # seconds of a training beside its epochs, until that is known
LENGTHS = (2, 10)  # batches that are timed: few where they take long
ENOUGH = 0.5  # seconds


@dataclass
class _Seen:
    """Sums over all that was seen of a kind. beside: seconds of trainings beside their epochs and passes forward."""

    steps: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0
    trainings: float = 0.0
    beside: float = 0.0


@dataclass
class Pace:
    """Seconds of every kind of work, as far as they are known.

    forward: seconds of a FLOP without training, where it was measured.
    """

    seen: dict[Hashable, _Seen] = field(default_factory=dict)
    forward: float | None = None
    planned: int = 0  # epochs of what is done, at most
    trained: int = 0

    def learn(self, kind: Hashable, steps: float, flops: float, seconds: float) -> None:
        """Take note that training took so long."""
        seen = self.seen.setdefault(kind, _Seen())
        seen.steps, seen.flops, seen.seconds = seen.steps + steps, seen.flops + flops, seen.seconds + seconds

    def learn_from(self, point: Point, members: Sequence[Record], seconds: float | None = None) -> None:
        """Take note of a point that is done. seconds: of all of it, where it was timed."""
        known = [each for each in members if each.train_seconds and each.epochs_trained]
        if not known:
            return
        train, val, test = (getattr(known[0], name) or 0 for name in ("n_train", "n_val", "n_test"))
        counts = Counts(train, val, test, train + val)
        work = of(point, counts, len({each.seed for each in known}), point.facts.prefix)
        epochs, trained = (sum(getattr(each, name) for each in known) for name in ("epochs_trained", "train_seconds"))
        self.learn(work.kind, epochs * work.steps, epochs * work.flops, trained)
        self.planned, self.trained = self.planned + work.trainings * work.epochs, self.trained + epochs
        if seconds is not None:
            passed = sum(each.prefix_seconds or 0 for each in known)
            seen = self.seen[work.kind]
            seen.trainings += len(known)
            seen.beside += max(0.0, seconds - trained - passed - self._per_flop() * work.forward)

    def seconds(self, work: Work) -> float | None:
        """Return how long the work takes in one process; None if nothing like it is known.

        What was trained until validation no longer improved took a share of its epochs: so will the rest.
        """
        epoch = self._epoch(work)
        if epoch is None:
            return None
        length = self.trained / self.planned if self.planned else 1.0
        own = self.seen.get(work.kind)
        known = [own] if own and own.trainings else [each for each in self.seen.values() if each.trainings]
        beside = sum(each.beside for each in known) / sum(each.trainings for each in known) if known else OVERHEAD
        return work.trainings * (beside + length * work.epochs * epoch) + self._per_flop() * work.forward

    def _epoch(self, work: Work) -> float | None:
        """Return the seconds of an epoch: of its kind, else from other kinds by their steps and FLOPs."""
        if not self.seen:
            return None
        if own := self.seen.get(work.kind):
            return own.seconds * work.flops / own.flops
        others = list(self.seen.values())
        if work.flops / work.steps > FARTHEST * max(each.flops / each.steps for each in others):
            return None
        if len(others) == 1:
            return others[0].seconds * work.flops / others[0].flops
        rows = np.array([(each.steps / each.seconds, each.flops / each.seconds) for each in others])  # relative errors
        scale = rows.max(0)
        per_step, per_flop = nnls(rows / scale, np.ones(len(rows)))[0] / scale
        return float(per_step * work.steps + per_flop * work.flops)

    def _per_flop(self) -> float:
        """Return the seconds of a FLOP without training: as measured, else of the fastest training."""
        if self.forward is not None:
            return self.forward
        return min((each.seconds / each.flops for each in self.seen.values()), default=0.0)


class Outlook:
    """The time left of a sweep: the work that is left, at the pace of this run so far, however many share it.

    works: by job, of all points that are owed.
    root: where their records go.
    """

    def __init__(
        self, works: Mapping[str, Work], pace: Pace, root: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.works, self.pace, self.root, self.clock = dict(works), pace, root, clock
        self.start: float | None = None  # of the work, less what a process takes to start
        self.done: set[str] = set()
        self.shares: dict[str, float] = {}
        self._left: tuple[float, float | None] = (-np.inf, None)  # when it was reckoned, and what came of it

    def hear(self, tick: Tick, share: float) -> None:
        """Take note of an epoch of a point, and of the share of its trainings that is done."""
        if work := self.works.get(tick.job):
            self.shares[tick.job] = share
            self.pace.learn(work.kind, work.steps, tick.images * work.one_image, tick.seconds)

    def end(self, point: Point, seconds: float | None) -> None:
        """Take note that a point has ended, after so many seconds of training; None if it has not trained."""
        self.done.add(point.job)
        self.shares.pop(point.job, None)
        self._left = (-np.inf, None)
        self.pace.learn_from(point, _members(point, self.root), seconds)

    def left(self) -> float | None:
        """Return seconds; None if too little is known."""
        now = self.clock()
        if now - self._left[0] >= FRESH:
            self._left = (now, self._reckoned(now))
        return self._left[1]

    def _reckoned(self, now: float) -> float | None:
        expected = {job: self.pace.seconds(work) for job, work in self.works.items()}
        if not expected or any(seconds is None for job, seconds in expected.items() if job not in self.done):
            return None
        known = {job: seconds or 0.0 for job, seconds in expected.items()}
        left = {job: (1 - self.shares.get(job, 0.0)) * known[job] for job in known if job not in self.done}
        done = sum(known.values()) - sum(left.values())
        if done and self.start is None:
            self.start = now - done
        prior = PRIOR * sum(known.values())
        pace = 1.0 if self.start is None else (now - self.start + prior) / (done + prior)
        longest = max((left[job] for job in self.shares if job in left), default=0.0)  # nobody shares its rest
        return max(pace * sum(left.values()), longest)


def outlook(points: Sequence[Point], owed: Sequence[Point], root: Path, session: Session) -> Outlook:
    """Return the outlook of those that are owed, with what the records of the others tell."""
    pace, works = Pace(), dict[str, Work]()
    with suppress(Exception):  # a network whose work cannot be counted is trained all the same
        works = of_all(owed, missing(owed, root), session)
        alike, jobs = {(each.facts.model, each.facts.image_size) for each in owed}, {each.job for each in owed}
        for point in points:
            if point.job not in jobs and (point.facts.model, point.facts.image_size) in alike:
                pace.learn_from(point, _members(point, root))
    return Outlook(works, pace, root)


def missing(points: Sequence[Point], root: Path) -> dict[str, int]:
    """Return, by job, how many seeds are owed."""
    return {
        point.job: len(
            point.config.seed_list
            if point.config.force
            else record.missing_seeds(root, point.job, point.config.seed_list, point.facts.n_blocks)
        )
        for point in points
    }


def _members(point: Point, root: Path) -> list[Record]:
    folder = record.job_folder(root, point.job)
    return [
        each
        for seed in point.config.seed_list
        for each in record.read_members(folder, seed, point.facts.n_blocks) or []
    ]


def measured(points: Iterable[Point], works: Mapping[str, Work], session: Session) -> Pace:
    """Return the pace of a few batches of every kind of training, with random weights; nothing is kept of them."""
    pace = Pace()
    for point in points:
        work = works[point.job]
        if work.kind not in pace.seen:
            _measure(point, work, session, pace)
    return pace


def _measure(point: Point, work: Work, session: Session, pace: Pace) -> None:
    config, facts = point.config, point.facts
    fresh = dataclasses.replace(point, config=dataclasses.replace(config, pretrained=False))  # not to load any weights
    timed = work
    if facts.frozen_epochs is not None:  # most of it trains everything
        fresh = _thawed(fresh)
        timed = of(fresh, Counts(1, 0, 0, 1), 1)
    machine.set_precision(config.precision)
    network, device = session.network(fresh, config.seed_list[0]), session.device(point)
    split = session.task(config.data, facts.image_size, config.cache.max_gb).fit
    for batches in LENGTHS:
        rows = np.arange(min(len(split.labels), batches * config.batch_size))
        part = split.take(rows)
        examples = place(torch.from_numpy(part.pool), part.rows, part.labels, device)
        if timed.feed == "cached":
            examples, per_image = _encoded(network, examples)
            passed = of(point, Counts(1, 0, 0, 1), 1).forward
            pace.forward = min(per_image / passed, pace.forward or np.inf)
        seconds = _train(network, timed, point, examples)
        pace.learn(work.kind, max(1, len(rows) / config.batch_size), len(rows) * timed.one_image, seconds)
        if seconds > ENOUGH:
            break


def _thawed(point: Point) -> Point:
    """Return the point as it is trained once nothing is frozen any more."""
    freeze = dataclasses.replace(point.config.freeze, which=Which.prefix, epochs=None)
    config = dataclasses.replace(point.config, freeze_depth=0, freeze=freeze)
    facts = dataclasses.replace(point.facts, which=str(freeze.which), freeze_depth=0, frozen_epochs=None)
    return dataclasses.replace(point, config=config, facts=facts)


def _encoded(network: Network, examples: Examples) -> tuple[Examples, float]:
    """Return what comes out of the frozen blocks, and how many seconds an image took, the second time."""
    images = examples.inputs[examples.rows]
    network.encode(images[:2].to(network.device))
    start = time.perf_counter()
    out = network.encode(images.to(network.device))
    out.sum().item()  # waits for the device
    seconds = time.perf_counter() - start
    return Examples(out, torch.arange(len(out), device=out.device), examples.labels), seconds / len(out)


def _train(network: Network, work: Work, point: Point, examples: Examples) -> float:
    """Return the seconds of one training's epoch on these examples, the second one: the first warms up."""
    recipe = dataclasses.replace(recipe_of(point), epochs=2, min_steps=0)
    model = network.suffix if work.feed == "cached" else network
    splits = Splits(examples, dataclasses.replace(examples, rows=examples.rows[:0], labels=examples.labels[:0]))
    if work.feed == "cached" and is_head(model):
        rates = point.config.lr_list
        together = len(point.config.seed_list)
        heads = [[model for _ in rates] for _ in range(together)]
        curves = fit_heads(heads, [splits] * together, recipe, rates=[rates] * together, seeds=[0] * together)[0][0]
    else:
        curves = fit(model, splits, recipe, lr=point.config.lr_list[0], seed=0)
    return curves.epoch_seconds[-1]
