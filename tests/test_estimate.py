"""Time left and dry runs: points are compared by their work, not counted."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Done

from sweep.config import Augment, Config, Unit, Which
from sweep.models import build
from sweep.plan.point import plan
from sweep.report import record
from sweep.runs import estimate, work
from sweep.runs.estimate import FARTHEST, Outlook, Pace
from sweep.runs.job import run_point
from sweep.runs.session import Counts, Session
from sweep.runs.tick import Tick
from sweep.runs.work import Work

Tiny = Callable[..., Config]
Sweep = Callable[..., Done]


def test_the_work_of_resnet18_is_what_is_published() -> None:
    costs = build.costs("resnet18", Unit.stage, 224)
    assert sum(each.flops for each in costs) == pytest.approx(2 * 1.814e9, rel=1e-3)  # torchvision says 1.814 GMAC
    assert costs[-1] == (2 * 512 * 1000, 1000)
    assert [each.outputs for each in costs[:2]] == [64 * 56 * 56] * 2


def test_a_step_goes_forward_and_back_through_what_is_trained(tiny: Tiny) -> None:
    counts = Counts(train=100, val=20, test=30, fit=120)
    *blocks, _ = (each.flops for each in build.costs("resnet18", Unit.stage, 32))
    head = 2 * 512 * 10

    def of(**settings: object) -> Work:
        point = plan(tiny(**settings))
        return work.of(dataclasses.replace(point, facts=dataclasses.replace(point.facts, n_classes=10)), counts, 3)

    whole = sum(blocks) + head
    assert of().one_image == pytest.approx(3 * whole - blocks[0])  # no gradient of the images
    assert of(freeze_depth=4).one_image == pytest.approx(3 * (blocks[4] + head) - blocks[4])
    assert of(freeze_depth=5).one_image == pytest.approx(2 * head)
    behind = of(freeze_depth=4, freeze_which=Which.suffix)
    assert behind.feed == "none"
    assert behind.one_image == pytest.approx(2 * whole + head)  # frozen, but gradients pass through
    moving = of(freeze_depth=5, data_augment=Augment.flip_crop)
    assert (moving.feed, moving.kept) == ("augmented", 0)
    assert moving.one_image == pytest.approx(sum(blocks) + 2 * head)
    kept = of(freeze_depth=5)
    assert kept.kept == 4 * 512 * (120 + 30)  # one pass for all seeds
    assert kept.forward == pytest.approx(sum(blocks) * 150 + (3 * 20 + 3 * 30) * head)
    assert of(freeze_depth=5, pretrained=False).kept == 4 * 512 * 3 * 150  # every seed has weights of its own
    assert of(freeze_depth=5, cache_max_gb=1e-6).feed == "recomputed"


def test_outputs_that_one_point_keeps_are_not_computed_again(tiny: Tiny, session: Session) -> None:
    points = [plan(tiny(freeze_depth=depth)) for depth in (2, 4, 3)]
    works = work.of_all(points, {point.job: 1 for point in points}, session)
    alone = {point.job: work.of_all([point], {point.job: 1}, session)[point.job] for point in points}
    first, second, third = (works[point.job].forward / alone[point.job].forward for point in points)
    assert first == 1
    assert third < second < 1


def owed(kind: str, flops: float) -> Work:
    return Work(kind, "none", 1, 10, 1, flops, flops, 0.0, 0.0)


def test_points_are_not_counted_as_equal(tiny: Tiny, tmp_path: Path) -> None:
    now = [0.0]
    points = {depth: plan(tiny(freeze_depth=depth)) for depth in (0, 4, 5)}
    works = {points[0].job: owed("whole", 100.0), points[4].job: owed("half", 50.0), points[5].job: owed("head", 5.0)}
    pace = Pace()
    outlook = Outlook(works, pace, tmp_path, clock=lambda: now[0])
    assert outlook.left() is None  # nothing is known yet
    pace.learn("half", 10, 500, 50.0)
    now[0] = 50.2
    outlook.end(points[4], 50.2)
    left = outlook.left()
    assert left is not None
    assert left == pytest.approx(100 + 5, rel=0.01)  # not twice 50
    now[0] = 100.0
    outlook.hear(Tick(points[0].job, "seed 0", 10, 1, seconds=10.0), 0.5)
    assert outlook.left() == pytest.approx(50 + 5, rel=0.02), "half of the large one is done"


def test_two_at_once_take_half_the_time(tiny: Tiny, tmp_path: Path) -> None:
    now = [0.0]
    pace = Pace()
    pace.learn("whole", 10, 1000, 100.0)
    outlook = Outlook({job: owed("whole", 100.0) for job in "abcdefgh"}, pace, tmp_path, clock=lambda: now[0])
    for step in range(1, 11):
        for job in "ab":
            now[0] = 10.0 * step + 1000  # a thousand seconds for processes to start
            outlook.hear(Tick(job, "seed 0", 10, 1, epoch=step, seconds=0.0), step / 10)
            outlook.left()
    assert outlook.left() == pytest.approx(6 * 100 / 2, rel=0.15)


def test_nothing_is_said_of_what_is_far_from_all_that_is_known() -> None:
    pace = Pace()
    pace.learn("head", 10, 10.0, 1.0)
    assert pace.seconds(owed("whole", 1.01 * FARTHEST)) is None
    assert pace.seconds(owed("whole", 0.99 * FARTHEST)) is not None


def test_of_two_kinds_follows_what_a_step_takes_beside_its_flops() -> None:
    pace = Pace()
    pace.learn("small", 100, 1e3, 100 * 0.01 + 1e3 * 1e-3)
    pace.learn("large", 100, 1e5, 100 * 0.01 + 1e5 * 1e-3)
    epoch = Work("between", "none", 1, 1, 10, 2e3, 1.0, 0.0, 0.0)
    assert pace.seconds(epoch) == pytest.approx(10 * 0.01 + 2e3 * 1e-3 + 0.2)


def test_what_thaws_is_timed_as_a_whole_network(tiny: Tiny, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[Work] = []

    def train(network: object, work: Work, point: object, examples: object) -> float:
        timed.append(work)
        return 1.0

    monkeypatch.setattr(estimate, "_train", train)
    points = [plan(tiny(freeze_depth=5, epochs=4, freeze_epochs=2)), plan(tiny(freeze_depth=5, epochs=4))]
    works = work.of_all(points, {point.job: 1 for point in points}, session)
    pace = estimate.measured(points, works, session)
    whole = work.of(plan(tiny(epochs=4)), Counts(1, 0, 0, 1), 1)
    assert [each.feed for each in timed] == ["none", "cached"]
    assert timed[0].one_image == pytest.approx(whole.one_image, rel=1e-3)  # but for the size of its head
    after, images = works[points[0].job], estimate.LENGTHS[0] * points[0].config.batch_size
    epoch, pace.forward = after.flops / (images * timed[0].one_image), 0.0  # at one second for those
    assert pace.seconds(after) == pytest.approx(after.trainings * (estimate.OVERHEAD + 4 * epoch), rel=0.05)


@pytest.fixture
def few_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "LENGTHS", (1,))


@pytest.mark.slow
def test_finished_points_teach_the_pace(tiny: Tiny, session: Session, tmp_path: Path) -> None:
    point = plan(tiny(freeze_depth=5, pretrained=False, epochs=4, optimizer_lr=[0.001, 0.01]))
    seconds = run_point(point, tmp_path, session).seconds
    members = record.read_members(record.job_folder(tmp_path, point.job), 0) or []
    pace = Pace()
    pace.learn_from(point, members, seconds)
    counts = session.counts(point.config.data, point.facts.image_size)
    again = work.of(point, counts, 1, there=5)
    expected = pace.seconds(again)
    assert expected is not None
    assert sum(each.train_seconds or 0 for each in members) <= expected <= seconds


@pytest.mark.slow
def test_a_dry_run_trains_nothing(sweep: Sweep, tmp_path: Path, standin_source: None, few_batches: None) -> None:
    grid = ["-m", "name=x", "data=textures", "data.per_class=4", "epochs=1", "seeds=2", "batch_size=20"]
    grid += ["freeze_depth=5", "optimizer.weight_decay=0,0.1", "pretrained=false", "optimizer.lr=0.001"]
    done = sweep(*grid, "dry_run=true")
    assert done.returncode == 0
    assert done.stdout.startswith("2 points, 2 to train; dry_run=true: nothing is trained\n")
    assert "5/5 frozen, optimizer.weight_decay=0.1  0 of 2 seeds  2 x 1 epochs  once" in done.stdout
    assert "outputs of frozen blocks, of 1 network, at most" in done.stdout
    assert "All of it: about " in done.stdout
    assert not (tmp_path / "outputs").exists()
    assert sweep(*grid, "confirm_above=100").returncode == 0
    said = sweep(*grid, "seeds=3", "dry_run=true").stdout
    assert "5/5 frozen, optimizer.weight_decay=0.1  2 of 3 seeds  1 x 1 epochs  once" in said
    assert "2 points, 0 to train" in sweep(*grid, "dry_run=true").stdout


def test_points_that_are_the_same_job_count_once(sweep: Sweep, standin_source: None, few_batches: None) -> None:
    grid = ["-m", "data=textures", "data.per_class=4", "epochs=2", "seeds=1", "pretrained=true", "optimizer.lr=0.001"]
    said = sweep(*grid, "freeze_depth=0,5", "freeze.epochs=null,1", "dry_run=true").stdout
    assert said.startswith("4 points (1 the same as others), 3 to train;")
    assert said.count("0/5 frozen") == 1


@pytest.mark.slow
def test_a_sweep_that_would_take_too_long_stops_before_it_trains(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_batches: None
) -> None:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))  # no source is there
    for grid in (["-m", "freeze_depth=5", "source.batch_size=20"], ["freeze_depth=5", "pretrained=false"]):
        done = sweep(*grid, "name=x", "data=textures", "data.per_class=4", "seeds=1", "confirm_above=0.0001")
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("error: confirm_above=0.0001: ")
        assert not (tmp_path / "outputs").exists()
        assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_neither_setting_is_part_of_what_a_point_is(tiny: Tiny) -> None:
    assert plan(tiny(dry_run=True, confirm_above=1.0)).job == plan(tiny()).job
