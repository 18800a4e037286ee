"""Command line to checked points. Hydra composes; every wrong input becomes one line, before anything is loaded."""

import copy
import dataclasses
import functools
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.types import RunMode
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from sweep import config as settings
from sweep import interrupt
from sweep.cli import arguments as typed
from sweep.cli import flags, suite
from sweep.cli.arguments import flat
from sweep.cli.translate import translated, unknown_setting
from sweep.config import Config, DataConfig, Export
from sweep.data import registry
from sweep.errors import AbsentError, UserError
from sweep.paths import CONF
from sweep.plan import catalog
from sweep.plan.point import Point, n_blocks, plan


def _itself(memo: dict[int, Any]) -> ConfigStore:
    return ConfigStore.instance()


# Hydra copies its whole store for every config that it composes, and what it takes from there once more. The first copy
# is a third of the time that a point takes to compose.
setattr(ConfigStore.instance(), "__deepcopy__", _itself)  # noqa: B010  mypy knows no such attribute
ConfigStore.instance().store("schema", node=Config)
ConfigStore.instance().store("freeze_sweep", {"template": flags.help_template()}, group="hydra/help")
suite.register()
for _name in catalog.NAMES:  # those that need no more to be said have no YAML
    if not (CONF / "model" / f"{_name}.yaml").exists():
        ConfigStore.instance().store(_name, {"name": _name}, group="model")


def expand(
    loader: ConfigLoader, master: DictConfig, arguments: Sequence[str], stands_for: Mapping[str, str]
) -> list[list[str]]:
    """Return the overrides of every point: all combinations of the values of each setting, the last varying fastest.

    master: the config without what is swept.
    arguments: overrides; of two of one setting the later counts.
    stands_for: {"group=option": options that are swept in its place, the first of which has the same name}, unless
        something chose another.
    """
    parser = OverridesParser.create(config_loader=loader)
    values: dict[str, list[str]] = {}
    for override in parser.parse_overrides(typed.overrides(arguments, multirun=True)):
        key = override.get_key_element()
        if not override.is_sweep_override():
            values[key] = [override.get_value_element_as_str()]
        elif override.is_discrete_sweep():
            values[key] = list(override.sweep_string_iterator())
            if not values[key]:
                raise UserError(f"{override.input_line}: stands for no value; list them, separated by commas")
        else:
            raise UserError(f"{override.input_line}: an interval has no end of values; list them, separated by commas")
    for pair, options in stands_for.items():
        group, _, option = pair.partition("=")
        named = master[group].name == options.partition(",")[0] and f"{group}.name" not in values
        if named and group not in values and master.hydra.runtime.choices.get(group) == option:
            values = {group: [option], **values}  # what is not said varies slowest
        if option in values.get(group, []):
            place = values[group].index(option)
            values[group][place : place + 1] = options.split(",")
    grid = itertools.product(*([f"{key}={one}" for one in all_] for key, all_ in values.items()))

    def count(overrides: list[str]) -> int:
        return n_blocks(to_config(loader.load_sweep_config(master, overrides)))

    return typed.with_depths([list(each) for each in grid], count)


def composed(
    loader: ConfigLoader, master: DictConfig, grid: Iterable[Sequence[str]]
) -> dict[tuple[str, ...], DictConfig]:
    """Return the config of every point, by its overrides: what Hydra composes of them.

    Hydra needs a tenth of a second for each. So of the points that choose the same options of all groups it composes
    the first, and the others are copies with their own values in them.
    """
    parser = OverridesParser.create(config_loader=loader)
    is_group = functools.cache(lambda key: "/" in key or bool(loader.get_group_options(key)))

    def is_value(override: Override) -> bool:
        """Return whether this only sets a value: maps are merged into what is there."""
        changes = override.type is OverrideType.CHANGE and override.package is None and not override.is_hydra_override()
        return changes and not isinstance(override.value(), dict) and not is_group(override.key_or_group)

    firsts: dict[tuple[str, ...], DictConfig] = {}
    made = {}
    for line in map(tuple, grid):
        parsed = parser.parse_overrides(list(line))
        kind = tuple(each.key_or_group if is_value(each) else str(each.input_line) for each in parsed)
        if kind not in firsts:
            made[line] = firsts[kind] = loader.load_sweep_config(master, list(line))
            continue
        cfg = copy.deepcopy(firsts[kind])
        try:
            for each in filter(is_value, parsed):
                OmegaConf.update(cfg, each.key_or_group, each.value())
        except OmegaConfBaseException:
            cfg = loader.load_sweep_config(master, list(line))  # Hydra says it better
        _tell(cfg, [each for each in parsed if not each.is_hydra_override()])
        made[line] = cfg
    return made


