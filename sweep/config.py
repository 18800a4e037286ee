"""What one point of the sweep is. Dataclasses own types, units and checks; the YAML in conf/ owns choices.

Every default stands here, once. Nothing here knows models, data sets or sources: their names are looked up in tables of
their own, whose modules make the checks that need them.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


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


OnError = StrEnum("OnError", ["continue", "stop"])  # its names are what is typed, and one is a word of Python's


class LogLevel(StrEnum):
    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


class Export(StrEnum):
    none = "none"
    best = "best"


class Transform(StrEnum):
    none = "none"
    blur = "blur"
    invert = "invert"
    permute = "permute"


class Layout(StrEnum):
    auto = "auto"
    classes = "classes"
    splits = "splits"


class OwnTest(StrEnum):
    auto = "auto"
    val = "val"
    train = "train"


class Duplicates(StrEnum):
    warn = "warn"
    drop = "drop"
    error = "error"


class Broken(StrEnum):
    error = "error"
    skip = "skip"


class Schedule(StrEnum):
    plateau = "plateau"
    cosine = "cosine"
    constant = "constant"


class Library(StrEnum):
    torchvision = "torchvision"
    timm = "timm"
    module = "module"


@dataclass
class ModelConfig:
    name: str = "resnet18"  # in its library; model=NAME says it, too
    library: Library = Library.torchvision  # whose model it is; module: yours, made by model.factory
    # module only: FILE:NAME of the function that returns the model, such as my_file:build; see docs/own.md
    factory: str | None = None
    # module only: regular expressions for names of modules, each a block, in forward order; null = found by itself
    blocks: Any = None

    @property
    def full_name(self) -> str:
        """Return the name in tables: timm's models are timm/NAME, with or without library=timm; yours module/NAME."""
        whole = self.library is Library.torchvision or self.name.startswith(f"{self.library}/")
        return self.name if whole else f"{self.library}/{self.name}"


@dataclass
class DataConfig:
    name: str = "glyphs_digits"  # which kind of data; data=OPTION says it
    root: str | None = None  # folder, for data on disk; null = the user's cache folder, for downloads
    label: str | None = None  # the task's name in tables; null = the folder's or the data set's
    matched_group: str | None = None  # tasks of one group share their images: matched pairs for the verdict's tests
    # module only: FILE:NAME of the function that returns the data set, such as my_file:dataset; see docs/own.md
    factory: str | None = None
    file: str | None = None  # csv only: the table; its paths are relative to root, null = the table's own folder
    path_column: str | None = None  # csv only; null = by usual names, as the next three
    split_column: str | None = None  # csv only: train, val or test of each image; none = there is no such column
    group_column: str | None = None  # csv only: images of one group are never parted; none = there are no groups
    image_column: str | None = None  # parquet and arrow only; null = image or img
    label_column: str | None = None  # null = by usual names
    layout: Layout = Layout.auto  # image_folder only: what its folders are: classes, or splits with classes in them
    # of data with a validation split and no test split, where the test images are from: val, or train (held out);
    # auto = train for image_folder and csv, val for the others
    test: OwnTest = OwnTest.auto
    exclude: str | None = None  # image_folder and csv only: images to leave out, by name or path, such as "*_mask.*"
    # image_folder and csv only: [low, high], the values that are black and white in images of more than 8 bits or of
    # floats; null = the lowest and the highest of all
    pixel_range: Any = None
    # of images in files: 3 = colour, which all images are made to have; 1 = grey; another count, such as 13 = the first
    # bands of the files; or a list of bands, counted from 0, such as [3,0,7]
    channels: Any = 3
    classes: Any = None  # a list of class names or numbers to keep, in this order; null = all
    groups: int | None = None  # coarse labels: the classes, in order, in that many groups; null = each by itself
    image_size: int | None = None  # pixels, square; null = the source's own
    # images of equal pixels in two splits or two classes: warn says it, drop leaves them out of training, error refuses
    duplicates: Duplicates = Duplicates.warn
    broken: Broken = Broken.error  # of images that cannot be read: error refuses, skip leaves them out
    transform: Transform = Transform.none  # of every image, as a control: blur, invert, permute (pixels, all alike)
    normalize: Normalization = Normalization.source  # or none: pixels in 0..1 as they are
    augment: Augment = Augment.none  # or flip_crop: random mirror and shift by up to an eighth, new in every epoch
    # whether accuracies are means over classes, not over images; null = where a class has 5 times another's images
    balanced_accuracy: bool | None = None
    case: Case = Case.auto  # the rule's row; auto = known for embedded tasks, else unknown
    per_class: int | None = None  # training images of each class, drawn by the member's seed; null = all
    limit_train: int | None = None  # training images in all, class shares kept, drawn by the member's seed
    val_fraction: float = 0.2  # of the training images, for choosing the learning rate; 0 where there is no choice
    test_fraction: float = 0.2  # only where the data has no test split of its own
    seed: int = 0  # fixes the test split and the folds of the validation split
    rotate: bool = False  # whether every seed validates on another fold of the images that are not for testing


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
    name: str = "adamw"  # or sgd
    # a number or a list, of which each seed keeps the one with the best validation accuracy, at every depth alike
    lr: Any = field(default_factory=lambda: [0.0003, 0.001])
    extend: int = 0  # above 0, half decades beside a seed's best are tried, so many beyond either end of the list
    momentum: float = 0.9  # sgd only
    weight_decay: float = 0.01  # of what is trained
    # cosine or constant, for all epochs; or plateau: constant until validation no longer improves, then falling to zero
    schedule: Schedule = Schedule.cosine


