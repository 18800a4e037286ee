"""Files are whole or absent, whatever happens while they are written."""

import os
from pathlib import Path

import pytest

from sweep import paths


def test_a_write_that_fails_leaves_the_old_content_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "folder" / "record.json"
    paths.write_json(target, {"old": 1})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        paths.write_json(target, {"new": 2})
    assert paths.read_json(target) == {"old": 1}
    assert [path.name for path in target.parent.iterdir()] == ["record.json"]


def test_json_has_no_word_for_what_is_not_finite(tmp_path: Path) -> None:
    paths.write_json(tmp_path / "a.json", {"loss": [1.5, float("nan"), float("inf")]})
    assert paths.read_json(tmp_path / "a.json") == {"loss": [1.5, None, None]}


@pytest.mark.parametrize("content", ["", '{"cut": [1, 2', "[1, 2]", "\x00"])
def test_what_is_not_whole_is_as_absent(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    assert paths.read_json(tmp_path / "a.json") is None
    assert paths.read_json(tmp_path / "none.json") is None
