"""Images that are not of 8 bits, of which PIL keeps less than their files hold: which they are, and their values."""

import io
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.ImageFile import ImageFile

PLANES = "16 bits of colour, a plane each; data.channels=[0,1,2] reads them with tifffile"
Values = npt.NDArray[Any]
Span = tuple[float, float]  # the values that are black and white

# PIL's raw modes of 16 bits of colour, less the order of the bytes, of which it keeps the high ones.
HALVED = ("RGB;16", "RGBA;16", "RGBX;16", "LA;16")
BITS, PLANAR, KIND = 258, 284, 339  # TIFF's BitsPerSample, PlanarConfiguration and SampleFormat
SIGNED = 2  # of SampleFormat
ORIENTATION = 274  # EXIF's
OTHER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}  # the other order of a value's two bytes


def is_deep(image: Image.Image) -> bool:
    """Return whether an image's file has other values than 0..255, if no more of it is read than its header.

    Such are floats, 16 or 32 bits of grey, 16 bits of each colour, and signed bytes.
    """
    return image.mode == "F" or image.mode.startswith("I") or _raw_mode(image)[:-1] in HALVED or _signed(image)


def in_planes(image: Image.Image) -> bool:
    """Return whether an image has 16 bits of colour that lie in a plane each, of which PIL makes noise."""
    return image.mode.startswith("RGB") and _tag(image, BITS) == 16 and _tag(image, PLANAR) == 2


def values(image: Image.Image) -> Values:
    """Return a deep image's values as its file has them, (H, W) of grey or (H, W, 3) of colour, less alpha."""
    if isinstance(image, ImageFile) and _raw_mode(image)[:-1] in HALVED:
        return _colours(image)
    kept = np.asarray(image)
    if _signed(image):
        return kept.view(np.int8)
    if image.mode == "I" and _tag(image, BITS) == 32 and _tag(image, KIND) != SIGNED:
        return kept.view(np.uint32)  # PIL keeps them as if they had a sign
    return kept


def scaled(image: Image.Image, span: Span) -> Image.Image:
    """Return a deep image as one of 8 bits, black and white at the span; its alpha and its turn stay."""
    made = Image.fromarray(levels(values(image), span))  # first: what asks for EXIF may read the pixels of a PNG
    if image.mode.endswith("A"):
        made.putalpha(image.getchannel("A"))
    made.getexif()[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
    return made


def levels(numbers: Values, span: Span) -> npt.NDArray[np.uint8]:
    """Return numbers of any kind as 0..255, black and white at the span; what is no number is black."""
    low, high = span
    finite = np.nan_to_num(numbers.astype(np.float64), nan=low, posinf=high, neginf=low).clip(low, high)
    made: npt.NDArray[np.uint8] = (255 * ((finite - low) / ((high - low) or 1))).round().astype(np.uint8)
    return made


def _colours(image: ImageFile) -> Values:
    """Return 16 bits of colour (H, W, 3), of which PIL keeps the high bytes: in the other order, the low."""
    assert image.fp is not None  # nothing but its header was read
    place = image.fp.tell()
    image.fp.seek(0)
    twin = Image.open(io.BytesIO(image.fp.read()), formats=(image.format or "",))
    image.fp.seek(place)
    grey = _raw_mode(image).startswith("LA")  # PNG's: grey and alpha, two bytes each, are as long as RGBA
    twin.tile = [tile._replace(args=_other_order(tile.args)) for tile in image.tile]
    high, low = (np.asarray(each)[..., :3].astype(np.uint16) for each in (image, twin))
    return (high << 8) | (low[..., 1:2] if grey else low)


def _other_order(arguments: Any) -> Any:
    """Return what a decoder is given, its first or only part being the raw mode, for the other order of bytes."""
    if isinstance(arguments, tuple):
        return (_other_order(arguments[0]), *arguments[1:])
    return "RGBA" if arguments.startswith("LA") else arguments[:-1] + OTHER[arguments[-1]]


def _raw_mode(image: Image.Image) -> str:
    """Return how the file holds the pixels, in PIL's words; "" once they are read, or if they come in several ways."""
    if not isinstance(image, ImageFile) or not image.tile:
        return ""
    arguments = image.tile[0].args
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _signed(image: Image.Image) -> bool:
    return image.mode == "L" and _tag(image, KIND) == SIGNED


def _tag(image: Image.Image, number: int) -> int | None:
    """Return the first value of a TIFF's tag; None if it has no such, or is none."""
    found = getattr(image, "tag_v2", {}).get(number)
    return found[0] if isinstance(found, tuple) else found
