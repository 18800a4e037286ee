"""The tests that the verdict rests on: arrays in, statistics and p-values out. Pure numpy and scipy.

Permutation tests are exact where there are at most EXACT arrangements and drawn (DRAWN of them, seeded) where there are
more; a drawn p counts the observed arrangement, so that it is never 0 (Phipson and Smyth 2010). Arrangements are kept
between calls, so that thousands of tables of one shape can be judged in a simulation.
"""

import functools
import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from sweep.stats.types import Floats, Interval

EXACT = 20_000
DRAWN = 19_999
MOST_WITHIN = 7  # members of a group whose 5,040 orders are gone through


class Trend(NamedTuple):
    """A statistic, the one-sided p-values of its being that high and that low, and its distance from the null's mean.

    z: in standard deviations of the null; 0 where every arrangement gives the same.
    """

    statistic: float
    p_rising: float
    p_falling: float
    z: float


class Part(NamedTuple):
    """A part of the variance of a mean, and its degrees of freedom."""

    variance: float
    freedom: float


def parts_of_mean(values: Floats) -> tuple[Part, Part]:
    """Return the two parts of the variance of the mean of values (S, I): the rows' own, and all the rest.

    Rows and columns are crossed random effects, here seeds and test images (two-way analysis of variance without
    repeats). The rest, what columns add and what a row and a column have together, is known well where columns are
    many: so it bounds the interval also where a few rows happen to have the same mean. One column is all the rows'.
    Two rows or more.
    """
    n_rows, n_columns = values.shape
    if n_columns == 1:
        return Part(float(values.var(ddof=1)) / n_rows, n_rows - 1), Part(0.0, 1)
    of_rows, of_columns, together = two_way(values)
    return Part(max(0.0, of_rows - together), n_rows - 1), Part(max(of_columns, together), n_columns - 1)


def two_way(values: Floats) -> tuple[float, float, float]:
    """Return what rows, columns, and a row and a column together add to the variance of the mean of values (S, I).

    The mean squares, each over the number of values: the first two hold the third. Two rows and two columns or more.
    """
    n_rows, n_columns = values.shape
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    residual = values - rows[:, None] - columns + values.mean()
    together = float((residual**2).sum()) / ((n_rows - 1) * (n_columns - 1) * n_rows * n_columns)
    return float(rows.var(ddof=1)) / n_rows, float(columns.var(ddof=1)) / n_columns, together


def half_interval(parts: Sequence[Part], level: float = 0.95) -> float:
    """Return half of Student's t interval around a mean whose variance has these parts, of one kind.

    The degrees of freedom of the sum are Satterthwaite's (1946). Halves of two kinds, such as rows and columns, add in
    squares: few rows keep their wide interval, whatever the columns are (Howe 1974).
    """
    variance = sum(part.variance for part in parts)
    if variance <= 0:
        return 0.0
    freedom = variance**2 / sum(part.variance**2 / part.freedom for part in parts)
    return float(stats.t.ppf((1 + level) / 2, freedom)) * math.sqrt(variance)


def mean_interval(values: Floats, level: float = 0.95) -> tuple[float, float, float, float]:
    """Return (mean, sample standard deviation over rows, low, high) of values (S, I): seeds, and test images if known.

    What one row cannot tell is NaN: the luck of one seed is not known.

    >>> [round(x, 3) for x in mean_interval(np.array([[1.0], [2.0], [3.0]]))]
    [2.0, 1.0, -0.484, 4.484]
    """
    nan = float("nan")
    if len(values) < 2:
        return float(values.mean()) if len(values) else nan, nan, nan, nan
    mean, std = float(values.mean()), float(values.mean(axis=1).std(ddof=1))
    half = math.hypot(*(half_interval([part], level) for part in parts_of_mean(values)))
    return mean, std, mean - half, mean + half


def difference_interval(first: Floats, second: Floats, level: float = 0.95) -> Interval | None:
    """Return Welch's interval of the mean of first less that of second.

    None where a group has one value, or no group has values that differ: there is no spread to judge by.
    """
    if min(len(first), len(second)) < 2 or not _spread(first, second):
        return None
    with _nearly_constant_groups():
        found = stats.ttest_ind(first, second, equal_var=False).confidence_interval(level)
    return float(found.low), float(found.high)


