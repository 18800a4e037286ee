import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from sweep.cli import advise
from sweep.cli.search import Search
from sweep.config import Config
from sweep.errors import UserError
from sweep.plan.point import plan
from sweep.report import record
from sweep.run.job import run_point
from sweep.run.session import Session
from sweep.stats.belief import Run, believe, next_run, prices, worth
from sweep.stats.types import Floats

pytestmark = pytest.mark.slow


class Curve:
    """Networks whose accuracy over depth is known, with a clock that only training moves."""

    def __init__(self, curve: Floats, seconds: Sequence[float], seed: int = 0, images: int = 100) -> None:
        self.curve, self.seconds, self.images = curve, seconds, images
        self.rng = np.random.default_rng(seed)
        self.hard = self.rng.standard_normal((9, images))
        self.now = 0.0
        self.trained: list[tuple[int, int]] = []

    def search(self, budget: float, fails: Sequence[int] = (), **changes: object) -> Search:
        config = Config(seeds=5)
        config.data.rotate = True
        for key, value in changes.items():
            setattr(config.data if key == "rotate" else config, key, value)
        point = plan(config)
        search = Search(point, Path("nowhere"), Session(), [0.001])

        def train(depth: int, fold: int) -> None:
            self.trained.append((depth, fold))
            self.now += self.seconds[depth]
            if depth in fails:
                search.failed.add(depth)
                return
            luck = np.clip(self.curve[depth] + 0.012 * self.rng.standard_normal(), 0.02, 0.98)
            level = np.sqrt(0.6) * self.hard[fold] + np.sqrt(0.4) * self.rng.standard_normal(self.images)
            search.runs.append(Run(depth, fold, level < stats.norm.ppf(luck), self.seconds[depth]))

        search._train = train  # type: ignore[method-assign]  # noqa: SLF001
        search.run(lambda: budget - self.now)
        return search


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


def test_belief_is_between_what_was_seen_and_what_neighbours_say() -> None:
    def run(depth: int, share: float, count: int) -> Run:
        return Run(depth, 0, np.arange(count) < round(share * count), 1.0)

    many = believe(6, [run(0, 0.8, 100_000), run(5, 0.6, 100_000)])
    assert many.mean[[0, 5]] == pytest.approx([0.8, 0.6], abs=0.01)
    assert (np.diff(many.mean) < 0).all(), "between them a straight line, as nothing else is known"
    assert np.diff(many.mean) == pytest.approx(np.full(5, np.diff(many.mean).mean()), abs=1e-6)
    few = believe(6, [run(0, 0.8, 20), run(5, 0.6, 20)])
    assert few.mean[0] - few.mean[5] < many.mean[0] - many.mean[5], "few images are believed less"
    assert (np.diag(few.covariance) > np.diag(many.covariance)).all()


def test_depths_judged_on_the_same_images_are_compared_more_closely() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(200) < 0.8
    other = first ^ (rng.random(200) < 0.05)  # right on nearly the same images

    def spread(fold: int) -> float:
        belief = believe(2, [Run(0, 0, first, 1), Run(1, fold, other, 1)])
        return float(belief.covariance[0, 0] + belief.covariance[1, 1] - 2 * belief.covariance[0, 1])

    assert spread(0) < 0.6 * spread(1)


def test_a_run_is_worth_more_where_little_is_known_and_the_best_may_lie() -> None:
    sure = [Run(depth, fold, np.arange(500) < 400, 1.0) for depth in (4, 5) for fold in range(5)]
    belief = believe(6, sure)
    worths = [worth(belief, depth, {}, 500) for depth in range(6)]
    assert worths[:5] == sorted(worths[:5], reverse=True), "the farther from what is known, the more"
    assert worths[0] > 20 * worths[5]
    assert min(worths) >= 0
    # Per second, the cheap depths come first.
    action = next_run(6, sure, dict.fromkeys(range(6), 1.0), range(5))
    assert action is not None
    assert action[0] == 0
    action = next_run(6, sure, {depth: 10.0**-depth for depth in range(6)}, range(5))
    assert action is not None
    assert action[0] == 3


def test_prices_follow_what_was_measured() -> None:
    runs = [Run(2, 0, np.ones(3, bool), 1.0), Run(2, 1, np.ones(3, bool), 3.0)]
    assert prices(3, runs) == [6, 4, 2]
    assert prices(3, [*runs, Run(1, 0, np.ones(3, bool), 10.0)]) == [15, 10, 2]


