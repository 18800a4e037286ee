import dataclasses
import functools
import html
import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from PIL import Image

from sweep.config import Reference, StudyConfig
from sweep.errors import UserError
from sweep.plan.facts import Facts
from sweep.report import content, figures, outline, record, table
from sweep.report import render as report
from sweep.report.__main__ import main
from sweep.report.record import Record
from sweep.report.table import Entry

CASES = {"digits": "similar_fewer", "letters": "similar_more", "waves": "dissimilar"}
PEAK = {"digits": 4, "letters": 2, "waves": 0}


def facts(task: str, pretrained: bool, depth: int) -> Facts:
    return Facts(
        task=task, case=CASES[task], source="src", model="resnet18", n_classes=10, source_classes=26, image_size=32,
        pretrained=pretrained, freeze_depth=depth, n_blocks=5, unit="stage", batchnorm="frozen", optimizer="adamw",
        epochs=2, batch_size=50, precision="fp32", prefix_precision="fp32", augment="none",
    )  # fmt: skip


def members(point: Facts, job: str, seed: int) -> list[Record]:
    """Return one seed's two members, of which the second was selected."""
    best = 0.9 - 0.05 * abs(point.freeze_depth - PEAK[point.task]) / 2 if point.pretrained else 0.2
    return [
        Record(
            facts=point, job=job, status="ok", seed=seed, lr=lr, selected=lr == 0.1, n_train=200,
            val_accuracy=0.5, test_accuracy=best + 0.002 * seed if lr == 0.1 else None,
            test_balanced_accuracy=best, seconds_per_epoch=0.5, trainable_params=7,
            device="cpu", versions={"torch": "2"},
            curves={"train_loss": [2.0, 1.0], "val_loss": [2.0, float("inf")],
                    "val_accuracy": [0.5, 0.5], "epoch_seconds": [0.5, 0.5]},
        )
        for lr in (0.01, 0.1)
    ]  # fmt: skip


def write_sweep(root: Path, varied: Mapping[str, Sequence[str]] | None = None) -> list[Entry]:
    """Write the records of a whole sweep by hand: 3 tasks x 2 arms x 3 depths x 2 seeds x 2 learning rates."""
    points = []
    for key, value in [(key, value) for key, values in (varied or {"": [""]}).items() for value in values]:
        for task, pretrained, depth in itertools.product(CASES, (True, False), (0, 2, 4)):
            job = f"{task}-{pretrained}-{depth}{value}"
            point = facts(task, pretrained, depth)
            points.append(Entry(job, [0, 1], point, {key: value} if key else {}))
            for seed in (0, 1):
                record.write_members(record.job_folder(root, job), seed, members(point, job, seed))
    table.write_manifest(root, points, StudyConfig())
    return points


def edit(root: Path, points: Iterable[Entry], change: Callable[[Record], object]) -> None:
    """Write every record of these points again, changed."""
    for point in points:
        folder = record.job_folder(root, point.job)
        for seed in point.seeds:
            found = record.read_members(folder, seed) or []
            for member in found:
                change(member)
            record.write_members(folder, seed, found)


def with_facts(points: Iterable[Entry], change: Callable[[Facts], Mapping[str, object]]) -> list[Entry]:
    """Return the points with some facts changed."""
    return [dataclasses.replace(point, facts=Facts(**{**vars(point.facts), **change(point.facts)})) for point in points]


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_everything_is_written_and_says_the_same(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    write_sweep(root)
    made = report.build(root)
    rows = pd.read_csv(root / "table.csv")
    assert len(rows) == 3 * 2 * 3 * 2 * 2
    assert rows["selected"].sum() == 36
    assert rows["name"].unique().tolist() == ["mine"]
    stored = pd.read_parquet(root / "table.parquet")
    packed = ["val_correct", "test_correct", "val_classes", "test_classes"]
    assert list(stored.columns.drop(packed)) == list(rows.columns)
    assert str(stored["feed"].dtype).startswith("string"), "a column keeps its type when it is empty"
    pd.testing.assert_series_equal(rows["test_accuracy"], stored["test_accuracy"])
    cells = pd.read_csv(root / "summary.csv")
    assert len(cells) == 18
    first = cells.iloc[0]
    assert (first["task"], first["pretrained"], first["freeze_depth"], first["n"]) == ("digits", True, 0, 2)
    assert first["mean"] == pytest.approx(0.801)
    assert first["std"] == pytest.approx(np.std([0.8, 0.802], ddof=1))
    assert first["high"] - first["mean"] == pytest.approx(12.7062 * first["std"] / np.sqrt(2), rel=1e-4)
    judged = json.loads((root / "verdict.json").read_text())
    assert judged["decision"] == "descriptive"
    assert judged["kept_depth"] == PEAK
    assert set(judged) >= {"effect_blocks", "effect_points", "interval", "p_value", "n_tasks", "n_seeds", "missing"}
    assert "digits   similar_fewer  4/5" in made.text
    assert "digits: keep 4 of 5 blocks frozen (test 90.1 %, validation" in made.text
    assert judged["reason"] in (root / "report.md").read_text()
    epochs = pd.read_csv(root / "curves.csv")
    assert len(epochs) == 2 * len(rows)
    assert epochs["epoch"].tolist()[:2] == [0, 1]
    assert np.isnan(epochs["val_loss"][1])
    with Image.open(root / "figures" / "accuracy_by_depth.png") as image:
        assert min(image.size) > 300
    assert made.missing == []


def test_made_again_byte_for_byte(tmp_path: Path) -> None:
    write_sweep(tmp_path)
    first, once = report.build(tmp_path).text, files(tmp_path)
    assert report.build(tmp_path).text == first
    assert files(tmp_path) == once


def test_what_is_missing_or_failed_is_listed_and_no_verdict_drawn(tmp_path: Path) -> None:
    points = write_sweep(tmp_path)
    jobs = [record.job_folder(tmp_path, point.job) for point in points]
    (jobs[0] / "seed-1.json").unlink()
    for seed in (0, 1):
        (jobs[4] / f"seed-{seed}.json").unlink()
    record.write_failure(jobs[4], "bad | file", "Traceback")
    made = report.build(tmp_path)
    assert made.missing == [
        "digits-True-0 seed 1: missing",
        "digits-False-2 seed 0, 1: failed: bad | file",
    ]
    assert all(line in made.text for line in made.missing)
    judged = json.loads((tmp_path / "verdict.json").read_text())
    assert (judged["decision"], judged["missing"]) == ("incomplete", made.missing)
    rows = pd.read_csv(tmp_path / "table.csv")
    assert rows["status"].value_counts().to_dict() == {"ok": 66, "failed": 2, "missing": 1}
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path)])
    assert stopped.value.code == 1


