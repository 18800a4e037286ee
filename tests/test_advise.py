import json
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from sweep.cli import advise
from sweep.cli.search import Search, near, usual_and_beyond
from sweep.config import Config
from sweep.errors import UserError
from sweep.plan.point import plan
from sweep.report import record
from sweep.runs.job import run_point
from sweep.runs.session import Session
from sweep.stats.belief import LUCK, Cell, Run, believe, next_run, prices
from sweep.stats.types import Floats

pytestmark = pytest.mark.slow


RATES = (0.0001, 0.0003, 0.001, 0.003)


class Curve:
    """Networks whose accuracy over depth is known, with a clock that only training moves.

    best: the place in `rates` of the learning rate from which accuracy falls by `fall` per step, but for a head alone.
    """

    rates: Sequence[float] = RATES
    fall = 0.05

    def __init__(
        self, curve: Floats, seconds: Sequence[float], seed: int = 0, images: int = 100, best: int | None = None
    ) -> None:
        self.curve, self.seconds, self.images, self.best = curve, seconds, images, best
        self.rng = np.random.default_rng(seed)
        self.hard = self.rng.standard_normal((9, images))
        self.now = 0.0
        self.trained: list[tuple[int, int, int]] = []

    def search(self, budget: float, fails: Collection[int] = (), folds: int = 3) -> Search:
        search = Search(plan(Config()), Path("nowhere"), Session(), [0.001] if self.best is None else self.rates)
        search.folds = [*range(folds)]

        def train(cell: Cell, fold: int) -> None:
            depth, rate = cell
            self.trained.append((depth, rate, fold))
            self.now += self.seconds[depth]
            if depth in fails:
                search.failed.add(cell)
                return
            head = depth == len(self.curve) - 1
            level = self.curve[depth] - self.fall * abs(rate - (rate if self.best is None or head else self.best))
            luck = np.clip(level + 0.012 * self.rng.standard_normal(), 0.02, 0.98)
            score = np.sqrt(0.6) * self.hard[fold] + np.sqrt(0.4) * self.rng.standard_normal(self.images)
            search.runs.append(Run(depth, rate, fold, score < stats.norm.ppf(luck), self.seconds[depth]))

        search._train = train  # type: ignore[method-assign]  # noqa: SLF001
        search.run(lambda: budget - self.now)
        return search


class Far(Curve):
    """Networks on a task far from the source, where rates matter much."""

    rates = usual_and_beyond([0.0003, 0.001])
    fall = 0.1


TIMES = (1.0, 0.93, 0.67, 0.4, 0.1, 0.01)  # of ResNet-18, against training all of it
SHARES = np.linspace(0, 1, 6)
CURVES = {
    "flat": np.full(6, 0.88),
    "falling": 0.85 - 0.17 * SHARES**1.5,
    "rising": 0.82 + 0.06 * SHARES,
    "peak": 0.85 - 0.08 * np.abs(SHARES - 0.4),
    "cliff": np.array([0.91, 0.90, 0.90, 0.905, 0.89, 0.80]),
    "steep": 0.75 - 0.35 * SHARES,
}


def run(depth: int, share: float, count: int, rate: int = 0, fold: int = 0) -> Run:
    return Run(depth, rate, fold, np.arange(count) < round(share * count), 1.0)


def test_belief_is_between_what_was_seen_and_what_neighbours_say() -> None:
    many = believe(6, [0.0], [run(0, 0.8, 100_000), run(5, 0.6, 100_000)], [0])
    assert many.mean[[0, 5], 0] == pytest.approx([0.8, 0.6], abs=0.01)
    assert (np.diff(many.mean[:, 0]) < 0).all(), "between them it falls, as nothing else is known"
    few = believe(6, [0.0], [run(0, 0.8, 20), run(5, 0.6, 20)], [0])
    assert few.mean[0, 0] - few.mean[5, 0] < many.mean[0, 0] - many.mean[5, 0], "few images are believed less"
    assert (few.sd > many.sd).all()


