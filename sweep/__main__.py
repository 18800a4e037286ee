"""`python -m sweep`: compose and check every point, train what is missing, report.

Hydra composes the points and launches them (any of its launchers will do). The records that they leave are the only
truth: report and exit code come from those, also when a point failed or the sweep was cut short.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from sweep import config as settings
from sweep import run, table
from sweep.config import Config, UserError
from sweep.run import Outcome, Point

_PACKAGE = Path(__file__).resolve().parent
# conf/ lies inside an installed wheel, and beside the package in a checkout.
CONF = next(path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if path.is_dir())

ConfigStore.instance().store("schema", node=Config)


class Progress:
    """A line per point as it ends, and under them points done, current point and time left."""

    def __init__(self, total: int) -> None:
        self.bar = tqdm(total=total, unit="point", dynamic_ncols=True, disable=None)  # no bar if not a terminal
        self.total, self.done, self.start = total, 0, time.monotonic()

    def begin(self, point: Point) -> None:
        self.bar.set_description_str(_short(point))

    def end(self, point: Point, outcome: Outcome) -> None:
        self.done += 1
        left = (time.monotonic() - self.start) / self.done * (self.total - self.done)
        score = "" if outcome.test_accuracy is None else f"  test {100 * outcome.test_accuracy:5.1f} %"
        result = f"FAILED: {outcome.error}" if outcome.error else f"{outcome.seconds:5.1f} s{score}"
        if not outcome.error and not outcome.trained:
            result = f"already there{score}"
        tqdm.write(
            f"[{self.done:{len(str(self.total))}}/{self.total}] {_short(point)}  {result}  (about {left:.0f} s left)"
        )
        self.bar.update()


def _short(point: Point) -> str:
    weights = "pretrained" if point.config.pretrained else "random"
    return f"{point.common['task']}, {weights}, {point.config.freeze_depth}/{point.common['n_blocks']} frozen"


_progress: Progress | None = None  # of this process; a job that an engine runs elsewhere has none


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(cfg: DictConfig) -> None:
    """Run one point. Its failure is a record, not an exception, so every launcher treats it alike."""
    point = run.plan(_to_config(cfg))
    if _progress:
        _progress.begin(point)
    outcome = run.run_point(point, _root(point.config))
    if _progress:
        _progress.end(point, outcome)


def _to_config(cfg: DictConfig) -> Config:
    made = OmegaConf.to_object(cfg)
    assert isinstance(made, Config), "the schema in the defaults list makes it one"
    return made


def _root(config: Config) -> Path:
    return Path("outputs") / config.name


def compose(overrides: Sequence[str], multirun: bool, config_dir: str | None = None) -> list[list[str]]:
    """Return the overrides of every point, in the order in which Hydra's basic sweeper launches them."""
    if not multirun:
        return [list(overrides)]
    master = _compose(overrides, RunMode.MULTIRUN, config_dir)
    sweeper = master.hydra.sweeper
    if not str(sweeper._target_).endswith("BasicSweeper"):
        raise UserError(
            f"hydra/sweeper={sweeper._target_}: all points must be known before the first one trains; use basic"
        )
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    parser = OverridesParser.create(config_loader=_hydra(config_dir).config_loader)
    given = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
    try:
        return BasicSweeper.split_arguments(parser.parse_overrides([*given, *overrides]), max_batch_size=None)[0]
    except HydraException as error:
        raise UserError(_one_line(error)) from error


def plan(overrides: Sequence[str], config_dir: str | None = None) -> Point:
    """Return one composed and checked point."""
    cfg = _compose(overrides, RunMode.RUN, config_dir)
    with read_write(cfg), open_dict(cfg):
        del cfg["hydra"]
    return run.plan(_to_config(cfg))


def _compose(overrides: Sequence[str], mode: RunMode, config_dir: str | None) -> DictConfig:
    try:
        return _hydra(config_dir).compose_config("config", list(overrides), mode)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(_one_line(error)) from error


def _hydra(config_dir: str | None) -> Hydra:
    state = GlobalHydra.instance()
    if not state.is_initialized():
        path = create_config_search_path(str(CONF))
        if config_dir:
            path.prepend("command-line", f"file://{Path(config_dir).resolve()}", anchor="schema")
        Hydra.create_main_hydra2(task_name="sweep", config_search_path=path)
    found = state.hydra
    assert found is not None, "just initialised"
    return found


def varied(points: Sequence[Point]) -> list[dict[str, str]]:
    """Return, per point, the settings that take several values within a task, less those that every table shows."""
    own = {"pretrained", "freeze_depth", "data.name"}
    flat = [{key: value for key, value in _flat(settings.identity(p.config)) if key not in own} for p in points]
    seen: dict[tuple[str, str], set[str]] = {}
    for point, values in zip(points, flat, strict=True):
        for key, value in values.items():
            if key != "data.root":
                seen.setdefault((point.common["task"], key), set()).add(value)
    keys = sorted({key for (_, key), values in seen.items() if len(values) > 1})
    return [{key: values[key] for key in keys} for values in flat]


