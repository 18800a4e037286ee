"""Tasks: where images come from, and how they are split. Plain numpy; nothing here needs torch."""

import functools
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from sweep.config import Case, DataConfig, Transform, digest
from sweep.data import glyphs, parquet, store
from sweep.data import torchvision as downloads
from sweep.data.torchvision import DOWNLOADS
from sweep.errors import AbsentError, UserError, unknown
from sweep.paths import cache_folder
from sweep.seeds import stream

Images = glyphs.Images  # (N, 3, S, S) uint8
Labels = npt.NDArray[np.int64]  # (N,)

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


# allocate(split, count) -> (images (count, 3, S, S) uint8, labels (count,) int64), to be filled
Allocate = Callable[[str, int], tuple[Images, Labels]]

# Part of the name of every decoded array. Raise it when a change of the code changes pixels.
DECODING = 1


@dataclass(frozen=True)
class Split:
    """Some rows of an array of images, which may be a memory map larger than the memory: take what is needed."""

    pool: Images  # (M, 3, S, S) uint8
    rows: Labels  # which images of the pool
    labels: Labels  # of these rows

    @property
    def images(self) -> Images:
        """Return a copy of the images (N, 3, S, S)."""
        return self.pool[self.rows]

    def take(self, index: Labels) -> "Split":
        return Split(self.pool, self.rows[index], self.labels[index])


@dataclass(frozen=True)
class Task:
    """A target data set with its three splits; validation and test are the same for every member."""

    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split


@dataclass(frozen=True)
class Dataset:
    """One entry of DATASETS.

    read decodes every split of splits() at an image size into arrays that it asks for; "test" is only there if the data
    has one of its own. The others answer before any image is read. fingerprint changes when the images do; files, where
    that is by name only, changes with the files that are there.
    """

    read: Callable[[DataConfig, int, Allocate], None]
    classes: Callable[[DataConfig], tuple[str, ...]]
    fingerprint: Callable[[DataConfig], Any]
    splits: Callable[[DataConfig], tuple[str, ...]] = lambda config: ("train", "test")
    files: Callable[[DataConfig], Any] = lambda config: None
    fetch: Callable[[DataConfig], None] = lambda config: None  # have the files on this machine
    on_disk: bool = True  # whether data.root means something
    similar: dict[str, bool] = field(default_factory=dict)  # to which sources, where it is known


def check(config: DataConfig) -> None:
    """Raise UserError if this data set is unknown or its files cannot be as they should; reads no image."""
    if config.name not in DATASETS:
        raise unknown("data.name", config.name, DATASETS)
    if config.root is not None and not DATASETS[config.name].on_disk:
        raise UserError(f"data.root={config.root}: data={config.name} reads no files; add data=image_folder")
    kept = len(kept_classes(config))
    if config.groups is not None and not 2 <= config.groups <= kept:
        raise UserError(f"data.groups={config.groups}: {kept} classes make 2 to {kept} groups")
    if (config.image_column or config.label_column) and config.name != "parquet":
        raise UserError(f"data.image_column, data.label_column: data={config.name} has no columns; add data=parquet")
    names = classes(config)
    if len(names) < 2:
        where = f"data={config.name}" if config.root is None else f"data.root={config.root}"
        raise UserError(f"{where}: only one class ({', '.join(names)}); at least two are needed")
    if config.limit_train is not None and config.limit_train < len(names):
        raise UserError(
            f"data.limit_train={config.limit_train}: {len(names)} classes need at least one image each; "
            f"use {len(names)} or more"
        )


def fingerprint(config: DataConfig) -> str:
    """Return what names the task's images and classes by content."""
    return digest([config.name, DATASETS[config.name].fingerprint(config), classes(config), str(config.transform)])


def classes(config: DataConfig) -> tuple[str, ...]:
    """Return the names of the task's classes, in label order: the data set's, or data.classes, or groups of them."""
    names = [DATASETS[config.name].classes(config)[number] for number in kept_classes(config)]
    if config.groups is None:
        return tuple(names)
    members: list[list[str]] = [[] for _ in range(config.groups)]
    for name, group in zip(names, _groups(config, len(names)), strict=True):
        members[group].append(name)
    return tuple("+".join(each) for each in members)


