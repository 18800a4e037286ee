"""Does the verdict keep its promises? Simulated tables in, rates of every answer out.

`python tests/calibration.py` judges 1,000 tables of every scenario without order, 300 of the others, and writes
docs/calibration.md; tests/test_calibration.py checks the same rates. Accuracies are simulated, per task, depth and
seed; not kept depths.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from sweep.report.record import balanced
from sweep.stats import distances
from sweep.stats.depths import UNLIKELY, choose
from sweep.stats.rule import kept_depth
from sweep.stats.tests import mean_interval
from sweep.stats.types import ALPHA, CASES, Evidence, Floats, TaskEvidence
from sweep.stats.verdict import decide

DEPTHS = np.arange(6)  # of five blocks, as ResNet-18 by stage


@dataclass(frozen=True)
class Scenario:
    """How tables are drawn. Accuracies peak at a depth that each task draws about its case's; in points unless named.

    shift: blocks by which the expected peak rises from one case to the next; negative = the reverse of the rule.
    slope: points lost per block off the peak. task_noise: SD of a task's peak, in blocks, and of its own small bends,
    in points / 4. seed_noise: SD of an accuracy over seeds; half of its variance is common to all depths of a seed.
    """

    name: str
    shift: float = 0.0
    slope: float = 2.0
    task_noise: float = 1.0
    seed_noise: float = 1.0
    each: int = 4  # tasks per case
    seeds: int = 3
    holes: float = 0.0  # share of cells without a result
    similarity: bool = False  # measured on every task: a second primary test
    crossed: float | None = None  # SD in blocks of what a target adds to its peak under every source; None: no targets
    families: float | None = None  # correlation of the peaks of pairs of tasks of one case that share their images

    def table(self, rng: np.random.Generator) -> dict[str, TaskEvidence]:
        """Draw one table."""
        tasks = {}
        of_target = (self.crossed or 0) * rng.standard_normal(self.each)
        own, common = np.sqrt(1 - (self.families or 0)), np.sqrt(self.families or 0)
        for index, case in enumerate(CASES):
            for number in range(self.each):
                if number % 2 == 0:
                    of_family = rng.standard_normal()
                luck = own * rng.standard_normal() + common * of_family
                peak = 2.5 + self.shift * (index - 1) + self.task_noise * luck + of_target[number]
                curve = 70 - self.slope * np.abs(DEPTHS - np.clip(peak, 0, 5))
                curve += self.task_noise / 4 * rng.standard_normal(6) * bool(self.slope)
                noise = rng.standard_normal((6, self.seeds)) + rng.standard_normal((1, self.seeds))
                accuracy = (curve[:, None] + self.seed_noise / np.sqrt(2) * noise) / 100
                accuracy[rng.random(accuracy.shape) < self.holes] = np.nan
                similar = float(rng.standard_normal() - index) if self.similarity else None
                group = None if self.crossed is None else str(number)
                if self.families is not None:
                    group = f"{case} {number // 2}"
                tasks[f"{case} {number}"] = TaskEvidence(case, DEPTHS, accuracy, group, similar, n_blocks=5)
        return tasks

    def judge(self, count: int, seed: int, allow_missing: bool = False) -> Counter[str]:
        """Return how often each answer was given on `count` tables; one that holds partly is one that is given."""
        rng = np.random.default_rng(seed)
        found = (decide(Evidence(self.table(rng), allow_missing=allow_missing)).decision for _ in range(count))
        return Counter(answer.removeprefix("partly ") for answer in found)


NULLS = (
    Scenario("no order: 4 tasks per case, 3 seeds"),
    Scenario("no order: 2 tasks per case", each=2),
    Scenario("no order: 8 tasks per case", each=8),
    Scenario("no order: 1 seed", seeds=1),
    Scenario("no order: noisy seeds", seed_noise=3.0),
    Scenario("no order: many ties (peaks alike)", task_noise=0.3, seed_noise=0.3),
    Scenario("no order, similarity measured", similarity=True),
    Scenario("no order, families of two, correlation .3", each=8, families=0.3),
    Scenario("no order, families of two, correlation .6", each=8, families=0.6),
)
RULED = tuple(Scenario(f"the rule, {shift:g} blocks per case", shift=shift) for shift in (0.25, 0.5, 1.0, 1.5))
REVERSED = Scenario("the rule reversed, 1.5 blocks per case", shift=-1.5)
FLAT = Scenario("flat curves", slope=0.0, seed_noise=0.5)
SINGLE = Scenario("one task per case, following the rule", shift=1.5, each=1)
CROSSED = tuple(
    Scenario(
        f"10 targets under 3 sources, {shift:g} blocks per case",
        shift, task_noise=1.26, each=10, similarity=True, crossed=1.0,
    )
    for shift in (0.0, 0.5, 1.0)
)  # fmt: skip
HOLED = Scenario("no order, 2 % of the cells missing (NaN)", holes=0.02)


def computed_power(scenario: Scenario, seed: int = 0, draws: int = 4000) -> float:
    """Return the power that the normal approximation promises the Jonckheere-Terpstra test at ALPHA.

    Mean and variance of J come from the distribution of one task's kept depth in each case (drawn once, apart from the
    judged tables), its null variance from the mixture of the cases: no permutation, no decide().
    """
    rng = np.random.default_rng(seed)
    counts = np.zeros((3, 6))
    while counts.sum() < 3 * draws:
        for each in scenario.table(rng).values():
            counts[CASES.index(each.case), kept_depth(DEPTHS, each.curve)] += 1
    masses = counts / counts.sum(axis=1, keepdims=True)
    mean, deviation = _moments(masses, scenario.each)
    null_mean, null_deviation = _moments(np.tile(masses.mean(axis=0), (3, 1)), scenario.each)
    needed = null_mean + stats.norm.isf(ALPHA) * null_deviation
    return float(stats.norm.sf((needed - mean) / deviation))


def _moments(masses: Floats, n: int) -> tuple[float, float]:
    """Return mean and standard deviation of J for groups of n independent values with these distributions (3, K).

    J = sum over pairs of groups of h(x, y) = [x < y] + [x = y] / 2. The variance is the sum of the covariances of all
    pairs of terms: they share both values, one (counted by h's expectation given that one), or none (0).
    """
    values = np.arange(masses.shape[1])
    h = (values[:, None] < values) + 0.5 * (values[:, None] == values)
    total, variance = 0.0, 0.0
    given: list[Floats] = [np.zeros(len(values)) for _ in masses]
    for low, high in ((0, 1), (0, 2), (1, 2)):
        p, q = masses[low], masses[high]
        mean = p @ h @ q
        total += n * n * mean
        on_low, on_high = h @ q, p @ h
        given[low] = given[low] + n * on_low  # by one value of a group: all its terms
        given[high] = given[high] + n * on_high
        both = p @ h**2 @ q - mean**2
        ones = (p @ on_low**2 - mean**2) + (q @ on_high**2 - mean**2)
        variance += n * n * (both - ones)  # what no single value explains
    variance += sum(n * (p @ part**2 - (p @ part) ** 2) for p, part in zip(masses, given, strict=True))
    return float(total), float(np.sqrt(variance))


def coverage(scenario: Scenario, count: int, seed: int) -> float:
    """Return how often the 95 % interval of effect_points holds its true value (from 10,000 tasks per case)."""
    rng = np.random.default_rng(seed)
    gains: dict[str, list[float]] = {case: [] for case in CASES}
    quiet = Scenario("true", scenario.shift, scenario.slope, scenario.task_noise, 0.0, each=10_000, seeds=1)
    for each in quiet.table(rng).values():
        gains[each.case].append(100 * float(each.accuracy[-1, 0] - each.accuracy[0, 0]))
    true = np.mean(gains[CASES[-1]]) - np.mean(gains[CASES[0]])
    inside = 0
    for _ in range(count):
        low, high = decide(Evidence(scenario.table(rng))).effect_points_interval or (np.nan, np.nan)
        inside += bool(low <= true <= high)
    return inside / count


class Covered(NamedTuple):
    """In which share of simulated sweeps the truth was in what was said; size: good depths that were named, mean."""

    cell: float  # a depth's accuracy, in its 95 % interval
    contrast: float  # what a depth gains over the shallowest, in its 95 % interval
    deepest_good: float  # the deepest good depth, among those that were named good
    good: float  # a good depth, among those that were named good; mean over them
    kept: float  # the deepest good depth, as the one depth to keep
    size: float


@dataclass(frozen=True)
class Simulated:
    """One task's sweep: networks of every seed and depth, each right or wrong on every test image.

    An image is right where a normal variable is positive: the depth's level, the luck of the seed, of it half common to
    all depths in variance, and what image, image with depth, and chance add.
    curve: expected accuracy by depth. spread: SD of a depth's own luck over seeds; both in points.
    classes: how many images each has, of which the first is the easiest; accuracies are balanced then.
    """

    name: str
    curve: tuple[float, ...]
    spread: tuple[float, ...]
    seeds: int = 3
    images: int = 1000
    classes: tuple[int, ...] = ()

    @property
    def _spread(self) -> Floats:
        """Of the level, for one SD of luck (D,)."""
        slope: Floats = np.array(self.spread) / 100 / stats.norm.pdf(stats.norm.ppf(np.array(self.curve) / 100))
        return slope

    @property
    def _ease(self) -> Floats:
        """By how much more than its level a network has for images of each class."""
        return np.linspace(0.5, -0.5, len(self.classes)) if self.classes else np.zeros(1)

    @property
    def mean(self) -> Floats:
        """The true accuracy (D,): the mean over classes, if there are any."""
        level, whole = stats.norm.ppf(np.array(self.curve) / 100), np.sqrt(1 + 2 * self._spread**2)
        mean: Floats = stats.norm.cdf(level[:, None] + self._ease / whole[:, None]).mean(axis=1)
        return mean

    def draw(self, rng: np.random.Generator) -> TaskEvidence:
        shape = (len(self.curve), self.seeds, self.images)
        level, slope = stats.norm.ppf(np.array(self.curve) / 100), self._spread
        labels = np.repeat(np.arange(len(self.classes)), self.classes) if self.classes else np.zeros(self.images, int)
        luck = rng.standard_normal((2, *shape[:2], 1))
        luck[1] = luck[1, 0]  # common to the depths of a seed
        level = level * np.sqrt(1 + 2 * slope**2)  # so that the mean over luck is the curve
        image = np.sqrt(0.5) * rng.standard_normal((1, 1, self.images))
        image = image + 0.5 * rng.standard_normal((shape[0], 1, self.images)) + 0.5 * rng.standard_normal(shape)
        right = level[:, None, None] + slope[:, None, None] * luck.sum(axis=0) + image + self._ease[labels] > 0
        correct = np.apply_along_axis(balanced, 2, right, labels) if self.classes else right.astype(float)
        return TaskEvidence("dissimilar", np.arange(shape[0]), correct.mean(axis=2), n_blocks=5, correct=correct)

    def coverage(self, count: int, seed: int) -> Covered:
        """Return what held in `count` sweeps."""
        rng = np.random.default_rng(seed)
        good = np.flatnonzero(self.mean >= self.mean.max() - 0.01 - 1e-12)
        gain = 100 * (self.mean - self.mean[0])
        found = []
        for _ in range(count):
            task = self.draw(rng)
            choice = choose(task)
            assert choice is not None
            assert task.correct is not None
            cells = [mean_interval(each)[2:] for each in task.correct]
            found.append(
                (
                    np.mean([low <= true <= high for (low, high), true in zip(cells, self.mean, strict=True)]),
                    np.mean([low <= true <= high for (low, high), true in zip(choice.gain[1:], gain[1:], strict=True)]),
                    good[-1] in choice.good,
                    np.isin(good, choice.good).mean(),
                    kept_depth(task.depths, task.curve) == good[-1],
                    len(choice.good),
                )
            )
        return Covered(*np.mean(found, axis=0).tolist())


_EQUAL, _SHALLOW = (1.0,) * 6, (3.0, 2.5, 2.0, 1.5, 1.0, 0.5)
_PEAK = (74.0, 78.0, 82.0, 78.0, 74.0, 70.0)
CURVES = (
    Simulated("flat", (80.0,) * 6, _EQUAL),
    Simulated("flat, 5 seeds", (80.0,) * 6, _EQUAL, seeds=5),
    Simulated("flat, shallow depths vary more", (80.0,) * 6, _SHALLOW),
    Simulated("peak at 2", _PEAK, _EQUAL),
    Simulated("peak at 2, shallow depths vary more", _PEAK, _SHALLOW),
    Simulated("falling, 8 seeds", (85.0, 84.5, 82.0, 78.0, 74.0, 66.0), _SHALLOW, seeds=8),
    Simulated("rising slowly", (78.0, 78.7, 79.4, 80.1, 80.8, 81.5), _EQUAL),
    Simulated("3 depths", (80.0, 80.5, 78.0), (3.0, 1.5, 0.5)),
    Simulated("2 depths", (80.0, 79.5), (3.0, 1.0)),
    Simulated("300 images", (80.0,) * 6, (0.5,) * 6, images=300),
    Simulated("unequal classes, flat", (80.0,) * 6, _EQUAL, images=860, classes=(500, 300, 40, 20)),
    Simulated("unequal classes, peak at 2", _PEAK, _SHALLOW, images=1000, classes=(900, 100)),
)


def frechet_coverage(images: int, shift: float, count: int, seed: int) -> float:
    """Return how often the 95 % interval of the Frechet distance holds the true one.

    Two mixtures of 26 classes in 64 dimensions, as principal components fall off, with noise of a heavy tail; the
    second's classes lie elsewhere, and all of it is shifted.
    """
    rng = np.random.default_rng(seed)
    scale, noise = np.exp(-np.arange(64) / 12), 0.7
    means = 0.7 * rng.standard_normal((2, 26, 64))
    means[1] = means[0] + 0.5 * means[1] + shift
    exact = [np.cov((each * scale).T, bias=True) + np.diag((noise * scale) ** 2) for each in means]
    centres = (means * scale).mean(axis=1)
    true = np.sqrt(distances.frechet_squared(centres[:1], exact[0][None], centres[1:], exact[1][None])[0])
    inside = 0
    for _ in range(count):
        classes = rng.integers(26, size=(2, images))
        tail = rng.gamma(1.0, 1.0, (2, images, 64)) - 1
        first, second = (
            mean[kind] * scale + noise * scale * luck for mean, kind, luck in zip(means, classes, tail, strict=True)
        )
        found = distances.frechet(first, second, rng, 200)
        inside += bool(found.low <= true <= found.high)
    return inside / count


COVERED = {
    "cell": "interval of an accuracy, %",
    "contrast": "interval of a gain over the shallowest, %",
    "deepest_good": "deepest good depth is named, %",
    "good": "a good depth is named, %",
    "kept": "depth to keep is the deepest good one, %",
    "size": "depths named",
}
ANSWERS = ("supported", "contradicted", "equivalent", "inconclusive", "descriptive", "incomplete")


def row(name: str, answers: Mapping[str, int], computed: str = "") -> str:
    total = sum(answers.values())
    shares = [f"{100 * answers.get(answer, 0) / total:.1f}" for answer in ANSWERS]
    return f"| {name} | {total} | {' | '.join(shares)} | {computed} |"


def document(count: int, fewer: int) -> str:
    """Return docs/calibration.md: rates over `count` tables of every scenario without order, `fewer` of the others."""
    lines = [
        "| simulated | tables | " + " | ".join(f"{answer}, %" for answer in ANSWERS) + " | computed power, % |",
        "|" + "---|" * (len(ANSWERS) + 3),
    ]
    lines += [row(each.name, each.judge(count, 1)) for each in NULLS]
    lines += [row(each.name, each.judge(fewer, 2), f"{100 * computed_power(each):.1f}") for each in RULED]
    lines += [row(each.name, each.judge(fewer, 3)) for each in (REVERSED, FLAT, SINGLE, *CROSSED, HOLED)]
    lines += [row(HOLED.name + ", allow_missing", HOLED.judge(count, 3, allow_missing=True))]
    covered = 100 * coverage(RULED[2], fewer, 4)
    sets = ["| simulated | " + " | ".join(COVERED.values()) + " |", "|" + "---|" * (len(COVERED) + 1)]
    held = ["| images | near, % | farther, % | far, % |", "|---|---|---|---|"]
    for images in (200, 500, 1000):
        shares = (f"{100 * frechet_coverage(images, shift, fewer, 6):.1f}" for shift in (0.0, 0.5, 1.5))
        held.append(f"| {images} | {' | '.join(shares)} |")
    for each in CURVES:
        found = each.coverage(count, 5)
        shown = [f"{x:.2f}" if name == "size" else f"{100 * x:.1f}" for name, x in found._asdict().items()]
        sets.append(f"| {each.name} | {' | '.join(shown)} |")
    error = 100 * 1.96 * np.sqrt(0.05 * 0.95 / count)
    return f"""# Calibration of the verdict

Made by `python tests/calibration.py`; the numbers are its output. Every table is simulated: accuracies per task, depth
and seed, from a curve that peaks at a depth which varies over tasks (SD 1 block), loses 2 points per block off it, and
has noise over seeds (SD 1 point, half of its variance shared by the depths of a seed). Unless named otherwise: 4 tasks
per case, 3 seeds, 6 depths. `decide()` sees what the report sees. Share of tables with each answer:

{chr(10).join(lines)}

- "Partly supported" and "partly contradicted" are counted with "supported" and "contradicted".
- Without order, "supported" and "contradicted" are each to stay at or below 5 % (binomial error of {count} tables:
  ± {error:.1f}). The test is exact but discrete, so that few tasks and ties keep it below. Both are one-sided, so that
  together they are wrong in at most 10 % of the tables without order.
- Computed power: normal approximation of the Jonckheere-Terpstra statistic from one task's distribution of kept depths
  (`computed_power`), no permutation. It is for large samples: with 4 tasks per case it is near, not exact.
- The 95 % interval of the effect in accuracy points (Welch, over tasks) held the true value in {covered:.1f} % of the
  tables of "{RULED[2].name}".
- `more_tasks` of an inconclusive verdict is a normal approximation from one sweep's effect: a rough guide.

## Intervals of one task, and which depths are good

Simulated sweeps of one task: every image is right or wrong under the network of every seed and depth, with luck that is
common to a seed, to a depth of a seed, to an image, and to an image at a depth. 3 seeds, 1,000 test images and 6 depths
unless named otherwise; accuracies near 80 %; `vary more`: SD over seeds from 3 points at depth 0 to 0.5 at the deepest,
else 1 point; `unequal classes`: of 500, 300, 40 and 20 images, or of 900 and 100, the first the easiest, and balanced
accuracies. Share of {count} sweeps in which the truth was in what the report said:

{chr(10).join(sets)}

A good depth is one that loses at most a point. The set of good depths is named cautiously: the depths that are good
with a probability of at least {100 * UNLIKELY:g} %, so that on flat and noisy curves, where the best of six draws is
better than any depth, a good depth is named in about 95 % of sweeps. The one depth to keep is right far less often:
where curves are flat, take the set.

## Distance of a task to the source

How often the 95 % interval of the Frechet distance held the true one, on simulated features of known distance ({fewer}
pairs of samples each):

{chr(10).join(held)}
"""


if __name__ == "__main__":
    start = time.time()
    target = Path(__file__).parents[1] / "docs" / "calibration.md"
    target.write_text(document(1000, 300), encoding="utf-8")
    print(f"{target}: {time.time() - start:.0f} s")
