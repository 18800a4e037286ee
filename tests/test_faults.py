"""Disks that fail and files that go bad: what is missing is made again, in one line where it cannot be, never wrong.

docs/faults.md has the same in numbers, with kills and longer sweeps.
"""

import ctypes
import gc
import json
import os
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import TIMES, Done

from sweep.data import store
from sweep.runs import machine

Sweep = Callable[..., Done]
GRID = [
    *("-m", "data=textures", "data.per_class=4", "epochs=1", "seeds=1", "optimizer.lr=0.001", "freeze_depth=5"),
    *("source=pretrain", "data@source.data=digits", "source.data.per_class=4", "source.epochs=1"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which a small sweep has ended, with a cache of its own."""
    folder = tmp_path_factory.mktemp("whole")
    done = subprocess.run(
        [sys.executable, "-m", "sweep", *GRID],
        cwd=folder,
        env={**os.environ, "SWEEP_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def numbers(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "outputs" / "sweep" / "table.csv").drop(columns=TIMES)


def flipped(content: bytes, place: float) -> bytes:
    """Return the content with one bit of it changed, so far into it."""
    at = min(len(content) - 1, int(place * len(content)))
    return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]


def emptied_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Return a harm that changes a file's content so."""

    def spoil(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return spoil


HARMS: dict[str, Callable[[Path], None]] = {
    "cut short": rewritten(lambda content: content[: len(content) // 2]),
    "emptied": rewritten(lambda content: b""),
    "zeros": rewritten(lambda content: bytes(len(content))),
    "first byte": rewritten(lambda content: flipped(content, 0)),
    "bit in the middle": rewritten(lambda content: flipped(content, 0.5)),
    "bit near the end": rewritten(lambda content: flipped(content, 0.97)),
    "a folder": emptied_folder,
    "more behind it": rewritten(lambda content: content + b"\x00" * 100),
}
KINDS = {
    "record": "outputs/sweep/jobs/*/seed-0.json",
    "predictions": "outputs/sweep/jobs/*/tested-0.json",
    "notes": "outputs/sweep/jobs/*/notes.json",
    "settings": "outputs/sweep/jobs/*/config.yaml",
    "manifest": "outputs/sweep/sweep.json",
    "table": "outputs/sweep/table.csv",
    "verdict": "outputs/sweep/verdict.json",
    "source": "cache/sources/*.safetensors",
    "images and features": "cache/arrays/*/*.npy",
    "what is known of models": "cache/**/*.json",
}


CACHED = ("source", "images and features", "what is known of models")
FULL = [(kind, harm) for kind in KINDS for harm in HARMS]
SHORT = {pair for number, pair in enumerate(zip(KINDS, [*HARMS, *HARMS], strict=False)) if number % 3 == 0}


@pytest.mark.parametrize(
    ("kind", "harm"),
    [pytest.param(*each, marks=pytest.mark.campaign if each in SHORT else pytest.mark.marathon) for each in FULL],
)
def test_a_file_that_went_bad_is_made_again_or_named_and_no_number_changes(
    whole: Path, kind: str, harm: str, tmp_path: Path, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "spoilt"
    shutil.copytree(whole, folder)
    monkeypatch.setenv("SWEEP_CACHE", str(folder / "cache"))
    store.verified.clear()
    if kind in CACHED:
        shutil.rmtree(folder / "outputs")  # what is finished does not look at the cache
    spoilt = [path for path in folder.glob(KINDS[kind]) if path.is_file()]
    assert spoilt
    for path in spoilt:
        HARMS[harm](path)
    done = sweep(*GRID, folder=folder)
    assert "Traceback" not in done.stdout + done.stderr
    if done.returncode:  # a folder where a file belongs is not ours to remove
        assert (done.returncode, harm) in ((1, "a folder"), (2, "a folder")), done
        assert done.stderr.count("error: ") == (done.returncode == 2), done.stderr
        assert str(spoilt[0].name) in done.stdout + done.stderr
        for path in spoilt:
            path.rmdir()
        done = sweep(*GRID, folder=folder)
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(numbers(folder), numbers(whole))


SCRIPT = """
mount -t tmpfs -o "$OPTIONS" tmpfs "$SMALL" || exit 77
"$@" > first.txt 2>&1
echo $? > first.code
mount -o remount,rw,size=2g "$SMALL"
"$@" > second.txt 2>&1
echo $? > second.code
cp -r outputs kept
"""


@pytest.mark.parametrize(
    ("place", "options"),
    [
        pytest.param(*each, marks=pytest.mark.campaign if each[1] in ("size=32k", "ro") else pytest.mark.marathon)
        for each in (
            *(("outputs", each) for each in ("ro", "size=4k", "size=12k", "size=32k", "size=100k", "size=300k")),
            *(("cache", each) for each in ("ro", "size=4k", "size=300k", "size=8m", "size=44m", "size=46m")),
        )
    ],
)
def test_a_disk_that_takes_nothing_is_a_line_and_with_room_the_same_command_ends_the_same(
    whole: Path, place: str, options: str, tmp_path: Path
) -> None:
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        pytest.skip("mounts of its own need root and unshare")
    small = tmp_path / place
    small.mkdir()
    environment = {"OPTIONS": options, "SMALL": str(small), "SWEEP_CACHE": str(tmp_path / "cache")}
    command = ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", sys.executable, "-m", "sweep", *GRID]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, **environment}, check=True)
    said = (tmp_path / "first.txt").read_text()
    code = int((tmp_path / "first.code").read_text())
    assert "Traceback" not in said, said
    assert "No space left" in said or "Read-only" in said or code == 0, said
    if place == "outputs":
        assert code in (1, 2), said
    assert int((tmp_path / "second.code").read_text()) == 0, (tmp_path / "second.txt").read_text()
    (tmp_path / "outputs").rmdir() if place == "outputs" else shutil.rmtree(tmp_path / "outputs")
    (tmp_path / "kept").rename(tmp_path / "outputs")
    found, expected = numbers(tmp_path), numbers(whole)
    if place == "cache" and found["feed"].eq("recomputed").all():  # scores are of outputs that are kept
        scores = [name for name in expected.columns if str(name).startswith("score_")]
        found, expected = found.drop(columns="feed"), expected.drop(columns=["feed", *scores])
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize(
    "gigabytes",
    [
        pytest.param(each, marks=pytest.mark.campaign if each in (1.0, 3.6) else pytest.mark.marathon)
        for each in (1.0, 2.0, 3.0, 3.3, 3.6, 3.9, 4.2, 4.5)
    ],
)
def test_a_limit_of_memory_is_a_line_and_without_it_the_sweep_goes_on(
    whole: Path, gigabytes: float, tmp_path: Path
) -> None:
    """The line is ours, or there is none: oneDNN may end the process by a signal where it gets no memory."""
    if not shutil.which("prlimit"):
        pytest.skip("limits of memory need prlimit")
    environment = {**os.environ, "SWEEP_CACHE": str(tmp_path / "cache")}
    large = [*GRID, "model=resnet50", "batch_size=100", "freeze_depth=0"]

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    limit = ["prlimit", f"--as={int(gigabytes * 2**30)}", "--core=0"]
    first = run(*limit, sys.executable, "-m", "sweep", *large)
    said = first.stdout + first.stderr
    assert "Traceback" not in said, said
    assert first.returncode <= 0 or (first.returncode in (1, 2) and "out of memory (" in said), said
    again = run(sys.executable, "-m", "sweep", *GRID)
    assert again.returncode == 0, again.stderr
    found = numbers(tmp_path)
    pd.testing.assert_frame_equal(found[found["model"] == "resnet18"].reset_index(drop=True), numbers(whole))


@pytest.mark.parametrize(
    "kills", [pytest.param(4, marks=pytest.mark.campaign), pytest.param(100, marks=pytest.mark.marathon)]
)
def test_after_a_kill_at_any_moment_the_table_is_the_same_and_no_record_is_lost(kills: int) -> None:
    command = [sys.executable, str(Path(__file__).parent / "kills.py"), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["kills"], found["equal"], found["kept"]) == (kills, kills, kills)


@pytest.mark.marathon
def test_four_processes_begin_one_sweep_from_nothing(whole: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "SWEEP_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "sweep", *GRID[:-5], "freeze_depth=4,5", *GRID[-4:]]
    together = [
        subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(4)
    ]
    said = [process.communicate(timeout=900)[0] for process in together]
    assert [process.returncode for process in together] == [0] * 4, said
    assert sum("pretraining resnet18 on digits" in each for each in said) == 1
    found = numbers(tmp_path)
    alone = found[found["freeze_depth"] == 5].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, numbers(whole), check_like=True)  # more scores, another order


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc keeps it so")
def test_memory_that_was_freed_goes_back_to_the_system() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    pieces = [bytes(2000) for _ in range(100_000)]
    last = pieces.pop()  # what lies above them and stays, so that the heap cannot shrink
    pieces.clear()
    before = resident()
    machine.give_back()
    assert before - resident() > 100e6
    assert last


def test_what_a_point_drops_is_freed_and_what_was_there_stays_with_the_collector() -> None:
    class Itself:
        def __init__(self) -> None:
            self.own = self

    gc.collect()
    gc.disable()
    try:
        with machine.tidied():
            gone = weakref.ref(Itself())
            assert gone() is not None
    finally:
        gc.enable()
    assert gone() is None
    assert gc.get_freeze_count() == 0
