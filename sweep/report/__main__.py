"""`python -m sweep.report outputs/<name>`: table, summary, figures and verdict again, from the records alone.

With --to, one report of several folders. Two folders without it are compared.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from sweep import interrupt
from sweep.commands import Command
from sweep.errors import UserError, reason


def compared(folders: Sequence[Path]) -> str:
    """Return the comparison of two sweeps; raise UserError for more, or for one with itself."""
    from sweep.report import compare, render  # noqa: PLC0415

    if len(folders) > 2:
        raise UserError("two folders are compared; several make one report: say where with --to FOLDER")
    first, second = folders
    if first.resolve() == second.resolve():
        raise UserError(f"{first}: the same folder twice; give two sweeps to compare")
    names = (first.resolve().name, second.resolve().name)
    names = names if names[0] != names[1] else (str(first), str(second))
    return compare.compare(names, *(render.rows_of(folder, folder.name) for folder in folders))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit 0, 1 where results are missing, 2 for bad input, 130 after Ctrl-C."""
    parser = Command(
        "sweep.report",
        "Make table, summary, figures and verdict again from the records of a multirun; or compare two.",
        {
            "outputs/sweep": "again, without torch",
            "A B": "what B gains over A at every point that both have, seed by seed, with intervals",
            "A B --to C": "one report of several folders",
        },
    )
    parser.add_argument("folder", type=Path, nargs="+", help="outputs/<name>, or the folder of a report")
    parser.add_argument("--to", type=Path, help="write one report of all folders here, from records or table.parquet")
    parser.add_argument("--figures", default="png", help="formats of the figures beside png: svg, pdf or svg,pdf")
    with interrupt.command():
        given = parser.parse_args(arguments)
        from sweep.report import figures, render  # noqa: PLC0415  the imports take a second, in which Ctrl-C may come

        target = given.to or given.folder[0]
        formats = [each.strip() for each in given.figures.split(",")]
        if unknown := [each for each in formats if each not in figures.FORMATS]:
            raise UserError(f"--figures {given.figures}: {unknown[0]!r} is none of {', '.join(figures.FORMATS)}")
        try:
            if given.to is None and len(given.folder) > 1:
                print(compared(given.folder))
                return
            made = render.merge(given.folder, target, formats) if given.to else render.build(target, formats=formats)
        except OSError as error:
            raise UserError(f"{target}: cannot be read or written there ({reason(error)})") from error
        print(made.text)
        if made.missing:
            sys.exit(1)


if __name__ == "__main__":
    main()