def test_report_covers_the_points_of_the_last_multirun_only(tmp_path: Path) -> None:
    points = write_sweep(tmp_path)
    table.write_manifest(tmp_path, [point for point in points if point.facts.task == "digits"], StudyConfig())
    report.build(tmp_path)
    assert pd.read_csv(tmp_path / "table.csv")["task"].unique().tolist() == ["digits"]
    assert json.loads((tmp_path / "verdict.json").read_text())["decision"] == "untested"


def test_other_settings_that_vary_get_a_table_and_a_verdict_each(tmp_path: Path) -> None:
    write_sweep(tmp_path, {"model.name": ["resnet18", "resnet34"]})
    made = report.build(tmp_path)
    assert made.text.count("The rule of thumb: descriptive") == 2
    judged = json.loads((tmp_path / "verdict.json").read_text())
    assert [each["variant"] for each in judged["variants"]] == ["model.name=resnet18", "model.name=resnet34"]
    assert len(list((tmp_path / "figures").iterdir())) == 2
    assert len(pd.read_csv(tmp_path / "summary.csv")) == 36
    lines = (tmp_path / "report.md").read_text().split("## Side by side")[1].splitlines()
    assert [cell.strip() for cell in lines[4].split("|")[1:-1]] == [
        "task", "model.name", "0 frozen", "2 frozen", "4 frozen"
    ]  # fmt: skip
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[6:12]]
    assert rows[0] == ["digits", "resnet18", "80.1", "85.1", "90.1*"]
    assert [row[:2] for row in rows[1:3]] == [["digits", "resnet34"], [rows[2][0], "resnet18"]]
    assert "\n\nSide by side\n\n" in made.text
    write_sweep(tmp_path)
    report.build(tmp_path)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["accuracy_by_depth.png"]


