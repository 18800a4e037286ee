"""tracker=: the trainings of a sweep in TensorBoard, MLflow, Weights & Biases or Trackio, as soon as a point is done.

All of it is read from records, in a thread of its own: a tracker that fails or is slow is a warning, and no training
waits for it. What was shown is noted in the sweep's folder, so that a rerun shows nothing twice.
"""

import dataclasses
import functools
import importlib.util
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from sweep import paths
from sweep.cli import log
from sweep.config import Config, digest
from sweep.errors import UserError, unknown
from sweep.plan.point import Point
from sweep.report import record
from sweep.report.record import Record

PATIENCE = 60.0  # seconds that the end of a sweep waits for a tracker
NOTE = "tracked.json"
FILES = ("report.html", "report.md", "table.csv", "summary.csv")  # that are kept beside the runs
FINAL = ("val_accuracy", "test_accuracy", "test_balanced_accuracy", "test_loss", "train_seconds", "seconds_per_epoch")
FACTS = (
    *("task", "case", "source", "model", "pretrained", "freeze_depth", "n_blocks", "unit", "batchnorm", "which"),
    *("optimizer", "epochs", "batch_size", "precision", "augment", "image_size", "n_classes"),
)
# TensorBoard's table of runs opens on the first five of these by the alphabet; all settings are text beside it.
HPARAMS = ("freeze_depth", "lr", "model", "pretrained", "seed", "selected", "source", "status", "task")


@dataclass(frozen=True)
class Run:
    """One training as a tracker shows it.

    name: unique in its sweep, the same in any command. title: in words. id: of the same training in any command.
    group: how its point is called.
    params: settings and facts. curves: a value per epoch. final: after the last one; of the test, if it was chosen.
    """

    name: str
    title: str
    id: str
    group: str
    params: Mapping[str, str | int | float | bool]
    curves: Mapping[str, Sequence[float]]
    final: Mapping[str, float]


def runs(point: Point, label: str, root: Path) -> list[Run]:
    """Return what the point's records say, a run per seed and learning rate."""
    folder = record.job_folder(root, point.job)
    return [
        _run(member, label, root)
        for seed in point.config.seed_list
        for member in record.read_members(folder, seed) or []
        if member.lr is not None
    ]


def _run(member: Record, label: str, root: Path) -> Run:
    name = f"{member.job}/seed-{member.seed}-lr-{member.lr:g}"
    facts = {key: getattr(member.facts, key) for key in FACTS}
    params = {**facts, "seed": member.seed, "lr": member.lr, "status": member.status, "selected": bool(member.selected)}
    final = {key: getattr(member, key) for key in FINAL}
    return Run(
        name,
        f"{label}, seed {member.seed}, lr {member.lr:g}",
        digest([str(root.resolve()), name]),
        label,
        {key: value for key, value in params.items() if value is not None},
        {key: [value for value in each if value is not None] for key, each in member.curves.items()},
        {key: float(value) for key, value in final.items() if value is not None},
    )


class Tracker(Protocol):
    """Where runs are shown. All of it is called from one thread."""

    def show(self, run: Run) -> None:
        """Show this run in place of an earlier one of its id."""

    def end(self, files: Sequence[Path]) -> None:
        """Keep these files of the whole sweep, and write what is not yet written."""


