"""The story of one job: one point of the sweep, from its config to its records. Read this first.

A point is planned (names, ranges and files are checked, its identity is known; torch is not needed yet), then run:
load the task, take the weights, freeze the first blocks, run every image through them once, train each member on what
comes out, choose the learning rate on validation, read the test split once, write the records.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from filelock import FileLock

from sweep import __version__, interrupt
from sweep import config as settings
from sweep.config import Config
from sweep.data import task as data
from sweep.data.task import Labels, Split, Task
from sweep.errors import UserError
from sweep.models import build as models
from sweep.plan import catalog
from sweep.plan import sources as source
from sweep.plan.sources import Source, Weights
from sweep.report import record, table
from sweep.report.record import Record
from sweep.seeds import torch_seed

if TYPE_CHECKING:
    import torch

    from sweep.models.frozen import Network
    from sweep.run.measure import Reference, Similarity
    from sweep.train.loop import Curves, Examples, Recipe


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

    @property
    def prefix(self) -> int:
        """Return how many blocks are frozen before the first that is trained."""
        return _prefix(self.common)

    def missing_seeds(self, root: Path) -> list[int]:
        folder = record.job_folder(root, self.job)
        return [seed for seed in self.config.seed_list if not record.finished(folder, seed)]


def _prefix(common: Mapping[str, Any]) -> int:
    frozen = settings.frozen_blocks(settings.Which(common["which"]), common["freeze_depth"], common["n_blocks"])
    return [*frozen, False].index(False)


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
    src = source.resolve(config.source, config.model.full_name)
    size = src.image_size if config.data.image_size is None else config.data.image_size
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, image_size=size))
    catalog.check(config.model, config.freeze.unit, config.freeze_depth, size)
    spec = catalog.spec(config.model.full_name, size)
    source.check(src, config.model, size)
    data.check(config.data)
    source.check_disjoint(config.source, config.data)
    _check_device(config.device, config.precision)
    n_classes = len(data.classes(config.data))
    case = data.case(config.data, src.task, src.n_classes)
    task = data.label(config.data)

    identity = settings.identity(config)
    images = data.fingerprint(config.data)
    # What the images and the weights are, not where they lie.
    identity["data"] |= {"root": None, "label": None, "block": None, "case": None, "images": images}
    weights = "pretrained" if config.pretrained else "random"
    # Random weights take only their normalisation from the source.
    identity["source"] = [src.key if config.pretrained else weights, [*src.mean], [*src.std]]
    n_blocks = len(spec.block_names(config.freeze.unit))
    frozen = settings.frozen_blocks(config.freeze.which, config.freeze_depth, n_blocks)
    if not any(frozen):  # all ways to freeze nothing are one job
        identity["freeze"] |= dataclasses.asdict(
            settings.FreezeConfig(unit=config.freeze.unit, above=config.freeze.above)
        )
    if not config.pretrained or all(frozen):
        identity["freeze"]["above"] = str(settings.Above.pretrained)  # there is no other kind, or nothing above
    identity["results_version"] = record.RESULTS_VERSION
    readable = f"{task}-{config.model.full_name}-{weights}-depth{config.freeze_depth}"
    common = {
        "task": task,
        "case": str(case),
        "block": config.data.block,
        "source": src.task,
        "model": config.model.full_name,
        "n_classes": n_classes,
        "source_classes": src.n_classes,
        "source_image_size": src.image_size,
        "normalization": _normalization(config, src),
        "image_size": size,
        "pretrained": config.pretrained,
        "freeze_depth": config.freeze_depth,
        "n_blocks": n_blocks,
        "unit": str(config.freeze.unit),
        "batchnorm": str(config.freeze.batchnorm),
        "which": str(config.freeze.which),
        "above": str(config.freeze.above),
        "frozen_epochs": config.freeze.epochs,
        "optimizer": config.optimizer.name,
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "precision": str(config.precision),
        "prefix_precision": str(config.freeze.precision),
        "augment": str(config.data.augment),
    }
    return Point(config, src, images, f"{plain(readable)}-{settings.digest(identity)}", common)


def plain(name: str) -> str:
    """Return a name that every file system takes."""
    return "".join(char if char.isalnum() or char in "._-" else "_" for char in name)


def _normalization(config: Config, src: Source) -> str:
    if config.data.normalize is settings.Normalization.none:
        return "none"
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (src.mean, src.std))
    return f"mean {mean}, std {std}"


def fetch(points: Sequence[Point]) -> None:
    """Have the data and the weights of these points on this machine, and every image read, before the first trains.

    raises: UserError for what cannot be had or read, and for more training images than there are.
    """
    fetched = set()  # to look whether a download is whole means to read all of it
    read = set()
    for point in points:
        task = point.config.data
        if (task.name, task.root) not in fetched:
            data.DATASETS[task.name].fetch(task)
            fetched.add((task.name, task.root))
        if repr(task) not in read:
            assert task.image_size is not None, "plan() resolves it"
            found = data.load(task, task.image_size, point.config.cache.max_gb)
            data.subsample(task, found.train.labels, 0, found.classes)
            read.add(repr(task))
    for point in points:
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
            with interrupt.heeded():
                for seed, members in _train_seeds(point, owed, _sibling_depths(root, point)):
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


def _sibling_depths(root: Path, point: Point) -> frozenset[int]:
    """Return how long the prefixes are that the last multirun under root freezes of the same network, same task."""
    path = table.manifest_path(root)
    kin = _depths_by_kin(path, path.stat().st_mtime_ns) if path.exists() else {}
    return kin.get(point.job, frozenset())


@functools.lru_cache(maxsize=1)
def _depths_by_kin(manifest: Path, time_ns: int) -> dict[str, frozenset[int]]:
    points, _ = table.read_manifest(manifest.parent)
    kin = {each["job"]: [each["common"][key] for key in ("task", "model", "pretrained", "unit")] for each in points}
    depths: dict[str, set[int]] = {}
    for each in points:
        depths.setdefault(str(kin[each["job"]]), set()).add(_prefix(each["common"]))
    return {job: frozenset(depths[str(names)] - {0}) for job, names in kin.items()}


def _train_seeds(point: Point, seeds: Sequence[int], depths: Collection[int]) -> Iterator[tuple[int, list[Record]]]:
    """Yield (seed, its members): heads of all seeds together, deeper suffixes one seed after another."""
    if not seeds:
        return
    config = point.config
    device = _device(config.device)
    _set_precision(config.precision)
    assert config.data.image_size is not None, "plan() resolves it"
    task = data.load(config.data, config.data.image_size, config.cache.max_gb)
    chosen = {seed: data.subsample(config.data, task.train.labels, seed, task.classes) for seed in seeds}
    everything = np.unique(np.concatenate(list(chosen.values())))
    shared: Feed | None = None

    def feed(seed: int) -> Feed:
        nonlocal shared
        if not config.pretrained:
            return _feed(point, seed, task, chosen[seed], depths, device)
        if shared is None:  # one prefix for all seeds: every image that any of them sees goes through it once
            shared = _feed(point, seed, task, everything, depths, device)
        seconds, shared = shared.seconds, dataclasses.replace(shared, seconds=0.0)
        return dataclasses.replace(shared.select(chosen[seed]), seconds=seconds)

    if point.prefix == point.common["n_blocks"] and config.freeze.epochs is None:
        feeds = {seed: feed(seed) for seed in seeds}
        if all(each.mode == "cached" for each in feeds.values()):
            yield from _train_heads(point, feeds, device)
            return
        for seed, each in feeds.items():
            yield seed, _train_members(point, seed, each, None, device)
        return
    for seed in seeds:
        images = None if config.freeze.epochs is None else _images(task, chosen[seed], device)
        yield seed, _train_members(point, seed, feed(seed), images, device)


def _train_heads(point: Point, feeds: Mapping[int, Feed], device: torch.device) -> Iterator[tuple[int, list[Record]]]:
    """Yield (seed, its members), all trained together: the network's outputs are there, only linear layers are left."""
    from sweep.train import loop as train

    config, start = point.config, time.perf_counter()
    # Pretrained, all seeds have the same frozen weights; random, each has its own.
    frozen = {seed: _frozen_network(point, seed, device) for seed in feeds}
    networks = {seed: network for seed, (network, _) in frozen.items()}
    before = dict(frozen.values())
    if not train.is_head(next(iter(before)).suffix):
        for seed, feed in feeds.items():
            yield seed, _train_members(point, seed, feed, None, device)
        return
    heads = {seed: [_new_head(point, seed, network) for _ in config.lr_list] for seed, network in networks.items()}
    curves = train.fit_heads(
        list(heads.values()),
        [(feed.train, feed.val, feed.test if config.test_every_epoch else None) for feed in feeds.values()],
        recipe=_recipe(config),
        rates=config.lr_list,
        seeds=list(feeds),
    )
    together = len(feeds) * len(config.lr_list)
    seconds = (time.perf_counter() - start) / together
    after = {network: _certify(network) for network in before}
    for seed, of_seed in zip(feeds, curves, strict=True):
        network = networks[seed]
        trained = [
            _Trained(lr, head, curve, network.count(), seconds, before[network], after[network], together)
            for lr, head, curve in zip(config.lr_list, heads[seed], of_seed, strict=True)
        ]
        yield seed, _select(point, seed, feeds[seed], trained, device)


