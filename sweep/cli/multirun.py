"""What -m does: plan every point, have its data and weights here, train what is owed, report.

Hydra launches the points, with any of its launchers. The records that they leave are the only truth: report and exit
code come from those, also when a point failed or the sweep was cut short.
"""

import dataclasses
import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.types import TaskFunction
from omegaconf import DictConfig, OmegaConf

from sweep import interrupt, paths
from sweep.cli import compose, log
from sweep.cli.progress import Progress, label, shares
from sweep.cli.trackers import Trackers, asked
from sweep.config import Config, Export
from sweep.data import task as data
from sweep.errors import UserError, one_line, reason
from sweep.paths import results_folder
from sweep.plan.point import Point, plan
from sweep.report import record, table
from sweep.report.live import Growing

if TYPE_CHECKING:
    from sweep.report.render import Result
    from sweep.runs.session import Session

Overrides = tuple[str, ...]
WARNING = "warning: "  # begins, after the task, what is doubtful and not only worth knowing
Launch = Callable[[TaskFunction, Sequence[Sequence[str]]], None]


def run(
    master: DictConfig,
    composed: Mapping[Overrides, DictConfig],
    launch: Launch,
    elsewhere: bool = False,
    tell: Callable[[str], object] = print,
) -> "Result | None":
    """Train what is owed of these points and report.

    master: the config without what is swept.
    composed: the points' configs, by their overrides.
    launch: runs a task function on the points with these overrides.
    elsewhere: whether it does so on other machines.
    tell: is given the report as text.
    returns: None with dry_run=true, which only says what would be trained.
    raises: UserError.
    """
    sweep = Multirun.of(composed)
    config, root = sweep.config, sweep.root
    shown = Trackers(asked(config), root)
    if config.dry_run:
        print(foretold(list(sweep.points.values()), sweep.labels, root))
        return None
    owed = sweep.owed()
    count = f"{len(sweep.points)} point" + "s" * (len(sweep.points) > 1)
    earlier = len(sweep.earlier)
    with writing(config.name):
        for folder in (root, root / "figures", root / "export"):
            paths.clean(folder)
        if owed:
            root.mkdir(parents=True, exist_ok=True)
            with log.kept(root, config.log_level) as stay, Progress(len(owed), sweep.labels) as progress:
                log.say(f"{count}, {len(owed)} to train; results go to {root}, as they come to report.html there")
                progress.on_end = shown.show
                session = prepare(list(owed.values()), root, progress, elsewhere)
                stay()
                table.clear(root)
                table.write_manifest(root, sweep.entries(), config.study)
                paths.write_text(root / "multirun.yaml", OmegaConf.to_yaml(master))
                launcher = str(master.hydra.launcher._target_)
                heeds = launcher.startswith("hydra_plugins.freeze_sweep.") or launcher.endswith(".BasicLauncher")
                _train(sweep, owed, session, progress, launch if heeds else _broken_off(launch))
        else:
            require_no_warning(list(sweep.points.values()), root)
            table.write_manifest(root, sweep.entries(), config.study)
            print(f"{count}, all finished before; results are in {root}")
    from sweep.report import render  # noqa: PLC0415

    with writing(config.name):
        result = render.build(root, sweep.entries(), config.study)
    tell(f"\n{result.text}\n")
    print(f"{root}/report.html has it all; report.md, table.csv, summary.csv, verdict.json and figures/, too")
    shown.end(list(sweep.points.values()), sweep.labels)
    if earlier:
        print(f"{earlier} of its points, with these settings and finished before, were not asked for now")
    interrupt.check()
    _export(config, sweep, root)
    return result


def _export(config: Config, sweep: "Multirun", root: Path) -> None:
    """Write each task's best model, if that was asked for, and print which exported models are of other points."""
    if config.export is Export.best:
        with writing(config.name):
            export(list(sweep.points.values()), root)
    jobs = {entry.job for entry in sweep.entries()}
    for file in sorted((root / "export").glob("*/model.json")):
        if (paths.read_json(file) or {}).get("job") not in jobs:
            print(f"{file.parent}: of an earlier run, not of these points")


def from_python(cfg: DictConfig) -> None:
    """Stand for Hydra's task function where Python asks: the sweeper then returns the result and ends no process."""
    raise AssertionError("the sweeper launches a task function of its own")


