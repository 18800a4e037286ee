import numpy as np
import pytest

from sweep.config import DataConfig
from sweep.data import glyphs, patterns, registry


def test_same_image_every_time_and_longer_split_begins_with_shorter() -> None:
    short, _ = glyphs.characters("AB", 2, "train")
    again, labels = glyphs.characters("AB", 3, "train")
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(short[:2], again[:2])
    np.testing.assert_array_equal(short[2:], again[3:5])


@pytest.mark.parametrize("name", ["glyphs_digits", "textures"])
def test_splits_share_no_image(name: str) -> None:
    dataset = registry.open(DataConfig(name))
    assert isinstance(dataset, glyphs.Embedded)
    train, test = (dataset.make(split)[0] for split in dataset.splits())
    seen = {image.tobytes() for image in train}
    assert len(seen) == len(train)
    assert not seen & {image.tobytes() for image in test}


def test_source_and_tasks_share_no_character() -> None:
    alphabets = (glyphs.LATIN, glyphs.DIGITS, glyphs.GREEK_CYRILLIC)
    assert [len(set(alphabet)) for alphabet in alphabets] == [26, 10, 40]
    assert len(set().union(*alphabets)) == 76


def test_every_face_draws_every_character_differently() -> None:
    for face in glyphs.FACES:
        for alphabet in (glyphs.LATIN + glyphs.DIGITS, glyphs.LATIN + glyphs.GREEK_CYRILLIC):
            drawn = {glyphs.stencil_of(char, face).tobytes() for char in alphabet}
            assert len(drawn) == len(alphabet), face  # a face without two of them would draw its empty box twice


def test_grating_varies_along_its_orientation() -> None:
    dataset = registry.open(DataConfig("textures"))
    assert isinstance(dataset, glyphs.Embedded)
    images, labels = dataset.make("train")
    grey = images.mean(axis=1)  # (N, 32, 32)
    across = np.abs(np.diff(grey, axis=2)).mean((1, 2))
    along = np.abs(np.diff(grey, axis=1)).mean((1, 2))
    upright = labels < 2  # 0 degrees, both frequencies: it varies across the width
    assert np.all(across[upright] > along[upright])
    assert len(patterns.grating_names()) == labels.max() + 1