def _groups(config: DataConfig, count: int) -> Labels:
    """Return the label of each of `count` classes: neighbours share one, as evenly as can be."""
    return np.arange(count) * (config.groups or count) // count


def kept_classes(config: DataConfig) -> list[int]:
    """Return the data set's labels that the task keeps, in the task's order."""
    names = DATASETS[config.name].classes(config)
    if config.classes is None:
        return list(range(len(names)))
    asked = config.classes if isinstance(config.classes, list) else [config.classes]
    # A name goes before a number: the classes of digits are called 0 to 9.
    by_name = {name: number for number, name in enumerate(names)}
    kept = []
    for each in asked:
        number = by_name.get(str(each), each)
        if not isinstance(number, int) or not 0 <= number < len(names):
            raise unknown("data.classes", str(each), names if len(names) <= 50 else [*names[:3], "...", names[-1]])
        kept.append(number)
    if len(set(kept)) != len(kept):
        raise UserError(f"data.classes={config.classes}: the same class twice; list each once")
    return kept


def label(config: DataConfig) -> str:
    """Return the task's name in tables: data.label, else the folder's name, else the data set's."""
    if config.label:
        return config.label
    if config.name in ("image_folder", "parquet") and config.root:
        return Path(config.root).expanduser().resolve().name.removesuffix(".parquet")
    own = "" if config.classes is None and config.groups is None else f"-{len(classes(config))}classes"
    return config.name + own + ("" if config.transform is Transform.none else f"-{config.transform}")


def case(config: DataConfig, source: str, source_classes: int) -> Case:
    """Return the rule's case of this task: as declared, else as known for embedded tasks, else unknown."""
    n_classes = len(classes(config))
    declared, fewer = config.case, n_classes < source_classes
    if declared is Case.auto:
        known = DATASETS[config.name].similar.get(source)
        if known is None or config.transform is not Transform.none:
            return Case.unknown
        return (Case.similar_fewer if fewer else Case.similar_more) if known else Case.dissimilar
    if declared in (Case.similar_fewer, Case.similar_more) and fewer != (declared is Case.similar_fewer):
        right = Case.similar_fewer if fewer else Case.similar_more
        raise UserError(
            f"data.case={declared}: {config.name} has {n_classes} classes and source {source} has "
            f"{source_classes}; use {right}, dissimilar or auto"
        )
    return declared


def load(config: DataConfig, image_size: int, max_gb: float = 0.0) -> Task:
    """Return the task; its three splits depend on data.seed alone, never on a member's seed.

    Images are decoded once and kept on disk, memory-mapped, in the store, which is trimmed to max_gb; with 0 they are
    kept in memory alone. The points of one process share them, and an error that was found.
    raises: UserError for unreadable images (by name) and for classes too small to be split.
    """
    loose = {"label": None, "matched_group": None, "case": Case.auto, "per_class": None, "limit_train": None}
    key = (image_size, repr(sorted((vars(config) | loose).items())))
    if key not in _loaded:
        while len(_loaded) > 1:  # two tasks at most: images take memory
            _loaded.pop(next(iter(_loaded)))
        try:
            _loaded[key] = _load(config, image_size, max_gb)
        except UserError as error:
            _loaded[key] = error
    found = _loaded[key]
    if isinstance(found, UserError):
        raise found
    return found


_loaded: dict[tuple[int, str], Task | UserError] = {}


