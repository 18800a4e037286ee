"""Whether settings can be right, whatever the model and the data are."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sweep.config import Config, DataConfig, OptimizerConfig, Precision
from sweep.errors import UserError, unknown


class Range(NamedTuple):
    """Which numbers a setting takes: from least to most.

    without: whether the ends themselves do not count. why: the reason, where it is not plain. words: all of it, where
    "use 2 or more" does not say it.
    """

    least: float
    most: float
    without: str = ""  # least, most or both
    why: str = ""
    words: str = ""

    def holds(self, value: float) -> bool:
        """Return whether the setting takes this value; it does not take nan."""
        low = self.least < value if self.without in ("least", "both") else self.least <= value
        return low and (value < self.most if self.without in ("most", "both") else value <= self.most)

    def allowed(self) -> str:
        """Return which numbers these are."""
        if self.words:
            return self.words
        end = "or more" if self.most == LARGEST_SEED else f"to {self.most:.12g}"
        return f"{self.least:.12g} {end}" + (f" ({self.why})" if self.why else "")

    def refuse(self, setting: str, value: float) -> UserError:
        """Return the error for a value that the setting does not take."""
        bound = f"{self.most:.12g} or less" if value > self.most else f"{self.least:.12g} or more"
        allowed = self.words or bound + (f" ({self.why})" if self.why else "")
        return UserError(f"{setting}={shortened(value)}: use {allowed}")


LARGEST_SEED = 2**63 - 1  # of what tables on disk hold
_SEED, _COUNT, _PIXELS = Range(0, LARGEST_SEED), Range(1, 10**9), Range(1, 8192)
_EPOCHS = Range(1, 10**6)
_BATCH = Range(2, 10**6, why="BatchNorm cannot normalise a single image")
_DATA = {
    "groups": Range(1, 10**6),
    "image_size": _PIXELS,
    "limit_train": _COUNT,
    "per_class": _COUNT,
    "seed": _SEED,
    "test_fraction": Range(0, 1, "both", words="a share between 0 and 1, such as 0.2"),
    "val_fraction": Range(0, 1, "most", words="a share from 0 to below 1, such as 0.2"),
}
_OPTIMIZER = {
    "extend": Range(0, 20),
    "lr": Range(0, 1e30, "least", words="a positive number or a list of them"),
    "momentum": Range(0, 1, "most", words="a number in [0, 1)"),
    "weight_decay": Range(0, 1e6),
}
# Every setting that is a number, or a list of numbers; seeds say more, in _check_seeds().
RANGES = {
    "batch_size": _BATCH,
    "cache.max_gb": Range(0, 1e9, words="a size in gigabytes, 0 to keep nothing"),
    "confirm_above": Range(0, 1e6, "least", words="a number of hours above 0, or null"),
    "checkpoint.minutes": Range(0, 10**6, words="a number of minutes, 0 for every epoch, or null for none"),
    "devices": Range(1, 64),
    "epochs": _EPOCHS,
    "freeze.epochs": Range(0, 10**6),
    "freeze_depth": Range(0, 10**6, words="0 or more, to the model's number of blocks"),
    "min_steps": Range(0, 10**9),
    "source.batch_size": _BATCH,
    "source.epochs": _EPOCHS,
    "source.image_size": _PIXELS,
    "source.mean": Range(-1000, 1000, words="three numbers, one per channel, of pixels in 0..1"),
    "source.n_classes": Range(1, 10**6),
    "source.seed": _SEED,
    "source.std": Range(0, 1000, "least", words="three numbers above 0, one per channel, of pixels in 0..1"),
    "threads": Range(1, 4096),
    "study.reference.seconds_per_epoch": Range(0, 1e9),
    "study.reference.test_accuracy": Range(0, 1, words="accuracies in 0..1"),
    **{f"{group}.{key}": own for group in ("data", "source.data") for key, own in _DATA.items()},
    **{f"{group}.{key}": own for group in ("optimizer", "source.optimizer") for key, own in _OPTIMIZER.items()},
}


def check(config: Config) -> None:
    """Raise UserError at the first setting that cannot be right, whatever the model and the data are."""
    name = config.name
    if not name or len(name) > 100 or not name.isprintable() or {"", ".", ".."} & set(name.split("/")):
        raise UserError(f"name={name[:100]}: results go to outputs/<name>; use 1 to 100 characters, such as name=mine")
    _check_seeds(config.seeds)
    for setting, value in numbers(dataclasses.asdict(config)):
        if setting in RANGES and not RANGES[setting].holds(value):
            raise RANGES[setting].refuse(setting, value)
    _check_device(config)
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


def numbers(value: Any, setting: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of plain settings, with the name of its setting; all numbers of a list have the list's."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from numbers(each, f"{setting}.{key}".lstrip("."))
    elif isinstance(value, list):
        for each in value:
            yield from numbers(each, setting)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield setting, value


def shortened(value: Any) -> str:
    """Return a value as text of at most some 60 characters."""
    try:
        text = str(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_device(config: Config) -> None:
    device, precision = config.device, config.precision
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", device):
        raise UserError(f"device={device}: use auto, cpu, cuda or cuda:0")
    if config.devices > 1 and ":" in device:
        raise UserError(
            f"device={device}: devices={config.devices} takes the first of those that CUDA_VISIBLE_DEVICES names; "
            "use device=cuda"
        )
    if config.devices > config.batch_size:
        raise UserError(f"devices={config.devices}: there is no image for each in batch_size={config.batch_size}")
    if precision is Precision.fp16:
        raise UserError("precision=fp16: training would need loss scaling; use fp32, tf32 or bf16")
    if precision is Precision.tf32 and device == "cpu":
        raise UserError("precision=tf32: only CUDA devices have it, and device=cpu; use fp32 or bf16")


def _check_data(group: str, data: DataConfig) -> None:
    if data.per_class is not None and data.limit_train is not None:
        raise UserError(
            f"{group}.limit_train={data.limit_train}: {group}.per_class={data.per_class} is set too, perhaps "
            f"by the data set's YAML; add {group}.per_class=null"
        )


def _check_optimizer(group: str, optimizer: OptimizerConfig) -> None:
    _check_list(f"{group}.lr", optimizer.lr, _is_number, "a positive number or a list of them")
    if optimizer.name not in ("sgd", "adamw"):
        raise unknown(f"{group}.name", optimizer.name, ("sgd", "adamw"))


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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)  # RANGES says which


def _check_seeds(seeds: Any) -> None:
    allowed = "a count such as 3 or a list such as [0,1,2]"
    _check_list("seeds", seeds, _is_seed, allowed)
    if isinstance(seeds, list):
        if max(seeds) > LARGEST_SEED:
            raise UserError(f"seeds={shortened(max(seeds))}: a seed has at most 18 digits; use smaller numbers")
    elif not 1 <= seeds <= 10**5:
        why = "use a count of at least 1" if seeds < 1 else "that many are not to be trained; use a smaller count"
        raise UserError(f"seeds={shortened(seeds)}: {why}, or a list such as [0,1,2]")


def _check_list(setting: str, value: Any, valid: Any, allowed: str) -> None:
    values = value if isinstance(value, list) else [value]
    if not values or not all(valid(item) for item in values):
        raise UserError(f"{setting}={shortened(value)}: use {allowed}")
    if len(set(values)) != len(values):
        raise UserError(f"{setting}={shortened(value)}: the same value twice; list each once")
