"""`python -m sweep.report outputs/<name>`: table, summary, figures and verdict again, from the records alone."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sweep import interrupt


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit 0, 1 where results are missing, 2 for bad input, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m sweep.report",
        description="Make table, summary, figures and verdict again from the records of a multirun.",
    )
    parser.add_argument("folder", type=Path, help="outputs/<name>")
    folder = parser.parse_args(arguments).folder
    with interrupt.command():
        from sweep.report import render  # noqa: PLC0415  the imports take a second, in which Ctrl-C may come

        report = render.build(folder)
        print(report.text)
        if report.missing:
            sys.exit(1)


if __name__ == "__main__":
    main()
