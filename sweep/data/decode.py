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
from sweep.data import bands
from sweep.data.bands import Span
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
MOVING = (".gif", ".apng")  # of which the first frame is read
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
    return Image.open(io.BytesIO(content) if isinstance(content, bytes) else content, formats=sorted(formats))


def is_deep(image: Image.Image) -> bool:
    """Return whether the pixels are grey values of more than 8 bits, or floats."""
    return image.mode.startswith("I") or image.mode == "F"


def any_deep(paths: Iterable[Path], wanted: Sequence[int] | None = None) -> bool:
    """Return whether one of these files is a deep image; reads no more than their headers, if no bands are wanted."""
    for path in paths:
        with suppress(*UNREADABLE):  # whoever decodes it names it
            if wanted and raster(path, wanted).dtype != np.uint8:
                return True
            if not wanted:
                with opened(path) as image:
                    if is_deep(image):
                        return True
    return False


def span_of(paths: Iterable[Path], wanted: Sequence[int] | None = None) -> Span | None:
    """Return the lowest and the highest value of the deep images among these files; None if there are none.

    wanted: the bands, if not all.
    """
    lows, highs = [], []
    for path in paths:
        interrupt.check()
        values = np.empty(0)
        with suppress(*UNREADABLE):
            if wanted:
                values = raster(path, wanted).astype(np.float64)
            else:
                with opened(path) as image:
                    if is_deep(image):
                        values = np.asarray(image, dtype=np.float64)
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
    image = ImageOps.exif_transpose(image)
    if span and is_deep(image):
        low, high = span
        scaled = (np.nan_to_num(np.asarray(image, dtype=np.float64), nan=low) - low) / ((high - low) or 1)
        image = Image.fromarray((255 * scaled.clip(0, 1)).round().astype(np.uint8))
    elif image.mode.startswith("I"):  # 16-bit grey; PIL would clip it
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
