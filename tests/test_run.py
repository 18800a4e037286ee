"""One job, whole: cached equals uncached, members equal separate runs, seeds, selection, failures, resume."""

import functools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TIMES

from sweep.config import Above, Augment, BatchNorm, Config, OptimizerConfig, Precision, Schedule, Which, identity
from sweep.data import task as data
from sweep.errors import UserError
from sweep.models.frozen import Network, fingerprint
from sweep.plan.point import Point, plan
from sweep.report import mistakes, record
from sweep.report.record import Record
from sweep.runs import members as members_of_a_job
from sweep.runs.feed import Feeder
from sweep.runs.job import run_point
from sweep.runs.session import Session
from sweep.seeds import torch_seed
from sweep.train.examples import Examples, Splits, batches
from sweep.train.loop import Curves, Recipe, evaluate, fit

pytestmark = pytest.mark.slow

Tiny = Callable[..., Config]
Members = Callable[[Config, Path], list[Record]]


@pytest.fixture
def members(session: Session) -> Members:
    """Return a function that trains one point under a folder and returns its records."""
    return functools.partial(trained, session)


def trained(session: Session, config: Config, root: Path) -> list[Record]:
    point = plan(config)
    outcome = run_point(point, root, session)
    assert outcome.error is None, outcome.error
    folder = record.job_folder(root, point.job)
    return [member for seed in config.seed_list for member in record.read_members(folder, seed) or []]


def numbers(member: Record) -> dict[str, object]:
    """Return what training found, without times."""
    curves = {key: values for key, values in member.curves.items() if key != "epoch_seconds"}
    return {key: value for key, value in vars(member).items() if key not in (*TIMES, "certificate")} | {
        "curves": curves
    }


def close(first: Record, second: Record) -> None:
    for key in ("train_loss", "val_loss"):
        assert first.curves[key] == pytest.approx(second.curves[key], rel=1e-4), key
    assert first.val_accuracy == pytest.approx(second.val_accuracy, abs=0.011)
    assert first.test_loss == pytest.approx(second.test_loss, rel=1e-4)


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_cached_prefix_gives_the_same_result_as_none(members: Members, tiny: Tiny, tmp_path: Path, depth: int) -> None:
    (cached,) = members(tiny(freeze_depth=depth, epochs=2), tmp_path / "cached")
    (plain,) = members(tiny(freeze_depth=depth, epochs=2, cache_max_gb=0.0), tmp_path / "plain")
    assert (cached.feed, plain.feed) == ("cached", "recomputed")
    close(cached, plain)


@pytest.mark.parametrize("depth", [4, 5])
def test_members_equal_their_separate_runs(members: Members, tiny: Tiny, tmp_path: Path, depth: int) -> None:
    rates = [0.0005, 0.002]
    together = members(tiny(seeds=[0, 1], optimizer_lr=rates, freeze_depth=depth), tmp_path / "together")
    assert [(member.seed, member.lr) for member in together] == [(0, 0.0005), (0, 0.002), (1, 0.0005), (1, 0.002)]
    assert {member.together for member in together} == {4 if depth == 5 else 1}
    for member in together:
        config = tiny(seeds=[member.seed], optimizer_lr=member.lr, freeze_depth=depth)
        (alone,) = members(config, tmp_path / f"{member.seed}-{member.lr}")
        assert alone.curves["train_loss"] == pytest.approx(member.curves["train_loss"], rel=1e-5)
        assert alone.val_accuracy == member.val_accuracy
        if member.selected:
            assert alone.test_accuracy == member.test_accuracy


def test_all_seeds_of_a_sweep_share_one_pass_over_the_images(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: Session
) -> None:
    seen = []
    real = Network.steps

    def count(self: Network, inputs: torch.Tensor, start: int = 0) -> object:
        seen.append((len(inputs), start))
        return real(self, inputs, start)

    monkeypatch.setattr(Network, "steps", count)
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    for depth in (2, 4):
        point = plan(tiny(freeze_depth=depth, seeds=2))
        assert run_point(point, tmp_path, session, depths={2, 4}).error is None
        if depth == 2:
            first = sum(count for count, _ in seen)
            seen.clear()
    assert first > 600, "all images, and one to see the shapes"
    assert seen == [], "the second depth was filled on the way"


