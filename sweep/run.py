"""The story of one job: one point of the sweep, from its config to its records. Read this first.

A point is planned (names, ranges and files are checked, its identity is known; torch is not needed yet), then run:
load the task, take the weights, freeze the first blocks, run every image through them once, train each member on what
comes out, choose the learning rate on validation, read the test split once, write the records.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from filelock import FileLock

from sweep import __version__, data, models, record, source
from sweep import config as settings
from sweep.config import Config, UserError
from sweep.data import Labels, Task
from sweep.record import Record
from sweep.seeds import torch_seed
from sweep.source import Source, Weights

if TYPE_CHECKING:
    import torch

    from sweep.freeze import Network
    from sweep.train import Curves, Examples


@dataclass(frozen=True)
class Point:
    """A checked config and its identity.

    images: names the data set and the classes kept, by content. job: the name of its folder. common: the columns that
    all its records share.
    """

    config: Config
    source: Source
    images: str
    job: str
    common: dict[str, Any]

    def missing_seeds(self, root: Path) -> list[int]:
        folder = record.job_folder(root, self.job)
        return [seed for seed in self.config.seed_list if not record.finished(folder, seed)]


@dataclass(frozen=True)
class Outcome:
    """What run_point() did. error: one line if the point has no result for some of its seeds."""

    trained: int  # members
    seconds: float
    error: str | None = None
    test_accuracy: float | None = None  # mean over seeds


def plan(config: Config) -> Point:
    """Return the point that this config describes; raise UserError if it cannot be run. Reads no image."""
    settings.check(config)
    if config.model.name not in models.MODELS:
        raise settings.unknown("model.name", config.model.name, models.MODELS)
    src, spec = source.resolve(config.source, config.model.name), models.MODELS[config.model.name]
    size = src.image_size if config.data.image_size is None else config.data.image_size
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, image_size=size))
    models.check(config.model, config.freeze.unit, config.freeze_depth, size)
    source.check(src, config.model, size)
    data.check(config.data)
    source.check_disjoint(config.source, config.data)
    _check_device(config.device)
    n_classes = len(data.classes(config.data))
    case = data.case(config.data, src.task, src.n_classes)
    task = data.label(config.data)

    identity = settings.identity(config)
    images = data.fingerprint(config.data)
    # What the images and the weights are, not where they lie.
    identity["data"] |= {"root": None, "label": None, "case": None, "images": images}
    weights = "pretrained" if config.pretrained else "random"
    # Random weights take only their normalisation from the source.
    identity["source"] = [src.key if config.pretrained else weights, [*src.mean], [*src.std]]
    if config.freeze_depth == 0:  # no frozen block has statistics, so both policies are one job
        identity["freeze"]["batchnorm"] = str(settings.BatchNorm.frozen)
    identity["results_version"] = record.RESULTS_VERSION
    readable = f"{task}-{config.model.name}-{weights}-depth{config.freeze_depth}"
    plain = "".join(char if char.isalnum() or char in "._-" else "_" for char in readable)
    common = {
        "task": task,
        "case": str(case),
        "source": src.task,
        "model": config.model.name,
        "n_classes": n_classes,
        "source_classes": src.n_classes,
        "image_size": size,
        "pretrained": config.pretrained,
        "freeze_depth": config.freeze_depth,
        "n_blocks": len(spec.block_names(config.freeze.unit)),
        "unit": str(config.freeze.unit),
        "batchnorm": str(config.freeze.batchnorm),
        "optimizer": config.optimizer.name,
        "epochs": config.epochs,
        "batch_size": config.batch_size,
    }
    return Point(config, src, images, f"{plain}-{settings.digest(identity)}", common)


def fetch(points: Sequence[Point]) -> None:
    """Have the data and the weights of these points on this machine before the first of them trains."""
    fetched = set()  # to look whether a download is whole means to read all of it
    for point in points:
        task = point.config.data
        if (task.name, task.root) not in fetched:
            data.DATASETS[task.name].fetch(task)
            fetched.add((task.name, task.root))
        if point.config.pretrained:
            _source_weights(point.source, _device(point.config.device))


def run_point(point: Point, root: Path) -> Outcome:
    """Train what this point still owes under root, and leave records. Errors become a failure record, not an exception.

    Two processes never train one job at a time: the second waits, and then finds the records.
    """
    folder = record.job_folder(root, point.job)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    trained = 0
    with FileLock(folder / ".lock"):
        owed = point.config.seed_list if point.config.force else point.missing_seeds(root)
        record.clear_failure(folder)
        record.write_text(folder / "config.yaml", _yaml(point.config))
        try:
            for seed, members in _train_seeds(point, owed):
                record.write_members(folder, seed, members)
                trained += len(members)
        except Exception as caught:
            line = str(caught) if isinstance(caught, UserError) else f"{type(caught).__name__}: {caught}"
            line = " ".join(line.split())
            record.write_failure(folder, line, traceback.format_exc())
            return Outcome(trained, time.perf_counter() - start, line)
    by_seed = {seed: record.read_members(folder, seed) or [] for seed in point.config.seed_list}
    chosen = [member for members in by_seed.values() for member in members if member.selected]
    error = None
    if len(chosen) < len(by_seed):
        without = [seed for seed, members in by_seed.items() if not any(member.selected for member in members)]
        error = f"diverged: the loss of seed {', '.join(map(str, without))} is not finite; use a smaller optimizer.lr"
    accuracies = [member.test_accuracy for member in chosen if member.test_accuracy is not None]
    mean = float(np.mean(accuracies)) if accuracies else None
    return Outcome(trained, time.perf_counter() - start, error, mean)


def _train_seeds(point: Point, seeds: Sequence[int]) -> Iterator[tuple[int, list[Record]]]:
    """Yield (seed, its members), one seed after another."""
    if not seeds:
        return
    config = point.config
    device = _device(config.device)
    assert config.data.image_size is not None, "plan() resolves it"
    task = data.load(config.data, config.data.image_size)
    draw = functools.partial(data.subsample, config.data, task.train.labels, classes=task.classes)
    chosen = {seed: draw(seed=seed) for seed in seeds}
    shared = None
    for seed in seeds:
        index = chosen[seed]
        if config.pretrained:  # one prefix for all seeds: every image that any of them sees goes through it once
            if shared is None:
                everything = np.unique(np.concatenate(list(chosen.values())))
                shared = _feed(_network(point, seed, device), config, task, everything, device)
            feed = shared.select(index)
        else:
            feed = _feed(_network(point, seed, device), config, task, index, device)
        yield seed, _train_members(point, seed, feed, device)
        if shared is not None:
            shared = dataclasses.replace(shared, seconds=0.0)


def _train_members(point: Point, seed: int, feed: Feed, device: torch.device) -> list[Record]:
    """Return the members of one seed: one per learning rate, the best on validation selected and tested."""
    from sweep import train

    members: list[Record] = []
    best: tuple[tuple[float, float], int, torch.nn.Module] | None = None
    for lr in point.config.lr_list:
        network = _network(point, seed, device)
        model: torch.nn.Module = network.suffix if feed.mode == "cached" else network
        before = _certify(network)
        _reset_peak(device)
        start = time.perf_counter()
        curves = train.fit(
            model,
            feed.train,
            feed.val,
            feed.test if point.config.test_every_epoch else None,
            optimizer=point.config.optimizer,
            lr=lr,
            epochs=point.config.epochs,
            batch_size=point.config.batch_size,
            seed=seed,
        )
        seconds = time.perf_counter() - start
        after = _certify(network)
        if before != after:
            raise RuntimeError(f"frozen tensors changed while training: {before} before, {after} after")
        member = _member(point, seed, lr, feed, curves, network, device)
        member.train_seconds = seconds
        member.prefix_seconds = 0.0 if members else feed.seconds
        if point.config.pretrained:
            member.source_accuracy = _source_weights(point.source, device).accuracy
        member.certificate = {
            "before": before,
            "after": after,
            "covers": "parameters" if network.track else "all",
        }
        members.append(member)
        if not curves.diverged:
            # Highest validation accuracy, then lowest validation loss, then lowest learning rate.
            rank = (curves.val_accuracy[-1], -curves.val_loss[-1]) if curves.val_loss else (0.0, 0.0)
            if best is None or rank > best[0]:
                best = (rank, len(members) - 1, model)
    if best is not None:
        _, number, model = best
        scores = train.evaluate(model, feed.test)
        chosen = members[number]
        chosen.selected = True
        chosen.test_accuracy = scores.accuracy
        chosen.test_balanced_accuracy = scores.balanced_accuracy
        chosen.test_loss = scores.loss
    return members


@dataclass(frozen=True)
class Feed:
    """What the trained part is given. mode: none (nothing frozen), cached (prefix outputs), recomputed, tracked."""

    mode: str
    index: Labels  # of the task's training images, sorted
    train: Examples
    val: Examples
    test: Examples
    seconds: float  # spent in the prefix

    def select(self, index: Labels) -> Feed:
        """Return the feed with these training images only; all of them must be in it."""
        import torch

        from sweep.train import Examples

        if np.array_equal(index, self.index):
            return self
        rows = torch.from_numpy(np.searchsorted(self.index, index)).to(self.train.labels.device)
        chosen = Examples(self.train.inputs[rows], self.train.labels[rows])
        return dataclasses.replace(self, index=index, train=chosen)


def _feed(network: Network, config: Config, task: Task, index: Labels, device: torch.device) -> Feed:
    import torch

    from sweep import features
    from sweep.train import Examples

    splits = {
        "train": (task.train.images[index], task.train.labels[index]),
        "val": (task.val.images, task.val.labels),
        "test": (task.test.images, task.test.labels),
    }
    examples = {
        key: Examples(torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device))
        for key, (images, labels) in splits.items()
    }
    start = time.perf_counter()
    if len(network.prefix) == 0:
        mode = "none"
    elif network.track:
        mode = "tracked"
    elif sum(features.size_bytes(network, e.inputs) for e in examples.values()) > config.cache.max_gb * 1e9:
        mode = "recomputed"
    else:
        mode = "cached"
        examples = {key: Examples(features.encode(network, each.inputs), each.labels) for key, each in examples.items()}
    return Feed(mode, index, **examples, seconds=time.perf_counter() - start)


def _network(point: Point, seed: int, device: torch.device) -> Network:
    """Return the point's network before training; a seed gives the same weights and head at every depth."""
    from sweep import freeze

    config, name = point.config, point.config.model.name
    src, size = point.source, point.common["image_size"]
    state = _source_weights(src, device).state if config.pretrained else _random_state(name, size, seed)
    model = models.build(name, state, point.common["n_classes"], size, torch_seed(seed, "head"))
    blocks, head = models.blocks(model, name, config.freeze.unit)
    plain = config.data.normalize is settings.Normalization.none
    normalize = freeze.Normalize([0.0] * 3, [1.0] * 3) if plain else freeze.Normalize(src.mean, src.std)
    return freeze.Network(normalize, blocks, head, config.freeze_depth, config.freeze.batchnorm).to(device)


