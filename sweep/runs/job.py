"""The story of one point of the sweep, from its checked config to its records.

Load the task (session.task), draw each seed's images (data.draw), run every image through the frozen blocks once, where
that is possible (feed.py); train one member per seed and learning rate on what comes out, choose one of each seed on
validation and read the test split for it (members.py); write the records (record.py).
"""

import dataclasses
import json
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml

from sweep import paths
from sweep.config import Config
from sweep.data import registry
from sweep.data import task as data
from sweep.errors import UserError, described
from sweep.models.frozen import Network
from sweep.plan.point import Point
from sweep.report import record
from sweep.runs import crew, feed, machine, members, tested
from sweep.runs.session import Session
from sweep.train.loop import Curves
from sweep.train.resume import Checkpoint


@dataclass(frozen=True)
class Outcome:
    """What run_point() did. error: one line if the point has no result for some of its seeds."""

    trained: int  # members: trainings of one seed and learning rate
    seconds: float
    error: str | None = None
    test_accuracy: float | None = None  # mean over seeds


def fetch(
    points: Sequence[Point], session: Session, say: Callable[[str], object] = print, elsewhere: bool = False
) -> None:
    """Have the images and the weights here that these points start from; see the next two functions."""
    fetch_images(points, session, say, elsewhere)
    fetch_weights(points, session, elsewhere)


def fetch_images(
    points: Sequence[Point], session: Session, say: Callable[[str], object] = print, elsewhere: bool = False
) -> None:
    """Download what these points see, and read every image: what is wrong shows before any training.

    say: is given a sentence on each thing that makes the images doubtful, as soon as it is known.
    elsewhere: whether other machines train, which have the devices.
    raises: UserError for what cannot be had or read, and for more training images than there are.
    """
    for point in points:
        if not elsewhere:
            machine.check(point.config.device, point.config.precision, point.config.devices)
    fetched = set()  # to look whether a download is whole, all of it is read: once per data set
    decoded = set()
    for point in points:
        wanted = point.config.data
        if (wanted.name, wanted.root) not in fetched:
            registry.open(wanted).fetch()
            fetched.add((wanted.name, wanted.root))
        if repr(wanted) not in decoded:
            task = session.task(wanted, point.facts.image_size, point.config.cache.max_gb)
            for note in task.notes:
                say(f"{point.facts.task}: {note}")
            session.counts(wanted, point.facts.image_size, point.config.cache.max_gb)  # raises if there are too few
            decoded.add(repr(wanted))


def list_images(points: Sequence[Point], root: Path, session: Session) -> None:
    """Write under root which images each task of these points has, where they have names."""
    for point in {each.facts.task: each for each in points}.values():
        config, facts = point.config, point.facts
        data.list_images(root, facts.task, session.task(config.data, facts.image_size, config.cache.max_gb))


def fetch_weights(points: Sequence[Point], session: Session, elsewhere: bool = False) -> None:
    """Load, download or train what these points start from; elsewhere, the first that needs a source trains it."""
    for point in points:
        if point.config.pretrained and not (elsewhere and point.source.config.name == "pretrain"):
            where = torch.device("cpu") if elsewhere else session.device(point)
            session.weights(point.source, where, point.config.checkpoint)


@machine.tidied()
def run_point(point: Point, root: Path, session: Session, depths: Collection[int] = ()) -> Outcome:
    """Train what this point still owes under root, and leave records. Errors become a failure record, not an exception.

    Two processes never train one job at a time: the second waits, and then finds the records.
    depths: how many blocks other points of the sweep freeze of the same network. The outputs of these are kept on the
        way through the frozen blocks, so that no later point needs a pass of its own.
    """
    folder = record.job_folder(root, point.job)
    start = time.perf_counter()
    trained = 0
    with paths.locked(folder / ".lock"):
        seeds = point.config.seed_list
        owed = seeds if point.config.force else record.missing_seeds(root, point.job, seeds, point.facts.n_blocks)
        record.clear_failure(folder)
        paths.clean(folder)
        paths.write_text(folder / "config.yaml", _yaml(point.config))
        try:
            checkpoint = _checkpoint(session, point, folder)
            if point.config.force or not owed:
                checkpoint.remove()
            if owed:
                _keep_notes(session, point, root)
            with checkpoint.kept(), crew.called(session, point, owed, depths):
                for seed, chosen in _train(session, point, owed, depths, checkpoint):
                    if chosen.tested:
                        task = session.task(point.config.data, point.facts.image_size, point.config.cache.max_gb)
                        tested.keep(folder, seed, task, chosen.tested)
                    record.write_members(folder, seed, chosen.members)
                    checkpoint.remove()
                    trained += len(chosen.members)
        except Exception as caught:
            line = described(caught)
            record.write_failure(folder, line, traceback.format_exc())
            return Outcome(trained, time.perf_counter() - start, line)
    outcome = _outcome(point, folder, trained, time.perf_counter() - start)
    if outcome.error:
        record.write_failure(folder, outcome.error, "")
    return outcome


