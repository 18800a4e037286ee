"""Columns of yes and no in a table: a column per class of which one holds, or the images of a split."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from sweep.data import layout
from sweep.data.table import Table, plain
from sweep.errors import UserError

YES = frozenset({"1", "1.0", "true", "yes", "t", "y"})
NO = frozenset({"0", "0.0", "false", "no", "f", "n", ""})
# What a column may be called that marks a split's images, in letters and digits alone: is_training_img, testset, ...
MARK = re.compile(rf"(?:is|in|for|used?)*({'|'.join(layout.SPLIT_OF)})(?:im(?:g|age)|sample|set|split|data|flag)*s?")


def of_splits(opened: Table, names: Sequence[str]) -> dict[str, str]:
    """Return the columns, of these, that mark the images of a split, by split."""
    words = {name: found[1] for name in names if (found := MARK.fullmatch(plain(name)))}
    split_of = {word: split for word, (split, _) in layout.split_names(words.values()).items()}
    named: dict[str, list[str]] = {}
    for name, word in words.items():
        named.setdefault(split_of[word], []).append(name)
    alone = {split: same[0] for split, same in named.items() if len(same) == 1}
    return {split: name for split, name in alone.items() if _marked(opened.column(name)) is not None}


def by_words(opened: Table, names: Iterable[str]) -> str | None:
    """Return the first column, of these, of which every cell names a split, training and another one among them."""
    for name in names:
        with suppress(UserError):  # what cannot be read as text says nothing
            said = layout.split_names(words := {*opened.column(name)})
            plain_words = words == said.keys() and not any(rest for _, rest in said.values())
            if plain_words and {"train"} < {split for split, _ in said.values()}:
                return name
    return None


def splits(where: str, opened: Table, marks: Mapping[str, str]) -> list[str]:
    """Return the split of every row: what is not marked is of a split without a column, of train if it has none.

    raises: UserError for a row that two columns mark, or none where each split has a column.
    """
    rest = next((split for split in ("train", "test", "val") if split not in marks), "")
    marked = {split: _marked(opened.column(name)) or [] for split, name in marks.items()}
    found = []
    for number, held in enumerate(_held(marked)):
        own = held or [rest]
        if len(own) > 1 or not own[0]:
            said = " and ".join(own) if own[0] else "in no split"
            raise UserError(f"{where}: {opened.place(number)} is {said}, by {', '.join(marks.values())}; mark one")
        found.append(own[0])
    return found


def of_classes(opened: Table, names: Iterable[str]) -> dict[str, list[bool]]:
    """Return the columns, of these, that mark the images of a class, if there are two or more."""
    named = (name for name in names if opened.names.count(name) == 1 and name)
    found = {name: marked for name in named if (marked := _marked(opened.column(name))) is not None and any(marked)}
    return found if len(found) > 1 else {}


def classes(where: str, opened: Table, marked: Mapping[str, list[bool]]) -> list[str]:
    """Return the class of every row; raise UserError for one that has none, or several."""
    found = []
    for number, own in enumerate(_held(marked)):
        if len(own) != 1:
            raise UserError(
                f"{where}: {opened.place(number)} has {len(own) or 'no'} {'classes' if own else 'class'} marked in the "
                f"columns {', '.join([*marked][:4])}{', ...' if len(marked) > 4 else ''}; an image needs one; "
                "data.label_column names a column of labels"
            )
        found += own
    return found


def _held(marked: Mapping[str, list[bool]]) -> Iterator[list[str]]:
    """Yield, of every row, the names under which it is marked."""
    for row in zip(*marked.values(), strict=True):
        yield [name for name, held in zip(marked, row, strict=True) if held]


def _marked(cells: list[str]) -> list[bool] | None:
    """Return where the cells say yes; None if one says neither yes nor no, or all are empty."""
    words = [cell.casefold() for cell in cells]
    if not {*words} <= YES | NO or {*words} == {""}:
        return None
    return [word in YES for word in words]
