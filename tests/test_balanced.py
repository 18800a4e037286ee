"""Classes with unequal numbers of images: accuracies are means over classes, wherever something is chosen by them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Done
from test_doubts import photos, written

from sweep.config import OptimizerConfig
from sweep.data import task as data
from sweep.report import record, render, warnings
from sweep.stats.belief import Run, believe
from sweep.stats.types import Floats
from sweep.train.examples import Examples, Splits
from sweep.train.heads import fit_heads
from sweep.train.loop import Recipe, evaluate, fit

Sweep = Callable[..., Done]
SETTINGS = [
    "-m",
    "data=image_folder",
    "data.root=photos",
    "data.image_size=32",
    "name=x",
    "pretrained=false",
]
TWO = ["freeze_depth=0,5", "epochs=2", "seeds=2", "optimizer.lr=[0.0003,0.01]"]


def unequal(seed: int, n: int = 60) -> Examples:
    rng = torch.Generator().manual_seed(seed)
    labels = (torch.rand(n, generator=rng) < 0.1).long()
    labels[0] = 1
    return Examples(torch.randn(n, 4, generator=rng) + labels[:, None], torch.arange(n), labels)


def test_weighted_accuracy_is_the_mean_over_classes() -> None:
    examples = unequal(0)
    plain, balanced = (evaluate(torch.nn.Linear(4, 2), each) for each in (examples, examples.balanced()))
    assert balanced.accuracy == pytest.approx(balanced.balanced_accuracy)
    assert plain.accuracy == pytest.approx(plain.correct.mean())
    right = record.outcomes(
        record.packed(balanced.correct), record.packed_numbers(examples.labels.numpy()), len(examples)
    )
    assert right.mean() == pytest.approx(balanced.balanced_accuracy)


def test_parts_of_a_team_add_up_to_the_whole() -> None:
    examples, model = unequal(1).balanced(), torch.nn.Linear(4, 2)
    parts = [examples.part(slice(0, 25)), examples.part(slice(25, 60))]
    accuracies = [evaluate(model, part).accuracy * len(part) / 60 for part in parts]
    assert sum(accuracies) == pytest.approx(evaluate(model, examples).balanced_accuracy)


def test_heads_that_are_trained_together_are_judged_as_alone() -> None:
    splits = [Splits(unequal(seed), unequal(seed + 10).balanced(), unequal(seed + 20).balanced()) for seed in (0, 1)]
    heads = [[torch.nn.Linear(4, 2) for _ in range(2)] for _ in splits]
    alone = [[torch.nn.Linear(4, 2) for _ in range(2)] for _ in splits]
    for row, other in zip(heads, alone, strict=True):
        for first, second in zip(row, other, strict=True):
            second.load_state_dict(first.state_dict())
    recipe = Recipe(OptimizerConfig(), epochs=4, batch_size=20)
    together = fit_heads(heads, splits, recipe, rates=[[0.01, 0.1]] * 2, seeds=[0, 1])
    for seed, row in enumerate(alone):
        for lr, head, curves in zip((0.01, 0.1), row, together[seed], strict=True):
            own = fit(head, splits[seed], recipe, lr=lr, seed=seed)
            assert own.val_accuracy == pytest.approx(curves.val_accuracy)
            assert own.test_accuracy == pytest.approx(curves.test_accuracy)
            assert curves.val_accuracy[-1] == pytest.approx(evaluate(head, splits[seed].val).balanced_accuracy)


@pytest.mark.parametrize(
    ("train", "test", "asked", "balanced"),
    [((30, 6), (30, 6), None, True), ((30, 7), (30, 10), None, False), ((30, 30), (30, 6), None, True),
     ((30, 6), (30, 30), None, True), ((30, 30), (30, 30), True, True), ((30, 6), (30, 6), False, False)],
)  # fmt: skip
def test_unequal_classes_are_judged_alike_unless_said_otherwise(
    tmp_path: Path, train: tuple[int, int], test: tuple[int, int], asked: bool | None, balanced: bool
) -> None:
    files = photos(train[0], test[0], "a") | photos(train[1], test[1], "b")
    task = data.load(written(tmp_path, "image_folder", files, balanced_accuracy=asked), 8)
    assert task.balanced is balanced
    said = [note for note in task.notes if "unequal classes" in note]
    assert [("mean over classes" in note, "data.balanced_accuracy=" in note) for note in said] == [
        (balanced, True)
    ] * len(said)


@pytest.fixture
def unequal_sweep(sweep: Sweep, tmp_path: Path) -> Callable[..., pd.DataFrame]:
    written(tmp_path / "photos", "image_folder", photos(60, 30, "a") | photos(8, 5, "b") | photos(20, 10, "c"))

    def run(*settings: str) -> pd.DataFrame:
        done = sweep(*SETTINGS, *settings)
        assert done.returncode == 0, done.stderr
        return pd.read_parquet(tmp_path / "outputs/x/table.parquet")

    return run


def outcomes(row: pd.Series, split: str) -> Floats:
    classes = row[f"{split}_classes"]
    return record.outcomes(row[f"{split}_correct"], None if pd.isna(classes) else classes, row[f"n_{split}"])


def test_choices_and_intervals_are_by_balanced_accuracy(
    unequal_sweep: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    rows = unequal_sweep(*TWO)
    assert set(rows["metric"]) == {"balanced_accuracy"}
    for _, row in rows.iterrows():
        assert row["val_accuracy"] == pytest.approx(outcomes(row, "val").mean())
    for _, own in rows.groupby(["freeze_depth", "seed"]):
        assert own.loc[own["selected"], "val_accuracy"].item() == own["val_accuracy"].max()
    chosen = rows[rows["selected"]]
    assert chosen["test_accuracy"].tolist() == pytest.approx(chosen["test_balanced_accuracy"].tolist())
    for _, row in chosen.iterrows():
        assert outcomes(row, "test").mean() == pytest.approx(row["test_accuracy"])
    summary = pd.read_csv(tmp_path / "outputs/x/summary.csv")
    assert summary["mean"].tolist() == pytest.approx(summary["balanced_mean"].tolist())
    assert ((summary["low"] < summary["mean"]) & (summary["mean"] < summary["high"])).all()
    summary.loc[0, "metric"] = "accuracy"  # of records from before
    assert any("photos are balanced in some points and not in others" in each for each in warnings.warnings(summary))
    report = (tmp_path / "outputs/x/report.md").read_text()
    assert "Accuracies of photos are balanced: means over classes" in report
    assert "balanced in some points" not in report
    assert "unequal classes: 8 images of b against 60 of a outside the test" in report
    assert "test_classes" not in pd.read_csv(tmp_path / "outputs/x/table.csv")

    plain = unequal_sweep(*TWO, "data.balanced_accuracy=false")
    assert set(plain["metric"]) == {"accuracy"}
    again = plain[plain["selected"]]
    assert again["test_accuracy"].tolist() != pytest.approx(again["test_balanced_accuracy"].tolist())
    assert plain["test_classes"].isna().all()


def test_a_table_of_before_there_was_a_metric_is_read(
    unequal_sweep: Callable[..., pd.DataFrame], tmp_path: Path
) -> None:
    rows = unequal_sweep(
        "freeze_depth=0,5", "epochs=1", "seeds=1", "optimizer.lr=0.001", "data.balanced_accuracy=false"
    )
    old = tmp_path / "old"
    old.mkdir()
    rows.drop(columns=["metric", "val_classes", "test_classes"]).to_parquet(old / "table.parquet")
    written = render.merge([old], tmp_path / "new").said
    assert written.summary["mean"].tolist() == pytest.approx(rows.loc[rows["selected"], "test_accuracy"].tolist())
    assert set(written.summary["metric"]) == {"accuracy"}


def test_images_that_count_more_make_advice_less_sure() -> None:
    rng = np.random.default_rng(0)
    right = rng.random(100) < 0.8
    unequal = record.balanced(right, np.repeat([0, 1], [90, 10]))
    sds = [believe(3, [0.0], [Run(1, 0, 0, each, 1.0)], [0]).own for each in (right, right.astype(float), unequal)]
    assert sds[0] == sds[1] < sds[2]
