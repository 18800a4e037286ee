"""Which setting reads a folder that was taken for a folder of class folders, and is none."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sweep.data import decode, layout

TABLES = (".csv", ".tsv", ".parquet")


def tables(folder: Path) -> list[Path]:
    """Return the tables in a folder, sorted."""
    return sorted(each for each in folder.iterdir() if each.suffix.lower() in TABLES and not layout.hidden(each.name))


def without_classes(folder: Path) -> str:
    """Return what lies in a folder without folders, and the setting that may read it."""
    images, others = _images_and_others(folder)
    seen = _seen(images, others)
    hidden = [entry.name for entry in folder.iterdir() if layout.hidden(entry.name) and entry.is_dir()]
    nothing = f"but folders that count as hidden ({_some(sorted(hidden))}); rename them" if hidden else "it is empty"
    inside = f" in it, but {', '.join(seen)}" if seen else f" in it, {nothing}"
    return f"{inside}; use {layout.PLAIN}" + (
        _other(folder, others) or (listed(folder) or beside(folder) if images or tables(folder) else "")
    )


def unlabelled(loose: Path, splits: Mapping[str, Path], root: Path) -> str:
    """Return that a split has no class folders, so that its images have no labels, and what to do about it."""
    seen = _seen(*_images_and_others(loose))
    what = f"{loose.relative_to(root).as_posix()}/ holds no class folders, but {', '.join(seen) or 'nothing'}"
    if loose != splits["train"]:  # as competitions give it, or a folder that is empty
        return f"{what}; data.root={splits['train']} reads the labelled images alone, and holds some of them out"
    names = ", ".join(f"{path.relative_to(root).as_posix()}/" for path in splits.values())
    table = listed(loose) or f"; data=csv data.file=TABLE data.root={root} reads the labels from a table"
    return f"{what}{table}; data.layout=classes takes {names} for the classes"


def _images_and_others(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names in a folder, sorted, less the hidden ones: of images, and of all else."""
    names = sorted(entry.name for entry in folder.iterdir() if not layout.hidden(entry.name))
    images = [name for name in names if name.lower().endswith(decode.EXTENSIONS)]
    return images, [name for name in names if not name.lower().endswith(decode.EXTENSIONS)]


def _seen(images: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return what lies in a folder, in words."""
    return [*([f"{len(images)} image{'s' * (len(images) > 1)}"] if images else []), *others[:3]]


def _other(folder: Path, names: Sequence[str]) -> str:
    """Return which kind of data holds its images in such files; "" if there are none."""
    kinds = {".arrow": "arrow", ".parquet": "parquet", ".tar": "webdataset", ".gz": "webdataset", ".tgz": "webdataset"}
    found = [kinds[suffix] for name in names if (suffix := Path(name).suffix.lower()) in kinds]
    return f"; data={found[0]} data.root={folder} reads images that are in such files" if found else ""


def listed(folder: Path) -> str:
    """Return how to read the labels from a table in this folder or beside it; "" if there is none."""
    found = [*tables(folder), *tables(folder.absolute().parent)]
    if not found:
        return ""
    root = "" if found[0].parent == folder else f" data.root={folder}"
    return f"; data=csv data.file={found[0]}{root} reads the labels from that table"


def beside(folder: Path) -> str:
    """Return which folder holds this one, a class, and others; "" if there are no others."""
    above = folder.absolute().parent
    names = layout.subfolders(above)
    return f"; data.root={above} reads the folders {_some(names)} as classes" if len(names) > 1 else ""


def nested(folder: Path, classes: Sequence[str]) -> str:
    """Return which class folder holds folders that may be the classes instead; "" if all hold files alone."""
    for name in classes:
        names = layout.subfolders(folder / name)
        files = any(each.is_file() and not layout.hidden(each.name) for each in (folder / name).iterdir())
        if len(names) > 1 and not files:
            return (
                f"{name}/ holds the folders {_some(names)}; data.root={folder / name} reads those as classes or splits"
            )
    return ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
