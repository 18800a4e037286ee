"""`python -m sweep`, and the command freeze-sweep."""

import sys

from sweep import interrupt


def main() -> None:
    """Run the command line; Ctrl-C is caught before the imports, which take a while."""
    interrupt.install()
    if {"-sc", "--shell-completion"} & {*sys.argv} and any(each.startswith("query=") for each in sys.argv):
        from sweep.cli.completion import main as complete  # noqa: PLC0415  whoever types waits for this alone

        complete()
        return
    from sweep.cli.main import main as run  # noqa: PLC0415

    run()


if __name__ == "__main__":
    main()