def _load(config: DataConfig, image_size: int, max_gb: float) -> Task:
    kept = kept_classes(config)
    names = tuple(DATASETS[config.name].classes(config)[number] for number in kept)
    splits = _decoded(config, image_size, max_gb)
    if config.classes is not None:
        splits = {name: _relabel(split, kept) for name, split in splits.items()}
    train, test = splits["train"], splits.get("test")
    if test is None:
        rest, held = _hold_out(train.labels, config.test_fraction, stream(config.seed, "test split"), names)
        train, test = train.take(rest), train.take(held)
    rest, held = _hold_out(train.labels, config.val_fraction, stream(config.seed, "validation split"), names)
    coarse = _groups(config, len(names))  # after the splits, so that coarse and fine labels name the same images
    final = [replace(split, labels=coarse[split.labels]) for split in (train.take(rest), train.take(held), test)]
    return Task(classes(config), *final)


def _decoded(config: DataConfig, size: int, max_gb: float) -> dict[str, Split]:
    """Return the data set's own splits: from disk if they were decoded before."""
    dataset = DATASETS[config.name]
    if max_gb > 0:
        key = digest(
            [DECODING, config.name, size, dataset.fingerprint(config), dataset.files(config), config.transform]
        )
        try:
            with store.group(f"images-{config.name}-{key}") as group:
                found = _stored(group, dataset.splits(config))
                if found is None:
                    with group.write() as allocate:
                        _read(config, size, allocate)
                    found = _stored(group, dataset.splits(config))
            store.trim(max_gb * 1e9)
            if found is not None:
                return found
        except OSError as error:  # no room, or no right to write there
            print(f"warning: decoded images are not kept ({error})", file=sys.stderr)
    arrays: dict[str, npt.NDArray[Any]] = {}

    def in_memory(name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        return arrays.setdefault(name, np.empty(shape, dtype))

    _read(config, size, in_memory)
    return {name: _whole(arrays[f"{name}-images"], arrays[f"{name}-labels"]) for name in dataset.splits(config)}


def _read(config: DataConfig, size: int, allocate: store.Allocate) -> None:
    """Decode every split, and transform it in place."""
    made: list[Images] = []

    def both(split: str, count: int) -> tuple[Images, Labels]:
        made.append(allocate(f"{split}-images", (count, 3, size, size), np.uint8))
        return made[-1], allocate(f"{split}-labels", (count,), np.int64)

    DATASETS[config.name].read(config, size, both)
    for images in made:
        for first in range(0, len(images), 1000):  # images may be a map larger than the memory
            images[first : first + 1000] = transformed(images[first : first + 1000], config.transform)


def transformed(images: Images, transform: Transform) -> Images:
    """Return images (N, 3, S, S) blurred (sigma a sixteenth of the side), inverted, or with pixels in another order."""
    if transform is Transform.blur:
        from scipy.ndimage import gaussian_filter

        sigma = images.shape[-1] / 16
        blurred: Images = gaussian_filter(images, (0, 0, sigma, sigma))
        return blurred
    if transform is Transform.invert:
        return 255 - images
    if transform is Transform.permute:  # the same order for every image: what is left of a class is its histogram
        order = stream(0, "permuted pixels").permutation(images[0, 0].size)
        return images.reshape(*images.shape[:2], -1)[..., order].reshape(images.shape)
    return images


def _stored(group: store.Group, names: Sequence[str]) -> dict[str, Split] | None:
    found = {}
    for name in names:
        images, labels = group.read(f"{name}-images"), group.read(f"{name}-labels")
        if images is None or labels is None:
            return None
        found[name] = _whole(images, labels)
    return found


def _whole(images: Images, labels: Labels) -> Split:
    return Split(images, np.arange(len(labels)), np.array(labels))


def subsample(config: DataConfig, labels: Labels, seed: int, classes: tuple[str, ...]) -> Labels:
    """Return the sorted indices of the training images that a member with this seed sees.

    data.per_class takes that many of each class; data.limit_train that many in all, keeping the class shares
    (largest remainder, at least one each); neither takes all.
    """
    counts = np.bincount(labels, minlength=len(classes))
    if config.per_class is not None:
        if counts.min() < config.per_class:
            raise UserError(
                f"data.per_class={config.per_class}: class {classes[counts.argmin()]} has only {counts.min()} "
                f"training images after the validation split; use {counts.min()} or fewer"
            )
        quota = np.full(len(classes), config.per_class)
    elif config.limit_train is not None:
        if config.limit_train > len(labels):
            raise UserError(
                f"data.limit_train={config.limit_train}: {label(config)} has {len(labels)} training images after "
                f"the validation split; use {len(labels)} or fewer, or null for all"
            )
        quota = _shares(counts, config.limit_train)
    else:
        return np.arange(len(labels))
    order = stream(seed, "subsample").permutation(len(labels))
    chosen = [order[labels[order] == label][: quota[label]] for label in range(len(classes))]
    return np.sort(np.concatenate(chosen))


def _shares(counts: Labels, total: int) -> Labels:
    exact = total * counts / counts.sum()
    quota: Labels = np.maximum(1, np.floor(exact).astype(np.int64))
    while quota.sum() < total:
        quota[np.argmax(np.where(quota < counts, exact - quota, -np.inf))] += 1
    while quota.sum() > total:  # classes lifted to one image took more than there was
        quota[np.argmax(np.where(quota > 1, quota - exact, -np.inf))] -= 1
    return quota


def _relabel(split: Split, kept: list[int]) -> Split:
    """Return the images of these classes, labelled by their places in the list."""
    place = np.full(max(int(split.labels.max()), *kept) + 1, -1)
    place[kept] = np.arange(len(kept))
    chosen = split.take(np.flatnonzero(place[split.labels] >= 0))
    return Split(chosen.pool, chosen.rows, place[chosen.labels])


def _hold_out(
    labels: Labels, fraction: float, rng: np.random.Generator, classes: tuple[str, ...]
) -> tuple[Labels, Labels]:
    """Return (rest, held): sorted indices; of every class this fraction is held out, at least one image (0: none)."""
    if fraction == 0:
        return np.arange(len(labels)), np.arange(0)
    order = rng.permutation(len(labels))
    held = []
    for label, name in enumerate(classes):
        members = order[labels[order] == label]
        count = max(1, round(fraction * len(members)))
        if count >= len(members):
            raise UserError(
                f"class {name} has {len(members)} image(s) to share between training and the held-out "
                f"{fraction:g}; add images, or remove the class"
            )
        held.append(members[:count])
    out = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), out), out


