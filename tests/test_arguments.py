"""What people type, as it reaches the settings or is refused in one line."""

import dataclasses
import importlib.metadata
import importlib.util
import math
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from conftest import Done
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from sweep.cli import compose
from sweep.cli.arguments import overrides, quoted
from sweep.cli.flags import command_line
from sweep.config import Config, Reference
from sweep.errors import UserError
from sweep.paths import plain
from sweep.plan.checks import RANGES, check, numbers
from sweep.plan.point import plan
from sweep.report.__main__ import main as report

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


OWN_CHECKS = {"seeds", "data.channels", "source.data.channels"}  # numbers or lists


def test_every_number_has_its_range() -> None:
    references = {f"study.reference.{name}" for name, *_ in holders(Reference())}
    assert {*NUMERIC} | references == {*RANGES}
    assert {name for name, _ in numbers(dataclasses.asdict(Config()))} - OWN_CHECKS <= {*RANGES}


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


@pytest.mark.parametrize(
    ("typed", "seeds"),
    [
        ("0,1,2", [0, 1, 2]),
        ("7,3", [7, 3]),
        ("0, 4", [0, 4]),
        ("range(0,3)", [0, 1, 2]),
        ("range(2)", [0, 1]),
        ("1..3", [1, 2, 3]),
        ("2", 2),
        ("[0,5]", [0, 5]),
        ("0,", "one line"),
        ("1,1", "one line"),
        ("1,x", "one line"),
    ],
)
@pytest.mark.parametrize("multirun", [True, False])
def test_seeds_are_one_list_however_they_are_typed(
    standin_source: None, typed: str, seeds: int | list[int] | str, multirun: bool
) -> None:
    command = ["data=textures", f"seeds={typed}", "freeze_depth=1"]
    if seeds == "one line":
        with pytest.raises(UserError, match="seeds="):
            compose.points(command, multirun)
    else:
        assert [point.config.seeds for point in compose.points(command, multirun)] == [seeds]


@pytest.mark.parametrize(
    ("typed", "depths"),
    [
        ("all", [0, 1, 2, 3, 4, 5]),
        ("0..5", [0, 1, 2, 3, 4, 5]),
        ("3..3", [3]),
        ("0..1,4", [0, 1, 4]),
        ("range(0,6)", [0, 1, 2, 3, 4, 5]),
        ("range(1,6,2)", [1, 3, 5]),
        ("5,all", [5, 0, 1, 2, 3, 4]),
    ],
)
def test_depths_as_people_type_them(standin_source: None, typed: str, depths: list[int]) -> None:
    points = compose.points(["data=textures", f"freeze_depth={typed}"], multirun=True)
    assert [point.config.freeze_depth for point in points] == depths
    if len(depths) > 1:
        with pytest.raises(UserError, match=r"freeze_depth=.*several values need -m"):
            compose.points(["data=textures", f"freeze_depth={typed}"], multirun=False)


@pytest.mark.parametrize("typed", ["0-3", "0:3", "5,0-3", "0 - 3"])
def test_other_ways_to_write_a_range_say_which_is_ours(standin_source: None, typed: str) -> None:
    with pytest.raises(UserError, match=r"^freeze_depth=.*: use 0\.\.3, which has both ends, or all$"):
        compose.points(["data=textures", f"freeze_depth={typed}"], multirun=True)