def test_thaw_after_some_epochs_equals_the_two_phases_by_hand(
    members: Members, tiny: Tiny, tmp_path: Path, session: Session
) -> None:
    config = tiny(freeze_depth=3, epochs=3, freeze_epochs=2)
    (member,) = members(config, tmp_path / "thaw")
    (kept,) = members(tiny(freeze_depth=3, epochs=2), tmp_path / "kept")
    assert member.feed == "cached"
    assert member.curves["train_loss"][:2] == kept.curves["train_loss"]
    assert len(member.curves["train_loss"]) == 3
    assert member.certificate["before"] == member.certificate["after"], "of what was frozen until the thaw"

    point = plan(config)
    task = session.task(config.data, 32)
    chosen = {0: data.draw(config.data, task, 0)}
    splits = Feeder(session, point, task, chosen).images(0).splits(with_test=False)
    network = session.network(point, 0)
    recipe = Recipe(config.optimizer, 2, config.batch_size)
    fit(network, splits, recipe, lr=0.001, seed=0)
    rest = replace(recipe, epochs=1, phase=" after the thaw")
    curves = fit(network.thawed(), splits, rest, lr=0.001, seed=0)
    assert member.curves["train_loss"][2:] == pytest.approx(curves.train_loss, rel=1e-3)


def test_thaw_at_once_trains_everything_from_the_first_step(members: Members, tiny: Tiny, tmp_path: Path) -> None:
    (thawed,) = members(tiny(freeze_depth=3, freeze_epochs=0), tmp_path / "thawed")
    (none,) = members(tiny(freeze_depth=0), tmp_path / "none")
    assert thawed.feed == "none"
    assert thawed.curves["train_loss"][0] != none.curves["train_loss"][0], "another phase draws another order"
    assert thawed.curves["train_loss"] == pytest.approx(none.curves["train_loss"], rel=0.2)


def test_blocks_above_start_from_random_weights(tiny: Tiny, session: Session) -> None:
    fresh, kept, scratch = (
        session.network(plan(tiny(freeze_depth=2, pretrained=pretrained, freeze_above=above)), 0)
        for pretrained, above in ((True, Above.random), (True, Above.pretrained), (False, Above.pretrained))
    )
    same = [fingerprint(net.prefix.state_dict().values()) for net in (fresh, kept, scratch)]
    above = [fingerprint(net.suffix.state_dict().values()) for net in (fresh, kept, scratch)]
    assert same[0] == same[1] != same[2]
    assert above[0] == above[2] != above[1]


def test_ways_to_freeze_that_come_to_the_same_are_one_job(tiny: Tiny) -> None:
    def job(**changes: object) -> str:
        return plan(tiny(**changes)).job

    assert job(freeze_depth=0) == job(freeze_depth=0, freeze_which=Which.suffix, freeze_batchnorm=BatchNorm.track)
    assert job(freeze_depth=2) != job(freeze_depth=2, freeze_which=Which.suffix)
    assert job(freeze_depth=5) == job(freeze_depth=5, freeze_above=Above.random)
    assert job(freeze_depth=2, pretrained=False) == job(freeze_depth=2, pretrained=False, freeze_above=Above.random)


@pytest.mark.parametrize("which", [Which.suffix, Which.only, Which.all_but])
def test_every_range_trains_and_is_cached_up_to_its_first_trained_block(
    members: Members, tiny: Tiny, tmp_path: Path, which: Which
) -> None:
    (member,) = members(tiny(freeze_depth=2, freeze_which=which), tmp_path / "cached")
    (plain,) = members(tiny(freeze_depth=2, freeze_which=which, cache_max_gb=0.0), tmp_path / "plain")
    assert (member.feed, plain.feed) == (("cached", "recomputed") if which is Which.all_but else ("none", "none"))
    close(member, plain)