@pytest.mark.parametrize(
    ("column", "values"), [("epochs", (2, 3)), ("batch_size", (50, 20)), ("precision", ("fp32", "bf16"))]
)
def test_settings_that_records_have_as_a_column_are_not_pooled_either(
    tmp_path: Path, column: str, values: tuple[Any, Any]
) -> None:
    made = []
    for number, each in enumerate(write_sweep(tmp_path, {column: [*map(str, values)]})):
        point = dataclasses.replace(each.facts, **{column: values[number // 18]})
        made.append(dataclasses.replace(each, facts=point))
        for seed in each.seeds:
            record.write_members(record.job_folder(tmp_path, each.job), seed, members(point, each.job, seed))
    said = report.build(tmp_path, made, StudyConfig()).said
    assert [each.variant.label for each in said.sections] == [f"{column}={value}" for value in values]
    assert set(said.summary["n"]) == {2}
    alone = [dataclasses.replace(each, varied={}) for each in made]  # as in sweeps of their own
    table.write_manifest(tmp_path, alone, StudyConfig())
    assert len(report.merge([tmp_path], tmp_path / "whole").said.sections) == 2


def test_two_results_of_one_seed_are_not_pooled(tmp_path: Path) -> None:
    points = write_sweep(tmp_path, {"data.limit_train": ["10", "20"]})
    table.write_manifest(tmp_path, [dataclasses.replace(each, varied={}) for each in points], StudyConfig())
    with pytest.raises(UserError, match="digits, random, 0 frozen has two results of one seed"):
        report.merge([tmp_path], tmp_path / "whole")


def test_nothing_trained_at_all_still_reports(tmp_path: Path) -> None:
    table.write_manifest(tmp_path, [Entry("x", [0], facts("digits", True, 0), {})], StudyConfig())
    made = report.build(tmp_path)
    assert made.missing == ["x seed 0: missing"]
    assert "missing" in made.text


def test_reader_is_warned_of_one_seed_poor_source_and_better_random_weights(tmp_path: Path) -> None:
    points = write_sweep(tmp_path)
    assert "One seed" not in report.build(tmp_path).text
    one_seed = [dataclasses.replace(point, seeds=[0]) for point in points]
    named = {point.job: [point] for point in one_seed}
    edit(tmp_path, named["digits-False-4"], lambda member: setattr(member, "test_accuracy", 0.99))
    edit(tmp_path, named["waves-True-0"], lambda member: setattr(member, "source_accuracy", 0.5))
    made = report.build(tmp_path, one_seed, StudyConfig())
    assert "One seed: no interval" in made.text
    assert "Random weights did better than pretrained ones on digits at 4." in made.text
    text = (tmp_path / "report.md").read_text()
    assert "- source: src (validation accuracy on its own task: 50.0 %)" in text
    assert "learned poorly" not in text, "only the embedded source is known to reach more"
    letters = with_facts(one_seed, lambda _: {"source": "glyphs_latin"})
    assert "learned poorly: validation accuracy 0.50" in report.build(tmp_path, letters, StudyConfig()).text


def test_similarity_and_scores_are_tested_shown_and_drawn(tmp_path: Path) -> None:
    points = write_sweep(tmp_path)
    report.build(tmp_path)
    with Image.open(tmp_path / "figures" / "accuracy_by_depth.png") as image:
        plain = image.size

    def measure(member: Record) -> None:
        member.similarity = list(CASES).index(member.facts.task) / 2
        if member.facts.pretrained:
            member.scores = {"leep": -abs(member.facts.freeze_depth - PEAK[member.facts.task])}

    edit(tmp_path, points, measure)
    made = report.build(tmp_path)
    judged = json.loads((tmp_path / "verdict.json").read_text())
    assert judged["mean_regret"] == pytest.approx(
        {"rule": 0, "constant": 20 / 3, "depth 0": 5, "head only": None, "leep": 0}
    )
    assert "constant 6.7, depth 0 5.0, leep 0.0" in made.text
    text = (tmp_path / "report.md").read_text()
    assert "lost: leep" in text
    assert "distance" in text
    assert "| Jonckheere-Terpstra J, order of cases" in text
    with Image.open(tmp_path / "figures" / "accuracy_by_depth.png") as image:
        assert image.size[0] == plain[0]
        assert image.size[1] > 1.5 * plain[1], "a second line of panels"
    edit(tmp_path, [point for point in points if not point.facts.freeze_depth], lambda each: each.scores.clear())
    report.build(tmp_path)
    with Image.open(tmp_path / "figures" / "accuracy_by_depth.png") as image:
        assert image.size == plain, "two scores make no curve"


def test_a_map_shows_where_tasks_lie_and_what_to_keep_there(tmp_path: Path) -> None:
    points = write_sweep(tmp_path)
    report.build(tmp_path)
    assert "How near the tasks are" not in (tmp_path / "report.html").read_text(), "nothing was measured"

    def measure(member: Record) -> None:
        place = list(CASES).index(member.facts.task) / 2
        vars(member).update(similarity=place, similarity_low=place - 0.1, similarity_high=place + 0.1)

    edit(tmp_path, points, measure)
    report.build(tmp_path)
    page = (tmp_path / "report.html").read_text().split('<section id="map"')[1].split("</section>")[0]
    for task, place in zip(CASES, ("0.00", "0.50", "1.00"), strict=True):
        kept = json.loads((tmp_path / "verdict.json").read_text())["kept_depth"][task]
        assert re.search(rf"{task}: distance {place}, \d+ classes, \d+ of the source, keep {kept} of 5", page)


def test_what_is_near_chance_is_called_so_and_nothing_is_kept(tmp_path: Path) -> None:
    points = with_facts(write_sweep(tmp_path), lambda each: {"case": "unknown"})
    lost = [point for point in points if point.facts.task == "digits"]
    edit(tmp_path, lost, lambda member: setattr(member, "test_accuracy", 0.1 if member.selected else None))
    made = report.build(tmp_path, points, StudyConfig())
    assert (
        "digits: near chance at every depth (4 of 5 frozen: test 10.0 %, validation 50.0 %); none can be" in made.text
    )
    rows = [line for line in made.text.splitlines() if line.startswith("digits  ")]
    assert len(rows) == 3
    assert not any("keep" in line or "good" in line for line in rows)
    assert json.loads((tmp_path / "verdict.json").read_text())["without_signal"] == ["digits"]
    assert "letters: keep" in made.text


def test_intervals_and_losses_stay_where_accuracies_can_be(tmp_path: Path) -> None:
    points = write_sweep(tmp_path)
    edit(tmp_path, points, lambda member: setattr(member, "test_accuracy", (0.5, 0.9)[member.seed]))
    report.build(tmp_path)
    cells = pd.read_csv(tmp_path / "summary.csv")
    assert (cells["low"] >= 0).all()
    assert (cells["high"] <= 1).all()
    for choice in json.loads((tmp_path / "verdict.json").read_text())["choices"].values():
        assert max(choice["expected_loss"]) < 100
        assert np.abs(choice["gain"]).max() <= 100
        assert all(0 <= each <= 1 for each in choice["likely"])


def test_the_certificates_are_counted(tmp_path: Path) -> None:
    points = write_sweep(tmp_path)
    report.build(tmp_path)
    assert "Frozen means frozen" not in (tmp_path / "report.md").read_text(), "records that have none"

    def certify(member: Record) -> None:
        member.frozen_params = 100 * member.facts.freeze_depth
        member.certificate = {"before": "a", "after": "a", "covers": "all" if member.seed else "parameters"}

    edit(tmp_path, points, certify)
    report.build(tmp_path)
    text = " ".join((tmp_path / "report.md").read_text().split())
    assert "In 48 of 48 networks with frozen blocks, every frozen tensor is what it was before training" in text
    assert "In 24 of them these are the parameters alone" in text
    edit(tmp_path, points[1:2], lambda member: member.certificate.update(after="b"))
    report.build(tmp_path)
    assert "In 44 of 48 networks" in (tmp_path / "report.md").read_text()
    assert pd.read_csv(tmp_path / "table.csv")["certificate"].value_counts()["changed"] == 4


def test_times_of_several_devices_are_doubted(tmp_path: Path) -> None:
    points = write_sweep(tmp_path)
    edit(tmp_path, points, lambda member: setattr(member, "device", "cpu"))
    assert "different devices" not in report.build(tmp_path).text
    edit(tmp_path, points[:1], lambda member: setattr(member, "device", ("cpu", "H100")[member.seed]))
    assert "Seeds were trained on different devices" in report.build(tmp_path).text


def test_the_counts_of_seeds_are_in_the_order_of_the_arms(tmp_path: Path) -> None:
    points = write_sweep(tmp_path)
    random = next(point for point in points if not point.facts.pretrained)
    (record.job_folder(tmp_path, random.job) / "seed-0.json").unlink()
    row = next(line for line in report.build(tmp_path).text.splitlines() if line.startswith("digits  "))
    assert " 2/1 " in row


def test_cases_are_measured_where_not_declared_and_doubted_where_they_differ(tmp_path: Path) -> None:
    near = {"digits": True, "letters": None, "waves": True}
    points = with_facts(
        write_sweep(tmp_path), lambda each: {"case": "unknown" if each.task != "waves" else "dissimilar"}
    )
    pretrained = [point for point in points if point.facts.pretrained]
    edit(tmp_path, pretrained, lambda member: setattr(member, "similar", near[member.facts.task]))
    placed = {"similarity": 0.25, "similarity_low": 0.1, "similarity_high": 0.45}
    edit(tmp_path, pretrained, lambda member: vars(member).update(placed))
    made = report.build(tmp_path, points, StudyConfig())
    rows = pd.read_csv(tmp_path / "table.csv")
    found = {
        task: (case, origin) for task, case, origin in zip(rows["task"], rows["case"], rows["case_from"], strict=True)
    }
    assert found["digits"] == ("similar_fewer", "measured"), "10 classes, and the source has 26"
    assert found["letters"] == ("unknown", "measured"), "neither declared nor decided"
    assert found["waves"] == ("dissimilar", "declared")
    line = "waves is declared dissimilar, and measured similar_fewer (at 0.25 from src, 0.10 to 0.45)."
    assert line in made.text
    assert line in (tmp_path / "report.md").read_text()
    edit(tmp_path, pretrained, lambda member: setattr(member, "similar", None))
    edit(tmp_path, pretrained, lambda member: setattr(member, "similarity_high", 0.6))
    text = report.build(tmp_path, points, StudyConfig()).text
    assert "waves is declared dissimilar; its images do not decide that (at 0.25 from src, 0.10 to 0.60;" in text
    assert "letters is declared" not in text, "nobody declared it"


def test_terminal_shows_the_verdict_in_few_lines(tmp_path: Path) -> None:
    write_sweep(tmp_path)
    text = report.build(tmp_path).text
    answer, comparison, how, verdict = text.split("\n\n")
    assert [line.split()[0] for line in answer.splitlines()] == ["digits:", "letters:", "waves:", "The", "Two"]
    assert comparison.split()[0] == "task"
    assert how.startswith("Test accuracy in %")
    lines = verdict.splitlines()
    assert [line.split()[0] for line in lines] == ["Effect:", "Accuracy", "What"]
    assert "+4 blocks" in lines[0]
    assert "2 tasks or more of each of the 3 cases can be tested" in lines[2]
    assert "80.0, 80.2" in text, "two seeds are shown as what they are"


def header(text: str) -> list[str]:
    """Return the heads of the table that a terminal shows."""
    return next(line for line in text.splitlines() if line.startswith("task ")).split()


def test_one_task_has_no_word_on_the_rule_and_its_validation_accuracy(tmp_path: Path) -> None:
    points = [point for point in write_sweep(tmp_path) if point.facts.task == "digits"]
    assert "validation" not in header(report.build(tmp_path, points, StudyConfig()).text), "no room beside random"
    arm = [point for point in points if point.facts.pretrained]
    text = report.build(tmp_path, arm, StudyConfig()).text
    assert "rule" not in text
    assert header(text) == ["task", "case", "frozen", "pretrained", "validation", "seeds", "s/epoch"]


def test_one_depth_is_none_to_keep_and_random_weights_alone_say_nothing_of_the_rule(tmp_path: Path) -> None:
    points = [each for each in write_sweep(tmp_path) if each.facts.task == "digits"]
    one = [each for each in points if each.facts.freeze_depth == 4 and each.facts.pretrained]
    text = report.build(tmp_path, one, StudyConfig()).text
    assert "digits: one depth, 4, was tried (test 90.1 %" in text
    assert "keep 4" not in text
    text = report.build(tmp_path, [each for each in points if not each.facts.pretrained], StudyConfig()).text
    assert "rule of thumb" not in text


def test_curves_are_there_while_a_sweep_runs(tmp_path: Path) -> None:
    points = write_sweep(tmp_path)
    shutil.rmtree(record.job_folder(tmp_path, points[0].job))
    report.grow(tmp_path, 60.0)
    assert pd.read_csv(tmp_path / "curves.csv")["job"].nunique() == len(points) - 1
    assert not (tmp_path / "table.csv").exists()


def test_what_still_rose_and_what_is_at_chance_is_said(tmp_path: Path) -> None:
    points = write_sweep(tmp_path)
    assert "still rose" not in report.build(tmp_path, points, StudyConfig()).text
    deepest = points[2:3]
    steep = {"train_loss": [2.0, 1.0], "val_loss": [2.0, 1.0], "val_accuracy": [0.5, 0.9]}
    edit(tmp_path, deepest, lambda member: setattr(member, "curves", steep))
    random = [point for point in points if not point.facts.pretrained][:1]
    edit(tmp_path, random, lambda member: setattr(member, "test_accuracy", 0.09 if member.selected else None))
    text = report.build(tmp_path, points, StudyConfig()).text
    assert "still rose at the end in 1 of 18 cells (digits pretrained 4): raise epochs" in text
    assert "told from chance in 1 of 9 cells (digits random 0)" in text
    edit(
        tmp_path,
        random,
        lambda member: setattr(member, "test_accuracy", (0.25, 0.68)[member.seed] if member.selected else None),
    )
    assert "told from chance" not in report.build(tmp_path, points, StudyConfig()).text


@pytest.mark.parametrize(
    ("epochs", "said"), [((8, 8), "32 steps"), ((8, 40), "32 to 160 steps"), ((40, 60), "160 steps"), ((50, 60), "")]
)
def test_trainings_of_fewer_than_200_steps_are_a_first_look(tmp_path: Path, epochs: tuple[int, int], said: str) -> None:
    points = write_sweep(tmp_path)  # of 4 steps an epoch

    def train(member: Record, count: int) -> None:
        member.epochs_trained = count

    for some, count in ((points[:9], epochs[0]), (points[9:], epochs[1])):
        edit(tmp_path, some, functools.partial(train, count=count))
    text = report.build(tmp_path, points, StudyConfig()).text
    assert f"A first look: {said} of training" in text if said else "first look" not in text


def test_seeds_that_chose_rates_far_apart_and_differ_are_named(tmp_path: Path) -> None:
    points = write_sweep(tmp_path)
    assert "Seeds chose" not in report.build(tmp_path, points, StudyConfig()).text

    def change(member: Record, rates: bool, accuracies: bool) -> None:
        if member.selected and member.seed:
            member.lr = 0.001 if rates else member.lr
            member.test_accuracy = 0.5 if accuracies else member.test_accuracy

    for place, (rates, accuracies) in enumerate([(True, True), (True, False), (False, True)]):
        edit(tmp_path, points[place : place + 1], functools.partial(change, rates=rates, accuracies=accuracies))
    text = report.build(tmp_path, points, StudyConfig()).text
    assert "a decade or more apart, and differ, in 1 of 18 cells (digits pretrained 0): validation" in text


def test_images_that_were_right_enter_the_intervals(tmp_path: Path) -> None:
    """With the bits of 200 images, intervals widen."""
    points = write_sweep(tmp_path)
    report.build(tmp_path, points, StudyConfig())
    before = json.loads((tmp_path / "verdict.json").read_text())
    cells = pd.read_csv(tmp_path / "summary.csv")
    rng = np.random.default_rng(0)

    def keep(member: record.Record) -> None:
        member.n_test = 200
        if member.selected and member.test_accuracy:
            correct = rng.permutation(np.arange(200) < round(200 * member.test_accuracy))
            member.test_accuracy, member.test_correct = float(correct.mean()), record.packed(correct)

    edit(tmp_path, points, keep)
    report.build(tmp_path, points, StudyConfig())
    after = json.loads((tmp_path / "verdict.json").read_text())
    wider = pd.read_csv(tmp_path / "summary.csv")
    assert {each["over"] for each in before["choices"].values()} == {"seeds"}
    assert {each["over"] for each in after["choices"].values()} == {"seeds and test images"}
    assert ((wider["high"] - wider["low"]) > (cells["high"] - cells["low"]) + 0.01).all()
    widths = [[high - low for low, high in judged["choices"]["digits"]["gain"][1:]] for judged in (before, after)]
    assert all(new > old + 1 for old, new in zip(*widths, strict=True))
    assert "test_correct" not in pd.read_csv(tmp_path / "table.csv").columns


def test_incomplete_grid_is_judged_where_the_study_allows_it(tmp_path: Path) -> None:
    points = write_sweep(tmp_path)
    (record.job_folder(tmp_path, points[0].job) / "seed-1.json").unlink()
    made = report.build(tmp_path, points, StudyConfig(allow_missing=True))
    assert "descriptive; from an incomplete grid (1 results missing)" in made.text
    assert made.missing == ["digits-True-0 seed 1: missing"], "the exit code still says so"


def test_depths_tuned_unequally_get_no_verdict(tmp_path: Path) -> None:
    points = write_sweep(tmp_path)
    folder = record.job_folder(tmp_path, "waves-True-2")
    for seed in (0, 1):
        record.write_members(folder, seed, (record.read_members(folder, seed) or [])[1:])
    assert (
        "untested; waves: learning rates 0.01, 0.1 at depth 0, but 0.1 at depth 2"
        in report.build(tmp_path, points, StudyConfig()).text
    )


def test_a_grid_that_grew_by_the_rule_is_equal_and_an_edge_is_told(tmp_path: Path) -> None:
    points = write_sweep(tmp_path)
    edit(tmp_path, points, lambda member: setattr(member, "lr_given", "0.01 0.1"))
    grown = points[2:3]  # the deepest of the first task
    edit(tmp_path, grown, lambda member: setattr(member, "lr", 0.03 if member.lr == 0.01 else 0.3))

    def choose(member: Record) -> None:
        member.lr_edge = "upper" if member.selected else None

    edit(tmp_path, grown, choose)
    made = report.build(tmp_path, points, StudyConfig())
    assert "descriptive; " in made.text
    summary = pd.read_csv(tmp_path / "summary.csv")
    cell = summary[(summary["task"] == "digits") & summary["pretrained"] & (summary["freeze_depth"] == 4)].iloc[0]
    assert (cell["lr_low"], cell["lr_high"], cell["at_edge"]) == (0.03, 0.3, 2)
    assert summary["at_edge"].sum() == 2
    assert "at an end of those tried in 1 of 18 cells (digits pretrained 4)" in made.text


def test_setting_names_what_is_not_as_usual(tmp_path: Path) -> None:
    points = write_sweep(tmp_path)
    report.build(tmp_path)
    plain = (tmp_path / "report.md").read_text()
    assert "- precision" not in plain
    assert "- augment" not in plain
    report.build(tmp_path, with_facts(points, lambda _: {"precision": "bf16", "augment": "flip"}), StudyConfig())
    text = (tmp_path / "report.md").read_text()
    assert "- precision: bf16\n" in text
    assert "- augment: flip\n" in text


def test_every_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = write_sweep(tmp_path)
    for seed in (0, 1):
        (record.job_folder(tmp_path, points[0].job) / f"seed-{seed}.json").unlink()
    record.write_failure(record.job_folder(tmp_path, points[0].job), "why", "")
    read: list[Path] = []
    original = Path.read_text

    def noted(path: Path, encoding: str | None = None, errors: str | None = None) -> str:
        if path.is_relative_to(tmp_path):
            read.append(path)
        return original(path, encoding, errors)

    monkeypatch.setattr(Path, "read_text", noted)
    report.build(tmp_path)
    names = [path.name for path in read]
    assert len(read) == len(set(read))
    assert (names.count("sweep.json"), names.count("failure.json")) == (1, 1)
    assert {path for path in read if path.exists()} == {
        path for path in tmp_path.rglob("*.json") if path.name != "verdict.json"
    }


def test_names_of_users_cannot_become_html_links_or_cells(tmp_path: Path) -> None:
    evil = "a|b <script>x</script> [y](javascript:z) [q]: r\n# s `t` &lt;"
    points = write_sweep(tmp_path)
    renamed = with_facts(points, lambda each: {"task": evil if each.task == "digits" else each.task, "source": evil})
    record.write_failure(record.job_folder(tmp_path, points[0].job), f"failed: {evil}", "")
    for seed in (0, 1):
        (record.job_folder(tmp_path, points[0].job) / f"seed-{seed}.json").unlink()
    study = StudyConfig(note=evil.replace("\n", " "), reference=[Reference(evil, [0.1], [1.0])], allow_missing=True)
    varied = [dataclasses.replace(point, varied={"key": f"{evil}{point.facts.pretrained}"}) for point in renamed]
    for made in (renamed, varied):
        report.build(tmp_path, made, study)
        text = (tmp_path / "report.md").read_text()
        assert "javascript" in text
        assert not re.search(r"<script|\]\(javascript|\]: r|^# s|`t`|&lt;", text, re.MULTILINE)
        tables = [
            list(lines) for is_row, lines in itertools.groupby(text.splitlines(), lambda x: x[:1] == "|") if is_row
        ]
        assert len(tables) > 2
        for lines in tables:
            assert len({line.count("|") for line in lines}) == 1


def test_plain_text_shows_what_was_given() -> None:
    for given in ("a|b", "<b>", "[x](y)", "[x][y]", "&amp; &#60; & so", "$x^$", "`c`", "a\\|b"):
        assert html.unescape(report.plain(given)) == given
    assert report.plain("one\ntwo\u2028three") == "one two three"
    for usual in (
        "glyphs_digits",
        "82.6 ± 4.9",
        "90.1*",
        "+2 blocks [+0, +2], more",
        '{"torch": "2"}',
        "data [200], it's",
    ):
        assert report.plain(usual) == usual


@pytest.mark.parametrize("name", ["$x^$", "$a_$b$"])
def test_signs_of_mathematics_in_names_are_drawn_as_they_are(tmp_path: Path, name: str) -> None:
    points = write_sweep(tmp_path)
    renamed = with_facts(points, lambda each: {"task": name if each.task == "digits" else each.task, "case": name})
    varied = [dataclasses.replace(point, varied={"key": f"{name}{point.facts.pretrained}"}) for point in renamed]
    edit(tmp_path, points, lambda member: member.scores.update(knn=member.facts.freeze_depth))
    report.build(tmp_path, renamed, StudyConfig())
    report.build(tmp_path, varied, StudyConfig())
    reads = table.read(tmp_path, varied)
    said = content.gather("x", table.collect("x", reads), table.curves(reads), StudyConfig())
    for section in said.sections:
        texts = [each for each in figures.draw(section.variant).findobj(Text) if isinstance(each, Text)]
        named = [each for each in texts if name in each.get_text()]
        assert len(named) >= 2, "the variant and the task"
        assert not any(each.get_parse_math() for each in named)


def test_what_version_0_1_left_is_read(tmp_path: Path) -> None:
    points = write_sweep(tmp_path)
    made = report.build(tmp_path)
    kept = {name: (tmp_path / name).read_bytes() for name in ("table.csv", "summary.csv", "verdict.json", "report.md")}
    manifest = json.loads((tmp_path / "sweep.json").read_text())
    for point in manifest["points"]:
        common = point.pop("facts")
        point["common"] = {"block" if key == "matched_group" else key: value for key, value in common.items()}
    (tmp_path / "sweep.json").write_text(json.dumps(manifest))
    for point in points:
        for seed in point.seeds:
            path = record.job_folder(tmp_path, point.job) / f"seed-{seed}.json"
            file = json.loads(path.read_text())
            del file["checksum"]  # it had none
            file["members"] = [
                {"block" if key == "matched_group" else key: value for key, value in row.items()}
                for row in file["members"]
            ]
            path.write_text(json.dumps(file))
    assert '"block": null' in path.read_text()
    assert report.build(tmp_path).text == made.text
    assert {name: (tmp_path / name).read_bytes() for name in kept} == kept
    assert "matched_group" in kept["table.csv"].decode().splitlines()[0].split(",")


def test_report_command_works_without_torch(tmp_path: Path) -> None:
    write_sweep(tmp_path)
    script = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "hydra", "omegaconf"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
from sweep.report.__main__ import main
main(sys.argv[1:])
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "The rule of thumb" in done.stdout


@pytest.mark.parametrize("manifest", [None, "{}", '{"points": []}', "{"])
def test_folder_without_a_sweep_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], manifest: str | None
) -> None:
    if manifest is not None:
        (tmp_path / "sweep.json").write_text(manifest)
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path)])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: no sweep.json there")


