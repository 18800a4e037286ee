"""What a point has to compute: floating point operations (FLOPs) of training and of passes forward, from its settings.

Points differ by orders of magnitude: a head alone on kept outputs takes a hundredth of a whole network. So the time of
one point says little about another, unless both are seen as work.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sweep.config import Precision, Unit, Which, frozen_blocks
from sweep.models import build
from sweep.plan.point import Point
from sweep.runs import feed
from sweep.runs.session import Counts, Session

BYTES = {Precision.fp32: 4, Precision.fp16: 2, Precision.bf16: 2}  # of a number that is kept


@dataclass(frozen=True)
class Work:
    """What a point owes.

    kind: what points share that take about as long for one FLOP of training.
    feed: how the frozen blocks are run; see feed.Feed.
    trainings: one per seed and learning rate.
    epochs: of each, at most.
    steps, flops: of one epoch, with its validation; one_image: of a training image.
    forward: FLOPs without training: images through the frozen blocks, and models judged in the end.
    kept: bytes of the frozen blocks' outputs.
    """

    kind: Hashable
    feed: str
    trainings: int
    epochs: int
    steps: int
    flops: float
    one_image: float
    forward: float
    kept: float


def of(point: Point, counts: Counts, seeds: int, there: int = 0) -> Work:
    """Return the work of so many seeds of a point. there: how many blocks' outputs are kept already."""
    config, facts = point.config, point.facts
    costs = build.costs(facts.model, Unit(facts.unit), facts.image_size)
    head = costs[-1].flops / costs[-1].outputs * facts.n_classes
    flops = np.array([*(cost.flops for cost in costs[:-1]), head])
    frozen = np.array([*frozen_blocks(Which(facts.which), facts.freeze_depth, facts.n_blocks), False])
    prefix, seen = facts.prefix, counts.train + counts.val
    # One pass for all seeds, or with random weights one for each.
    images = min(counts.fit, seeds * seen) + counts.test if facts.pretrained else seeds * (seen + counts.test)
    kept = costs[prefix - 1].outputs * BYTES[config.freeze.precision] * images if prefix else 0
    how = feed.kind_of(point, lambda: True)
    if how == "cached" and kept > config.cache.max_gb * 1e9:
        how = "recomputed"
    cached = how == "cached"
    own = flops[prefix:]
    before = 0.0 if cached else float(flops[:prefix].sum())
    once = before + float(own.sum())
    # Backward, as much again for the weights of a trained block, and for the inputs of all but the first.
    step = once + float(own[~frozen[prefix:]].sum() + own[1:].sum())
    if config.freeze.epochs is not None:  # the rest of the epochs trains everything, on images
        share = max(0.0, 1 - config.freeze.epochs / config.epochs)
        step += share * (3 * float(flops.sum()) - step)
        once += share * (float(flops.sum()) - once)
    judged = counts.val + (counts.test if config.test_every_epoch else 0)
    trainings = seeds * len(config.lr_list)
    passed = float(flops[min(there, prefix) : prefix].sum()) * images if cached else 0.0
    return Work(
        kind=(
            *(facts.model, facts.unit, facts.image_size, tuple(frozen), how, facts.batch_size, facts.precision),
            *(facts.prefix_precision, facts.augment, facts.optimizer, facts.frozen_epochs),
        ),
        feed=how,
        trainings=trainings,
        epochs=config.epochs,
        steps=math.ceil(counts.train / config.batch_size),
        flops=counts.train * step + judged * once,
        one_image=step,
        forward=passed + (trainings * counts.val + seeds * counts.test) * once,
        kept=kept if cached else 0.0,
    )


def of_all(points: Sequence[Point], seeds: Mapping[str, int], session: Session) -> dict[str, Work]:
    """Return, by job, the work of points that run in this order: what one keeps, the next need not compute.

    seeds: by job, how many are owed.
    """
    there: dict[Hashable, int] = {}
    works = {}
    for point in points:
        facts, config = point.facts, point.config
        counts = session.counts(config.data, facts.image_size, config.cache.max_gb)
        works[point.job] = of(point, counts, seeds[point.job], there.get(facts.network, 0))
        if works[point.job].feed == "cached":
            there[facts.network] = max(there.get(facts.network, 0), facts.prefix)
    return works
