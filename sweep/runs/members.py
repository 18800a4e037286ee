"""The members of a job: trained alone or together, the best chosen on validation and tested once, all recorded."""

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from sweep.config import BatchNorm, Config
from sweep.models import build
from sweep.models.frozen import Network, fingerprint
from sweep.plan.point import Point
from sweep.report import record
from sweep.report.record import Record
from sweep.runs import machine
from sweep.runs.feed import Feed
from sweep.runs.session import Session
from sweep.runs.tick import Tick, telling
from sweep.seeds import torch_seed
from sweep.train.examples import Examples
from sweep.train.heads import fit_heads, is_head
from sweep.train.loop import Curves, Recipe, Scores, evaluate, fit, share
from sweep.train.resume import Checkpoint, Slot


@dataclass(frozen=True)
class Trained:
    """A member after its training.

    model: what was trained, the network or its suffix.
    count: trainable and frozen parameters.
    before, after: hashes of what was frozen, from before the training and from its end, or from before the thaw.
    together: how many members were trained at once. devices: how many have trained this one.
    """

    lr: float
    model: nn.Module
    curves: Curves
    count: tuple[int, int]
    seconds: float
    before: str
    after: str
    together: int = 1
    devices: int = 1


class Chosen(NamedTuple):
    """One seed's members, and what the selected one makes of the test images; None if all have diverged."""

    members: list[Record]
    tested: Scores | None


def train_alone(
    session: Session, point: Point, seed: int, feeds: tuple[Feed, Feed | None], checkpoint: Checkpoint | None = None
) -> Chosen:
    """Return the members of one seed, trained one after another: one per learning rate.

    feeds: what they are trained on; and after freeze.epochs, where everything is trained then.
    checkpoint: where they are kept until they are all trained.
    """
    feed, images = feeds

    def train(lr: float) -> Trained:
        return train_member(session, point, (seed, lr), feeds, checkpoint)[0]

    trained = [train(lr) for lr in point.config.lr_list]
    while (lr := next_rate(point.config, trained)) is not None:
        trained.append(train(lr))
    if images:
        feed = dataclasses.replace(images, kind=feed.kind, seconds=feed.seconds)
    return _select(session, point, seed, feed, trained)


def train_together(
    session: Session, point: Point, feeds: Mapping[int, Feed], checkpoint: Checkpoint | None = None
) -> Iterator[tuple[int, Chosen]]:
    """Yield (seed, its members), all trained at once: the network's outputs are there, only linear layers are left."""
    config, start = point.config, time.perf_counter()
    # Pretrained, all seeds have the same frozen weights; random, each has its own.
    frozen = {seed: session.frozen_network(point, seed) for seed in feeds}
    if not is_head(next(iter(frozen.values())).network.suffix):
        for seed, feed in feeds.items():
            yield seed, train_alone(session, point, seed, (feed, None), checkpoint)
        return
    trained: dict[int, list[Trained]] = {seed: [] for seed in feeds}
    wanted = dict.fromkeys(feeds, config.lr_list)
    while wanted:
        heads = [[_new_head(point, seed, frozen[seed].network) for _ in rates] for seed, rates in wanted.items()]
        splits = [feeds[seed].splits(config.test_every_epoch) for seed in wanted]
        together = sum(map(len, heads))
        what = f"{together} heads at once"
        told = _told(session, point, Tick(point.job, what, config.epochs, len(splits[0].train), together))
        rates = list(wanted.values())
        slot = Slot(checkpoint, f"{wanted}, {[certified.certificate for certified in frozen.values()]}", told)
        curves = fit_heads(heads, splits, recipe_of(point), rates=rates, seeds=list(wanted), slot=slot)
        seconds, start = (time.perf_counter() - start) / together, time.perf_counter()
        networks = {frozen[seed].network for seed in wanted}
        after = {network: fingerprint(network.frozen_tensors()) for network in networks}
        for seed, own, new_heads, their_curves in zip(wanted, rates, heads, curves, strict=True):
            network, before = frozen[seed]
            trained[seed] += [
                Trained(lr, head, curve, network.count(), seconds, before, after[network], together)
                for lr, head, curve in zip(own, new_heads, their_curves, strict=True)
            ]
        wanted = {seed: [lr] for seed in wanted if (lr := next_rate(config, trained[seed])) is not None}
    for seed, of_seed in trained.items():
        yield seed, _select(session, point, seed, feeds[seed], of_seed)


