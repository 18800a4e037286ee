"""docs/compatibility.md says what its script finds."""

import itertools
from collections.abc import Sequence

import pytest

from benchmarks import compatibility
from benchmarks.compatibility import CHECKPOINTS, DOCS, FORMATS, LAYOUTS, TIMM, TORCHVISION, Row, table
from benchmarks.kept import KEPT


def committed() -> set[str]:
    """Return the rows of the document, without the spaces that make its columns."""
    return {squeezed(line) for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")}


def squeezed(line: str) -> str:
    return " ".join(line.split())


def lines_of(found: Sequence[Row]) -> set[str]:
    return {squeezed(line) for line in table(found).splitlines()[2:]}


@pytest.mark.slow
def test_some_rows_come_out_as_they_are_committed() -> None:
    pytest.importorskip("timm")
    found = [
        *compatibility.models(["resnet18", "squeezenet1_1", "timm/test_resnet", "timm/test_vit"]),
        *compatibility.checkpoints(["DINO", "nn.Sequential", "other stem"]),
        *compatibility.folders(list(LAYOUTS)[::3], FORMATS[:1]),
        *compatibility.others(list(KEPT)[::4]),
    ]
    assert lines_of(found) <= committed()


def test_every_example_has_a_row() -> None:
    rows = {line.split(" | ")[1] for line in committed()}
    assert {*TORCHVISION, *(f"timm/{name}" for name in TIMM)} <= rows
    families = {line.removeprefix("| ").split(" | ")[0] for line in committed()}
    assert {*CHECKPOINTS, *LAYOUTS, *KEPT, *(f"{each} files" for each in FORMATS)} <= families


@pytest.mark.marathon
def test_all_rows_come_out_as_they_are_committed() -> None:
    assert lines_of([*itertools.chain(*compatibility.rows().values())]) <= committed()


def test_at_least_nine_in_ten_of_the_sample_are_cut() -> None:
    rows = [line for line in committed() if line.startswith("| timm | ")]
    assert len(rows) == len(TIMM)
    assert len([line for line in rows if "refused" not in line and "| 1 blocks" not in line]) >= 0.9 * len(rows)
