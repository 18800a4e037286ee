"""Command line to checked points. Hydra composes; every wrong input becomes one line, before anything is loaded."""

import dataclasses
import functools
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from sweep import config as settings
from sweep.config import Config, DataConfig
from sweep.data import registry
from sweep.errors import AbsentError, UserError, unknown
from sweep.paths import CONF
from sweep.run import job as run
from sweep.run.job import Point

ConfigStore.instance().store("schema", node=Config)


def points(overrides: Sequence[str], multirun: bool, config_dir: str | None = None) -> list[Point]:
    """Return every point of this command line, checked, in the order in which Hydra launches them.

    config_dir: a folder of more YAML, as of --config-dir. raises: UserError.
    """
    if config_dir and not Path(config_dir).is_dir():
        raise UserError(f"--config-dir {config_dir}: no such folder")
    path = create_config_search_path(str(CONF))
    if config_dir:
        path.prepend("command-line", f"file://{Path(config_dir).resolve()}", anchor="schema")
    GlobalHydra.instance().clear()
    hydra = Hydra.create_main_hydra2(task_name="sweep", config_search_path=path)
    try:
        configs = [to_config(_compose(hydra, each)) for each in expand(hydra, overrides, multirun)]
        made = [point for point in map(plan, configs) if point]
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(_one_line(error)) from error
    finally:
        GlobalHydra.instance().clear()
    if not made:
        raise UserError(
            "skip_absent=true: the data of no point is here; see the lines above for what is expected where"
        )
    _check_grid(made)
    return made


def expand(hydra: Hydra, overrides: Sequence[str], multirun: bool) -> list[list[str]]:
    """Return the overrides of every point."""
    if not multirun:
        return [list(overrides)]
    master = hydra.compose_config("config", list(overrides), RunMode.MULTIRUN)
    sweeper = master.hydra.sweeper
    if not str(sweeper._target_).endswith("BasicSweeper"):
        raise UserError(f"hydra/sweeper={sweeper._target_}: all points must be known at the start; use basic")
    given = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
    parsed = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides([*given, *overrides])
    return BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]


def plan(config: Config) -> Point | None:
    """Return the point; None if its data is not here and the user has asked to leave such points out."""
    own = config.data
    try:
        if config.skip_absent and own.name in registry.DATASETS and (absent := _absent(own.name, own.root)):
            raise absent
        return run.plan(config)
    except AbsentError as error:
        if not config.skip_absent:
            raise
        _tell(f"left out, because skip_absent=true: {error}")
        return None


@functools.cache
def _absent(name: str, root: str | None) -> AbsentError | None:
    """Return why this data cannot be had, None if it can; looked at once: that may read, or try to load, all of it."""
    try:
        registry.open(DataConfig(name, root)).fetch()
    except AbsentError as error:
        return error
    return None


@functools.cache
def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # once, however many points it is true of


def _compose(hydra: Hydra, overrides: list[str]) -> DictConfig:
    cfg = hydra.compose_config("config", overrides, RunMode.RUN)
    with read_write(cfg), open_dict(cfg):
        del cfg["hydra"]
    return cfg


def to_config(cfg: DictConfig) -> Config:
    made = OmegaConf.to_object(cfg)
    assert isinstance(made, Config), "the schema in the defaults list makes it one"
    known = dict(_flat(dataclasses.asdict(made)))
    given: Any = OmegaConf.to_container(cfg)
    for key, _ in _flat(given):  # +key=value adds what no dataclass has
        if key not in known:
            raise UserError(_unknown_setting(key))
    return made


def varied(made: Sequence[Point]) -> list[dict[str, str]]:
    """Return, per point, the settings that take several values within a task, less those that every table shows."""
    own = {"pretrained", "freeze_depth", "data.name", "data.root"}
    flat = [
        {"source": p.facts.source} | {key: value for key, value in _flat(settings.identity(p.config)) if key not in own}
        for p in made
    ]
    seen: dict[tuple[str, str], set[str]] = {}
    for point, values in zip(made, flat, strict=True):
        for key, value in values.items():
            seen.setdefault((point.facts.task, key), set()).add(value)
    keys = sorted({key for (_, key), values in seen.items() if len(values) > 1})
    if "source" in keys:  # a source's name says what its settings are, unless two sources share it
        told = {key: len({(values["source"], values[key]) for values in flat}) for key in keys}
        keys = [key for key in keys if not key.startswith("source.") or told[key] > told["source"]]
    return [{key: values[key] for key in keys} for values in flat]


def _flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs = []
    for key, value in tree.items():
        pairs += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, str(value))]
    return pairs


def _check_grid(made: Sequence[Point]) -> None:
    """Raise UserError where points that are right one by one do not fit together."""
    if len({point.config.name for point in made}) > 1:
        raise UserError("name=...: several values; one sweep has one name")
    # With nothing frozen, both BatchNorm policies are one job under two names: such points may share it.
    if len({(point.job, str(settings.identity(point.config))) for point in made}) < len(made):
        raise UserError(
            f"{len(made)} points, of which some are the same; give several values only to settings that change a "
            "result (seeds are one list: 'seeds=[0,1]')"
        )
    images: dict[str, str] = {}
    for point in made:
        task = point.facts.task
        if images.setdefault(task, point.images) != point.images:
            raise UserError(f"data.label={task}: two tasks would have this name in the table; give each its data.label")


def _one_line(error: Exception) -> str:
    """Return a composition error of Hydra in one line, with the nearest name where a name was wrong."""
    text = f"{error}\n{error.__cause__ or ''}"
    group = re.search(r"Could not find '([^']+)/([^'/]*)'\s+Available options in '[^']+':\n((?:\t\S+\n?)*)", text)
    if group:
        return str(unknown(group[1], group[2], group[3].split()))
    key = re.search(r"Could not override '([^']+)'|Key '([^']+)' (?:is )?not in", text)
    if key:
        return _unknown_setting(key[1] or key[2])
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
    if isinstance(error, OverrideParseException):
        quoting = "put lists and special signs in quotes: 'key=[1,2]', 'key=\"~/a b\"'"
        return f"{error.override}: not of the form key=value; {quoting}"
    lines = [line.strip() for line in text.splitlines() if line.strip() and "https://" not in line]
    return "; ".join(lines[:2]) or type(error).__name__


def _unknown_setting(name: str) -> str:
    groups = [path.name for path in CONF.iterdir() if path.is_dir()]
    names = [key for key, _ in _flat(settings.identity(Config()))] + [*settings.NOT_IDENTITY, *groups]
    hint = str(unknown("", name, names)).rpartition("; did you mean")
    return f"{name}: no such setting" + "".join(hint[1:] if hint[1] else "; python -m sweep --help lists them")
