"""The loops: streamed equals held, heads together equal heads alone, augmentation, precision."""

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from sweep.config import Augment, OptimizerConfig, Precision, Schedule
from sweep.train.examples import Examples, Splits, batches, flip_crop, place
from sweep.train.heads import fit_heads, is_head
from sweep.train.loop import Curves, Recipe, fit

CPU = torch.device("cpu")


def examples(n: int = 50, seed: int = 0, rows: int = 80) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    inputs = torch.randn(rows, 6, generator=generator)
    index = torch.randperm(rows, generator=generator)[:n]
    inputs[index] += labels[:, None]
    return Examples(inputs, index, labels)


def head(seed: int, p: float = 0.0) -> nn.Module:
    torch.manual_seed(seed)
    linear = nn.Linear(6, 3)
    return nn.Sequential(nn.Sequential(nn.Dropout(p), linear)) if p else nn.Sequential(linear)


RATES, SEEDS = [0.003, 0.03, 0.3], [4, 9]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("precision", [Precision.fp32, Precision.bf16])
@pytest.mark.parametrize("pooled", [False, True], ids=["inputs of each seed", "inputs of all seeds"])
def test_heads_trained_together_equal_heads_trained_alone(
    name: str, p: float, precision: Precision, pooled: bool
) -> None:
    optimizer = OptimizerConfig(name, weight_decay=0.05, schedule=Schedule.plateau)
    recipe = Recipe(optimizer, 24, 16, min_steps=20, precision=precision)  # heads stop at different epochs
    data = {seed: Splits(examples(50, seed), examples(20, seed + 1), examples(15, seed + 2)) for seed in SEEDS}
    if pooled:  # as pretrained features are: each seed trains on rows of its own, all are evaluated on the same
        first, val, test = data[SEEDS[0]]
        labels = torch.zeros(len(first.inputs), dtype=torch.int64).scatter(0, first.rows, first.labels)
        drawn = {seed: torch.randperm(80, generator=torch.Generator().manual_seed(seed))[:50] for seed in SEEDS}
        data = {seed: Splits(Examples(first.inputs, rows, labels[rows]), val, test) for seed, rows in drawn.items()}
    together = [[head(seed, p) for _ in RATES] for seed in SEEDS]
    alone = copy.deepcopy(together)
    generator = torch.get_rng_state()
    curves = fit_heads(together, list(data.values()), recipe, rates=[RATES] * 2, seeds=SEEDS)
    assert torch.equal(torch.get_rng_state(), generator), "torch's own generator is left alone"
    for row, seed in enumerate(SEEDS):
        for column, lr in enumerate(RATES):
            own = fit(alone[row][column], data[seed], recipe, lr=lr, seed=seed)
            theirs = curves[row][column]
            if precision is not Precision.fp32:  # what rounding does to a plateau is not the same
                assert theirs.train_loss[:4] == pytest.approx(own.train_loss[:4], rel=2e-2)
                assert theirs.val_loss[:4] == pytest.approx(own.val_loss[:4], rel=2e-2)
                continue
            rel = 1e-5
            assert theirs.train_loss == pytest.approx(own.train_loss, rel=rel)
            assert theirs.val_loss == pytest.approx(own.val_loss, rel=rel)
            assert theirs.val_accuracy == own.val_accuracy
            assert theirs.test_accuracy == own.test_accuracy
            torch.testing.assert_close(together[row][column].state_dict(), alone[row][column].state_dict())
    if precision is Precision.fp32:
        assert len({len(curve.train_loss) for row in curves for curve in row}) > 1


def test_a_head_that_diverges_leaves_the_others_alone() -> None:
    recipe = Recipe(OptimizerConfig("sgd", schedule=Schedule.constant), 5, 16)
    data = Splits(examples(50), examples(20, 1))
    good, alone = head(0), head(0)
    (pair,) = fit_heads([[good, head(0)]], [data], recipe, rates=[[0.01, 1e30]], seeds=[0])
    own = fit(alone, data, recipe, lr=0.01, seed=0)
    bad = fit(head(0), data, recipe, lr=1e30, seed=0)
    assert pair[0].train_loss == pytest.approx(own.train_loss, rel=1e-5)
    torch.testing.assert_close(good.state_dict(), alone.state_dict())
    assert pair[1].diverged
    assert len(pair[1].train_loss) == len(bad.train_loss) < 5


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [
        (nn.Sequential(nn.Linear(3, 2)), True),
        (nn.Sequential(nn.Sequential(nn.Dropout(0.2), nn.Linear(3, 2))), True),
        (nn.Sequential(nn.ReLU(), nn.Linear(3, 2)), False),
        (nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)), False),
    ],
)
def test_only_linear_heads_are_stacked(suffix: nn.Module, expected: bool) -> None:
    assert is_head(suffix) is expected


