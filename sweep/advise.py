"""`python -m sweep.advise`."""

from sweep.cli.advise import main

if __name__ == "__main__":
    main()