def test_augmented_images_go_through_the_frozen_blocks_every_time(members: Members, tiny: Tiny, tmp_path: Path) -> None:
    (plain,) = members(tiny(freeze_depth=5), tmp_path)
    (views,) = members(tiny(freeze_depth=5, data_augment=Augment.flip_crop), tmp_path)
    assert (plain.feed, views.feed, views.facts.augment) == ("cached", "augmented", "flip_crop")
    assert plain.curves["train_loss"] != views.curves["train_loss"]


@pytest.mark.parametrize("precision", [Precision.bf16, Precision.fp16])
def test_prefix_precision_is_the_same_kept_or_not(
    members: Members, tiny: Tiny, tmp_path: Path, precision: Precision
) -> None:
    (cached,) = members(tiny(freeze_depth=4, freeze_precision=precision), tmp_path / "cached")
    (plain,) = members(tiny(freeze_depth=4, freeze_precision=precision, cache_max_gb=0.0), tmp_path / "plain")
    (full,) = members(tiny(freeze_depth=4), tmp_path / "full")
    assert (cached.feed, plain.feed, cached.facts.prefix_precision) == ("cached", "recomputed", precision)
    assert cached.curves["train_loss"] == pytest.approx(plain.curves["train_loss"], rel=5e-3)
    assert cached.curves["train_loss"] != full.curves["train_loss"]
    assert cached.curves["train_loss"] == pytest.approx(full.curves["train_loss"], rel=5e-2)


def test_same_command_same_numbers_other_seed_other_numbers(members: Members, tiny: Tiny, tmp_path: Path) -> None:
    for pretrained in (True, False):
        first, again, other = (
            members(tiny(seeds=[seed], pretrained=pretrained, freeze_depth=4), tmp_path / f"{place}{pretrained}")[0]
            for place, seed in (("a", 0), ("b", 0), ("c", 1))
        )
        assert numbers(first) == numbers(again)
        assert first.curves["train_loss"] != other.curves["train_loss"]


def test_one_seed_fixes_data_head_and_order_at_every_depth(tiny: Tiny, session: Session) -> None:
    points = [plan(tiny(freeze_depth=depth, pretrained=False)) for depth in (0, 5)]
    networks = [session.network(point, 7) for point in points]
    states = [
        [p.detach() for p in (*network.prefix.parameters(), *network.suffix.parameters())] for network in networks
    ]
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_best_learning_rate_on_validation_is_selected_and_it_alone_is_tested(
    members: Members, tiny: Tiny, tmp_path: Path
) -> None:
    both = members(tiny(data_name="digits", optimizer_lr=[1e-9, 1e-2], freeze_depth=5, epochs=5), tmp_path)
    useless, useful = both
    assert useful.val_accuracy is not None
    assert useless.val_accuracy is not None
    assert useful.val_accuracy > useless.val_accuracy
    assert [member.selected for member in both] == [False, True]
    assert useless.test_accuracy is None
    assert useful.test_accuracy is not None


def test_record_carries_its_certificate_and_counts(members: Members, tiny: Tiny, tmp_path: Path) -> None:
    (member,) = members(tiny(freeze_depth=4), tmp_path)
    assert member.certificate["before"] == member.certificate["after"]
    assert member.certificate["covers"] == "all"
    assert (member.trainable_params, member.frozen_params) == (8398858, 11181642 - 8398858)
    assert (member.n_train, member.n_val, member.n_test, member.facts.n_classes) == (40, 100, 500, 10)
    (tracked,) = members(tiny(freeze_depth=4, freeze_batchnorm=BatchNorm.track), tmp_path)
    assert (tracked.feed, tracked.certificate["covers"]) == ("tracked", "parameters")


def test_changed_prefix_fails_the_job(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: Session
) -> None:
    def thaw(model: Network, *arguments: Any, **options: Any) -> Curves:
        with torch.no_grad():
            next(model.prefix.parameters()).add_(1)
        return fit(model, *arguments, **options)

    monkeypatch.setattr(members_of_a_job, "fit", thaw)
    point = plan(tiny(freeze_depth=2, cache_max_gb=0.0))
    outcome = run_point(point, tmp_path, session)
    assert outcome.error is not None
    assert "frozen tensors changed" in outcome.error
    assert record.read_failure(record.job_folder(tmp_path, point.job)) == outcome.error


