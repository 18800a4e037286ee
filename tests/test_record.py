"""A record is whole and undamaged, or it is none: then its file is named, and its seed trained again."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_report import facts, members

from sweep.cli import multirun
from sweep.config import Config
from sweep.plan.point import plan
from sweep.report import record

JOB = "waves-True-2"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the file of a seed with two members, the second of which is selected."""
    folder = record.job_folder(tmp_path, JOB)
    record.write_members(folder, 0, members(facts("waves", True, 2), JOB, 0))
    return folder / "seed-0.json"


def test_what_is_written_is_read(file: Path) -> None:
    assert record.finished(file.parent, 0)
    assert record.damage(file.parent, 0) is None
    assert record.damage(file.parent, 1) is None  # not there


@pytest.mark.parametrize("with_checksum", [True, False])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"test_accuracy": 7}, "test_accuracy is 7"),
        ({"test_accuracy": -0.1}, "test_accuracy is -0.1"),
        ({"test_accuracy": float("nan")}, "test_accuracy is nan"),
        ({"test_accuracy": "0.9"}, "test_accuracy is 0.9"),
        ({"test_accuracy": True}, "test_accuracy is True"),
        ({"val_accuracy": [0.5]}, "val_accuracy is"),
        ({"test_accuracy": None}, "no test accuracy"),
        ({"selected": None, "status": "fine"}, "status fine"),
        ({"job": "another"}, "seed 0 of another"),
        ({"seed": 4}, "seed 4 of"),
        ({"unheard": 1}, "unheard"),
    ],
)
def test_a_changed_record_is_named_and_is_none(
    file: Path, change: dict[str, Any], said: str, with_checksum: bool
) -> None:
    content = json.loads(file.read_text())
    content["members"][1] |= change
    if not with_checksum:
        del content["checksum"]
    file.write_text(json.dumps(content))
    found = record.damage(file.parent, 0)
    assert found is not None
    assert str(file) in found
    assert ("checksum" if with_checksum else said) in found
    assert record.read_members(file.parent, 0) is None
    assert not record.finished(file.parent, 0)


def test_two_selected_are_none(file: Path) -> None:
    both = members(facts("waves", True, 2), JOB, 0)
    for member in both:
        member.selected, member.test_accuracy = True, 0.5
    record.write_members(file.parent, 0, both)
    assert "2 learning rates are selected" in str(record.damage(file.parent, 0))


def test_a_number_that_could_be_right_is_found_by_the_checksum(file: Path) -> None:
    text = file.read_text()
    changed = text.replace('"val_accuracy": 0.5', '"val_accuracy": 0.6', 1)
    assert changed != text
    file.write_text(changed)
    assert "checksum" in str(record.damage(file.parent, 0))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:200] + bytes([whole[200] ^ 128]) + whole[201:],
        lambda whole: b"[1, 2]",
        lambda whole: b"\x00" * len(whole),
    ],
    ids=["emptied", "cut short", "bit flipped", "of another kind", "zeros"],
)
def test_a_spoilt_file_is_named(file: Path, spoil: Callable[[bytes], bytes]) -> None:
    file.write_bytes(spoil(file.read_bytes()))
    assert "not whole" in str(record.damage(file.parent, 0))
    assert record.read_members(file.parent, 0) is None


def test_another_version_is_no_damage(file: Path) -> None:
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"results_version": -1}))
    assert record.damage(file.parent, 0) is None
    assert record.read_members(file.parent, 0) is None


def test_a_record_of_another_cut_is_named_and_trained_again(file: Path) -> None:
    folder, blocks = file.parent, facts("waves", True, 2).n_blocks
    root = folder.parent.parent
    assert record.missing_seeds(root, JOB, [0], blocks) == []
    assert record.damage(folder, 0, blocks) is None
    assert record.missing_seeds(root, JOB, [0], blocks + 12) == [0]
    assert record.read_members(folder, 0, blocks + 12) is None
    assert f"cut into {blocks} blocks; it has {blocks + 12} now" in str(record.damage(folder, 0, blocks + 12))


def test_what_was_trained_under_another_cut_is_owed_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    point = plan(Config(seeds=1, freeze_depth=2))
    now = dataclasses.replace(point.facts, task="waves")
    old = dataclasses.replace(now, n_blocks=3)
    record.write_members(record.job_folder(tmp_path, point.job), 0, members(now, point.job, 0))
    assert not multirun.owes(point, tmp_path)
    record.write_members(record.job_folder(tmp_path, point.job), 0, members(old, point.job, 0))
    assert multirun.owes(point, tmp_path)
    (said,) = capsys.readouterr().err.splitlines()
    assert "made when resnet18 was cut into 3 blocks; it has 5 now; it is trained again" in said
