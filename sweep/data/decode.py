"""One image, whatever its kind, as (3, S, S) uint8; many of them on all cores; the unreadable ones by name."""

import io
import re
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, features

from sweep import interrupt
from sweep.cores import usable
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


Span = tuple[float, float]
DEEP = (".png", ".tif", ".tiff", ".pgm", ".pnm", ".jp2", ".j2k")  # what deep images may be called


class Encoded(NamedTuple):
    """An image that is not decoded yet."""

    name: str  # by which the user finds it
    content: Path | bytes | None  # its file, or its bytes; None if it has none


def fill(images: Images, encoded: Iterable[Encoded], span: Span | None = None) -> dict[int, str]:
    """Decode images into an array (N, 3, S, S), in order, on all cores; return "name (why)" of the unreadable, by row.

    span: see square().
    raises: KeyboardInterrupt, within an image per thread, if the process was asked to stop.
    """
    bad: dict[int, str] = {}
    given = (span,) if span else ()

    def decode_one(numbered: tuple[int, Encoded]) -> None:
        index, image = numbered
        interrupt.check()
        try:
            images[index] = decode(image.content, images.shape[-1], *given)
        except UNREADABLE as error:
            why = re.sub(r" <_io.BytesIO.*>", "", " ".join(str(error).split()))
            images[index] = 0
            bad[index] = f"{image.name} ({why})"

    cores = usable()
    numbered = enumerate(encoded)
    with warnings.catch_warnings(), ThreadPoolExecutor(cores) as pool:  # PIL releases the lock while it decodes
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # photographs are large; bombs are errors
        while some := list(islice(numbered, AHEAD * cores)):
            list(pool.map(decode_one, some))
    return bad


def decode(content: Path | bytes | None, size: int, span: Span | None = None) -> Images:
    """Return the image in a file or in bytes as (3, size, size); see square().

    raises: one of UNREADABLE if it is none of FORMATS, or damaged.
    """
    if content is None:
        raise ValueError("no bytes in this row")
    with opened(content) as file:
        return square(file, size, span)


def opened(content: Path | bytes) -> Image.Image:
    """Return an image of which the header is read; raise one of UNREADABLE if it is none of FORMATS."""
    formats = set(FORMATS.values())
    if not (isinstance(content, Path) and content.suffix.lower() == ".tga"):
        formats.remove("TGA")  # it begins with nothing to know it by, so that damaged files pass for it
    return Image.open(io.BytesIO(content) if isinstance(content, bytes) else content, formats=sorted(formats))


def is_deep(image: Image.Image) -> bool:
    """Return whether the pixels are grey values of more than 8 bits, or floats."""
    return image.mode.startswith("I") or image.mode == "F"


def any_deep(paths: Iterable[Path]) -> bool:
    """Return whether one of these files is a deep image; reads no more than their headers."""
    for path in paths:
        with suppress(*UNREADABLE), opened(path) as image:  # whoever decodes it names it
            if is_deep(image):
                return True
    return False


def span_of(paths: Iterable[Path]) -> Span | None:
    """Return the lowest and the highest value of the deep images among these files; None if there are none."""
    lows, highs = [], []
    for path in paths:
        interrupt.check()
        values = np.empty(0)
        with suppress(*UNREADABLE), opened(path) as image:
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
