"""scikit-learn's digits: 1797 handwritten ones of 8 x 8 pixels, which come with the library. No test split."""

import numpy as np

from sweep.data.glyphs import Embedded
from sweep.data.types import Images, Labels


class Handwriting(Embedded):
    """The digits that scikit-learn ships."""

    def classes(self) -> tuple[str, ...]:
        return tuple("0123456789")

    def fingerprint(self) -> str:
        return "scikit-learn load_digits"

    def splits(self) -> tuple[str, ...]:
        return ("train",)

    def make(self, split: str) -> tuple[Images, Labels]:
        from sklearn.datasets import load_digits  # noqa: PLC0415  slow to import, and needed only here

        data = load_digits()
        grey = np.round(data.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8), from 0..16
        return np.repeat(grey[:, None], 3, axis=1), data.target
