"""How many cores there are for this process, and how another one is told how many are its own."""


def usable() -> int:
    """Return how many cores this process may use: of the machine's, what affinity and a container's quota leave it."""
    from joblib import cpu_count  # noqa: PLC0415  a fifth of a second, for commands that compute

    return int(cpu_count())


def bound(threads: int) -> dict[str, str]:
    """Return the variables under which a process computes with so many threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