def equivalence(first: Floats, second: Floats, margin: float) -> float:
    """Return the p-value of the two one-sided Welch tests that the means differ by less than margin (Schuirmann 1987).

    1 where a group has fewer than two values.
    """
    if min(len(first), len(second)) < 2:
        return 1.0
    difference = float(np.mean(first) - np.mean(second))
    if not _spread(first, second):
        return float(abs(difference) >= margin)
    # of the two tests, the one on the side of the difference has the larger p-value
    side = 1 if difference >= 0 else -1
    with _nearly_constant_groups():
        found = stats.ttest_ind(side * first - margin, side * second, equal_var=False, alternative="less")
    return float(found.pvalue)


def _spread(first: Floats, second: Floats) -> bool:
    """Return whether a group has values that differ by more than rounding."""
    return sum(float(np.var(values, ddof=1)) / len(values) for values in (first, second)) >= 1e-24


@contextmanager
def _nearly_constant_groups() -> Iterator[None]:
    """Silence scipy's doubts about a group of equal values: the other group's spread is enough for Welch's test."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss occurred", RuntimeWarning)
        yield


def jonckheere(groups: Sequence[Floats]) -> Trend:
    """Return the Jonckheere-Terpstra test of the groups' rising in their order, over assignments of values to groups.

    statistic: the count over pairs of groups of pairs of values in order, ties half.
    groups: values per group, e.g. the kept depths of the tasks of each case.
    """
    labels = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    trend = kendall(np.concatenate(groups), labels)
    pairs = math.comb(len(labels), 2) - sum(math.comb(len(group), 2) for group in groups)
    return trend._replace(statistic=(pairs + trend.statistic) / 2)


def kendall(values: Floats, levels: npt.NDArray[np.generic]) -> Trend:
    """Return Kendall's score S of values against levels, over all assignments of the levels to the values.

    S: pairs in the same order less pairs in the opposite one, ties 0. With the divisor of tau-b, which no assignment
    changes, S is Kendall's tau; with levels as groups it is Jonckheere-Terpstra's statistic but for a constant.
    values, levels: (n,). There is one column of work for each distinct level: give what has few of them as levels.
    """
    _, ranks, counts = np.unique(levels, return_inverse=True, return_counts=True)
    signs = np.sign(values[:, None] - values[None, :]).astype(np.float32)  # (n, n)
    observed = float(_scores(ranks[None].astype(np.int8), signs)[0])
    arrangements, exact = _assignments(tuple(counts.tolist()))
    return _trend(observed, _scores(arrangements, signs), exact)


def _scores(labels: npt.NDArray[np.int8], signs: npt.NDArray[np.float32]) -> Floats:
    """Return S for every row of labels (P, n); in float32 the counts are exact below 2^24."""
    total = np.zeros(len(labels), np.float32)
    for level in range(1, int(labels.max(initial=0)) + 1):
        upper, lower = (labels == level).astype(np.float32), (labels < level).astype(np.float32)
        total += np.einsum("pn,pn->p", upper @ signs, lower)
    return total.astype(np.float64)


def _trend(observed: float, null: Floats, exact: bool) -> Trend:
    spread = float(null.std())
    z = (observed - float(null.mean())) / spread if spread > 0 else 0.0
    rising, falling = int(np.sum(null >= observed - 1e-9)), int(np.sum(null <= observed + 1e-9))
    if exact:
        return Trend(observed, rising / len(null), falling / len(null), z)
    return Trend(observed, (rising + 1) / (len(null) + 1), (falling + 1) / (len(null) + 1), z)


def assignments(sizes: Sequence[int]) -> int:
    """Return in how many ways values can be assigned to groups of these sizes."""
    return math.factorial(sum(sizes)) // math.prod(math.factorial(size) for size in sizes)


def smallest_p(sizes: Sequence[int]) -> float:
    """Return the smallest p-value that the exact test can give for groups of these sizes.

    >>> smallest_p([1, 1, 1]) == 1 / 6
    True
    """
    return 1 / assignments(sizes)


@functools.lru_cache(maxsize=32)
def _assignments(sizes: tuple[int, ...]) -> tuple[npt.NDArray[np.int8], bool]:
    """Return labels (P, n) of every assignment to groups of these sizes, or of DRAWN ones, and whether it is every."""
    if assignments(sizes) <= EXACT:
        return np.array(list(_every(sizes)), np.int8), True
    labels = np.repeat(np.arange(len(sizes), dtype=np.int8), sizes)
    return np.random.default_rng(0).permuted(np.tile(labels, (DRAWN, 1)), axis=1), False


def _every(sizes: tuple[int, ...]) -> Iterator[npt.NDArray[np.int8]]:
    if len(sizes) == 1:
        yield np.zeros(sizes[0], np.int8)
        return
    total = sum(sizes)
    for indices in itertools.combinations(range(total), sizes[-1]):
        chosen = np.isin(np.arange(total), indices)
        for rest in _every(sizes[:-1]):
            labels = np.full(total, len(sizes) - 1, np.int8)
            labels[~chosen] = rest
            yield labels


def page(groups: Floats) -> Trend:
    """Return Page's L of the columns' rising in their order within rows, over all orders within every row; exact.

    L = sum over columns j = 1..k of j times the sum of the column's within-row ranks (Page 1963), ties averaged. Rows
    are independent, so its distribution is the convolution of theirs, ties and all.
    groups: (rows, k), one row per matched group.
    """
    weights = np.arange(1, groups.shape[1] + 1)
    ranks = stats.rankdata(groups, axis=1)
    # twice L: a whole number, as ranks are halves
    trend = _summed(
        [
            [round(2 * float(np.dot(order, weights))) for order in itertools.permutations(row)]  # as it is comes first
            for row in ranks
        ]
    )
    return trend._replace(statistic=trend.statistic / 2)


def kendall_within(groups: Sequence[tuple[Floats, Floats]]) -> Trend:
    """Return the test of Kendall's score S within groups, summed, over all orders within every group; exact.

    groups: two values (n,) of every member of a group, of MOST_WITHIN members at most. What groups differ in counts
    for nothing.
    """
    return _summed(
        [
            [round(_score(first, np.array(order))) for order in itertools.permutations(second)]
            for first, second in groups
        ]
    )


def _score(first: Floats, second: Floats) -> float:
    """Return Kendall's S: pairs in the same order less pairs in the opposite one."""
    signs = np.sign(np.subtract.outer(first, first)) * np.sign(np.subtract.outer(second, second))
    return float(signs.sum()) / 2


