"""Where in a file the weights of a model lie: in which dictionary of it, under which prefix, by which names."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

LEAST_MATCH = 0.95  # of the backbone's tensors that a place must have
# Words in the names of what is preferred,
AVERAGED = frozenset(("ema", "teacher", "swa", "average", "averaged", "shadow"))
COPIES = frozenset(("k", "key", "target", "momentum", "student"))  # and of what is taken where there is nothing else

Naming = Callable[[str], str]  # from a file's name of a tensor to the model's, or to one that no model has


class Place(NamedTuple):
    """One copy of a model's weights in a file.

    path: of the dictionary, such as state_dict; "" is the file itself. prefix: before the names, such as encoder.
    tensors: under the model's own names, and what else has this prefix. others: the rest of the dictionary.
    statistics: of batch normalisation, the key of the other copy that they are from; None if they are its own.
    """

    path: str
    prefix: str
    tensors: dict[str, Tensor]
    others: dict[str, Tensor]
    statistics: str | None = None

    @property
    def title(self) -> str:
        """Return how a person would name it; "" for the file itself."""
        return ", ".join([*([self.path] if self.path else []), *([f"prefix {self.prefix}"] if self.prefix else [])])

    @property
    def key(self) -> str:
        """Return what source.key chooses it by."""
        return ".".join(part for part in (self.path, self.prefix.rstrip(".")) if part)

    @property
    def rank(self) -> int:
        """Return 0 for averaged weights, 2 for the slow or the trained copy beside another, 1 for any other."""
        words = set(re.split(r"[\W_]+", self.key.lower()))
        return 0 if words & AVERAGED else 2 if words & COPIES else 1


def places(found: Any, names: Sequence[str], namings: Sequence[Naming]) -> list[Place]:
    """Return every place with tensors of these names, best first in each dictionary: at least 0.4 of the best's."""
    return [place for path, tensors in dictionaries(found, "") for place in _in(path, tensors, set(names), namings)]


def dictionaries(found: Any, path: str) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield (path, tensors) of every dictionary in a file that holds tensors, however deep it lies."""
    if not isinstance(found, Mapping):
        return
    named = {str(key): value for key, value in found.items() if isinstance(key, str | int)}
    tensors = {key: value for key, value in found.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}
    if tensors:
        yield path, tensors
    for key, value in named.items():
        yield from dictionaries(value, f"{path}.{key}" if path else key)


def _in(path: str, tensors: dict[str, Tensor], names: set[str], namings: Sequence[Naming]) -> list[Place]:
    """Return the places of one dictionary under the naming that knows most; the earlier one where two know as many."""
    best: Counter[str] = Counter()
    naming = namings[0]
    for each in namings:
        counts = Counter(prefix for key in tensors for prefix, tail in _splits(key) if each(tail) in names)
        if max(counts.values(), default=0) > max(best.values(), default=0):
            best, naming = counts, each
    least = max(best.values(), default=0) * 0.4  # parameters without the statistics of batch normalisation are half
    found = []
    for prefix in (prefix for prefix, count in best.items() if count >= least):
        own = {key for key in tensors if key.startswith(prefix)}
        under = {tail: tensors[prefix + tail] for tail in (key.removeprefix(prefix) for key in tensors if key in own)}
        renamed = {naming(tail) or tail: value for tail, value in under.items()}
        found.append(Place(path, prefix, renamed, {key: value for key, value in tensors.items() if key not in own}))
    return found


def _splits(key: str) -> Iterator[tuple[str, str]]:
    """Return every (prefix, rest) of a dotted name, the empty prefix first."""
    yield "", key
    for match in re.finditer(r"\.", key):
        yield key[: match.end()], key[match.end() :]


def numbered(children: Sequence[str]) -> Naming:
    """Return the naming of nn.Sequential(*model.children()): 0.weight is the first child's."""

    def naming(key: str) -> str:
        number, _, rest = key.partition(".")
        known = number.isdecimal() and int(number) < len(children)
        return f"{children[int(number)]}.{rest}" if known else ""

    return naming


def within(child: str) -> Naming:
    """Return the naming of a model's one child, saved without the rest: model.features.state_dict()."""
    return lambda key: f"{child}.{key}"
