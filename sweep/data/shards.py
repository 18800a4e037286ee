"""Files that a data set is cut into: which split each belongs to, by its name."""

import re
from collections.abc import Iterable
from pathlib import Path

from sweep.config import OwnTest
from sweep.data import layout
from sweep.errors import UserError


def by_name(root: str, found: list[Path], own_test: OwnTest, layout_of: str) -> tuple[dict[str, list[Path]], list[str]]:
    """Return {split: its files}, and sentences on what is not plain; files that name no split are all training images.

    layout_of: what there may be, for errors.
    """
    named: dict[str, list[Path]] = {}
    said = layout.split_names(file.stem for file in found)
    for file in found:
        named.setdefault(said[file.stem][0] if file.stem in said else "", []).append(file)
    if list(named) == [""]:
        return {"train": found}, []
    if "" in named or "train" not in named:
        odd = named.get("", found)[0]
        raise UserError(f"data.root={root}: {odd.name} belongs to no training split; use {layout_of}")
    splits, notes = layout.choose_test(root, named, own_test, OwnTest.val)
    if any(re.match(r"(train|test|validation)(?![A-Za-z])", file.name) is None for file in found):
        files = [f"{group[0].name}{' ...' * (len(group) > 1)} is the {split} split" for split, group in named.items()]
        notes.insert(0, ", ".join(files))
    return splits, notes


def with_left(
    root: str, splits: dict[str, list[Path]], names: Iterable[str], own_test: OwnTest
) -> tuple[dict[str, list[Path]], list[str]]:
    """Return the splits that are used, and sentences on what is not plain; names: of all folders that have files."""
    used, notes = layout.choose_test(root, splits, own_test, OwnTest.val)
    left = [name for name in names if layout.split_name(name) is None]
    return used, notes + ([f"not read, because they are no split: {', '.join(left[:5])}"] if left else [])
