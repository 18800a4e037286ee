"""`python -m sweep`: one point, or with -m every combination of values (see multirun)."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from sweep import interrupt
from sweep.cli import compose, flags, log, multirun
from sweep.cli.progress import Progress, label, shares
from sweep.cli.trackers import Trackers, asked
from sweep.cli.translate import translated
from sweep.config import Export
from sweep.errors import UserError
from sweep.paths import CONF, results_folder
from sweep.plan.point import Point
from sweep.report import record

SWEEPER = "all points must be known at the start; leave hydra/sweeper out (Hydra's grids and ranges work)"


def main() -> None:
    """Run the command line; exit 0 if every point has its result, 1 if not, 2 for bad input, 130 after Ctrl-C."""
    with interrupt.command(), translated():
        if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE") != "1":
            raise UserError("torchrun: this command starts its processes itself; use python -m sweep ... devices=2")
        for argument in sys.argv[1:]:
            if argument.startswith("hydra/sweeper=") and argument != "hydra/sweeper=freeze_sweep":
                raise UserError(f"{argument}: {SWEEPER}")
        sys.argv[1:] = flags.command_line(sys.argv[1:])
        GlobalHydra.instance().clear()  # of whoever used Hydra in this process before
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(single)()


def single(cfg: DictConfig) -> None:
    """Train what one point still owes, and print its result; SystemExit says how it ended, if not well."""
    with interrupt.one_line(), translated():
        _run(cfg)


def _run(cfg: DictConfig) -> None:
    if HydraConfig.get().mode is RunMode.MULTIRUN:  # a sweeper of another make launches this
        raise UserError(f"hydra/sweeper={HydraConfig.get().runtime.choices['hydra/sweeper']}: {SWEEPER}")
    (point,) = compose.planned([compose.to_config(cfg)])
    assert point is not None, "planned() raises where nothing is left"
    if train(point):
        sys.exit(1)


def train(point: Point) -> bool:
    """Train what the point still owes, print its result, and return whether that is missing."""
    root, labels = results_folder(point.config.name), {point.job: label(point, {})}
    shown = Trackers(asked(point.config), root)
    if point.config.dry_run:
        print(multirun.foretold([point], labels, root))
        return False
    with multirun.writing(point.config.name):
        if multirun.owes(point, root):
            root.mkdir(parents=True, exist_ok=True)
            with log.kept(root, point.config.log_level) as stay, interrupt.postponed():
                log.say(f"1 point, 1 to train; results go to {root}")
                _train(point, root, stay)
        else:
            multirun.require_no_warning([point], root)
            print(f"1 point, all finished before; results are in {root}")
    shown.end([point], labels)
    missing = _print(point, root)
    interrupt.check()
    if point.config.export is Export.best:
        multirun.export([point], root)
    return missing


def _train(point: Point, root: Path, stay: Callable[[], None]) -> None:
    with Progress(1, {point.job: label(point, {})}) as progress:
        session = multirun.prepare([point], root, progress)
        stay()
        from sweep.runs.estimate import outlook  # noqa: PLC0415
        from sweep.runs.job import run_point  # noqa: PLC0415

        progress.outlook = outlook([point], [point], root, session)
        progress.begin(point)
        progress.end(point, run_point(point, root, session))


def _print(point: Point, root: Path) -> bool:
    """Print the point's result; return whether it is missing."""
    folder = record.job_folder(root, point.job)
    for seed in point.config.seed_list:
        for member in record.read_members(folder, seed) or []:
            if member.selected:
                print(f"seed {seed}: lr {member.lr:g}, {shares(member)}, {member.train_seconds:.1f} s")
    left = multirun.missing_seeds(point, root)
    if left and interrupt.came() is not None:
        print(f"not trained yet: seed {', '.join(map(str, left))}; the same command goes on", file=sys.stderr)
    elif left:
        why = record.read_failure(folder) or "diverged: its loss is not finite; use a smaller optimizer.lr"
        print(f"error: no result for seed {', '.join(map(str, left))}: {why}", file=sys.stderr)
    print(f"records: {folder}")
    return bool(left)
