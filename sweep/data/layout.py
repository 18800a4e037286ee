"""What a folder of images holds: which of its folders are splits, which are classes, and what else lies there."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from sweep.config import Layout, OwnTest
from sweep.errors import AbsentError, UserError

PLAIN = "one subfolder of images per class, or train/ and test/ (and val/) with one each"
WORDS = {
    "train": ("train", "training", "trn", "trainset"),
    "val": ("val", "valid", "validation", "dev", "valset"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "testset"),
}
EVALUATION = ("eval", "evaluation")  # the test, or, where there is another one, validation
SPLIT_OF = {word: split for split, words in WORDS.items() for word in words}
SYSTEM = ("__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "thumbs.db")


T = TypeVar("T")


class Folders(NamedTuple):
    """Which folder is which split. notes: sentences on all that is not plain."""

    splits: dict[str, Path]
    notes: list[str]


def hidden(name: str) -> bool:
    """Return whether a file or folder is the system's or a tool's own, such as .DS_Store, @eaDir or __MACOSX."""
    return name.startswith((".", "~$")) or name.casefold() in SYSTEM


def split_name(name: str) -> tuple[str, str] | None:
    """Return the split that a name speaks of, and the rest of its words; None if it speaks of none, or of several.

    >>> split_name("X_Train"), split_name("val2017"), split_name("trainer")
    (('train', 'x'), ('val', ''), None)
    """
    said = _split_word(name)
    return (SPLIT_OF[said[0]], said[1]) if said else None


def split_names(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return split_name() of the names that speak of a split; eval beside a test split is for validation.

    >>> split_names(["train", "eval", "test", "cat"])
    {'train': ('train', ''), 'eval': ('val', ''), 'test': ('test', '')}
    """
    said = {name: found for name in names if (found := _split_word(name))}
    made = {name: (SPLIT_OF[word], rest) for name, (word, rest) in said.items()}
    others = {(SPLIT_OF[word], rest) for word, rest in said.values() if word not in EVALUATION}
    for name, (word, rest) in said.items():
        if word in EVALUATION and ("test", rest) in others and ("val", rest) not in others:
            made[name] = ("val", rest)
    return made


def by_split(names: list[str]) -> dict[str, dict[str, list[str]]]:
    """Return {rest of the name: {split: names}}, of the names that speak of a split."""
    groups: dict[str, dict[str, list[str]]] = {}
    for name, (split, rest) in split_names(names).items():
        groups.setdefault(rest, {}).setdefault(split, []).append(name)
    return groups


def _split_word(name: str) -> tuple[str, str] | None:
    """Return the word in a name that speaks of a split, and the rest of its words; None unless there is just one."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)  # TrainImages
    words = [word.casefold() for word in re.findall(r"[^\W\d_]+", parted)]
    found = [word for word in words if word in SPLIT_OF]
    if len(found) != 1:
        return None
    return found[0], " ".join(word for word in words if word not in SPLIT_OF)


def find(root: str, folder: Path, layout: Layout, own_test: OwnTest) -> Folders:
    """Return which folder is which split; one without splits is all training images.

    raises: UserError for what cannot be a data set or may be read in two ways; AbsentError where there is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"data.root={root}: is a file, not a folder; use a folder that holds {PLAIN}")
    if not folder.is_dir():
        raise AbsentError(f"data.root={root}: no such folder; it must hold {PLAIN}")
    top = inner(folder)
    names = {} if layout is Layout.classes else _splits(root, top, layout)
    splits = {split: inner(top / name) for split, name in names.items()} or {"train": top}
    notes = []
    if names and (top != folder or any(path.relative_to(folder).as_posix() != key for key, path in splits.items())):
        where = [f"{path.relative_to(folder).as_posix()}/ is the {split} split" for split, path in splits.items()]
        notes.append(", ".join(where))
    elif top != folder:
        notes.append(f"its classes are the folders in {top.relative_to(folder).as_posix()}/")
    left = sorted(set(subfolders(top)) - set(names.values())) if names else []
    again = [name for name in left if split_name(name)]
    if again:
        notes.append(f"warning: not read, because there is another folder for that split: {_folders(again)}")
    if others := [name for name in left if name not in again]:
        notes.append(f"not read, because they are no split: {_folders(others)}")
    roles, said = choose_test(root, splits, own_test, OwnTest.train)
    return Folders(roles, notes + said)


