"""`python -m sweep.models`."""

from sweep.models.build import main

if __name__ == "__main__":
    main()
