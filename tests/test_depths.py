"""Which depths are good: on what is simulated, the sets hold what they claim to hold."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from calibration import CURVES, Simulated
from scipy import stats

from sweep.stats import depths
from sweep.stats.components import components
from sweep.stats.tests import mean_interval, parts_of_mean
from sweep.stats.types import Choice, TaskEvidence

RNG = np.random.default_rng(5)
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def own_numbers() -> None:
    """Let every test draw the same numbers, whichever ran before it."""
    RNG.bit_generator.state = START


def evidence(accuracy: npt.ArrayLike, correct: npt.NDArray[np.bool_] | None = None, **more: object) -> TaskEvidence:
    array = np.array(accuracy, float)
    return TaskEvidence("dissimilar", np.arange(len(array)) * 2, array, correct=correct, **more)  # type: ignore[arg-type]


def chosen(task: TaskEvidence) -> Choice:
    choice = depths.choose(task)
    assert choice is not None
    return choice


def test_two_way_parts_are_those_of_the_analysis_of_variance() -> None:
    """Against the mean squares of the textbook table, by sums over cells."""
    values = RNG.standard_normal((4, 7)) + RNG.standard_normal((4, 1)) + 2 * RNG.standard_normal((1, 7))
    rows, columns, mean = values.mean(axis=1), values.mean(axis=0), values.mean()
    of_rows = sum(7 * (row - mean) ** 2 for row in rows) / 3
    of_columns = sum(4 * (column - mean) ** 2 for column in columns) / 6
    both = sum((values[i, j] - rows[i] - columns[j] + mean) ** 2 for i in range(4) for j in range(7)) / (3 * 6)
    seeds, images = parts_of_mean(values)
    assert seeds == pytest.approx(((of_rows - both) / 28, 3))
    assert images == pytest.approx((of_columns / 28, 6))
    alike = values - rows[:, None]
    assert parts_of_mean(alike)[0].variance == 0, "rows of one mean differ by less than what is in their columns"


def test_with_one_column_the_interval_is_students() -> None:
    values = RNG.standard_normal(5)
    low, high = stats.t.interval(0.95, 4, loc=values.mean(), scale=stats.sem(values))
    assert mean_interval(values[:, None])[2:] == pytest.approx((low, high))
    assert np.isnan(mean_interval(values[None])[1:]).all(), "one seed says nothing of the others"


def test_two_depths_alone_are_compared_by_students_t() -> None:
    accuracy = 0.8 + 0.01 * RNG.standard_normal((2, 6))
    accuracy[0] += 0.05
    expected = stats.t.interval(0.95, 5, *(100 * f(accuracy[1] - accuracy[0]) for f in (np.mean, stats.sem)))
    assert chosen(evidence(accuracy)).gain[1] == pytest.approx(expected, abs=0.15)


def test_one_seed_or_one_depth_gives_no_set() -> None:
    assert depths.choose(evidence([[0.8], [0.9]], np.ones((2, 1, 50), bool))) is None
    assert depths.choose(evidence([[0.8, 0.9]])) is None


def test_without_any_spread_the_good_depths_are_those_within_the_margin() -> None:
    choice = chosen(evidence(np.repeat([[0.90], [0.895], [0.85]], 3, axis=1)))
    assert choice.good == [0, 2]
    assert choice.deepest_good == [0.0, 1.0, 0.0]
    assert choice.expected_loss == pytest.approx([0, 0.5, 5])


def test_the_depth_to_keep_is_what_expected_loss_and_cost_recommend() -> None:
    """Of the depths whose expected loss is within the margin of the least, the deepest has the mean within it."""
    for _ in range(50):
        task = evidence(0.8 + 0.02 * RNG.standard_normal((5, 4)), n_classes=10)
        choice = chosen(task)
        least = min(choice.expected_loss)
        near = [depth for depth, lost in zip(choice.depths, choice.expected_loss, strict=True) if lost <= least + 1]
        lost = task.curve.max() - task.curve
        # means of finitely many draws: a depth that lies at the margin may be on either side of it
        assert max(task.depths[lost <= 0.0095]) <= near[-1] <= max(task.depths[lost <= 0.0105])
        assert near[-1] in choice.good
        assert sum(choice.deepest_good) == pytest.approx(1)


def test_images_widen_what_seeds_leave_open() -> None:
    correct = RNG.random((3, 3, 200)) < 0.8
    correct[:, 1:] = correct[:, :1]  # every seed is the same: what is left to vary are the images
    task = evidence(correct.mean(axis=2), correct)
    alone = chosen(replace(task, correct=None))
    both = chosen(task)
    assert all(high - low < 1e-9 for low, high in alone.gain)
    differences = correct[:, 0].astype(float)
    for index, (low, high) in enumerate(both.gain):
        expected = 2 * 1.96 * 100 * stats.sem(differences[index] - differences[0])
        assert high - low == pytest.approx(expected, rel=0.1, abs=1e-9)
    assert (alone.over, both.over) == ("seeds", "seeds and test images")


def test_one_test_image_is_no_sample_of_images() -> None:
    correct = np.ones((2, 3, 1), bool)
    assert chosen(evidence(correct.mean(axis=2), correct)).good == [0, 2]


def test_cost_and_the_margins_share_are_what_was_measured() -> None:
    choice = chosen(evidence(np.full((2, 2), 0.6), seconds=np.array([20.0, 1.0]), n_classes=10))
    assert choice.cost == [1, 0.05]
    assert choice.margin_share == pytest.approx(0.01 / 0.5)
    assert chosen(evidence(np.full((2, 2), 0.1), n_classes=10)).margin_share is None


@pytest.mark.slow
@pytest.mark.parametrize("simulated", CURVES, ids=lambda each: each.name)
def test_sets_and_intervals_cover(simulated: Simulated) -> None:
    count = 150
    covered = simulated.coverage(count, seed=21)
    least = stats.binom.ppf(0.001, count, 0.95) / count
    assert min(covered.cell, covered.contrast, covered.deepest_good, covered.good) >= least, covered


@pytest.mark.parametrize(
    ("curve", "spread", "signal"),
    [
        ((0.12, 0.13, 0.11), 0.02, False),  # near chance, and flat
        ((0.12, 0.17, 0.11), 0.001, True),  # near chance, but depths differ
        ((0.60, 0.61, 0.60), 0.02, True),  # flat, but far from chance
        ((0.25, 0.24, 0.25), 0.08, False),  # above chance on the mean, within the seeds' spread
    ],
)
def test_tasks_near_chance_whose_depths_do_not_differ_have_no_signal(
    curve: tuple[float, ...], spread: float, signal: bool
) -> None:
    deviations = np.array([[-1.0, 0.0, 1.0], [1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])
    task = evidence(np.array(curve)[:, None] + spread * deviations, n_classes=10)
    assert depths.has_signal(task) is signal
    assert depths.has_signal(replace(task, n_classes=None)), "without its chance nothing is known"


def test_components_are_those_that_were_put_in() -> None:
    """Sources, seeds, images and tasks of known spread: a mean of many simulations."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(60):
        tasks = {}
        for name in "abcd":
            own = 0.05 * rng.standard_normal()
            image = np.where(rng.random(400) < 0.3, 0.25, 0.0)  # what an image adds to the chance of being right
            of_sources = []
            for _ in range(3):
                shift = own + 0.03 * rng.standard_normal() + 0.02 * rng.standard_normal((3, 1))
                correct = rng.random((2, 3, 400)) < np.stack([np.full((3, 400), 0.5), 0.5 + shift + image])
                of_sources.append(evidence(correct.mean(axis=2), correct))
            tasks[name] = of_sources
        found.append([each**2 for each in components(tasks, 1)])
    source, seed, images, task = np.sqrt(np.mean(found, axis=0))
    assert source == pytest.approx(3, abs=0.6)
    assert seed == pytest.approx(np.hypot(2, 100 * np.sqrt(0.5 / 400)), abs=0.5), "the coin of every image is in it"
    assert images == pytest.approx(100 * np.sqrt(0.3 * 0.7) * 0.25 / np.sqrt(400), abs=0.2)
    assert task == pytest.approx(5, abs=1)


def test_components_without_images_or_other_tasks_say_what_they_cannot() -> None:
    accuracy = 0.8 + 0.01 * RNG.standard_normal((2, 3))
    found = components({"a": [evidence(accuracy), evidence(accuracy)]}, 1)
    assert found.source == 0, "two equal sources"
    assert np.isnan([found.images, found.task]).all()