_frozen: dict[tuple[Any, ...], tuple[Network, str]] = {}  # the last pretrained network with all blocks frozen


def _frozen_network(point: Point, seed: int, device: torch.device) -> tuple[Network, str]:
    """Return a network of which only the head is trained, and that in copies, with its certificate from before."""
    if not point.config.pretrained:
        network = _network(point, seed, device)
        return network, _certify(network)
    config, common = point.config, point.common
    key = (point.source.key, *(common[each] for each in ("model", "n_classes", "image_size", "normalization")))
    key += (repr(config.freeze), device)
    if key not in _frozen:
        network = _network(point, seed, device)
        _frozen.clear()
        _frozen[key] = network, _certify(network)
    return _frozen[key]


def _new_head(point: Point, seed: int, network: Network) -> torch.nn.Module:
    """Return a copy of the network's suffix, a linear layer at its end, as this seed starts it."""
    suffix = copy.deepcopy(network.suffix)
    last: Any = [*suffix.modules()][-1]
    fresh = models.linear(last.in_features, point.common["n_classes"], torch_seed(seed, "head"))
    last.load_state_dict(fresh.state_dict())
    return suffix


def _train_members(point: Point, seed: int, feed: Feed, images: Feed | None, device: torch.device) -> list[Record]:
    """Return the members of one seed, trained one after another: one per learning rate.

    images: where everything is trained after freeze.epochs, what it is trained on then.
    """
    trained = [_train_member(point, seed, lr, feed, images, device)[0] for lr in point.config.lr_list]
    if images:
        feed = dataclasses.replace(images, mode=feed.mode, seconds=feed.seconds)
    return _select(point, seed, feed, trained, device)