def next_rate(config: Config, trained: Sequence[Trained]) -> float | None:
    """Return the learning rate to try next: half a decade from the best, on a side where none lies as near.

    None where both sides were tried, where no choice was asked for, or where optimizer.extend allows no more: it counts
    the rates beyond either end of those that were given. If all have diverged, a lower one is next.
    """
    given, trained = config.lr_list, sorted(trained, key=_by_rate)
    if len(given) < 2 or not config.optimizer.extend:
        return None
    tried, best = [each.lr for each in trained], _best(trained)
    for way in (-1, 1) if best is not None else (-1,):
        place = best or 0
        rate, beside = half_decade(tried[place], way), tried[place + 1 :] if way > 0 else tried[:place]
        if any(way * each <= way * rate for each in beside):
            continue
        outside = [each for each in tried if (each < given[0] if way < 0 else each > given[-1])]
        if given[0] <= rate <= given[-1] or len(outside) < config.optimizer.extend:
            return rate
    return None


def half_decade(rate: float, way: int) -> float:
    """Return the next of ..., 0.001, 0.003, 0.01, ... on that side of the rate, at least a third of a decade away.

    >>> half_decade(0.003, 1), half_decade(0.0003, -1), half_decade(0.0005, 1)
    (0.01, 0.0001, 0.003)
    """
    series = [float(f"{digit}e{power}") for power in range(-12, 7) for digit in (1, 3)]
    return min((each for each in series if way * math.log10(each / rate) > 1 / 3), key=lambda each: abs(each - rate))


def _by_rate(trained: Trained) -> float:
    return trained.lr


def _best(trained: Sequence[Trained]) -> int | None:
    """Return which is best on validation, of equals the first; None if all have diverged."""
    ranks = {number: _rank(each.curves) for number, each in enumerate(trained) if not each.curves.diverged}
    return max(ranks, key=ranks.__getitem__) if ranks else None


def train_member(
    session: Session,
    point: Point,
    member: tuple[int, float],
    feeds: tuple[Feed, Feed | None],
    checkpoint: Checkpoint | None = None,
) -> tuple[Trained, Network]:
    """Return one member (seed, learning rate) after its training, and its whole network; see train_alone()."""
    seed, lr = member
    feed, images = feeds
    config, device, team = point.config, session.device(point), session.team
    recipe = dataclasses.replace(recipe_of(point), team=team)
    team.call(seed, lr)
    frozen_epochs = config.epochs if config.freeze.epochs is None else config.freeze.epochs
    network = session.network(point, seed)
    model: nn.Module = network.suffix if feed.kind == "cached" else network
    count, before = network.count(), fingerprint(network.frozen_tensors())
    machine.reset_peak_memory(device)
    start = time.perf_counter()
    curves = Curves()
    begun = Tick(point.job, f"seed {seed}, lr {lr:g}", config.epochs, len(feed.train))
    if frozen_epochs:
        first, told = dataclasses.replace(recipe, epochs=frozen_epochs), _told(session, point, begun)
        slot = Slot(checkpoint, f"seed {seed}, lr {lr!r}, {feed.kind}, {before}", told)
        curves = fit(model, feed.splits(config.test_every_epoch), first, lr=lr, seed=seed, slot=slot)
    after = fingerprint(network.frozen_tensors())
    if images and not (curves.train_loss and curves.diverged):
        model = network = network.thawed()
        rest = dataclasses.replace(recipe, epochs=config.epochs - frozen_epochs, phase=" after the thaw")
        told = _told(session, point, begun, len(curves.train_loss))
        slot = Slot(checkpoint, f"seed {seed}, lr {lr!r}{rest.phase}, {before}", told)
        later = fit(model, images.splits(config.test_every_epoch), rest, lr=lr, seed=seed, slot=slot)
        curves = curves.then(later)
    return Trained(lr, model, curves, count, time.perf_counter() - start, before, after, devices=team.size), network


def _told(session: Session, point: Point, begun: Tick, before: int = 0) -> Callable[[Curves], None]:
    device = session.device(point)
    return telling(session.hear, begun, lambda: machine.peak_memory(device), before)


def recipe_of(point: Point) -> Recipe:
    """Return how the point's members are trained, for all of its epochs."""
    config = point.config
    return Recipe(
        config.optimizer,
        config.epochs,
        config.batch_size,
        config.min_steps,
        config.precision,
        config.data.augment,
    )


def _new_head(point: Point, seed: int, network: Network) -> nn.Module:
    """Return a copy of the network's suffix, a linear layer at its end, as this seed starts it."""
    suffix = copy.deepcopy(network.suffix)
    last: Any = [*suffix.modules()][-1]
    fresh = build.linear(last.in_features, point.facts.n_classes, torch_seed(seed, "head"))
    last.load_state_dict(fresh.state_dict())
    return suffix


