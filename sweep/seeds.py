"""Independent random streams, one for each use of a seed.

One seed fixes a member's subsample, random weights, head, order and dropout at every depth (common random
numbers), so depths differ by what is frozen and by nothing else. A stream that one purpose draws from is
never advanced by another.
"""

import zlib

import numpy as np


def stream(seed: int, purpose: str) -> np.random.Generator:
    """Return the generator of one purpose under one seed.

    >>> stream(0, "order").integers(100) == stream(0, "order").integers(100)
    np.True_
    """
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])


def torch_seed(seed: int, purpose: str) -> int:
    """Return the 63-bit seed with which torch draws for this purpose."""
    return int(stream(seed, purpose).integers(2**63 - 1))
