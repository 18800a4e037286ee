import gzip
import pickle
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torchvision

from sweep import interrupt
from sweep.config import DataConfig
from sweep.data import registry
from sweep.data import task as data
from sweep.data import torchvision as downloads
from sweep.data.types import Task
from sweep.errors import UserError

FASHION = Path("/usr/share/datasets/fashion-mnist")


def load(config: DataConfig, size: int = 32) -> Task:
    return data.load(config, size)


def idx(array: np.ndarray, path: Path) -> None:
    """Write MNIST's own file format."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(int(side).to_bytes(4, "big") for side in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """Return a root with MNIST's files, ten images of each digit, as bright as the digit."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split in ("train", "t10k"):
        labels = np.arange(100) % 10
        idx(np.repeat(labels * 20, 28 * 28).reshape(100, 28, 28), raw / f"{split}-images-idx3-ubyte")
        idx(labels, raw / f"{split}-labels-idx1-ubyte")
    return tmp_path


@pytest.mark.parametrize("name", downloads.DOWNLOADS)
def test_every_entry_names_a_data_set_of_torchvision(name: str) -> None:
    entry = downloads.DOWNLOADS[name]
    kind = getattr(torchvision.datasets, entry.kind)
    accepted = kind.__init__.__annotations__
    assert set(entry.train) | set(entry.test or {}) <= set(accepted)
    assert len(set(entry.classes)) == len(entry.classes) == len(data.classes(DataConfig(name=name)))
    known = getattr(kind, "classes", None)
    assert known is None or len(known) == len(entry.classes)


def test_coarse_labels_hold_five_fine_ones_each() -> None:
    coarse = downloads.DOWNLOADS["cifar100_coarse"].coarse
    assert coarse is not None
    assert Counter(coarse) == dict.fromkeys(range(20), 5)


def test_files_brought_by_hand_are_read(mnist: Path) -> None:
    task = load(DataConfig(name="mnist", root=str(mnist)))
    assert [len(split.labels) for split in (task.train, task.val, task.test)] == [80, 20, 100]
    for split in (task.train, task.val, task.test):
        assert (split.images == 20 * split.labels[:, None, None, None]).all()
        assert split.images.shape[1:] == (3, 32, 32)


def test_other_files_of_the_same_data_set_are_not_mixed_up(mnist: Path) -> None:
    config = DataConfig(name="mnist", root=str(mnist))
    assert (data.load(config, 32, max_gb=1.0).test.images[0, 0, 0, 0]) == 0
    raw = mnist / "MNIST" / "raw"
    idx(np.full((100, 28, 28), 77), raw / "t10k-images-idx3-ubyte")
    assert (data.load(config, 32, max_gb=1.0).test.images == 77).all()


def test_classes_pick_and_relabel_in_their_order(mnist: Path) -> None:
    config = DataConfig(name="mnist", root=str(mnist), classes=["7", 2, 5])
    assert data.classes(config) == ("7", "2", "5")
    task = load(config)
    assert task.classes == ("7", "2", "5")
    assert len(task.test.labels) == 30
    assert (task.test.images[:, 0, 0, 0] == np.array([140, 40, 100])[task.test.labels]).all()
    assert data.label(config) == "mnist-3classes"
    names = data.classes(DataConfig(name="cifar10", classes=["ship", 0]))
    assert names == ("ship", "airplane")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["shipp", "cat"], "data.classes=shipp: unknown; use one of .* did you mean ship"),
        ([10, 1], "data.classes=10: unknown"),
        ([1, "automobile"], "the same class twice"),
        (["cat"], "only one class"),
    ],
)
def test_wrong_classes_are_refused(classes: list[object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        data.check(DataConfig(name="cifar10", classes=classes))


def test_offline_says_which_files_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", fail)
    config = DataConfig(name="cifar10", root=str(tmp_path))
    message = rf"data=cifar10: not in {tmp_path} .*no route to host.*; put cifar-10-python.tar.gz .* into {tmp_path}"
    with pytest.raises(UserError, match=message) as caught:
        registry.open(config).fetch()
    assert "\n" not in str(caught.value)


def test_damaged_file_is_not_used(mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR's pickles have checksums: a changed file counts as absent, it is never unpickled."""
    folder = mnist / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(pickle.dumps({"data": [], "labels": []}))
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: (_ for _ in ()).throw(OSError("offline")))
    with pytest.raises(UserError, match="cannot be downloaded"):
        registry.open(DataConfig(name="cifar10", root=str(mnist))).fetch()


@pytest.mark.campaign
@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_real_fashion_mnist(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in FASHION.glob("*.gz"):
        with gzip.open(packed) as source, (raw / packed.stem).open("wb") as target:
            shutil.copyfileobj(source, target)
    task = load(DataConfig(name="fashion_mnist", root=str(tmp_path)))
    assert [len(split.labels) for split in (task.train, task.val, task.test)] == [48000, 12000, 10000]
    assert np.bincount(task.test.labels).tolist() == [1000] * 10


def test_reading_stops_at_an_image(mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def check() -> None:
        read.append(1)
        if len(read) > 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(interrupt, "check", check)
    with pytest.raises(KeyboardInterrupt):
        load(DataConfig(name="mnist", root=str(mnist)))
    assert len(read) == 6