def test_diverged_member_is_recorded_and_tried_again(tiny: Tiny, tmp_path: Path, session: Session) -> None:
    config = tiny(optimizer_name="sgd", optimizer_lr=1e30, epochs=2)
    point = plan(config)
    outcome = run_point(point, tmp_path, session)
    assert outcome.error is not None
    assert outcome.error.startswith("diverged: the loss of seed 0 is not finite")
    (member,) = record.read_members(record.job_folder(tmp_path, point.job), 0) or []
    assert (member.status, member.selected, member.test_accuracy) == ("diverged", False, None)
    assert record.missing_seeds(tmp_path, point.job, point.config.seed_list) == [0]


def test_diverged_rate_does_not_fail_a_seed_that_has_a_finite_one(members: Members, tiny: Tiny, tmp_path: Path) -> None:
    good, bad = members(tiny(optimizer_name="sgd", optimizer_lr=[1e-3, 1e30]), tmp_path)
    assert (good.status, good.selected) == ("ok", True)
    assert (bad.status, bad.selected) == ("diverged", False)


def test_only_what_is_missing_is_trained(tiny: Tiny, tmp_path: Path, session: Session) -> None:
    assert run_point(plan(tiny(seeds=1)), tmp_path, session).trained == 1
    assert run_point(plan(tiny(seeds=1)), tmp_path, session).trained == 0
    assert run_point(plan(tiny(seeds=3)), tmp_path, session).trained == 2
    assert run_point(plan(tiny(seeds=3, force=True)), tmp_path, session).trained == 3
    point = plan(tiny(seeds=3))
    (record.job_folder(tmp_path, point.job) / "seed-1.json").write_text('{"members": [{"tru')  # cut short
    assert record.missing_seeds(tmp_path, point.job, point.config.seed_list) == [1]
    assert run_point(point, tmp_path, session).trained == 1


class Unplaced(Session):
    """A session that measures no similarity: that takes long, and no seed has a part in it."""

    def similarity(self, point: Point) -> None:
        return None


def test_records_do_not_depend_on_the_other_seeds_of_a_call(tiny: Tiny, tmp_path: Path) -> None:
    own: dict[str, object] = {"freeze_depth": 5, "data_per_class": 6, "data_rotate": True}
    config = tiny(**own, seeds=[0, 1, 2])
    at_once = trained(Unplaced(), config, tmp_path / "at once")
    for seeds in ([2], [1, 0]):
        trained(Unplaced(), tiny(**own, seeds=seeds), tmp_path / "one by one")
    one_by_one = trained(Unplaced(), config, tmp_path / "one by one")
    assert len({member.scores["logme"] for member in at_once}) == 3  # each of its own images
    for first, second in zip(at_once, one_by_one, strict=True):
        # Not to the last bit: the frozen blocks see an image among others, in another batch.
        assert first.scores == pytest.approx(second.scores, rel=1e-5)
        close(first, second)


def test_identity_follows_results_not_places(tiny: Tiny, folder_of_images: Path) -> None:
    base = plan(tiny()).job
    assert plan(tiny(name="other", seeds=5, device="cpu", force=True, cache_max_gb=1.0)).job == base
    assert plan(tiny(optimizer_lr=[0.001])).job == base
    changed = [
        tiny(epochs=2),
        tiny(optimizer_lr=[0.001, 0.01]),
        tiny(data_per_class=5),
        tiny(data_seed=1),
        tiny(freeze_depth=1),
        tiny(freeze_depth=1, freeze_batchnorm=BatchNorm.track),
        tiny(optimizer_schedule=Schedule.constant),
    ]
    assert len({base, *(plan(config).job for config in changed)}) == len(changed) + 1
    photos: dict[str, object] = {"data_name": "image_folder", "data_per_class": None}
    here = plan(tiny(data_root=str(folder_of_images), **photos)).job
    moved = folder_of_images.with_name("elsewhere") / "photos"
    moved.parent.mkdir()
    folder_of_images.rename(moved)
    assert plan(tiny(data_root=str(moved), **photos)).job == here
    assert "root" in identity(tiny())["data"]


