"""How many cores there are for this process."""


def usable() -> int:
    """Return how many cores this process may use: of the machine's, what affinity and a container's quota leave it."""
    from joblib import cpu_count  # noqa: PLC0415  a fifth of a second, for commands that compute

    return int(cpu_count())