def _flat(settings_tree: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs = []
    for key, value in settings_tree.items():
        pairs += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, str(value))]
    return pairs


def check_grid(points: Sequence[Point]) -> None:
    """Raise UserError where points that are right one by one do not fit together."""
    if len({point.config.name for point in points}) > 1:
        raise UserError("name=...: several values; one sweep has one name")
    images: dict[str, Any] = {}
    for point in points:
        task = point.common["task"]
        if images.setdefault(task, point.images) != point.images:
            raise UserError(f"data.label={task}: two tasks would have this name in the table; give each its data.label")


def main() -> None:
    """Run the command line; exit 0 if every point has its result, 1 if not, 2 for bad input, 130 after Ctrl-C."""
    arguments = get_args_parser().parse_args()
    plain = not any((arguments.help, arguments.hydra_help, arguments.cfg, arguments.info, arguments.shell_completion))
    if not plain:
        job()
        return
    try:
        sys.exit(_sweep(arguments.overrides, arguments.multirun, arguments.config_dir))
    except UserError as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted: what is finished is kept; the same command goes on from there", file=sys.stderr)
        sys.exit(130)


def _one_line(error: Exception) -> str:
    """Return a composition error of Hydra in one line, with the nearest name where a name was wrong."""
    text = f"{error}\n{error.__cause__ or ''}"
    group = re.search(r"Could not find '([^']+)/([^'/]+)'.*?Available options in '[^']+':(.*)", text, re.S)
    if group:
        return str(settings.unknown(group[1], group[2], re.findall(r"^\t(\S+)", group[3], re.M)))
    key = re.search(r"Could not override '([^']+)'|Key '([^']+)' (?:is )?not in", text)
    if key:
        name = key[1] or key[2]
        return str(settings.unknown("setting", name, _keys())).replace(f"setting={name}", name)
    several = re.search(r"Ambiguous value for argument '([^']+)'", text)
    if several:
        return f"{several[1]}: several values need -m; a list needs brackets and quotes, such as 'seeds=[0,1]'"
    kind = re.search(r"Value '(.*?)' of type '\w+' could not be converted to (\w+).*?full_key: (\S+)", text, re.S)
    if kind:
        return f"{kind[3]}={kind[1]}: use a value of type {kind[2].lower()}"
    boolean = re.search(r"Value '(.*?)' is not a valid bool.*?full_key: (\S+)", text, re.S)
    if boolean:
        return f"{boolean[2]}={boolean[1]}: use true or false"
    choice = re.search(r"Invalid value '(.*?)', expected one of \[(.*?)\].*?full_key: (\S+)", text, re.S)
    if choice:
        return f"{choice[3]}={choice[1]}: use one of {choice[2]}"
    lines = [line.strip() for line in text.splitlines() if line.strip() and "https://" not in line]
    if isinstance(error, OverrideParseException):
        return f"{error.override}: not of the form key=value ({lines[-1]}); put lists and special signs in quotes"
    return "; ".join(lines[:2]) or type(error).__name__


def _keys() -> list[str]:
    return [key for key, _ in _flat(settings.identity(Config()))] + list(settings.NOT_IDENTITY)


def _sweep(overrides: Sequence[str], multirun: bool, config_dir: str | None) -> int:
    global _progress
    points = [plan(each, config_dir) for each in compose(overrides, multirun, config_dir)]
    GlobalHydra.instance().clear()
    check_grid(points)
    root = _root(points[0].config)
    if multirun:
        entries = {
            point.job: {
                "job": point.job,
                "seeds": point.config.seed_list,
                "common": point.common,
                "varied": each,
            }
            for point, each in zip(points, varied(points), strict=True)
        }
        table.write_manifest(root, list(entries.values()))
    owed = [point for point in points if point.config.force or point.missing_seeds(root)]
    count = f"{len(points)} point" + "s" * (len(points) > 1)
    if owed:
        print(f"{count}, {len(owed)} to train; results go to {root}", flush=True)
        run.fetch(owed)
        _progress = Progress(len(points))
        job()
        _progress.bar.close()
    else:
        print(f"{count}, all finished before; results are in {root}")
    if not multirun:
        return _print_single(points[0], root)
    from sweep import report

    made = report.build(root)
    print(f"\n{made.text}\n\n{root}/report.md has it all: table.csv, summary.csv, verdict.json, figures/")
    return 1 if made.missing else 0


def _print_single(point: Point, root: Path) -> int:
    from sweep import record

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
        why = record.read_failure(folder) or "diverged: the loss is not finite; use a smaller optimizer.lr"
        print(f"error: no result for seed {', '.join(map(str, left))}: {why}", file=sys.stderr)
    print(f"records: {folder}")
    return 1 if left else 0


if __name__ == "__main__":
    main()