def test_a_rate_that_is_better_at_one_depth_is_believed_better_at_others() -> None:
    decades = [-0.5, 0.0, 0.5]
    for better in (0, 2):
        seen = [run(3, 0.6 + 0.1 * (rate == better), 500, rate) for rate in (0, 2)]
        belief = believe(6, decades, seen, [0])
        for depth in (0, 1, 2, 4):
            assert belief.mean[depth, better] > belief.mean[depth, 2 - better]
    assert belief.best(3, {(3, 0), (3, 2), (4, 1)}) == (3, 2)


def test_depths_judged_on_the_same_images_are_compared_more_closely() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(100) < 0.8
    other = first ^ (rng.random(100) < 0.05)  # right on nearly the same images

    alone = [Run(0, 0, 0, first, 1), Run(1, 0, 1, other, 1)]
    together = [Run(0, 0, 0, first, 1), Run(1, 0, 0, other, 1)]

    def apart(runs: list[Run]) -> float:
        covariance = believe(2, [0.0], runs, [0, 1]).covariance
        return float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])

    assert apart(together) < 0.75 * apart(alone)


def test_belief_after_a_run_is_that_of_all_runs_and_exact() -> None:
    """Against the textbook formula for a normal vector of which sums with noise were seen."""
    runs = [run(5, 0.6, 50, 1), run(4, 0.7, 50, 0, 1), run(0, 0.8, 50, 1, 1), run(0, 0.75, 50, 0, 0)]
    belief, prior = believe(6, [-0.3, 0.3], runs, [0, 1]), believe(6, [-0.3, 0.3], [], [0, 1])
    share = np.mean([each.correct.mean() for each in runs])
    spread, alike = (
        share * (1 - share) / 50,
        np.clip(np.mean([np.corrcoef(runs[a].correct, runs[b].correct)[0, 1] for a, b in ((0, 3), (1, 2))]), 0, 0.95),
    )
    seen = np.zeros((4, 14))
    for row, each in enumerate(runs):
        seen[row, each.depth * 2 + each.rate] = seen[row, 12 + each.fold] = 1
    covariance = prior.covariance.copy()
    covariance[12:, 12:] = np.eye(2) * alike * spread
    noise = np.eye(4) * ((1 - alike) * spread + LUCK**2)
    gain = covariance @ seen.T @ np.linalg.inv(seen @ covariance @ seen.T + noise)
    accuracies = np.array([each.correct.mean() for each in runs])
    assert belief.state == pytest.approx(prior.state + gain @ (accuracies - seen @ prior.state), abs=1e-9)
    assert belief.covariance == pytest.approx(covariance - gain @ seen @ covariance, abs=1e-9)


def test_a_run_is_worth_more_where_little_is_known_and_the_best_may_lie() -> None:
    sure = [run(depth, 0.8, 500, fold=fold) for depth in (4, 5) for fold in range(3)]
    belief = believe(6, [0.0], sure, range(4))
    worths = [belief.worth((depth, 0), 3) for depth in range(6)]
    assert worths[:5] == sorted(worths[:5], reverse=True), "the farther from what is known, the more"
    assert worths[0] > 20 * worths[5]
    assert min(worths) >= 0
    # Per second, the cheap depths come first; a cell's next fold is the first that it was not trained on.
    cells = [(depth, 0) for depth in range(6)]
    assert next_run(belief, sure, cells, dict.fromkeys(range(6), 1.0)) == ((0, 0), 0)
    assert next_run(belief, sure, cells, {depth: 10.0**-depth for depth in range(6)}) == ((3, 0), 0)
    assert next_run(belief, sure, [(5, 0)], {5: 1.0}) in (None, ((5, 0), 3))


def test_prices_follow_what_was_measured() -> None:
    runs = [Run(2, 0, 0, np.ones(3, bool), 1.0), Run(2, 0, 1, np.ones(3, bool), 3.0)]
    assert prices(3, runs) == [6, 4, 2]
    assert prices(3, [*runs, Run(1, 0, 0, np.ones(3, bool), 10.0)]) == [15, 10, 2]