@dataclass(frozen=True)
class Multirun:
    """The points of one sweep, by their overrides, in order. varied: the settings that differ over the points."""

    points: Mapping[Overrides, Point]
    varied: Mapping[Overrides, Mapping[str, str]]

    @classmethod
    def of(cls, composed: Mapping[Overrides, DictConfig]) -> "Multirun":
        """Return the sweep of these configs, planned and checked; raise UserError if one cannot be run."""
        made = compose.planned([compose.to_config(cfg) for cfg in composed.values()])
        points = {overrides: point for overrides, point in zip(composed, made, strict=True) if point}
        varied = compose.varied(list(points.values()))
        return cls(points, dict(zip(points, varied, strict=True)))

    @property
    def config(self) -> Config:
        """Return the first point's config, for what all points share."""
        return next(iter(self.points.values())).config

    @property
    def root(self) -> Path:
        return results_folder(self.config.name)

    @property
    def labels(self) -> dict[str, str]:
        """Return, by job, how each point is called."""
        return {point.job: label(point, self.varied[overrides]) for overrides, point in self.points.items()}

    def owed(self) -> dict[Overrides, Point]:
        """Return the points that have something to train."""
        return {overrides: point for overrides, point in self.points.items() if owes(point, self.root)}

    def entries(self) -> list[table.Entry]:
        """Return the points as the manifest lists them, with those that earlier commands have finished."""
        own = [entry(point, self.varied[overrides]) for overrides, point in self.points.items()]
        if not self.earlier:
            return own
        places = {_settings(each): place for place, each in reversed([*enumerate(own)])}
        return sorted(
            [*own, *self.earlier],
            key=lambda each: (places[_settings(each)], each.facts.freeze_depth, not each.facts.pretrained),
        )

    @functools.cached_property
    def earlier(self) -> list[table.Entry]:
        """What the folder has, whole, beside these points: other depths and weights of the same task and settings."""
        known = {point.job for point in self.points.values()}
        there = {folder.name for folder in (self.root / "jobs").glob("*/")} - known
        bases = {  # one of the points that differ in nothing else
            repr(dataclasses.replace(point.config, freeze_depth=0, pretrained=True)): (point, self.varied[overrides])
            for overrides, point in self.points.items()
            if there
        }
        found: dict[str, table.Entry] = {}
        for point, varied in bases.values():
            for pretrained, depth in itertools.product((True, False), range(point.facts.n_blocks + 1)):
                with suppress(UserError):  # not every setting goes with every depth
                    other = plan(dataclasses.replace(point.config, pretrained=pretrained, freeze_depth=depth))
                    if other.job in there and not missing_seeds(other, self.root):
                        found[other.job] = entry(other, varied)
        return list(found.values())

    def depths(self) -> dict[str, frozenset[int]]:
        """Return, by job, how long the prefixes are that points freeze of the same network, on the same task."""
        depths: dict[tuple[object, ...], set[int]] = {}
        for point in self.points.values():
            depths.setdefault(point.facts.network, set()).add(point.facts.prefix)
        return {point.job: frozenset(depths[point.facts.network] - {0}) for point in self.points.values()}


def entry(point: Point, varied: Mapping[str, str]) -> table.Entry:
    """Return the point as the manifest lists it; varied: its settings that differ over the sweep's points."""
    return table.Entry(point.job, point.config.seed_list, point.facts, dict(varied))


def _settings(entry: table.Entry) -> str:
    """Return what the depths of a task that stand together in a table share."""
    return repr((entry.facts.task, entry.facts.source, entry.facts.model, sorted(entry.varied.items())))


def owes(point: Point, root: Path) -> bool:
    """Return whether the point has something to train; say which of its records are damaged."""
    missing = missing_seeds(point, root)
    for seed in missing:
        if found := record.damage(record.job_folder(root, point.job), seed, point.facts.n_blocks):
            log.say(f"warning: {found}; it is trained again", log.WARNING, sys.stderr)
    return point.config.force or bool(missing)


def missing_seeds(point: Point, root: Path) -> list[int]:
    """Return the seeds of which the point has no result."""
    return record.missing_seeds(root, point.job, point.config.seed_list, point.facts.n_blocks)


