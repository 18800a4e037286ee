import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from sweep import __main__ as cli
from sweep import data, models, source
from sweep.config import Config, check

YAMLS = sorted(str(path.relative_to(cli.CONF)) for path in cli.CONF.rglob("*.yaml"))


@pytest.mark.parametrize("path", YAMLS)
def test_every_yaml_composes_converts_and_passes_its_checks(path: str) -> None:
    group, _, option = path.removesuffix(".yaml").rpartition("/")
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        config = cli._to_config(compose("config", [f"{group}={option}"] if group else []))
    assert isinstance(config, Config)
    check(config)
    if group in ("model", "source", "data"):
        named = getattr(config, group).name
        assert named == option
        assert named in {"model": models.MODELS, "source": source.SOURCES, "data": data.DATASETS}[group]


@pytest.mark.parametrize("path", [path for path in YAMLS if "/" in path])
def test_every_yaml_says_first_when_to_choose_it(path: str) -> None:
    first, *rest = (cli.CONF / path).read_text(encoding="utf-8").splitlines()
    assert first.startswith("# Choose this ")
    assert not any("_target_" in line for line in rest)


def test_every_table_entry_has_its_yaml() -> None:
    for group, table in (("model", models.MODELS), ("source", source.SOURCES), ("data", data.DATASETS)):
        assert {path.stem for path in (cli.CONF / group).glob("*.yaml")} == set(table)


def test_points_are_those_that_hydra_launches(standin_source: None, monkeypatch: pytest.MonkeyPatch) -> None:
    points = cli.compose(["pretrained=true,false", "freeze_depth=0,2"], multirun=True)
    assert len(points) == 3 * 2 * 2
    assert [each.lower() for each in points[0]] == ["data=glyphs_digits", "pretrained=true", "freeze_depth=0"]
    only = cli.compose(["data=textures", "freeze_depth=0,2"], multirun=True)
    assert [each[0] for each in only] == ["data=textures"] * 2
    made = [cli.plan(each) for each in points]
    cli.GlobalHydra.instance().clear()
    assert len({point.job for point in made}) == 12
    assert cli.varied(made) == [{}] * 12


def test_settings_that_vary_within_a_task_are_named(standin_source: None) -> None:
    given = ["data=textures,digits", "epochs=1,2", "freeze_depth=0,1"]
    points = [cli.plan(each) for each in cli.compose(given, multirun=True)]
    cli.GlobalHydra.instance().clear()
    assert {tuple(each.items()) for each in cli.varied(points)} == {(("epochs", "1"),), (("epochs", "2"),)}


def test_readme_commands_name_real_options() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    for group, option in re.findall(r"\b(model|source|data|freeze|optimizer)=(\w+)", readme):
        assert (cli.CONF / group / f"{option}.yaml").exists(), f"{group}={option}"
