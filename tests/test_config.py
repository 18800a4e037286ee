import copy
import re
import shutil
from collections.abc import Container
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from sweep.cli import compose as cli
from sweep.cli.suite import CROSSED, REAL, SUITE
from sweep.config import Config
from sweep.data import registry
from sweep.data.torchvision import Downloaded
from sweep.errors import AbsentError, UserError
from sweep.paths import CONF
from sweep.plan import catalog
from sweep.plan import sources as source
from sweep.plan.checks import check

YAMLS = sorted(str(path.relative_to(CONF)) for path in CONF.rglob("*.yaml"))


@pytest.mark.parametrize("path", YAMLS)
def test_every_yaml_composes_converts_and_passes_its_checks(path: str) -> None:
    group, _, option = path.removesuffix(".yaml").partition("/")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plus = "+" if group == "experiment" else ""
        config = cli.to_config(compose("config", [f"{plus}{group}={option}"] if option else []))
    assert isinstance(config, Config)
    check(config)
    if group in ("model", "source", "data"):
        named = getattr(config, group).name
        recipes = ("glyphs_latin", "glyphs_latin_64", "self")
        known = *(("source", each) for each in recipes), ("model", "timm"), ("data", "embedded")
        assert named == option or (group, option) in known
        if group == "model" and option in ("timm", "module"):
            full = {"timm": "timm/tf_efficientnet_lite0", "module": "module/module"}
            assert config.model.full_name == full[option]
            return
        tables: dict[str, Container[str]] = {
            "model": catalog.NAMES, "source": source.SOURCES, "data": registry.DATASETS,
        }  # fmt: skip
        assert named in tables[group]


@pytest.mark.slow
@pytest.mark.parametrize("option", [*(f"suite/{name}" for name in SUITE), *(f"real/{name}" for name in REAL)])
def test_every_task_of_the_studies_composes_and_passes_its_checks(option: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = cli.to_config(compose("config", [f"data={option}"]))
    check(config)
    assert config.data.name in registry.DATASETS
    assert config.data.label == option.partition("/")[2]


@pytest.mark.parametrize("path", [path for path in YAMLS if "/" in path])
def test_every_yaml_says_first_when_to_choose_it(path: str) -> None:
    first, *rest = (CONF / path).read_text(encoding="utf-8").splitlines()
    if first.startswith("# @package "):  # for Hydra, where the folder does not say it
        first = rest.pop(0)
    assert first.startswith("# Choose this ")
    assert not any("_target_" in line for line in rest)


def test_every_table_entry_has_its_yaml() -> None:
    # recipes of source=pretrain, and data sets that have no YAML of their own
    crossed = {each["name"] for one in CROSSED.values() for each in (one["data"], one["source"]["data"])}
    others = {"glyphs_latin", "glyphs_latin_64", "self", "embedded"} | crossed
    for group, table in (("source", source.SOURCES), ("data", registry.DATASETS)):
        assert {path.stem for path in (CONF / group).glob("*.yaml")} - others == set(table) - others
    assert {path.stem for path in (CONF / "model").glob("*.yaml")} <= {*catalog.NAMES, "timm", "module"}


def test_bare_grid_sweeps_the_three_cases(standin_source: None) -> None:
    points = cli.points(["pretrained=true,false", "freeze_depth=0,2"], multirun=True)
    assert [point.facts.case for point in points[::4]] == ["similar_fewer", "similar_more", "dissimilar"]
    assert [(point.config.pretrained, point.config.freeze_depth) for point in points[:4]] == [
        (True, 0), (True, 2), (False, 0), (False, 2),
    ]  # fmt: skip
    assert len({point.job for point in points}) == 12
    assert cli.varied(points) == [{}] * 12
    only = cli.points(["data=textures", "freeze_depth=0,2"], multirun=True)
    assert [point.facts.task for point in only] == ["textures"] * 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["data=textures,glyphs_digits", "freeze_depth=0,2", "pretrained=true,false", "seeds=[0,1],[3]"],
        ["model=resnet18,resnet34", "optimizer=adamw,sgd", "optimizer.lr=0.1,[0.1,0.2]", "freeze.epochs=null,3"],
        ["+experiment=rule", "freeze_depth=1,5", "crossed=greek_far,noise_more", "replicate=r0,r1"],
        ["data.classes=[1,2],null", "name='a=b,c',d", "++data.case=similar_more,dissimilar", "hydra.job.num=1,2"],
        ["hydra.job.config.override_dirname.exclude_keys=[epochs]", "epochs=1,2", "batch_size=4,8"],
    ],
)
def test_what_is_copied_is_what_hydra_composes(arguments: list[str]) -> None:
    with cli.own_loader() as loader:
        master = loader.load_configuration("config", ["data=textures"], run_mode=RunMode.MULTIRUN)
        grid = cli.expand(loader, master, arguments, {})
        made = cli.composed(loader, master, grid)
        assert list(made) == [tuple(each) for each in grid]
        for overrides, cfg in made.items():
            whole = loader.load_sweep_config(master, list(overrides))
            assert OmegaConf.to_container(cfg) == OmegaConf.to_container(whole)
            assert OmegaConf.is_struct(cfg) == OmegaConf.is_struct(whole)
        assert len({id(each) for each in made.values()}) == len(grid) >= 4


