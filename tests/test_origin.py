"""The blog post's comparison: our fit against a plain loop, and the report that shows both."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from sweep.cli import compose
from sweep.config import BatchNorm, Config, Normalization, Schedule
from sweep.data import task as data
from sweep.models import build as models
from sweep.plan.point import plan
from sweep.report import record, table
from sweep.report import render as report
from sweep.runs.job import retrain, run_point
from sweep.runs.session import Session
from sweep.seeds import torch_seed
from sweep.train.examples import Examples, Splits
from sweep.train.loop import Recipe, fit

pytestmark = pytest.mark.slow

Tiny = Callable[..., Config]
ORIGIN = {
    "epochs": 3, "batch_size": 64, "data_per_class": 16, "data_val_fraction": 0.0, "data_normalize": Normalization.none,
    "optimizer_name": "sgd", "optimizer_lr": 1e-3, "optimizer_weight_decay": 0.0,
    "optimizer_schedule": Schedule.constant, "test_every_epoch": True, "freeze_batchnorm": BatchNorm.track,
}  # fmt: skip

SHORT = {"epochs": 2, "data_per_class": 8}  # two batches an epoch, in double precision


def plain_loop(pretrained: bool, freeze: bool, config: Config) -> tuple[list[float], list[float], nn.Module]:
    """Train as a careful reader of the post would: whole model in train mode, an optimizer over what is trained.

    Returns training loss and test accuracy per epoch, and the model. Only the starting weights, the images and the
    order are ours.
    """
    task = data.load(config.data, 32)
    chosen = data.subsample(config.data, task.train.labels, 0, task.classes)
    images = torch.from_numpy(task.train.images[chosen]).float() / 255
    labels = torch.from_numpy(task.train.labels[chosen])
    test_images = torch.from_numpy(task.test.images).float() / 255
    test_labels = torch.from_numpy(task.test.labels)

    model = torchvision.models.resnet18()
    if pretrained:
        state = Session().weights(plan(config).source, torch.device("cpu")).state
    else:
        state = models.random_state("resnet18", 32, torch_seed(0, "weights"))
    model.load_state_dict(state, strict=False)
    torch.manual_seed(torch_seed(0, "head"))
    model.fc = nn.Linear(512, 10)
    trained = model.fc.parameters() if freeze else model.parameters()
    optimizer = torch.optim.SGD(trained, lr=1e-3, momentum=0.9, weight_decay=config.optimizer.weight_decay)
    order = torch.Generator().manual_seed(torch_seed(0, "order"))

    losses, accuracies = [], []
    for _ in range(config.epochs):
        model.train()
        total = 0.0
        for index in torch.split(torch.randperm(len(labels), generator=order), config.batch_size):
            loss = nn.functional.cross_entropy(model(images[index]), labels[index])
            model.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.item() * len(index)
        losses.append(total / len(labels))
        model.eval()
        with torch.no_grad():
            accuracies.append((model(test_images).argmax(1) == test_labels).double().mean().item())
    return losses, accuracies, model


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute everything in double precision: single precision is not enough to compare trainings by.

    There not even the plain loop gives its own curve again: with one thread instead of two, training everything, the
    loss of the third epoch moves by half a per cent (sums in another order, BatchNorm over single pixels).
    """
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.campaign  # in double precision
def test_training_everything_is_the_plain_loop(double: None, tiny: Tiny) -> None:
    """With weight decay, too, which also the taps of a kernel feel that no image meets."""
    config = tiny(pretrained=False, freeze_depth=0, **(ORIGIN | {"optimizer_weight_decay": 0.1} | SHORT))
    point = plan(config)
    network, curves = retrain(point, 0, 1e-3, Session())  # with nothing in single precision
    losses, accuracies, model = plain_loop(False, False, config)
    assert curves.train_loss == pytest.approx(losses, rel=1e-9)
    assert curves.test_accuracy == accuracies
    for ours, theirs in zip(network.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("pretrained", [False, True])
def test_our_fit_is_the_plain_loop_of_the_post(tiny: Tiny, tmp_path: Path, pretrained: bool, session: Session) -> None:
    config = tiny(pretrained=pretrained, freeze_depth=5, **ORIGIN)
    point = plan(config)
    assert run_point(point, tmp_path, session).error is None
    (member,) = record.read_members(record.job_folder(tmp_path, point.job), 0) or []
    losses, accuracies, _ = plain_loop(pretrained, True, config)
    assert member.curves["train_loss"] == pytest.approx(losses, rel=1e-4)
    # Accuracy is a count of 500 images: one of them may fall on the other side of a tie.
    assert member.curves["test_accuracy"] == pytest.approx(accuracies, abs=1.01 / 500)
    assert (member.n_train, member.n_val, member.val_accuracy, member.selected) == (160, 0, None, True)
    assert member.test_accuracy == member.curves["test_accuracy"][-1]
    assert member.feed == "tracked"


def test_moving_statistics_are_what_the_post_ran(tiny: Tiny, tmp_path: Path, session: Session) -> None:
    """Frozen statistics give other numbers: the two policies are not to be confused."""
    losses = []
    for policy in BatchNorm:
        point = plan(tiny(pretrained=False, freeze_depth=5, **(ORIGIN | {"freeze_batchnorm": policy})))
        run_point(point, tmp_path, session)
        (member,) = record.read_members(record.job_folder(tmp_path, point.job), 0) or []
        losses.append(member.curves["train_loss"][-1])
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


def test_both_policies_are_one_job_where_nothing_is_frozen(tiny: Tiny) -> None:
    jobs = {plan(tiny(freeze_depth=0, freeze_batchnorm=policy)).job for policy in BatchNorm}
    assert len(jobs) == 1


def test_experiment_composes_to_the_posts_settings(tmp_path: Path) -> None:
    points = compose.points(["+experiment=origin"], multirun=True)
    assert len(points) == 8
    assert len({point.job for point in points}) == 6
    config = points[0].config
    assert (config.epochs, config.batch_size, config.lr_list, config.optimizer.momentum) == (10, 512, [1e-3], 0.9)
    assert (config.data.name, config.data.image_size, config.data.normalize) == ("cifar10", 32, "none")
    assert (points[0].facts.source, points[0].facts.source_classes) == ("imagenet", 1000)
    assert (config.optimizer.schedule, config.optimizer.weight_decay) == (Schedule.constant, 0)
    first = [
        (point.config.pretrained, point.config.freeze_depth, str(point.config.freeze.batchnorm)) for point in points
    ]
    assert first[0] == (False, 5, "track")
    assert (False, 0, "frozen") in first


def test_report_shows_the_posts_curves_beside_ours(tiny: Tiny, tmp_path: Path, session: Session) -> None:
    study = compose.points(["+experiment=origin", "pretrained=false", "freeze_depth=0"], multirun=False)[0].config.study
    entries = []
    for depth in (5, 0):
        point = plan(tiny(pretrained=False, freeze_depth=depth, **(ORIGIN | {"epochs": 2})))
        run_point(point, tmp_path, session)
        entries.append(table.Entry(point.job, [0], point.facts, {}))
    table.write_manifest(tmp_path, entries, study)
    made = report.build(tmp_path)
    assert "without transfer: pretrained=false, freeze_depth=5, batchnorm=track  21.6" in made.text
    assert "textures: pretrained=False" not in made.text
    assert "textures: pretrained=false, freeze_depth=5, batchnorm=track" in made.text
    assert "is not training from scratch" in made.text
    assert "| 16.4 " in (tmp_path / "report.md").read_text(), "the mean of the post's seconds per epoch"


def test_empty_validation_is_never_evaluated() -> None:
    model = nn.Linear(4, 3)
    some = Examples(torch.randn(6, 4), torch.arange(6), torch.arange(6) % 3)
    none = Examples(some.inputs, torch.arange(0), torch.arange(0))
    recipe = Recipe(Config().optimizer, epochs=2, batch_size=3)
    curves = fit(model, Splits(some, none, some), recipe, lr=0.1, seed=0)
    assert (curves.val_loss, len(curves.test_accuracy), curves.diverged) == ([], 2, False)
