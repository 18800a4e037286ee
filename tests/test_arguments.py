"""What people type, as it reaches the settings or is refused in one line."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, get_type_hints

import pytest
from conftest import Done

from sweep.config import Config, Reference
from sweep.errors import UserError
from sweep.plan.checks import RANGES, check, numbers
from sweep.plan.point import plan

HUGE = 10**23


def holders(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield every setting that can hold a number: its name, the dataclass that has it, its field."""
    kinds = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from holders(value, f"{prefix}{field.name}.")
        elif kinds[field.name] in (int, float, int | None, float | None, list[float], list[float] | None):
            yield f"{prefix}{field.name}", config, field.name


NUMERIC = [*(name for name, *_ in holders(Config())), "optimizer.lr", "source.optimizer.lr"]


def with_value(setting: str, value: Any) -> Config:
    config = Config()
    config.data.name = "textures"
    *groups, field = setting.split(".")
    owner: Any = config
    for group in groups:
        owner = getattr(owner, group)
    setattr(owner, field, value)
    return config


def test_every_number_has_its_range() -> None:
    references = {f"study.reference.{name}" for name, *_ in holders(Reference())}
    assert {*NUMERIC} | references == {*RANGES}
    assert {name for name, _ in numbers(dataclasses.asdict(Config()))} - {"seeds"} <= {*RANGES}


@pytest.mark.parametrize("setting", NUMERIC)
def test_numbers_out_of_range_are_one_line_before_anything_is_loaded(setting: str) -> None:
    for value in (-1, -0.5, 0, math.nan, math.inf, -math.inf, HUGE, -HUGE, 10**400, 10**5000):
        config = with_value(setting, [value] * 3 if setting in ("source.mean", "source.std") else value)
        if not (value in (0, -0.5, -1) or (value == HUGE and setting.endswith("lr"))):
            with pytest.raises(UserError) as caught:
                check(config)
            said = str(caught.value)
            assert said.startswith(f"{setting}=") or "=null" in said or setting == "freeze.epochs"
            assert "\n" not in said
            assert len(said) < 200
        else:
            with suppress(UserError):
                check(config)


@pytest.mark.parametrize("value", [-1, 0, math.nan, math.inf, HUGE, [HUGE], [-1], [math.nan], [], [0, "a"], True, 1.5])
def test_seeds_out_of_range_are_one_line(value: Any) -> None:
    with pytest.raises(UserError, match=r"^seeds=") as caught:
        check(dataclasses.replace(Config(), seeds=value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "1" + "0" * 23, "1" * 400])
@pytest.mark.parametrize("setting", ["epochs", "source.optimizer.weight_decay", "seeds", "cache.max_gb", "source.std"])
def test_typed_numbers_out_of_range_are_one_line(sweep: Callable[..., Done], setting: str, value: str) -> None:
    typed = f"[{value},{value},{value}]" if setting == "source.std" else value
    done = sweep("-m", f"{setting}={typed}", "freeze_depth=0,1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith((f"error: {setting}=", f"error: {setting}: "))
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) < 300


@pytest.mark.parametrize("setting", ["data.image_size", "source.data.image_size", "source.epochs", "data.groups"])
def test_huge_numbers_are_refused_by_the_plan_too(setting: str) -> None:
    with pytest.raises(UserError, match=f"^{setting}={HUGE}: use"):
        plan(with_value(setting, HUGE))


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("optimizer.lr", (1e-9, 0.3, [1e-3, 1])),
        ("optimizer.weight_decay", (0, 0.5)),
        ("optimizer.momentum", (0, 0.99)),
        ("data.val_fraction", (0.04, 0.5)),
        ("seeds", (1, 10, [0], [7, 2**40])),
        ("source.image_size", (None, 32, 518)),
        ("source.mean", (None, [0.0, 0.5, 1.0])),
        ("cache.max_gb", (0, 0.5, 1000)),
    ],
)
def test_numbers_in_range_pass(setting: str, values: tuple[Any, ...]) -> None:
    for value in values:
        check(with_value(setting, value))