def _resize(images: Images, size: int) -> Images:
    if images.shape[-1] == size:
        return images
    square = [
        Image.fromarray(image.transpose(1, 2, 0)).resize((size, size), Image.Resampling.BICUBIC) for image in images
    ]
    return np.stack([np.asarray(image).transpose(2, 0, 1) for image in square])


def _fill(allocate: Allocate, split: str, images: Images, labels: Labels) -> None:
    pixels, numbers = allocate(split, len(labels))
    pixels[:], numbers[:] = images, labels


# --- rendered here --------------------------------------------------------------------------------------------


def _alphabet(alphabet: str, pool: int, test: int) -> Dataset:
    """Return the entry of a task of characters: `pool` images a class to train and validate on, `test` to test."""

    def read(config: DataConfig, size: int, allocate: Allocate) -> None:
        for split, count in (("train", pool), ("test", test)):
            images, labels = glyphs.characters(alphabet, count, split)
            _fill(allocate, split, _resize(images, size), labels)

    fingerprint = [glyphs.VERSION, alphabet, pool, test]
    return Dataset(
        read, lambda _: tuple(alphabet), lambda _: fingerprint, similar={"glyphs_latin": True}, on_disk=False
    )


def _read_gratings(config: DataConfig, size: int, allocate: Allocate) -> None:
    for split in ("train", "test"):
        images, labels = glyphs.gratings(50, split)
        _fill(allocate, split, _resize(images, size), labels)


# --- scikit-learn's handwriting -------------------------------------------------------------------------------


def _read_digits(config: DataConfig, size: int, allocate: Allocate) -> None:
    from sklearn.datasets import load_digits

    data = load_digits()
    grey = np.round(data.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8), from 0..16
    _fill(allocate, "train", _resize(np.repeat(grey[:, None], 3, axis=1), size), data.target)


