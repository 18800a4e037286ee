import itertools

import numpy as np
import pytest
from scipy import stats

from sweep.stats import tests as inference
from sweep.stats.types import Floats


def count(groups: list[Floats]) -> float:
    """Count by hand the pairs between groups that are in order, ties half."""
    return sum(
        float((late > early) + 0.5 * (late == early))
        for lower, upper in itertools.combinations(groups, 2)
        for early in lower
        for late in upper
    )


def test_mean_interval_is_scipys() -> None:
    values = np.array([0.5, 0.52, 0.6])
    mean, std, low, high = inference.mean_interval(values[:, None])
    expected = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    assert (mean, std) == pytest.approx((values.mean(), values.std(ddof=1)))
    assert (low, high) == pytest.approx(expected)


def test_mean_interval_says_what_it_cannot_know() -> None:
    assert inference.mean_interval(np.array([[0.5]]))[0] == 0.5
    assert np.isnan(inference.mean_interval(np.array([[0.5]]))[1:]).all()
    assert np.isnan(inference.mean_interval(np.zeros((0, 1)))).all()


def test_jonckheere_is_the_exact_test() -> None:
    groups = [np.array([0.0, 1.0]), np.array([1.0, 2.0]), np.array([2.0, 3.0])]
    values, observed = np.concatenate(groups), count(groups)
    null = np.array(
        [count([np.array(x[:2]), np.array(x[2:4]), np.array(x[4:])]) for x in itertools.permutations(values)]
    )
    found = inference.jonckheere(groups)
    assert found.statistic == observed
    assert found.p_rising == pytest.approx(np.mean(null >= observed))
    assert found.p_falling == pytest.approx(np.mean(null <= observed))
    assert found.z == pytest.approx((observed - null.mean()) / null.std())


def test_jonckheere_by_hand() -> None:
    # 3 > 1, 3 > 2, 2 > 1, 2 = 2 between the groups: 3.5 of 4
    assert inference.jonckheere([np.array([1.0, 2.0]), np.array([2.0, 3.0])]).statistic == 3.5


def test_drawn_arrangements_agree_with_the_normal_limit() -> None:
    rng = np.random.default_rng(0)
    groups = [rng.standard_normal(8) + 0.3 * shift for shift in range(3)]  # 9,465,511,770 assignments: drawn
    found = inference.jonckheere(groups)
    assert found.p_rising == pytest.approx(stats.norm.sf(found.z), abs=0.02)
    assert found.p_rising + found.p_falling == pytest.approx(1, abs=0.02)


def test_kendall_is_scipys() -> None:
    rng = np.random.default_rng(0)
    values, levels = rng.standard_normal(7), rng.permutation(7)
    found = inference.kendall(values, levels)
    expected = stats.kendalltau(values, levels, method="exact")
    assert found.statistic / 21 == pytest.approx(expected.statistic)
    assert inference.two_sided(found) == pytest.approx(expected.pvalue)


def test_page_is_scipys_without_ties_and_exact_with_them() -> None:
    rng = np.random.default_rng(0)
    groups = rng.standard_normal((5, 3))
    expected = stats.page_trend_test(groups, method="exact")
    found = inference.page(groups)
    assert (found.statistic, found.p_rising) == pytest.approx((expected.statistic, expected.pvalue))
    tied = np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 2.0]])
    ranks = stats.rankdata(tied, axis=1)
    null = [
        np.dot(one, (1, 2, 3)) + np.dot(other, (1, 2, 3))
        for one in itertools.permutations(ranks[0])
        for other in itertools.permutations(ranks[1])
    ]
    observed = (ranks @ (1, 2, 3)).sum()
    assert inference.page(tied).p_rising == pytest.approx(np.mean(np.array(null) >= observed - 1e-9))
    assert inference.page(tied).p_falling == pytest.approx(np.mean(np.array(null) <= observed + 1e-9))
    same = inference.page(np.zeros((4, 3)))
    assert tuple(same[1:]) == pytest.approx((1, 1, 0))


