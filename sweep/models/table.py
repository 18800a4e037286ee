"""The printed table of a model's blocks."""

from collections.abc import Sequence

import torch
from tabulate import tabulate
from torch import Tensor

from sweep.config import Unit
from sweep.models import build, stem


def block_table(name: str, unit: Unit, image_size: int, n_classes: int, names: Sequence[str], channels: int = 3) -> str:
    """Return the printed table of blocks, by these names: parameters, output shape, what each depth leaves to train."""
    state = build.random_state(name, image_size, seed=0)
    model = build.build(name, state, n_classes, image_size, head_seed=0).eval()
    stem.widen(model, channels)
    parts, head = build.blocks(model, name, unit, image_size)
    sizes = [sum(p.numel() for p in part.parameters()) for part in [*parts, head]]
    x = torch.zeros(1, channels, image_size, image_size)
    rows: list[tuple[str, ...]] = [("0", "(nothing frozen)", "", "", f"{sum(sizes):,}")]
    with torch.no_grad():
        for depth, (label, part) in enumerate(zip(names, parts, strict=True), start=1):
            x = part(x)
            rows.append((str(depth), label, f"{sizes[depth - 1]:,}", _shape(x), f"{sum(sizes[depth:]):,}"))
        rows.append(("", "head", f"{sizes[-1]:,}", _shape(head(x)), ""))
    columns = ["freeze_depth", "last frozen block", "parameters", "output", "left to train"]
    title = f"{name}, freeze.unit={unit}, images {channels} x {image_size} x {image_size}, {n_classes} classes"
    return f"{title}\n\n" + tabulate(
        rows, headers=columns, colalign=("right", "left", "right", "left", "right"), disable_numparse=True
    )


def _shape(x: Tensor) -> str:
    return " x ".join(str(side) for side in x.shape[1:])
