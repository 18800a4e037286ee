"""What one point of the sweep is. Dataclasses own types, units and checks; the YAML in conf/ owns choices.

Every default stands here, once. Nothing here knows models, data sets or sources: their names are looked up in tables of
their own, whose modules make the checks that need them.
"""

import dataclasses
import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sweep.errors import UserError, unknown


class Unit(StrEnum):
    stage = "stage"
    block = "block"


class BatchNorm(StrEnum):
    frozen = "frozen"
    track = "track"


class Which(StrEnum):
    prefix = "prefix"
    suffix = "suffix"
    only = "only"
    all_but = "all_but"


class Above(StrEnum):
    pretrained = "pretrained"
    random = "random"


class Case(StrEnum):
    auto = "auto"
    similar_fewer = "similar_fewer"
    similar_more = "similar_more"
    dissimilar = "dissimilar"
    unknown = "unknown"


class Normalization(StrEnum):
    source = "source"
    none = "none"


class Precision(StrEnum):
    fp32 = "fp32"
    tf32 = "tf32"
    fp16 = "fp16"
    bf16 = "bf16"


class Augment(StrEnum):
    none = "none"
    flip_crop = "flip_crop"


class Export(StrEnum):
    none = "none"
    best = "best"


class Transform(StrEnum):
    none = "none"
    blur = "blur"
    invert = "invert"
    permute = "permute"


class Schedule(StrEnum):
    constant = "constant"
    cosine = "cosine"


class Library(StrEnum):
    torchvision = "torchvision"
    timm = "timm"


@dataclass
class ModelConfig:
    name: str = "resnet18"
    library: Library = Library.torchvision  # whose model it is

    @property
    def full_name(self) -> str:
        """Return the name in tables: timm's models are timm/NAME, with or without library=timm."""
        whole = self.library is Library.torchvision or self.name.startswith("timm/")
        return self.name if whole else f"timm/{self.name}"


@dataclass
class DataConfig:
    name: str = "glyphs_digits"
    root: str | None = None  # folder, for data on disk; null = the user's cache folder, for downloads
    label: str | None = None  # the task's name in tables; null = the folder's or the data set's
    matched_group: str | None = None  # tasks of one group share their images: matched pairs for the verdict's tests
    image_column: str | None = None  # parquet only; null = image or img
    label_column: str | None = None  # parquet only; null = label, labels or fine_label
    classes: Any = None  # a list of class names or numbers to keep, in this order; null = all
    groups: int | None = None  # coarse labels: the classes, in order, in that many groups; null = each by itself
    image_size: int | None = None  # pixels, square; null = the source's own
    transform: Transform = Transform.none  # of every image, as a control: blur, invert, permute (pixels, all alike)
    normalize: Normalization = Normalization.source  # or none: pixels in 0..1 as they are
    augment: Augment = Augment.none  # or flip_crop: random mirror and shift by up to an eighth, new in every epoch
    case: Case = Case.auto  # the rule's row; auto = known for embedded tasks, else unknown
    per_class: int | None = None  # training images of each class, drawn by the member's seed; null = all
    limit_train: int | None = None  # training images in all, class shares kept, drawn by the member's seed
    val_fraction: float = 0.2  # of the training images, for choosing the learning rate; 0 where there is no choice
    test_fraction: float = 0.2  # only where the data has no test split of its own
    seed: int = 0  # fixes the splits, the same for every member


@dataclass
class FreezeConfig:
    unit: Unit = Unit.stage  # what freeze_depth counts
    batchnorm: BatchNorm = BatchNorm.frozen  # or track: running statistics of frozen blocks keep moving
    precision: Precision = Precision.fp32  # of the frozen blocks' outputs: fp32, bf16 (computed so too), fp16
    # the first freeze_depth blocks, the last (suffix), number freeze_depth alone (only), all but it (all_but)
    which: Which = Which.prefix
    above: Above = Above.pretrained  # or random: blocks that are not frozen start from random weights
    epochs: int | None = None  # after so many, everything is trained for the rest; null = frozen to the end


@dataclass
class OptimizerConfig:
    name: str = "adamw"
    # a number or a list, of which each seed keeps the one with the best validation accuracy, at every depth alike
    lr: Any = field(default_factory=lambda: [0.0003, 0.001])
    momentum: float = 0.9  # sgd only
    weight_decay: float = 0.01
    schedule: Schedule = Schedule.cosine


