"""The flags of commands that take settings, and what Hydra is given of them."""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob

from sweep import __version__
from sweep.cli import explain
from sweep.cli.arguments import PRIMARY, overrides, quoted, without_mode
from sweep.commands import Command
from sweep.errors import UserError

INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
WHAT = """\
How many pretrained layers should stay frozen for my task? Trains one point and prints its result; with -m, trains every
combination of comma-separated values, and then prints table and verdict. Results go to outputs/<name>: report.html,
table.csv, summary.csv, verdict.json, report.md, figures/. The same command again trains only what is missing."""
PHOTOS = "data=image_folder data.root=my/photos"
EXAMPLES = {
    "-m pretrained=true,false freeze_depth=0,2,4": "the embedded tasks, one per case of the rule; no network needed",
    f"-m name=mine source=imagenet {PHOTOS} freeze_depth=all": (
        "your own images: one subfolder per class, or train/ and test/ with one each"
    ),
    f"-m name=mine source=imagenet {PHOTOS} freeze_depth=0,3,5 export=best": (
        'and the best model as files: sweep.load("outputs/mine/export/photos") classifies images with it'
    ),
    "-m name=tuned 'optimizer.lr=[0.005,0.02,0.08]' seeds=5 freeze_depth=0,5": (
        "five seeds; for each, the learning rate with the best validation accuracy"
    ),
    "-m +experiment=origin": "a whole study, with its settings and its grid",
}
ALSO = """\
also:
  python -m sweep.advise [settings]       which depth to keep, in limited time
  python -m sweep.inspect [settings]      images, weights and blocks before anything is trained
  python -m sweep.cache                   what is kept between sweeps; --clear removes it
  python -m sweep.models resnet18         a model's blocks: what freeze_depth=k freezes
  python -m sweep.report outputs/sweep    table, figures and verdict again, from the records
  python -m sweep.doctor                  what this machine has for a sweep, and what is wrong with it
  HYDRA_FULL_ERROR=1                      show tracebacks"""
COMPLETION = "with install=bash or install=fish: print what makes the Tab key complete freeze-sweep there"


class SettingsCommand(Command):
    """A command whose arguments are key=value, and names of settings after --help."""

    def __init__(self, name: str, what: str, examples: Mapping[str, str], more: str = "") -> None:
        super().__init__(name, what, examples, more)
        self.add_argument("settings", nargs="*", metavar="key=value", help="settings, and options of their groups")

    def take_help(self) -> None:
        """Take --help, also with names."""
        self.add_argument(
            *("-h", "--help"),
            action="store_true",
            help="show this; with names, what those settings or groups mean: --help freeze_depth",
        )

    def read(self, arguments: Sequence[str]) -> list[str]:
        """Return the settings; print help and end where that is asked for."""
        given = self.parse_intermixed_args(arguments)
        if given.help:
            print(explained(given) or self.format_help().rstrip())
            sys.exit(0)
        return list(given.settings)


def asked(given: argparse.Namespace) -> list[str]:
    """Return the names of settings after --help."""
    return [each for each in given.settings if "=" not in each]


def explained(given: argparse.Namespace) -> str:
    """Return what these settings and groups mean; raise UserError if there is no such thing."""
    return "\n\n".join(map(explain.setting, asked(given)))


def sweep_command() -> SettingsCommand:
    """Return the arguments of `python -m sweep`: settings, and those flags of Hydra's that are of use here."""
    made = SettingsCommand("sweep", WHAT, EXAMPLES, ALSO)
    add = made.add_argument
    add("-m", "--multirun", action="store_true", help="train every combination of comma-separated values")
    add("-c", "--cfg", choices=("job", "hydra", "all"), help="print the settings as composed, with -m of every point")
    add("-p", "--package", metavar="PART", help="with --cfg: that part of them alone, such as model")
    add("--resolve", action="store_true", help="with --cfg: references replaced by what they stand for")
    add("-i", "--info", choices=INFO, help="say how the settings are composed, with -m those of the first point")
    add("-cd", "--config-dir", metavar="FOLDER", help="a folder with YAML of your own, laid out as conf/")
    add("-sc", "--shell-completion", action="store_true", help=COMPLETION)
    add("--hydra-help", action="store_true", help="Hydra's own flags")
    add("--version", action="version", version=f"freeze-sweep {__version__}", help="print the version")
    add("-r", "--run", action="store_true", help=argparse.SUPPRESS)
    for names in (("-cn", "--config-name"), ("-cp", "--config-path"), ("--experimental-rerun",)):
        add(*names, help=argparse.SUPPRESS)
    return made


def names() -> list[str]:
    """Return the flags of `python -m sweep`."""
    return sorted(set(re.findall(r"(?<!\w)--[a-z-]+", sweep_command().format_help())))


def help_template() -> str:
    """Return the template that Hydra fills for `python -m sweep --help`."""
    whole = sweep_command().format_help().replace("$", "$$")
    groups = "groups (group=option):\n$APP_CONFIG_GROUPS"
    return f"{whole}\n{groups}\nsettings (key=value), as composed from the groups:\n$CONFIG"


def command_line(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of `python -m sweep` as Hydra reads them: flags first, settings in one piece.

    raises: UserError; SystemExit after --version, and after --help with names of settings.
    """
    arguments, multirun = without_mode(arguments)
    given = sweep_command().parse_intermixed_args(list(map(_whole, arguments, [*arguments[1:], ""])))
    if given.config_name or given.config_path:
        raise UserError(PRIMARY)
    if given.help and asked(given):
        print(explained(given))
        sys.exit(0)
    given.multirun |= multirun
    settings = overrides(given.settings, given.multirun)
    if given.help:
        return ["--help", *settings]
    if given.multirun and given.cfg:
        part = "null" if given.package in (None, "_global_") else quoted(given.package)
        settings.append(f"hydra.sweeper.show={{cfg:{given.cfg},package:{part},resolve:{str(given.resolve).lower()}}}")
        given.cfg = given.package = given.resolve = None
    if given.multirun and given.info:
        given.multirun, settings = False, list(map(_first, settings))
    flags = []
    for name, value in vars(given).items():
        if name not in ("settings", "help") and value:
            flags += [f"--{name.replace('_', '-')}", *([value] if isinstance(value, str) else [])]
    return [*flags, *settings]


def _whole(argument: str, following: str) -> str:
    """Return --info with what it shows if nothing is said, so that no setting is taken for it."""
    return "--info=all" if argument in ("-i", "--info") and following not in INFO else argument


def _first(override: str) -> str:
    """Return the override with the first of its values."""
    parsed = OverridesParser.create().parse_override(override)
    if not parsed.is_discrete_sweep() or isinstance(parsed.value(), Glob):
        return override
    value = next(parsed.sweep_string_iterator())
    return f"{parsed.get_key_element()}={0 if value == 'all' else value}"
