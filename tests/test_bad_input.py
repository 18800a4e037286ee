"""Whatever is typed or given, every setting and flag either takes it or refuses it in one line that names it."""

import copy
import dataclasses
import random
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import get_type_hints

import hypothesis
import numpy as np
import pytest
from conftest import Done
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from PIL import Image
from test_commands import run

from sweep.cli import compose
from sweep.cli.arguments import flat, overrides
from sweep.cli.translate import translated
from sweep.config import Broken, Config, DataConfig
from sweep.errors import UserError, one_line
from sweep.plan.point import plan
from sweep.runs.session import Session

SETTINGS = [name for name, _ in flat(dataclasses.asdict(Config()))]
VALUES = (
    *("", "null", "nan", "-inf", "-1", "0", "1.5", "1e30", "9" * 23, "'1'", "true", "abc", "[]", "[nan,-1]", "[[1]]"),
    *(
        "{a: 1}",
        "${nope}",
        "${oc.env:NOPE}",
        "???",
        "日本🐈",
        "x" * 400,
        "a\nb",
        "\x00",
        "\x1b[31m",
        "\udcff",
        "'",
        "[",
    ),
    *("~nobody/x", "../../x", "/dev/zero", " "),
)


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    """Return the settings of a small point, before anything is typed."""
    with compose.own_loader() as loader:
        whole = loader.load_configuration("config", ["data=textures", "model=resnet18"], run_mode=RunMode.RUN)
    with read_write(whole), open_dict(whole):
        del whole["hydra"]
    return whole


def refused(composed: DictConfig, setting: str, value: str) -> str | None:
    """Return what is said of setting=value, read and checked as the command line is; None if it is taken."""
    try:
        with translated():
            (typed,) = overrides([f"{setting}={value}"], multirun=False)
            (override,) = OverridesParser.create().parse_overrides([typed])
            if override.is_sweep_override():
                return f"{setting}: several values need -m"
            changed = copy.deepcopy(composed)
            OmegaConf.update(changed, setting, override.value(), merge=True)
            plan(compose.to_config(changed))
    except UserError as error:
        return str(error)
    return None


def is_one_line(said: str) -> bool:
    """Return whether a terminal shows this in one line of bearable length, as it is."""
    return bool(said) and said.isprintable() and len(said) < 3100


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_whatever_a_setting_is_given_is_taken_or_one_line_that_names_it(composed: DictConfig, setting: str) -> None:
    rng = random.Random(setting)
    mixed = ["".join(rng.choices("0123456789.,:=[]{}()'\"$\\ \n\t-+~aeé日", k=rng.randint(1, 12))) for _ in range(5)]
    taken = []
    for value in (*VALUES, *mixed):
        said = refused(composed, setting, value)
        if said is None:
            taken.append(value)
            continue
        assert is_one_line(said), (value, said)
        group, _, field = setting.rpartition(".")
        assert field in said or (group and group in said), (value, said)
    assert len(taken) < len(VALUES), "nothing is refused"


_PLAIN = st.text(max_size=12) | st.integers().map(str) | st.floats().map(repr) | st.sampled_from(VALUES)
_NESTED = st.recursive(
    _PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda each: f"[{','.join(each)}]")
        | st.lists(inner, min_size=1, max_size=3).map(",".join)
        | st.dictionaries(st.text(max_size=4), inner, max_size=2).map(
            lambda each: "{" + ",".join(f"{key}:{value}" for key, value in each.items()) + "}"
        )
    ),
    max_leaves=4,
)
_NAMES = st.sampled_from([*SETTINGS, "data", "model", "source", "optimizer", "freeze", "+experiment", "hydra/launcher"])
_TYPED = st.tuples(st.sampled_from(["", "", "", "+", "++", "~"]), _NAMES | st.text(max_size=8), _NESTED)


_OVERRIDE = _TYPED.map(lambda each: f"{each[0]}{each[1]}={each[2]}")


@pytest.mark.slow
@hypothesis.settings(max_examples=150, deadline=None, derandomize=True, database=None)
@hypothesis.given(st.lists(_OVERRIDE, min_size=1, max_size=3), st.booleans())
def test_several_settings_are_composed_or_refused_in_one_line(typed: list[str], multirun: bool) -> None:
    said = ""
    try:
        compose.points(typed, multirun=multirun)
    except UserError as error:
        said = str(error)
    assert not said or is_one_line(said)


def test_a_line_is_one_line() -> None:
    assert one_line("a\tb\r\nc\x1b[0m\u2028\udcff 日本") == r"a\tb\r\nc\x1b[0m\u2028\udcff 日本"
    assert len(one_line("x" * 10**6)) < 300
    assert len(one_line("x " * 10**6)) < 3100
    assert one_line(f"data.root=/{'folder/' * 40}: no such folder").endswith(": no such folder")
    assert str(UserError("a\nb")) == r"a\nb"