def test_manifest_of_another_version_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(tmp_path)
    path = tmp_path / "sweep.json"
    path.write_text(path.read_text().replace('"unit"', '"units"'))
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path)])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}: not a manifest of this version")
    assert "'units'" in line


def test_reports_of_several_folders_are_one_whatever_their_order(tmp_path: Path) -> None:
    """A study in pieces: from records or from an earlier table, later results replacing earlier ones."""
    whole, other = tmp_path / "whole", tmp_path / "other"
    points = write_sweep(whole)
    pieces = [[point for point in points if (point.facts.task == "digits") is first] for first in (True, False)]
    for part, folder in zip(pieces, (tmp_path / "a", tmp_path / "b"), strict=True):
        write_sweep(folder)
        report.build(folder, part, StudyConfig())
        table.write_manifest(folder, part, StudyConfig())
    main([str(whole), "--to", str(other)])
    expected = {path.name: path.read_bytes() for path in other.glob("*.csv")}
    assert set(expected) == {"table.csv", "summary.csv"}
    shutil.rmtree(tmp_path / "b" / "jobs")
    (tmp_path / "b" / "sweep.json").unlink()  # its table alone is left
    for order in (("a", "b"), ("b", "a"), ("b", "a", "b")):
        shutil.rmtree(other)
        main([*(str(tmp_path / name) for name in order), "--to", str(other)])
        found = {path.name: path.read_bytes() for path in other.glob("*.csv")}
        assert found == expected
    with (other / "verdict.json").open() as file:
        assert json.load(file)["decision"] == "descriptive"
    main([str(other), "--to", str(other)])  # a report grows in place
    assert {path.name: path.read_bytes() for path in other.glob("*.csv")} == expected


