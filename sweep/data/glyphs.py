"""Embedded data sets of characters, from the fonts that matplotlib ships. No file, no network.

Every image is a function of (character, split, number) alone, so a task is the same on every machine
with the same library versions, and a longer split begins with the images of a shorter one.
"""

import functools
from abc import abstractmethod
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from sweep import interrupt
from sweep.config import DataConfig
from sweep.data.decode import resized
from sweep.data.types import Allocate, Dataset, Images, Labels, Unreadable

VERSION = 1  # of the rendering; it is part of every key, so a change here retrains what depends on it

SIZE = 32  # pixels
LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS = "0123456789"
# No letter that looks like a Latin capital, or like another of these.
GREEK_CYRILLIC = "ΓΔΘΛΞΠΣΦΨΩαβγδεζηλμξσωБДЖЗИЙЦЧШЩЪЫЭЮЯЉЊЂ"

# The 16 text faces of matplotlib that have all of these characters.
FACES = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
)
LATIN_FEW = LATIN[:5]  # for a source of few classes
# No letter that looks like one of LATIN or of another alphabet.
LOWERCASE = "abdefghijklmnqrt"
SYMBOLS = "!?&@#%+=<*/$§¶€£"
STENCIL = 96  # pixels; characters are drawn once at this size, then warped


class Embedded(Dataset):
    """A data set that is made in memory: it needs no file."""

    @abstractmethod
    def make(self, split: str) -> tuple[Images, Labels]:
        """Return the images of a split, (N, 3, S, S) at their own size, and their labels (N,)."""

    def read(self, size: int, allocate: Allocate) -> Unreadable:
        for split in self.splits():
            images, labels = self.make(split)
            pixels, numbers = allocate(split, len(labels))
            pixels[:], numbers[:] = resized(images, size), labels
        return {}


class Characters(Embedded):
    """Characters of an alphabet: so many of each class to train and validate on, and so many to test on."""

    def __init__(self, config: DataConfig, alphabet: str, train: int, test: int) -> None:
        super().__init__(config)
        self.alphabet = alphabet
        self.per_class = {"train": train, "test": test}

    def classes(self) -> tuple[str, ...]:
        return tuple(self.alphabet)

    def fingerprint(self) -> list[Any]:
        return [VERSION, self.alphabet, *self.per_class.values()]

    def similar(self, source: str) -> bool | None:
        return True if source == "glyphs_latin" else None

    def make(self, split: str) -> tuple[Images, Labels]:
        return characters(self.alphabet, self.per_class[split], split)


def characters(alphabet: str, per_class: int, split: str) -> tuple[Images, Labels]:
    """Return images of every character, and their labels.

    images: (len(alphabet) * per_class, 3, 32, 32) uint8; classes in alphabet order, one after another.
    Face, colours (contrast at least 0.4 of full range), rotation (+-15 degrees), size, shear, place and noise vary.
    """
    return draw(_character, [ord(char) for char in alphabet], per_class, split)


def draw(
    one: Callable[[int, np.random.Generator], Images],
    kinds: Iterable[int],
    per_class: int,
    split: str,
) -> tuple[Images, Labels]:
    """Return per_class images of every kind, one kind after another, and their labels: the places of the kinds."""
    images, labels = [], []
    for (label, kind), number in product(enumerate(kinds), range(per_class)):
        interrupt.check()
        images.append(one(kind, np.random.default_rng([VERSION, kind, number, *split.encode()])))
        labels.append(label)
    return np.stack(images), np.array(labels, dtype=np.int64)


def _character(code: int, rng: np.random.Generator) -> Images:
    stencil = stencil_of(chr(code), FACES[rng.integers(len(FACES))])
    angle = np.deg2rad(rng.uniform(-15, 15))
    scale = STENCIL / SIZE / rng.uniform(0.75, 1.05)
    shear = rng.uniform(-0.15, 0.15)
    shift = rng.uniform(-3, 3, size=2)
    # PIL wants the map from output pixel to stencil pixel, around the two centres.
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = scale * turn @ np.array([[1.0, shear], [0.0, 1.0]])
    offset = STENCIL / 2 - matrix @ (np.full(2, SIZE / 2) + shift)
    coefficients = (*matrix[0], offset[0], *matrix[1], offset[1])
    mask = stencil.transform((SIZE, SIZE), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    alpha = np.asarray(mask, dtype=np.float64) / 255  # (32, 32)
    paper, ink = colours(rng)
    image = paper[:, None, None] * (1 - alpha) + ink[:, None, None] * alpha  # (3, 32, 32)
    return quantise(image + rng.normal(0, 0.04, image.shape))


def colours(rng: np.random.Generator) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return two colours (3,) in 0..1 that differ in brightness by 0.4 at least."""
    while True:
        first, second = rng.uniform(0, 1, size=(2, 3))
        if abs((first - second) @ (0.299, 0.587, 0.114)) >= 0.4:  # luma, ITU-R BT.601
            return first, second


def quantise(image: npt.NDArray[np.float64]) -> Images:
    """Return an image in 0..1, or beyond, as uint8."""
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


@functools.cache
def stencil_of(char: str, face: str) -> Image.Image:
    """Return a character as one of FACES draws it, upright, white on black, STENCIL pixels square."""
    stencil = Image.new("L", (STENCIL, STENCIL))
    ImageDraw.Draw(stencil).text((STENCIL / 2, STENCIL / 2), char, fill=255, font=_font(face), anchor="mm")
    return stencil


@functools.cache
def _font(face: str) -> ImageFont.FreeTypeFont:
    import matplotlib  # noqa: PLC0415  slow to import, and needed only where a character is drawn

    # Basic layout: the same glyph positions whether or not the optional Raqm library is installed.
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"
    return ImageFont.truetype(str(path), size=64, layout_engine=ImageFont.Layout.BASIC)
