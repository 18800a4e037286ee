"""What the headers of image files say: sizes, channels, bits and formats, of some thousands of them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from sweep import interrupt
from sweep.data import decode, deep
from sweep.data.types import Dataset

AT_MOST = 2000  # headers of a split that are looked at
# PIL's modes in words; those that are not here are given as they are.
MODES = {
    "1": "1 channel of 1 bit",
    "L": "1 channel of 8 bits",
    "LA": "1 channel of 8 bits and alpha",
    "P": "palette",
    "RGB": "3 channels of 8 bits",
    "RGBA": "3 channels of 8 bits and alpha",
    "CMYK": "4 channels (CMYK) of 8 bits",
    "I": "1 channel of 16 bits or more",
    "F": "1 channel of floats",
}


class Headers(NamedTuple):
    """What was seen. whole: all images. sizes: (N, 2) width and height, pixels. kinds: images by format and mode."""

    whole: int
    sizes: npt.NDArray[np.int64]
    kinds: Counter[str]

    def lines(self) -> list[str]:
        """Return it in words; [] if no header was there to be seen."""
        if not len(self.sizes):
            return []
        some = f" (of {len(self.sizes)} of {self.whole} images)" if len(self.sizes) < self.whole else ""
        sides = []
        for name, values in zip(("width", "height"), self.sizes.T, strict=True):
            sides.append(f"{name} {values.min()} / {np.median(values):g} / {values.max()}")
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.most_common(6))
        return [f"pixels, least / median / most: {', '.join(sides)}{some}", f"files: {kinds}{some}"]


def look(dataset: Dataset, counts: Mapping[str, int]) -> Headers:
    """Return what the headers of a data set's files say; nothing of images that are not in files of their own.

    counts: images of each split.
    """
    sizes, kinds = list[tuple[int, int]](), Counter[str]()
    for split, count in counts.items():
        for image in _some(dataset.encoded(split), count):
            interrupt.check()
            with suppress(*decode.UNREADABLE), decode.opened(image.content or b"") as opened:
                sizes.append(opened.size)
                kinds[f"{opened.format} with {_words(opened)}"] += 1
    return Headers(sum(counts.values()), np.array(sizes, np.int64).reshape(-1, 2), kinds)


def _words(image: Image.Image) -> str:
    """Return an image's channels and bits in words."""
    words = MODES.get(image.mode.split(";")[0], image.mode)
    if not deep.is_deep(image):
        return words
    return words.replace("8 bits", "16 bits" if image.mode.startswith("RGB") else "8 bits with a sign")


def _some(images: Iterable[decode.Encoded], count: int) -> Iterable[decode.Encoded]:
    """Yield AT_MOST images, evenly spread."""
    step = max(1, -(-count // AT_MOST))
    return (image for number, image in enumerate(images) if number % step == 0)
