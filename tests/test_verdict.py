import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from sweep.stats import effects, types
from sweep.stats import tests as inference
from sweep.stats.rule import kept_depth, rule_depth
from sweep.stats.types import CASES, Decision, Evidence, TaskEvidence
from sweep.stats.verdict import decide


def judge(tasks: Mapping[str, TaskEvidence]) -> Decision:
    return decide(Evidence(tasks))


def task(case: str, *curve: float, seeds: int = 3, noise: float = 0.0) -> TaskEvidence:
    rng = np.random.default_rng(0)
    accuracy = np.array(curve)[:, None] + noise * rng.standard_normal((len(curve), seeds))
    return TaskEvidence(case, np.arange(len(curve)) * 2, accuracy)


DEEP, MIDDLE, SHALLOW = (0.5, 0.6, 0.7), (0.5, 0.6, 0.5), (0.7, 0.6, 0.5)
RULE = {"a": task("similar_fewer", *DEEP), "b": task("similar_more", *MIDDLE), "c": task("dissimilar", *SHALLOW)}
REVERSED = {"a": task("similar_fewer", *SHALLOW), "b": task("similar_more", *MIDDLE), "c": task("dissimilar", *DEEP)}


def repeat(tasks: dict[str, TaskEvidence], times: int) -> dict[str, TaskEvidence]:
    return {f"{name}{number}": scores for name, scores in tasks.items() for number in range(times)}


@pytest.mark.parametrize(
    ("curve", "kept"),
    [((0.8, 0.85, 0.845), 4), ((0.8, 0.85, 0.84), 4), ((0.8, 0.85, 0.839), 2), ((0.9, 0.5, 0.5), 0), ((0.5,) * 3, 4)],
)
def test_kept_depth_is_the_deepest_within_a_point(curve: tuple[float, ...], kept: int) -> None:
    assert kept_depth(np.array([0, 2, 4]), np.array(curve)) == kept


def test_one_task_per_case_is_descriptive_whatever_it_shows() -> None:
    for tasks, words in ((RULE, "in the rule's order"), (REVERSED, "in the reverse of the rule's order")):
        judged = judge(tasks)
        assert judged.decision == "descriptive"
        assert judged.reason.startswith(words)
        assert "too few tasks to test (the smallest p that 3 tasks can give is 0.17)" in judged.reason
    tied = judge(RULE | {"b": replace(RULE["a"], case="similar_more")})
    assert tied.reason.startswith("in the rule's order, with a tie: similar_fewer 4, similar_more 4, dissimilar 0")
    judged = judge(RULE)
    assert judged.kept_depth == {"a": 4, "b": 2, "c": 0}
    assert judged.effect_blocks == 4
    assert judged.p_value == pytest.approx(1 / 6)
    assert judged.effect_points == pytest.approx(20 - -20)
    assert (judged.n_tasks, judged.n_seeds) == (3, 3)


def many(effect: float, each: int = 4, seeds: int = 3, **known: object) -> dict[str, TaskEvidence]:
    """Return tasks of every case whose deepest freeze gains effect x (1, 0, -1) with noise over tasks and seeds."""
    rng = np.random.default_rng(7)
    tasks = {}
    for sign, case in zip((-1, 0, 1), CASES, strict=True):
        for number in range(each):
            curve = 0.7 + (effect * sign + 0.01 * rng.standard_normal()) * np.linspace(0, 1, 5)
            accuracy = curve[:, None] + 0.004 * rng.standard_normal((5, seeds))
            tasks[f"{case} {number}"] = TaskEvidence(case, np.arange(5), accuracy, **known)  # type: ignore[arg-type]
    return tasks


def by_name(judged: Decision, start: str) -> types.Test:
    (found,) = [test for test in judged.tests if test.name.startswith(start)]
    return found


def test_enough_tasks_are_tested_both_ways() -> None:
    assert judge(repeat(RULE, 2)).decision == "supported"
    assert judge(repeat(REVERSED, 2)).decision == "contradicted"
    same = {case: replace(RULE["b"], case=case) for case in CASES}
    judged = judge(repeat(same, 2))
    assert judged.decision == "equivalent"
    assert "the same kept depth in every case" in judged.reason


