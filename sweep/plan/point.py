"""A point of the sweep: from its config to its facts and its identity. No image is read, and torch is not needed."""

import dataclasses
from dataclasses import dataclass

from sweep import config as settings
from sweep.config import Above, Config, FreezeConfig, Normalization
from sweep.data import bands
from sweep.data import task as data
from sweep.paths import plain
from sweep.plan import catalog, checks, sources
from sweep.plan.facts import RESULTS_VERSION, Facts
from sweep.plan.sources import Source


@dataclass(frozen=True)
class Point:
    """A checked config, and what is known of it.

    config: as given, with the image size that follows from the source.
    source: where the pretrained weights come from.
    facts: the columns that all of its records share.
    images: names the data set and the classes kept, by content.
    job: the name of its folder; points with the same results have the same.
    """

    config: Config
    source: Source
    facts: Facts
    images: str
    job: str


def plan(config: Config) -> Point:
    """Return the point that this config describes; raise UserError if it cannot be run."""
    checks.check(config)
    config = dataclasses.replace(config, model=catalog.resolved(config.model))
    source = sources.resolve(config.source, config.model.full_name)
    size = source.image_size if config.data.image_size is None else config.data.image_size
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, image_size=size))
    catalog.check(config.model, config.freeze.unit, config.freeze_depth, size)
    sources.check(source, config.model, size)
    if config.pretrained:
        sources.check_learns(source)
    data.check(config.data)
    catalog.check_channels(config.model.full_name, size, bands.count(config.data.channels))
    sources.check_disjoint(config.source, config.data)
    facts = _facts(config, source, size)
    images = data.fingerprint(config.data)
    weights = "pretrained" if config.pretrained else "random"
    readable = f"{facts.task}-{facts.model.partition('@')[0]}-{weights}-depth{config.freeze_depth}"
    return Point(config, source, facts, images, f"{plain(readable)}-{_identity(config, source, facts, images)}")


def n_blocks(config: Config) -> int:
    """Return how many blocks there are to freeze, whatever freeze_depth is; raise UserError as plan()."""
    checks.check(config)
    config = dataclasses.replace(config, model=catalog.resolved(config.model))
    size = config.data.image_size or sources.resolve(config.source, config.model.full_name).image_size
    return len(catalog.spec(config.model.full_name, size).block_names(config.freeze.unit))


def _facts(config: Config, source: Source, image_size: int) -> Facts:
    name, unit = config.model.full_name, config.freeze.unit
    return Facts(
        task=data.label(config.data),
        case=str(data.case(config.data, source.task, source.n_classes)),
        source=source.task,
        model=name,
        n_classes=len(data.classes(config.data)),
        source_classes=source.n_classes,
        image_size=image_size,
        pretrained=config.pretrained,
        freeze_depth=config.freeze_depth,
        n_blocks=len(catalog.spec(name, image_size).block_names(unit)),
        unit=str(unit),
        batchnorm=str(config.freeze.batchnorm),
        optimizer=config.optimizer.name,
        epochs=config.epochs,
        batch_size=config.batch_size,
        precision=str(config.precision),
        prefix_precision=str(config.freeze.precision),
        augment=str(config.data.augment),
        matched_group=config.data.matched_group,
        which=str(config.freeze.which),
        above=str(config.freeze.above),
        frozen_epochs=config.freeze.epochs,
        source_image_size=source.image_size,
        normalization=_normalization(config, source),
    )


def _identity(config: Config, source: Source, facts: Facts, images: str) -> str:
    """Return a hash of all that the results depend on: what images and weights are, not where they lie."""
    identity = settings.identity(config)
    del identity["data"]["matched_group"]
    identity["data"] |= dict.fromkeys(("root", "factory", "file", "label", "block", "case")) | {"images": images}
    # Random weights take only their normalisation from the source.
    identity["source"] = [source.key if config.pretrained else "random", [*source.mean], [*source.std]]
    frozen = settings.frozen_blocks(config.freeze.which, config.freeze_depth, facts.n_blocks)
    if not any(frozen):  # all ways to freeze nothing are one job
        identity["freeze"] |= dataclasses.asdict(FreezeConfig(unit=config.freeze.unit, above=config.freeze.above))
    if not config.pretrained or all(frozen):
        identity["freeze"]["above"] = str(Above.pretrained)  # there is no other kind, or nothing above
    identity["results_version"] = RESULTS_VERSION
    return settings.digest(settings.as_first_named(identity))


def _normalization(config: Config, source: Source) -> str:
    if config.data.normalize is Normalization.none:
        return "none"
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (source.mean, source.std))
    return f"mean {mean}, std {std}"
