"""torchvision's data sets: downloaded with their checksums, or found where torchvision would put them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweep import interrupt
from sweep.config import DataConfig
from sweep.data.decode import UNREADABLE, square
from sweep.data.types import Allocate, Dataset, Unreadable
from sweep.errors import AbsentError
from sweep.paths import cache_folder


@dataclass(frozen=True)
class Download:
    """One of torchvision's data sets.

    kind: the class in torchvision.datasets.
    classes: the names of the classes, in label order.
    files: what must lie below the root, for those who bring the files themselves.
    marks: a pattern for some files below the root that are others when the images are others.
    train, test: the arguments that pick a split; without test, one is held out.
    coarse: fine label -> coarse label.
    """

    kind: str
    classes: tuple[str, ...]
    files: str
    marks: str
    train: dict[str, Any] = field(default_factory=dict)
    test: dict[str, Any] | None = None
    coarse: tuple[int, ...] | None = None


class Downloaded(Dataset):
    """A data set of torchvision, below data.root or the cache folder; what is not there is downloaded."""

    takes = frozenset({"root"})

    def __init__(self, config: DataConfig, download: Download) -> None:
        super().__init__(config)
        self.download = download
        self._arguments = {"train": download.train}
        if download.test is not None:
            self._arguments["test"] = download.test

    def classes(self) -> tuple[str, ...]:
        return self.download.classes

    def fingerprint(self) -> list[str]:
        return ["torchvision", self.name]

    def splits(self) -> tuple[str, ...]:
        return tuple(self._arguments)

    def files(self) -> list[list[Any]]:
        found = sorted(self._folder().glob(self.download.marks))
        return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in found]

    def fetch(self) -> None:
        for arguments in self._arguments.values():
            self._open(arguments)

    def read(self, size: int, allocate: Allocate) -> Unreadable:
        coarse = self.download.coarse
        bad: Unreadable = {split: {} for split in self._arguments}
        for split, arguments in self._arguments.items():
            whole = self._open(arguments)
            images, labels = allocate(split, len(whole))
            for index in range(len(whole)):
                interrupt.check()
                try:
                    image, label = whole[index]
                    images[index], labels[index] = square(image, size), coarse[label] if coarse else int(label)
                except UNREADABLE as error:
                    images[index], labels[index] = 0, 0
                    bad[split][index] = f"{self.image_name(split, index)} ({' '.join(str(error).split())})"
        return bad

    def _folder(self) -> Path:
        return Path(self.root).expanduser() if self.root else cache_folder() / "data"

    def _open(self, arguments: dict[str, Any]) -> Any:
        """Return torchvision's own object for a split; download it if it is not there, or not whole."""
        from torchvision import datasets  # noqa: PLC0415  it imports torch, and plans are made without

        kind, folder = getattr(datasets, self.download.kind), self._folder()
        try:
            return kind(folder, **arguments, download=False)
        except (RuntimeError, FileNotFoundError):  # not there, or not whole
            pass
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return kind(folder, **arguments, download=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise AbsentError(
                f"data={self.name}: not in {folder} and cannot be downloaded ({' '.join(str(error).split())}); put "
                f"{self.download.files} into {folder}, or set data.root to the folder that has them"
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
