"""Masks, as segmentation has them, among the images of classes: told by what files and folders are called."""

from collections.abc import Iterable
from pathlib import Path

ENDINGS = ("_mask", "_masks", "_seg", "_segmentation", "_label", "_labels", "_gt", "-mask", "-seg")
FOLDERS = frozenset(
    {
        *("mask", "masks", "seg", "segs", "segmentation", "segmentations", "label", "labels", "annotation"),
        *("annotations", "gt", "groundtruth", "ground_truth", "ground truth"),
    }
)


def among(files: Iterable[Path], tops: Iterable[Path]) -> list[str]:
    """Return a warning if there are masks among these files; tops: the folders in which the folders of classes lie.

    >>> among([Path("a/1.png"), Path("a/1_mask.png")], [Path()])
    ['warning: 1 files are called as masks of others (such as 1_mask.png); data.exclude="*_mask.*" leaves them out']
    >>> among([Path("a/x/1.png"), Path("a/gt/1.png")], [Path()])
    ['warning: 1 files lie in gt/ as others do in x/ (such as a/gt/1.png); data.exclude="*gt/*" leaves them out']
    """
    paths = list(files)
    told = _by_ending(paths) or next(filter(None, (_by_folder(paths, top) for top in tops)), "")
    return [f"warning: {told}"] if told else []


def _by_ending(files: list[Path]) -> str:
    stems = {(path.parent, path.stem.casefold()) for path in files}
    for ending in ENDINGS:
        masks = [path for path in files if _is_mask(path, ending, stems)]
        if masks:
            name = masks[0].name
            return (
                f"{len(masks)} files are called as masks of others (such as {name}); "
                f'data.exclude="*{Path(name).stem[-len(ending) :]}.*" leaves them out'
            )
    return ""


def _is_mask(path: Path, ending: str, stems: set[tuple[Path, str]]) -> bool:
    stem = path.stem.casefold()
    return stem.endswith(ending) and (path.parent, stem.removesuffix(ending)) in stems


def _by_folder(files: list[Path], top: Path) -> str:
    """Return which folder of masks mirrors one of images; "" if none does."""
    below = [path.relative_to(top) for path in files if path.is_relative_to(top)]
    levels = {level for path in below for level, name in enumerate(path.parts[:-1]) if name.casefold() in FOLDERS}
    for level in sorted(levels):
        at = [path for path in below if len(path.parts) > level + 1]
        images = {_twin(path, level): path for path in at if path.parts[level].casefold() not in FOLDERS}
        masks = [path for path in at if path.parts[level].casefold() in FOLDERS and _twin(path, level) in images]
        if masks:
            image = images[_twin(masks[0], level)]
            ours, theirs = masks[0].parts[level], image.parts[level]
            way = f'data.exclude="*{ours}/*" leaves them out' if level else f"data.root={top / theirs} is without them"
            return f"{len(masks)} files lie in {ours}/ as others do in {theirs}/ (such as {masks[0].as_posix()}); {way}"
    return ""


def _twin(path: Path, level: int) -> tuple[str, ...]:
    """Return what an image and its mask have in common whose folders differ at this level."""
    stem = path.stem.casefold()
    for ending in ENDINGS:
        stem = stem.removesuffix(ending)
    return (*path.parts[:level], "", *path.parts[level + 1 : -1], stem)
