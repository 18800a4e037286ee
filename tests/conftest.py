"""Fixtures: a cache of its own for the whole run, and points small enough to train in a second."""

import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

# Before anything looks it up: tests neither read nor fill the user's cache.
os.environ["SWEEP_CACHE"] = tempfile.mkdtemp(prefix="sweep-tests-")
# Of several test processes each has one thread, and so have the commands that it starts: two wait for each other. Torch
# looks when it is loaded.
os.environ["OMP_NUM_THREADS"] = "1" if "PYTEST_XDIST_WORKER" in os.environ else "2"

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sweep.cli.main import main
from sweep.config import Config, SourceConfig
from sweep.models import build as models
from sweep.plan import sources
from sweep.runs import pretrain
from sweep.runs.session import Session

# Columns that differ between equal runs: times, and with how many others a member shared them, which a run that goes on
# does with those that are left.
TIMES = ["prefix_seconds", "train_seconds", "seconds_per_epoch", "peak_memory_bytes", "together"]

atexit.register(shutil.rmtree, os.environ["SWEEP_CACHE"], ignore_errors=True)


@pytest.fixture(scope="session")
def standin_source() -> Iterator[None]:
    """Put random weights where the trained source would lie: tests of the machinery need not wait for the training."""
    config = SourceConfig()
    path = pretrain.path(sources.resolve(config, "resnet18"))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(models.random_state("resnet18", 32, seed=123), path)
    yield
    path.unlink()


@pytest.fixture
def tiny(standin_source: None) -> Callable[..., Config]:
    """Return a function that makes the config of a small point; keywords set fields, data_x the data's."""

    def make(**changes: object) -> Config:
        config = Config(epochs=1, seeds=1, batch_size=20)
        config.data.name = "textures"
        config.data.per_class = 4
        config.optimizer.lr = 0.001
        for key, value in changes.items():
            group, _, field = key.partition("_")
            if group in ("data", "freeze", "optimizer", "model", "source", "cache") and hasattr(
                getattr(config, group), field
            ):
                setattr(getattr(config, group), field, value)
            else:
                assert hasattr(config, key), key
                setattr(config, key, value)
        return config

    return make


@pytest.fixture(scope="session")
def session() -> Session:
    """Return one session for all tests: what it keeps is keyed by all that it depends on, and takes seconds to make."""
    return Session()


@pytest.fixture
def folder_of_images(tmp_path: Path) -> Path:
    """Return a folder of two classes with twelve images each, of all the kinds that PIL reads from users."""
    rng = np.random.default_rng(0)
    root = tmp_path / "photos"
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for number in range(12):
            height, width = rng.integers(20, 70, size=2)
            pixels = rng.integers(0, 120, size=(height, width, 4), dtype=np.uint8) + 120 * label
            image = Image.fromarray(pixels[..., :3].astype(np.uint8))
            mode, suffix = (("RGB", "jpg"), ("L", "png"), ("P", "png"), ("RGBA", "png"))[number % 4]
            image.convert(mode).save(root / name / f"{number:02}.{suffix}")
    return root


class Done(NamedTuple):
    """What a command that ran in this process left."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Return a function that runs `python -m sweep` with these arguments in this process, in a folder of its own."""
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run(*arguments: str, folder: Path = tmp_path) -> Done:
        monkeypatch.chdir(folder)
        monkeypatch.setattr("sys.argv", ["sweep", *arguments])
        code = 0
        try:
            main()
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture(autouse=True)
def few_threads() -> None:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def wait_for(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """Return what the condition gives, as soon as that is something."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.3)
    return found
