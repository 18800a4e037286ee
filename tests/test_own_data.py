"""Data sets of the user's own: every kind of image and split; what cannot be used gets one line."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sweep.config import Broken, DataConfig
from sweep.data import registry
from sweep.data import task as data
from sweep.data.own import picture
from sweep.data.types import Task
from sweep.errors import UserError

SHADES = """
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset, random_split


class Shades(Dataset):
    classes = ["dark", "light"]

    def __init__(self, count=20, first=0):
        self.count, self.first = count, first

    def __len__(self):
        return self.count

    def __getitem__(self, row):
        if row >= self.count:
            raise IndexError(row)
        number = row + self.first
        return Image.new("RGB", (10, 12), (number, 0, 200 * (number % 2))), number % 2
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DataConfig]:
    """Return a function that writes a module into the working folder and returns the settings that name it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.forget()

    def write(source: str, **changes: Any) -> DataConfig:
        module = f"data_{tmp_path.name}"
        (tmp_path / f"{module}.py").write_text(SHADES + textwrap.dedent(source), encoding="utf-8")
        registry.forget()
        return DataConfig("module", factory=f"{module}:dataset", **changes)

    return write


Write = Callable[..., DataConfig]


def load(config: DataConfig) -> Task:
    data.check(config)
    return data.load(config, 8)


def counts(task: Task) -> list[int]:
    return [len(split.labels) for split in (task.train, task.val, task.test)]


@pytest.mark.parametrize(
    ("made", "sizes"),
    [
        ("Shades(40)", [26, 6, 8]),
        ("(Shades(20), Shades(6, 50))", [16, 4, 6]),
        ("(Shades(20), Shades(4, 40), Shades(6, 50))", [20, 4, 6]),
        ("{'train': Shades(20), 'val': Shades(4, 40)}", [16, 4, 4]),
        ("dict(zip(('train', 'test'), random_split(Shades(26), [20, 6], torch.Generator().manual_seed(0))))", None),
    ],
)
def test_one_or_several_splits_are_taken_as_they_are(config: Write, made: str, sizes: list[int] | None) -> None:
    settings = config(f"def dataset():\n    return {made}\n")
    task = load(settings)
    assert task.classes == ("dark", "light")
    assert sizes is None or counts(task) == sizes
    for split in (task.train, task.val, task.test):
        shown = split.images
        assert shown.shape[1:] == (3, 8, 8)
        np.testing.assert_array_equal(shown[:, 2, 0, 0], 200 * split.labels)
        np.testing.assert_array_equal(shown[:, 0, 0, 0] % 2, split.labels)
    assert data.label(settings) == settings.factory


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(np.array([[[0, 51, 102], [255, 204, 153]]], np.uint8)),
        np.array([[[0, 51, 102], [255, 204, 153]]], np.uint8),
        np.array([[[0, 0.2, 0.4], [1, 0.8, 0.6]]], np.float32),
        torch.tensor([[[0, 255]], [[51, 204]], [[102, 153]]], dtype=torch.uint8),
        torch.tensor([[[0, 1.0]], [[0.2, 0.8]], [[0.4, 0.6]]]),
        np.array([[[0, 51, 102, 255], [255, 204, 153, 255]]], np.uint8),
    ],
)
def test_pictures_arrays_and_tensors_are_the_same_image(image: Any) -> None:
    found = np.asarray(picture(image).convert("RGB"))
    np.testing.assert_array_equal(found, [[[0, 51, 102], [255, 204, 153]]])


@pytest.mark.parametrize("image", [np.array([[7, 9]], np.uint8), torch.tensor([[[7, 9]]], dtype=torch.uint8)])
def test_grey_images_have_one_channel(image: Any) -> None:
    assert np.asarray(picture(image)).tolist() == [[7, 9]]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 3", "train is a int, not a Dataset"),
        ("return {'training': Shades()}", r"returned the splits training; use train, val and test"),
        ("return Shades(0)", "train is empty"),
        ("return [('a', 0)] * 20", r"train is a tuple|train\[0\] has str 'a' for an image"),
        ("raise OSError('no disk')", r"dataset\(\) raised OSError: no disk \(data_.*line \d+\)"),
        ("return {'train': [{'image': 1}] * 9}", r"train\[0\] is dict \{'image': 1\}; give \(image, label\)"),
        ("return {'train': [(np.zeros((4, 4), np.uint8), 'cat')] * 9}", "has the label str 'cat'; give a whole number"),
        ("return {'train': [(np.zeros((4, 4), np.uint8), -1)] * 9}", "has the label -1"),
        ("return {'train': [(np.full((4, 4), 2.5), 0)] * 9}", "pixels from 2.5 to 2.5; give floats in 0..1"),
        ("return {'train': [(np.full((4, 4), np.nan), 0)] * 9}", "pixels from nan to nan"),
        ("return {'train': [(np.zeros((4, 4), np.int64), 0)] * 9}", "pixels of type int64"),
        ("return {'train': [(np.zeros((5, 6, 2), np.uint8), 0)] * 9}", r"shape \(5, 6, 2\); give 1, 3 or 4 channels"),
        ("return {'train': [(np.zeros((4, 4), np.uint8), row % 2 * 2) for row in range(9)]}", "no training image of 1"),
        ("made = Shades(); made.classes = ['a']; return made", "has the label 1, and only 1 names in classes"),
        ("made = Shades(); made.classes = ['a', 'b', 'c']; return made", "no training image of c"),
        ("made = Shades(); made.classes = ['a', 'a']; return made", "the same name twice in classes"),
        ("return {'train': [(np.random.rand(4, 4), row % 2) for row in range(20)]}", "has other images each time"),
        ("return random_split(Shades(40), [30, 10])", "has other images each time"),
    ],
)
def test_a_data_set_that_cannot_be_used_gets_one_line(config: Write, body: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(config(f"def dataset():\n    {body}\n"))
    assert "\n" not in str(caught.value)


def test_names_follow_the_file_and_the_images(config: Write) -> None:
    one = "def dataset():\n    return Shades(40)\n"
    first = data.fingerprint(config(one))
    assert data.fingerprint(config(one)) == first
    assert data.fingerprint(config(one + "# edited\n")) != first
    assert data.fingerprint(config(one.replace("40", "38"))) != first


def test_images_that_raise_are_named_and_left_out_where_that_is_asked_for(config: Write) -> None:
    source = """
    class Broken(Shades):
        def __getitem__(self, row):
            if row == 3:
                raise OSError("truncated")
            return super().__getitem__(row)

    def dataset():
        return Broken(40)
    """
    settings = config(source)
    with pytest.raises(UserError, match=r"dataset train\[3\] \(OSError: truncated\)"):
        load(settings)
    settings.broken = Broken.skip
    assert sum(counts(load(settings))) == 39


def test_settings_of_own_data_need_data_module() -> None:
    with pytest.raises(
        UserError, match=r"data\.factory=a:b: data=digits is made by no function of yours; add data=module"
    ):
        data.check(DataConfig("digits", factory="a:b"))
    with pytest.raises(UserError, match=r"data\.factory is not set"):
        data.check(DataConfig("module"))
