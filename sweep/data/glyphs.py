"""The embedded tasks: characters from the fonts that matplotlib ships, and gratings. No file, no network.

Every image is a function of (task, split, class, number) alone, so a task is the same on every machine with the
same library versions, and a longer split begins with the images of a shorter one.
"""

import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Images = npt.NDArray[np.uint8]  # (N, 3, H, W)

VERSION = 1  # of the rendering; it is part of every key, so a change here retrains what depends on it

SIZE = 32  # pixels
LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS = "0123456789"
# No letter that looks like a Latin capital, or like another of these.
GREEK_CYRILLIC = "ΓΔΘΛΞΠΣΦΨΩαβγδεζηλμξσωБДЖЗИЙЦЧШЩЪЫЭЮЯЉЊЂ"
ORIENTATIONS = 5
FREQUENCIES = (3.0, 5.0)  # cycles per image

# The 16 text faces of matplotlib that have all of these characters.
FACES = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
)
STENCIL = 96  # pixels; characters are drawn once at this size, then warped


def characters(alphabet: str, per_class: int, split: str) -> tuple[Images, npt.NDArray[np.int64]]:
    """Return images of every character, and their labels.

    images: (len(alphabet) * per_class, 3, 32, 32) uint8; classes in alphabet order, one after another.
    Face, colours (contrast at least 0.4 of full range), rotation (+-15 degrees), size, shear, place and noise vary.
    """
    images = [
        _character(char, np.random.default_rng([VERSION, ord(char), number, *split.encode()]))
        for char in alphabet
        for number in range(per_class)
    ]
    labels = np.repeat(np.arange(len(alphabet), dtype=np.int64), per_class)
    return np.stack(images), labels


def gratings(per_class: int, split: str) -> tuple[Images, npt.NDArray[np.int64]]:
    """Return sinusoidal gratings of 5 orientations x 2 frequencies, and their labels.

    images: (10 * per_class, 3, 32, 32) uint8. Phase, colours, contrast and noise vary; orientation by +-12 degrees
    and frequency by +-15 %, so neighbouring classes nearly touch.
    """
    images = [
        _grating(kind, np.random.default_rng([VERSION, kind, number, *split.encode()]))
        for kind in range(ORIENTATIONS * len(FREQUENCIES))
        for number in range(per_class)
    ]
    labels = np.repeat(np.arange(ORIENTATIONS * len(FREQUENCIES), dtype=np.int64), per_class)
    return np.stack(images), labels


def grating_names() -> tuple[str, ...]:
    """Return the classes of gratings(), in label order."""
    return tuple(
        f"{180 * turn // ORIENTATIONS}deg_{frequency:g}cycles"
        for turn in range(ORIENTATIONS)
        for frequency in FREQUENCIES
    )


def _character(char: str, rng: np.random.Generator) -> Images:
    stencil = _stencil(char, FACES[rng.integers(len(FACES))])
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
    paper, ink = _colours(rng)
    image = paper[:, None, None] * (1 - alpha) + ink[:, None, None] * alpha  # (3, 32, 32)
    return _quantise(image + rng.normal(0, 0.04, image.shape))


def _grating(kind: int, rng: np.random.Generator) -> Images:
    turn, pick = divmod(kind, len(FREQUENCIES))
    angle = np.pi * turn / ORIENTATIONS + np.deg2rad(rng.uniform(-12, 12))
    frequency = FREQUENCIES[pick] * rng.uniform(0.85, 1.15)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE  # (32, 32) each
    wave = np.sin(2 * np.pi * (frequency * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform()))
    alpha = 0.5 + 0.5 * rng.uniform(0.4, 1) * wave
    low, high = _colours(rng)
    image = low[:, None, None] * (1 - alpha) + high[:, None, None] * alpha
    return _quantise(image + rng.normal(0, 0.15, image.shape))


def _colours(rng: np.random.Generator) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    while True:
        first, second = rng.uniform(0, 1, size=(2, 3))
        if abs((first - second) @ (0.299, 0.587, 0.114)) >= 0.4:  # luma, ITU-R BT.601
            return first, second


def _quantise(image: npt.NDArray[np.float64]) -> Images:
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


@functools.cache
def _stencil(char: str, face: str) -> Image.Image:
    stencil = Image.new("L", (STENCIL, STENCIL))
    ImageDraw.Draw(stencil).text((STENCIL / 2, STENCIL / 2), char, fill=255, font=_font(face), anchor="mm")
    return stencil


@functools.cache
def _font(face: str) -> ImageFont.FreeTypeFont:
    import matplotlib

    # Basic layout: the same glyph positions whether or not the optional Raqm library is installed.
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"
    return ImageFont.truetype(str(path), size=64, layout_engine=ImageFont.Layout.BASIC)
