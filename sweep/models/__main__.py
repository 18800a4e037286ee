"""`python -m sweep.models resnet18` prints a model's blocks and what each freeze_depth leaves to train."""

import argparse
import textwrap

import torch
from tabulate import tabulate
from torch import Tensor

from sweep import interrupt
from sweep.config import ModelConfig, Unit
from sweep.errors import UserError
from sweep.models import build
from sweep.plan import catalog


def main(argv: list[str] | None = None) -> None:
    """Print the models that there are, or one model's blocks."""
    parser = argparse.ArgumentParser(
        prog="python -m sweep.models",
        description="Print a model's blocks: name, parameters, output shape, what each freeze_depth leaves to train.",
    )
    parser.add_argument("model", nargs="?", help="a name of torchvision's, or timm/NAME (none: list them)")
    parser.add_argument("--unit", choices=[unit.value for unit in Unit], default="stage", help="freeze.unit")
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="default: 32, or the least that it takes")
    parser.add_argument("--classes", type=int, default=10, metavar="N")
    options = parser.parse_args(argv)
    with interrupt.command():
        if options.model is None:
            print(names())
            return
        if options.classes < 1:
            raise UserError(f"--classes {options.classes}: use 1 or more")
        size = options.image_size or max(32, catalog.spec(options.model).least)
        catalog.check(ModelConfig(options.model), Unit(options.unit), 0, size)
        print(block_table(options.model, Unit(options.unit), size, options.classes))


def names() -> str:
    """Return the list of models, as printed."""
    listed = textwrap.fill(", ".join(catalog.NAMES), 100, break_long_words=False, break_on_hyphens=False)
    more = "timm/NAME: any model of timm's that can be cut (pip install freeze-sweep[timm])"
    return f"{listed}\n{more}\nOne model's blocks: python -m sweep.models NAME"


def block_table(name: str, unit: Unit, image_size: int, n_classes: int) -> str:
    """Return the printed table of blocks: parameters, output shape, and what each depth leaves to train."""
    state = build.random_state(name, image_size, seed=0)
    model = build.build(name, state, n_classes, image_size, head_seed=0).eval()
    parts, head = build.blocks(model, name, unit)
    sizes = [sum(p.numel() for p in part.parameters()) for part in [*parts, head]]
    x = torch.zeros(1, 3, image_size, image_size)
    rows: list[tuple[str, ...]] = [("0", "(nothing frozen)", "", "", f"{sum(sizes):,}")]
    labels = catalog.spec(name, image_size).block_names(unit)
    with torch.no_grad():
        for depth, (label, part) in enumerate(zip(labels, parts, strict=True), start=1):
            x = part(x)
            rows.append((str(depth), label, f"{sizes[depth - 1]:,}", _shape(x), f"{sum(sizes[depth:]):,}"))
        rows.append(("", "head", f"{sizes[-1]:,}", _shape(head(x)), ""))
    columns = ["freeze_depth", "last frozen block", "parameters", "output", "left to train"]
    title = f"{name}, freeze.unit={unit}, images 3 x {image_size} x {image_size}, {n_classes} classes"
    return f"{title}\n\n" + tabulate(
        rows, headers=columns, colalign=("right", "left", "right", "left", "right"), disable_numparse=True
    )


def _shape(x: Tensor) -> str:
    return " x ".join(str(side) for side in x.shape[1:])


if __name__ == "__main__":
    main()
