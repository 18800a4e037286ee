"""Long checks: the main command from nothing, signals at any moment, two processes at once, a wheel, real images."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import TIMES
from safetensors import safe_open

pytestmark = pytest.mark.campaign

SWEEP = [sys.executable, "-m", "sweep", "-m"]
GRID = ["data=textures,digits", "data.per_class=4", "epochs=1", "seeds=2", "optimizer.lr=0.001", "freeze_depth=2,5"]


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SWEEP, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def numbers(root: Path) -> pd.DataFrame:
    return pd.read_csv(root / "table.csv").drop(columns=TIMES)


@pytest.fixture(scope="module")
def uninterrupted(standin_source: None, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder, *GRID).returncode == 0
    return numbers(folder / "outputs" / "sweep")


def test_main_command_from_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    done = run(tmp_path, "pretrained=true,false", "freeze_depth=0,2,4", SWEEP_CACHE=str(cache))
    assert done.returncode == 0, done.stderr
    root = tmp_path / "outputs" / "sweep"
    (weights,) = cache.glob("sources/*.safetensors")
    with safe_open(weights, "pt") as file:
        assert float(file.metadata()["val_accuracy"]) >= 0.9
    rows = pd.read_csv(root / "table.csv")
    assert len(rows) == 3 * 2 * 3 * 3 * 2
    assert (rows["status"] == "ok").all()
    cells = pd.read_csv(root / "summary.csv").set_index(["task", "pretrained", "freeze_depth"])["mean"]
    for task, classes in (("glyphs_digits", 10), ("glyphs_greek_cyrillic", 40), ("textures", 10)):
        for depth in (0, 2, 4):
            assert cells[task, True, depth] > cells[task, False, depth] + 0.1, (task, depth)
            assert cells[task, True, depth] > 3 / classes
    judged = json.loads((root / "verdict.json").read_text())
    assert judged["decision"] == "descriptive"
    assert judged["n_seeds"] == judged["n_tasks"] == 3


ENDS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
WAITS = {  # seconds; a signal is to be caught from the first import on; test_faults.py has kills
    signal.SIGINT: (0.3, 0.8, 1.5, 2.5, 3.5, 4.5),
    signal.SIGTERM: (0.5, 1.0, 2.0, 3.0, 4.0, 5.0),
}


@pytest.mark.parametrize("kind", WAITS)
def test_stopped_at_any_moment_the_next_run_completes_the_table(
    kind: signal.Signals, uninterrupted: pd.DataFrame, tmp_path: Path
) -> None:
    root = tmp_path / "outputs" / "sweep"
    finished = 0
    for wait in WAITS[kind]:
        process = subprocess.Popen(
            [*SWEEP, *GRID], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        time.sleep(wait)
        process.send_signal(kind)
        _, errors = process.communicate(timeout=60)
        # Before our first line, while Python itself starts, the signal is Python's.
        if process.returncode not in (0, -kind):
            code, verb = ENDS[kind]
            assert process.returncode == code, errors
            assert f"{verb}: what is finished is kept" in errors
            assert "Traceback" not in errors
        records = list(root.glob("jobs/*/seed-*.json"))
        assert len(records) >= finished, "a finished record was lost"
        for record in records:
            json.loads(record.read_text())
        finished = len(records)
    done = run(tmp_path, *GRID)
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(numbers(root), uninterrupted)


def test_two_processes_share_one_sweep(uninterrupted: pd.DataFrame, tmp_path: Path) -> None:
    both = [
        subprocess.Popen([*SWEEP, *GRID], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    pd.testing.assert_frame_equal(numbers(tmp_path / "outputs" / "sweep"), uninterrupted)


def test_two_nodes_that_see_one_cache_by_two_mounts_train_a_source_once(tmp_path: Path) -> None:
    """Also when the node that trains it is killed: another goes on with its lock, which is not left held."""
    grid = ["data=textures", "data.per_class=4", "seeds=1", "epochs=1", "freeze_depth=4", "pretrained=true"]
    source = ["source=pretrain", "data@source.data=digits", "source.data.per_class=40", "source.epochs=5"]
    cache = tmp_path / "cache"
    cache.mkdir()

    together: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}

    def node(name: str) -> "subprocess.Popen[str]":
        mount, folder = tmp_path / f"mount-{name}", tmp_path / name
        mount.mkdir()
        folder.mkdir()
        alone = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" "$SWEEP_CACHE" && exec "$@"', str(cache)]
        environment = {**os.environ, "SWEEP_CACHE": str(mount)}
        return subprocess.Popen([*alone, *SWEEP, *grid, *source], cwd=folder, env=environment, text=True, **together)

    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("mounts of its own need root and unshare")
    first = node("first")
    while not [*cache.glob("sources/*.lock")]:
        assert first.poll() is None
        time.sleep(0.1)
    others = [node("second"), node("third")]
    time.sleep(2)
    first.kill()
    first.communicate()
    assert not [*cache.glob("sources/*.safetensors")], "it was killed while it trained"
    said = [process.communicate(timeout=500)[0] for process in others]
    assert [process.returncode for process in others] == [0, 0], said
    assert sum("pretraining resnet18 on digits" in each for each in said) == 1
    second, third = (numbers(tmp_path / name / "outputs" / "sweep") for name in ("second", "third"))
    pd.testing.assert_frame_equal(second, third)


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_hydras_own_launchers_work(launcher: str, tmp_path: Path) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    grid = ["data=textures", "data.per_class=3", "epochs=1", "seeds=1", "pretrained=false", "freeze_depth=4,3"]
    grid += ["threads=1"]  # joblib divides the cores among its workers
    for name in (launcher, "basic"):
        (tmp_path / name).mkdir()
        done = run(tmp_path / name, *grid, "optimizer.lr=0.001,1e30", f"hydra/launcher={name}")
        assert done.returncode == 1, done.stderr
        assert done.stdout.count("seed 0: diverged") == 2
    one, other = (numbers(tmp_path / name / "outputs" / "sweep") for name in (launcher, "basic"))
    pd.testing.assert_frame_equal(one, other)


def built(folder: Path, target: Path, *kinds: str, **environment: str) -> list[Path]:
    """Build these kinds (sdist, wheel) of what lies in the folder; return their files."""
    which = [argument for kind in kinds for argument in ("-t", kind)]
    build = [sys.executable, "-m", "hatchling", "build", *which, "-d", str(target)]
    subprocess.run(build, cwd=folder, env={**os.environ, **environment}, check=True, capture_output=True)
    return sorted(target.iterdir())


def test_wheel_works_elsewhere(standin_source: None, tmp_path: Path) -> None:
    wheel, sdist = built(Path(__file__).parent.parent, tmp_path / "dist", "sdist", "wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    for name in ("conf/config.yaml", "tests/conftest.py", "docs/index.md", "benchmarks/compatibility.py", "LICENSE"):
        assert (unpacked / name).exists(), name
    (again,) = built(unpacked, tmp_path / "again", "wheel")
    assert (again.name, again.read_bytes()) == (wheel.name, wheel.read_bytes())
    (unpacked / "PKG-INFO").unlink()  # as in an archive of the repository, on a machine without git
    (plain,) = built(unpacked, tmp_path / "plain", "wheel", PATH="")
    fallback = tomllib.loads((unpacked / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["version"]
    assert plain.name.split("-")[1] == fallback["fallback-version"]
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    assert (site / "sweep" / "conf" / "config.yaml").exists()
    assert (site / "sweep" / "py.typed").exists()
    assert (site / "hydra_plugins" / "freeze_sweep" / "sweeper.py").exists()
    assert not (site / "hydra_plugins" / "__init__.py").exists(), "a namespace package, which other plugins share"
    work = tmp_path / "work"
    work.mkdir()
    done = run(work, *GRID[1:], "data=textures", PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr
    where = [sys.executable, "-c", "import sweep; print(sweep.__file__)"]
    found = subprocess.run(
        where, cwd=work, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith(str(site)), "the wheel ran, not the checkout"
    (row, *_) = pd.read_csv(work / "outputs/sweep/table.csv").to_dict("records")
    assert pd.isna(row["git_commit"])
    assert json.loads(row["versions"])["freeze-sweep"] == wheel.name.split("-")[1]


@pytest.mark.skipif("SWEEP_SHARED" not in os.environ, reason="real images lie in $SWEEP_SHARED/data")
def test_real_images_from_a_folder(standin_source: None, tmp_path: Path) -> None:
    with tarfile.open(Path(os.environ["SWEEP_SHARED"]) / "data" / "rsscn7-64.tar.xz") as archive:
        archive.extractall(tmp_path / "aerial", filter="data")
    done = run(
        tmp_path, "data=image_folder", f"data.root={tmp_path / 'aerial'}", "data.limit_train=700", "seeds=1",
        "freeze_depth=5", "pretrained=false", "optimizer.lr=0.01", "epochs=10",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = pd.read_csv(tmp_path / "outputs/sweep/table.csv").to_dict("records")
    assert (row["task"], row["n_classes"], row["n_train"], row["n_test"]) == ("aerial", 7, 700, 700)
    assert row["test_accuracy"] > 2 / 7  # random features of real images beat chance by far
