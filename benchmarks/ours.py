"""Our side: points trained as a sweep trains them, but in this process."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.plain import Result
from sweep.cli import compose
from sweep.config import SourceConfig
from sweep.plan import sources
from sweep.plan.point import Point
from sweep.report import record
from sweep.report.record import Record
from sweep.runs.job import fetch, run_point
from sweep.runs.session import Session


def run(overrides: Sequence[str], *, multirun: bool = False, fetched: bool = True, warm: bool = False) -> Result:
    """Return the seconds of these points together, and the test accuracy of the first.

    fetched: whether to decode the images and read the weights before the clock starts.
    warm: whether to fill the caches before, by training for one epoch.
    """
    session = Session()
    points = compose.points(overrides, multirun)
    with tempfile.TemporaryDirectory() as folder:
        if fetched:
            fetch(points, session)
        if warm:
            train(compose.points([*overrides, "epochs=1"], multirun), Path(folder) / "warm", session)
        seconds = train(points, Path(folder) / "out", session)
        return Result(seconds, chosen(points[0], Path(folder) / "out").test_accuracy or 0.0)


def train(points: Sequence[Point], root: Path, session: Session) -> float:
    """Train points of one network and task, leave records under root and return the seconds.

    raises: RuntimeError if one of them fails.
    """
    depths = {point.facts.prefix for point in points} - {0}
    start = time.perf_counter()
    outcomes = [run_point(point, root, session, depths) for point in points]
    seconds = time.perf_counter() - start
    for outcome in outcomes:
        if outcome.error is not None:
            raise RuntimeError(outcome.error)
    return seconds


def chosen(point: Point, root: Path) -> Record:
    """Return the record of the point's first seed, with the learning rate that was chosen."""
    members = record.read_members(record.job_folder(root, point.job), point.config.seed_list[0]) or []
    return next(each for each in members if each.selected)


def write_weights(folder: Path) -> Path:
    """Write what both sides start from: the embedded source, trained on first use."""
    path = folder / "weights.safetensors"
    source = sources.resolve(SourceConfig(), "resnet18")
    save_file(Session().weights(source, torch.device("cpu")).state, path)
    return path
