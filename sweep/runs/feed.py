"""What the trained part of a network is given: images, or the outputs of the frozen blocks, computed once."""

import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from sweep.config import Augment, BatchNorm, Precision, digest
from sweep.data import task as data
from sweep.data.decoded import DECODING
from sweep.data.types import Fold, Labels, Split, Task
from sweep.plan.point import Point
from sweep.runs import feature_cache, measure
from sweep.runs.session import Session
from sweep.train.examples import Examples, Splits, place


@dataclass(frozen=True)
class Feed:
    """The inputs of what is trained.

    kind: none (nothing is frozen before it), cached (outputs of the frozen blocks), or images, of which the frozen
        blocks are recomputed for every batch: tracked (their statistics move), augmented (no image comes twice),
        recomputed (the outputs would not fit the cache).
    seconds: spent in the frozen blocks before training.
    scores: transferability of the cached outputs, for the training images.
    """

    kind: str
    train: Examples
    val: Examples
    test: Examples
    seconds: float = 0.0
    scores: dict[str, float] = field(default_factory=dict)

    def splits(self, with_test: bool) -> Splits:
        """Return what a training is given."""
        return Splits(self.train, self.val, self.test if with_test else None)


@dataclass(frozen=True)
class _Made:
    """What the feeds of several seeds are taken from.

    index: of the task's images, sorted. key: names the cached outputs by content. The rest: see Feed.
    """

    kind: str
    index: Labels
    fit: Examples
    test: Examples
    seconds: float = 0.0
    key: str = ""

    def part(self, places: Labels) -> Examples:
        """Return these of the task's images; all of them must be in the index."""
        rows = torch.from_numpy(np.searchsorted(self.index, places))
        fit = self.fit
        return dataclasses.replace(
            fit, rows=fit.rows[rows.to(fit.rows.device)], labels=fit.labels[rows.to(fit.labels.device)]
        )


@dataclass
class Feeder:
    """Makes the feeds of one point, which share what they can.

    chosen: the images of every seed.
    depths: of other points of the sweep, whose outputs are kept on the way because these will ask for them.
    """

    session: Session
    point: Point
    task: Task
    chosen: Mapping[int, Fold]
    depths: Collection[int] = ()
    _shared: _Made | None = None

    @property
    def thaws(self) -> bool:
        """Return whether the last epochs train everything, on the images themselves."""
        return self.point.config.freeze.epochs is not None

    def both(self, seed: int) -> tuple[Feed, Feed | None]:
        """Return what this seed's trained part is given, and after a thaw everything."""
        return self.feed(seed), self.images(seed) if self.thaws else None

    def feed(self, seed: int) -> Feed:
        """Return what this seed's trained part is given."""
        if not self.point.config.pretrained:  # every seed has its own weights
            return self._of(self._made(seed, [self.chosen[seed]]), seed)
        if self._shared is None:  # one prefix for all seeds: every image that any of them sees goes through it once
            self._shared = self._made(seed, list(self.chosen.values()))
        feed = self._of(self._shared, seed)
        self._shared = dataclasses.replace(self._shared, seconds=0.0)
        return feed

    def images(self, seed: int) -> Feed:
        """Return this seed's images themselves."""
        return self._of(self._images(_union([self.chosen[seed]]), "none"), seed)

    def _of(self, made: _Made, seed: int) -> Feed:
        train, val = self.chosen[seed]
        scores = self._scores(made, train) if made.key and self.point.config.pretrained else {}
        choosing, test = made.part(val), made.test
        if self.task.balanced:
            choosing, test = (each.balanced() if len(each) else each for each in (choosing, test))
        return Feed(made.kind, made.part(train), choosing, test, made.seconds, scores)

    def _images(self, index: Labels, kind: str) -> _Made:
        device = self.session.device(self.point)
        fit, test = (
            place(torch.from_numpy(split.pool), split.rows, split.labels, device)
            for split in (self.task.fit.take(index), self.task.test)
        )
        return _Made(kind, index, fit, test)

    def _made(self, seed: int, folds: Sequence[Fold]) -> _Made:
        """Return what the feeds of these folds are taken from."""
        start = time.perf_counter()
        kind = kind_of(self.point, lambda: self.session.network(self.point, seed).track)
        index = _union(folds)
        if kind != "cached":
            return self._images(index, kind)
        point, session = self.point, self.session
        splits = {"fit": self.task.fit.take(index), "test": self.task.test}
        key = self._key(seed, splits)
        request = feature_cache.Request(key, splits, point.facts.prefix, self.depths, point.config.cache.max_gb)
        pools = feature_cache.outputs(request, functools.partial(session.network, point, seed, point.facts.n_blocks))
        if pools is None:
            return self._images(index, "recomputed")
        device = session.device(point)
        fit, test = (
            place(pools[name], np.arange(len(split.labels)), split.labels, device) for name, split in splits.items()
        )
        return _Made(kind, index, fit, test, time.perf_counter() - start, key)

    def _key(self, seed: int, splits: Mapping[str, Split]) -> str:
        """Return what names the outputs of the frozen blocks, whatever the depth, by content."""
        point, config = self.point, self.point.config
        tf32 = str(config.precision is Precision.tf32)
        return digest(
            {
                "model": point.facts.model,
                "unit": [point.facts.unit, point.facts.n_blocks],
                "weights": self.session.backbone_hash(point, seed),
                "normalize": [str(config.data.normalize), [*point.source.mean], [*point.source.std]],
                "images": [point.images, point.facts.image_size, DECODING],
                "rows": {name: hashlib.sha256(split.rows.tobytes()).hexdigest() for name, split in splits.items()},
                "precision": [point.facts.prefix_precision, tf32, self.session.device(point).type],
                "torch": torch.__version__,
            }
        )

    def _scores(self, made: _Made, trained_on: Labels) -> dict[str, float]:
        """Return the scores of one seed's images: they say the same whichever other seeds are trained in the call."""
        point, session = self.point, self.session

        def make() -> dict[str, float]:
            whole = point.facts.prefix == point.facts.n_blocks
            head = session.weights(point.source, session.device(point)).head if whole else None
            return measure.scores(made.part(trained_on), head)

        images = hashlib.sha256(trained_on.tobytes()).hexdigest()
        return session.scores((made.key, point.facts.prefix, images), make)


def feeder(session: Session, point: Point, seeds: Sequence[int], depths: Collection[int]) -> Feeder:
    """Return what feeds these seeds of a point. depths: see Feeder."""
    config = point.config
    task = session.task(config.data, point.facts.image_size, config.cache.max_gb)
    return Feeder(session, point, task, {seed: data.draw(config.data, task, seed) for seed in seeds}, depths)


def kind_of(point: Point, has_statistics: Callable[[], bool]) -> str:
    """Return how the frozen blocks are run: once, if they are a pure function of images that stay the same.

    has_statistics: tells, where freeze.batchnorm=track, whether any frozen block has some to track.
    """
    config = point.config
    if point.facts.prefix == 0 or config.freeze.epochs == 0:
        return "none"
    if config.freeze.batchnorm is BatchNorm.track and has_statistics():
        return "tracked"
    if config.data.augment is not Augment.none:
        return "augmented"
    return "cached" if config.cache.max_gb > 0 else "recomputed"


def _union(folds: Sequence[Fold]) -> Labels:
    """Return every image of these folds once, sorted."""
    return np.unique(np.concatenate([part for fold in folds for part in fold]))
