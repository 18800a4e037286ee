"""The examples of docs/own.md are run as they stand there."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep.models.__main__ import main as show_blocks

PAGE = Path(__file__).parent.parent / "docs" / "own.md"


def examples(page: str) -> list[tuple[str, str]]:
    """Return (file, source) of each block of Python that is to be a file, ("", lines) of commands and other Python."""
    found = []
    for text, language, body in re.findall(r"([^`\n]*(?:`[^`\n]+`[^`\n]*)*)\n\n```(\w*)\n(.*?)```", page, re.S):
        names = re.findall(r"`(\w+\.py)`", text) if language else []
        found.append((names[-1] if names else language, body))
    return found


@pytest.mark.campaign
def test_the_examples_run_as_they_stand(
    sweep: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    ran = []
    for name, body in examples(PAGE.read_text(encoding="utf-8")):
        if name.endswith(".py"):
            (tmp_path / name).write_text(body, encoding="utf-8")
        elif name == "python":
            exec(body, {})
            ran.append("python")
        for line in body.splitlines() if not name else ():
            command = shlex.split(line)
            assert command[:2] == ["python", "-m"], line
            if command[2] == "sweep.models":
                show_blocks(command[3:])
            else:
                done = sweep(*command[3:])
                assert done.returncode == 0, done.stderr
            ran.append(command[2])
    assert ran.count("sweep") == 3
    assert "python" in ran
    assert "sweep.models" in ran
