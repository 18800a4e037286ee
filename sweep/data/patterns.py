"""Embedded data sets of patterns: gratings, and other textures with another structure each. No file, no network.

Every image is a function of (pattern, split, class, number) alone, as those of glyphs.py are. A class is a combination
of properties; within it phase, place, colours, contrast and noise vary, and the properties themselves a little.
"""

import functools
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from sweep.config import DataConfig
from sweep.data.glyphs import SIZE, VERSION, Embedded, colours, draw, quantise
from sweep.data.types import Images, Labels

Floats = npt.NDArray[np.float64]
Waves = Callable[[int, np.random.Generator], Floats]  # class and luck to a pattern (S, S) in -1..1

ORIENTATIONS = 5
FREQUENCIES = (3.0, 5.0)  # cycles per image
Y, X = np.mgrid[:SIZE, :SIZE] / SIZE  # (S, S) each


class Patterns(Embedded):
    """Images of a pattern's classes: so many of each to train and validate on, and so many to test on.

    near: whether they resemble characters; None = nobody knows.
    """

    def __init__(
        self, config: DataConfig, wave: Waves, names: tuple[str, ...], train: int, test: int, near: bool | None = None
    ) -> None:
        super().__init__(config)
        self.wave, self.names, self.near = wave, names, near
        self.per_class = {"train": train, "test": test}

    def classes(self) -> tuple[str, ...]:
        return self.names

    def fingerprint(self) -> Any:
        return VERSION if self.name == "textures" else [VERSION, self.name, *self.per_class.values()]

    def similar(self, source: str) -> bool | None:
        return self.near if source == "glyphs_latin" else None

    def make(self, split: str) -> tuple[Images, Labels]:
        # Each pattern has luck of its own; textures came first.
        luck = split if self.name == "textures" else f"{self.name} {split}"
        return draw(functools.partial(_image, self.wave), range(len(self.names)), self.per_class[split], luck)


def _image(wave: Waves, kind: int, rng: np.random.Generator) -> Images:
    """Return a pattern in two colours, (3, S, S) uint8, with noise."""
    pattern = wave(kind, rng)
    alpha = 0.5 + 0.5 * rng.uniform(0.4, 1) * pattern
    low, high = colours(rng)
    image = low[:, None, None] * (1 - alpha) + high[:, None, None] * alpha
    return quantise(image + rng.normal(0, 0.15, image.shape))


def _sine(angle: float, frequency: float, phase: float) -> Floats:
    """Return a sinusoid; angle in radians, frequency in cycles per image, phase in cycles."""
    wave: Floats = np.sin(2 * np.pi * (frequency * (X * np.cos(angle) + Y * np.sin(angle)) + phase))
    return wave


def _turn(rng: np.random.Generator, degrees: float) -> float:
    """Return an angle in radians, up to so many degrees to either side."""
    return float(np.deg2rad(rng.uniform(-degrees, degrees)))


def grating(kind: int, rng: np.random.Generator) -> Floats:
    """5 orientations x 2 frequencies, which vary by 12 degrees and 15 %, so that neighbouring classes nearly touch."""
    turn, pick = divmod(kind, len(FREQUENCIES))
    angle = np.pi * turn / ORIENTATIONS + _turn(rng, 12)
    frequency = FREQUENCIES[pick] * rng.uniform(0.85, 1.15)
    return _sine(angle, frequency, rng.uniform())


def grating_names() -> tuple[str, ...]:
    """Return the classes of grating(), in label order."""
    return tuple(
        f"{180 * turn // ORIENTATIONS}deg_{frequency:g}cycles"
        for turn in range(ORIENTATIONS)
        for frequency in FREQUENCIES
    )


FINE_FREQUENCIES = (2.5, 4.0, 6.5)  # cycles per image
FINE_NAMES = tuple(f"{180 * turn / 8:g}deg_{frequency:g}cycles" for turn in range(8) for frequency in FINE_FREQUENCIES)
COARSE_NAMES = tuple(f"{45 * turn}deg" for turn in range(4))


def fine_grating(kind: int, rng: np.random.Generator) -> Floats:
    """8 orientations x 3 frequencies: many classes."""
    turn, pick = divmod(kind, len(FINE_FREQUENCIES))
    frequency = FINE_FREQUENCIES[pick] * rng.uniform(0.85, 1.15)
    return _sine(np.pi * turn / 8 + _turn(rng, 8), frequency, rng.uniform())


def coarse_grating(kind: int, rng: np.random.Generator) -> Floats:
    """4 orientations of any frequency: few classes."""
    return _sine(np.pi * kind / 4 + _turn(rng, 15), rng.uniform(2.5, 6.5), rng.uniform())


