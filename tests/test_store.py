"""What is kept on disk: whole or absent, checked, bounded, safe for two at once."""

import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sweep.data import store


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path))
    store.verified.clear()
    yield
    store.verified.clear()


def keep(name: str, values: np.ndarray) -> Path:
    with store.group(name) as group, group.write() as allocate:
        allocate("values", values.shape, values.dtype)[:] = values
    (path,) = group.folder.glob("values.*.npy")
    return path


def kept(name: str) -> np.ndarray | None:
    with store.group(name) as group:
        return group.read("values")


@pytest.mark.parametrize(
    "values", [np.arange(12.0).reshape(3, 4), np.zeros((0, 3), np.uint8), np.arange(5, dtype="<u2")]
)
def test_what_was_written_is_read_memory_mapped(values: np.ndarray) -> None:
    assert kept("a") is None
    keep("a", values)
    store.verified.clear()
    found = kept("a")
    assert isinstance(found, np.memmap)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


def test_changes_of_what_was_read_stay_private() -> None:
    keep("a", np.arange(5))
    found = kept("a")
    assert found is not None
    found[:] = 9
    np.testing.assert_array_equal(kept("a"), np.arange(5))


@pytest.mark.parametrize("harm", ["flip", "cut", "header", "empty"])
def test_damaged_file_is_absent_and_removed(harm: str) -> None:
    path = keep("a", np.arange(1000))
    store.verified.clear()
    content = bytearray(path.read_bytes())
    if harm == "flip":
        content[700] ^= 1
    elif harm == "header":
        content[:6] = b"nonono"
    path.write_bytes(bytes(content[: {"cut": 300, "empty": 0}.get(harm, len(content))]))
    assert kept("a") is None
    assert not path.exists()
    keep("a", np.arange(1000))
    assert kept("a") is not None


def test_nothing_is_readable_before_all_is_written() -> None:
    def fail() -> None:
        with store.group("a") as group, group.write() as allocate:
            allocate("values", (3,), np.int64)[:] = 1
            raise RuntimeError("stopped half way")

    with pytest.raises(RuntimeError):
        fail()
    assert kept("a") is None
    assert not (store.arrays_folder() / "a").exists()
    (store.arrays_folder() / "a").mkdir()
    (store.arrays_folder() / "a" / "values.tmp").write_bytes(b"left by a killed process")
    keep("a", np.arange(3))
    assert not list((store.arrays_folder() / "a").glob("*.tmp"))


def test_least_recently_used_goes_first_and_the_last_one_stays() -> None:
    for number, name in enumerate("abc"):
        keep(name, np.zeros(1000))
        os.utime(store.arrays_folder() / name, (number, number))
    assert kept("a") is not None  # now the latest
    store.trim(20_000)
    assert [name for name in "abc" if (store.arrays_folder() / name).exists()] == ["a", "c"]
    store.trim(0)
    assert [name for name in "abc" if (store.arrays_folder() / name).exists()] == ["a"]


def test_a_group_in_use_is_not_removed_and_what_was_read_outlives_a_removal() -> None:
    keep("old", np.arange(4))
    os.utime(store.arrays_folder() / "old", (0, 0))
    keep("new", np.arange(4))
    with store.group("old") as group:
        values = group.read("values")
        os.utime(store.arrays_folder() / "old", (0, 0))
        store.trim(0)
        assert (store.arrays_folder() / "old").exists()
    store.trim(0)
    assert not (store.arrays_folder() / "old").exists()
    np.testing.assert_array_equal(values, np.arange(4))


def test_full_disk_is_an_error_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        keep("a", np.arange(3))
    assert kept("a") is None
    assert not (store.arrays_folder() / "a").exists()


def _fill_slowly(number: int) -> bool:
    with store.group("shared") as group:
        if group.read("values") is not None:
            return False
        with group.write() as allocate:
            values = allocate("values", (100,), np.int64)
            for place in range(100):
                values[place] = place
                time.sleep(0.002)
    return True


def test_of_several_processes_one_writes_and_the_others_find_it() -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert sum(pool.map(_fill_slowly, range(3))) == 1
    np.testing.assert_array_equal(store_read("shared"), np.arange(100))


def store_read(name: str) -> np.ndarray:
    found = kept(name)
    assert found is not None
    return found
