"""What a process keeps from one point to the next: tasks, weights, frozen networks, similarities, scores.

A session is made once, passed down and thrown away with its tensors; a new one finds nothing of the last.
"""

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from sweep.config import Above, CheckpointConfig, DataConfig, Normalization, Which, frozen_blocks
from sweep.data import bands
from sweep.data import task as data
from sweep.data.types import Task
from sweep.errors import UserError
from sweep.models import build, stem, weights
from sweep.models.build import State
from sweep.models.frozen import Network, Normalize, fingerprint
from sweep.models.weights import Weights
from sweep.plan.point import Point
from sweep.plan.sources import Source
from sweep.runs import machine, pretrain
from sweep.runs.measure import Reference, Similarity
from sweep.runs.tick import Hear, unheard
from sweep.seeds import torch_seed
from sweep.train.team import ALONE, Team

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Certified(NamedTuple):
    """A network, and the hash of its frozen tensors from before any training."""

    network: Network
    certificate: str


class Counts(NamedTuple):
    """How many images a seed trains on, is chosen by and is tested on. fit: what seeds take the first two from."""

    train: int
    val: int
    test: int
    fit: int


class Session:
    """Everything is made when it is first asked for.

    hear: is told of every training's epochs. team: the processes that train members together.
    """

    def __init__(self, hear: Hear = unheard) -> None:
        self.hear = hear
        self.team: Team = ALONE
        self._tasks: dict[Hashable, Task | UserError] = {}
        self._counts: dict[Hashable, Counts] = {}
        self._weights: dict[str, Weights] = {}
        self._random: dict[tuple[str, int, int], State] = {}
        self._hashes: dict[tuple[str, str], str] = {}
        self._frozen: dict[Hashable, Certified] = {}
        self._references: dict[Hashable, Reference] = {}
        self._similarities: dict[Hashable, Similarity] = {}
        self._scores: dict[Hashable, dict[str, float]] = {}

    def device(self, point: Point) -> torch.device:
        """Return where the point is computed, from now on with its threads."""
        return machine.device(point.config.device, point.config.threads, point.config.devices)

    def task(self, config: DataConfig, image_size: int, max_gb: float = 0.0) -> Task:
        """Return the task; see data.load(). Its points share it, or the error that was found in it."""

        def load() -> Task | UserError:
            try:
                return data.load(config, image_size, max_gb)
            except UserError as error:
                return error

        found = _remembered(self._tasks, data.loaded_key(config, image_size), load, keep=2)  # images take memory
        if isinstance(found, UserError):
            raise found
        return found

    def counts(self, config: DataConfig, image_size: int, max_gb: float = 0.0) -> Counts:
        """Return the numbers of the task's images; raise UserError if there are too few."""

        def count() -> Counts:
            task = self.task(config, image_size, max_gb)
            train, val = data.draw(config, task, 0)
            return Counts(len(train), len(val), len(task.test.labels), len(task.fit.labels))

        return _remembered(self._counts, (repr(config), image_size), count)

    def weights(self, source: Source, device: torch.device, checkpoint: CheckpointConfig | None = None) -> Weights:
        """Return the source's weights, loaded, downloaded or trained on the device; the last source's are kept."""
        minutes = (checkpoint or CheckpointConfig()).minutes
        return _remembered(self._weights, source.key, lambda: self._load(source, device, minutes), keep=1)

    def _load(self, source: Source, device: torch.device, minutes: float | None) -> Weights:
        config, model, size = source.config, source.model, source.image_size
        if config.name == "pretrain":
            return pretrain.load(source, device, lambda: self.task(config.data, size), self.hear, minutes)
        if config.name == "imagenet":
            return weights.imagenet(config.weights, model, size)
        if config.name == "timm":
            return weights.of_timm(model, size, source.key)
        if config.name == "module":
            return weights.of_module(model, size)
        assert config.path is not None, "resolve() checks it"
        if config.n_classes is None:
            taken = f"taken as trained on {source.n_classes} classes; source.n_classes says otherwise"
            print(f"{config.path}: {taken}", flush=True)
        return weights.checkpoint(Path(config.path).expanduser(), model, size, config.key)

    def backbone(self, point: Point, seed: int) -> State:
        """Return the weights that the point starts from, without a head: pretrained, or random under this seed."""
        if point.config.pretrained:
            return self.weights(point.source, self.device(point), point.config.checkpoint).state
        return self._random_state(point, seed)

    def _random_state(self, point: Point, seed: int) -> State:
        model, size = point.facts.model, point.facts.image_size

        def make() -> State:
            return build.random_state(model, size, torch_seed(seed, "weights"))

        return _remembered(self._random, (model, size, seed), make, keep=4)

    def backbone_hash(self, point: Point, seed: int) -> str:
        """Return a hash of backbone()."""
        if not point.config.pretrained:
            return fingerprint(self.backbone(point, seed).values())
        key = (point.source.key, point.facts.model)
        if key not in self._hashes:
            self._hashes[key] = fingerprint(self.backbone(point, seed).values())
        return self._hashes[key]

    def network(self, point: Point, seed: int, depth: int | None = None, channels: int | None = None) -> Network:
        """Return the point's network before training; a seed gives the same weights and head at every depth.

        depth: how many of the first blocks are frozen, if not what the point says. channels: of its images, likewise.
        """
        config, facts, how = point.config, point.facts, point.config.freeze

        channels = channels or bands.count(config.data.channels)

        def built(state: State) -> tuple[list[torch.nn.Module], torch.nn.Module]:
            model = build.build(facts.model, state, facts.n_classes, facts.image_size, torch_seed(seed, "head"))
            stem.widen(model, channels)
            build.quicken(model, facts.model, facts.image_size)
            return build.blocks(model, facts.model, how.unit, facts.image_size)

        which = how.which if depth is None else Which.prefix
        depth = config.freeze_depth if depth is None else depth
        blocks, head = built(self.backbone(point, seed))
        frozen = frozen_blocks(which, depth, len(blocks))
        if how.above is Above.random:
            fresh, _ = built(self._random_state(point, seed))
            blocks = [own if kept else other for own, other, kept in zip(blocks, fresh, frozen, strict=True)]
        plain = config.data.normalize is Normalization.none
        mean, std = ((0.0,), (1.0,)) if plain else (point.source.mean, point.source.std)
        normalize = Normalize(*(stem.normalization(values, channels) for values in (mean, std)))
        return Network(normalize, blocks, head, frozen, how.batchnorm, how.precision).to(self.device(point))

    def frozen_network(self, point: Point, seed: int) -> Certified:
        """Return the network of a point of which only the head is trained, and that in copies; the last is kept."""

        def make() -> Certified:
            network = self.network(point, seed)
            return Certified(network, fingerprint(network.frozen_tensors()))

        if not point.config.pretrained:  # every seed has its own weights
            return make()
        facts = point.facts
        channels = bands.count(point.config.data.channels)
        key = (point.source.key, facts.model, facts.n_classes, facts.image_size, facts.normalization, channels)
        return _remembered(self._frozen, (*key, repr(point.config.freeze), point.config.device), make, keep=1)

    def similarity(self, point: Point) -> Similarity | None:
        """Return how far the task's images lie from the source's; None where the source's are not here."""
        config, facts, source = point.config, point.facts, point.source
        images = source.images
        if images is None:
            return None
        size = facts.image_size
        network = (source.key, facts.model, size, str(config.data.normalize), str(config.freeze.precision))

        def compare() -> Similarity:
            def refer() -> Reference:
                return Reference(self.network(point, 0, facts.n_blocks, bands.COLOUR), self.task(images, size))

            reference = _remembered(self._references, network, refer, keep=1)
            whole = self.network(point, 0, facts.n_blocks)
            return reference.compare(whole, self.task(config.data, size, config.cache.max_gb).train)

        return _remembered(self._similarities, (*network, point.images), compare)

    def scores(self, key: Hashable, make: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Return the transferability scores of these features; points that share the features share these."""
        return _remembered(self._scores, key, make)


def _remembered(store: dict[Key, Value], key: Key, make: Callable[[], Value], keep: int | None = None) -> Value:
    """Return the key's value, made if it is not there; of `keep` values at most, the oldest goes first."""
    if key not in store:
        while keep is not None and len(store) >= keep:
            store.pop(next(iter(store)))
        store[key] = make()
    return store[key]
