"""Whether settings can be right, whatever the model and the data are."""

import math
import re
from typing import Any

from sweep.config import Config, DataConfig, OptimizerConfig, Precision
from sweep.errors import UserError, unknown


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
    _at_least("min_steps", config.min_steps, 0)
    _at_least("batch_size", config.batch_size, 2, "BatchNorm cannot normalise a single image")
    _at_least("freeze_depth", config.freeze_depth, 0)
    _check_device(config.device, config.precision)
    _check_data("data", config.data)
    _check_optimizer("optimizer", config.optimizer)
    if config.source.name == "pretrain":
        _check_data("source.data", config.source.data)
        _check_optimizer("source.optimizer", config.source.optimizer)
        _at_least("source.seed", config.source.seed, 0)
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
    _at_least(f"{group}.extend", optimizer.extend, 0)
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