def _train_member(
    point: Point, seed: int, lr: float, feed: Feed, images: Feed | None, device: torch.device
) -> tuple[_Trained, Network]:
    from sweep.train import loop as train

    config, recipe = point.config, _recipe(point.config)
    frozen_epochs = config.epochs if config.freeze.epochs is None else config.freeze.epochs
    network = _network(point, seed, device)
    model: torch.nn.Module = network.suffix if feed.mode == "cached" else network
    count, before = network.count(), _certify(network)
    _reset_peak(device)
    start = time.perf_counter()
    curves = train.Curves()
    if frozen_epochs:
        first = dataclasses.replace(recipe, epochs=frozen_epochs)
        curves = train.fit(model, *feed.splits(config.test_every_epoch), recipe=first, lr=lr, seed=seed)
    after = _certify(network)
    if images and not (curves.train_loss and curves.diverged):
        model = network = network.thawed()
        rest = dataclasses.replace(recipe, epochs=config.epochs - frozen_epochs)
        splits = images.splits(config.test_every_epoch)
        curves = curves.then(train.fit(model, *splits, recipe=rest, lr=lr, seed=seed, phase=" after the thaw"))
    return _Trained(lr, model, curves, count, time.perf_counter() - start, before, after, 1), network


def retrain(point: Point, seed: int, lr: float) -> tuple[Network, Curves]:
    """Return the network of one member, trained as run_point() trains it, and its curves."""
    config = point.config
    device = _device(config.device)
    _set_precision(config.precision)
    task = data.load(config.data, point.common["image_size"], config.cache.max_gb)
    chosen = data.subsample(config.data, task.train.labels, seed, task.classes)
    feed = _feed(point, seed, task, chosen, (), device)
    images = None if config.freeze.epochs is None else _images(task, chosen, device)
    trained, network = _train_member(point, seed, lr, feed, images, device)
    return network, trained.curves