@dataclass
class SourceConfig:
    name: str = "pretrain"  # where the weights come from; source=OPTION says it
    data: DataConfig = field(default_factory=lambda: DataConfig("glyphs_latin"))  # pretrain only: what to train on
    epochs: int = 5  # pretrain only
    batch_size: int = 128  # images; pretrain only
    seed: int = 0  # of its first weights and the order of its images; pretrain only
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig("adamw", 0.002, weight_decay=0.05))
    weights: str = "DEFAULT"  # imagenet only: torchvision's name of the weights
    path: str | None = None  # checkpoint only: the file
    key: str | None = None  # which dictionary or prefix in it, where it holds several copies; null = by rule
    task: str = "imagenet"  # checkpoint and module only: what the weights were trained on
    n_classes: int | None = None  # checkpoint only: of that; null = as many as the head in the file has, or 1000
    image_size: int | None = None  # pixels; null = that of the model's own pretrained weights
    mean: list[float] | None = None  # per channel, of pixels in 0..1; null = as image_size
    std: list[float] | None = None  # as mean


@dataclass
class CacheConfig:
    max_gb: float = 10.0  # decoded images and outputs of frozen blocks on disk; least recently used goes first


@dataclass
class CheckpointConfig:
    minutes: float | None = 5.0  # between two of the training under way, at least; 0 = after every epoch; null = none


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
    reference: list[Reference] = field(default_factory=list)  # published curves, which the report shows beside ours


@dataclass
class Config:
    name: str = "sweep"  # results go to outputs/<name>
    pretrained: bool = True  # or false: the same network with random weights
    freeze_depth: int = 0  # blocks from the image on, as `python -m sweep.models` shows them; with -m also 0..5 or all
    seeds: Any = 3  # a count, or a list such as [0,1,2]
    epochs: int = 4  # with optimizer.schedule=plateau, at most
    min_steps: int = 200  # of the optimizer, before a plateau may end a training, unless the epochs are fewer
    batch_size: int = 50  # images
    precision: Precision = Precision.fp32  # of what is trained: fp32, tf32 (CUDA), bf16 (autocast)
    test_every_epoch: bool = False  # records the test curve; nothing is chosen by it
    device: str = "auto"  # CUDA if there is one; or cpu, cuda, cuda:1
    devices: int = 1  # that train one point together: so many GPUs, or processes on a CPU
    threads: int | None = None  # of one training on a CPU, at most; null = as many as there are cores for it
    force: bool = False  # train again what is already there
    on_error: OnError = OnError["continue"]  # with the other points, or stop: none starts after one has failed
    strict: bool = False  # refuse what is else a warning about images and weights, before anything is trained
    skip_absent: bool = False  # leave out points whose data is not here, and say so
    dry_run: bool = False  # say what would be trained, and how long that would take; train nothing
    confirm_above: float | None = None  # hours: a sweep expected to take longer stops before it trains; null = none
    tracker: Any = None  # tensorboard, mlflow, wandb, trackio, or a list of them: they show every training, too
    log_level: LogLevel = LogLevel.info  # what the terminal shows beside the answer; debug: every epoch, too
    export: Export = Export.none  # or best: write each task's best model, by validation, to outputs/<name>/export
    model: ModelConfig = field(default_factory=ModelConfig)
    source: SourceConfig = field(default_factory=SourceConfig)
    data: DataConfig = field(default_factory=DataConfig)
    freeze: FreezeConfig = field(default_factory=FreezeConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
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


# Settings that came after the first records, and the values under which results are what they were. A job's name knows
# nothing of a setting at this value, so that it is found again.
ADDED = {
    **{"extend": 0, "min_steps": 200, "rotate": False, "layout": "auto", "test": "auto"},
    **{"duplicates": "warn", "broken": "error", "channels": 3},
    **dict.fromkeys(("key", "pixel_range", "exclude", "factory", "blocks", "file", "balanced_accuracy")),
    **dict.fromkeys(("path_column", "split_column", "group_column")),
}

# Settings of the data that say what its files are; the others say what a task makes of them.
FILES = (
    *("name", "root", "factory", "file", "path_column", "image_column", "label_column", "split_column", "group_column"),
    *("layout", "test", "pixel_range", "exclude", "channels"),
)

# Settings that change where or whether a point runs, not what it finds. Seeds are not part of a point's
# identity either: each seed has its own file, so asking for two more seeds trains two.
NOT_IDENTITY = (
    *("name", "seeds", "device", "devices", "threads", "force", "on_error", "strict", "skip_absent", "dry_run"),
    *("confirm_above", "tracker", "log_level", "export", "cache", "checkpoint", "study"),
)


def identity(config: Config) -> dict[str, Any]:
    """Return the settings that the result depends on, as plain JSON values."""
    settings = dataclasses.asdict(config)
    for key in NOT_IDENTITY:
        del settings[key]
    settings["optimizer"]["lr"] = config.lr_list
    return settings


def as_first_named(value: Any) -> Any:
    """Return settings, as plain values, less those of ADDED that change nothing."""
    if not isinstance(value, dict):
        return value
    return {key: as_first_named(each) for key, each in value.items() if key not in ADDED or each != ADDED[key]}


def digest(value: Any) -> str:
    """Return 12 hexadecimal digits that name a JSON value by its content."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