def _summed(groups: Sequence[Sequence[int]]) -> Trend:
    """Return the test of a sum over independent groups, of whose values, all equally likely, the first was observed."""
    observed, shift, masses = sum(values[0] for values in groups), 0, np.ones(1)  # of the sum, from shift
    for values in groups:
        shift += min(values)
        masses = np.convolve(masses, np.bincount(np.array(values) - min(values)) / len(values))
    indices = shift + np.arange(len(masses))
    mean = float(indices @ masses)
    spread = math.sqrt(float((indices - mean) ** 2 @ masses))
    rising, falling = float(masses[observed - shift :].sum()), float(masses[: observed - shift + 1].sum())
    return Trend(observed, rising, falling, (observed - mean) / spread if spread > 1e-9 else 0.0)


def sign_flip(differences: Floats) -> Trend:
    """Return the test of a mean difference of 0 over all changes of the differences' signs."""
    signs, exact = _signs(len(differences))
    return _trend(float(differences.mean()), signs @ differences / len(differences), exact)


@functools.lru_cache(maxsize=32)
def _signs(n: int) -> tuple[Floats, bool]:
    if 2**n <= EXACT:
        return np.array(list(itertools.product((1.0, -1.0), repeat=n))), True
    return np.random.default_rng(0).choice((1.0, -1.0), size=(DRAWN, n)), False


def two_sided(trend: Trend) -> float:
    """Return twice the smaller one-sided p-value, at most 1."""
    return min(1.0, 2 * min(trend.p_rising, trend.p_falling))


def bca(values: Floats) -> Interval | None:
    """Return the 95 % BCa bootstrap interval of the mean (Efron 1987); None for fewer than three values."""
    if len(values) < 3:
        return None
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # it answers NaN then: None
        found = stats.bootstrap((values,), np.mean, n_resamples=1999, method="BCa", rng=np.random.default_rng(0))
    low, high = found.confidence_interval
    return (float(low), float(high)) if np.isfinite([low, high]).all() else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected by Holm's step-down method (1979).

    >>> holm([0.04, 0.01])
    [0.04, 0.02]
    """
    corrected = [0.0] * len(p_values)
    least = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = least
    return corrected