@dataclass(frozen=True)
class _Trained:
    """A member after its training.

    model: what was trained, the network or its suffix. count: trainable and frozen parameters. before, after: hashes
    of what was frozen, from before the training and from its end, or from before the thaw.
    """

    lr: float
    model: torch.nn.Module
    curves: Curves
    count: tuple[int, int]
    seconds: float
    before: str
    after: str
    together: int


def _select(point: Point, seed: int, feed: Feed, trained: Sequence[_Trained], device: torch.device) -> list[Record]:
    """Return the members' records: the one that is best on validation is selected, and tested."""
    from sweep.train import loop as train

    members: list[Record] = []
    measured = _measured(point, feed, device)
    best: tuple[tuple[float, float], int] | None = None
    for place, each in enumerate(trained):
        if each.before != each.after:
            raise RuntimeError(f"frozen tensors changed while training: {each.before} before, {each.after} after")
        member = dataclasses.replace(_member(point, seed, each, feed, device), **measured)
        member.prefix_seconds = 0.0 if members else feed.seconds
        member.certificate = {
            "before": each.before,
            "after": each.after,
            "covers": "parameters" if point.config.freeze.batchnorm is settings.BatchNorm.track else "all",
        }
        members.append(member)
        curves = each.curves
        if not curves.diverged:
            # Highest validation accuracy, then lowest validation loss, then lowest learning rate.
            rank = (curves.val_accuracy[-1], -curves.val_loss[-1]) if curves.val_loss else (0.0, 0.0)
            if best is None or rank > best[0]:
                best = (rank, place)
    if best is not None:
        scores = train.evaluate(trained[best[1]].model, feed.test, point.config.precision)
        chosen = members[best[1]]
        chosen.selected = True
        chosen.test_accuracy = scores.accuracy
        chosen.test_balanced_accuracy = scores.balanced_accuracy
        chosen.test_loss = scores.loss
    return members


def _measured(point: Point, feed: Feed, device: torch.device) -> dict[str, Any]:
    """Return the columns that describe the task before any training: its similarity to the source, this depth's scores.

    The similarity is known where the source's images are here (source=pretrain), the scores where the frozen blocks'
    outputs are kept; neither means anything for random weights.
    """
    if not point.config.pretrained:
        return {}
    columns: dict[str, Any] = {}
    if point.source.task_images is not None:
        found = _similarity(point, device)
        place = found.placement
        if np.isfinite(place.position):
            columns |= {"similarity": place.position, "similarity_low": place.low, "similarity_high": place.high}
            columns["similar"] = place.similar
        columns["distances"] = {
            name + suffix: value
            for name, estimate in found.distances.items()
            for suffix, value in zip(("", "_low", "_high"), estimate, strict=True)
        }
    return columns | {"scores": feed.scores}