def test_later_results_replace_earlier_ones(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    points = write_sweep(old)
    write_sweep(new)
    edit(new, points, lambda member: setattr(member, "test_loss", 7.0))
    rows = table.merged([table.collect("x", table.read(root, points)) for root in (old, new)])
    assert len(rows) == 72
    assert (rows["test_loss"] == 7).all()
    (record.job_folder(new, points[0].job) / "seed-1.json").unlink()
    rows = table.merged([table.collect("x", table.read(root, points)) for root in (old, new)])
    assert len(rows) == 72
    assert (rows["status"] == "ok").all(), "what is missing replaces nothing"


def test_folders_without_results_or_target_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(tmp_path / "a")
    for arguments, message in (
        (["a", "a", "a"], "several make one report: say where with --to FOLDER"),
        (["a", "a"], "the same folder twice"),
        (["a", "c"], "neither sweep.json nor table.parquet there"),
        (["a", ".", "--to", "b"], "neither sweep.json nor table.parquet there"),
    ):
        with pytest.raises(SystemExit) as raised:
            main([each if each.startswith("--") else str(tmp_path / each) for each in arguments])
        assert raised.value.code == 2
        assert message in capsys.readouterr().err
    (tmp_path / "table.parquet").write_bytes(b"no")
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--to", str(tmp_path / "b")])
    assert "not a table that can be read" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_sweep_over_source_networks_says_where_differences_come_from(tmp_path: Path) -> None:
    points = write_sweep(tmp_path, {"source.seed": ["0", "1", "2"]})
    made = report.build(tmp_path, points, StudyConfig())
    title = "Where differences between depths come from"
    assert title in made.text
    line = next(line for line in made.text.splitlines() if line.startswith("2 over 0 frozen"))
    assert line.split()[4:] == ["0.00", "0.00", "5.77"], "the same curves under every source: only tasks differ"
    assert title in (tmp_path / "report.md").read_text()
    others = write_sweep(tmp_path / "other", {"source.epochs": ["5", "10"]})
    assert title not in report.build(tmp_path / "other", others, StudyConfig()).text


def test_terminal_notebook_and_pages_say_the_same_parts_in_one_order(tmp_path: Path) -> None:
    """What is said in short comes from the page's parts, in their order; the page says all of it but how to read."""
    points = write_sweep(tmp_path, {"source.seed": ["0", "1", "2"]})
    edit(tmp_path, points, lambda member: member.curves.update(test_accuracy=[0.5, 0.6], epoch_seconds=[1.0, 1.0]))
    (record.job_folder(tmp_path, points[0].job) / "seed-1.json").unlink()
    made = report.build(tmp_path, points, dataclasses.replace(StudyConfig(), note="what it is for"))
    parts = [part for part in outline.outline(made.said) if part.brief]
    assert [part.key for part in parts] == [
        "answer", "accuracy", "comparison", "side", "epochs", "verdict", "missing"
    ]  # fmt: skip
    sentences = [line for part in parts for block in part.brief for line in block.lines]
    page = html.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    for shown in (made.text, html.unescape(made._repr_html_())):
        place = 0
        for sentence in sentences:
            place = shown.index(sentence, place) + len(sentence)
    own = {line for part in parts if part.key == "comparison" for line in part.brief[-1].lines}
    assert len(sentences) > 20
    assert [line for line in sentences if line not in own and line not in page] == []