class TensorBoard:
    """Event files in outputs/<name>/tensorboard: `tensorboard --logdir outputs/<name>/tensorboard`."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "tensorboard"

    def show(self, run: Run) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  optional
        from torch.utils.tensorboard.summary import hparams  # noqa: PLC0415

        shutil.rmtree(self.folder / run.name, ignore_errors=True)
        with SummaryWriter(str(self.folder / run.name)) as writer:
            named = {key: run.params[key] for key in HPARAMS if key in run.params}
            columns = {f"final/{key}": 0.0 for key in FINAL}  # those of the first run are the table's: name all of them
            for summary in hparams(named, columns):  # type: ignore[no-untyped-call]
                writer.file_writer.add_summary(summary)
            writer.add_text("settings", "\n".join(f"- {key}: {value}" for key, value in run.params.items()))
            for step, key, value in steps(run):
                writer.add_scalar(key, value, step)
            for key, value in run.final.items():
                writer.add_scalar(f"final/{key}", value)

    def end(self, files: Sequence[Path]) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

        shutil.rmtree(self.folder / "report", ignore_errors=True)
        with SummaryWriter(str(self.folder / "report")) as writer:
            for file in files:
                if file.suffix == ".md":
                    writer.add_text(file.stem, file.read_text(encoding="utf-8"))


class MLflow:
    """A run of the sweep with a child per training, in $MLFLOW_TRACKING_URI, else in outputs/<name>/mlflow."""

    def __init__(self, root: Path) -> None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer ones want to be asked for plain files
        from mlflow import MlflowClient  # noqa: PLC0415  optional

        own = (root / "mlflow").resolve().as_uri()
        self.client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or own)
        name = root.name
        found = self.client.get_experiment_by_name(name)
        self.experiment = found.experiment_id if found else self.client.create_experiment(name)
        self.parent = self._found("sweep") or self._made("sweep", name, {})

    def show(self, run: Run) -> None:
        from mlflow.entities import Metric, Param  # noqa: PLC0415

        while earlier := self._found(run.id):
            self.client.delete_run(earlier)
        tags = {"mlflow.parentRunId": self.parent, "point": run.group}
        made, now = self._made(run.id, run.title, tags), int(1000 * time.time())
        metrics = [Metric(key, value, now, step) for step, key, value in steps(run)]
        metrics += [Metric(f"final.{key}", value, now, 0) for key, value in run.final.items()]
        params = [Param(key, str(value)) for key, value in run.params.items()]
        for first in range(0, max(len(metrics), 1), 900):  # a call takes a thousand
            self.client.log_batch(made, metrics[first : first + 900], [] if first else params)
        self.client.set_terminated(made, "FINISHED" if run.params["status"] == "ok" else "FAILED")

    def end(self, files: Sequence[Path]) -> None:
        for file in files:
            self.client.log_artifact(self.parent, str(file))
        self.client.set_terminated(self.parent)

    def _found(self, own: str) -> str | None:
        found = self.client.search_runs([self.experiment], f"tags.freeze_sweep = '{own}'", max_results=1)
        return found[0].info.run_id if found else None

    def _made(self, own: str, name: str, tags: Mapping[str, str]) -> str:
        made = self.client.create_run(self.experiment, run_name=name, tags={"freeze_sweep": own, **tags})
        return str(made.info.run_id)


class WandB:
    """A run per training in a project called as the sweep; offline, in outputs/<name>/wandb, unless WANDB_MODE says."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def show(self, run: Run) -> None:
        with self._begun(id=run.id, name=run.title, group=run.group, config=dict(run.params)) as made:
            for step, values in by_step(run).items():
                made.log(values, step=step)
            made.summary.update({f"final/{key}": value for key, value in run.final.items()})

    def end(self, files: Sequence[Path]) -> None:
        import wandb  # noqa: PLC0415  optional

        own = digest([str(self.root.resolve()), "report"])
        with self._begun(id=own, name="report", job_type="report") as made:
            artifact = wandb.Artifact("report", "report")
            for file in files:
                artifact.add_file(str(file))
            made.log_artifact(artifact)

    def _begun(self, **settings: Any) -> Any:
        import wandb  # noqa: PLC0415

        return wandb.init(
            project=self.root.name,
            dir=str(self.root),
            mode=os.environ.get("WANDB_MODE", "offline"),
            resume="allow" if os.environ.get("WANDB_MODE") == "online" else None,
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
            **settings,
        )


class Trackio:
    """A run per training in a project called as the sweep, where Trackio keeps those of this machine.

    Written as its own importers write what has ended: its init() and finish() would print between the sweep's lines.
    """

    def __init__(self, root: Path) -> None:
        import trackio  # noqa: PLC0415  optional

        self.project, self.kept = root.name, trackio.SQLiteStorage
        self.kept.validate_project_name(self.project)

    def show(self, run: Run) -> None:
        self.kept.delete_run(self.project, run.title, run_id=run.id)
        rows = by_step(run)
        last = max(rows, default=0)
        rows[last] = rows.get(last, {}) | {f"final/{key}": value for key, value in run.final.items()}
        config = {**run.params, "_Group": run.group}
        self.kept.bulk_log(self.project, run.title, [*rows.values()], [*rows], config=config, run_id=run.id)

    def end(self, files: Sequence[Path]) -> None:
        """Keep no files: its runs hold numbers, and the report lies beside the sweep."""


