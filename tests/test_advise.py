import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from sweep.cli import advise
from sweep.cli.halving import Arm, halve, recommend, rungs
from sweep.config import Config
from sweep.errors import UserError
from sweep.plan.point import plan
from sweep.report import record
from sweep.run.job import run_point
from sweep.run.session import Session

pytestmark = pytest.mark.slow


def arm(depth: int, *accuracy: float, epochs: int = 4, n_val: int = 100_000) -> Arm:
    return Arm(depth, epochs, np.array(accuracy), n_val, 1.0, 0.0, 0.5, None)


@pytest.mark.parametrize(
    ("arms", "epochs", "expected"),
    [
        (6, 4, [(6, 1), (3, 2), (2, 4)]),
        (2, 10, [(2, 10)]),
        (9, 20, [(9, 2), (5, 5), (3, 10), (2, 20)]),
        (6, 3, [(6, 1), (3, 3)]),
        (6, 1, [(6, 1)]),
    ],
)
def test_rounds_halve_the_depths_and_double_the_epochs(arms: int, epochs: int, expected: list[tuple[int, int]]) -> None:
    assert rungs(arms, epochs) == expected


def search(
    curve: Sequence[float], seconds: Sequence[float], budget: float, fails: Sequence[int] = ()
) -> tuple[dict[int, Arm], list[str], list[tuple[int, int]]]:
    """Halve over depths whose accuracy and seconds per epoch are known, with a clock that only training moves."""
    clock = {"now": 0.0}
    trained: list[tuple[int, int]] = []

    def train(depth: int, epochs: int, others: Sequence[int]) -> Arm | None:
        assert depth in others
        clock["now"] += seconds[depth] * epochs
        trained.append((depth, epochs))
        return None if depth in fails else arm(depth, curve[depth], epochs=epochs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweep.cli.halving.time.monotonic", lambda: clock["now"])
        found, notes = halve(range(len(curve)), 4, train, lambda: budget - clock["now"])
    return found, notes, trained


CURVE = (0.5, 0.6, 0.7, 0.8, 0.75, 0.4)


def test_halving_keeps_the_better_half_and_trains_it_for_longer() -> None:
    found, notes, trained = search(CURVE, [1.0] * 6, budget=100)
    assert trained == [*((depth, 1) for depth in (5, 4, 3, 2, 1, 0)), (4, 2), (3, 2), (2, 2), (4, 4), (3, 4)]
    assert {depth: each.epochs for depth, each in found.items()} == {5: 1, 4: 4, 3: 4, 2: 2, 1: 1, 0: 1}
    assert notes == []


def test_halving_ends_where_the_time_does() -> None:
    found, notes, trained = search(CURVE, [10.0, 5, 4, 3, 2, 1], budget=12)
    assert trained == [(5, 1), (4, 1), (3, 1), (2, 1), (1, 1)]
    assert notes == ["out of time before 1 epoch of 0 frozen"]
    assert set(found) == {1, 2, 3, 4, 5}
    _, notes, trained = search(CURVE, [1.0] * 6, budget=9)
    assert len(trained) == 6
    assert notes == ["out of time: 3 depths for 2 epochs would have taken 6 s more"]
    _, _, trained = search(CURVE, [1.0] * 6, budget=0)
    assert trained == [(5, 1)], "one depth is trained, however short the time"


def test_halving_goes_on_without_depths_that_fail() -> None:
    found, _, trained = search(CURVE, [1.0] * 6, budget=100, fails=[3])
    assert 3 not in found
    assert trained[-1] == (2, 4)


def test_recommended_is_the_deepest_within_a_point_and_its_interval_is_as_sure_as_the_images() -> None:
    arms = [arm(0, 0.80, 0.80), arm(3, 0.803, 0.802), arm(4, 0.797, 0.799)]
    assert recommend(arms) == (4, 4, 4)
    few = [Arm(each.depth, 4, each.accuracy, 50, 1.0, 0.0, 0.5, None) for each in arms]
    depth, low, high = recommend(few)
    assert (depth, high) == (4, 4)
    assert low == 0, "50 images cannot tell half a point"
    assert recommend([arm(0, 0.9), arm(5, 0.5)]) == (0, 0, 0)


def test_seeds_that_disagree_widen_the_interval() -> None:
    assert recommend([arm(0, 0.80, 0.80, 0.80), arm(2, 0.83, 0.75, 0.80)]) == (2, 0, 2)


def test_advice_is_printed_and_its_command_trains_that_depth(
    standin_source: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ["data=textures", "data.per_class=4", "data.label=a b", "seeds=1", "epochs=2", "optimizer.lr=[0.001]"]
    text = advise.advise([*settings, "budget_minutes=5"])
    told = capsys.readouterr().out
    assert told.count("validation") == 6 + 3
    depth = int(re.search(r"Keep (\d) of 5 blocks frozen", text)[1])  # type: ignore[index]
    assert f"{depth}/5 <-" in text
    assert "The rule of thumb says 0 (dissimilar: 10 classes, the source 26)." in text
    command = "python -m sweep data=textures data.per_class=4 'data.label=a b' seeds=1 epochs=2 'optimizer.lr=[0.001]'"
    assert f"{command} pretrained=true freeze_depth={depth} name=advise export=best" in text
    saved = json.loads((tmp_path / "outputs/advise/advice.json").read_text())
    assert (saved["freeze_depth"], len(saved["depths"])) == (depth, 6)
    assert set(saved["depths"][5]["scores"]) > {"logme", "knn"}
    assert "logme" in saved["depths"][1]["scores"]
    assert saved["depths"][0]["scores"] == {}
    again = advise.advise([*settings, "budget_minutes=5"])
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