def score_depths(point: Point) -> list[dict[str, float]]:
    """Return the transferability scores of every depth of the source's network, from one pass; {} of the images."""
    from sweep.run import measure

    config, device, n_blocks = point.config, _device(point.config.device), point.common["n_blocks"]
    task = data.load(config.data, point.common["image_size"], config.cache.max_gb)
    index = data.subsample(config.data, task.train.labels, config.seed_list[0], task.classes)
    chosen = task.train.take(index[measure.evenly(len(index)).numpy()])
    depths = measure.encode(_network(point, 0, device, n_blocks), chosen.images)
    head = _source_weights(point.source, device).head
    return [{}] + [
        measure.feature_scores(features, chosen.labels, head if depth == n_blocks else None)
        for depth, features in enumerate(depths, start=1)
    ]


_similarities: dict[tuple[Any, ...], Similarity] = {}  # by source, model and task: the points of a sweep share them
_references: dict[tuple[Any, ...], Reference] = {}  # the last one


def _similarity(point: Point, device: torch.device) -> Similarity:
    from sweep.run.measure import Reference

    config, size = point.config, point.common["image_size"]
    assert point.source.task_images is not None, "asked for only where there are images"
    network = (point.source.key, config.model.full_name, size, str(config.data.normalize), str(config.freeze.precision))
    key = (*network, point.images)
    if key not in _similarities:
        whole = _network(point, 0, device, point.common["n_blocks"])
        if network not in _references:
            _references.clear()
            _references[network] = Reference(whole, point.source.task_images(size))
        target = data.load(config.data, size, config.cache.max_gb).train
        _similarities[key] = _references[network].compare(whole, target)
    return _similarities[key]


def _recipe(config: Config) -> Recipe:
    from sweep.train.loop import Recipe

    return Recipe(config.optimizer, config.epochs, config.batch_size, config.precision, config.data.augment)


@dataclass(frozen=True)
class Feed:
    """What the trained part is given.

    mode: none (nothing frozen), cached (outputs of the frozen blocks), or images, of which the frozen blocks are
    recomputed for every batch: tracked (their statistics move), augmented (no image comes twice), recomputed (the
    outputs would not fit the cache).
    """

    mode: str
    index: Labels  # of the task's training images, sorted
    train: Examples
    val: Examples
    test: Examples
    seconds: float  # spent in the frozen blocks before training
    scores: dict[str, float] = field(default_factory=dict)  # of the cached outputs, for these or more training images

    def splits(self, with_test: bool) -> tuple[Examples, Examples, Examples | None]:
        """Return what fit() is given."""
        return self.train, self.val, self.test if with_test else None

    def select(self, index: Labels) -> Feed:
        """Return the feed with these training images only; all of them must be in it."""
        import torch

        if np.array_equal(index, self.index):
            return self
        rows = torch.from_numpy(np.searchsorted(self.index, index))
        chosen = dataclasses.replace(
            self.train,
            rows=self.train.rows[rows.to(self.train.rows.device)],
            labels=self.train.labels[rows.to(self.train.labels.device)],
        )
        return dataclasses.replace(self, index=index, train=chosen)