def by_step(run: Run) -> dict[int, dict[str, float]]:
    """Return the curves' values of every epoch, the first being 1."""
    found: dict[int, dict[str, float]] = {}
    for step, key, value in steps(run):
        found.setdefault(step, {})[key] = value
    return found


def steps(run: Run) -> Iterable[tuple[int, str, float]]:
    """Yield (epoch, the first being 1, curve, value)."""
    for key, values in run.curves.items():
        for step, value in enumerate(values, start=1):
            yield step, key, value


TRACKERS: dict[str, tuple[str, Callable[[Path], Tracker]]] = {
    "tensorboard": ("tensorboard", TensorBoard),
    "mlflow": ("mlflow", MLflow),
    "wandb": ("wandb", WandB),
    "trackio": ("trackio", Trackio),
}  # what is imported, and what shows runs


def asked(config: Config) -> list[str]:
    """Return which trackers are asked for; raise UserError for one that there is not, or that is not installed."""
    given = config.tracker if isinstance(config.tracker, list) else [config.tracker] if config.tracker else []
    names = [str(name) for name in dict.fromkeys(given)]
    for name in names:
        if name not in TRACKERS:
            raise unknown("tracker", name, TRACKERS)
        if importlib.util.find_spec(TRACKERS[name][0]) is None:
            raise UserError(f"tracker={name}: it is not installed; pip install 'freeze-sweep[{name}]'")
    return names


class Trackers:
    """The trackers of one sweep. Nothing that goes wrong in them leaves this class, and nobody waits but end()."""

    def __init__(self, names: Sequence[str], root: Path) -> None:
        self.names, self.root = names, root
        self.made: dict[str, Tracker] = {}
        self.off: set[str] = set()
        self.noted: dict[str, str] = {}  # by tracker and run, what was shown of it
        self.queue: SimpleQueue[Callable[[str], None] | None] = SimpleQueue()
        self.thread = threading.Thread(target=self._work, daemon=True)  # one that hangs does not keep the process
        if names:
            self.thread.start()

    def show(self, point: Point, label: str) -> None:
        """Have the point's runs shown, those that were not shown before."""
        if self.names:  # else nobody would take it out
            found = functools.cache(lambda: runs(point, label, self.root))  # read when the first tracker shows them
            self.queue.put(lambda name: self._show(name, found()))

    def end(self, points: Sequence[Point], labels: Mapping[str, str]) -> None:
        """Show all of these points, keep the report's files, and wait until that is done; not for ever."""
        if not self.names:
            return
        for point in points:  # also those that were done before, or by a process that knows no tracker
            self.show(point, labels[point.job])
        files = [self.root / name for name in FILES if (self.root / name).exists()]
        self.queue.put(lambda name: self.made[name].end(files))
        self.queue.put(None)
        self.thread.join(PATIENCE)
        if self.thread.is_alive():
            log.say(f"warning: tracker={','.join(self.names)}: too slow; left undone", log.WARNING, sys.stderr)

    def _work(self) -> None:
        self.noted = dict((paths.read_json(self.root / NOTE) or {}).get("shown") or {})
        while do := self.queue.get():
            for name in self.names:
                if name not in self.off:
                    self._try(name, do)

    def _try(self, name: str, do: Callable[[str], None]) -> None:
        try:
            if name not in self.made:
                self.made[name] = TRACKERS[name][1](self.root)
            do(name)
        except Exception as error:
            self.off.add(name)
            line = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            log.say(f"warning: tracker={name} is given up ({line}); training goes on", log.WARNING, sys.stderr)

    def _show(self, name: str, found: Sequence[Run]) -> None:
        for run in found:
            content = digest(paths.finite(dataclasses.asdict(run)))
            if self.noted.get(f"{name} {run.name}") != content:
                self.made[name].show(run)
                self.noted[f"{name} {run.name}"] = content
        paths.write_json(self.root / NOTE, {"shown": self.noted})