_loaded: dict[str, Weights] = {}  # the last source of this process, by its key


def _source_weights(src: Source, device: torch.device) -> Weights:
    if src.key not in _loaded:
        _loaded.clear()
        _loaded[src.key] = src.load(str(device))
    return _loaded[src.key]


@functools.lru_cache(maxsize=4)
def _random_state(model: str, image_size: int, seed: int) -> models.State:
    return models.random_state(model, image_size, torch_seed(seed, "weights"))


def _member(
    point: Point, seed: int, lr: float, feed: Feed, curves: Curves, network: Network, device: torch.device
) -> Record:
    trainable, frozen = network.count()
    diverged = curves.diverged
    return Record(
        job=point.job,
        status="diverged" if diverged else "ok",
        error=f"loss is not finite after epoch {len(curves.train_loss)}; use a smaller lr" if diverged else None,
        seed=seed,
        lr=lr,
        selected=False,
        n_train=len(feed.train),
        n_val=len(feed.val),
        n_test=len(feed.test),
        val_accuracy=curves.val_accuracy[-1] if curves.val_accuracy and not diverged else None,
        loss=curves.train_loss[-1],
        trainable_params=trainable,
        frozen_params=frozen,
        prefix=feed.mode,
        seconds_per_epoch=float(np.mean(curves.epoch_seconds)),
        peak_memory_bytes=_peak_memory(device),
        device=_device_name(device),
        versions=_versions(),
        git_commit=_git_commit(),
        curves={key: [*values] for key, values in vars(curves).items() if values},
        **point.common,
    )


def _certify(network: Network) -> str:
    from sweep.freeze import fingerprint

    return fingerprint(network.frozen_tensors())


def _yaml(config: Config) -> str:
    plain = json.loads(json.dumps(dataclasses.asdict(config)))
    return str(yaml.safe_dump(plain, sort_keys=False))


def _check_device(device: str) -> None:
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and not (kind == "cuda" and number.isdigit())):
        raise UserError(f"device={device}: use auto, cpu, cuda or cuda:0")
    if kind == "cuda":
        import torch

        count = torch.cuda.device_count()
        if not torch.cuda.is_available() or int(number or 0) >= count:
            raise UserError(f"device={device}: torch sees {count} CUDA devices here; use device=auto or device=cpu")


@functools.cache
def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):  # same command, same numbers
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
    return torch.device(name)


def _device_name(device: torch.device) -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads ({platform.machine()})"


def _reset_peak(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_memory(device: torch.device) -> int | None:
    import torch

    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@functools.cache
def _versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "numpy")}
    return {"freeze-sweep": __version__, "python": platform.python_version(), **found}


@functools.cache
def _git_commit() -> str | None:
    """Return the commit of the checkout that this code runs from, with "+" if it was changed; None if installed."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return None
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() or None