def test_search_ends_where_the_time_does_and_always_trains_a_head_and_a_block() -> None:
    short = Curve(CURVES["rising"], TIMES)
    assert short.search(budget=0.0).runs[0].depth == 5
    assert short.trained == [(5, 0, 0), (4, 0, 0)]
    curve = Curve(CURVES["rising"], TIMES)
    search = curve.search(budget=2.0)
    assert curve.now < 2.0
    assert any("out of time" in note for note in search.notes)


def test_search_goes_on_without_depths_that_fail() -> None:
    curve = Curve(CURVES["falling"], TIMES)
    search = curve.search(budget=20, fails=[0, 5])
    assert sum(depth in (0, 5) for depth, _, _ in curve.trained) <= 2, "each once"
    assert {each.depth for each in search.runs} <= {1, 2, 3, 4}
    with pytest.raises(UserError, match="no depth could be trained"):
        Curve(CURVES["flat"], TIMES).search(budget=20, fails=range(6))


def test_learning_rates_are_found_with_the_depth() -> None:
    """Four rates, of which any may be the best by 5 points: few networks are trained far from it."""
    for best in range(4):
        curve = Curve(CURVES["steep"], TIMES, seed=best, images=300, best=best)
        search = curve.search(budget=8.0)
        kept = search.belief().keep(search.tried)
        _, rate = search.belief().best(kept, search.tried)
        assert CURVES["steep"][kept] - 0.05 * abs(rate - best) >= 0.75 - 0.08
        assert abs(rate - best) <= 1
        assert len(search.tried) < 24, "not all cells"


def test_usual_rates_reach_beyond_both_ends() -> None:
    assert usual_and_beyond([0.0003, 0.001]) == [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2]
    search = Search(plan(Config()), Path("nowhere"), Session(), None)
    assert search.rates == usual_and_beyond(Config().lr_list)
    assert Search(plan(Config()), Path("nowhere"), Session(), [0.1]).rates == [0.1]


def test_rates_are_tried_outward_from_those_that_were() -> None:
    curve = Curve(CURVES["flat"], TIMES, best=0)
    curve.search(budget=30.0)
    seen: set[int] = set()
    for depth, rate, _ in curve.trained:
        assert not seen or depth >= 4 or min(abs(rate - other) for other in seen) <= 1
        seen.add(rate)
    cells = [(depth, rate) for depth in range(2) for rate in range(8)]
    assert near(cells, [run(1, 0.5, 10, rate=3)]) == [(depth, rate) for depth in range(2) for rate in (2, 3, 4)]


def test_folds_are_seeds_that_validate_on_other_images(tiny: Callable[..., Config]) -> None:
    def folds(**changes: object) -> list[int]:
        return Search(plan(tiny(seeds=[3, 4, 5, 6, 7], **changes)), Path("nowhere"), Session(), None).folds

    assert folds(data_rotate=False) == [3], "all judge the same images"
    assert len(folds(data_rotate=True, data_val_fraction=0.333)) == 3
    assert len(folds(data_rotate=True, data_val_fraction=0.2)) == 5


@pytest.mark.parametrize("name", CURVES)
def test_advice_loses_little_and_says_how_much(name: str) -> None:
    """30 searches on folds of 100 images, for two of ten full sweeps' hundred networks: a fifth and less."""
    lost, expected = [], []
    for seed in range(30):
        search = Curve(CURVES[name], TIMES, seed).search(budget=5.0)
        belief = search.belief()
        keep = belief.keep(search.tried)
        lost.append(max(CURVES[name]) - CURVES[name][keep])
        expected.append(belief.expected_loss()[keep])
    assert np.mean(lost) < 0.015
    assert np.mean(lost) < np.mean(expected) + 0.006, "it does not promise more than it keeps"


def test_rates_that_matter_much_are_noticed() -> None:
    """A decade above the usual rates it is 20 points better, at every depth but the head's."""
    curve = np.array([0.78, 0.86, 0.62, 0.55, 0.5, 0.45])
    lost, expected = [], []
    for seed in range(40):
        search = Far(curve, TIMES, seed, best=6).search(budget=4.0)
        belief = search.belief()
        keep = belief.keep(search.tried)
        lost.append(curve.max() - curve[keep])
        expected.append(belief.expected_loss()[keep])
    assert np.mean(lost) < np.mean(expected) + 0.015, "it does not promise more than it keeps"