def _keep_notes(session: Session, point: Point, root: Path) -> None:
    """Leave what there is to say of the point's images and weights, and the names of images that were left out."""
    config, facts = point.config, point.facts
    task = session.task(config.data, facts.image_size, config.cache.max_gb)
    notes = [f"{facts.task}: {note}" for note in (*data.notes(config.data), *task.notes)]
    if config.pretrained:
        notes += session.weights(point.source, session.device(point), config.checkpoint).notes
    record.write_notes(record.job_folder(root, point.job), notes)
    doubted = next((note for note in notes if "warning: " in note), None)  # of images it was said before
    if config.strict and doubted:
        raise UserError(f"strict=true: {doubted}")
    data.list_unreadable(root, facts.task, task)


def _checkpoint(session: Session, point: Point, folder: Path) -> Checkpoint:
    """Return what keeps the job's trainings that are under way."""
    of = {"job": point.job, "device": session.device(point).type, **machine.versions()}
    return Checkpoint(folder / "checkpoint", of, point.config.checkpoint.minutes)


def _train(
    session: Session, point: Point, seeds: Sequence[int], depths: Collection[int], checkpoint: Checkpoint
) -> Iterator[tuple[int, members.Chosen]]:
    """Yield (seed, its members): where the head alone is trained all seeds at once, else one seed after another."""
    if not seeds:
        return
    config, facts = point.config, point.facts
    machine.check(config.device, config.precision, config.devices)
    machine.set_precision(config.precision)
    feeder = feed.feeder(session, point, seeds, depths)
    feeds: dict[int, feed.Feed] = {}
    if facts.prefix == facts.n_blocks and not feeder.thaws:
        feeds = {seed: feeder.feed(seed) for seed in seeds}
        if all(each.kind == "cached" for each in feeds.values()):
            yield from members.train_together(session, point, feeds, checkpoint)
            return
    for seed in seeds:
        both = (feeds[seed], None) if seed in feeds else feeder.both(seed)
        yield seed, members.train_alone(session, point, seed, both, checkpoint)


def retrain(point: Point, seed: int, lr: float, session: Session) -> tuple[Network, Curves]:
    """Return the network of one member, trained as run_point() trains it, and its curves: a sweep keeps no weights."""
    machine.set_precision(point.config.precision)
    feeds = feed.feeder(session, point, [seed], ()).both(seed)
    with crew.called(session, point, [seed], ()):
        trained, network = members.train_member(session, point, (seed, lr), feeds)
    return network, trained.curves


def _outcome(point: Point, folder: Path, trained: int, seconds: float) -> Outcome:
    """Return what the job's records say."""
    by_seed = {seed: record.read_members(folder, seed) or [] for seed in point.config.seed_list}
    chosen = [member for found in by_seed.values() for member in found if member.selected]
    error = None
    if len(chosen) < len(by_seed):
        without = [seed for seed, found in by_seed.items() if not any(member.selected for member in found)]
        error = f"diverged: the loss of seed {', '.join(map(str, without))} is not finite; use a smaller optimizer.lr"
    accuracies = [member.test_accuracy for member in chosen if member.test_accuracy is not None]
    return Outcome(trained, seconds, error, float(np.mean(accuracies)) if accuracies else None)


def _yaml(config: Config) -> str:
    plain = json.loads(json.dumps(dataclasses.asdict(config)))
    return str(yaml.safe_dump(plain, sort_keys=False))