def test_interval_of_the_effect_is_welchs_over_tasks() -> None:
    tasks = many(effect=0.01)
    judged = judge(tasks)
    kept = [[judged.kept_depth[name] for name in tasks if tasks[name].case == case] for case in CASES]
    expected = stats.ttest_ind(kept[2], kept[0], equal_var=False)
    assert judged.effect_blocks == pytest.approx(np.mean(kept[2]) - np.mean(kept[0]))
    assert judged.interval == pytest.approx(tuple(expected.confidence_interval()))
    assert judged.interval_over == "tasks and seeds"
    assert judge(repeat(RULE, 2)).interval is None, "tasks that do not differ tell nothing of their spread"


def test_one_seed_has_no_interval_and_one_task_per_case_has_seeds_only() -> None:
    single = {name: replace(each, accuracy=each.accuracy[:, :1]) for name, each in RULE.items()}
    judged = judge(single)
    assert (judged.interval, judged.effect_points_interval, judged.interval_over) == (None, None, None)
    assert (judged.effect_blocks, judged.choices) == (4, {})
    assert judge(RULE).interval_over is None, "seeds that do not differ tell nothing of their spread"
    noisy = {name: task(each.case, 0.5, 0.5, 0.5, seeds=5, noise=0.05) for name, each in RULE.items()}
    judged = judge(noisy)
    assert judged.interval is None
    gains = [100 * (noisy[name].accuracy[-1] - noisy[name].accuracy[0]) for name in ("a", "c")]
    expected = stats.ttest_ind(*gains, equal_var=False).confidence_interval()
    assert judged.effect_points_interval == pytest.approx(tuple(expected))
    assert judged.interval_over == "seeds"


@pytest.mark.slow
@pytest.mark.parametrize("spread", [(0.01, 0.01, 0.01), (0.01, 0.03, 0.01), (0.002, 0.01, 0.02)])
@pytest.mark.parametrize("seeds", [3, 5])
def test_interval_over_seeds_covers_what_it_says(spread: tuple[float, float, float], seeds: int) -> None:
    """Two matched tasks of one case against one of the other; with equal spreads or not."""
    rng = np.random.default_rng(0)
    count, inside = 2000, 0
    for _ in range(count):
        accuracy = [0.5 + sd * rng.standard_normal((2, seeds)) for sd in spread]
        tasks = {
            "a": TaskEvidence("similar_fewer", np.arange(2), accuracy[0], "group"),
            "b": TaskEvidence("similar_fewer", np.arange(2), accuracy[1], "group"),
            "c": TaskEvidence("dissimilar", np.arange(2), accuracy[2]),
        }
        low, high = effects.effect(tasks, dict.fromkeys(tasks, 0), CASES).effect_points_interval or (0.0, 0.0)
        inside += low <= 0 <= high
    assert 0.935 <= inside / count <= 0.98


def test_no_verdict_from_an_incomplete_grid() -> None:
    holed = {**RULE, "a": replace(RULE["a"], accuracy=np.where(np.eye(3) == 1, np.nan, RULE["a"].accuracy))}
    judged = decide(Evidence(holed, ["a seed 0: failed"]))
    assert judged.decision == "incomplete"
    assert judged.missing == ["a seed 0: failed"]
    assert judged.kept_depth == {"b": 2, "c": 0}
    assert judged.p_value is None
    assert judge(holed).missing == [f"a: no accuracy at depth {depth}" for depth in (0, 2, 4)]


def test_missing_cells_are_judged_only_when_allowed() -> None:
    tasks = repeat(RULE, 3)
    for name, hole in (("a0", np.s_[0, 0]), ("a1", np.s_[1, :])):
        accuracy = tasks[name].accuracy.copy()
        accuracy[hole] = np.nan
        tasks[name] = replace(tasks[name], accuracy=accuracy)
    refused = judge(tasks)
    assert refused.decision == "incomplete"
    assert "study.allow_missing=true" in refused.reason
    allowed = decide(Evidence(tasks, allow_missing=True))
    assert (allowed.decision, allowed.n_tasks, allowed.n_seeds) == ("supported", 8, 2)
    assert allowed.reason.startswith("from an incomplete grid (2 results missing, 1 of 9 tasks left out): ")


def test_what_cannot_speak_to_the_rule_is_untested() -> None:
    assert judge({"a": RULE["a"]}).decision == "untested"
    assert judge({"a": replace(RULE["a"], case="unknown"), "b": RULE["b"]}).decision == "untested"
    assert judge({}).decision == "untested"
    one_depth = {name: TaskEvidence(each.case, each.depths[:1], each.accuracy[:1]) for name, each in RULE.items()}
    assert judge(one_depth).decision == "untested"
    judged = judge({name: replace(each, which="suffix") for name, each in RULE.items()})
    assert (judged.decision, judged.kept_depth) == ("untested", {})
    assert "froze others (suffix)" in judged.reason


