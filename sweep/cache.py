"""`python -m sweep.cache`."""

from sweep import interrupt


def main() -> None:
    """Run the command line; Ctrl-C is caught before the imports, which take a while."""
    interrupt.install()
    from sweep.cli.cache import main as run  # noqa: PLC0415

    run()


if __name__ == "__main__":
    main()
