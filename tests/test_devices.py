"""Several processes that train one model: what one would have trained, and nothing left behind however it ends."""

import copy
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import TIMES, Done, wait_for
from torch import Tensor, nn

from hydra_plugins.freeze_sweep.local import grouped
from sweep.config import Augment, Config, OptimizerConfig, Precision, Schedule
from sweep.errors import UserError
from sweep.models.auxiliary import WithAuxiliary
from sweep.plan.point import plan
from sweep.report import record
from sweep.runs import crew, machine, members
from sweep.runs.job import run_point
from sweep.runs.processes import CONTEXT
from sweep.runs.session import Session
from sweep.train import team
from sweep.train.examples import Examples, Splits
from sweep.train.loop import Curves, Recipe, fit
from sweep.train.team import Joined

# --- several threads in place of processes --------------------------------------------------------------------------


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[Joined], Any]], list[Any]]:
    """Return a function that calls another for every member of a team of so many, and returns what they return."""
    given: dict[int, Tensor] = {}
    rank = threading.local()

    def on_all(size: int, act: Callable[[Joined], Any]) -> list[Any]:
        barrier, found = threading.Barrier(size, timeout=60), dict[int, Any]()

        def added(own: Sequence[Tensor]) -> Tensor:
            given[rank.number] = torch.cat([*own]).detach()
            barrier.wait()
            total = torch.stack([given[number] for number in range(size)]).sum(0)
            barrier.wait()
            return total

        def run(number: int) -> None:
            rank.number = number
            try:
                found[number] = act(Joined(number, size))
            except BaseException as error:
                found[number] = error
                barrier.abort()

        monkeypatch.setattr(team, "_added", added)
        monkeypatch.setattr(torch.distributed, "get_backend", lambda: "gloo")
        threads = [threading.Thread(target=run, args=(number,)) for number in range(size)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        errors = [each for each in found.values() if isinstance(each, BaseException)]
        for error in sorted(errors, key=lambda each: isinstance(each, threading.BrokenBarrierError)):
            raise error
        return [found[number] for number in range(size)]

    return on_all


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("n", [2, 3, 8, 11])
def test_the_parts_of_a_batch_are_all_of_it_once(n: int, size: int) -> None:
    parts = [range(n)[Joined(rank, size).part(n)] for rank in range(size)]
    assert all(parts), "nobody has nothing"
    if n >= size:
        assert [each for part in parts for each in part] == [*range(n)]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(7, 4), (7, 4, 5), (7, 4, 3, 2), (2, 4, 3, 2), (7, 4, 1, 1)])
def test_batchnorm_is_that_of_the_whole_batch(
    shape: tuple[int, ...], affine: bool, together: Callable[[int, Callable[[Joined], Any]], list[Any]]
) -> None:
    torch.manual_seed(0)
    kind: type[nn.Module] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)]
    whole = kind(4, affine=affine)
    for parameter in whole.parameters():
        nn.init.normal_(parameter)
    x, toward = 3 * torch.randn(shape) + 10, torch.randn(shape)
    one = x.clone().requires_grad_()
    expected = whole_model(whole)(one)
    (expected * toward).sum().backward()

    def act(joined: Joined) -> tuple[nn.Module, Tensor, Tensor]:
        model, part = whole_model(copies[joined.rank]), joined.part(len(x))
        own = x[part].clone().requires_grad_()
        with joined.batch(len(x)):
            out = model(own)
        counted = toward[part] * (joined.share > 0)
        (out * counted).sum().backward()
        assert own.grad is not None
        return copies[joined.rank], out.detach(), own.grad * (joined.share > 0)

    copies = [kind(4, affine=affine) for _ in range(3)]
    for each in copies:
        parameters = {name: value for name, value in whole.state_dict().items() if name in ("weight", "bias")}
        each.load_state_dict(parameters, strict=False)
    for rank, (own, out, gradient) in enumerate(together(3, act)):
        part = Joined(rank, 3).part(len(x))
        if rank or len(x) >= 3:  # of two images the first process has none
            torch.testing.assert_close(out, expected[part].detach(), rtol=1e-5, atol=1e-5)
            assert one.grad is not None
            torch.testing.assert_close(gradient, one.grad[part], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(own.running_mean, whole.running_mean, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(own.running_var, whole.running_var, rtol=1e-5, atol=1e-6)


def whole_model(module: nn.Module) -> nn.Module:
    return nn.Sequential(module).train()


class Net(nn.Module):
    """Everything that sees more than one image, or that has a gradient only sometimes."""

    def __init__(self) -> None:
        super().__init__()
        # A bias before a BatchNorm has no gradient but rounding's, of which AdamW would make whole steps.
        self.first = nn.Conv2d(3, 8, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.middle = WithAuxiliary(nn.Conv2d(8, 8, 3), nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), 0.3, 1)
        self.last = nn.Linear(8, 3)
        self.never = nn.Linear(2, 2)
        self.middle.head(torch.zeros(1, 8, 5, 5))

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(images.float() / 128 - 1)))
        out: Tensor = self.last(self.middle(x).relu().mean((2, 3)))
        return out


