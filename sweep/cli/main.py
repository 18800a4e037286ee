"""`python -m sweep`: compose and check every point, train what is missing, report.

Hydra launches the points, with any of its launchers. The records that they leave are the only truth: report and exit
code come from those, also when a point failed or the sweep was cut short.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig

from sweep import interrupt
from sweep.cli import compose, progress
from sweep.config import Export, StudyConfig
from sweep.errors import UserError
from sweep.paths import CONF, results_folder
from sweep.report import record, table
from sweep.run import job as run
from sweep.run.job import Point


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(cfg: DictConfig) -> None:
    """Run one point. Its failure is a record, not an exception, so every launcher treats it alike."""
    point = compose.plan(compose.to_config(cfg))
    if point is None:  # Hydra launches also what skip_absent leaves out
        return
    if interrupt.came():  # and was lost on the way here
        raise KeyboardInterrupt
    if progress.current:
        progress.current.begin(point)
    outcome = run.run_point(point, results_folder(point.config.name))
    if progress.current:
        progress.current.end(point, outcome)


def main() -> None:
    """Run the command line; exit 0 if every point has its result, 1 if not, 2 for bad input, 130 after Ctrl-C."""
    arguments = get_args_parser().parse_args()
    if arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion:
        job()
        return
    with interrupt.command():
        if arguments.config_name or arguments.config_path:
            raise UserError("--config-name and --config-path: not supported; add YAML of your own with --config-dir")
        missing = _sweep(arguments.overrides, arguments.multirun, arguments.config_dir)
    sys.exit(1 if missing else 0)


def _sweep(overrides: Sequence[str], multirun: bool, config_dir: str | None) -> bool:
    """Train what is owed and report; return whether results are missing."""
    points = compose.points(overrides, multirun, config_dir)
    varied = compose.varied(points)
    root = results_folder(points[0].config.name)
    owed = [point for point in points if point.config.force or point.missing_seeds(root)]
    entries = [
        table.Entry(point.job, point.config.seed_list, point.facts, each)
        for point, each in zip(points, varied, strict=True)
    ]
    study = points[0].config.study
    count = f"{len(points)} point" + "s" * (len(points) > 1)
    try:
        if owed:
            root.mkdir(parents=True, exist_ok=True)
            print(f"{count}, {len(owed)} to train; results go to {root}", flush=True)
            try:
                run.fetch(owed)
            except UserError:
                with suppress(OSError):  # it is not empty, so it was there before
                    os.removedirs(root)
                raise
        if multirun:
            if owed:
                table.clear(root)
            table.write_manifest(root, entries, study)
        if owed:
            labels = {point.job: progress.label(point, each) for point, each in zip(points, varied, strict=True)}
            progress.current = progress.Progress(len(points), labels, {point.job for point in owed})
            # Every point was composed above; Hydra would do it once more for all of them before the first starts.
            # Patched in the base class, because Hydra imports its plugins' modules anew: their classes are not ours.
            Sweeper.validate_batch_is_legal = lambda self, batch: None  # type: ignore[method-assign]
            with interrupt.heeded():  # before Hydra's exit code of its own
                job()
        else:
            print(f"{count}, all finished before; results are in {root}")
    except OSError as error:
        raise UserError(f"name={points[0].config.name}: cannot write to {root} ({error.strerror or error})") from error
    except KeyboardInterrupt:
        if progress.current:  # before anything trained, there is nothing new to say
            progress.current.close()
            # In a process of its own: here, a module may be left half imported.
            sys.stdout.flush()
            if multirun:
                subprocess.run([sys.executable, "-m", "sweep.report", str(root)], check=False)
            else:
                _print_single(points[0], root)
        raise
    if progress.current:
        progress.current.close()
    missing = _report(root, entries, study) if multirun else _print_single(points[0], root)
    if points[0].config.export is Export.best:
        _export(points, root)
    return missing


def _report(root: Path, entries: list[table.Entry], study: StudyConfig) -> bool:
    """Write and print the report; return whether results are missing."""
    from sweep.report import render as report  # matplotlib takes a second

    made = report.build(root, entries, study)
    print(f"\n{made.text}\n\n{root}/report.md has it all: table.csv, summary.csv, verdict.json, figures/")
    return bool(made.missing)


def _export(points: Sequence[Point], root: Path) -> None:
    from sweep import export  # torch takes seconds

    for point, member in export.best(points, root):
        folder = export.write(point, member, root / "export")
        weights = "pretrained" if point.config.pretrained else "random"
        how = f"{weights}, {point.config.freeze_depth} frozen, seed {member.seed}, lr {member.lr:g}"
        shares = f"validation {100 * (member.val_accuracy or 0):.1f} %, test {100 * (member.test_accuracy or 0):.1f} %"
        print(f"{folder}: {how}, {shares}")


def _print_single(point: Point, root: Path) -> bool:
    """Print the result of a run without -m; return whether it is missing."""
    folder = record.job_folder(root, point.job)
    for seed in point.config.seed_list:
        for member in record.read_members(folder, seed) or []:
            if member.selected:
                print(
                    f"seed {seed}: lr {member.lr:g}, validation {100 * (member.val_accuracy or 0):.1f} %, "
                    f"test {100 * (member.test_accuracy or 0):.1f} %, {member.train_seconds:.1f} s"
                )
    left = point.missing_seeds(root)
    if left:
        why = record.read_failure(folder) or "diverged: its loss is not finite; use a smaller optimizer.lr"
        print(f"error: no result for seed {', '.join(map(str, left))}: {why}", file=sys.stderr)
    print(f"records: {folder}")
    return bool(left)