def _tell(cfg: DictConfig, overrides: Sequence[Override]) -> None:
    """Let a config say which overrides made it, as Hydra does."""
    how = cfg.hydra.job.config.override_dirname
    lines = sorted(str(each.input_line) for each in overrides if each.key_or_group not in how.exclude_keys)
    cfg.hydra.overrides.task = [each.input_line for each in overrides]
    cfg.hydra.job.override_dirname = how.item_sep.join(lines).replace("=", how.kv_sep)


class Composed(ConfigLoader):
    """A loader that gives what is composed already, and asks another one for the rest."""

    def __init__(self, loader: ConfigLoader, configs: Mapping[tuple[str, ...], DictConfig]) -> None:
        self.loader, self.configs = loader, configs

    def __getstate__(self) -> dict[str, Any]:
        return {"loader": self.loader, "configs": {}}  # other processes compose for themselves

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        found = self.configs.get(tuple(sweep_overrides))
        return self.loader.load_sweep_config(master_config, sweep_overrides) if found is None else found

    def load_configuration(self, *arguments: Any, **options: Any) -> DictConfig:
        return self.loader.load_configuration(*arguments, **options)

    def get_search_path(self) -> Any:
        return self.loader.get_search_path()

    def get_sources(self) -> Any:
        return self.loader.get_sources()

    def list_groups(self, parent_name: str) -> list[str]:
        return self.loader.list_groups(parent_name)

    def get_group_options(self, *arguments: Any, **options: Any) -> list[str]:
        return self.loader.get_group_options(*arguments, **options)

    def compute_defaults_list(self, *arguments: Any, **options: Any) -> Any:
        return self.loader.compute_defaults_list(*arguments, **options)


@contextmanager
def own_loader() -> Iterator[ConfigLoader]:
    """Let Hydra compose from conf/ outside of its own command line; whoever else uses it finds it as it was."""
    hydra, base = GlobalHydra.instance().hydra, VersionBase.instance().version_base
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3", job_name="sweep"):
            yield GlobalHydra.instance().config_loader()
    finally:
        GlobalHydra.instance().hydra, VersionBase.instance().version_base = hydra, base


def points(overrides: Sequence[str], multirun: bool) -> list[Point]:
    """Return every point of this command line, checked; for those who train by themselves. raises: UserError."""
    with translated(), own_loader() as loader:
        overrides = typed.overrides(overrides, multirun)
        mode = RunMode.MULTIRUN if multirun else RunMode.RUN
        master = loader.load_configuration("config", list(overrides), run_mode=mode)
        if not multirun:
            return [point for point in planned([to_config(master)]) if point]
        sweeper = master.hydra.sweeper
        given = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
        grid = expand(loader, master, [*given, *overrides], sweeper.stands_for)
        configs = composed(loader, master, grid).values()
        return [point for point in planned([to_config(each) for each in configs]) if point]


def to_config(cfg: DictConfig) -> Config:
    """Return the settings of a composed config, without Hydra's own; raise UserError for one that does not exist."""
    own = copy.copy(cfg)
    with read_write(own), open_dict(own):
        own.pop("hydra", None)
    made = OmegaConf.to_object(own)
    if not isinstance(made, Config):
        raise UserError(typed.PRIMARY)
    known = dict(flat(dataclasses.asdict(made)))
    given: Any = OmegaConf.to_container(own)
    for key, _ in flat(given):  # +key=value adds what no dataclass has
        if key not in known:
            raise UserError(unknown_setting(key))
    return made


def shown(grid: Mapping[tuple[str, ...], DictConfig], what: Mapping[str, Any]) -> str:
    """Return the composed settings of every point as YAML documents, each below its overrides.

    what: as the flags of Hydra's: cfg: job, hydra or all; package: the part that is shown, or None; resolve.
    raises: UserError if there is no such part.
    """
    documents = []
    for overrides, cfg in grid.items():
        HydraConfig.instance().set_config(cfg)
        with read_write(cfg), read_write(cfg.hydra), open_dict(cfg):
            cfg.hydra.sweeper.show = None
            for key in [key for key in cfg if (key == "hydra") is (what["cfg"] == "job") and what["cfg"] != "all"]:
                cfg.pop(key)
            part = OmegaConf.select(cfg, what["package"]) if what["package"] else cfg
            if part is None:
                raise UserError(f"--package {what['package']}: no such part; use a group, such as model")
            if what["resolve"] and OmegaConf.is_config(part):
                OmegaConf.resolve(part)
        text = OmegaConf.to_yaml(part) if OmegaConf.is_config(part) else f"{part}\n"
        documents.append(f"# {' '.join(overrides)}\n{text}")
    return "---\n".join(documents)


