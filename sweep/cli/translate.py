"""Hydra's errors, in one line each that says what to change."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import OverrideParseException

from sweep import config as settings
from sweep.cli.arguments import flat
from sweep.config import Config
from sweep.errors import UserError, nearest, unknown
from sweep.paths import CONF


@contextmanager
def translated() -> Iterator[None]:
    """Make every error that Hydra has with its input, and that leaves this block, a UserError of one line."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing them
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError | BrokenPipeError) or not _of_hydra(error):
            raise
        raise UserError(_one_line(error)) from error
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def _of_hydra(error: Exception) -> bool:
    """Return whether Hydra, or what it is made of, raised this."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    modules = [type(error).__module__, frame.tb_frame.f_globals.get("__name__", "") if frame else ""]
    return any(name.partition(".")[0] in ("hydra", "omegaconf", "yaml", "antlr4") for name in modules)


# Launchers that come with a package of their own.
LAUNCHERS = {
    "joblib": "hydra-joblib-launcher",
    "ray_aws": "hydra-ray-launcher",
    "rq": "hydra-rq-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
}

# What Hydra and OmegaConf say, and what a user is told instead: {name} stands for the pattern's groups.
_SAID = [
    (r"Could not override '(?P<key>[^']+)'|Key '(?P<also>[^']+)' (?:is )?not in", ""),
    (
        r"(?:Ambiguous value for argument|Sweep parameters) '(?P<pair>[^']+)'",
        "{pair}: several values need -m; a list needs brackets and quotes, such as 'seeds=[0,1]'",
    ),
    (
        r"Value '(?P<value>.*?)' of type '\w+' could not be converted to (?P<kind>\w+).*?full_key: (?P<key>\S+)",
        "{key}={value}: use a value of type {kind}",
    ),
    (r"Value '(?P<value>.*?)' is not a valid bool.*?full_key: (?P<key>\S+)", "{key}={value}: use true or false"),
    (
        r"Invalid value '(?P<value>.*?)', expected one of \[(?P<all>.*?)\].*?full_key: (?P<key>\S+)",
        "{key}={value}: use one of {all}",
    ),
    (
        r"Cannot convert '(?:list|dict)' to string: '(?P<value>.*?)'\s+full_key: (?P<key>\S+)",
        "{key}={value}: use text; in quotes, such as 'key=\"[a]\"', if it has brackets",
    ),
    (
        r"Invalid value assigned: \w+ is not a ListConfig.*?full_key: (?P<key>\S+)",
        "{key}: use a list, such as [0.5,0.5]",
    ),
    (r"is not a subclass of \w+.*?full_key: (?P<key>\S+)", "{key}: use names and values in braces, such as {{a: 1}}"),
    (
        r"Value (?P<value>.*?) \(\w+\) is not a valid input for <enum.*?full_key: (?P<key>\S+)",
        "{key}={value}: use one name; --help with the setting's name lists them",
    ),
    (
        r"missing mandatory value: .*?full_key: (?P<key>\S+)",
        "{key}=???: nothing is given; give a value, or leave it out",
    ),
    (r"field '(?P<key>[^']+)' is not Optional", "{key}=null: it cannot be null; give a value, or leave it out"),
    (r"An item is already at '(?P<key>[^']+)'", "+{key}=...: it is there already; use {key}=... without the +"),
    (
        r"Error merging override [+~]*(?P<key>[\w.]+)=.*Cannot merge DictConfig with ListConfig",
        "{key}: braces stand for names and values; a list needs brackets, such as [1,2]",
    ),
    (r"Exceeds the limit \(\d+ digits\)", "a number of thousands of digits is out of every range; use a shorter one"),
    (
        r"int too large to convert to float.*?full_key: (?P<key>[\w.]+)",
        "{key}: out of every range; use a smaller number",
    ),
    (r"Additional config directory '(?P<path>.*?)' not found", "--config-dir {path}: no such folder"),
]


def _one_line(error: Exception) -> str:
    """Return a composition error of Hydra in one line, with the nearest name where a name was wrong."""
    text = f"{error}\n{error.__cause__ or ''}"
    group = re.search(r"Could not find '([^']+)/([^'/]*)'\s+Available options in '[^']+':\n((?:\t\S+\n?)*)", text)
    if group and group[1] == "hydra/launcher" and group[2] in LAUNCHERS:
        return f"{group[1]}={group[2]}: not installed; pip install {LAUNCHERS[group[2]]}"
    if group and group[1] in ("model/timm", "model/torchvision"):
        model = f"model=timm model.name={group[2]}" if group[1] == "model/timm" else f"model={group[2]}"
        return f"{group[1].replace('/', '=')}/{group[2]}: use {model}"
    if group:
        return str(unknown(group[1], group[2], group[3].split()))
    for pattern, line in _SAID:
        if found := re.search(pattern, text, re.S):
            said = {name: value for name, value in found.groupdict().items() if value is not None}
            if "kind" in said:
                said["kind"] = said["kind"].lower()
            return line.format(**said) if line else unknown_setting(said.get("key") or said["also"])
    if isinstance(error, OverrideParseException):
        quoting = "put lists and special signs in quotes: 'key=[1,2]', 'key=\"~/a b\"'"
        if re.search(r"^\s*,|,\s*,|,\s*$", error.override.partition("=")[2]):
            return f"{error.override}: there is nothing before, between or after its commas; leave one comma out"
        return f"{error.override}: not of the form key=value; {quoting}"
    lines = [line.strip() for line in text.splitlines() if line.strip() and "https://" not in line]
    return "; ".join(lines[:2]) or type(error).__name__


def unknown_setting(name: str) -> str:
    """Return what is said of a setting that does not exist, with the nearest one that does."""
    groups = [path.name for path in CONF.iterdir() if path.is_dir()]
    names = [key for key, _ in flat(settings.identity(Config()))] + [*settings.NOT_IDENTITY, *groups]
    inside = [key for key in names if key.endswith(f".{name}") and not key.startswith("source.")]
    hint = f"; did you mean {' or '.join(inside[:3])}?" if inside else nearest(name, names)
    return f"{name}: no such setting" + (hint or "; python -m sweep --help lists them")
