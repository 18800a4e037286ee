"""Trackers show what the records say, once; read back by each library's own reader, where it is installed."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Done

from sweep.cli import trackers
from sweep.cli.trackers import Run, Trackers, Trackio, asked, runs
from sweep.config import Config
from sweep.errors import UserError
from sweep.plan.point import Point, plan
from sweep.report import record
from sweep.report.record import Record

Tiny = Callable[..., Config]
LOSSES = [2.5, 1.25, 0.5]


@pytest.fixture
def point(tiny: Tiny) -> Point:
    return plan(tiny(freeze_depth=5, epochs=3, seeds=2))


@pytest.fixture
def root(point: Point, tmp_path: Path) -> Path:
    """Return a sweep's folder with the records of one point, of two seeds and a learning rate each."""
    folder = tmp_path / "mine"
    for seed in (0, 1):
        write(folder, point, seed, 0.75)
    (folder / "report.md").write_text("the answer")
    return folder


def write(root: Path, point: Point, seed: int, test: float) -> None:
    curves: dict[str, list[float | None]] = {"train_loss": [*LOSSES], "val_accuracy": [0.5, 0.625, 0.75]}
    member = Record(point.facts, point.job, "ok", seed, 0.001, selected=True, val_accuracy=0.75, test_accuracy=test)
    member.curves = curves
    record.write_members(record.job_folder(root, point.job), seed, [member])


def show(names: list[str], point: Point, root: Path) -> None:
    """Do what a command does: show a point as it ends, and all in the end."""
    made = Trackers(names, root)
    made.show(point, "the point")
    made.end([point], {point.job: "the point"})


class Kept:
    """A tracker that keeps what it is shown."""

    runs: list[Run]
    files: list[str]

    def __init__(self, root: Path) -> None:
        Kept.runs, Kept.files = [], []

    def show(self, run: Run) -> None:
        self.runs.append(run)

    def end(self, files: Any) -> None:
        self.files.extend(file.name for file in files)


def test_each_training_is_shown_once(point: Point, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trackers.TRACKERS, "kept", ("sys", Kept))
    show(["kept"], point, root)
    assert [run.name for run in Kept.runs] == [f"{point.job}/seed-{seed}-lr-0.001" for seed in (0, 1)]
    assert Kept.files == ["report.md"]
    first = Kept.runs[0]
    assert (first.params["freeze_depth"], first.params["seed"], first.params["lr"]) == (5, 0, 0.001)
    assert first.curves["train_loss"] == LOSSES
    assert first.final == {"val_accuracy": 0.75, "test_accuracy": 0.75}
    show(["kept"], point, root)
    assert Kept.runs == [], "a rerun shows nothing twice"
    write(root, point, 1, 0.5)
    show(["kept"], point, root)
    assert [(run.params["seed"], run.final["test_accuracy"]) for run in Kept.runs] == [(1, 0.5)]


