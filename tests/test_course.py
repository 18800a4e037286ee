"""How long a training goes on: to a plateau of validation, whatever the limit; and which learning rates are tried."""

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from sweep.config import Config, Schedule
from sweep.runs import members
from sweep.train.course import Course
from sweep.train.loop import Curves


def run(limit: int, accuracies: list[float], steps: int = 10, least: int = 200) -> tuple[int, list[float]]:
    """Return after how many epochs a training with these validation accuracies ends, and the factors of its steps."""
    course = Course(Schedule.plateau, steps, limit, least)
    factors: list[float] = []
    for epoch in itertools.count(1):
        factors += [course.factor(step) for step in range(len(factors), epoch * steps)]
        course.after(epoch, accuracies[min(epoch, len(accuracies)) - 1], 1.0)
        if course.over:
            return epoch, factors
    raise AssertionError


def test_a_plateau_ends_the_training_after_the_least_steps_whatever_the_limit() -> None:
    flat = [0.5]
    epochs, factors = run(100, flat)
    assert epochs * 10 >= 200
    assert epochs <= 22
    assert run(1000, flat) == (epochs, factors)
    assert factors[0] < factors[20] == 1.0
    assert factors[-1] < 0.02
    assert factors[20:] == sorted(factors[20:], reverse=True)


def test_it_goes_on_while_validation_improves_and_at_the_limit_the_rate_has_fallen() -> None:
    rising = [place / 1000 for place in range(1000)]
    epochs, factors = run(80, rising)
    assert epochs == 80
    assert factors[599] == 1.0
    assert factors[-1] < 0.02
    later, _ = run(400, rising[:100])
    assert 100 < later < 200, "a quarter without improvement, and a third to cool down"


def test_fewer_epochs_than_the_least_steps_are_what_the_user_said() -> None:
    assert [run(limit, [0.5])[0] for limit in (1, 2, 3, 7)] == [1, 2, 3, 7]


def test_without_validation_images_and_with_other_schedules_it_goes_to_the_limit() -> None:
    for schedule in Schedule:
        course = Course(schedule, 10, 30, 200)
        for epoch in range(1, 30):
            course.after(epoch, None, None)
            assert not course.over
        course.after(30, None, None)
        assert course.over
    fixed = Course(Schedule.cosine, 10, 30, 200)
    for epoch in range(1, 30):
        fixed.after(epoch, 0.5, 1.0)
    assert not fixed.over


def rates(given: list[float], best: float, extend: int = 4, diverges: float = 1e9) -> list[float]:
    """Return the learning rates that are tried where validation prefers the one nearest to `best`."""
    config = Config()
    config.optimizer.lr, config.optimizer.extend = given, extend

    def member(lr: float) -> Any:
        distance = max(lr / best, best / lr)
        loss = float("nan") if lr > diverges else 1.0
        return SimpleNamespace(lr=lr, curves=Curves([loss], [loss], [1 / distance]))

    tried = [member(lr) for lr in config.lr_list]
    while (lr := members.next_rate(config, tried)) is not None:
        tried = sorted([*tried, member(lr)], key=lambda each: each.lr)
    return [each.lr for each in tried]


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        (0.001, [0.0003, 0.001, 0.003]),
        (0.0003, [0.0001, 0.0003, 0.001]),
        (0.00003, [0.00001, 0.00003, 0.0001, 0.0003, 0.001]),
        (0.01, [0.0003, 0.001, 0.003, 0.01, 0.03]),
        (100.0, [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1]),  # bounded
    ],
)
def test_the_grid_grows_while_the_choice_lies_at_its_edge(best: float, tried: list[float]) -> None:
    assert rates([0.0003, 0.001], best) == tried


def test_the_grid_does_not_grow_without_a_choice_or_beyond_what_diverges() -> None:
    assert rates([0.001], 0.1) == [0.001]
    assert rates([0.0003, 0.001], 0.1, extend=0) == [0.0003, 0.001]
    assert rates([0.0003, 0.001], 0.1, diverges=0.02) == [0.0003, 0.001, 0.003, 0.01, 0.03]
    assert rates([0.0003, 0.001], 0.1, diverges=0.0) == [0.000003, 0.00001, 0.00003, 0.0001, 0.0003, 0.001]


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        (0.00003, [0.00001, 0.00003, 0.0001, 0.001, 0.01]),
        (0.0001, [0.00003, 0.0001, 0.0003, 0.001, 0.01]),
        (0.0003, [0.00003, 0.0001, 0.0003, 0.001, 0.01]),
        (0.001, [0.0001, 0.0003, 0.001, 0.003, 0.01]),
        (0.003, [0.0001, 0.0003, 0.001, 0.003, 0.01]),
        (0.03, [0.0001, 0.001, 0.003, 0.01, 0.03, 0.1]),
    ],
)
def test_a_coarse_grid_is_refined_around_the_best(best: float, tried: list[float]) -> None:
    found = rates([0.0001, 0.001, 0.01], best)
    assert best in found
    assert len(found) <= 6
    assert rates([0.0001, 0.001, 0.01], best, extend=0) == [0.0001, 0.001, 0.01]
    assert found == tried


def test_rates_of_ones_own_are_extended_to_half_decades() -> None:
    assert rates([0.0002, 0.005], 0.1) == [0.0002, 0.001, 0.005, 0.01, 0.03, 0.1, 0.3]
    assert rates([0.0002, 0.005], 0.0002) == [0.00003, 0.0002, 0.001, 0.005]