def test_unequal_learning_rates_are_refused() -> None:
    alike = ((0.01, 0.1), (0.01, 0.1), ())
    tasks = {name: replace(each, rates=alike) for name, each in RULE.items()}
    assert judge(tasks).decision == "descriptive"
    tasks["b"] = replace(tasks["b"], rates=((0.1,), (0.1,), (0.01, 0.1)))
    judged = judge(tasks)
    assert judged.decision == "untested"
    assert judged.reason == (
        "b: learning rates 0.1 at depth 0, but 0.01, 0.1 at depth 4; give every depth the same optimizer.lr"
    )


def test_verdict_is_deterministic() -> None:
    tasks = many(effect=0.01)
    assert judge(tasks) == judge(tasks)


def test_a_verdict_goes_into_json() -> None:
    judged = judge(many(effect=0.05, matched_group="x", n_classes=4, source_classes=26, n_blocks=4))
    assert json.loads(json.dumps(dataclasses.asdict(judged), allow_nan=False))["decision"] == judged.decision


def test_cases_that_do_not_differ_are_equivalent_once_enough_tasks_say_so() -> None:
    few = judge(many(effect=0.0))
    assert few.decision == "inconclusive", "tasks differ by a point each: four per case cannot tell"
    assert few.p_equivalence is not None
    assert few.p_equivalence > 0.05
    assert few.to_decide is not None
    assert judge(many(effect=0.0, each=30)).decision == "equivalent"


def test_inconclusive_says_how_many_more_tasks_would_decide() -> None:
    judged = judge(many(effect=0.004))
    assert (judged.decision, judged.n_tasks) == ("inconclusive", 12)
    z = inference.jonckheere(
        [np.array([judged.kept_depth[f"{case} {number}"] for number in range(4)], float) for case in CASES]
    ).z
    need = stats.norm.ppf(0.95) + stats.norm.ppf(0.8)
    assert judged.more_tasks == pytest.approx(12 * (need / z) ** 2 - 12, abs=1)
    assert f"about {judged.more_tasks} more tasks" in str(judged.to_decide)
    assert "2 tasks or more of each of the 3 cases" in str(judge(RULE).to_decide)


def test_what_would_decide_counts_the_correction_for_the_other_primary_test() -> None:
    alone = many(effect=0.004, n_classes=4, source_classes=26, n_blocks=4)
    both = {name: replace(each, similarity=float(place % 5)) for place, (name, each) in enumerate(alone.items())}
    z = judge(alone).tests[0].z
    assert judge(both).tests[0].z == z
    for tasks, primaries in ((alone, 1), (both, 2)):
        judged = judge(tasks)
        assert sum(each.role == "primary" for each in judged.tests) == primaries
        need = stats.norm.ppf(1 - 0.05 / primaries) + stats.norm.ppf(0.8)
        assert judged.more_tasks == max(1, math.ceil(12 * (need / z) ** 2) - 12)


@pytest.mark.parametrize("n_blocks", range(3, 13))
def test_equal_mean_shares_tie_whatever_floats_make_of_them(n_blocks: int) -> None:
    """A matched group that keeps k - 1, k and k + 1 blocks keeps k: its mean ties with a task that keeps k."""
    depths = np.arange(n_blocks + 1)

    def keeps(depth: int, case: str, matched_group: str | None) -> TaskEvidence:
        accuracy = np.where(depths == depth, 0.9, 0.5)[:, None]
        return TaskEvidence(case, depths, accuracy, matched_group, n_blocks=n_blocks)

    for k in range(1, n_blocks):
        tasks = {f"member {depth}": keeps(depth, "similar_more", "same") for depth in (k - 1, k, k + 1)}
        judged = judge({"alone": keeps(k, "dissimilar", None), **tasks})
        assert judged.tests[0].statistic == 0.5, f"one pair, and it ties, at {k} of {n_blocks} blocks"