def test_streamed_batches_are_the_held_ones_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    held = examples(50)
    order = batches(torch.randperm(50, generator=torch.Generator().manual_seed(1)), 8)
    for ahead in (1, 2, 100):
        streamed = list(held.stream(order, ahead))
        for (inputs, _), batch in zip(held.batches(order), streamed, strict=True):
            assert torch.equal(inputs, batch)
    assert list(held.stream([])) == []

    def through_the_stream(self: Examples, order: list[torch.Tensor]) -> Iterator[tuple[torch.Tensor, ...]]:
        return zip(self.stream(order), (self.labels[index] for index in order), strict=True)

    def fitted() -> tuple[Curves, nn.Module]:
        model = head(0)
        recipe = Recipe(OptimizerConfig(), 2, 8)
        return fit(model, Splits(held, examples(20, 1)), recipe, lr=0.1, seed=3), model

    plain, first = fitted()
    monkeypatch.setattr(Examples, "batches", through_the_stream)
    other, second = fitted()
    assert plain.train_loss == other.train_loss
    assert plain.val_loss == other.val_loss
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_an_error_while_gathering_reaches_the_reader() -> None:
    broken = Examples(torch.zeros(3, 2), torch.tensor([0, 1, 99]), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(IndexError):
        list(broken.stream([torch.arange(3)]))


def views(images: torch.Tensor, seed: int) -> torch.Tensor:
    return flip_crop(images, torch.Generator().manual_seed(seed))


def test_flip_crop_shows_shifted_and_mirrored_images() -> None:
    images = torch.randint(1, 256, (40, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    seen = views(images, 0)
    assert (seen.shape, seen.dtype) == (images.shape, torch.uint8)
    assert torch.equal(seen, views(images, 0))
    assert not torch.equal(seen, views(images, 1))
    padded = nn.functional.pad(images, (2, 2, 2, 2))
    found = set()
    for image, view in zip(padded, seen, strict=True):
        possible = {
            (flip, y, x): torch.equal(view.flip(2) if flip else view, image[:, y : y + 16, x : x + 16])
            for flip in (False, True)
            for y in range(5)
            for x in range(5)
        }
        (which,) = [key for key, same in possible.items() if same]
        found.add(which)
    assert {flip for flip, _, _ in found} == {False, True}
    assert {y for _, y, _ in found} == {x for _, _, x in found} == set(range(5))


def test_augmented_training_shows_other_views_in_every_epoch() -> None:
    seen: list[torch.Tensor] = []

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3 * 8 * 8, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images.clone())
            out: torch.Tensor = self.linear(images.flatten(1).float() / 255)
            return out

    pool = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
    data = place(torch.from_numpy(pool), np.arange(6), np.arange(6) % 2, CPU)
    recipe = Recipe(OptimizerConfig(), 2, 6, augment=Augment.flip_crop)
    fit(Watching(), Splits(data, data), recipe, lr=0.1, seed=0)
    first, validated, second, again = seen
    assert not torch.equal(first.sort(0).values, second.sort(0).values)
    assert torch.equal(validated, again), "validation images are shown as they are"
    assert torch.equal(validated, torch.from_numpy(pool))


def test_bf16_trains_a_little_differently() -> None:
    losses = []
    for precision in (Precision.fp32, Precision.bf16):
        model = head(0)
        recipe = Recipe(OptimizerConfig(), 3, 16, precision=precision)
        losses.append(fit(model, Splits(examples(), examples(20, 1)), recipe, lr=0.1, seed=0).train_loss)
        assert next(model.parameters()).dtype == torch.float32
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.03)