ANGLES, PLAID_FREQUENCIES = (30, 60, 90), (2.5, 4.0, 6.5)  # degrees, cycles per image
PLAID_NAMES = tuple(f"{angle}deg_{frequency:g}cycles" for angle, frequency in product(ANGLES, PLAID_FREQUENCIES))


def plaid(kind: int, rng: np.random.Generator) -> Floats:
    """Two gratings that cross at one of 3 angles, of one of 3 frequencies, turned at random."""
    pick, which = divmod(kind, len(PLAID_FREQUENCIES))
    first = rng.uniform(0, np.pi)
    second = first + np.deg2rad(ANGLES[pick]) + _turn(rng, 8)
    frequency = PLAID_FREQUENCIES[which] * rng.uniform(0.85, 1.15)
    return (_sine(first, frequency, rng.uniform()) + _sine(second, frequency, rng.uniform())) / 2


RINGS, ARMS = (2.0, 3.5, 5.5), (0, 2, 4)  # cycles per image, arms of a spiral; none = rings
RING_NAMES = tuple(f"{arms}arms_{frequency:g}cycles" for arms, frequency in product(ARMS, RINGS))


def ring(kind: int, rng: np.random.Generator) -> Floats:
    """Rings and spirals of 2 or 4 arms, of one of 3 frequencies, about a centre that varies."""
    pick, which = divmod(kind, len(RINGS))
    centre = rng.uniform(0.35, 0.65, 2)
    x, y = X - centre[0], Y - centre[1]
    frequency = RINGS[which] * rng.uniform(0.88, 1.12) * 1.5
    hand = rng.choice((-1, 1))
    wave: Floats = np.sin(
        2 * np.pi * (frequency * np.hypot(x, y) + rng.uniform()) + hand * ARMS[pick] * np.arctan2(y, x)
    )
    return wave


DOTS, SHAPES = (4.0, 5.5, 8.0), ("disc", "diamond", "cross")  # dots per image side
LATTICE_NAMES = tuple(f"{shape}_{count:g}" for shape, count in product(SHAPES, DOTS))


def lattice(kind: int, rng: np.random.Generator) -> Floats:
    """Discs, diamonds or crosses on a square lattice of one of 3 spacings, turned by up to 20 degrees."""
    pick, which = divmod(kind, len(DOTS))
    angle, count = _turn(rng, 20), DOTS[which] * rng.uniform(0.9, 1.1)
    shift = rng.uniform(size=2)
    u = (X * np.cos(angle) + Y * np.sin(angle)) * count + shift[0]
    v = (Y * np.cos(angle) - X * np.sin(angle)) * count + shift[1]
    u, v = np.abs(u % 1 - 0.5), np.abs(v % 1 - 0.5)
    inside = (np.hypot(u, v) < 0.3, u + v < 0.38, np.minimum(u, v) < 0.12)[pick]
    return np.where(inside, 1.0, -1.0)


CELLS, TILTS = (2.0, 3.0, 4.5), (0, 22, 45)  # pairs of cells per image side, degrees
CHECK_NAMES = tuple(f"{tilt}deg_{cells:g}" for tilt, cells in product(TILTS, CELLS))


def check(kind: int, rng: np.random.Generator) -> Floats:
    """Checkerboards of 3 cell sizes and 3 orientations."""
    pick, which = divmod(kind, len(CELLS))
    angle, cells = np.deg2rad(TILTS[pick]) + _turn(rng, 8), CELLS[which] * rng.uniform(0.88, 1.12)
    return np.sign(_sine(angle, cells, rng.uniform()) * _sine(angle + np.pi / 2, cells, rng.uniform()))


BANDS, SPREADS = (2.5, 4.5, 8.0), ("all", "level", "upright")  # cycles per image, orientations that are there
NOISE_NAMES = tuple(f"{spread}_{band:g}cycles" for spread, band in product(SPREADS, BANDS))


def noise(kind: int, rng: np.random.Generator) -> Floats:
    """Noise of one of 3 bands of frequency, of all orientations or about one of 2."""
    pick, which = divmod(kind, len(BANDS))
    frequencies = np.fft.fftfreq(SIZE, 1 / SIZE)
    y, x = np.meshgrid(frequencies, frequencies, indexing="ij")
    radius = np.maximum(np.hypot(x, y), 1e-9)
    band = BANDS[which] * rng.uniform(0.9, 1.1)
    keep = np.exp(-(np.log(radius / band) ** 2) / (2 * 0.2**2))
    if SPREADS[pick] != "all":
        along = np.abs(x if SPREADS[pick] == "upright" else y) / radius
        keep = keep * np.exp(-((1 - along) ** 2) / (2 * 0.1**2))
    made = np.fft.ifft2(np.fft.fft2(rng.standard_normal((SIZE, SIZE))) * keep).real
    clipped: Floats = np.clip(made / (2 * made.std()), -1, 1)
    return clipped