def pictures(n: int, seed: int) -> Examples:
    pool = torch.randint(256, (n, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(n) % 3
    pool[labels == 1, 0] //= 2
    pool[labels == 2, 1] //= 2
    return Examples(pool, torch.arange(n), labels)


@pytest.mark.parametrize("precision", [Precision.fp32, Precision.bf16])
@pytest.mark.parametrize(("size", "n"), [(2, 41), (3, 32)])  # of batches of 10 the last has 11 images, or 2
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_team_trains_what_one_process_trains(
    name: str,
    size: int,
    n: int,
    precision: Precision,
    together: Callable[[int, Callable[[Joined], Any]], list[Any]],
) -> None:
    torch.manual_seed(1)
    net = Net()
    first = net.never.weight.clone()
    data = Splits(pictures(n, 0), pictures(2, 1), pictures(13, 2))
    optimizer = OptimizerConfig(name, schedule=Schedule.plateau)
    recipe = Recipe(optimizer, 4, 10, min_steps=10, precision=precision, augment=Augment.flip_crop)
    alone = copy.deepcopy(net)
    expected = fit(alone, data, recipe, lr=0.003, seed=3)
    nets = [copy.deepcopy(net) for _ in range(size)]

    def train(joined: Joined) -> Curves:
        own = Recipe(**{**vars(recipe), "team": joined})
        return fit(nets[joined.rank], data, own, lr=0.003, seed=3)

    near: dict[str, Any] = {"rtol": 1e-4, "atol": 2e-5} if precision is Precision.fp32 else {"rtol": 0.05, "atol": 0.01}
    found = together(size, train)
    for own, curves in zip(nets, found, strict=True):
        for key, value in own.state_dict().items():
            torch.testing.assert_close(value, nets[0].state_dict()[key], rtol=0, atol=0)
            torch.testing.assert_close(value, alone.state_dict()[key], **near)
        for key in ("train_loss", "val_loss", "val_accuracy", "test_accuracy"):
            assert vars(curves)[key] == vars(found[0])[key], "all stop at once"
            assert vars(curves)[key] == pytest.approx(vars(expected)[key], rel=near["rtol"], abs=near["atol"] * 10)
    assert torch.equal(nets[0].never.weight, first), "what has no gradient does not decay"


def test_a_model_that_diverges_stops_every_process(
    together: Callable[[int, Callable[[Joined], Any]], list[Any]],
) -> None:
    data = Splits(pictures(20, 0), pictures(8, 1))
    nets = [Net() for _ in range(2)]

    def train(joined: Joined) -> Curves:
        return fit(nets[joined.rank], data, Recipe(OptimizerConfig("sgd"), 5, 10, team=joined), lr=1e30, seed=0)

    for curves in together(2, train):
        assert curves.diverged
        assert len(curves.train_loss) < 5


# --- processes ------------------------------------------------------------------------------------------------------

slow = pytest.mark.slow  # a helper imports torch
NEAR = ("val_accuracy", "test_accuracy", "test_balanced_accuracy", "loss", "test_loss")


class Trained:
    """Records and networks of a point: of two learning rates, the one trained after the other."""

    def __init__(self, config: Config, root: Path, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
        self.networks: list[dict[str, Tensor]] = []
        real = members.train_member

        def kept(*given: Any) -> Any:
            trained, network = real(*given)
            self.networks.append({key: value.clone() for key, value in network.state_dict().items()})
            return trained, network

        with monkeypatch.context() as patched:
            patched.setattr(members, "train_member", kept)
            self.point = plan(config)
            self.outcome = run_point(self.point, root, session)
        self.members = record.read_members(record.job_folder(root, self.point.job), 0) or []

    def facts(self) -> list[dict[str, object]]:
        """Return what the records say, less numbers that are compared with a tolerance, times and the device's name."""
        own = (*TIMES, *NEAR, "curves", "val_correct", "test_correct", "device")
        return [{key: value for key, value in asdict(each).items() if key not in own} for each in self.members]


def same(ours: Trained, theirs: Trained) -> None:
    """Require the same records and weights, up to what rounding does to a network in a few steps."""
    assert ours.outcome.error is None
    assert ours.point.job == theirs.point.job
    assert ours.facts() == theirs.facts()
    for own, other in zip(ours.members, theirs.members, strict=True):
        for key in NEAR:
            found, expected = getattr(own, key), getattr(other, key)
            if not own.selected and key.startswith("test"):
                assert found is expected is None
            else:
                assert found == pytest.approx(expected, rel=1e-3, abs=0.03 * ("accuracy" in key))
        for key in ("train_loss", "val_loss"):
            assert own.curves[key] == pytest.approx(other.curves[key], rel=1e-3)
        assert len(own.curves["val_accuracy"]) == len(other.curves["val_accuracy"])
    for weights, others in zip(ours.networks, theirs.networks, strict=True):
        for key, value in weights.items():
            torch.testing.assert_close(value, others[key], rtol=1e-3, atol=1e-4)


def small(tiny: Callable[..., Config], devices: int) -> Config:
    """Return a ResNet-18 of which a cached block is frozen, the others with BatchNorm; 3 steps of 15 images or fewer.

    SGD: in AdamW's first steps a gradient counts by its sign alone, which is rounding's where a bias lies before a
    BatchNorm.
    """
    config = tiny(freeze_depth=1, epochs=2, batch_size=15, devices=devices, device="cpu", optimizer_name="sgd")
    config.optimizer.lr, config.checkpoint.minutes = [0.0003, 0.001], 0
    return config


@slow
def test_two_processes_leave_the_records_of_one_also_after_one_has_died(
    tiny: Callable[..., Config], tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "FROM_START", 1)
    one = Trained(small(tiny, 1), tmp_path / "one", session, monkeypatch)
    batches = 0
    dead: list[BaseProcess] = []

    def kill(slot: object) -> None:
        nonlocal batches
        batches += 1
        if batches == 11:  # in the second epoch of the second member
            (helper,) = session.team.helpers  # type: ignore[attr-defined]
            dead.append(helper.process)
            helper.process.kill()

    with monkeypatch.context() as patched:
        patched.setattr("sweep.train.resume.Slot.after_batch", kill)
        failed = Trained(small(tiny, 2), tmp_path / "two", session, monkeypatch)
    assert failed.outcome.error == "RuntimeError: process 2 of 2 was ended by SIGKILL (is memory short?)"
    assert record.read_failure(record.job_folder(tmp_path / "two", one.point.job)) == failed.outcome.error
    assert not torch.distributed.is_initialized()
    assert not dead[0].is_alive()
    assert session.team.size == 1
    assert len([*(tmp_path / "two").rglob("checkpoint.*.pt")]) == 1
    two = Trained(small(tiny, 2), tmp_path / "two", session, monkeypatch)
    same(two, one)
    assert {each.feed for each in two.members} == {"cached"}
    assert [each.device for each in two.members] == [f"2 x {each.device}" for each in one.members]


@slow
def test_a_network_without_batchnorm_is_trained_together_before_and_after_a_thaw(
    tiny: Callable[..., Config], tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm")
    monkeypatch.setattr(machine, "FROM_START", 1)
    found = []
    for devices in (1, 2):
        config = tiny(pretrained=False, freeze_depth=1, epochs=3, batch_size=19, devices=devices, device="cpu")
        config.model.name, config.data.augment, config.freeze.epochs = "timm/test_vit", Augment.flip_crop, 1
        config.optimizer.lr = 0.0003
        found.append(Trained(config, tmp_path / str(devices), session, monkeypatch))
    one, two = found
    same(two, one)


def descendants(process: int) -> list[int]:
    """Return the processes that this one has started, and those that they have."""
    found = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found += [child, *descendants(child)]
    return found


def helpers(process: int) -> list[int]:
    spawned = [each for each in descendants(process) if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]
    return spawned if len(spawned) == 2 else []


@pytest.mark.campaign
@pytest.mark.parametrize("how", ["Ctrl-C", "helper killed"])
def test_under_a_launcher_no_process_outlives_the_command(how: str, tmp_path: Path, standin_source: None) -> None:
    command = [sys.executable, "-m", "sweep", "-m", "hydra/launcher=local", "devices=2", "device=cpu", "epochs=100000"]
    command += ["data=textures", "data.per_class=4", "pretrained=false", "seeds=1", "freeze_depth=1", "batch_size=20"]
    command += ["checkpoint.minutes=0", "optimizer.lr=0.001"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **pipes) as process:
        _, helper = started = wait_for(lambda: helpers(process.pid))
        wait_for(lambda: [*(tmp_path / "outputs").rglob("checkpoint.*.pt")])
        if how == "Ctrl-C":
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to every process
        else:
            os.kill(helper, signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=120)
    wait_for(lambda: not any(Path(f"/proc/{each}/stat").exists() for each in started))
    if how == "Ctrl-C":
        assert process.returncode == 130
        assert stderr.count("interrupted") == 2, "when it came, and at the end"
    else:
        assert process.returncode == 1
        assert "process 2 of 2 was ended by SIGKILL" in stdout + stderr
    assert "Traceback" not in stdout + stderr


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (["devices=0"], "devices=0: use 1 or more"),
        (["devices=65"], "devices=65: use 64 or less"),
        (["devices=2", "device=cuda:1"], "device=cuda:1: devices=2 takes the first of those that CUDA_VISIBLE_DEVICES"),
        (["devices=8", "batch_size=6"], "devices=8: there is no image for each in batch_size=6"),
    ],
)
def test_what_devices_cannot_be_is_said(settings: list[str], error: str, sweep: Callable[..., Done]) -> None:
    done = sweep("data=textures", *settings)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {error}")
    assert done.stderr.count("\n") == 1


def test_more_devices_than_there_are_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    machine.check("cuda", Precision.fp32, 2)
    with pytest.raises(UserError, match=r"^devices=4: torch sees 2 CUDA devices here; use devices=2 or fewer$"):
        machine.check("auto", Precision.fp32, 4)


def test_torchrun_is_told_what_to_use_instead(monkeypatch: pytest.MonkeyPatch, sweep: Callable[..., Done]) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = sweep("data=textures")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "devices=2" in done.stderr


def test_devices_are_no_part_of_what_a_point_is(tiny: Callable[..., Config]) -> None:
    assert plan(tiny(devices=2)).job == plan(tiny()).job


def test_gpus_are_dealt_out_to_jobs_in_groups() -> None:
    assert grouped(["0", "1", "2"], 1) == ["0", "1", "2"]
    assert grouped(["3", "5", "6", "7", "9"], 2) == ["3,5", "6,7"]
    assert grouped(["0"], 2) == []


@pytest.mark.skipif(torch.cuda.device_count() > 1, reason="there is such a device")
def test_what_a_helper_says_stands_for_what_became_of_the_first_process(tiny: Callable[..., Config]) -> None:
    work = crew.Work(plan(tiny(devices=2)), (0,), frozenset())
    first = crew.Crew(torch.device("cpu"), work)
    ours, theirs = CONTEXT.Pipe()
    crew.help_with(theirs, "nowhere", 1, work.on("cuda", 1))  # fails at once: there is no such device
    process = CONTEXT.Process(target=int)
    process.start()
    first.helpers.append(crew.Helper(process, ours))
    lost = RuntimeError("Connection closed by peer")
    with pytest.raises(RuntimeError, match=r"^process 2 of 2: device=cuda:1: torch sees"):
        first.explain(lost)
    first.close()
    first.helpers.clear()
    first.explain(lost)  # nobody has ended: it stays what it is