def test_search_ends_where_the_time_does_and_always_trains_a_head() -> None:
    short = Curve(CURVES["rising"], TIMES)
    assert short.search(budget=0.0).runs[0].depth == 5
    assert short.trained == [(5, 0)]
    curve = Curve(CURVES["rising"], TIMES)
    search = curve.search(budget=2.0)
    assert curve.now < 2.0
    assert any("out of time" in note for note in search.notes)


def test_search_goes_on_without_depths_that_fail() -> None:
    curve = Curve(CURVES["falling"], TIMES)
    search = curve.search(budget=20, fails=[0, 5])
    assert {depth for depth, _ in curve.trained if depth in (0, 5)} <= {0, 5}
    assert sum(depth in (0, 5) for depth, _ in curve.trained) <= 2, "each once"
    assert {run.depth for run in search.runs} <= {1, 2, 3, 4}
    with pytest.raises(UserError, match="no depth could be trained"):
        Curve(CURVES["flat"], TIMES).search(budget=20, fails=range(6))


def test_folds_that_do_not_rotate_are_one() -> None:
    curve = Curve(CURVES["flat"], TIMES)
    curve.search(budget=100, rotate=False)
    assert {fold for _, fold in curve.trained} == {0}


@pytest.mark.parametrize("name", CURVES)
def test_advice_loses_little_and_says_how_much(name: str) -> None:
    """30 searches on folds of 100 images, for two of ten full sweeps' hundred networks: a fifth and less."""
    lost, expected = [], []
    for seed in range(30):
        curve = Curve(CURVES[name], TIMES, seed)
        search = curve.search(budget=5.0)
        belief = search.belief()
        keep = belief.keep({run.depth for run in search.runs})
        lost.append(max(CURVES[name]) - CURVES[name][keep])
        expected.append(belief.expected_loss()[keep])
    assert np.mean(lost) < 0.015
    assert np.mean(lost) < np.mean(expected) + 0.006, "it does not promise more than it keeps"


def test_advice_is_printed_and_its_command_trains_that_depth(
    standin_source: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ["data=textures", "data.per_class=4", "data.label=a b", "seeds=2", "epochs=2", "optimizer.lr=[0.001]"]
    text = advise.advise([*settings, "budget_minutes=5"])
    told = capsys.readouterr().out
    assert told.startswith("First guess, by the nearest neighbours of features: ")
    assert told.count("so far: keep") == told.count("validation") >= 6, "the head, and other depths and folds"
    depth = int(re.search(r"Keep (\d) of 5 blocks frozen", text)[1])  # type: ignore[index]
    assert f"{depth}/5 <-" in text
    assert "Expected loss against the best depth: " in text
    assert "The rule of thumb says 0 (dissimilar: 10 classes, the source 26)." in text
    command = "python -m sweep data=textures data.per_class=4 'data.label=a b' seeds=2 batch_size=20"
    rest = "optimizer.schedule=plateau data.rotate=true epochs=2 optimizer.lr=0.001 pretrained=true"
    assert f"{command} {rest} freeze_depth={depth} name=advise export=best" in text
    saved = json.loads((tmp_path / "outputs/advise/advice.json").read_text())
    assert (saved["freeze_depth"], len(saved["depths"])) == (depth, 6)
    assert saved["depths"][depth]["expected_loss"] == saved["expected_loss"]
    assert set(saved["depths"][5]["scores"]) > {"logme", "knn"}
    assert "logme" in saved["depths"][1]["scores"]
    assert saved["depths"][0]["scores"] == {}
    again = advise.advise([*settings, "budget_minutes=5"])
    assert again.splitlines()[-1] == text.splitlines()[-1]
    assert re.search(r"0\.\d s", capsys.readouterr().out), "what was trained is read from its records"


def test_learning_rates_follow_those_that_were_best_deeper(tiny: Callable[..., Config]) -> None:
    point = plan(tiny(data_rotate=True))
    search = Search(point, Path("nowhere"), Session(), None)
    assert search.rates(5) == [0.003, 0.01]
    for depth, lr in ((5, 0.01), (4, 0.003)):
        facts = plan(tiny(freeze_depth=depth)).facts
        search.chosen.append(record.Record(facts, "job", "ok", 0, lr=lr, selected=True))
    assert search.rates(4) == [0.003], "of a depth that was tuned, the best"
    assert search.rates(3) == search.rates(0) == [0.001, 0.003]
    assert Search(point, Path("nowhere"), Session(), [0.1]).rates(0) == [0.1]


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
        (["-m"], "-m: no such option"),
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
    advise.main()
    assert "budget_minutes=10" in capsys.readouterr().out