def test_primary_tests_are_corrected_by_holm_and_the_rest_by_benjamini_hochberg() -> None:
    tasks = many(effect=0.02, n_classes=10, source_classes=26, n_blocks=4)
    tasks = {name: replace(each, similarity=float(-place)) for place, (name, each) in enumerate(tasks.items())}
    tasks = {name: replace(each, n_classes=10 + place) for place, (name, each) in enumerate(tasks.items())}
    judged = judge(tasks)
    primary, rest = ([test for test in judged.tests if test.role == role] for role in ("primary", "exploratory"))
    assert [test.name.split(",")[0] for test in primary] == ["Jonckheere-Terpstra J", "Kendall tau-b"]
    assert [test.corrected for test in primary] == inference.holm([test.p_value for test in primary])
    assert judged.p_value == primary[0].corrected
    assert judged.p_value_reversed == pytest.approx(1.0, abs=0.1)
    assert len(rest) == 2
    assert [test.corrected for test in rest] == pytest.approx(
        stats.false_discovery_control([test.p_value for test in rest])
    )


def test_slopes_are_kendalls_and_point_as_the_rule_says() -> None:
    tasks = many(effect=0.02, n_blocks=4)
    similar = {name: replace(each, similarity=float(place % 5)) for place, (name, each) in enumerate(tasks.items())}
    test = by_name(judge(similar), "Kendall tau-b, kept share on similarity")
    kept = list(judge(tasks).kept_depth.values())
    assert test.statistic == pytest.approx(stats.kendalltau([-(place % 5) for place in range(12)], kept).statistic)
    classes = {
        name: replace(each, n_classes={"similar_fewer": 5, "similar_more": 20, "dissimilar": 80}[each.case])
        for name, each in tasks.items()
    }
    classes = {name: replace(each, source_classes=26) for name, each in classes.items()}
    test = by_name(judge(classes), "Kendall tau-b, kept share on fewer classes")
    assert test.statistic > 0
    assert test.p_value < 0.01 < test.p_reversed


def test_pages_test_decides_where_every_task_is_matched() -> None:
    tasks = {
        f"{case} {number}": replace(each, matched_group=str(number))
        for number in range(4)
        for case, each in RULE.items()
    }
    judged = judge(tasks)
    assert judged.tests[0].name.startswith("Page's L")
    assert judged.p_value == pytest.approx(1 / 6**4)
    tasks["a 0"] = replace(tasks["a 0"], matched_group=None)
    assert judge(tasks).tests[0].name.startswith("Jonckheere-Terpstra")


def test_an_order_that_is_tested_but_does_not_hold_for_every_case_is_partly_so() -> None:
    curves = [0.7 - 0.02 * np.abs(np.arange(6) - kept) for kept in (1, 0, 5)]
    for direction, word in ((1, "partly supported"), (-1, "partly contradicted")):
        tasks = {
            f"{case} {number}": TaskEvidence(case, np.arange(6), np.repeat(curve[:, None], 3, axis=1))
            for case, curve in zip(CASES, curves[::direction], strict=True)
            for number in range(8)
        }
        judged = judge(tasks)
        assert (judged.decision, judged.reason.split(":")[0]) == (word, "not in the rule's order")


def test_four_matched_groups_of_two_cases_are_too_few_for_pages_test() -> None:
    tasks = {
        f"{case} {number}": replace(RULE[case], matched_group=str(number)) for number in range(4) for case in ("a", "c")
    }
    judged = judge(tasks)
    assert judged.decision == "descriptive"
    assert "the smallest p that 8 tasks can give is 0.06" in judged.reason, "1/2 in each of four groups"
    tasks |= {f"{case} 4": replace(RULE[case], matched_group="4") for case in ("a", "c")}
    assert judge(tasks).decision == "supported"


def test_tasks_of_one_group_may_differ_in_their_depths() -> None:
    shorter = replace(RULE["a"], depths=RULE["a"].depths[:2], accuracy=RULE["a"].accuracy[:2], matched_group="images")
    tasks = RULE | {"a": replace(RULE["a"], matched_group="images"), "shorter": shorter}
    judged = judge(tasks)
    assert judged.effect_points == pytest.approx((20 + 10) / 2 - -20), "each from its shallowest to its deepest"


def test_tasks_of_one_matched_group_and_case_are_one_unit() -> None:
    tasks = {**RULE, "a again": RULE["a"]}
    assert by_name(judge(tasks), "Jonckheere").n == 4
    matched = {name: replace(each, matched_group="images") if name[0] == "a" else each for name, each in tasks.items()}
    assert by_name(judge(matched), "Jonckheere").n == 3


