"""One image, whatever its kind, as (3, S, S) uint8; many of them on all cores; the unreadable ones by name."""

import io
import re
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features

from sweep import interrupt
from sweep.cores import usable
from sweep.data import bands, deep
from sweep.data.deep import Span
from sweep.data.types import Images

# How a file may be called, and the format that promises. PIL is asked to open these formats and no other: some of the
# rest start a program of their own, as PostScript starts Ghostscript, whatever the file is called.
_SUFFIXES = {
    "JPEG": ".jpg .jpeg .jpe .jfif",
    "PNG": ".png .apng",
    "PPM": ".ppm .pgm .pbm .pnm",
    "BMP": ".bmp",
    "DIB": ".dib",
    "TIFF": ".tif .tiff",
    "WEBP": ".webp",
    "GIF": ".gif",
    "JPEG2000": ".jp2 .j2k .jpx .jpf .j2c .jpc",
    "AVIF": ".avif",
    "TGA": ".tga",
    "PCX": ".pcx",
    "SGI": ".sgi .rgb .bw",
    "QOI": ".qoi",
    "ICO": ".ico",
    "DDS": ".dds",
}
_OPTIONAL = {"JPEG2000": "jpg_2000", "AVIF": "avif", "WEBP": "webp"}  # formats that PIL may be built without
FORMATS = {
    suffix: name
    for name, suffixes in _SUFFIXES.items()
    if name not in _OPTIONAL or features.check(_OPTIONAL[name])
    for suffix in suffixes.split()
}
EXTENSIONS = tuple(FORMATS)
MOVING = (".gif", ".apng", ".png", ".webp", ".tif", ".tiff", ".avif")  # what may have several frames
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what PIL raises for broken files

# Images per core that are handed to the threads at once: enough to keep them busy, and few in memory.
AHEAD = 64


DEEP = (".png", ".tif", ".tiff", ".pgm", ".pnm", ".jp2", ".j2k")  # what deep images may be called


class Encoded(NamedTuple):
    """An image that is not decoded yet."""

    name: str  # by which the user finds it
    content: Path | bytes | None  # its file, or its bytes; None if it has none


def fill(
    images: Images, encoded: Iterable[Encoded], span: Span | None = None, channels: Any = bands.COLOUR
) -> dict[int, str]:
    """Decode images into an array (N, C, S, S), in order, on all cores; return "name (why)" of the unreadable, by row.

    span: see square(). channels: data.channels, of which C is the count.
    raises: KeyboardInterrupt, within an image per thread, if the process was asked to stop.
    """
    bad: dict[int, str] = {}

    def decode_one(numbered: tuple[int, Encoded]) -> None:
        index, image = numbered
        interrupt.check()
        try:
            images[index] = decode(image.content, images.shape[-1], span, channels)
        except UNREADABLE as error:
            why = re.sub(r" <_io.BytesIO.*>", "", " ".join(str(error).split()))
            if isinstance(error, UnidentifiedImageError) and image.content and bands.is_tiff(image.content):
                why += "; data.channels=4, for example, reads the first 4 bands of a TIFF"
            images[index] = 0
            bad[index] = f"{image.name} ({why})"

    cores = usable()
    numbered = enumerate(encoded)
    with warnings.catch_warnings(), ThreadPoolExecutor(cores) as pool:  # PIL releases the lock while it decodes
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # photographs are large; bombs are errors
        while some := list(islice(numbered, AHEAD * cores)):
            list(pool.map(decode_one, some))
    return bad


def decode(content: Path | bytes | None, size: int, span: Span | None = None, channels: Any = bands.COLOUR) -> Images:
    """Return the image in a file or in bytes as (C, size, size); see pixels().

    raises: one of UNREADABLE if it is none of FORMATS, or damaged.
    """
    if content is None:
        raise ValueError("no bytes in this row")
    if wanted := bands.asked(channels):
        return bands.square(raster(content, wanted), size, span)
    with opened(content) as file:
        return pixels(file, size, span, channels)


def pixels(image: Image.Image, size: int, span: Span | None, channels: Any) -> Images:
    """Return an image of PIL's as (C, size, size): in colour (see square()), grey, or its bands."""
    if wanted := bands.asked(channels):
        return bands.square(bands.chosen(bands.of_picture(image), wanted), size, span)
    colour = square(image, size, span)
    return bands.grey(colour) if channels == bands.GREY else colour