def choose_test(
    root: str, splits: Mapping[str, T], own_test: OwnTest, where_none: OwnTest
) -> tuple[dict[str, T], list[str]]:
    """Return the splits as they are used, in the order train, val, test, and what to say of them.

    where_none: what `auto` stands for if there is a split for validation and none for the test.
    """
    used = {split: splits[split] for split in WORDS if split in splits}
    if own_test is not OwnTest.auto and ("test" in used or "val" not in used):
        there = ", ".join(used)
        raise UserError(
            f"data.test={own_test}: is for data with a validation split and no test split; this has {there}; "
            "leave it out"
        )
    if "val" not in used:
        return used, []
    if "test" in used:
        return used, ["its own validation split is used, so data.val_fraction and data.rotate change nothing"]
    if (where_none if own_test is OwnTest.auto else own_test) is OwnTest.val:
        used["test"] = used.pop("val")
        other = " (data.test=train to choose on it instead)" if own_test is OwnTest.auto else ""
        return used, [f"no test split: its validation split is tested on{other}"]
    other = " (data.test=val to test on the validation split instead)" if own_test is OwnTest.auto else ""
    return used, [f"no test split: data.test_fraction of the training images is held out for it{other}"]


def inner(folder: Path) -> Path:
    """Return the folder that holds the classes or the splits: this one, or one below it if all lies in that.

    A single folder is no choice between classes, so what lies in it is meant. A single train/ is left for _splits().
    """
    below = folder
    for _ in range(4):  # links may go round in a circle
        names = subfolders(below)
        only = split_name(names[0]) if names else None
        if len(names) > 1 or (only and not only[1] and split_name(below.name) is None):
            return below
        if not names:
            break
        below = below / names[0]
    return folder


def subfolders(folder: Path) -> tuple[str, ...]:
    """Return the names of the folders in this one, sorted, less the hidden ones."""
    with os.scandir(folder) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_dir() and not hidden(entry.name)))


def _folders(names: Sequence[str]) -> str:
    return ", ".join(f"{name}/" for name in names[:5])


def _splits(root: str, folder: Path, layout: Layout) -> dict[str, str]:
    """Return {split: name of its folder}, empty if the folders are classes."""
    names = list(subfolders(folder))
    groups = by_split(names)
    several = [group for group in groups.values() if "train" in group and len(group) > 1]
    plain = {"train", "test"} <= set(names)
    found = several[0] if several and not plain else groups.get("", {})
    # Of train/ and training/ the plain one is meant.
    chosen = {split: split if split in same else same[0] for split in WORDS if (same := found.get(split))}
    double = [split for split, same in found.items() if len(same) > 1 and split not in same]
    if several and not plain and (len(several) > 1 or double):
        twice = [same for group in several for split, same in group.items() if len(several) > 1 or split in double]
        seen = ", ".join(f"{name}/" for same in twice for name in same)
        raise UserError(
            f"data.root={root}: {seen} are several folders for one split; leave one of each, or "
            "add data.layout=classes if they are classes"
        )
    if layout is Layout.auto and _may_be_classes(folder, names, chosen):
        return _ask(root, folder, names, chosen)
    if chosen and not several:
        (one, *_), absent = chosen.values(), "test" if "train" in chosen else "train"
        hint = f"data.root={folder / one} reads its classes alone" if absent == "test" else f"use {PLAIN}"
        raise UserError(f"data.root={root}: has {one}/ but no {absent}/; {hint}")
    if not chosen and layout is Layout.splits:
        raise UserError(f"data.root={root}: data.layout=splits, but none of {', '.join(names[:5])} is a split")
    return chosen


def _may_be_classes(folder: Path, names: list[str], chosen: dict[str, str]) -> bool:
    """Return whether folders that are called like splits may be classes: others lie beside them."""
    if not chosen or set(names) == set(chosen.values()) or {"train", "test"} <= set(names):
        return False
    nested = all(subfolders(folder / name) for name in chosen.values())
    return not ("train" in chosen and len(chosen) > 1 and nested)


def _ask(root: str, folder: Path, names: list[str], chosen: dict[str, str]) -> dict[str, str]:
    """Raise UserError if the folder can be read in two ways; return no splits if its folders are classes."""
    called = list(chosen.values())
    nested = [name for name in called if subfolders(folder / name)]
    if not ("train" in chosen or nested or {"train", "test"} & set(called)):
        return {}  # such as the classes valid and invalid
    others = [name for name in names if name not in called]
    raise UserError(
        f"data.root={root}: {', '.join(f'{name}/' for name in called)} may be a split or a class beside "
        f"{', '.join(f'{name}/' for name in others[:5])}; add data.layout=classes or data.layout=splits"
    )