def _feed(point: Point, seed: int, task: Task, index: Labels, depths: Collection[int], device: torch.device) -> Feed:
    """Return what the point's trained part is given, for these training images and all of the other splits.

    depths: other depths whose outputs will be asked for by other jobs, to be kept on the way.
    """
    from sweep.run import feature_cache as features
    from sweep.run import measure
    from sweep.train import loop as train

    config = point.config
    start = time.perf_counter()
    mode = _mode(point, seed, device)
    if mode != "cached":
        return _images(task, index, device, mode)
    splits = {"train": task.train.take(index), "val": task.val, "test": task.test}
    present = {name: split for name, split in splits.items() if len(split.labels)}
    everything = functools.partial(_network, point, seed, device, point.common["n_blocks"])
    key = _features_key(point, seed, present, device)
    pools = features.outputs(key, everything, present, point.prefix, depths, config.cache.max_gb)
    if pools is None:
        return _images(task, index, device, "recomputed")
    placed = {
        name: train.place(pools.get(name, pools["train"]), np.arange(len(split.labels)), split.labels, device)
        for name, split in splits.items()
    }
    seconds = time.perf_counter() - start
    scores: dict[str, float] = {}
    if config.pretrained:
        whole = point.prefix == point.common["n_blocks"]
        if (key, point.prefix) not in _scores:
            head = _source_weights(point.source, device).head if whole else None
            _scores[key, point.prefix] = measure.scores(placed["train"], head)
        scores = _scores[key, point.prefix]
    return Feed(mode, index, placed["train"], placed["val"], placed["test"], seconds, scores)


_scores: dict[tuple[str, int], dict[str, float]] = {}  # by features and depth: points that share them, share these


def _images(task: Task, index: Labels, device: torch.device, mode: str = "none") -> Feed:
    """Return the images themselves."""
    import torch

    from sweep.train import loop as train

    splits = {"train": task.train.take(index), "val": task.val, "test": task.test}
    placed = {
        name: train.place(torch.from_numpy(split.pool), split.rows, split.labels, device)
        for name, split in splits.items()
    }
    return Feed(mode, index, placed["train"], placed["val"], placed["test"], 0.0)


def _mode(point: Point, seed: int, device: torch.device) -> str:
    """Return how the frozen blocks are run: once, if they are a pure function and the images are always the same."""
    config = point.config
    if point.prefix == 0 or config.freeze.epochs == 0:
        return "none"
    if config.freeze.batchnorm is settings.BatchNorm.track and _network(point, seed, device).track:
        return "tracked"
    if config.data.augment is not settings.Augment.none:
        return "augmented"
    return "cached" if config.cache.max_gb > 0 else "recomputed"


def _features_key(point: Point, seed: int, splits: Mapping[str, Split], device: torch.device) -> str:
    """Return what names the outputs of the frozen blocks, whatever the depth, by content."""
    import torch

    config = point.config
    return settings.digest(
        {
            "model": config.model.full_name,
            "unit": str(config.freeze.unit),
            "weights": _weights_key(point, seed, device),
            "normalize": [str(config.data.normalize), [*point.source.mean], [*point.source.std]],
            "images": [point.images, config.data.image_size, data.DECODING],
            "rows": {name: hashlib.sha256(split.rows.tobytes()).hexdigest() for name, split in splits.items()},
            "precision": [str(config.freeze.precision), str(config.precision is settings.Precision.tf32), device.type],
            "torch": torch.__version__,
        }
    )


def _network(point: Point, seed: int, device: torch.device, depth: int | None = None) -> Network:
    """Return the point's network before training; a seed gives the same weights and head at every depth.

    depth: how many of the first blocks are frozen, if not what the point says.
    """
    from sweep.models import frozen as freeze

    config, name = point.config, point.config.model.full_name
    src, size = point.source, point.common["image_size"]

    def built(state: models.State) -> tuple[list[torch.nn.Module], torch.nn.Module]:
        model = models.build(name, state, point.common["n_classes"], size, torch_seed(seed, "head"))
        models.quicken(model, name, size)
        return models.blocks(model, name, config.freeze.unit)

    which = config.freeze.which if depth is None else settings.Which.prefix
    depth = config.freeze_depth if depth is None else depth
    blocks, head = built(_source_weights(src, device).state if config.pretrained else _random_state(name, size, seed))
    if config.freeze.above is settings.Above.random:
        fresh, _ = built(_random_state(name, size, seed))
        frozen = settings.frozen_blocks(which, depth, len(blocks))
        blocks = [own if kept else other for own, other, kept in zip(blocks, fresh, frozen, strict=True)]
    plain = config.data.normalize is settings.Normalization.none
    normalize = freeze.Normalize([0.0] * 3, [1.0] * 3) if plain else freeze.Normalize(src.mean, src.std)
    how = config.freeze
    frozen = settings.frozen_blocks(which, depth, len(blocks))
    return freeze.Network(normalize, blocks, head, frozen, how.batchnorm, how.precision).to(device)