def test_hydra_is_asked_once_per_choice_of_options(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = ConfigLoaderImpl.load_sweep_config

    def counting(loader: ConfigLoaderImpl, master: DictConfig, overrides: list[str]) -> DictConfig:
        asked.append(overrides)
        return real(loader, master, overrides)

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", counting)
    points = cli.points(["data=textures,glyphs_digits", "freeze_depth=0,1,2,3", "batch_size=8,16"], multirun=True)
    assert (len(points), len(asked)) == (16, 2)


@pytest.mark.parametrize(
    "wrong", ["freeze_depth=0,deep", "epochs=1,[1]", "pretrained=true,maybe", "optimizer.lr=0.1,{a:1}"]
)
def test_a_wrong_value_of_a_later_point_is_said_as_hydra_does(wrong: str) -> None:
    def said(argument: str) -> str:
        with pytest.raises(UserError) as error:
            cli.points(["data=textures", argument], multirun=True)
        return str(error.value)

    key, _, values = wrong.partition("=")
    assert said(wrong) == said(f"{key}={values.partition(',')[2]}")


def test_composing_leaves_the_store_as_it_was() -> None:
    """It is not copied for every config, so nothing that is composed may reach into it."""
    store = ConfigStore.instance()

    def kept() -> list[str]:
        return [repr(store.repo[name]) for name in ("crossed", "data", "schema.yaml")] + [
            str(store.load("schema.yaml"))
        ]

    before = kept()
    changed = ["+crossed=greek_far", "data.per_class=3", "epochs=7", "optimizer.lr=0.1", "freeze_depth=1,2"]
    assert len(cli.points(changed, multirun=True)) == 2
    assert kept() == before
    assert copy.deepcopy(store) is store


def test_settings_that_vary_within_a_task_are_named(standin_source: None) -> None:
    points = cli.points(["data=textures,digits", "epochs=1,2", "freeze_depth=0,1"], multirun=True)
    assert {tuple(each.items()) for each in cli.varied(points)} == {(("epochs", "1"),), (("epochs", "2"),)}


def test_a_source_that_varies_is_named_once(standin_source: None) -> None:
    points = cli.points(["data=textures", "source=glyphs_latin,self", "freeze_depth=1"], multirun=True)
    assert cli.varied(points) == [{"source": "glyphs_latin"}, {"source": "self"}]
    points = cli.points(["data=textures", "source.epochs=1,2", "freeze_depth=1"], multirun=True)
    assert cli.varied(points) == [{"source.epochs": "1"}, {"source.epochs": "2"}]


EMBEDDED = {"rule": 540, "batchnorm": 24, "target_size": 54, "surgical": 54, "yosinski": 20, "lpft": 12}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.campaign] if count > 50 else []) for name, count in EMBEDDED.items()],
)
def test_an_embedded_experiment_plans_its_points(name: str, standin_source: None) -> None:
    points = cli.points([f"+experiment={name}"], multirun=True)
    assert len({point.job for point in points}) >= EMBEDDED[name] - 6, "with nothing frozen, some points share a job"
    assert len(points) == EMBEDDED[name]
    assert name == "rule" or {point.config.seeds for point in points} == {3}