def test_advice_is_printed_and_its_command_trains_that_depth(
    standin_source: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ["data=textures", "data.per_class=4", "data.label=a b", "seeds=2", "epochs=1", "optimizer.lr=[0.001]"]
    made = advise.advise([*settings, "budget_minutes=5"])
    text = str(made)
    told = capsys.readouterr().out
    assert told.startswith("First guess, by the nearest neighbours of features: ")
    assert told.count("so far: keep") == told.count("validation") >= 6, "the head, and other depths and folds"
    depth = int(re.search(r"Keep (\d) of 5 blocks frozen", text)[1])  # type: ignore[index]
    assert f"{depth}/5 <-" in text
    assert "Expected loss against the best depth: " in text
    assert "The rule of thumb says 0 (dissimilar: 10 classes, the source 26)." in text
    command = "python -m sweep data=textures data.per_class=4 'data.label=a b' seeds=2 batch_size=20"
    rest = "optimizer.schedule=plateau data.rotate=true epochs=1 optimizer.lr=0.001 pretrained=true"
    assert f"{command} {rest} freeze_depth={depth} name=advise export=best" in text
    saved = json.loads((tmp_path / "outputs/advise/advice.json").read_text())
    assert (saved["freeze_depth"], len(saved["depths"])) == (depth, 6)
    assert saved["depths"][depth]["expected_loss"] == saved["expected_loss"]
    assert set(saved["depths"][5]["scores"]) > {"logme", "knn"}
    assert "logme" in saved["depths"][1]["scores"]
    assert saved["depths"][0]["scores"] == {}
    assert (made.depth, made.expected_loss) == (depth, saved["expected_loss"])
    assert made.probabilities[depth] == saved["probability_good"]
    assert made.table["freeze_depth"].tolist() == [*range(6)]
    assert made.table["networks"].sum() == told.count("validation")
    html = made._repr_html_()
    assert f"<td>{depth}/5 &lt;-</td>" in html
    assert "&#39;data.label=a b&#39;" in html
    again = str(advise.advise([*settings, "budget_minutes=5"]))
    assert again.splitlines()[-1] == text.splitlines()[-1]
    assert re.search(r"0\.\d s", capsys.readouterr().out), "what was trained is read from its records"


def test_scores_of_a_depth_are_those_of_its_job(tiny: Callable[..., Config], tmp_path: Path, session: Session) -> None:
    point = plan(tiny(freeze_depth=3, pretrained=True, cache_max_gb=1.0))
    run_point(point, tmp_path, session)
    (member,) = record.read_members(record.job_folder(tmp_path, point.job), 0) or []
    assert advise.score_depths(point, session)[3] == pytest.approx(member.scores, rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["budget_minutes=0"], "budget_minutes=0: use a number of minutes above 0"),
        (["budget_minutes=soon"], "budget_minutes=soon: use a number"),
        (["freeze_depth=3"], "freeze_depth=3: advise chooses the depth"),
        (["pretrained=false"], "pretrained=false: advise chooses the depth, of pretrained weights"),
        (["freeze.which=suffix"], "advise freezes the first blocks"),
        (["data.val_fraction=0", "optimizer.lr=0.1"], r"data.val_fraction=0.*: advise chooses on validation"),
        (["epochs=1,2"], "epochs=1,2: advise takes one value"),
        (["data=no_such"], "data=no_such"),
    ],
)
def test_wrong_input_is_one_line(arguments: list[str], message: str, standin_source: None) -> None:
    with pytest.raises(UserError, match=message) as caught:
        advise.advise(arguments)
    assert "\n" not in str(caught.value)


def test_command_ends_in_one_line_or_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr("sys.argv", ["advise", "budget_minutes=-1"])
    with pytest.raises(SystemExit) as stopped:
        advise.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: budget_minutes=-1: ")
    monkeypatch.setattr("sys.argv", ["advise", "--help"])
    with pytest.raises(SystemExit) as stopped:
        advise.main()
    assert stopped.value.code == 0
    assert "budget_minutes=10" in capsys.readouterr().out
