"""What travels to another process that trains a point, and how it is trained there: for all launchers alike."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.cli import ticks
from sweep.config import OnError
from sweep.plan.point import Point
from sweep.report import record
from sweep.runs.tick import Hear, unheard

if TYPE_CHECKING:  # torch reads the environment when it is imported, so not before there is one
    from sweep.runs.job import Outcome
    from sweep.runs.session import Session


@dataclass(frozen=True)
class Task:
    """A point, and all that its training needs: its config is composed, so that no YAML is read again.

    root: where records go, relative to the folder.
    depths: which outputs of frozen blocks other points will ask for.
    jobs: those of this run, whose failures on_error=stop heeds.
    folder: where the command was given.
    variables: of the environment, those that this program reads.
    """

    point: Point
    root: Path
    depths: frozenset[int]
    jobs: Sequence[str]
    folder: Path
    variables: Mapping[str, str]


def variables() -> dict[str, str]:
    """Return this program's own variables of the environment."""
    return {name: value for name, value in os.environ.items() if name.startswith("SWEEP_")}


def stopped(point: Point, root: Path, jobs: Sequence[str]) -> bool:
    """Return whether the point may not start, because one has failed; the records tell that to every process."""
    stop = point.config.on_error is OnError.stop
    return stop and any(record.read_failure(record.job_folder(root, job)) for job in jobs)


def warm_first(points: Sequence[Point]) -> list[Point]:
    """Return the points in the order in which they start where many do at once.

    First one of every network, whose frozen blocks it runs for its kin, so that few wait for each other; then the
    rest, network by network.
    """
    backwards = [*enumerate(points)][::-1]
    networks = {point.facts.network: place for place, point in backwards}
    firsts = {(point.facts.network, point.facts.prefix > 0): place for place, point in backwards}.values()
    order = sorted((place not in firsts, networks[point.facts.network], place) for place, point in backwards)
    return [points[place] for _, _, place in order]


def train(task: Task, session: "Session | None" = None, hear: Hear = unheard) -> "Outcome | None":
    """Train the task's point; return None where it may not start. hear: what a session of its own tells."""
    if stopped(task.point, task.root, task.jobs):
        return None
    from sweep.runs.job import run_point  # noqa: PLC0415
    from sweep.runs.session import Session  # noqa: PLC0415

    return run_point(task.point, task.root, session or Session(hear), task.depths)


def train_elsewhere(task: Task) -> "Outcome | None":
    """Train as where the command was given: in its folder, with its variables; tell the command how far it is."""
    os.environ.update(task.variables)
    os.chdir(task.folder)
    with ticks.told(record.job_folder(task.root, task.point.job)) as hear:
        return train(task, hear=hear)
