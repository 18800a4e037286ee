"""DATASETS, the table of all data sets: one line here, and a class where none of the others fits, adds one."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweep.config import FILES, DataConfig
from sweep.data import glyphs, patterns
from sweep.data.arrow import Arrow
from sweep.data.folder import ImageFolder
from sweep.data.glyphs import Characters
from sweep.data.handwriting import Handwriting
from sweep.data.listed import Listed
from sweep.data.own import OwnData
from sweep.data.parquet import Parquet
from sweep.data.patterns import Patterns
from sweep.data.torchvision import DOWNLOADS, Downloaded
from sweep.data.types import Dataset
from sweep.data.webdataset import WebDataset
from sweep.errors import unknown

# data.name -> what opens it
DATASETS: dict[str, Callable[[DataConfig], Dataset]] = {
    "glyphs_latin": functools.partial(Characters, alphabet=glyphs.LATIN, train=250, test=40),
    "glyphs_digits": functools.partial(Characters, alphabet=glyphs.DIGITS, train=50, test=50),
    "glyphs_greek_cyrillic": functools.partial(Characters, alphabet=glyphs.GREEK_CYRILLIC, train=25, test=20),
    "glyphs_mixed": functools.partial(Characters, alphabet=glyphs.DIGITS + glyphs.GREEK_CYRILLIC, train=25, test=20),
    "textures": functools.partial(
        Patterns, wave=patterns.grating, names=patterns.grating_names(), train=50, test=50, near=False
    ),
    # Of the crossed study: sources of as many images each, and targets of about 5,000 test images.
    "latin_few": functools.partial(Characters, alphabet=glyphs.LATIN_FEW, train=1300, test=40),
    "gratings_many": functools.partial(
        Patterns, wave=patterns.fine_grating, names=patterns.FINE_NAMES, train=270, test=40
    ),
    "gratings_few": functools.partial(
        Patterns, wave=patterns.coarse_grating, names=patterns.COARSE_NAMES, train=1625, test=40
    ),
    "numerals": functools.partial(Characters, alphabet=glyphs.DIGITS, train=50, test=500),
    "greek": functools.partial(Characters, alphabet=glyphs.GREEK_CYRILLIC[:22], train=50, test=230),
    "cyrillic": functools.partial(Characters, alphabet=glyphs.GREEK_CYRILLIC[22:], train=50, test=280),
    "lowercase": functools.partial(Characters, alphabet=glyphs.LOWERCASE, train=50, test=310),
    "symbols": functools.partial(Characters, alphabet=glyphs.SYMBOLS, train=50, test=310),
    **{
        name: functools.partial(Patterns, wave=wave, names=names, train=50, test=550)
        for name, wave, names in (
            ("plaids", patterns.plaid, patterns.PLAID_NAMES),
            ("rings", patterns.ring, patterns.RING_NAMES),
            ("lattices", patterns.lattice, patterns.LATTICE_NAMES),
            ("checks", patterns.check, patterns.CHECK_NAMES),
            ("noise", patterns.noise, patterns.NOISE_NAMES),
        )
    },
    "digits": Handwriting,
    **{name: functools.partial(Downloaded, download=download) for name, download in DOWNLOADS.items()},
    "parquet": Parquet,
    "image_folder": ImageFolder,
    "csv": Listed,
    "arrow": Arrow,
    "webdataset": WebDataset,
    "module": OwnData,
}


def open(config: DataConfig) -> Dataset:
    """Return the data set that a task is made of; raise UserError if there is none of this name.

    The same settings of the files (config.FILES) give the same object, which looks at its files once: within a process,
    files are taken to stay as they are. forget() ends that.
    """
    if config.name not in DATASETS:
        raise unknown("data.name", config.name, DATASETS)
    settings = {name: getattr(config, name) for name in FILES}
    plain = tuple((name, tuple(each) if isinstance(each, list) else each) for name, each in settings.items())
    return _opened(plain, Path.cwd())


def forget() -> None:
    """Forget every data set that was opened, so that files are looked at anew."""
    _opened.cache_clear()


@functools.lru_cache(maxsize=16)  # a listing of a million files is large
def _opened(settings: tuple[tuple[str, Any], ...], folder: Path) -> Dataset:  # paths start at folder
    config = DataConfig(**dict(settings))
    return DATASETS[config.name](config)