WORDS = (
    "",
    "nan",
    "inf",
    "-1",
    "0",
    "1e30",
    "9" * 30,
    "9" * 5000,
    "abc",
    "日本",
    "x" * 5000,
    "a\nb",
    "\x1b[31m",
    "a=b",
)
FLAGS: tuple[tuple[str, list[str], list[str]], ...] = (
    *(("sweep.report", [], []), ("sweep.report", ["nowhere"], []), ("sweep.report", ["--figures"], ["here"])),
    *(("sweep.cache", ["--clear"], []), ("sweep.cache", ["--clear", "all", "--yes", "--older-than"], [])),
    *(("sweep.models", [], []), ("sweep.models", ["resnet18", "--unit"], []), ("sweep.models", ["--all"], [])),
    *(("sweep.models", ["resnet18", "--image-size"], []), ("sweep.models", ["resnet18", "--classes"], [])),
    *(("sweep.models", ["resnet18", "--blocks"], []), ("sweep.doctor", [], [])),
)


@pytest.mark.parametrize(("name", "before", "after"), FLAGS)
def test_whatever_a_flag_is_given_is_one_line(
    name: str,
    before: list[str],
    after: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "none"))
    for word in WORDS:
        done = ended(name, [*before, word, *after], monkeypatch, capsys)
        if done.returncode == 0:
            assert done.stderr == ""
            assert "--older-than" in before or word == "", (word, "was taken")
        else:
            assert (done.returncode, done.stdout) == (2, ""), word
            assert done.stderr.startswith("error: ")
            assert is_one_line(done.stderr.removesuffix("\n")), done.stderr
        assert list(tmp_path.iterdir()) == [], word


def ended(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Done:
    """Return what the command left; one that comes back by itself ended well."""
    try:
        return run(name, arguments, monkeypatch, capsys)
    except pytest.fail.Exception:
        return Done(0, *capsys.readouterr())


def spoil(folder: Path) -> dict[str, Path]:
    """Write an image that is broken in every way that is known; return their files by what is wrong."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = {}
    for suffix in ("jpg", "png", "gif", "bmp", "tif", "webp"):
        Image.fromarray(noise).save(folder / f"whole.{suffix}")
        whole[suffix] = (folder / f"whole.{suffix}").read_bytes()
        (folder / f"whole.{suffix}").unlink()
    contents = {f"empty.{suffix}": b"" for suffix in whole}
    contents |= {f"cut.{suffix}": content[: len(content) // 2] for suffix, content in whole.items()}
    contents |= {f"zeros.{suffix}": bytes(len(content)) for suffix, content in whole.items()}
    contents |= {"text.jpg": b"<html>404 Not Found</html>", "script.png": b"#!/bin/sh\ntouch was_run\n"}
    head = bytearray(whole["bmp"])
    head[18:26] = (60_000).to_bytes(4, "little") * 2  # 3,600 megapixels by the header
    contents["bomb.bmp"] = bytes(head)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data.label=[1,2]"], "data.label=[1, 2]: use text"),
        (["data.label=???"], "data.label=???: nothing is given"),
        (["source.mean=abc"], "source.mean: use a list"),
        (["study.reference=[1]"], "study.reference[0]: use names and values in braces"),
        (["log_level=[a]"], "log_level=['a']: use one name"),
        (["on_error=later"], "on_error=later: use one of continue, stop"),
        (["source.data.label_column=x"], "source.data.label_column=x: data=glyphs_latin has no columns"),
        (["name=\x00"], r"name=\x00: "),
        (["epochs=" + "9" * 5000], "of digits"),
        (["name=a\n  b\x1b[31m"], r"name=a\n  b\x1b[31m: "),
    ],
)
def test_values_of_a_wrong_kind_are_one_line(
    sweep: Callable[..., Done], tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = sweep("data=textures", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert is_one_line(done.stderr.removesuffix("\n"))
    assert list(tmp_path.iterdir()) == []


def test_every_choice_is_typed_as_it_is_shown(composed: DictConfig) -> None:
    kinds = get_type_hints(Config)
    choices = [(name, each) for name, kind in kinds.items() if isinstance(kind, type(StrEnum)) for each in kind]
    assert ("on_error", "continue") in choices
    for name, each in choices:
        assert each.name == each.value, name


def test_every_broken_image_is_named_in_one_line_or_left_out(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (24, 20, 20, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        folder = tmp_path / "photos" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"good-{number}.png")
    odd = tmp_path / "photos" / "dog"
    Image.new("CMYK", (9, 9)).save(odd / "odd-cmyk.jpg")
    Image.new("1", (1, 1)).save(odd / "odd-1x1.png")
    Image.new("LA", (1, 700)).save(odd / "odd-thin.png")
    (odd / "odd-png.jpg").write_bytes((odd / "good-1.png").read_bytes())  # known by its content
    broken = spoil(tmp_path / "photos" / "cat")
    config = DataConfig("image_folder", root=str(tmp_path / "photos"))
    with pytest.raises(UserError) as caught:
        Session().task(config, 32, 0)
    said = str(caught.value)
    assert is_one_line(said)
    assert f"{len(broken)} unreadable image(s)" in said
    skipped = Session().task(dataclasses.replace(config, broken=Broken.skip), 32, 0)
    assert len(skipped.unreadable) == len(broken)
    assert {Path(name.partition(" (")[0]).name for name in skipped.unreadable} == {*broken}
    assert not (tmp_path / "was_run").exists()
