"""The command line as users type it, in a process of its own and in a folder that is not the project's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

SMALL = ["data=textures", "data.per_class=4", "epochs=1", "seeds=1", "optimizer.lr=0.001", "freeze_depth=0,5"]


def sweep(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:sweep", "-m", "sweep", *arguments],
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


def test_sweep_resume_and_report(standin_source: None, tmp_path: Path) -> None:
    first = sweep(tmp_path, "-m", *SMALL, "pretrained=true,false")
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("] textures, ") == 4
    root = tmp_path / "outputs" / "sweep"
    assert len(pd.read_csv(root / "table.csv")) == 4
    assert json.loads((root / "verdict.json").read_text())["decision"] == "untested"
    before = files(root)

    again = sweep(tmp_path, "-m", *SMALL, "pretrained=true,false")
    assert again.returncode == 0
    assert "all finished before" in again.stdout
    assert table_of(again.stdout) == table_of(first.stdout)
    assert files(root) == before

    more = sweep(tmp_path, "-m", *SMALL, "pretrained=true,false", "seeds=2")
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

    single = sweep(tmp_path, *SMALL[:-1], "freeze_depth=5")
    assert single.returncode == 0
    assert single.stdout.startswith("1 point, all finished before")
    assert "seed 0: lr 0.001, validation" in single.stdout
    assert files(root)["table.csv"] == (root / "table.csv").read_bytes()


def test_failed_points_leave_the_others_alone(standin_source: None, tmp_path: Path, folder_of_images: Path) -> None:
    (folder_of_images / "cat" / "00.jpg").write_bytes(b"")
    arguments = ["-m", f"data.root={folder_of_images}", "data.per_class=null", "data=image_folder", *SMALL[2:]]
    done = sweep(tmp_path, *arguments)
    assert done.returncode == 1
    assert "FAILED: data.root=" in done.stdout
    assert "Missing:" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    rows = pd.read_csv(tmp_path / "outputs/sweep/table.csv")
    assert rows["status"].tolist() == ["failed", "failed"]
    assert rows["error"].str.contains("00.jpg").all()

    (folder_of_images / "cat" / "00.jpg").unlink()
    mended = sweep(tmp_path, *arguments)
    assert mended.returncode == 0, mended.stdout
    assert "failed" not in (tmp_path / "outputs/sweep/table.csv").read_text()


def test_diverged_point_makes_the_exit_code_true(standin_source: None, tmp_path: Path) -> None:
    done = sweep(tmp_path, "-m", *SMALL[:4], "optimizer=sgd", "optimizer.lr=1e30,0.001", "freeze_depth=4")
    assert done.returncode == 1
    rows = pd.read_csv(tmp_path / "outputs/sweep/table.csv")
    assert sorted(rows["status"]) == ["diverged", "ok"]
    single = sweep(tmp_path, *SMALL[:4], "optimizer=sgd", "optimizer.lr=1e30", "freeze_depth=4")
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
        (["freeze=blok"], "freeze=blok: unknown; use one of block, stage; did you mean block?"),
        (["data.root=photos"], "data.root=photos: data=glyphs_digits reads no files; add data=image_folder"),
        (["-m", "seeds=1,2"], "6 points, of which some are the same"),
        (["--config-name", "other"], "--config-name and --config-path: not supported"),
        (["--config-dir", "nowhere"], "--config-dir nowhere: no such folder"),
        (["data.root=~/a (b)"], "'key=\"~/a b\"'"),
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
def test_wrong_input_is_one_line_and_leaves_nothing(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = sweep(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file")
    done = sweep(tmp_path, "-m", *SMALL)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: name=sweep: cannot write to outputs/sweep (")
    assert done.stderr.count("\n") == 1


def test_broken_yaml_in_a_config_dir_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bad.yaml").write_text("name: [textures")
    done = sweep(tmp_path, "--config-dir", ".", "data=bad")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_full_error_shows_the_traceback(tmp_path: Path) -> None:
    done = sweep(tmp_path, "freeze_depth=9", HYDRA_FULL_ERROR="1")
    assert "Traceback" in done.stderr
    assert done.returncode != 0


def test_help_reads_like_documentation(tmp_path: Path) -> None:
    done = sweep(tmp_path, "--help")
    assert done.returncode == 0
    for word in ("usage:", "examples", "model: ", "resnet18", "freeze_depth: 0", "data.root=my/photos", "sweep.report"):
        assert word in done.stdout, word
    assert "Powered by Hydra" not in done.stdout


def test_own_yaml_in_a_config_dir(standin_source: None, tmp_path: Path) -> None:
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "few.yaml").write_text("name: textures\nper_class: 2\n")
    done = sweep(tmp_path, "--config-dir", "mine", "-m", "data=few", *SMALL[2:])
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(tmp_path / "outputs/sweep/table.csv")["n_train"].tolist() == [20, 20]
