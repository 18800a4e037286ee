"""Outputs of frozen blocks: kept equals computed, one pass fills every depth, deeper ones extend shallower ones."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sweep.config import BatchNorm, Precision
from sweep.data import store
from sweep.data.types import Split
from sweep.models.frozen import Network, Normalize
from sweep.runs import feature_cache as features


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path))
    monkeypatch.setattr(features, "BATCH", 3)
    yield
    store.verified.clear()


class Counting(nn.Sequential):
    total = 0  # images that went through

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Counting.total += len(x)
        out: torch.Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return out


def network(precision: Precision = Precision.fp32) -> Network:
    torch.manual_seed(0)
    blocks = [
        Counting(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 5, 3, stride=2), nn.Dropout(0.5)),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ]
    return Network(Normalize([0.5] * 3, [0.25] * 3), blocks, nn.Linear(5, 2), 3, BatchNorm.frozen, precision)


def splits() -> dict[str, Split]:
    pool = np.random.default_rng(0).integers(0, 256, (12, 3, 8, 8), dtype=np.uint8)
    parts = {"train": [0, 2, 3, 5, 7, 8, 9], "val": [1], "test": [11, 4]}
    return {name: Split(pool, np.array(rows), np.zeros(len(rows), np.int64)) for name, rows in parts.items()}


def get(
    depth: int, others: tuple[int, ...] = (), precision: Precision = Precision.fp32, max_gb: float = 1.0
) -> tuple[dict[str, torch.Tensor] | None, int]:
    """Return the outputs, and how many images went through the first block for them."""
    before = Counting.total
    request = features.Request("key", splits(), depth, others, max_gb)
    found = features.outputs(request, lambda: network(precision))
    return found, Counting.total - before


def kept(depth: int) -> dict[str, torch.Tensor]:
    found, _ = get(depth)
    assert found is not None
    return found


def direct(depth: int, name: str, precision: Precision = Precision.fp32) -> torch.Tensor:
    with torch.no_grad():
        steps = list(network(precision).steps(torch.from_numpy(splits()[name].images)))
    return steps[depth - 1]


@pytest.mark.parametrize("precision", [Precision.fp32, Precision.bf16, Precision.fp16])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_kept_outputs_are_the_blocks_own(depth: int, precision: Precision) -> None:
    computed = -1
    for _ in range(2):  # computed, then read
        found, computed = get(depth, precision=precision)
        assert found is not None
        for name in splits():
            expected = direct(depth, name, precision)
            assert found[name].dtype == expected.dtype
            torch.testing.assert_close(found[name], expected)
    assert computed == 0, "the second time nothing is computed"


def test_one_pass_fills_every_depth() -> None:
    _, computed = get(1, others=(2, 3))
    assert computed == 10 + 1, "every image once, and one to see the shapes"
    for depth in (2, 3):
        found, computed = get(depth)
        assert found is not None
        torch.testing.assert_close(found["train"], direct(depth, "train"))
        assert computed == 0


def test_deeper_outputs_are_made_from_shallower_ones() -> None:
    get(1)
    found, computed = get(3)
    assert found is not None
    assert computed == 1, "only to see the shapes"
    torch.testing.assert_close(found["test"], direct(3, "test"))


def test_damaged_entry_is_made_again(tmp_path: Path) -> None:
    get(2)
    (path,) = (tmp_path / "arrays").glob("features-key/depth002-train-*.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 64
    path.write_bytes(bytes(content))
    store.verified.clear()
    torch.testing.assert_close(kept(2)["train"], direct(2, "train"))


def test_what_does_not_fit_is_not_kept_and_the_rest_is(tmp_path: Path) -> None:
    one = direct(3, "train")[0].nbytes * 10 / 1e9  # depth 3: 5 floats an image
    assert get(1, others=(3,), max_gb=one * 1.5)[0] is None
    assert not list((tmp_path / "arrays").glob("features-key/*.npy"))
    assert get(3, others=(1, 2), max_gb=one * 1.5)[0] is not None
    assert {path.name[:8] for path in (tmp_path / "arrays").glob("features-key/*.npy")} == {"depth003"}
