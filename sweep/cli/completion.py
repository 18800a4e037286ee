"""What the Tab key offers for freeze-sweep: Hydra's own completion, told what people type, and values of settings."""

import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hydra.plugins.completion_plugin import DefaultCompletionPlugin

from sweep.cli import compose, explain, flags
from sweep.cli.arguments import overrides, without_mode

FILES = re.compile(r"(data|source\.data)\.(root|file)|source\.path")


def main() -> None:
    """Print what may stand in place of the last word of $COMP_LINE; nothing where that cannot be understood."""
    offers: list[str] = []
    with suppress(Exception), compose.own_loader() as loader:  # what is wrong is said when the line is run
        offers = Completion(loader).offers(os.environ["COMP_LINE"])
    print(("\n" if "query=fish" in sys.argv else " ").join(offers))


class Completion(DefaultCompletionPlugin):
    """Hydra's completion of groups, options and names of settings."""

    def offers(self, line: str) -> list[str]:
        """Return the words that may stand in place of the last word of this command line."""
        *before, word = line.split(" ")
        if word.startswith("-"):
            return [each for each in flags.names() if each.startswith(word)]
        key, sign, value = word.partition("=")
        if sign and FILES.fullmatch(key):
            return [f"{key}={path}" for path in _paths(value)]
        earlier, comma, last = value.rpartition(",")  # of several values the last is completed
        known = explain.values(key) if sign else []
        found = [f"{key}={each}" for each in known if each.startswith(last)]
        found = found or self._query("config", " ".join([*_settings(before), f"{key}{sign}{last}"]))
        if not sign:
            return [each if each.endswith(("=", ".", "/")) else f"{each}=" for each in found]
        folder, slash, start = last.rpartition("/")  # an option of a group within the group
        if slash and not found:
            inner = self._query("config", f"{key}/{folder}={start}")
            found = [each.replace(f"/{folder}=", f"={folder}/", 1) for each in inner]
        return [f"{key}={earlier}{comma}{each.removeprefix(f'{key}=')}" for each in found]


def _settings(words: Sequence[str]) -> list[str]:
    """Return the words before as Hydra reads them, as far as it can split them."""
    given, multirun = without_mode([each for each in words[1:] if each])
    multirun |= bool({"-m", "--multirun"} & {*given})
    read = overrides([each for each in given if "=" in each and not each.startswith("-")], multirun)
    return [*(["-m"] if multirun else []), *(each for each in read if not re.search(r"\s", each))]


def _paths(start: str) -> list[str]:
    """Return the files and folders that begin so."""
    home = str(Path.home())
    whole = DefaultCompletionPlugin.complete_files(start.replace("~", home, 1) if start.startswith("~") else start)
    named = [f"{each}/" if Path(each).is_dir() else each for each in sorted(whole)]
    return [each.replace(home, "~", 1) for each in named] if start.startswith("~") else named
