"""What the trained part of a network is given: images, or the outputs of the frozen blocks, computed once."""

import dataclasses
import functools
import hashlib
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from sweep.config import Augment, BatchNorm, Precision, digest
from sweep.data import task as data
from sweep.data.types import Labels, Split, Task
from sweep.plan.point import Point
from sweep.run import feature_cache, measure
from sweep.run.session import Session
from sweep.train.examples import Examples, Splits, place


@dataclass(frozen=True)
class Feed:
    """The inputs of what is trained.

    kind: none (nothing is frozen before it), cached (outputs of the frozen blocks), or images, of which the frozen
        blocks are recomputed for every batch: tracked (their statistics move), augmented (no image comes twice),
        recomputed (the outputs would not fit the cache).
    index: of the task's training images, sorted.
    seconds: spent in the frozen blocks before training.
    scores: transferability of the cached outputs, for these or more training images.
    """

    kind: str
    index: Labels
    train: Examples
    val: Examples
    test: Examples
    seconds: float = 0.0
    scores: dict[str, float] = field(default_factory=dict)

    def splits(self, with_test: bool) -> Splits:
        """Return what a training is given."""
        return Splits(self.train, self.val, self.test if with_test else None)

    def select(self, index: Labels) -> "Feed":
        """Return the feed with these training images only; all of them must be in it."""
        if np.array_equal(index, self.index):
            return self
        rows = torch.from_numpy(np.searchsorted(self.index, index))
        chosen = dataclasses.replace(
            self.train,
            rows=self.train.rows[rows.to(self.train.rows.device)],
            labels=self.train.labels[rows.to(self.train.labels.device)],
        )
        return dataclasses.replace(self, index=index, train=chosen)


@dataclass
class Feeder:
    """Makes the feeds of one point, which share what they can.

    chosen: the training images of every seed.
    depths: of other points of the sweep, whose outputs are kept on the way because these will ask for them.
    """

    session: Session
    point: Point
    task: Task
    chosen: Mapping[int, Labels]
    depths: Collection[int] = ()
    _shared: Feed | None = None

    def feed(self, seed: int) -> Feed:
        """Return what this seed's trained part is given."""
        if not self.point.config.pretrained:  # every seed has its own weights
            return self._made(seed, self.chosen[seed])
        if self._shared is None:  # one prefix for all seeds: every image that any of them sees goes through it once
            self._shared = self._made(seed, np.unique(np.concatenate(list(self.chosen.values()))))
        seconds, self._shared = self._shared.seconds, dataclasses.replace(self._shared, seconds=0.0)
        return dataclasses.replace(self._shared.select(self.chosen[seed]), seconds=seconds)

    def images(self, seed: int, kind: str = "none") -> Feed:
        """Return this seed's images themselves."""
        return self._images(self.chosen[seed], kind)

    def _images(self, index: Labels, kind: str) -> Feed:
        device = self.session.device(self.point)
        train, val, test = (
            place(torch.from_numpy(split.pool), split.rows, split.labels, device)
            for split in (self.task.train.take(index), self.task.val, self.task.test)
        )
        return Feed(kind, index, train, val, test)

    def _made(self, seed: int, index: Labels) -> Feed:
        """Return the feed of these training images and all of the other splits."""
        start = time.perf_counter()
        kind = self._kind(seed)
        if kind != "cached":
            return self._images(index, kind)
        point, session = self.point, self.session
        splits = {"train": self.task.train.take(index), "val": self.task.val, "test": self.task.test}
        present = {name: split for name, split in splits.items() if len(split.labels)}
        key = self._key(seed, present)
        request = feature_cache.Request(key, present, point.facts.prefix, self.depths, point.config.cache.max_gb)
        pools = feature_cache.outputs(request, functools.partial(session.network, point, seed, point.facts.n_blocks))
        if pools is None:
            return self._images(index, "recomputed")
        device = session.device(point)
        train, val, test = (
            place(pools.get(name, pools["train"]), np.arange(len(split.labels)), split.labels, device)
            for name, split in splits.items()
        )
        seconds = time.perf_counter() - start
        scores = self._scores(key, train) if point.config.pretrained else {}
        return Feed(kind, index, train, val, test, seconds, scores)

    def _kind(self, seed: int) -> str:
        """Return how the frozen blocks are run: once, if they are a pure function of images that stay the same."""
        config = self.point.config
        if self.point.facts.prefix == 0 or config.freeze.epochs == 0:
            return "none"
        if config.freeze.batchnorm is BatchNorm.track and self.session.network(self.point, seed).track:
            return "tracked"
        if config.data.augment is not Augment.none:
            return "augmented"
        return "cached" if config.cache.max_gb > 0 else "recomputed"

    def _key(self, seed: int, splits: Mapping[str, Split]) -> str:
        """Return what names the outputs of the frozen blocks, whatever the depth, by content."""
        point, config = self.point, self.point.config
        tf32 = str(config.precision is Precision.tf32)
        return digest(
            {
                "model": point.facts.model,
                "unit": point.facts.unit,
                "weights": self.session.backbone_hash(point, seed),
                "normalize": [str(config.data.normalize), [*point.source.mean], [*point.source.std]],
                "images": [point.images, point.facts.image_size, data.DECODING],
                "rows": {name: hashlib.sha256(split.rows.tobytes()).hexdigest() for name, split in splits.items()},
                "precision": [point.facts.prefix_precision, tf32, self.session.device(point).type],
                "torch": torch.__version__,
            }
        )

    def _scores(self, key: str, train: Examples) -> dict[str, float]:
        point, session = self.point, self.session

        def make() -> dict[str, float]:
            whole = point.facts.prefix == point.facts.n_blocks
            head = session.weights(point.source, session.device(point)).head if whole else None
            return measure.scores(train, head)

        return session.scores((key, point.facts.prefix), make)