def test_records_are_read_once_for_all_trackers(point: Point, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    original = record.read_members

    def counted(folder: Path, seed: int) -> list[Record] | None:
        reads.append(folder)
        return original(folder, seed)

    monkeypatch.setattr(record, "read_members", counted)
    for name in ("kept", "also"):
        monkeypatch.setitem(trackers.TRACKERS, name, ("sys", Kept))
    made = Trackers(["kept", "also"], root)
    made.end([point], {point.job: "the point"})
    assert len(reads) == 2, "once for each of two seeds"


def test_one_that_fails_or_is_slow_stops_nothing(
    point: Point, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fails(Kept):
        def show(self, run: Run) -> None:
            raise OSError("no\nconnection")

    class Hangs(Kept):
        def show(self, run: Run) -> None:
            time.sleep(60)

    for name, kind in (("fails", Fails), ("hangs", Hangs), ("kept", Kept)):
        monkeypatch.setitem(trackers.TRACKERS, name, ("sys", kind))
    monkeypatch.setattr(trackers, "PATIENCE", 0.3)
    show(["fails", "kept"], point, root)
    assert len(Kept.runs) == 2, "the other goes on"
    assert capsys.readouterr().err == "warning: tracker=fails is given up (OSError: no connection); training goes on\n"
    start = time.monotonic()
    show(["hangs"], point, root)
    assert time.monotonic() - start < 5
    assert capsys.readouterr().err == "warning: tracker=hangs: too slow; left undone\n"


def test_wrong_trackers_are_one_line(tiny: Tiny, sweep: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    done = sweep("tracker=tensorbord", "data=textures", "pretrained=false")
    assert done.returncode == 2
    assert done.stderr.startswith("error: tracker=tensorbord: unknown; ")
    monkeypatch.setitem(trackers.TRACKERS, "absent", ("no_such_module", Kept))
    with pytest.raises(UserError, match=r"^tracker=absent: it is not installed; pip install 'freeze-sweep\[absent\]'$"):
        asked(tiny(tracker=["absent"]))
    assert asked(tiny()) == []
    assert plan(tiny(tracker="wandb")).job == plan(tiny()).job


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_tensorboard(point: Point, root: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for test in (0.75, 0.5):
        write(root, point, 1, test)
        show(["tensorboard"], point, root)
    folder = root / "tensorboard" / point.job / "seed-1-lr-0.001"
    assert len(list(folder.iterdir())) == 1, "what was trained again takes the old one's place"
    found = reader.EventAccumulator(str(folder)).Reload()
    assert [(each.step, each.value) for each in found.Scalars("train_loss")] == list(enumerate(LOSSES, start=1))
    assert [each.value for each in found.Scalars("final/test_accuracy")] == [0.5]
    said = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert all(name.encode() in said for name in trackers.HPARAMS)
    columns = found.summary_metadata["_hparams_/experiment"].plugin_data.content
    assert all(f"final/{name}".encode() in columns for name in trackers.FINAL), "also those that this run lacks"
    (settings,) = found.Tensors("settings/text_summary")
    assert "- epochs: 3" in settings.tensor_proto.string_val[0].decode()
    text = reader.EventAccumulator(str(root / "tensorboard/report")).Reload()
    assert text.Tags()["tensors"] == ["report/text_summary"]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_mlflow(point: Point, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for test in (0.75, 0.5):
        write(root, point, 1, test)
        show(["mlflow"], point, root)
    client = mlflow.MlflowClient((root / "mlflow").as_uri())
    found = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    (parent,) = [each for each in found if each.info.run_name == "mine"]
    children = {each.data.params["seed"]: each for each in found if each is not parent}
    assert sorted(children) == ["0", "1"]
    assert len(found) == 3, "a rerun doubles none"
    child = children["1"]
    assert child.info.run_name == "the point, seed 1, lr 0.001"
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.metrics["final.test_accuracy"] == 0.5
    history = client.get_metric_history(child.info.run_id, "train_loss")
    assert [(each.step, each.value) for each in history] == list(enumerate(LOSSES, start=1))
    assert {each.info.status for each in found} == {"FINISHED"}
    assert [each.path for each in client.list_artifacts(parent.info.run_id)] == ["report.md"]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_wandb(point: Point, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for _ in range(2):
        show(["wandb"], point, root)
    wandb.teardown()  # as at the end of a process: all is written
    runs: dict[str, list[Any]] = {}
    for file in (root / "wandb").glob("offline-run-*/*.wandb"):
        said = offline_records(file.read_bytes())
        (name,) = {each.run.display_name for each in said if each.HasField("run")}
        runs.setdefault(name, []).append(said)
    names = [f"the point, seed {seed}, lr 0.001" for seed in (0, 1)]
    assert [len(runs[name]) for name in names] == [1, 1], "a rerun doubles none"
    (said,) = runs[names[0]]
    items = [item for each in said if each.HasField("history") for item in each.history.item]
    losses = [float(each.value_json) for each in items if "train_loss" in (each.key, *each.nested_key)]
    assert losses == LOSSES
    begun = [each.run for each in said if each.HasField("run")]
    assert {each.key: each.value_json for run in begun for each in run.config.update}["freeze_depth"] == "5"
    ids = {each.run.run_id for run in runs["report"] for each in run if each.HasField("run")}
    assert len(ids) == 1, "the report of a rerun takes the place of the first"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_trackio(
    point: Point, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio")
    for test in (0.75, 0.5):
        write(root, point, 1, test)
        show(["trackio"], point, root)
    other = Trackio(tmp_path / "elsewhere" / "mine")
    (twin,) = [run for run in runs(point, "the point", root) if run.params["seed"] == 1]
    other.show(dataclasses.replace(twin, id="of another folder"))
    assert capsys.readouterr().out == "", "it says nothing between the sweep's lines"
    found = {(run.name, run.id): run for run in trackio.Api().runs("mine")}
    names = [f"the point, seed {seed}, lr 0.001" for seed in (0, 1)]
    assert sorted(name for name, _ in found) == [*names, names[1]], (
        "a rerun doubles none, and takes nobody else's place"
    )
    run = found[names[1], twin.id]
    assert (run.config["freeze_depth"], run.config["lr"]) == (5, 0.001)
    rows = trackio.SQLiteStorage.get_logs("mine", run.name, run_id=run.id)
    assert [(row["step"], row["train_loss"]) for row in rows] == list(enumerate(LOSSES, start=1))
    assert [row.get("final/test_accuracy") for row in rows] == [None, None, 0.5]


def offline_records(content: bytes) -> list[Any]:
    """Return what a file of an offline run says: a log as LevelDB writes it, after 7 bytes of its own."""
    from wandb.proto.wandb_internal_pb2 import Record as Said  # noqa: PLC0415

    found, part, place = [], b"", 7
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # the rest of a block is empty
            place += 32768 - place % 32768
            continue
        size, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        part += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            found.append(Said.FromString(part))
            part = b""
    return found


def test_where_none_is_asked_for_nothing_is_left(point: Point, root: Path) -> None:
    before = sorted(root.rglob("*"))
    show([], point, root)
    assert sorted(root.rglob("*")) == before
