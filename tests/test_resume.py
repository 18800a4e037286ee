"""A training that is stopped anywhere goes on as if nothing had been in between; what cannot be used is said."""

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TIMES, Done
from test_train import RATES, SEEDS, examples, head
from torch import nn

from sweep import paths
from sweep.config import Augment, BatchNorm, Config, OptimizerConfig, Schedule
from sweep.plan.point import Point, plan
from sweep.report import record
from sweep.runs import pretrain
from sweep.runs.job import run_point
from sweep.runs.session import Session
from sweep.train import resume
from sweep.train.course import Course
from sweep.train.examples import Examples, Splits
from sweep.train.heads import fit_heads
from sweep.train.loop import Curves, Recipe, fit
from sweep.train.resume import Checkpoint, Slot

OF = {"job": "one"}


class Stop:
    """Interrupts before the batch of this number, from 1, of training or evaluation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 10**9
        real = Examples.batches

        def batches(*given: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for batch in real(*given):
                self.left -= 1
                if self.left == 0:
                    raise KeyboardInterrupt
                yield batch

        monkeypatch.setattr(Examples, "batches", batches)


def in_pieces(train: Callable[[], Any], stop: Stop, every: int) -> tuple[Any, int]:
    """Return what train() returns, stopped at every so manieth batch and called again; and how often it was."""
    for stops in range(100):
        stop.left = every
        try:
            return train(), stops
        except KeyboardInterrupt:
            pass
    raise AssertionError("it never ends")


class Net(nn.Module):
    """Everything that has a state: BatchNorm, dropout, a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(3 * 8 * 8, 6).requires_grad_(False)
        self.norm, self.drop, self.last = nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.drop(self.norm(self.frozen(images.flatten(1).float() / 255))))
        return out


