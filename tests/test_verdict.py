import itertools

import numpy as np
import pytest
from scipy import stats

from sweep import verdict
from sweep.verdict import TaskScores


def task(case: str, *curve: float, seeds: int = 3, noise: float = 0.0) -> TaskScores:
    rng = np.random.default_rng(0)
    accuracy = np.array(curve)[:, None] + noise * rng.standard_normal((len(curve), seeds))
    return TaskScores(case, np.arange(len(curve)) * 2, accuracy)


DEEP, MIDDLE, SHALLOW = (0.5, 0.6, 0.7), (0.5, 0.6, 0.5), (0.7, 0.6, 0.5)
RULE = {"a": task("similar_fewer", *DEEP), "b": task("similar_more", *MIDDLE), "c": task("dissimilar", *SHALLOW)}
REVERSED = {"a": task("similar_fewer", *SHALLOW), "b": task("similar_more", *MIDDLE), "c": task("dissimilar", *DEEP)}


def repeat(tasks: dict[str, TaskScores], times: int) -> dict[str, TaskScores]:
    return {f"{name}{number}": scores for name, scores in tasks.items() for number in range(times)}


def test_mean_interval_is_scipys() -> None:
    values = np.array([0.5, 0.52, 0.6])
    mean, std, low, high = verdict.mean_interval(values)
    expected = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    assert (mean, std) == pytest.approx((values.mean(), values.std(ddof=1)))
    assert (low, high) == pytest.approx(expected)


def test_mean_interval_says_what_it_cannot_know() -> None:
    assert verdict.mean_interval(np.array([0.5]))[0] == 0.5
    assert np.isnan(verdict.mean_interval(np.array([0.5]))[1:]).all()
    assert np.isnan(verdict.mean_interval(np.array([]))).all()


@pytest.mark.parametrize(
    ("curve", "kept"),
    [((0.8, 0.85, 0.845), 4), ((0.8, 0.85, 0.84), 4), ((0.8, 0.85, 0.839), 2), ((0.9, 0.5, 0.5), 0), ((0.5,) * 3, 4)],
)
def test_kept_depth_is_the_deepest_within_a_point(curve: tuple[float, ...], kept: int) -> None:
    assert verdict.kept_depth(np.array([0, 2, 4]), np.array(curve)) == kept


def test_ordered_alternative_is_the_exact_test() -> None:
    groups = [np.array([0.0, 1.0]), np.array([1.0, 2.0]), np.array([2.0, 3.0])]
    values, observed = np.concatenate(groups), verdict._jonckheere(groups)
    count = [
        verdict._jonckheere([np.array(order[:2]), np.array(order[2:4]), np.array(order[4:])])
        for order in itertools.permutations(values)
    ]
    rising, falling = verdict.ordered_alternative(groups)
    assert rising == pytest.approx(np.mean(np.array(count) >= observed))
    assert falling == pytest.approx(np.mean(np.array(count) <= observed))


def test_jonckheere_by_hand() -> None:
    # 3 > 1, 3 > 2, 2 > 1, 2 = 2 between the groups: 3.5 of 4
    assert verdict._jonckheere([np.array([1.0, 2.0]), np.array([2.0, 3.0])]) == 3.5


def test_one_task_per_case_is_descriptive_whatever_it_shows() -> None:
    for tasks, words in ((RULE, "in the rule's order"), (REVERSED, "in the reverse of the rule's order")):
        judged = verdict.judge(tasks)
        assert judged.decision == "descriptive"
        assert judged.reason.startswith(words)
        assert "too few tasks to test (the smallest p that 3 tasks can give is 0.17)" in judged.reason
    judged = verdict.judge(RULE)
    assert judged.kept_depth == {"a": 4, "b": 2, "c": 0}
    assert (judged.effect_blocks, judged.p_value) == (4, pytest.approx(1 / 6))
    assert judged.effect_points == pytest.approx(20 - -20)
    assert (judged.n_tasks, judged.n_seeds) == (3, 3)


def test_enough_tasks_are_tested_both_ways() -> None:
    assert verdict.judge(repeat(RULE, 2)).decision == "supported"
    assert verdict.judge(repeat(REVERSED, 2)).decision == "contradicted"
    same = {name: scores._replace(case=case) for case in verdict.CASES for name, scores in [(case, RULE["b"])]}
    judged = verdict.judge(repeat(same, 2))
    assert judged.decision == "inconclusive"
    assert judged.reason.startswith("the same kept depth in every case")


def test_interval_holds_the_effect_and_grows_with_noise() -> None:
    def width(noise: float) -> float:
        tasks = {
            f"{case}{number}": task(case, 0.5, 0.52, 0.54, noise=noise) for case in verdict.CASES for number in range(2)
        }
        judged = verdict.judge(tasks)
        assert judged.interval is not None
        assert judged.effect_blocks is not None
        assert judged.interval[0] <= judged.effect_blocks <= judged.interval[1]
        return judged.interval[1] - judged.interval[0]

    assert width(0.0) == 0
    assert width(0.05) > 0


def test_one_seed_has_no_interval_and_one_task_per_case_has_seeds_only() -> None:
    single = {name: each._replace(accuracy=each.accuracy[:, :1]) for name, each in RULE.items()}
    judged = verdict.judge(single)
    assert (judged.interval, judged.effect_points_interval, judged.interval_over) == (None, None, None)
    assert judged.effect_blocks == 4
    assert verdict.judge(RULE).interval_over == "seeds"
    assert verdict.judge(repeat(RULE, 2)).interval_over == "tasks and seeds"


def test_no_verdict_from_an_incomplete_grid() -> None:
    holed = {**RULE, "a": RULE["a"]._replace(accuracy=np.where(np.eye(3) == 1, np.nan, RULE["a"].accuracy))}
    judged = verdict.judge(holed, missing=["a seed 0: failed"])
    assert judged.decision == "incomplete"
    assert judged.missing == ["a seed 0: failed"]
    assert judged.kept_depth == {"b": 2, "c": 0}
    assert judged.p_value is None


def test_what_cannot_speak_to_the_rule_is_untested() -> None:
    assert verdict.judge({"a": RULE["a"]}).decision == "untested"
    assert verdict.judge({"a": RULE["a"]._replace(case="unknown"), "b": RULE["b"]}).decision == "untested"
    assert verdict.judge({}).decision == "untested"
    one_depth = {name: TaskScores(each.case, each.depths[:1], each.accuracy[:1]) for name, each in RULE.items()}
    assert verdict.judge(one_depth).decision == "untested"


def test_verdict_is_deterministic() -> None:
    tasks = repeat({name: task(scores.case, *DEEP, noise=0.1) for name, scores in RULE.items()}, 3)  # 9! orders: drawn
    assert verdict.judge(tasks) == verdict.judge(tasks)


@pytest.mark.campaign
def test_under_the_null_the_rule_is_rarely_supported() -> None:
    """300 tables of 4 tasks per case whose depth curves do not depend on the case: at most 5 % plus three sigma."""
    rng = np.random.default_rng(1)
    supported = contradicted = 0
    for _ in range(300):
        groups = [rng.integers(0, 6, size=4).astype(float) for _ in verdict.CASES]
        rising, falling = verdict.ordered_alternative(groups)
        supported += rising <= 0.05
        contradicted += falling <= 0.05
    limit = 300 * 0.05 + 3 * np.sqrt(300 * 0.05 * 0.95)
    assert supported <= limit
    assert contradicted <= limit