def _select(session: Session, point: Point, seed: int, feed: Feed, trained: Sequence[Trained]) -> Chosen:
    """Return the members' records, by learning rate: the one that is best on validation is selected, and tested."""
    trained = sorted(trained, key=_by_rate)
    measured = _measured(session, point, feed)
    members = [_record(session, point, seed, feed, each) for each in trained]
    for number, member in enumerate(members):
        vars(member).update(measured)
        member.prefix_seconds = 0.0 if number else feed.seconds
    best, scores = _best(trained), None
    if best is not None:
        scores = evaluate(trained[best].model, feed.test, point.config.precision)
        chosen = members[best]
        chosen.selected = True
        chosen.test_accuracy = share(scores.accuracy)
        chosen.test_balanced_accuracy = scores.balanced_accuracy
        chosen.test_loss = scores.loss
        chosen.test_correct = record.packed(scores.correct)
        chosen.test_classes = _classes(feed.test)
        if len(point.config.lr_list) > 1:
            chosen.lr_edge = {0: "lower", len(trained) - 1: "upper"}.get(best, "none")
    return Chosen(members, scores)


def _rank(curves: Curves) -> tuple[float, float]:
    """Return by what members are compared: highest validation accuracy, then lowest validation loss."""
    return (curves.val_accuracy[-1], -curves.val_loss[-1]) if curves.val_loss else (0.0, 0.0)


def _measured(session: Session, point: Point, feed: Feed) -> dict[str, Any]:
    """Return the columns that describe the task before any training: its similarity to the source, this depth's scores.

    The similarity is known where the source's images are here (source=pretrain), the scores where the frozen blocks'
    outputs are kept; neither means anything for random weights.
    """
    if not point.config.pretrained:
        return {}
    columns: dict[str, Any] = {"scores": feed.scores}
    found = session.similarity(point)
    if found is not None:
        where = found.placement
        if np.isfinite(where.position):
            columns |= {"similarity": where.position, "similarity_low": where.low, "similarity_high": where.high}
            columns["similar"] = where.similar
        columns["distances"] = {
            name + suffix: value
            for name, estimate in found.distances.items()
            for suffix, value in zip(("", "_low", "_high"), estimate, strict=True)
        }
    return columns


def _record(session: Session, point: Point, seed: int, feed: Feed, trained: Trained) -> Record:
    """Return the record of a member before it is chosen or not; raise RuntimeError if what was frozen has changed."""
    if trained.before != trained.after:
        raise RuntimeError(f"frozen tensors changed while training: {trained.before} before, {trained.after} after")
    curves, diverged, device = trained.curves, trained.curves.diverged, session.device(point)
    tracked = point.config.freeze.batchnorm is BatchNorm.track
    judged = None if diverged or not len(feed.val) else evaluate(trained.model, feed.val, point.config.precision)
    return Record(
        facts=point.facts,
        job=point.job,
        status="diverged" if diverged else "ok",
        error=f"loss is not finite after epoch {len(curves.train_loss)}; use a smaller lr" if diverged else None,
        seed=seed,
        lr=trained.lr,
        lr_given=" ".join(f"{lr:g}" for lr in point.config.lr_list),
        selected=False,
        n_train=len(feed.train),
        n_val=len(feed.val),
        n_test=len(feed.test),
        metric="accuracy" if feed.test.weights is None else "balanced_accuracy",
        val_accuracy=curves.val_accuracy[-1] if curves.val_accuracy and not diverged else None,
        loss=curves.train_loss[-1],
        trainable_params=trained.count[0],
        frozen_params=trained.count[1],
        feed=feed.kind,
        together=trained.together,
        epochs_trained=len(curves.train_loss),
        train_seconds=trained.seconds,
        seconds_per_epoch=float(np.mean(curves.epoch_seconds)),
        peak_memory_bytes=machine.peak_memory(device),
        device=machine.device_name(device, trained.devices),
        versions=machine.versions(),
        git_commit=machine.git_commit(),
        source_accuracy=session.weights(point.source, device).accuracy if point.config.pretrained else None,
        certificate={
            "before": trained.before,
            "after": trained.after,
            "covers": "parameters" if tracked else "all",
        },
        curves={key: [*values] for key, values in vars(curves).items() if values},
        val_correct=record.packed(judged.correct) if judged else None,
        val_classes=_classes(feed.val) if judged else None,
    )


def _classes(examples: Examples) -> str | None:
    """Return the classes of images that count differently, as records keep them."""
    return None if examples.weights is None else record.packed_numbers(examples.labels.cpu().numpy())
