"""What doctor says of a machine, and what cache removes and leaves."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Done
from filelock import FileLock

from sweep.cli import cache, doctor


def filled(folder: Path) -> Path:
    """Make a cache folder with two entries of arrays, one source, one download, one card, and something else."""
    for name, size in (("arrays/images-digits-a", 3_000_000), ("arrays/features-b", 2_000)):
        (folder / name).mkdir(parents=True)
        (folder / name / "x.00000000.npy").write_bytes(bytes(size))
        (folder / f"{name}.lock").touch()
    for name in ("sources/letters.safetensors", "sources/letters.lock", "data/cifar/batch", "models/a.json", "odd"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"12345")
    return folder


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run(main: Callable[[list[str]], None], *arguments: str) -> Done:
        code: Any = 0
        try:
            main([*arguments])
        except SystemExit as stopped:
            code = stopped.code
        return Done(code, *capsys.readouterr())

    return run


def left(folder: Path) -> set[str]:
    return {each.path.relative_to(folder).as_posix() for each in cache.entries()}


def test_the_cache_is_listed_by_kind_and_size(command: Callable[..., Done], tmp_path: Path) -> None:
    assert command(cache.main).stdout == f"{tmp_path}/cache: nothing of that there\n"
    filled(tmp_path / "cache")
    lines = command(cache.main).stdout.splitlines()
    assert lines[0] == f"{tmp_path}/cache: 3 MB"
    assert [line.split()[:4] for line in lines[4:10]] == [
        ["images", "1", "3", "MB"], ["features", "1", "2", "kB"], ["sources", "1", "0.005", "kB"],
        ["data", "1", "0.005", "kB"], ["models", "1", "0.005", "kB"], ["other", "1", "0.005", "kB"],
    ]  # fmt: skip
    assert "0 days ago  arrays/images-digits-a" in lines[13]


def test_clearing_removes_what_was_asked_for_and_nothing_in_use(command: Callable[..., Done], tmp_path: Path) -> None:
    folder = filled(tmp_path / "cache")
    with FileLock(folder / "arrays" / "features-b.lock"):
        done = command(cache.main, "--clear", "images", "features", "--yes")
    assert done.returncode == 1
    assert "removed 1 of 2, 3 MB" in done.stdout
    assert done.stderr.startswith(f"warning: {folder}/arrays/features-b: is in use")
    assert "arrays/images-digits-a" not in left(folder)
    assert (folder / "arrays" / "images-digits-a.lock").exists(), "whoever waits for it holds this very file"
    assert len(left(folder)) == 5
    done = command(cache.main, "--clear", "all", "--yes")
    assert (done.returncode, left(folder)) == (0, set())
    assert command(cache.main, "--clear", "all", "--yes").returncode == 0


def test_only_what_was_not_used_for_long_is_removed(command: Callable[..., Done], tmp_path: Path) -> None:
    folder = filled(tmp_path / "cache")
    old = time.time() - 10 * 86400
    for path in [*(folder / "arrays" / "images-digits-a").iterdir(), folder / "arrays" / "images-digits-a"]:
        os.utime(path, (old, old))
    os.utime(folder / "odd", (time.time(), old))
    assert "10 days ago  arrays/images-digits-a" in command(cache.main, "--older-than", "9").stdout
    assert command(cache.main, "--clear", "all", "--older-than", "9", "--yes").returncode == 0
    assert left(folder) == {
        "arrays/features-b", "sources/letters.safetensors", "data/cifar", "models/a.json", "odd",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clear", "all"], "--clear: there is no terminal to ask in; add --yes"),
        (["--yes"], "--yes: nothing is removed without --clear KIND"),
        (["--older-than", "-1"], "--older-than -1.0: use a number of days of at least 0"),
        (["--older-than", "nan"], "--older-than nan: use a number of days of at least 0"),
        (["--clear", "everything"], "invalid choice: 'everything'"),
    ],
)
def test_wrong_arguments_remove_nothing(
    command: Callable[..., Done], tmp_path: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = filled(tmp_path / "cache")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    done = command(cache.main, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(left(folder)) == 6


@pytest.mark.parametrize(("answer", "count"), [("y", 0), ("", 6), ("n", 6)])
def test_it_asks_in_a_terminal(
    command: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, count: int
) -> None:
    folder = filled(tmp_path / "cache")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda asked: answer)
    assert command(cache.main, "--clear", "all").returncode == 0
    assert len(left(folder)) == count


def cuda(built: str | None, devices: int = 0, told: str = "", archs: tuple[str, ...] = ("sm_80", "sm_90")) -> Any:
    """Return what stands for torch on a machine that we have not."""

    def available() -> bool:
        if told:
            import warnings  # noqa: PLC0415

            warnings.warn(told, stacklevel=1)
        return devices > 0

    return SimpleNamespace(
        version=SimpleNamespace(cuda=built),
        cuda=SimpleNamespace(
            is_available=available,
            device_count=lambda: devices,
            get_device_name=lambda index: "A card",
            get_device_capability=lambda index: (9, 0),
            mem_get_info=lambda index: (60e9, 80e9),
            get_arch_list=lambda: [*archs],
        ),
    )


@pytest.mark.parametrize(
    ("torch", "driver", "hidden", "line"),
    [
        (cuda(None), False, None, "cuda: no NVIDIA driver here; torch is built for CPUs alone"),
        (cuda("12.8"), False, None, "cuda: no NVIDIA driver here; torch is built for CUDA 12.8"),
        (cuda(None), True, None, "PROBLEM: cuda: there is an NVIDIA driver, but torch is built for CPUs alone"),
        (cuda("12.8"), True, "", "cuda: hidden by CUDA_VISIBLE_DEVICES="),
        (cuda("12.8"), True, None, "PROBLEM: cuda: there is an NVIDIA driver, but torch sees no device (is the driver"),
        (cuda("12.8", told="too old"), True, None, "but torch sees no device (too old)"),
        (cuda("12.8", devices=1), True, None, "cuda:0: A card, 60 GB of 80 GB free, CUDA 12.8"),
        (cuda("12.8", 1, archs=("sm_70",)), True, None, "torch has no code for its compute capability 9.0"),
    ],
)
def test_a_gpu_that_is_not_used_is_explained(
    torch: Any, driver: bool, hidden: str | None, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: name if driver else None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert line in doctor.devices(torch)[1]


def test_unlike_builds_of_torch_and_torchvision_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(torchvision: str) -> Callable[[str], str]:
        return lambda name: {"torch": "2.8.0+cpu", "torchvision": torchvision}.get(name, "1.0")

    monkeypatch.setattr(doctor, "_version", version("0.23.0"))
    assert doctor.versions()[-1].startswith("PROBLEM: torch 2.8.0+cpu and torchvision 0.23.0 are of different builds")
    monkeypatch.setattr(doctor, "_version", version("0.23.0+cpu"))
    assert not any(doctor.PROBLEM in line for line in doctor.versions())


@pytest.mark.slow
def test_doctor_says_what_is_here_and_what_would_be_downloaded(tmp_path: Path) -> None:
    folder = filled(tmp_path / "cache")
    (folder / "data" / "t_32x32.mat").touch()
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth").touch()
    variables = {**os.environ, "SWEEP_CACHE": str(folder), "TORCH_HOME": str(tmp_path / "torch")}
    done = subprocess.run(
        [sys.executable, "-m", "sweep.doctor"], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )
    said = " ".join(done.stdout.split())
    assert (done.returncode, done.stderr) == (0, ""), said
    for words in (
        f"{folder}: 3 MB", "images 1 3 MB decoded images", "cores: ", "disk of the cache: ",
        "data=svhn here", "data=cifar10 downloaded at first use, from www.cs.toronto.edu data=",
        "data=food101 downloaded at first use, from data.vision.ee.ethz.ch",
        "1 are here letters.safetensors", "from download.pytorch.org; 1 checkpoints of torch", "resnet18-f37072fd.pth",
        "hydra/launcher=local", f"SWEEP_CACHE={folder}", "No problem found.",
    ):  # fmt: skip
        assert words in said, words
    assert left_files(folder) == left_files(filled(tmp_path / "again")) | {"data/t_32x32.mat"}, "nothing is changed"


def left_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_broken_torch_is_a_problem_and_the_rest_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_torch.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(str(tmp_path))
    error = doctor._imported("broken_torch")  # noqa: SLF001
    assert isinstance(error, RuntimeError)
    (line,) = doctor._broken("torchvision", error)  # noqa: SLF001
    assert line.startswith("PROBLEM: torchvision cannot be imported (operator torchvision::nms does not exist); pip")
    assert len(doctor.devices(error)) == 1
    assert doctor.machine(error)[0].startswith("cores: ")
