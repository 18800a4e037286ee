"""`python -m sweep.report A B`: what the second sweep gains over the first."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_report import edit, with_facts, write_sweep

from sweep.config import StudyConfig
from sweep.report import record, table
from sweep.report.__main__ import main
from sweep.report.record import Record
from sweep.stats.tests import mean_interval


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Return two sweeps of the same points whose results are the same."""
    for name in ("one", "two"):
        write_sweep(tmp_path / name)
    return tmp_path / "one", tmp_path / "two"


def compared(capsys: pytest.CaptureFixture[str], *folders: Path) -> str:
    main([*map(str, folders)])
    return capsys.readouterr().out


def line(text: str, *cells: str) -> list[str]:
    """Return the cells of the table's line that begins with these."""
    (found,) = [each.split() for each in text.splitlines() if each.split()[: len(cells)] == [*cells]]
    return found


def test_differences_are_paired_by_seed(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    gains = {0: 0.03, 1: 0.05}

    def gain(member: Record) -> None:
        if member.test_accuracy and member.facts.pretrained and member.facts.task == "digits":
            member.test_accuracy += gains[member.seed]

    edit(two[1], table.read_manifest(two[1])[0], gain)
    text = compared(capsys, *two)
    _, _, low, high = mean_interval(np.array([[3.0], [5.0]]))
    assert line(text, "digits", "pretrained", "0")[3:] == [
        "80.1",
        "84.1",
        "+4.0",
        f"[{low:+.1f},",
        f"{high:+.1f}]",
        "2",
    ]
    assert line(text, "waves", "random", "4")[5] == "+0.0"
    assert "interval over seeds." in text
    assert "Their recorded settings are the same." in text
    assert "+0.7 in the mean" in text, "3 of 18 points gain 4"
    assert "Only in" not in text


def test_images_that_were_right_in_both_are_paired(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Two networks that mistake the same images differ less than their accuracies' intervals tell."""

    def keep(member: Record) -> None:
        member.n_test = 100
        if member.selected:
            right = np.arange(100) < 80 + member.seed
            member.test_accuracy, member.test_correct = float(right.mean()), record.packed(right)

    def better(member: Record) -> None:
        keep(member)
        if member.selected:
            right = np.arange(100) < 84 + member.seed
            member.test_accuracy, member.test_correct = float(right.mean()), record.packed(right)

    points = table.read_manifest(two[0])[0]
    edit(two[0], points, keep)
    edit(two[1], points, better)
    text = compared(capsys, *two)
    assert "two is better at 18 and worse at 0 of 18 points" in text
    assert "over seeds and test images" in text
    assert "one is better at 0 and worse at 18 of 18 points" in compared(capsys, two[1], two[0])


def test_what_one_has_alone_and_what_cannot_be_compared_is_said(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    points = table.read_manifest(two[1])[0]
    shutil.rmtree(record.job_folder(two[1], points[0].job))
    edit(two[0], points[1:2], lambda member: setattr(member, "n_test", 100))
    edit(two[1], points[1:2], lambda member: setattr(member, "n_test", 200))
    others = with_facts(points, lambda each: {"epochs": 9, "n_classes": 4 if each.task == "waves" else 10})
    others[2] = dataclasses.replace(others[2], seeds=[1])
    table.write_manifest(two[1], others, StudyConfig())
    text = compared(capsys, *two)
    assert "Only in one: digits pretrained 0." in text
    assert "Not comparable: digits pretrained 2: n_test is 100 and 200." in text
    assert "Not comparable: waves random 4: n_classes is 10 and 4." in text
    assert "They differ in epochs (2 and 9)." in text
    assert line(text, "digits", "pretrained", "4")[3:] == ["90.2", "90.2", "+0.0", "1"], "one seed: no interval"
    assert "One seed in both has no interval." in text


def test_nothing_in_common_is_one_line(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    points = with_facts(table.read_manifest(two[1])[0], lambda each: {"task": f"other {each.task}"})
    table.write_manifest(two[1], points, StudyConfig())
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, two)])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "one and two: no result to compare in both." in error
    assert "and 6 more" in error
    assert error.count("\n") == 1


def test_other_settings_tell_points_apart_where_both_vary_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        write_sweep(tmp_path / name, {"model.name": ["a", "b"]})
    text = compared(capsys, tmp_path / "one", tmp_path / "two")
    assert line(text, "digits", "pretrained", "0", "b")[4] == "80.1"
    write_sweep(tmp_path / "three")
    with pytest.raises(SystemExit):
        main([str(tmp_path / "one"), str(tmp_path / "three")])
    assert "Not comparable: digits pretrained 0: the first has 2 such points." in capsys.readouterr().err