def test_unreadable_image_leaves_a_failure_record(
    tiny: Tiny, tmp_path: Path, folder_of_images: Path, session: Session
) -> None:
    (folder_of_images / "cat" / "00.jpg").write_bytes(b"")
    point = plan(tiny(data_name="image_folder", data_root=str(folder_of_images), data_per_class=None))
    outcome = run_point(point, tmp_path / "out", session)
    assert outcome.error is not None
    assert "00.jpg" in outcome.error
    failure = json.loads((record.job_folder(tmp_path / "out", point.job) / "failure.json").read_text())
    assert failure["error"] == outcome.error
    assert "Traceback" in failure["traceback"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze_depth": 9}, r"freeze_depth=9: resnet18 has 5 blocks"),
        ({"freeze_depth": -1}, r"freeze_depth=-1: use 0 or more"),
        ({"seeds": 0}, r"seeds=0: use a count of at least 1"),
        ({"seeds": [0, 0]}, r"seeds=\[0, 0\]: the same value twice"),
        ({"seeds": "many"}, r"seeds=many: use a count such as 3 or a list"),
        ({"optimizer_lr": -1.0}, r"optimizer.lr=-1.0: use a positive number"),
        ({"optimizer_lr": []}, r"optimizer.lr=\[\]: use"),
        ({"optimizer_lr": math.nan}, r"optimizer.lr=nan: use"),
        ({"optimizer_name": "adam"}, r"optimizer.name=adam: unknown; use one of sgd, adamw; did you mean adamw"),
        ({"data_name": "cifar"}, r"data.name=cifar: unknown; use one of"),
        ({"data_limit_train": 5, "data_per_class": None}, r"data.limit_train=5: 10 classes need at least one"),
        ({"data_limit_train": 50}, r"data.per_class=4 is set too.*; add data.per_class=null"),
        ({"data_val_fraction": 1.5}, r"data.val_fraction=1.5: use a share from 0 to below 1"),
        ({"data_val_fraction": 0.0, "optimizer_lr": [0.1, 0.2]}, r"no learning rate can be chosen of \[0.1, 0.2\]"),
        ({"source_name": "imagnet"}, r"source.name=imagnet: unknown.* did you mean imagenet"),
        ({"model_name": "alexnett"}, r"model.name=alexnett: unknown.*did you mean alexnet"),
        ({"batch_size": 1}, r"batch_size=1: use 2 or more"),
        ({"precision": Precision.fp16}, r"precision=fp16: .* use fp32, tf32 or bf16"),
        ({"precision": Precision.tf32, "device": "cpu"}, r"precision=tf32: only CUDA devices have it"),
        ({"freeze_precision": Precision.tf32}, r"freeze.precision=tf32: .* fp32, bf16 or fp16"),
        ({"device": "gpu"}, r"device=gpu: use auto, cpu, cuda"),
        ({"name": "../x"}, r"name=../x: results go to outputs/<name>"),
        ({"model_name": "vit_b_16", "data_image_size": 64}, r"one position per patch"),
    ],
)
def test_wrong_settings_get_one_line_before_anything_is_loaded(
    tiny: Tiny, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        plan(tiny(**changes))
    assert "\n" not in str(caught.value)


def examples(n: int = 30) -> Examples:
    generator = torch.Generator().manual_seed(0)
    return Examples(torch.randn(n, 4, generator=generator), torch.arange(n), torch.arange(n) % 3)


def test_fit_is_the_plain_loop() -> None:
    """The oracle: ten lines that anybody would write give the same weights."""

    def model() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Linear(4, 3)

    ours, plain, data_ = model(), model(), examples()
    config = OptimizerConfig("sgd", momentum=0.9, weight_decay=0.01, schedule=Schedule.constant)
    fit(ours, Splits(data_, data_), Recipe(config, epochs=3, batch_size=8), lr=0.1, seed=5)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    order = torch.Generator().manual_seed(torch_seed(5, "order"))
    for _ in range(3):
        for index in torch.split(torch.randperm(30, generator=order), 8):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(plain(data_.inputs[index]), data_.labels[index]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    torch.testing.assert_close(ours.state_dict(), plain.state_dict())


def test_dropout_follows_the_seed_and_leaves_torchs_generator_alone() -> None:
    def run_once(seed: int) -> list[float]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(4, 3))
        torch.manual_seed(99)
        expected = torch.rand(1)
        torch.manual_seed(99)
        recipe = Recipe(OptimizerConfig(), epochs=2, batch_size=30)
        curves = fit(model, Splits(examples(), examples()), recipe, lr=0.1, seed=seed)
        assert torch.equal(torch.rand(1), expected)
        return curves.train_loss

    assert run_once(0) == run_once(0)
    assert run_once(0) != run_once(1)


def test_evaluate_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    scores = evaluate(torch.nn.Identity(), Examples(logits, torch.arange(4), torch.tensor([0, 0, 0, 1])))
    assert scores.accuracy == 0.5
    assert scores.balanced_accuracy == pytest.approx((2 / 3 + 0) / 2)
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert scores.loss == pytest.approx((2 * right + 2 * wrong) / 4)


def test_last_batch_of_one_joins_the_batch_before() -> None:
    assert [len(batch) for batch in batches(torch.arange(513), 256)] == [256, 257]
    assert [len(batch) for batch in batches(torch.arange(1), 256)] == [1]


@pytest.mark.parametrize("steps", [1, 2, 40])
def test_cosine_rises_once_and_ends_near_zero(steps: int) -> None:
    course = Recipe(OptimizerConfig(schedule=Schedule.cosine), epochs=steps, batch_size=8).course(8)
    rates = [course.factor(step) for step in range(steps)]
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(1.0)
    assert rates == sorted(rates[: peak + 1]) + sorted(rates[peak + 1 :], reverse=True)
    assert rates[-1] < 0.01 or steps < 3


@pytest.mark.parametrize("count", [1, 7, 8, 9, 500])
def test_which_images_are_right_survives_its_way_to_disk(count: int) -> None:
    correct = np.random.default_rng(count).random(count) < 0.5
    assert (record.unpacked(record.packed(correct), count) == correct).all()


@pytest.mark.parametrize("depth", [3, 5])
def test_every_depth_is_tuned_by_the_same_rule(members: Members, tiny: Tiny, tmp_path: Path, depth: int) -> None:
    common: dict[str, Any] = {"data_name": "digits", "data_rotate": True, "freeze_depth": depth, "epochs": 6}
    common |= {"min_steps": 4, "optimizer_schedule": Schedule.plateau}
    found = members(tiny(seeds=2, optimizer_lr=[1e-6, 3e-6], optimizer_extend=2, **common), tmp_path)
    for seed in (0, 1):
        mine = [member for member in found if member.seed == seed]
        assert [member.lr for member in mine] == [1e-6, 3e-6, 1e-5, 3e-5], "bounded, though more would be better"
        (chosen,) = (member for member in mine if member.selected)
        assert (chosen.lr_given, chosen.lr_edge) == ("1e-06 3e-06", "upper")
        for member in mine:
            assert member.val_correct is not None
            right = record.unpacked(member.val_correct, member.n_val or 0).mean()
            assert right == pytest.approx(member.val_accuracy)
        assert chosen.test_correct is not None
        assert record.unpacked(chosen.test_correct, chosen.n_test or 0).mean() == chosen.test_accuracy
        assert all(member.test_correct is None for member in mine if member is not chosen)
        tested = mistakes.read(record.job_folder(tmp_path, chosen.job), seed)
        assert tested is not None
        assert ((tested.predicted == tested.labels) == record.unpacked(chosen.test_correct, chosen.n_test or 0)).all()
        assert len(tested.classes) == 10
        assert len(tested.worst) == mistakes.WORST
        assert all(tested.predicted[place] != tested.labels[place] for place, _ in tested.worst)
        assert {member.epochs_trained for member in mine} <= set(range(1, 7))
    (again,) = members(tiny(seeds=[1], optimizer_lr=3e-5, **common), tmp_path / "alone")
    assert again.val_accuracy == pytest.approx(found[-1].val_accuracy, abs=0.011), "each as if it were alone"
    assert again.curves["train_loss"] == pytest.approx(found[-1].curves["train_loss"], rel=1e-3)
    assert again.lr_edge is None