@pytest.mark.slow
def test_the_rule_experiment_crosses_ten_targets_with_three_kinds_of_sources() -> None:
    points = cli.points(["+experiment=rule", "freeze_depth=0", "replicate=r0,r1"], multirun=True)
    targets = {point.facts.matched_group: set() for point in points}  # type: ignore[var-annotated]
    for point in points:
        fewer = point.facts.n_classes < point.facts.source_classes
        assert point.facts.case in ("dissimilar", "similar_fewer" if fewer else "similar_more")
        targets[point.facts.matched_group].add(point.facts.case)
        assert point.config.seed_list == [point.config.source.seed]
    assert len(targets) == 10
    assert all(len(cases) == 3 for cases in targets.values())
    assert not any(cli.varied(points)), "a source of each seed's own is part of its luck"
    sources = {(point.source.task, point.config.source.seed): point.source.key for point in points}
    assert len(set(sources.values())) == len(sources) == 8


def test_a_source_seed_that_varies_within_a_seed_is_a_variant() -> None:
    points = cli.points(["data=textures", "source.seed=0,1", "freeze_depth=1"], multirun=True)
    assert cli.varied(points) == [{"source.seed": "0"}, {"source.seed": "1"}]
    with pytest.raises(UserError, match=r"source\.seed=-1"):
        cli.points(["source.seed=-1"], multirun=False)


def test_absent_data_is_refused_or_left_out_as_asked(
    standin_source: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["data=textures,image_folder", f"data.root={tmp_path}/none", "freeze_depth=0,1"]
    with pytest.raises(UserError, match="no such folder"):
        cli.points([*here[1:], "data=image_folder"], multirun=True)
    only = ["data=image_folder", *here[1:], "skip_absent=true"]
    with pytest.raises(UserError, match="skip_absent=true: the data of no point is here"):
        cli.points(only, multirun=True)
    line = f"left out, because skip_absent=true: data.root={tmp_path}/none: no such folder"
    assert capsys.readouterr().err.count(line) == 1


def test_a_source_without_its_data_is_left_out_as_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    far = ["data=textures", "source=pretrain", "source.data.name=image_folder", f"source.data.root={tmp_path}/far"]
    with pytest.raises(UserError, match="far: no such folder"):
        cli.points(far, multirun=True)
    with pytest.raises(UserError, match="skip_absent=true: the data of no point is here"):
        cli.points([*far, "skip_absent=true"], multirun=True)
    assert f"left out, because skip_absent=true: source.data.root={tmp_path}/far" in capsys.readouterr().err


def test_wrong_data_is_not_left_out(standin_source: None, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with pytest.raises(UserError, match="one"):
        cli.points(["data=image_folder", f"data.root={tmp_path}", "skip_absent=true"], multirun=True)


@pytest.mark.slow
def test_the_real_experiment_leaves_out_what_is_not_there(
    folder_of_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of the tasks are here, by the names of CIFAR-10's classes; the source is of four others."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"):
            (tmp_path / "cifar10" / split / name).mkdir(parents=True)
            for number in range(2):
                pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "cifar10" / split / name / f"{number}.png")
    shutil.copytree(folder_of_images, tmp_path / "rsscn7")
    monkeypatch.setenv("SWEEP_DATA", str(tmp_path))
    monkeypatch.setattr(Downloaded, "fetch", absent)
    points = cli.points(["+experiment=rule_real", "skip_absent=true", "freeze_depth=0", "pretrained=true"], True)
    assert {point.facts.task for point in points} == {
        "cifar_deer_horse", "cifar_automobile_truck", "cifar_dog_ship", "cifar_deer_dog_horse", "cifar_five",
        "cifar_five_ship", "cifar_six", "rsscn7",
    }  # fmt: skip
    told = capsys.readouterr().err
    assert told.count("left out, because skip_absent=true") == 5, "caltech, fashion, cifar100, svhn, eurosat"


def absent(dataset: Downloaded) -> None:
    raise AbsentError(f"{dataset.name} is not here")


def test_readme_and_docs_name_real_options() -> None:
    project = Path(__file__).parent.parent
    pages = [project / "README.md", *(project / "docs").glob("*.md")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in pages)
    for group, option in re.findall(r"\b(model|source|data|freeze|optimizer)=(\w+)", text):
        studies = {"suite": SUITE, "real": REAL}
        assert option in studies or (CONF / group / f"{option}.yaml").exists(), f"{group}={option}"


@pytest.mark.parametrize("name", ["alexnet", "resnext101_64x4d", "regnet_x_1_6gf", "resnet18"])
def test_every_model_of_the_catalog_can_be_chosen(name: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert cli.to_config(compose("config", [f"model={name}"])).model.full_name == name