def test_sign_flip_is_scipys() -> None:
    values = np.array([0.3, -0.1, 0.4, 0.2, 0.0, 0.5])
    expected = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert inference.sign_flip(values).p_rising == pytest.approx(expected.pvalue)
    assert inference.sign_flip(np.array([1.0, 2.0, 3.0, 4.0, 5.0])).p_rising == 1 / 32
    assert inference.sign_flip(np.ones(20)).p_rising == 1 / 20_000, "drawn, so never 0"


def test_equivalence_is_two_one_sided_welch_tests() -> None:
    rng = np.random.default_rng(0)
    first, second = 0.002 * rng.standard_normal(6), 0.004 * rng.standard_normal(8) + 0.003
    below = stats.ttest_ind(first - 0.01, second, equal_var=False, alternative="less").pvalue
    above = stats.ttest_ind(first + 0.01, second, equal_var=False, alternative="greater").pvalue
    assert inference.equivalence(first, second, 0.01) == pytest.approx(max(below, above))
    assert inference.equivalence(first[:1], second, 0.01) == 1
    assert inference.equivalence(np.zeros(2), np.zeros(2), 0.01) == 0
    assert inference.equivalence(np.zeros(2), np.full(2, 0.01), 0.01) == 1, "a difference of the margin is none too few"


def test_difference_interval_is_scipys() -> None:
    first, second = np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.0])
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    assert inference.difference_interval(first, second) == pytest.approx(tuple(expected))
    assert inference.difference_interval(first[:1], second) is None
    assert inference.difference_interval(np.ones(3), np.zeros(3)) is None
    # a group without spread is no obstacle: one degree of freedom, deviation 1 / sqrt(2), t at 97.5 % 12.7062
    found = inference.difference_interval(np.ones(3), np.array([0.0, 1.0]))
    assert found == pytest.approx((0.5 - 12.7062 / 2, 0.5 + 12.7062 / 2), rel=1e-5)


def test_bca_holds_the_mean_and_knows_its_limits() -> None:
    values = np.array([0.0, 1.0, 1.0, 2.0, 4.0, 8.0])
    low, high = inference.bca(values) or (0, 0)
    assert 0 < low < values.mean() < high < 8
    assert inference.bca(values[:2]) is None
    assert inference.bca(np.ones(4)) == (1, 1)


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [([0.01, 0.04], [0.02, 0.04]), ([0.04, 0.03], [0.06, 0.06]), ([0.9, 0.8], [1.0, 1.0]), ([0.2], [0.2])],
)
def test_holm_by_hand(p_values: list[float], corrected: list[float]) -> None:
    assert inference.holm(p_values) == pytest.approx(corrected)


def test_kendall_within_groups_is_the_sum_over_all_orders() -> None:
    first = [np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 2.0, 5.0])]
    second = [np.array([0.0, 2.0, 2.0]), np.array([4.0, 1.0, 3.0, 3.0])]

    def score(orders: tuple[tuple[float, ...], ...]) -> float:
        pairs = [zip(x, order, strict=True) for x, order in zip(first, orders, strict=True)]
        return sum(
            float(np.sign(a[0] - b[0]) * np.sign(a[1] - b[1]))
            for group in pairs
            for a, b in itertools.combinations(group, 2)
        )

    null = np.array([score(orders) for orders in itertools.product(*(itertools.permutations(y) for y in second))])
    observed = score(tuple(tuple(y) for y in second))
    found = inference.kendall_within(list(zip(first, second, strict=True)))
    assert found.statistic == observed
    assert found.p_rising == pytest.approx(np.mean(null >= observed - 1e-9))
    assert found.p_falling == pytest.approx(np.mean(null <= observed + 1e-9))
    assert found.z == pytest.approx((observed - null.mean()) / null.std())


def test_kendall_within_one_group_is_scipys() -> None:
    rng = np.random.default_rng(1)
    values, others = rng.standard_normal((2, 6))
    expected = stats.kendalltau(values, others, method="exact", alternative="greater")
    found = inference.kendall_within([(values, others)])
    assert (found.statistic / 15, found.p_rising) == pytest.approx((expected.statistic, expected.pvalue))
