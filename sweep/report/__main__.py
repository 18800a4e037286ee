"""`python -m sweep.report`."""

from sweep.report.render import main

if __name__ == "__main__":
    main()