def pictures(n: int, seed: int) -> Examples:
    pool = torch.randint(256, (n, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return Examples(pool, torch.arange(n), torch.arange(n) % 3)


def comparable(curves: Curves) -> dict[str, list[float]]:
    return {name: values for name, values in vars(curves).items() if name != "epoch_seconds"}


@pytest.mark.parametrize("every", [1 + 4, 7, 12])  # an epoch has 4 batches, and 2 of evaluation
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_network_goes_on_bit_for_bit(name: str, every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    first = Net()
    data = Splits(pictures(40, 0), pictures(12, 1), pictures(9, 2))
    optimizer = OptimizerConfig(name, schedule=Schedule.plateau)
    recipe = Recipe(optimizer, 9, 10, min_steps=10, augment=Augment.flip_crop)
    whole = copy.deepcopy(first)
    expected = fit(whole, data, recipe, lr=0.03, seed=3)
    stop = Stop(monkeypatch)
    models = []

    def train() -> Curves:
        models.append(copy.deepcopy(first))
        torch.manual_seed(len(models))  # another process has another generator
        slot = Slot(Checkpoint(tmp_path / "kept", OF, 5), "a")
        return fit(models[-1], data, recipe, lr=0.03, seed=3, slot=slot)

    curves, stops = in_pieces(train, stop, every)
    assert stops >= 3
    assert comparable(curves) == comparable(expected)
    assert all(
        torch.equal(a, b) for a, b in zip(models[-1].state_dict().values(), whole.state_dict().values(), strict=True)
    )
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("every", [4, 9])
def test_heads_go_on_bit_for_bit(every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(OptimizerConfig("adamw", schedule=Schedule.plateau), 24, 16, min_steps=20)
    data = [Splits(examples(50, seed), examples(20, seed + 1), examples(15, seed + 2)) for seed in SEEDS]
    first = [[head(seed, 0.3) for _ in RATES] for seed in SEEDS]
    whole = copy.deepcopy(first)
    expected = fit_heads(whole, data, recipe, rates=[RATES] * 2, seeds=SEEDS)
    stop = Stop(monkeypatch)
    models = []

    def train() -> list[list[Curves]]:
        models.append(copy.deepcopy(first))
        slot = Slot(Checkpoint(tmp_path / "kept", OF, 5), "a")
        return fit_heads(models[-1], data, recipe, rates=[RATES] * 2, seeds=SEEDS, slot=slot)

    curves, stops = in_pieces(train, stop, every * len(SEEDS))
    assert stops >= 3
    assert len({len(curve.train_loss) for row in curves for curve in row}) > 1, "they end in different epochs"
    for row, own, theirs, these in zip(curves, expected, models[-1], whole, strict=True):
        assert [comparable(curve) for curve in row] == [comparable(curve) for curve in own]
        for one, other in zip(theirs, these, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_frozen_weights_that_have_changed_are_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, recipe = Splits(pictures(40, 0), pictures(12, 1)), Recipe(OptimizerConfig(), 2, 10)
    stop = Stop(monkeypatch)
    stop.left = 6
    model = Net()
    with pytest.raises(KeyboardInterrupt):
        fit(model, data, recipe, lr=0.1, seed=0, slot=Slot(Checkpoint(tmp_path / "kept", OF, 5), "a"))
    other = Net()
    expected = fit(copy.deepcopy(other), data, recipe, lr=0.1, seed=0)
    curves = fit(other, data, recipe, lr=0.1, seed=0, slot=Slot(Checkpoint(tmp_path / "kept", OF, 5), "a"))
    assert comparable(curves) == comparable(expected)
    assert capsys.readouterr().err.count("is of other frozen weights; training starts anew\n") == 1


class Counter:
    """A training that counts its epochs."""

    whole, over = True, False

    def __init__(self, count: int = 0) -> None:
        self.count = count

    def state(self) -> resume.State:
        return {"count": self.count, "tensor": torch.ones(5)}

    def load(self, state: resume.State) -> bool:
        self.count = state["count"]
        return True


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip, "is damaged (its checksum does not fit)"),
        (lambda file: file.write_bytes(file.read_bytes()[:100]), "is damaged (its checksum does not fit)"),
        (lambda file: file.write_bytes(b""), "is damaged (its checksum does not fit)"),
        (lambda file: file.unlink(), ""),
        (lambda file: None, "is of job one, not two"),
    ],
)
def test_what_cannot_be_used_is_said_and_removed(
    damage: Callable[[Path], object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint", OF, 5)
    checkpoint.begin("a", Counter(7))
    checkpoint.write()
    (file,) = tmp_path.iterdir()
    damage(file)
    found = Counter()
    Checkpoint(tmp_path / "checkpoint", {"job": "two"}, 5).begin("a", found)
    assert found.count == 0
    line = f"warning: {tmp_path}/checkpoint: the checkpoint {said}; training starts anew\n" if said else ""
    assert capsys.readouterr().err == line
    assert not list(tmp_path.iterdir())


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "hostile"
    torch.save({"of": {}, "trainings": {"a": Point}}, file)
    file.rename(tmp_path / f"checkpoint.{resume.checksum(file):08x}.pt")
    found = Counter()
    Checkpoint(tmp_path / "checkpoint", OF, 5).begin("a", found)
    assert found.count == 0
    assert "is damaged" in capsys.readouterr().err


def test_another_version_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint", {**OF, "torch": "2.8"}, 5)
    checkpoint.begin("a", Counter(7))
    checkpoint.write()
    Checkpoint(tmp_path / "checkpoint", {**OF, "torch": "2.9"}, 5).begin("a", Counter())
    assert capsys.readouterr().err.endswith("is of torch 2.8, not 2.9; training starts anew\n")


@pytest.mark.parametrize(("minutes", "files"), [(5.0, 0), (0.0, 1), (None, 0), (1e-9, 1)])
def test_it_is_written_when_it_is_time(minutes: float | None, files: int, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint", OF, minutes)
    counter = Counter()
    slot = Slot(checkpoint, "a")
    with slot.kept(counter):
        for counter.count in range(1, 4):
            slot.after_batch()
            assert len(list(tmp_path.iterdir())) == (minutes == 1e-9 or (minutes == 0 and counter.count > 1))
            slot.after_epoch()
    assert len(list(tmp_path.iterdir())) == files
    found = Counter()
    Checkpoint(tmp_path / "checkpoint", OF, minutes).begin("a", found)
    assert found.count == 3 * files


def test_a_disk_that_takes_nothing_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = Checkpoint(tmp_path / "file" / "checkpoint", OF, 0)
    (tmp_path / "file").write_text("")
    slot = Slot(checkpoint, "a")
    with slot.kept(Counter()):
        slot.after_epoch()
        slot.after_epoch()
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_what_is_not_yet_gone_on_with_is_kept(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint", OF, 0)
    checkpoint.begin("first", Counter(1))
    checkpoint.begin("second", Counter(2))
    checkpoint.write()
    again = Checkpoint(tmp_path / "checkpoint", OF, 0)
    again.begin("first", Counter())
    again.write()
    found = Counter()
    Checkpoint(tmp_path / "checkpoint", OF, 0).begin("second", found)
    assert found.count == 2


KINDS: dict[str, dict[str, Any]] = {
    "whole network, two rates": {"freeze_depth": 0, "optimizer_lr": [0.001, 0.01]},
    "suffix": {"freeze_depth": 4},
    "head": {"freeze_depth": 5, "seeds": 2, "optimizer_lr": [0.001, 0.01], "optimizer_extend": 2},
    "thaw": {"freeze_depth": 4, "freeze_epochs": 2, "optimizer_lr": [0.001, 0.01]},
    "track": {"freeze_depth": 2, "freeze_batchnorm": BatchNorm.track, "data_augment": Augment.flip_crop},
}


def members(root: Path, point: Point) -> list[dict[str, Any]]:
    """Return all that is recorded, times aside."""
    rows = [
        row
        for file in sorted(record.job_folder(root, point.job).glob("seed-*.json"))
        for row in json.loads(file.read_text())["members"]
    ]
    for row in rows:
        del row["curves"]["epoch_seconds"]
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_records_of_a_job_that_was_stopped_are_those_of_one_that_was_not(
    kind: str, tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: Session
) -> None:
    small = {"model_name": "shufflenet_v2_x0_5", "epochs": 4, "pretrained": False}
    point = plan(tiny(**{**small, **KINDS[kind]}))
    assert run_point(point, tmp_path / "whole", session).error is None
    stop = Stop(monkeypatch)
    outcome, stops = in_pieces(partial(run_point, point, tmp_path / "cut", session), stop, every=9)
    assert outcome.error is None
    assert stops >= 1
    assert members(tmp_path / "cut", point) == members(tmp_path / "whole", point) != []
    assert not list(tmp_path.rglob("checkpoint*"))


@pytest.mark.slow
def test_the_source_goes_on_bit_for_bit(
    tiny: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path))
    config = tiny(source_epochs=3, model_name="shufflenet_v2_x0_5")
    config.source.data.per_class, config.source.data.name = 8, "textures"
    config.data.name = "digits"
    config.source.batch_size = 20
    source, session, device = plan(config).source, Session(), torch.device("cpu")

    def load() -> dict[str, torch.Tensor]:
        return pretrain.load(source, device, lambda: session.task(source.config.data, 32), minutes=5).state

    expected = load()
    pretrain.path(source).unlink()
    state, stops = in_pieces(load, Stop(monkeypatch), 6)
    assert stops >= 2
    assert all(torch.equal(value, state[name]) for name, value in expected.items())
    assert [file.name for file in (tmp_path / "sources").iterdir() if file.suffix != ".lock"] == [
        pretrain.path(source).name
    ]


POINT = [
    *("data=textures", "data.per_class=4", "epochs=20", "seeds=1", "optimizer.lr=[0.001,0.01]", "pretrained=false"),
    *("freeze_depth=3", "checkpoint.minutes=0", "model=shufflenet_v2_x0_5"),
]


@pytest.mark.campaign
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_ended_is_gone_on_from(
    number: signal.Signals, sweep: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    assert sweep(*POINT, folder=whole).returncode == 0
    command = [sys.executable, "-m", "sweep", *POINT]
    with subprocess.Popen(command, cwd=cut, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 60
        while not list(cut.rglob("checkpoint*.pt")):
            assert time.monotonic() < end, "there is no checkpoint"
            time.sleep(0.02)
        process.send_signal(number)
    assert process.returncode == (143 if number == signal.SIGTERM else -9)
    loaded = []
    real = Course.load

    def load(self: Course, state: dict[str, Any]) -> None:
        loaded.append(state)
        real(self, state)

    monkeypatch.setattr(Course, "load", load)
    assert sweep(*POINT, folder=cut).returncode == 0
    assert loaded, "it went on from the checkpoint"
    (first,), (second,) = (folder.glob("outputs/sweep/jobs/*") for folder in (whole, cut))
    both = []
    for folder in (first, second):
        rows = json.loads((folder / "seed-0.json").read_text())["members"]
        for row in rows:
            del row["curves"]["epoch_seconds"]
        both.append([{name: value for name, value in row.items() if name not in TIMES} for row in rows])
    assert both[0] == both[1]
    assert {file.name for file in second.iterdir()} == {file.name for file in first.iterdir()}


def test_temporary_files_of_writers_that_are_gone_are_removed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"from sweep import paths; from pathlib import Path; import os\n"
         f"with paths.replacing(Path({str(tmp_path / 'a.json')!r})) as t: t.write_text('half'); os._exit(1)"],
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (left,) = tmp_path.iterdir()
    with paths.replacing(tmp_path / "b.json") as ours:
        ours.write_text("half")
        elsewhere = tmp_path / ".c.json.another-host-1.tmp"
        old = tmp_path / "weights.123.tmp"
        for file in (elsewhere, old):
            file.write_text("half")
        os.utime(old, (0, 0))
        paths.clean(tmp_path)
        assert {*tmp_path.iterdir()} == {ours, elsewhere}
    assert left not in {*tmp_path.iterdir()}