def test_all_depths_are_those_of_each_model(standin_source: None) -> None:
    grid = [
        "data=textures",
        "model=resnet18,resnet34",
        "freeze_depth=all",
        "pretrained=false,true",
        "freeze.unit=block",
    ]
    points = compose.points(grid, multirun=True)
    for model in ("resnet18", "resnet34"):
        own = [point for point in points if point.facts.model == model]
        depths = {point.config.freeze_depth for point in own}
        assert depths == set(range(own[0].facts.n_blocks + 1))
        assert len(own) == 2 * len(depths)
    assert points[0].facts.n_blocks != points[-1].facts.n_blocks


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("lr=0.1", r"lr: no such setting; did you mean optimizer\.lr\?"),
        ("image_size=64", r"image_size: no such setting; did you mean data\.image_size\?"),
        ("+per_class=4", r"per_class: no such setting; did you mean data\.per_class\?"),
        ("model=timm/vit_tiny_patch16_224", r"use model=timm model\.name=vit_tiny_patch16_224$"),
        ("model=torchvision/resnet50", r"use model=resnet50$"),
    ],
)
def test_names_without_their_group_say_the_whole_name(typed: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        compose.points(["data=textures", typed], multirun=False)


@pytest.mark.parametrize("typed", ["5..0", "0..999999", "-1..3", "all..3", "alle"])
def test_depths_that_are_none_are_one_line(sweep: Callable[..., Done], typed: str) -> None:
    done = sweep("-m", "data=textures", f"freeze_depth={typed}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: freeze_depth=")


def test_the_mode_may_be_given_as_hydra_names_it(sweep: Callable[..., Done]) -> None:
    assert command_line(["freeze_depth=4,5", "hydra.mode=MULTIRUN"]) == ["--multirun", "freeze_depth=4,5"]
    assert command_line(["-m", "hydra.mode=MULTIRUN"]) == ["--multirun"]
    assert command_line(["hydra.mode=RUN"]) == []
    done = sweep("freeze_depth=4,9", "hydra.mode=MULTIRUN")
    assert done.stderr.startswith("error: freeze_depth=9: resnet18 has 5 blocks")
    assert sweep("hydra.mode=BOTH").stderr == "error: hydra.mode=BOTH: use RUN or MULTIRUN, which is -m\n"


def test_an_experiment_needs_no_plus() -> None:
    assert overrides(["experiment=rule", "+experiment=rule"], multirun=True) == ["+experiment=rule"] * 2


NAMES = (
    *("日本", "café", "photos (1)", "x#1", "a&b", "a=b", "$x^$", "a|b", "<b>bold<", "a,b", "a b", "it's", 'say "hi"'),
    *(
        "[1]",
        "{a}",
        "${b}",
        "007",
        "1e3",
        "null.d",
        "true",
        "back\\",
        "a\\'b",
        "emoji 🐈",
        "%d",
        "a;b",
        "*",
        "Ünter/a b",
    ),
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("there", [True, False])
def test_paths_of_any_spelling_arrive_as_they_are(
    standin_source: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folder_of_images: Path,
    name: str,
    there: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    if there:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        folder_of_images.rename(name)
        for multirun in (True, False):
            (point,) = compose.points(["data=image_folder", f"data.root={name}", "freeze_depth=1"], multirun)
            assert point.config.data.root == name
    elif not {*"[{,$"} & {*name} and name not in ("007", "1e3", "true"):  # read as lists, numbers and references
        with pytest.raises(UserError, match=re.escape(f"data.root={name}: no such folder")):
            compose.points(["data=image_folder", f"data.root={name}"], multirun=False)


def test_several_paths_are_swept(
    standin_source: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder_of_images: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    folder_of_images.rename("bilder")
    (tmp_path / "café 1").symlink_to("bilder")
    points = compose.points(["data=image_folder", "data.root=bilder,café 1", "freeze_depth=1"], multirun=True)
    assert [point.config.data.root for point in points] == ["bilder", "café 1"]


def test_names_may_have_letters_and_spaces(standin_source: None) -> None:
    (point,) = compose.points(["data=textures", "name=Meine Bläume 1", "data.label=x (1) = ü"], multirun=False)
    assert (point.config.name, point.config.data.label) == ("Meine Bläume 1", "x (1) = ü")


@pytest.mark.parametrize("text", [*NAMES, "", "'", "\\'", "${oc.env:HOME}"])
def test_quoted_text_comes_out_as_it_is(text: str) -> None:
    (point,) = OverridesParser.create().parse_overrides([f"key={quoted(text)}"])
    assert OmegaConf.create({"key": point.value()}).key == text


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("[true,false]", ["true", "false"]),
        ("[Yes, null]", ["Yes", "null"]),
        ("[1.5,日本,a b]", ["1.5", "日本", "a b"]),
        ("[0,2]", [0, 2]),
        ("['cat',dog]", ["cat", "dog"]),
    ],
)
def test_classes_are_names(typed: str, kept: list[str | int]) -> None:
    (argument,) = overrides([f"data.classes={typed}"], multirun=False)
    (override,) = OverridesParser.create().parse_overrides([argument])
    value: Any = override.value()
    assert [getattr(each, "text", each) for each in value] == kept


@pytest.mark.parametrize(
    ("launcher", "package"),
    [
        ("joblib", "hydra-joblib-launcher"),
        ("submitit_local", "hydra-submitit-launcher"),
        ("submitit_slurm", "hydra-submitit-launcher"),
        ("ray_aws", "hydra-ray-launcher"),
        ("rq", "hydra-rq-launcher"),
    ],
)
def test_a_launcher_that_is_not_installed_says_what_to_install(
    sweep: Callable[..., Done], launcher: str, package: str
) -> None:
    if importlib.util.find_spec(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher"):
        pytest.skip("it is installed")
    done = sweep(f"hydra/launcher={launcher}", "-m", "freeze_depth=0,1")
    assert done == (2, "", f"error: hydra/launcher={launcher}: not installed; pip install {package}\n")


def test_flags_of_hydra_may_stand_anywhere(sweep: Callable[..., Done]) -> None:
    assert command_line(["a=1", "-m", "b=2", "--config-dir", "c=d", "e=3"]) == [
        *("--multirun", "--config-dir", "c=d", "a=1", "b=2", "e=3")
    ]
    assert command_line(["data=textures", "--help"]) == ["--help", "data=textures"]
    shown = sweep("data=textures", "--cfg", "job", "epochs=7")
    assert shown.returncode == 0
    assert "epochs: 7" in shown.stdout


def test_the_version_is_ours(sweep: Callable[..., Done]) -> None:
    assert sweep("--version") == (0, f"freeze-sweep {importlib.metadata.version('freeze-sweep')}\n", "")


def test_a_folder_per_job_is_refused(sweep: Callable[..., Done]) -> None:
    done = sweep("-m", "hydra.job.chdir=True", "freeze_depth=0,1")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: hydra.job.chdir=True: paths are relative")


def test_without_validation_images_no_depth_is_exported(standin_source: None) -> None:
    command = ["data=textures", "data.val_fraction=0", "optimizer.lr=0.001", "export=best"]
    assert len(compose.points([*command, "freeze_depth=5"], multirun=True)) == 1
    with pytest.raises(UserError, match=r"export=best data\.val_fraction=0: without validation images"):
        compose.points([*command, "freeze_depth=0,5"], multirun=True)


@pytest.mark.parametrize("name", ["..", ".", "...", "", "../..", "a/b", "<b>", "日本"])
def test_names_of_folders_stay_inside(name: str) -> None:
    made = plain(name)
    assert made.strip(".")
    assert not {"/", "<", ">"} & {*made}


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "null", "{}", "\x00", '{"points": 3}', '{"points": ["a"]}', '{"points": [{"job": 1}]}'),
        *('{"points": [[]]}', '{"points": [{}], "study": [1]}', '{"points": [{}], "study": {"reference": 3}}'),
    ],
)
def test_a_damaged_manifest_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(SystemExit) as stopped:
        report([str(tmp_path)])
    said = capsys.readouterr().err
    assert (stopped.value.code, said.count("\n")) == (2, 1)
    assert "sweep.json" in said
    assert said.startswith("error: ")


@pytest.mark.parametrize("argument", ["freeze_depth=0,,2", "seeds=,1", "optimizer.lr=0.1,", "data=digits, ,textures"])
def test_commas_beside_nothing_are_said(argument: str) -> None:
    with pytest.raises(UserError, match="nothing before, between or after its commas") as caught:
        compose.points([argument], multirun=True)
    assert str(caught.value).startswith(argument)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("epochs=null", "epochs=null: it cannot be null"),
        ("name=null", "name=null: it cannot be null"),
        ("source.task=null", "source.task=null: it cannot be null"),
        ("+seeds=2", "+seeds=...: it is there already; use seeds=..."),
        ("optimizer.lr={a: 1}", "a list needs brackets"),
        ("seeds=3..1", "seeds=3..1: use FIRST..LAST"),
        ("freeze_depth=glob(*)", "stands for no value; list them"),
    ],
)
def test_what_hydra_says_of_values_is_said_in_our_words(argument: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        compose.points([argument], multirun=True)
    assert "\n" not in str(caught.value)