def planned(configs: Sequence[Config]) -> list[Point | None]:
    """Return every config's point; None where its data is absent and skip_absent says to leave such points out.

    raises: UserError if a point cannot be run, none is left, or points that are right one by one do not fit together.
    """
    looked: dict[tuple[str | None, ...], AbsentError | None] = {}
    told: set[str] = set()
    made: list[Point | None] = []
    for config in configs:
        interrupt.check()
        try:
            if config.skip_absent:
                _require(config.data, looked)
            made.append(plan(config))
        except AbsentError as error:
            if not config.skip_absent:
                raise
            if str(error) not in told:
                print(f"left out, because skip_absent=true: {error}", file=sys.stderr, flush=True)
                told.add(str(error))
            made.append(None)
    left = [point for point in made if point]
    if not left:
        raise UserError(
            "skip_absent=true: the data of no point is here; see the lines above for what is expected where"
        )
    _check_grid(left)
    return made


def _require(config: DataConfig, looked: dict[tuple[str | None, ...], AbsentError | None]) -> None:
    """Raise AbsentError if this data cannot be had; looked at once: that may read, or try to load, all of it."""
    key = (config.name, config.root, config.factory)
    if config.name not in registry.DATASETS:
        return  # plan() says so
    if key not in looked:
        looked[key] = None
        try:
            registry.open(DataConfig(config.name, config.root, factory=config.factory)).fetch()
        except AbsentError as error:
            looked[key] = error
    if absent := looked[key]:
        raise absent


def varied(made: Sequence[Point]) -> list[dict[str, str]]:
    """Return, per point, the settings that take several values within a task, less those that every table shows."""
    own = {"pretrained", "freeze_depth", "data.name", "data.root", "data.factory", "model.factory", "model.blocks"}
    rows = [
        {"source": p.facts.source} | {key: value for key, value in flat(settings.identity(p.config)) if key not in own}
        for p in made
    ]
    seen: dict[tuple[str, str], set[str]] = {}
    for point, values in zip(made, rows, strict=True):
        for key, value in values.items():
            seen.setdefault((point.facts.task, key), set()).add(value)
    keys = sorted({key for (_, key), values in seen.items() if len(values) > 1})
    if "source.seed" in keys and _of_seed(made):
        keys.remove("source.seed")
    if "source" in keys:  # a source's name says what its settings are, unless two sources share it
        told = {key: len({(values["source"], values[key]) for values in rows}) for key in keys}
        keys = [key for key in keys if not key.startswith("source.") or told[key] > told["source"]]
    return [{key: values[key] for key in keys} for values in rows]


def _of_seed(made: Sequence[Point]) -> bool:
    """Return whether every seed of a task has a source of its own: then that is part of the seed's luck."""
    sources: dict[tuple[str, int], set[int]] = {}
    for point in made:
        for seed in point.config.seed_list:
            sources.setdefault((point.facts.task, seed), set()).add(point.config.source.seed)
    return all(len(each) == 1 for each in sources.values())


def _check_grid(made: Sequence[Point]) -> None:
    if len({point.config.name for point in made}) > 1:
        raise UserError("name=...: several values; one sweep has one name")
    # With nothing frozen, both BatchNorm policies are one job under two names: such points may share it.
    if len({(point.job, str(settings.identity(point.config))) for point in made}) < len(made):
        raise UserError(
            f"{len(made)} points, of which some are the same; give several values only to settings that change a "
            "result (seeds are one list: 'seeds=[0,1]')"
        )
    blind = [p.facts.task for p in made if p.config.export is Export.best and p.config.data.val_fraction == 0]
    if len({*blind}) < len(blind):
        raise UserError(
            "export=best data.val_fraction=0: without validation images no depth can be chosen; use 0.1, or "
            "one point of each task"
        )
    images: dict[str, str] = {}
    for point in made:
        task = point.facts.task
        if images.setdefault(task, point.images) != point.images:
            raise UserError(f"data.label={task}: two tasks would have this name in the table; give each its data.label")