# --- torchvision's data sets ----------------------------------------------------------------------------------


def _download(name: str) -> Dataset:
    entry = DOWNLOADS[name]
    parts = {split: which for split, which in (("train", entry.train), ("test", entry.test)) if which is not None}

    def root(config: DataConfig) -> Path:
        return Path(config.root).expanduser() if config.root else cache_folder() / "data"

    def read(config: DataConfig, size: int, allocate: Allocate) -> None:
        for split, which in parts.items():
            whole = downloads.images(name, entry, root(config), which)
            pixels, labels = allocate(split, len(whole))
            for number, (image, label) in enumerate(whole):
                pixels[number], labels[number] = square(image, size), label

    return Dataset(
        read,
        classes=lambda _: entry.classes,
        fingerprint=lambda _: ["torchvision", name],
        splits=lambda _: tuple(parts),
        files=lambda config: downloads.probe(entry, root(config)),
        fetch=lambda config: downloads.fetch(name, entry, root(config)),
    )


# --- images in folders ----------------------------------------------------------------------------------------


def _folder_classes(config: DataConfig) -> tuple[str, ...]:
    return _listing(config.root).classes


def _folder_fingerprint(config: DataConfig) -> str:
    return _listing(config.root).fingerprint


class _Listing(NamedTuple):
    """A folder of images. files: {split: [(file, label), ...]}; a folder without train/ is all training images.

    fingerprint: a digest of every file's relative path, size and time: cheap, and any edit changes it.
    """

    classes: tuple[str, ...]
    files: dict[str, list[tuple[Path, int]]]
    fingerprint: str


@functools.lru_cache(maxsize=8)
def _listing(root: str | None) -> _Listing:
    """Return what the folder holds, walked once per process; raise UserError if it cannot be a data set."""
    layout = "one subfolder of images per class, or train/ and test/ with one each"
    if not root:
        raise UserError(f"data.root is not set: data=image_folder needs data.root=path/to/images ({layout})")
    folder = Path(root).expanduser()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"data.root={root}: is a file, not a folder; use a folder that holds {layout}")
    if not folder.is_dir():
        raise AbsentError(f"data.root={root}: no such folder; it must hold {layout}")
    if (folder / "train").is_dir() != (folder / "test").is_dir():
        there, absent = ("train", "test") if (folder / "train").is_dir() else ("test", "train")
        raise UserError(f"data.root={root}: has {there}/ but no {absent}/; use {layout}")
    splits = {name: folder / name for name in ("train", "test")} if (folder / "train").is_dir() else {"train": folder}
    names = {split: _subfolders(path) for split, path in splits.items()}
    classes = next(iter(names.values()))
    if not classes:
        raise UserError(f"data.root={root}: no class folders; use {layout}")
    for split, found in names.items():
        if found != classes:
            only = [
                (name, sorted(set(one) - set(two)))
                for name, one, two in (("train", classes, found), (split, found, classes))
            ]
            lacks = " and ".join(f"only {name}/ has {', '.join(extra[:5])}" for name, extra in only if extra)
            raise UserError(f"data.root={root}: {split}/ and train/ differ in classes: {lacks}")
    files = {
        split: [(file, label) for label, name in enumerate(classes) for file in _images_below(path / name)]
        for split, path in splits.items()
    }
    for split, entries in files.items():
        empty = set(range(len(classes))) - {label for _, label in entries}
        if empty:
            where = splits[split] / classes[min(empty)]
            raise UserError(f"data.root={root}: no images in {where}; add some ({', '.join(EXTENSIONS)}) or remove it")
    rows = []
    for path, _ in (entry for entries in files.values() for entry in entries):
        stat = path.stat()
        rows.append([str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns])
    return _Listing(classes, files, digest(rows))


