"""The verdict's promises on simulated tables; docs/calibration.md has the same with more of them."""

from pathlib import Path

import numpy as np
import pytest
from calibration import FLAT, HOLED, NULLS, REVERSED, RULED, SINGLE, Scenario, computed_power
from scipy import stats

pytestmark = pytest.mark.slow


def most(count: int) -> int:
    """Return how many false answers of one kind 5 % allows in `count` tables, within 0.1 % binomial error."""
    return int(stats.binom.ppf(0.999, count, 0.05))


# One of a kind each time; all of them in the campaign.
FEW = [NULLS[0], NULLS[3], *(each for each in NULLS if each.similarity or each.families == 0.3)]


@pytest.mark.parametrize(
    "scenario",
    [pytest.param(each, id=each.name, marks=[] if each in FEW else pytest.mark.campaign) for each in NULLS],
)
def test_without_order_either_answer_is_rare(scenario: Scenario) -> None:
    answers = scenario.judge(60, seed=11)
    assert answers["supported"] <= most(60)
    assert answers["contradicted"] <= most(60)
    assert answers["descriptive"] + answers["incomplete"] == 0


@pytest.mark.campaign
def test_without_order_either_answer_is_rare_on_2000_tables() -> None:
    answers = NULLS[0].judge(2000, seed=12)
    assert answers["supported"] <= most(2000)
    assert answers["contradicted"] <= most(2000)
    assert answers["supported"] + answers["contradicted"] > 60, "a test that never rejects is of no use"


@pytest.mark.parametrize("scenario", RULED[1:], ids=lambda each: each.name)
def test_power_is_as_computed(scenario: Scenario) -> None:
    count = 100
    power = scenario.judge(count, seed=13)["supported"] / count
    expected = computed_power(scenario)
    # Three binomial errors, and what the approximation is off with four tasks per case.
    assert power == pytest.approx(expected, abs=3 * np.sqrt(expected * (1 - expected) / count) + 0.07)


def test_reversed_rule_is_contradicted() -> None:
    answers = REVERSED.judge(40, seed=14)
    assert answers["contradicted"] >= 32
    assert answers["supported"] == 0


def test_flat_curves_are_equivalent() -> None:
    answers = FLAT.judge(40, seed=15)
    assert answers["equivalent"] >= 24
    assert answers["supported"] <= most(40)


def test_one_task_per_case_is_descriptive() -> None:
    assert SINGLE.judge(20, seed=16) == {"descriptive": 20}


def test_missing_cells_are_refused_and_judged_when_allowed() -> None:
    assert HOLED.judge(20, seed=17)["incomplete"] >= 18
    answers = HOLED.judge(40, seed=17, allow_missing=True)
    assert answers["incomplete"] == 0
    assert answers["supported"] <= most(40)


def test_same_seed_gives_the_same_answers_and_another_seed_others() -> None:
    one = RULED[1].table(np.random.default_rng(1))
    again, other = (RULED[1].table(np.random.default_rng(seed)) for seed in (1, 2))
    name = next(iter(one))
    assert np.array_equal(one[name].accuracy, again[name].accuracy)
    assert not np.array_equal(one[name].accuracy, other[name].accuracy)


def test_document_names_the_command() -> None:
    text = (Path(__file__).parents[1] / "docs" / "calibration.md").read_text()
    assert "python tests/calibration.py" in text
    for scenario in (*NULLS, *RULED, REVERSED, FLAT, SINGLE, HOLED):
        assert f"| {scenario.name} |" in text
