"""The prefix as a pure function: run every image through it once, for every depth that is needed, and keep the outputs.

A deeper block's outputs are made from a shallower one's where those are kept already. The outputs lie in the store,
shared by the jobs of all sweeps, and are handed out memory-mapped.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sweep.data import store
from sweep.data.types import Split
from sweep.models.frozen import Network

BATCH = 256  # images; large enough for the matrix units, small enough for the activations of a 224-pixel ResNet

# numpy has no bfloat16: its two bytes are kept as they are, under another name
_KEPT_AS = {torch.float32: "<f4", torch.float16: "<f2", torch.bfloat16: "<u2"}


@dataclass(frozen=True)
class Request:
    """What is asked for: the outputs of the first `depth` blocks for every image of every split.

    key: names the network's weights, the images and all that is done to them, by content.
    splits: by name.
    others: depths whose outputs are kept on the way, where they fit, because other jobs will ask for them.
    max_gb: what the store may hold.
    """

    key: str
    splits: Mapping[str, Split]
    depth: int
    others: Collection[int]
    max_gb: float


def outputs(request: Request, build: Callable[[], Network]) -> dict[str, Tensor] | None:
    """Return the outputs, in order, by split; None if they do not fit, or cannot be written.

    build: gives the network, with all blocks frozen; not called if everything is kept already.
    returns: tensors (N, ...) on the CPU, memory-mapped, of the network's precision; without gradient.
    """
    splits, depth = request.splits, request.depth
    with store.group(f"features-{request.key}") as group:
        found = _read(group, splits, depth)
        if found is None:
            network = build()
            with torch.no_grad():
                wanted = _affordable(network, request)
                if depth in wanted:
                    try:
                        _fill(group, network, splits, wanted)
                    except OSError as error:
                        store.unkept(error)
                    found = _read(group, splits, depth)
    store.trim(request.max_gb * 1e9)
    return found


def _read(group: store.Group, splits: Mapping[str, Split], depth: int) -> dict[str, Tensor] | None:
    found = {}
    for name in splits:
        for dtype in _KEPT_AS:
            array = group.read(_name(depth, name, dtype))
            if array is not None:
                found[name] = torch.from_numpy(array).view(dtype)
                break
        else:
            return None
    return found


def _name(depth: int, split: str, dtype: torch.dtype) -> str:
    return f"depth{depth:03}-{split}-{str(dtype).removeprefix('torch.')}"


def _affordable(network: Network, request: Request) -> set[int]:
    """Return the depths to keep: this one if it fits, then the others, smallest outputs first."""
    splits, depth = request.splits.values(), request.depth
    one = torch.zeros(1, *next(iter(splits)).pool.shape[1:], dtype=torch.uint8, device=network.device)
    images = sum(len(split.labels) for split in splits)
    sizes = {}
    for place, out in enumerate(network.steps(one), start=1):
        sizes[place] = out.element_size() * out.numel() * images
    chosen: set[int] = set()
    for candidate in (depth, *sorted(set(request.others) - {depth}, key=lambda other: sizes[other])):
        if sum(sizes[each] for each in chosen) + sizes[candidate] <= request.max_gb * 1e9:
            chosen.add(candidate)
        elif candidate == depth:
            break
    return chosen


def _fill(group: store.Group, network: Network, splits: Mapping[str, Split], wanted: set[int]) -> None:
    """Run every image once; keep the outputs of the wanted depths that are not there yet."""
    missing = sorted(depth for depth in wanted if _read(group, splits, depth) is None)
    shallower = ((depth, _read(group, splits, depth)) for depth in reversed(range(1, missing[0])))
    start, kept = next(((depth, found) for depth, found in shallower if found is not None), (0, {}))
    with group.write() as allocate:
        for name, split in splits.items():
            arrays: dict[int, Tensor] = {}
            for first in range(0, len(split.labels), BATCH):
                part = slice(first, first + BATCH)
                inputs = kept[name][part] if kept else torch.from_numpy(split.pool[split.rows[part]])
                for depth, out in _steps(network, inputs, start, missing):
                    if depth not in arrays:
                        shape = (len(split.labels), *out.shape[1:])
                        array = allocate(_name(depth, name, out.dtype), shape, _KEPT_AS[out.dtype])
                        arrays[depth] = torch.from_numpy(array).view(out.dtype)
                    arrays[depth][part] = out.cpu()


def _steps(network: Network, inputs: Tensor, start: int, wanted: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """Yield (depth, outputs) for the wanted depths, which ascend, from the outputs of the first `start` blocks."""
    for depth, out in enumerate(network.steps(inputs.to(network.device), start), start=start + 1):
        if depth in wanted:
            yield depth, out
        if depth == wanted[-1]:
            return