def _subfolders(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."))


def _images_below(folder: Path) -> list[Path]:
    found = [
        Path(parent) / name
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(EXTENSIONS) and name[0] != "."
    ]
    return sorted(found)


def _folder_splits(config: DataConfig) -> tuple[str, ...]:
    return tuple(_listing(config.root).files)


def _read_folder(config: DataConfig, size: int, allocate: Allocate) -> None:
    bad: list[str] = []
    for split, entries in _listing(config.root).files.items():
        images, labels = allocate(split, len(entries))
        labels[:] = [label for _, label in entries]

        def decode(number: int, entries=entries, images=images) -> None:  # type: ignore[no-untyped-def]
            try:
                images[number] = _decode(entries[number][0], size)
            except UNREADABLE as error:
                bad.append(f"{entries[number][0]} ({' '.join(str(error).split())})")

        with ThreadPoolExecutor(os.cpu_count()) as pool:  # PIL releases the lock while it decodes
            list(pool.map(decode, range(len(entries))))
    _refuse_unreadable(config, bad)


UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what PIL raises for broken files


def _refuse_unreadable(config: DataConfig, bad: list[str]) -> None:
    if bad:
        shown = "; ".join(sorted(bad)[:5]) + (f"; and {len(bad) - 5} more" if len(bad) > 5 else "")
        raise UserError(f"data.root={config.root}: {len(bad)} unreadable image(s), repair or remove them: {shown}")


def _decode(path: Path | io.BytesIO, size: int) -> Images:
    with warnings.catch_warnings(), Image.open(path) as file:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # photographs are large; bombs are errors
        return square(ImageOps.exif_transpose(file), size)


def square(image: Image.Image, size: int) -> Images:
    """Return the image as (3, size, size): shorter side scaled to size, centre kept, white behind alpha."""
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


# --- images in parquet files ----------------------------------------------------------------------------------


def _parquet(config: DataConfig) -> parquet.Listing:
    return parquet.listing(config.root, config.image_column, config.label_column)


def _read_parquet(config: DataConfig, size: int, allocate: Allocate) -> None:
    found, bad = _parquet(config), []

    def decode(content: bytes | None) -> glyphs.Images | str:
        try:
            return "no bytes in this row" if content is None else _decode(io.BytesIO(content), size)
        except UNREADABLE as error:
            return re.sub(r" <_io.BytesIO.*>", "", " ".join(str(error).split()))

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # PIL releases the lock while it decodes
        for split, files in found.files.items():
            images, labels = allocate(split, len(found.labels[split]))
            labels[:] = found.labels[split]
            place = 0
            for file in files:
                first = place  # of the file's rows
                for batch in parquet.images(file, found.image):
                    for image in pool.map(decode, batch):
                        if isinstance(image, str):
                            bad.append(f"{file.name} row {place - first} ({image})")
                        else:
                            images[place] = image
                        place += 1
    _refuse_unreadable(config, bad)


DATASETS: dict[str, Dataset] = {
    "glyphs_latin": _alphabet(glyphs.LATIN, 250, 40),
    "glyphs_digits": _alphabet(glyphs.DIGITS, 50, 50),
    "glyphs_greek_cyrillic": _alphabet(glyphs.GREEK_CYRILLIC, 25, 20),
    "glyphs_mixed": _alphabet(glyphs.DIGITS + glyphs.GREEK_CYRILLIC, 25, 20),
    "textures": Dataset(
        _read_gratings,
        lambda _: glyphs.grating_names(),
        lambda _: glyphs.VERSION,
        similar={"glyphs_latin": False},
        on_disk=False,
    ),
    "digits": Dataset(
        _read_digits,
        lambda _: tuple("0123456789"),
        lambda _: "scikit-learn load_digits",
        splits=lambda _: ("train",),
        on_disk=False,
    ),
    **{name: _download(name) for name in DOWNLOADS},
    "parquet": Dataset(
        _read_parquet,
        lambda config: _parquet(config).classes,
        lambda config: _parquet(config).fingerprint,
        lambda config: tuple(_parquet(config).files),
    ),
    "image_folder": Dataset(_read_folder, _folder_classes, _folder_fingerprint, _folder_splits),
}
