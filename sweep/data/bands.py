"""Channels: images have three of colour, unless data.channels says one of grey, or bands of the files as they are."""

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from sweep.data import deep
from sweep.data.deep import Span
from sweep.data.types import Images
from sweep.errors import UserError

COLOUR, GREY, MOST = 3, 1, 1000
ARRAYS = (".npy",)  # files that are images where bands are asked for

Raster = npt.NDArray[Any]  # (H, W, B) of any kind of number


def check(setting: str, channels: Any) -> None:
    """Raise UserError unless it is a count, or a list of bands of which none comes twice."""
    bands = channels if isinstance(channels, list) else [channels]
    least, whole = (0 if bands is channels else 1), all(type(each) is int for each in bands)
    if not bands or not whole or not all(least <= each <= MOST for each in bands) or len({*bands}) < len(bands):
        raise UserError(
            f"{setting}={channels}: use 3 for colour, 1 for grey, another count for the first bands of the files, or a "
            "list of bands, counted from 0, such as [0,3,7]"
        )


def count(channels: Any) -> int:
    """Return how many channels images have."""
    return channels if isinstance(channels, int) else len(channels)


def asked(channels: Any) -> tuple[int, ...] | None:
    """Return which bands of a file are asked for, counted from 0; None for images in colour or grey, of any file."""
    if isinstance(channels, int):
        return None if channels in (COLOUR, GREY) else tuple(range(channels))
    return tuple(channels)


def read(content: Path | bytes) -> Raster | None:
    """Return the bands of an array or a TIFF; None for other formats. raises: ValueError for what is none, OSError."""
    start = _start(content)
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    if start == b"\x93NUM":
        return bands_last(np.load(file, allow_pickle=False))
    if start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        try:
            import tifffile  # noqa: PLC0415  optional
        except ImportError as error:
            raise ValueError("the bands of a TIFF are read by tifffile; pip install tifffile") from error
        try:
            return bands_last(tifffile.imread(file))
        except (KeyError, IndexError, TypeError, RuntimeError, struct.error) as error:  # of a damaged file
            raise ValueError(f"damaged: {error}") from error
    return None


def is_deep(content: Path) -> bool | None:
    """Return whether a file that read() reads has other values than 0..255; None for others; raises as read()."""
    if _start(content) == b"\x93NUM":
        return bool(np.load(content, mmap_mode="r", allow_pickle=False).dtype != np.uint8)
    if is_tiff(content):
        try:
            import tifffile  # noqa: PLC0415  optional

            with tifffile.TiffFile(content) as file:
                return bool(file.series[0].dtype != np.uint8)
        except (ImportError, KeyError, IndexError, TypeError, RuntimeError, struct.error) as error:
            raise ValueError(str(error)) from error
    return None


def is_tiff(content: Path | bytes) -> bool:
    """Return whether a file begins as TIFFs do."""
    return _start(content)[:3] in (b"II*", b"MM\0", b"II+")


def _start(content: Path | bytes) -> bytes:
    if isinstance(content, bytes):
        return content[:4]
    with content.open("rb") as file:
        return file.read(4)


def bands_last(pixels: Raster) -> Raster:
    """Return pixels as (H, W, B): of (H, W, B) and (B, H, W), the shorter end is that of the bands."""
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or not pixels.size or pixels.dtype.kind not in "buif":
        what = f"has the shape {pixels.shape} and the type {pixels.dtype}"
        raise ValueError(f"{what}; use numbers (H, W), (H, W, B) or (B, H, W)")
    return np.moveaxis(pixels, 0, 2) if pixels.shape[0] < pixels.shape[2] else pixels


def of_picture(image: Image.Image) -> Raster:
    """Return the bands of an image of PIL's; a palette is looked up."""
    if image.mode in ("P", "1"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB" if image.mode == "P" else "L")
    return bands_last(deep.values(image) if deep.is_deep(image) else np.asarray(image))


def chosen(raster: Raster, bands: Sequence[int]) -> Raster:
    """Return these bands (H, W, C), in their order; raise ValueError if there are fewer."""
    if max(bands) >= raster.shape[2]:
        raise ValueError(f"has {raster.shape[2]} bands, and data.channels asks for number {max(bands)}, counted from 0")
    return raster[..., list(bands)]


def square(raster: Raster, size: int, span: Span | None) -> Images:
    """Return bands (H, W, C) as (C, size, size): the shorter side scaled to size, the centre kept, as for colour.

    span: which values are black and white if they are not of 8 bits; by default 0 and the highest of their type, of 16
    bits at most, or 1 of floats.
    """
    if raster.dtype != np.uint8:
        known = np.iinfo(raster.dtype) if raster.dtype.kind in "ui" else None
        raster = deep.levels(raster, span or (0, min(known.max, 65535) if known else 1))
    images = [Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(raster, 2, 0)]
    return np.stack([np.asarray(ImageOps.fit(each, (size, size), Image.Resampling.BICUBIC)) for each in images])


def grey(image: Images) -> Images:
    """Return an image of colour (3, S, S) in grey, (1, S, S)."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).convert("L"))[None]


def visible(image: Images) -> Images:
    """Return an image (C, S, S) as people see it, (3, S, S): its first three channels; grey, or the last one again."""
    return image[[min(each, len(image) - 1) for each in range(3)]]