@dataclass
class SourceConfig:
    name: str = "pretrain"
    # pretrain only: what to train on, and how
    data: DataConfig = field(default_factory=lambda: DataConfig("glyphs_latin"))
    epochs: int = 5
    batch_size: int = 128  # images
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig("adamw", 0.002, weight_decay=0.05))
    # imagenet only: torchvision's name of the weights
    weights: str = "DEFAULT"
    # checkpoint only: the file, and what it was trained on
    path: str | None = None
    task: str = "imagenet"
    n_classes: int = 1000
    image_size: int | None = None  # pixels; null = that of the model's own pretrained weights
    mean: list[float] | None = None  # per channel, of pixels in 0..1; null = as image_size
    std: list[float] | None = None


@dataclass
class CacheConfig:
    max_gb: float = 10.0  # decoded images and outputs of frozen blocks on disk; least recently used goes first


@dataclass
class Reference:
    """A published curve that the report shows beside ours."""

    label: str = ""
    test_accuracy: list[float] = field(default_factory=list)  # in 0..1, one per epoch
    seconds_per_epoch: list[float] = field(default_factory=list)


@dataclass
class StudyConfig:
    note: str | None = None  # what the report says below the curves
    allow_missing: bool = False  # true: a verdict also from an incomplete grid, which then says so
    reference: list[Reference] = field(default_factory=list)