_loaded: dict[str, Weights] = {}  # the last source of this process, by its key


def _source_weights(src: Source, device: torch.device) -> Weights:
    if src.key not in _loaded:
        _loaded.clear()
        _loaded[src.key] = src.load(str(device))
    return _loaded[src.key]


def _weights_key(point: Point, seed: int, device: torch.device) -> str:
    """Return a hash of the backbone's weights before training."""
    from sweep.models import frozen as freeze

    if point.config.pretrained:
        name = (point.source.key, point.config.model.full_name)
        if name not in _hashes:
            _hashes[name] = freeze.fingerprint(_source_weights(point.source, device).state.values())
        return _hashes[name]
    return freeze.fingerprint(_random_state(point.config.model.full_name, point.common["image_size"], seed).values())


_hashes: dict[tuple[str, str], str] = {}


@functools.lru_cache(maxsize=4)
def _random_state(model: str, image_size: int, seed: int) -> models.State:
    return models.random_state(model, image_size, torch_seed(seed, "weights"))


def _member(point: Point, seed: int, trained: _Trained, feed: Feed, device: torch.device) -> Record:
    trainable, frozen = trained.count
    curves = trained.curves
    diverged = curves.diverged
    source_accuracy = _source_weights(point.source, device).accuracy if point.config.pretrained else None
    return Record(
        job=point.job,
        status="diverged" if diverged else "ok",
        error=f"loss is not finite after epoch {len(curves.train_loss)}; use a smaller lr" if diverged else None,
        seed=seed,
        lr=trained.lr,
        selected=False,
        n_train=len(feed.train),
        n_val=len(feed.val),
        n_test=len(feed.test),
        val_accuracy=curves.val_accuracy[-1] if curves.val_accuracy and not diverged else None,
        loss=curves.train_loss[-1],
        trainable_params=trainable,
        frozen_params=frozen,
        prefix=feed.mode,
        together=trained.together,
        train_seconds=trained.seconds,
        seconds_per_epoch=float(np.mean(curves.epoch_seconds)),
        peak_memory_bytes=_peak_memory(device),
        device=_device_name(device),
        versions=_versions(),
        git_commit=_git_commit(),
        source_accuracy=source_accuracy,
        curves={key: [*values] for key, values in vars(curves).items() if values},
        **point.common,
    )


def _certify(network: Network) -> str:
    from sweep.models.frozen import fingerprint

    return fingerprint(network.frozen_tensors())


def _yaml(config: Config) -> str:
    plain = json.loads(json.dumps(dataclasses.asdict(config)))
    return str(yaml.safe_dump(plain, sort_keys=False))


def _check_device(device: str, precision: settings.Precision) -> None:
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and not (kind == "cuda" and number.isdigit())):
        raise UserError(f"device={device}: use auto, cpu, cuda or cuda:0")
    if kind == "cuda":
        import torch

        count = torch.cuda.device_count()
        if not torch.cuda.is_available() or int(number or 0) >= count:
            raise UserError(f"device={device}: torch sees {count} CUDA devices here; use device=auto or device=cpu")
    if precision is settings.Precision.tf32 and _device(device).type != "cuda":
        raise UserError("precision=tf32: only CUDA devices have it, and this job runs on a CPU; use fp32 or bf16")


@functools.cache
def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):  # same command, same numbers
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
    return torch.device(name)


def _set_precision(precision: settings.Precision) -> None:
    """Let CUDA round the inputs of products to TF32, or forbid it: torch by itself allows it for convolutions."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision is settings.Precision.tf32


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
    here = Path(__file__).resolve().parents[2]
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