def prepare(points: Sequence[Point], root: Path, progress: Progress, elsewhere: bool = False) -> "Session":
    """Return a session for these points, their data and weights fetched; else remove the folder if it is empty."""
    from sweep.cli import dry  # noqa: PLC0415
    from sweep.runs.job import fetch_weights, list_images  # noqa: PLC0415
    from sweep.runs.session import Session  # noqa: PLC0415

    session = Session(progress.hear)
    try:
        see(points, session, elsewhere)
        if points[0].config.confirm_above is not None:
            dry.require_short(points, root, session)
        fetch_weights(points, session, elsewhere)
    except BaseException:
        with suppress(OSError):  # it is not empty, so it was there before
            os.removedirs(root)
        raise
    list_images(points, root, session)
    return session


def see(points: Sequence[Point], session: "Session", elsewhere: bool = False) -> None:
    """Have the images of these points here, and say what there is to say of them."""
    from sweep.runs.job import fetch_images  # noqa: PLC0415

    told = Told(points[0].config.strict)
    for point in points:
        for note in data.notes(point.config.data):
            told.say(f"{point.facts.task}: {note}")
    fetch_images(points, session, told.say, elsewhere)


def foretold(points: Sequence[Point], labels: Mapping[str, str], root: Path) -> str:
    """Return what a sweep of these points would do and take; see dry.report()."""
    from sweep.cli import dry  # noqa: PLC0415
    from sweep.runs.session import Session  # noqa: PLC0415

    session, owed = Session(), [point for point in points if owes(point, root)]
    if owed:
        see(owed, session)
    return dry.report(points, labels, root, session)


def require_no_warning(points: Sequence[Point], root: Path) -> None:
    """Raise UserError if these points, trained before, came with a warning, and the user wants none."""
    told = [note for point in points for note in record.read_notes(record.job_folder(root, point.job))]
    warnings = [note for note in told if WARNING in note]
    if points[0].config.strict and warnings:
        raise UserError(f"strict=true: {warnings[0]}")


class Told:
    """Says each thing once, on stderr; raises UserError at the first warning if that is what the user wants."""

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.notes: set[str] = set()

    def say(self, note: str) -> None:
        note = one_line(note)  # which may name files and classes, of any signs
        if self.strict and WARNING in note:
            raise UserError(f"strict=true: {note}")
        if note not in self.notes:
            self.notes.add(note)
            log.say(note, log.WARNING if WARNING in note else log.INFO, sys.stderr)


@contextmanager
def writing(name: str) -> Iterator[None]:
    """Make an OSError that leaves this block a UserError about the sweep's folder."""
    try:
        yield
    except BrokenPipeError:  # of the terminal's reader
        raise
    except OSError as error:
        raise UserError(f"name={name}: cannot write to {results_folder(name)} ({reason(error)})") from error


def export(points: Sequence[Point], root: Path) -> None:
    """Write each task's best model and say what it is."""
    from sweep import export as exporting  # noqa: PLC0415  torch takes seconds
    from sweep.runs.session import Session  # noqa: PLC0415

    session = Session()
    for point, member in exporting.best(points, root):
        folder = exporting.write(point, member, root / "export", session)
        weights = "pretrained" if point.config.pretrained else "random"
        depth = point.config.freeze_depth
        how = f"{point.facts.model}, {weights}, {depth} frozen, seed {member.seed}, lr {member.lr:g}"
        print(f"{folder}: {how}, {shares(member)}")


def _broken_off(launch: Launch) -> Launch:
    """Return a launch that an interrupt breaks off: of a launcher of another make, which does not look for any."""

    def launched(job: TaskFunction, owed: Sequence[Sequence[str]]) -> None:
        with interrupt.waiting():
            launch(job, owed)

    return launched


def _train(
    sweep: Multirun, owed: Mapping[Overrides, Point], session: "Session", progress: Progress, launch: Launch
) -> None:
    """Launch what is owed, and come back also after an interrupt: what there is will be reported."""
    from sweep.cli.job import Job  # noqa: PLC0415
    from sweep.runs.estimate import outlook  # noqa: PLC0415

    for point in owed.values():
        record.clear_failure(record.job_folder(sweep.root, point.job))  # on_error=stop heeds those of this run
    progress.outlook = outlook(list(sweep.points.values()), list(owed.values()), sweep.root, session)
    again = {point.job: point.config.seed_list for point in owed.values() if point.config.force}
    page = Growing(sweep.root, again)
    job = Job(sweep.root, owed, sweep.depths(), session, progress, page)
    with page.kept_up(), interrupt.postponed():
        launch(job, list(owed))