def test_class_counts_are_compared_within_the_same_images() -> None:
    tasks = {"far": RULE["c"]}
    for number in range(6):
        tasks[f"few {number}"] = replace(RULE["a"], matched_group=str(number), n_classes=5)
        many_classes = RULE["a"] if number == 5 else RULE["b"]
        tasks[f"many {number}"] = replace(many_classes, case="similar_more", matched_group=str(number), n_classes=40)
    test = by_name(judge(tasks), "Sign-flip, kept depth of fewer classes")
    assert (test.n, test.effect_unit) == (6, "blocks")
    assert test.effect == pytest.approx(10 / 6)
    assert test.p_value == pytest.approx(2 / 2**6), "the one difference of 0 has no sign"
    assert test.interval is not None
    assert test.interval[0] < 10 / 6 < test.interval[1] <= 2


def test_regret_is_the_loss_against_the_best_depth() -> None:
    scores = {"a": [0.0, 1.0, 2.0], "b": [2.0, 1.0, 0.0], "c": [np.nan, 1.0, 0.0]}
    tasks = {
        name: replace(
            each,
            n_blocks=4,
            scores={
                "knn": np.array(scores[name]),
                "knn_corrected": np.zeros(3),
                "leep": np.array([np.nan, np.nan, 1.0]),
            },
        )
        for name, each in RULE.items()
    }
    judged = judge(tasks)
    # a: .5 .6 .7, b: .5 .6 .5, c: .7 .6 .5 at depths 0, 2, 4; the best constant is the others', the deepest of equals
    expected = {
        "a": {"rule": 0, "constant": 10, "depth 0": 20, "head only": 0, "knn": 0, "leep": None},
        "b": {"rule": 0, "constant": 10, "depth 0": 10, "head only": 10, "knn": 10, "leep": None},
        "c": {"rule": 0, "constant": 20, "depth 0": 0, "head only": 20, "knn": 10, "leep": None},
    }
    for name, row in expected.items():
        assert judged.regret[name] == pytest.approx(row), name
    assert judged.mean_regret["depth 0"] == pytest.approx(10)
    assert judged.mean_regret["knn"] == pytest.approx(20 / 3)
    assert judged.mean_regret["leep"] is None
    assert judge(RULE).mean_regret["head only"] is None, "whether the deepest is the head only is not known"


@pytest.mark.parametrize(("case", "depth"), [("similar_fewer", 5), ("similar_more", 2), ("dissimilar", 0)])
def test_rule_picks_by_the_case_alone(case: str, depth: int) -> None:
    assert rule_depth(case, np.array([0, 2, 4, 5])) == depth


def test_choices_name_the_good_depths() -> None:
    noisy = task("dissimilar", 0.5, 0.5, 0.5, seeds=5, noise=0.05)
    assert judge({"a": noisy}).choices["a"].good == [0, 2, 4]
    assert judge({"a": RULE["a"]}).choices["a"].good == [4]


def test_tasks_without_signal_are_left_out_and_named() -> None:
    rng = np.random.default_rng(0)
    tasks = {f"{case} {n}": replace(each, n_classes=10) for case, each in RULE.items() for n in range(4)}
    chance = TaskEvidence("dissimilar", np.arange(3) * 2, 0.1 + 0.02 * rng.standard_normal((3, 3)), n_classes=10)
    judged = judge(tasks | {"noise": chance})
    assert judged.without_signal == ["noise"]
    assert judged.reason.startswith("without noise, near chance at every depth: in the rule's order")
    assert judged.n_tasks == 12
    assert judged.p_value == judge(tasks).p_value
    assert "noise" in judged.kept_depth, "the table still shows it"


def test_the_slope_on_similarity_is_within_matched_groups_where_all_are_matched() -> None:
    """Targets that differ in how deep they freeze do not count: within every target the nearer source keeps more."""
    tasks = {}
    for number, shift in enumerate((0, 1, 2, 3, 2, 1)):
        for place, case in enumerate(CASES):
            depths = np.arange(6)
            accuracy = np.repeat(0.7 - 0.02 * np.abs(depths - shift - place)[:, None], 3, axis=1)
            far = float(3 * shift - place)
            tasks[f"{case} {number}"] = TaskEvidence(case, depths, accuracy, str(number), far, n_blocks=5)
    judged = judge(tasks)
    slope = by_name(judged, "Kendall tau-b, kept share on similarity, in matched groups")
    assert slope.role == "primary"
    assert slope.statistic == pytest.approx(1)
    assert slope.p_value == pytest.approx(1 / 6**6)
    assert judged.decision == "supported"