def array(values: bands.Raster, size: int, span: Span | None, channels: Any) -> Images:
    """Return an array (H, W, B) as (C, size, size); raise ValueError if no bands are asked for, or it has not these."""
    wanted = bands.asked(channels)
    if wanted is None:
        raise ValueError("an array where no bands were asked for; give an image of PIL's")
    return bands.square(bands.chosen(bands.bands_last(values), wanted), size, span)


def raster(content: Path | bytes, wanted: Sequence[int]) -> bands.Raster:
    """Return these bands of an image, (H, W, C), as they are; raise one of UNREADABLE if there are no such."""
    found = bands.read(content)
    if found is None:
        with opened(content) as image:
            found = bands.of_picture(image)
    return bands.chosen(found, wanted)


def opened(content: Path | bytes) -> Image.Image:
    """Return an image of which the header is read; raise one of UNREADABLE if it is none of FORMATS."""
    formats = set(FORMATS.values())
    if not (isinstance(content, Path) and content.suffix.lower() == ".tga"):
        formats.remove("TGA")  # it begins with nothing to know it by, so that damaged files pass for it
    image = Image.open(io.BytesIO(content) if isinstance(content, bytes) else content, formats=sorted(formats))
    if deep.in_planes(image):
        image.close()
        raise ValueError(deep.PLANES)
    return image


class Unusual(NamedTuple):
    """Of some files: those with other values than 0..255, and those with several frames, of which the first is read."""

    deep: list[Path]
    moving: list[Path]


def unusual(paths: Iterable[Path], wanted: Sequence[int] | None = None) -> Unusual:
    """Look at the headers of the files that may be called so; wanted: the bands that are asked for, if any."""
    found, suffixes = Unusual([], []), {*DEEP, *MOVING, *(bands.ARRAYS if wanted else ())}
    for path in paths:
        if path.suffix.lower() not in suffixes:
            continue
        interrupt.check()
        with suppress(*UNREADABLE):  # whoever decodes it names it
            is_deep = bands.is_deep(path) if wanted else None
            if is_deep is None and (is_deep := _plain_png(path)) is None:
                with opened(path) as image:
                    is_deep = deep.is_deep(image)
                    if getattr(image, "n_frames", 1) > 1:
                        found.moving.append(path)
            if is_deep:
                found.deep.append(path)
    return found


def _plain_png(path: Path) -> bool | None:
    """Return False for a PNG of 8 bits and one frame, as most are; None for what takes a longer look."""
    with path.open("rb") as file:
        start = file.read(1024)  # with what says that it moves, if anything does
    plain = start.startswith(b"\x89PNG\r\n\x1a\n") and start[24:25] != b"\x10" and b"acTL" not in start
    return False if plain else None


def span_of(paths: Iterable[Path], wanted: Sequence[int] | None = None) -> Span | None:
    """Return the lowest and the highest value of these deep images; None if none of them can be read.

    wanted: the bands, if not all.
    """
    lows, highs = [], []
    for path in paths:
        interrupt.check()
        values = np.empty(0)
        with suppress(*UNREADABLE):
            if wanted:
                values = raster(path, wanted)
            else:
                with opened(path) as image:
                    values = deep.values(image)
        values = values[np.isfinite(values)]
        if values.size:
            lows.append(float(values.min()))
            highs.append(float(values.max()))
    return (min(lows), max(highs)) if lows else None


def square(image: Image.Image, size: int, span: Span | None = None) -> Images:
    """Return the image as (3, size, size), turned as its EXIF says: shorter side scaled to size, centre kept.

    There is white behind alpha. span: which values of deep images are black and white, by default those of 16 bits.
    All images go through here, in training and in serving.
    """
    if span and deep.is_deep(image):
        image = deep.scaled(image, span)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey; PIL would clip it
        wide = np.asarray(image).astype(np.int64)
        image = Image.fromarray((wide >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).transpose(2, 0, 1)


def resized(images: Images, size: int) -> Images:
    """Return square images (N, 3, S, S) at another size, (N, 3, size, size)."""
    if images.shape[-1] == size:
        return images
    scaled = [
        Image.fromarray(image.transpose(1, 2, 0)).resize((size, size), Image.Resampling.BICUBIC) for image in images
    ]
    return np.stack([np.asarray(image).transpose(2, 0, 1) for image in scaled])
