"""How every command takes its arguments and explains itself: help of one shape, wrong arguments in one line."""

import argparse
from collections.abc import Mapping
from functools import partial
from typing import NoReturn

from sweep.errors import UserError


class Command(argparse.ArgumentParser):
    """The arguments of `python -m NAME`; read them within interrupt.command(), which says what is wrong with them."""

    def __init__(self, name: str, what: str, examples: Mapping[str, str], more: str = "") -> None:
        """what: sentences on what the command does. examples: what each line of arguments does. more: stands below."""
        lines = [f"  python -m {f'{name} {line}'.strip()}\n      {does}" for line, does in examples.items()]
        below = ["\n".join(["examples:", *lines]), *([more] if more else [])]
        codes = "exit code: 0; 1 where a result is missing; 2 for bad input; 130 after Ctrl-C"
        super().__init__(
            prog=f"python -m {name}",
            description=what,
            epilog="\n\n".join([*below, codes]),
            formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=32, width=110),
            allow_abbrev=False,
            add_help=False,
        )
        self.take_help()

    def take_help(self) -> None:
        """Take --help."""
        self.add_argument("-h", "--help", action="help", help="show this")

    def error(self, message: str) -> NoReturn:
        head, _, names = message.partition("unrecognized arguments: ")
        raise UserError(f"{head or f'{names}: no such option'}; see {self.prog} --help")
