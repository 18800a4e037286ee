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
    assert np.mean(across[upright] > along[upright]) > 0.95
    assert across[upright].mean() > 1.1 * along[upright].mean()
    assert len(patterns.grating_names()) == labels.max() + 1


@pytest.mark.parametrize("name", ["plaids", "rings", "lattices", "checks", "noise", "gratings_many", "gratings_few"])
def test_a_pattern_is_its_own_and_its_classes_can_be_told_apart(name: str) -> None:
    """By the power spectrum, nearest class mean; chance is 1 / classes."""
    dataset = registry.DATASETS[name](DataConfig(name))  # not registry.open()'s: that one is everybody's
    assert isinstance(dataset, patterns.Patterns)
    dataset.per_class = {"train": 25, "test": 12}
    features = {}
    for split in ("train", "test"):
        images, labels = dataset.make(split)
        grey = images.mean(axis=1) - images.mean(axis=(1, 2, 3), keepdims=True)[:, 0]
        energy = np.abs(np.fft.fft2(grey))[:, :16, :]
        features[split] = (energy / energy.sum(axis=(1, 2), keepdims=True)).reshape(len(labels), -1), labels
    known, labels = features["train"]
    means = np.array([known[labels == label].mean(axis=0) for label in range(len(dataset.classes()))])
    asked, truth = features["test"]
    nearest = np.linalg.norm(asked[:, None] - means, axis=2).argmin(axis=1)
    assert (nearest == truth).mean() > 2 / len(means)
    others = registry.DATASETS["textures"](DataConfig("textures"))
    assert isinstance(others, patterns.Patterns)
    others.per_class = {"train": 2, "test": 1}
    assert not {image.tobytes() for image in others.make("train")[0]} & {image.tobytes() for image in images}


def test_study_alphabets_share_no_character_and_every_face_has_them() -> None:
    alphabets = (glyphs.LATIN, glyphs.DIGITS, glyphs.GREEK_CYRILLIC, glyphs.LOWERCASE, glyphs.SYMBOLS)
    assert [len(set(alphabet)) for alphabet in alphabets] == [26, 10, 40, 16, 16]
    assert len(set().union(*alphabets)) == 108
    for face in glyphs.FACES:
        for alphabet in alphabets:
            assert len({glyphs.stencil_of(char, face).tobytes() for char in alphabet}) == len(alphabet), face
