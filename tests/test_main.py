"""The command line as users type it, in a folder that is not the project's: most of it in this process."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import Done
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig
from PIL import Image
from safetensors.torch import save_file

from sweep.cli import compose, multirun
from sweep.cli.suite import EMBEDDED
from sweep.config import Config
from sweep.models import build as models
from sweep.plan.point import Point, plan

SMALL = [
    *("data=textures", "data.per_class=4", "epochs=1", "seeds=1", "optimizer.lr=0.001", "pretrained=false"),
    "freeze_depth=0,5",
]


Sweep = Callable[..., Done]


def python(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, where deprecated calls of ours are errors."""
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:sweep", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def table_of(printed: str) -> str:
    return printed[printed.index("task ") :]


@pytest.mark.slow
def test_sweep_resume_and_report(sweep: Sweep, standin_source: None, tmp_path: Path) -> None:
    first = python(tmp_path, "-m", "sweep", "-m", *SMALL, "pretrained=true,false")
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("] textures, ") == 4
    root = tmp_path / "outputs" / "sweep"
    assert len(pd.read_csv(root / "table.csv")) == 4
    assert json.loads((root / "verdict.json").read_text())["decision"] == "untested"
    before = files(root)

    again = sweep("-m", *SMALL, "pretrained=true,false")
    assert again.returncode == 0
    assert "all finished before" in again.stdout
    assert table_of(again.stdout) == table_of(first.stdout)
    assert files(root) == before

    more = sweep("-m", *SMALL, "pretrained=true,false", "seeds=2")
    assert more.returncode == 0
    assert len(pd.read_csv(root / "table.csv")) == 8
    untouched = {name: content for name, content in before.items() if name.endswith("seed-0.json")}
    assert len(untouched) == 4
    assert untouched.items() <= files(root).items()

    made = subprocess.run(
        [sys.executable, "-m", "sweep.report", "outputs/sweep"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout.strip() in more.stdout

    single = sweep(*SMALL[:-1], "pretrained=true", "freeze_depth=5")
    assert single.returncode == 0
    assert single.stdout.startswith("1 point, all finished before")
    assert "seed 0: lr 0.001, validation" in single.stdout
    assert files(root)["table.csv"] == (root / "table.csv").read_bytes()


@pytest.mark.slow
def test_other_depths_of_the_same_settings_stay_in_the_table(
    sweep: Sweep, standin_source: None, tmp_path: Path
) -> None:
    def depths() -> list[tuple[bool, int]]:
        table = pd.read_csv(tmp_path / "outputs/sweep/table.csv")
        return list(zip(table.pretrained, table.freeze_depth, strict=True))

    own = [*SMALL[:-2], "freeze_depth=5"]
    assert sweep("-m", *own, "pretrained=false").returncode == 0
    assert sweep("-m", *own, "epochs=2", "pretrained=false").returncode == 0
    assert depths() == [(False, 5)], "one epoch is another setting"
    done = sweep("-m", *own[:-1], "freeze_depth=4", "pretrained=true")
    assert sorted(depths()) == [(False, 5), (True, 4)]
    assert "\n1 of its points, with these settings and finished before, were not asked for now\n" in done.stdout
    assert "1 point, 1 to train" in done.stdout
    for seed in (tmp_path / "outputs/sweep/jobs").glob("*random*/seed-0.json"):
        seed.unlink()
    assert sweep("-m", *own[:-1], "freeze_depth=4", "pretrained=true").returncode == 0
    assert depths() == [(True, 4)], "what is not whole is left out, not missing"


@pytest.mark.slow
def test_every_image_is_read_before_the_first_point_trains(
    sweep: Sweep, standin_source: None, tmp_path: Path, folder_of_images: Path
) -> None:
    broken = folder_of_images / "cat" / "00.jpg"
    content = broken.read_bytes()
    broken.write_bytes(b"")
    folder = [f"data.root={folder_of_images}", "data.per_class=null", "data=image_folder", *SMALL[2:]]
    done = sweep("-m", *folder)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: data.root={folder_of_images}: 1 unreadable image(s)")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "outputs").exists()

    broken.write_bytes(content)
    many = sweep("-m", *folder, "data.limit_train=17")
    assert many.returncode == 2
    assert "data.limit_train=17: photos has 16 training images" in many.stderr
    assert not (tmp_path / "outputs").exists()
    mended = sweep("-m", *folder)
    assert mended.returncode == 0, mended.stdout


@pytest.mark.slow
def test_each_point_is_composed_and_planned_once(
    standin_source: None, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"composed": 0, "planned": 0}
    load = ConfigLoaderImpl.load_sweep_config

    def counted_load(self: ConfigLoaderImpl, master: DictConfig, overrides: list[str]) -> DictConfig:
        counts["composed"] += 1
        return load(self, master, overrides)

    def counted_plan(config: Config) -> Point:
        counts["planned"] += 1
        return plan(config)

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", counted_load)
    for module in ("compose", "job"):
        monkeypatch.setattr(f"sweep.cli.{module}.plan", counted_plan)
    done = sweep("-m", *SMALL)
    assert done.returncode == 0, done.stderr
    assert counts == {"composed": 1, "planned": 2}, "what differs in values alone is copied"


CHOICES = {
    "on the command line": (["data=digits"], {"digits"}),
    "several on the command line": (["data=textures,digits"], {"textures", "digits"}),
    "by an experiment's defaults": (["+experiment=mine"], {"digits"}),
    "by an experiment's grid": (["+experiment=several"], {"textures", "digits"}),
    "by an experiment's settings": (["+experiment=inside"], {"textures"}),
    "by an option of one's own": (["data=own"], {"own"}),
    "by nothing": ([], {*EMBEDDED}),
    "by the name of what nothing chooses": (["data=embedded"], {*EMBEDDED}),
    "that name among others": (
        ["data=digits,embedded"],
        {"digits", "glyphs_digits", "glyphs_greek_cyrillic", "textures"},
    ),
    "on the command line, over an experiment": (["+experiment=mine", "data=textures"], {"textures"}),
    "on the command line, over an experiment's grid": (["+experiment=several", "data=textures"], {"textures"}),
}


@pytest.mark.parametrize("how", CHOICES)
def test_a_data_set_chosen_anywhere_replaces_the_embedded_tasks(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    package = "# @package _global_\n"
    yaml = {
        "experiment/mine": package
        + "defaults: [override /data: digits]\nhydra: {sweeper: {params: {freeze_depth: '0,5'}}}",
        "experiment/several": package + "hydra: {sweeper: {params: {data: 'textures,digits'}}}",
        "experiment/inside": package + "data: {name: textures}",
        "data/own": "name: textures\nlabel: own\n",
    }
    for name, text in yaml.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(text)
    seen: list[Mapping[tuple[str, ...], DictConfig]] = []
    monkeypatch.setattr(multirun, "run", lambda master, composed, launch, **how: seen.append(composed))
    arguments, expected = CHOICES[how]
    done = sweep("-m", "--config-dir", ".", "freeze_depth=0", *arguments)
    assert done.returncode == 0, done.stderr
    configs = [compose.to_config(cfg).data for cfg in seen[0].values()]
    assert {each.label or each.name for each in configs} == expected
    assert len(configs) == len(expected)


def test_another_sweeper_is_one_line(sweep: Sweep) -> None:
    done = sweep("-m", "hydra/sweeper=basic", "freeze_depth=0,1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: hydra/sweeper=basic: all points must be known at the start")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_failed_points_leave_the_others_alone(sweep: Sweep, standin_source: None, tmp_path: Path) -> None:
    arguments = ["-m", *SMALL[:-1], "freeze_depth=4,5"]
    first = sweep(*arguments)
    assert first.returncode == 0, first.stderr
    kept = tmp_path / "outputs/sweep/jobs"
    broken = next(kept.glob("*depth4*"))
    (broken / "seed-0.json").unlink()
    (broken / "seed-0.json").mkdir()  # the record cannot be written
    done = sweep(*arguments)
    assert done.returncode == 1
    assert "FAILED: " in done.stdout
    assert "\n\nMissing\n\n" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    rows = pd.read_csv(tmp_path / "outputs/sweep/table.csv")
    assert rows["status"].tolist() == ["failed", "ok"]

    (broken / "seed-0.json").rmdir()
    mended = sweep(*arguments)
    assert mended.returncode == 0, mended.stdout
    assert "failed" not in (tmp_path / "outputs/sweep/table.csv").read_text()


@pytest.mark.slow
def test_diverged_point_makes_the_exit_code_true(sweep: Sweep, standin_source: None, tmp_path: Path) -> None:
    done = sweep("-m", *SMALL[:4], "pretrained=false", "optimizer=sgd", "optimizer.lr=1e30,0.001", "freeze_depth=4")
    assert done.returncode == 1
    rows = pd.read_csv(tmp_path / "outputs/sweep/table.csv")
    assert sorted(rows["status"]) == ["diverged", "ok"]
    single = sweep(*SMALL[:4], "pretrained=false", "optimizer=sgd", "optimizer.lr=1e30", "freeze_depth=4")
    assert single.returncode == 1
    assert "diverged" in single.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=resnet81"], "model=resnet81: unknown; use one of"),
        (["freez_depth=2"], "did you mean freeze_depth?"),
        (["data.limit=2"], "did you mean data.limit_train?"),
        (["freeze_depth=two"], "freeze_depth=two: use a value of type integer"),
        (["-m", "freeze_depth=0,2,9"], "freeze_depth=9: resnet18 has 5 blocks (stem, layer1..layer4)"),
        (["freeze.unit=layer"], "freeze.unit=layer: use one of stage, block"),
        (["pretrained=maybe"], "pretrained=maybe: use true or false"),
        (["data=3"], "string"),
        (["modle=resnet18"], "modle: no such setting; did you mean model?"),
        (["+epoch=10"], "epoch: no such setting; did you mean epochs?"),
        (["+data.limit=2"], "data.limit: no such setting; did you mean data.limit_train?"),
        (["freeze=blok"], "freeze=blok: unknown; use one of block, stage; did you mean block?"),
        (["data.root=photos"], "data.root=photos: data=glyphs_digits reads no files; add data=image_folder"),
        (["--config-name", "other"], "--config-name and --config-path: not supported"),
        (["--config-dir", "nowhere"], "nowhere: no such folder"),
        (["data=image_folder", "data.root=~/a (b)"], "data.root=~/a (b): no such folder"),
        (["epochs=~/a (b)"], "'key=\"~/a b\"'"),
        (["name=" + "x" * 300], "use 1 to 100 characters"),
        (["seeds"], "seeds: not of the form key=value"),
        (["freeze_depth=0,2"], "freeze_depth=0,2: several values need -m"),
        (["data=image_folder"], "data.root is not set"),
        (["data=image_folder", "data.root=nowhere"], "data.root=nowhere: no such folder"),
        (["-m", "name=a,b"], "name=...: several values; one sweep has one name"),
        (["-m", "freeze_depth="], "freeze_depth="),
        (["pretrained=[true"], "pretrained=[true"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    sweep: Sweep, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = sweep(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


WRONG_FILES = [
    ("resnet18.safetensors", ["model=mobilenet_v2"], 2, "has 0% of the tensors of mobilenet_v2 "),
    ("stem.safetensors", [], 2, "conv1.weight is (64, 3, 3, 3) there and (64, 3, 7, 7) in the model"),
    ("code.pth", [], 2, "not a file of plain tensors (it would run "),
    ("resnet18.safetensors", ["data.image_size=16"], 2, "data.image_size=16: resnet18 needs at least 32 pixels"),
    ("resnet18.safetensors", ["data.root=nowhere"], 2, "data.root=nowhere: no such folder"),
    ("resnet18.safetensors", ["data.root=empty"], 2, "data.root=empty: no images in empty/wolf; add some"),
    ("resnet18.safetensors", ["data.root=one"], 2, "only one class (cat); at least two are needed"),
    ("resnet18.safetensors", ["data=parquet", "data.root=far.parquet"], 2, "far.parquet row 2 has label 9; labels are"),
    ("resnet18.safetensors", ["data.root=cut"], 2, "1 unreadable image(s), repair or remove them, or add data.broken="),
]


@pytest.fixture(scope="module")
def wrong_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of checkpoints and data sets, each wrong in one way."""
    folder = tmp_path_factory.mktemp("wrong")
    state = models.random_state("resnet18", 32, seed=0)
    save_file(state, folder / "resnet18.safetensors")
    save_file({**state, "conv1.weight": state["conv1.weight"][..., :3, :3].contiguous()}, folder / "stem.safetensors")

    class Code:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (folder / "was_run",)

    torch.save({"state_dict": Code()}, folder / "code.pth")
    noise = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    for root in ("photos", "empty", "cut", "one"):
        for name in ("cat", "dog")[: 1 if root == "one" else 2]:
            (folder / root / name).mkdir(parents=True)
            for number, pixels in enumerate(noise):
                Image.fromarray(pixels).save(folder / root / name / f"{number:02}.jpg")
    (folder / "empty" / "wolf").mkdir()
    cut = folder / "cut" / "cat" / "00.jpg"
    cut.write_bytes(cut.read_bytes()[:300])
    content = (folder / "photos" / "cat" / "01.jpg").read_bytes()
    info = {"info": {"features": {"label": {"names": ["cat", "dog"]}}}}
    table = pa.table({"image": [{"bytes": content}] * 3, "label": [0, 1, 9]})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(info)}), folder / "far.parquet")
    return folder


@pytest.mark.parametrize(("weights", "arguments", "code", "message"), WRONG_FILES)
def test_wrong_files_are_one_line_and_leave_no_result(
    sweep: Sweep, wrong_files: Path, weights: str, arguments: list[str], code: int, message: str
) -> None:
    given = ["data=image_folder", "data.root=photos", "data.image_size=32", "epochs=1", "seeds=1", "freeze_depth=5"]
    done = sweep(*given, "source=checkpoint", f"source.path={weights}", *arguments, folder=wrong_files)
    assert done.returncode == code, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in done.stdout + done.stderr
    assert not (wrong_files / "was_run").exists()
    left = wrong_files / "outputs"
    assert not list(left.rglob("seed-*.json"))
    if code == 2:
        assert not left.exists()
    shutil.rmtree(left, ignore_errors=True)


def test_outputs_that_cannot_be_written_is_one_line(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file")
    done = sweep("-m", *SMALL)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: name=sweep: cannot write to outputs/sweep (")
    assert done.stderr.count("\n") == 1


def test_broken_yaml_in_a_config_dir_is_one_line(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bad.yaml").write_text("name: [textures")
    done = sweep("--config-dir", ".", "data=bad")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_full_error_shows_the_traceback(sweep: Sweep, tmp_path: Path) -> None:
    done = python(tmp_path, "-m", "sweep", "freeze_depth=9", HYDRA_FULL_ERROR="1")
    assert "Traceback" in done.stderr
    assert done.returncode != 0


@pytest.mark.slow
def test_help_reads_like_documentation(sweep: Sweep, tmp_path: Path) -> None:
    done = python(tmp_path, "-m", "sweep", "--help")
    assert done.returncode == 0
    for word in ("usage:", "examples", "model: ", "resnet18", "freeze_depth: 0", "data.root=my/photos", "sweep.report"):
        assert word in done.stdout, word
    assert "Powered by Hydra" not in done.stdout


@pytest.mark.slow
def test_absent_data_is_left_out_only_if_asked(sweep: Sweep, standin_source: None, tmp_path: Path) -> None:
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "far.yaml").write_text("name: image_folder\nroot: far\n")
    arguments = ["--config-dir", "mine", "-m", "data=textures,far", *SMALL[1:]]
    refused = sweep(*arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: data.root=far: no such folder")
    done = sweep(*arguments, "skip_absent=true")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("left out, because skip_absent=true: data.root=far: no such folder") == 1
    assert set(pd.read_csv(tmp_path / "outputs/sweep/table.csv")["task"]) == {"textures"}


@pytest.mark.slow
def test_own_yaml_in_a_config_dir(sweep: Sweep, standin_source: None, tmp_path: Path) -> None:
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "few.yaml").write_text("name: textures\nper_class: 2\n")
    done = sweep("--config-dir", "mine", "-m", "data=few", *SMALL[2:])
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(tmp_path / "outputs/sweep/table.csv")["n_train"].tolist() == [20, 20]
