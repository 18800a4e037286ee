import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from sweep import compose as cli
from sweep import data, models, source
from sweep.config import Config, check

YAMLS = sorted(str(path.relative_to(cli.CONF)) for path in cli.CONF.rglob("*.yaml"))


@pytest.mark.parametrize("path", YAMLS)
def test_every_yaml_composes_converts_and_passes_its_checks(path: str) -> None:
    group, _, option = path.removesuffix(".yaml").partition("/")
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        plus = "+" if group == "experiment" else ""
        config = cli.to_config(compose("config", [f"{plus}{group}={option}"] if option else []))
    assert isinstance(config, Config)
    check(config)
    if group in ("model", "source", "data"):
        named = getattr(config, group).name
        known = ("source", "glyphs_latin"), ("model", "timm")
        assert named == option or (group, option) in known or option.startswith("suite/")
        if (group, option) == ("model", "timm"):
            assert config.model.full_name == "timm/tf_efficientnet_lite0"
            return
        assert named in {"model": models.MODELS, "source": source.SOURCES, "data": data.DATASETS}[group]


@pytest.mark.parametrize("path", [path for path in YAMLS if "/" in path])
def test_every_yaml_says_first_when_to_choose_it(path: str) -> None:
    first, *rest = (cli.CONF / path).read_text(encoding="utf-8").splitlines()
    if first.startswith("# @package "):  # for Hydra, where the folder does not say it
        first = rest.pop(0)
    assert first.startswith("# Choose this ")
    assert not any("_target_" in line for line in rest)


def test_every_table_entry_has_its_yaml() -> None:
    for group, table in (("model", {*models.MODELS, "timm"}), ("source", source.SOURCES), ("data", data.DATASETS)):
        assert {path.stem for path in (cli.CONF / group).glob("*.yaml")} - {"glyphs_latin"} == set(table) - {
            "glyphs_latin"
        }


def test_bare_grid_sweeps_the_three_cases(standin_source: None) -> None:
    points = cli.points(["pretrained=true,false", "freeze_depth=0,2"], multirun=True)
    assert [point.common["case"] for point in points[::4]] == ["similar_fewer", "similar_more", "dissimilar"]
    assert [(point.config.pretrained, point.config.freeze_depth) for point in points[:4]] == [
        (True, 0), (True, 2), (False, 0), (False, 2),
    ]  # fmt: skip
    assert len({point.job for point in points}) == 12
    assert cli.varied(points) == [{}] * 12
    only = cli.points(["data=textures", "freeze_depth=0,2"], multirun=True)
    assert [point.common["task"] for point in only] == ["textures"] * 2


def test_settings_that_vary_within_a_task_are_named(standin_source: None) -> None:
    points = cli.points(["data=textures,digits", "epochs=1,2", "freeze_depth=0,1"], multirun=True)
    assert {tuple(each.items()) for each in cli.varied(points)} == {(("epochs", "1"),), (("epochs", "2"),)}


def test_readme_commands_name_real_options() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    for group, option in re.findall(r"\b(model|source|data|freeze|optimizer)=(\w+)", readme):
        assert (cli.CONF / group / f"{option}.yaml").exists(), f"{group}={option}"
