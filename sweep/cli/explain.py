"""What a setting or a group means, in the words that stand beside it: comments of config.py, first lines of YAML."""

import dataclasses
import inspect
import re
import textwrap
import types
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from functools import cache
from typing import Any, get_args, get_type_hints

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from sweep.config import Config
from sweep.errors import UserError, nearest
from sweep.paths import CONF
from sweep.plan.checks import RANGES

WIDTH = 110
WHEN = "# Choose this "


def setting(name: str) -> str:
    """Return what this setting or group means, what it takes and its default; raise UserError if there is none."""
    known = meanings()
    if name.startswith("hydra.launcher"):
        name = "hydra/launcher"
    below = [each.removeprefix(f"{name}.") for each in known if each.startswith(f"{name}.")]
    options = _options(name)
    if name in known:
        return known[name]
    if not below and not options:
        raise UserError(f"{name}: no such setting or group" + nearest(name, [*known, *_groups()], most=3))
    parts = list(dict.fromkeys(f"{name}.{each.partition('.')[0]}" for each in below))
    lines = [f"{name}=OPTION; choose", *options] if options else []
    return "\n".join([*lines, *(known.get(part) or f"{part}\n  see --help {part}" for part in parts)])


@cache
def meanings() -> Mapping[str, str]:
    """Return, by the dotted name of every setting, lines that say what it means, its values and its default."""
    return dict(_of(Config()))


def values(name: str) -> list[str]:
    """Return what may be typed for a setting that takes few values; nothing for others, and where there is none."""
    kind: Any = Config
    for part in name.split("."):
        kind = get_type_hints(kind).get(part) if dataclasses.is_dataclass(kind) else None
    return choices(kind)


def _of(config: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Return names, and lines that explain them, of a dataclass's settings."""
    kinds, said, found = get_type_hints(type(config)), comments(type(config)), []
    for field in dataclasses.fields(config):
        name, value = prefix + field.name, getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            found += _of(value, f"{name}.")
            continue
        facts = [said[field.name], f"values: {_values(name, kinds[field.name])}", f"default: {_written(value)}"]
        found.append((name, "\n".join([name, *(_indented(fact, 2) for fact in facts if fact)])))
    return found


def _written(value: Any) -> str:
    """Return a value as it is typed."""
    if isinstance(value, StrEnum):
        return value.name  # Hydra reads names
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _values(name: str, kind: Any) -> str:
    """Return which values a setting of this type takes."""
    if isinstance(kind, types.UnionType):
        (inner,) = [each for each in get_args(kind) if each is not type(None)]
        return f"{_values(name, inner)}; or null"
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return ", ".join(choices(kind))
    if name in RANGES:
        return RANGES[name].allowed()
    plain = {bool: "true or false", str: "text", int: "a whole number", float: "a number"}
    return plain.get(kind, "as said above")


def choices(kind: Any) -> list[str]:
    """Return what is typed for a setting of a type with few values; nothing for the others."""
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return [each.name for each in kind]
    return ["true", "false"] if kind is bool else []


def comments(config: type) -> dict[str, str]:
    """Return what the comments of a dataclass say of its fields: those at the line's end, else those above it."""
    said, above = {}, list[str]()
    for line in inspect.getsource(config).splitlines()[1:]:
        code, _, comment = (each.strip() for each in line.partition("# "))
        if code.startswith(("def ", "@")):
            break
        if not code and comment:
            above.append(comment)
            continue
        if found := re.match(r"(\w+): ", code):
            said[found[1]] = comment or " ".join(above)
        above = []
    return said


def _groups() -> list[str]:
    return [*sorted(path.name for path in CONF.iterdir() if path.is_dir()), "hydra/launcher"]


def _options(group: str) -> list[str]:
    """Return a line per option of a group that says when to choose it; none if there is no such group."""
    if group not in _groups():
        return []
    Plugins.instance()  # Hydra finds launchers, and stores what they take
    files = sorted((CONF / group).glob("*.yaml"))
    lines = [_indented(f"{path.stem} {_first_line(path.read_text(encoding='utf-8'))}", 2) for path in files]
    stored = set[str]()
    with suppress(OSError):  # none is stored
        stored = {each.removesuffix(".yaml") for each in ConfigStore.instance().list(group) if each.endswith(".yaml")}
    said = {each: _docstring(f"{group}/{each}.yaml") for each in sorted(stored - {path.stem for path in files})}
    lines += [_indented(f"{option}: {text}", 2) for option, text in said.items() if text]
    plain = [option for option, text in said.items() if not text]
    return [*lines, *([_indented(", ".join(plain), 2)] if plain else [])]


def _first_line(text: str) -> str:
    """Return when to choose the YAML, as its first line says."""
    return next((line.removeprefix(WHEN) for line in text.splitlines() if line.startswith(WHEN)), "")


def _docstring(path: str) -> str:
    """Return what the dataclass of an option in Hydra's store says of itself, such as a launcher's settings."""
    kind = OmegaConf.get_type(ConfigStore.instance().load(path).node)
    if not isinstance(kind, type) or not dataclasses.is_dataclass(kind):
        return ""
    said = inspect.getdoc(kind) or ""
    return "" if said.startswith(f"{kind.__name__}(") else said.replace("\n", "\n    ")  # Python writes one itself


def _indented(text: str, by: int) -> str:
    """Return text in lines of WIDTH, what does not fit into one further in."""
    lines = []
    for line in text.splitlines():
        indent = " " * (by + len(line) - len(line.lstrip()))
        further = f"{indent}    "
        lines += textwrap.wrap(
            line.strip(), WIDTH, initial_indent=indent, subsequent_indent=further, break_on_hyphens=False
        )
    return "\n".join(lines)