@dataclass
class Config:
    name: str = "sweep"  # results go to outputs/<name>
    pretrained: bool = True  # or false: the same network with random weights
    freeze_depth: int = 0  # blocks, counted from the image; `python -m sweep.models resnet18` shows them
    seeds: Any = 3  # a count, or a list such as [0,1,2]
    epochs: int = 4
    batch_size: int = 50  # images
    precision: Precision = Precision.fp32  # of what is trained: fp32, tf32 (CUDA), bf16 (autocast)
    test_every_epoch: bool = False  # records the test curve; nothing is chosen by it
    device: str = "auto"  # CUDA if there is one; or cpu, cuda, cuda:1
    force: bool = False  # train again what is already there
    skip_absent: bool = False  # leave out points whose data is not here, and say so
    export: Export = Export.none  # or best: write each task's best model, by validation, to outputs/<name>/export
    model: ModelConfig = field(default_factory=ModelConfig)
    source: SourceConfig = field(default_factory=SourceConfig)
    data: DataConfig = field(default_factory=DataConfig)
    freeze: FreezeConfig = field(default_factory=FreezeConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    study: StudyConfig = field(default_factory=StudyConfig)

    @property
    def seed_list(self) -> list[int]:
        """Return the seeds: `3` means 0, 1, 2."""
        return list(self.seeds) if isinstance(self.seeds, list) else list(range(self.seeds))

    @property
    def lr_list(self) -> list[float]:
        """Return the learning rates, ascending."""
        rates = self.optimizer.lr if isinstance(self.optimizer.lr, list) else [self.optimizer.lr]
        return sorted(float(rate) for rate in rates)


def frozen_blocks(which: Which, freeze_depth: int, n_blocks: int) -> list[bool]:
    """Return for every block, in forward order, whether it is frozen.

    >>> frozen_blocks(Which.suffix, 2, 5)
    [False, False, False, True, True]
    >>> frozen_blocks(Which.all_but, 2, 5)
    [True, False, True, True, True]
    """
    numbers = range(1, n_blocks + 1)
    if which is Which.prefix:
        return [number <= freeze_depth for number in numbers]
    if which is Which.suffix:
        return [number > n_blocks - freeze_depth for number in numbers]
    return [(number == freeze_depth) == (which is Which.only) for number in numbers]


# Settings that change where or whether a point runs, not what it finds. Seeds are not part of a point's
# identity either: each seed has its own file, so asking for two more seeds trains two.
NOT_IDENTITY = ("name", "seeds", "device", "force", "skip_absent", "export", "cache", "study")


def identity(config: Config) -> dict[str, Any]:
    """Return the settings that the result depends on, as plain JSON values."""
    settings = dataclasses.asdict(config)
    for key in NOT_IDENTITY:
        del settings[key]
    settings["optimizer"]["lr"] = config.lr_list
    return settings


def digest(value: Any) -> str:
    """Return 12 hexadecimal digits that name a JSON value by its content."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def check(config: Config) -> None:
    """Raise UserError at the first setting that cannot be right, whatever the model and the data are."""
    if not config.name or len(config.name) > 100 or {"", ".", ".."} & set(config.name.split("/")):
        raise UserError(
            f"name={config.name[:100]}: results go to outputs/<name>; use 1 to 100 characters, such as name=mine"
        )
    _check_list("seeds", config.seeds, _is_seed, "a count such as 3 or a list such as [0,1,2]")
    if not isinstance(config.seeds, list) and config.seeds < 1:
        raise UserError(f"seeds={config.seeds}: use a count of at least 1, or a list such as [0,1,2]")
    _at_least("epochs", config.epochs, 1)
    _at_least("batch_size", config.batch_size, 2, "BatchNorm cannot normalise a single image")
    _at_least("freeze_depth", config.freeze_depth, 0)
    _check_device(config.device, config.precision)
    _check_data("data", config.data)
    _check_optimizer("optimizer", config.optimizer)
    if config.source.name == "pretrain":
        _check_data("source.data", config.source.data)
        _check_optimizer("source.optimizer", config.source.optimizer)
    if config.data.val_fraction == 0 and len(config.lr_list) > 1:
        raise UserError(
            f"data.val_fraction=0: without validation images no learning rate can be chosen of {config.lr_list}; "
            "give one, such as optimizer.lr=0.001"
        )
    _check_freeze(config)
    if not config.cache.max_gb >= 0:
        raise UserError(f"cache.max_gb={config.cache.max_gb}: use a size in gigabytes, 0 to keep nothing")


def _check_device(device: str, precision: Precision) -> None:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UserError(f"device={device}: use auto, cpu, cuda or cuda:0")
    if precision is Precision.fp16:
        raise UserError("precision=fp16: training would need loss scaling; use fp32, tf32 or bf16")
    if precision is Precision.tf32 and device == "cpu":
        raise UserError("precision=tf32: only CUDA devices have it, and device=cpu; use fp32 or bf16")


def _check_data(group: str, data: DataConfig) -> None:
    _at_least(f"{group}.seed", data.seed, 0)
    for key in ("image_size", "per_class", "limit_train", "groups"):
        value = getattr(data, key)
        if value is not None:
            _at_least(f"{group}.{key}", value, 1)
    if data.per_class is not None and data.limit_train is not None:
        raise UserError(
            f"{group}.limit_train={data.limit_train}: {group}.per_class={data.per_class} is set too, perhaps "
            f"by the data set's YAML; add {group}.per_class=null"
        )
    if not 0 <= data.val_fraction < 1:
        raise UserError(f"{group}.val_fraction={data.val_fraction}: use a share from 0 to below 1, such as 0.2")
    if not 0 < data.test_fraction < 1:
        raise UserError(f"{group}.test_fraction={data.test_fraction}: use a share between 0 and 1, such as 0.2")


def _check_optimizer(group: str, optimizer: OptimizerConfig) -> None:
    _check_list(f"{group}.lr", optimizer.lr, _is_rate, "a positive number or a list of them")
    if optimizer.name not in ("sgd", "adamw"):
        raise unknown(f"{group}.name", optimizer.name, ("sgd", "adamw"))
    if not 0 <= optimizer.momentum < 1:
        raise UserError(f"{group}.momentum={optimizer.momentum}: use a number in [0, 1)")
    if not 0 <= optimizer.weight_decay < math.inf:
        raise UserError(f"{group}.weight_decay={optimizer.weight_decay}: use 0 or more")


def _check_freeze(config: Config) -> None:
    if config.freeze.precision is Precision.tf32:
        raise UserError("freeze.precision=tf32: outputs are kept as fp32, bf16 or fp16; use precision=tf32")
    thaw = config.freeze.epochs
    if thaw is not None and not 0 <= thaw < config.epochs:
        raise UserError(
            f"freeze.epochs={thaw}: of epochs={config.epochs}, some must be left to train everything; use 0 to "
            f"{config.epochs - 1}, or null to keep frozen what is frozen"
        )


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_rate(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0


def _check_list(setting: str, value: Any, valid: Any, allowed: str) -> None:
    values = value if isinstance(value, list) else [value]
    if not values or not all(valid(item) for item in values):
        raise UserError(f"{setting}={value}: use {allowed}")
    if len(set(values)) != len(values):
        raise UserError(f"{setting}={value}: the same value twice; list each once")


def _at_least(setting: str, value: int, least: int, why: str = "") -> None:
    if value < least:
        raise UserError(f"{setting}={value}: use {least} or more" + (f" ({why})" if why else ""))
