"""What people type, written as Hydra reads it: paths of any spelling, lists of seeds, all depths of a model."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from sweep.config import Config
from sweep.errors import UserError

MODE = "hydra.mode="
PRIMARY = "--config-name and --config-path: not supported; add YAML of your own with --config-dir"


def flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return settings by their dotted names, with their values as text."""
    pairs = []
    for key, value in tree.items():
        pairs += flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", str(value))]
    return pairs


def _texts(config: Any, prefix: str = "") -> Iterator[str]:
    """Yield the names of the settings that are text, of which paths and names are made."""
    kinds = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _texts(value, f"{prefix}{field.name}.")
        elif kinds[field.name] in (str, str | None):
            yield prefix + field.name


TEXTS = frozenset(_texts(Config()))


def without_mode(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Return the arguments without hydra.mode=, and whether the last of these says MULTIRUN; raise UserError."""
    mode = [each.removeprefix(MODE).upper() for each in arguments if each.startswith(MODE)]
    if mode and mode[-1] not in ("RUN", "MULTIRUN"):
        raise UserError(f"{MODE}{mode[-1]}: use RUN or MULTIRUN, which is -m")
    return [each for each in arguments if not each.startswith(MODE)], mode[-1:] == ["MULTIRUN"]


def overrides(arguments: Sequence[str], multirun: bool) -> list[str]:
    """Return these arguments as Hydra reads them; flags stay what they are.

    raises: UserError for several depths without multirun.
    """
    for each in arguments:
        if each.lower().lstrip("+") == "hydra.job.chdir=true":
            raise UserError(f"{each}: paths are relative to the folder that you are in; leave it out")
    return [each if each.startswith("-") or "=" not in each else _override(each, multirun) for each in arguments]


def _override(argument: str, multirun: bool) -> str:
    key, _, value = argument.partition("=")
    setting = key.lstrip("+")
    if setting == "experiment":
        return f"+experiment={value}"
    if setting == "freeze_depth":
        value = _spans("freeze_depth", value)
        if not multirun and "all" in value.split(","):
            raise UserError(f"{argument}: several values need -m; one depth is a number, such as freeze_depth=2")
        if value.strip() == "all":
            value = "choice(all)"  # a sweep, too, so that Hydra does not take it for the setting's value
    elif setting == "seeds":
        value = _seeds(value)
    elif setting in ("data.classes", "source.data.classes"):
        value = _names(value)
    elif setting == "model.blocks":
        value = _patterns(value)
    elif setting in TEXTS:
        value = _text(value)
    return f"{key}={value}"


def _spans(setting: str, value: str) -> str:
    """Return a list of depths, or seeds, with 0..3 written out as 0,1,2,3."""
    parts = []
    for part in value.split(","):
        ends = re.fullmatch(r"\s*(\d{1,6})\s*(?:\.\.|[-:])\s*(\d{1,6})\s*", part)
        if not ends:
            parts.append(part)
            continue
        if ".." not in part:  # of which not everybody would say whether it has its end
            raise UserError(f"{setting}={value}: use {ends[1]}..{ends[2]}, which has both ends, or all")
        first, last = int(ends[1]), int(ends[2])
        if not 0 <= last - first <= 1000:
            raise UserError(f"{setting}={value}: use FIRST..LAST, such as 0..5")
        parts += [str(depth) for depth in range(first, last + 1)]
    return ",".join(parts)


def _seeds(value: str) -> str:
    """Return seeds as a list: 0,1,2 is one, and so are 0..2 and range(0,3)."""
    if found := re.fullmatch(r"range\(\s*(\d{1,4})\s*(?:,\s*(\d{1,4})\s*)?\)", value):
        first, end = (0, int(found[1])) if found[2] is None else (int(found[1]), int(found[2]))
        return str([*range(first, end)])
    if not re.fullmatch(r"\s*\d+(\.\.\d+)?(\s*,\s*\d+(\.\.\d+)?)*\s*", value) or re.fullmatch(r"\s*\d+\s*", value):
        return value
    return f"[{_spans('seeds', value)}]"


def _names(value: str) -> str:
    """Return a list of classes with all but whole numbers quoted: true, 1.5 and 日本 are names there."""
    if not re.fullmatch(r"\[[^\[\]'\"{}]*\]", value):
        return value
    each = [part.strip() for part in value[1:-1].split(",")]
    return f"[{','.join(part if re.fullmatch(r'-?[0-9]*', part) else quoted(part) for part in each)}]"


def _patterns(value: str) -> str:
    r"""Return a list of regular expressions with each of them quoted; commas within brackets are theirs.

    >>> _patterns(r"[stem,layer[1,2]\.0,b{1,2}]")
    "['stem','layer[1,2]\\.0','b{1,2}']"
    """
    if not re.fullmatch(r"\[[^'\"]*\]", value):
        return value
    parts, depth = [""], 0
    for sign in value[1:-1]:
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return f"[{','.join(quoted(part.strip()) for part in parts)}]"


def _text(value: str) -> str:
    """Return a path or name in quotes if there is such a file or folder, or if Hydra cannot read it without."""
    if value in ("", "null") or value[0] in "'\"":
        return value
    if _exists(value):
        return quoted(value)
    parts = value.split(",")
    if len(parts) > 1 and any(map(_exists, parts)):
        return ",".join(quoted(part) if _exists(part) else part for part in parts)
    if value[0] in "[{" or _reads(value):
        return value
    return ",".join(part if _reads(part) else quoted(part) for part in parts)


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, or of a user who is not here
        return False


def _reads(value: str) -> bool:
    try:
        OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return False
    return True


def quoted(text: str) -> str:
    r"""Return text as Hydra's grammar quotes it, so that it comes out as it is.

    >>> print(quoted("it's $5"))
    'it\'s $5'
    """
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped).replace("${", "\\${")
    return f"'{escaped}'"


def with_depths(grid: Sequence[list[str]], n_blocks: Callable[[list[str]], int]) -> list[list[str]]:
    """Return the overrides of every point, with freeze_depth=all of each replaced by every depth of its model.

    n_blocks: tells how many blocks there are to freeze, from the point's other overrides.
    """
    made: list[list[str]] = []
    for each in grid:
        if "freeze_depth=all" not in each:
            made.append(each)
            continue
        place = each.index("freeze_depth=all")
        rest = [*each[:place], *each[place + 1 :]]
        made += [
            [*rest[:place], f"freeze_depth={depth}", *rest[place:]] for depth in range(n_blocks(rest) + 1)
        ]  # fmt: skip
    return [list(each) for each in dict.fromkeys(map(tuple, made))] if len(made) > len(grid) else made
