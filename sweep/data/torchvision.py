"""torchvision's data sets: downloaded with their checksums, or found where torchvision would put them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from sweep.errors import AbsentError


@dataclass(frozen=True)
class Download:
    """One of torchvision's data sets.

    kind: the class in torchvision.datasets. train, test: the arguments that pick a split; without test, one is held
    out. files: what must lie below the root, for those who bring the files themselves. coarse: fine label -> coarse
    label.
    """

    kind: str
    classes: tuple[str, ...]
    files: str
    marks: str
    train: dict[str, Any] = field(default_factory=dict)
    test: dict[str, Any] | None = None
    coarse: tuple[int, ...] | None = None


def fetch(name: str, download: Download, root: Path) -> None:
    """Have the files below root; raise UserError, saying which are needed where, if they cannot be had."""
    for split in (download.train, download.test or {}):
        _open(name, download, root, split)


@dataclass(frozen=True)
class Images:
    """The images of a split with their labels, in the data set's own order."""

    whole: Any
    coarse: tuple[int, ...] | None

    def __len__(self) -> int:
        return len(self.whole)

    def __iter__(self) -> Iterator[tuple[Image.Image, int]]:
        for number in range(len(self.whole)):
            image, label = self.whole[number]
            yield image, self.coarse[label] if self.coarse else int(label)


def images(name: str, download: Download, root: Path, split: dict[str, Any]) -> Images:
    """Return every image of a split; the files must be there or to be had."""
    return Images(_open(name, download, root, split), download.coarse)


def probe(download: Download, root: Path) -> list[Any]:
    """Return what changes when other files are put below root: names, sizes and times of some that tell."""
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(root.glob(download.marks))]


def _open(name: str, download: Download, root: Path, split: dict[str, Any]) -> Any:
    from torchvision import datasets

    kind = getattr(datasets, download.kind)
    try:
        return kind(root, **split, download=False)
    except (RuntimeError, FileNotFoundError):  # not there, or not whole
        pass
    try:
        root.mkdir(parents=True, exist_ok=True)
        return kind(root, **split, download=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise AbsentError(
            f"data={name}: not in {root} and cannot be downloaded ({' '.join(str(error).split())}); put "
            f"{download.files} into {root}, or set data.root to the folder that has them"
        ) from error


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(count))


_TRAIN, _TEST = {"train": True}, {"train": False}
_CIFAR100_COARSE = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables", "household_electrical_devices",
    "household_furniture", "insects", "large_carnivores", "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes", "large_omnivores_and_herbivores", "medium_mammals", "non-insect_invertebrates",
    "people", "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2",
)  # fmt: skip
# The coarse class of each of CIFAR-100's fine classes, in the order of its own label files.
_COARSE_OF_FINE = (
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1,
    10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12,
    12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0,
    17, 8, 14, 13,
)  # fmt: skip

DOWNLOADS: dict[str, Download] = {
    "cifar10": Download(
        "CIFAR10",
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        "cifar-10-python.tar.gz or the folder cifar-10-batches-py",
        "cifar-10-batches-py/*_batch*",
        _TRAIN,
        _TEST,
    ),
    "cifar100": Download("CIFAR100", _numbers(100), "cifar-100-python.tar.gz", "cifar-100-python/t*", _TRAIN, _TEST),
    "cifar100_coarse": Download(
        "CIFAR100", _CIFAR100_COARSE, "cifar-100-python.tar.gz", "cifar-100-python/t*", _TRAIN, _TEST, _COARSE_OF_FINE
    ),
    "fashion_mnist": Download(
        "FashionMNIST",
        ("tshirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot"),
        "FashionMNIST/raw/*-ubyte, unzipped",
        "FashionMNIST/raw/*-ubyte",
        _TRAIN,
        _TEST,
    ),
    "mnist": Download("MNIST", _numbers(10), "MNIST/raw/*-ubyte, unzipped", "MNIST/raw/*-ubyte", _TRAIN, _TEST),
    "svhn": Download(
        "SVHN",
        _numbers(10),
        "train_32x32.mat and test_32x32.mat",
        "t*_32x32.mat",
        {"split": "train"},
        {"split": "test"},
    ),
    "stl10": Download(
        "STL10",
        ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
        "stl10_binary.tar.gz",
        "stl10_binary/t*_y.bin",
        {"split": "train"},
        {"split": "test"},
    ),
    "eurosat": Download(
        "EuroSAT",
        ("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop",
         "Residential", "River", "SeaLake"),
        "eurosat/EuroSAT.zip",
        "eurosat/2750/*",
    ),
    "flowers102": Download(
        "Flowers102",
        _numbers(102),
        "flowers-102/102flowers.tgz, imagelabels.mat and setid.mat",
        "flowers-102/*.mat",
        {"split": "train"},
        {"split": "test"},
    ),
    "oxford_pets": Download(
        "OxfordIIITPet",
        _numbers(37),
        "oxford-iiit-pet/images.tar.gz and annotations.tar.gz",
        "oxford-iiit-pet/annotations/*.txt",
        {"split": "trainval"},
        {"split": "test"},
    ),
    "dtd": Download(
        "DTD",
        _numbers(47),
        "dtd/dtd-r1.0.1.tar.gz",
        "dtd/dtd/labels/*.txt",
        {"split": "train"},
        {"split": "test"},
    ),
    "food101": Download(
        "Food101",
        _numbers(101),
        "food-101.tar.gz",
        "food-101/meta/*",
        {"split": "train"},
        {"split": "test"},
    ),
}  # fmt: skip
