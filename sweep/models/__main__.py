"""`python -m sweep.models resnet18` prints a model's blocks and what each freeze_depth leaves to train.

`python -m sweep.models --all` prints which models can be cut, and for the rest, why not.
"""

import fnmatch

from sweep import interrupt
from sweep.commands import Command
from sweep.config import Unit
from sweep.errors import UserError
from sweep.plan import catalog
from sweep.plan.checks import RANGES


def main(argv: list[str] | None = None) -> None:
    """Print the models that there are, or one model's blocks."""
    parser = Command(
        "sweep.models",
        "Print a model's blocks: name, parameters, output shape, what each freeze_depth leaves to train.",
        {
            "": "the models that there are",
            "resnet18": "one of them",
            "resnet18 --unit block": "freeze=block counts so",
            "--all 'timm/vit_*'": "which of these can be cut, and for the rest, why",
        },
    )
    parser.add_argument(
        "model", nargs="?", help="a name of torchvision's, timm/NAME, or module/FILE:NAME (none: list them)"
    )
    parser.add_argument("--blocks", nargs="+", metavar="REGEX", help="model.blocks, for module/FILE:NAME")
    parser.add_argument("--unit", choices=[unit.value for unit in Unit], default="stage", help="freeze.unit")
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="default: 32, or the least that it takes")
    parser.add_argument("--classes", type=int, default=10, metavar="N")
    parser.add_argument(
        "--all",
        nargs="?",
        const="*",
        metavar="PATTERN",
        help="which models can be cut, one a line as they are tried; PATTERN: of these alone, such as 'timm/vit_*'",
    )
    with interrupt.command():
        options = parser.parse_args(argv)
        if options.all is not None:
            _print_all(options.all)
            return
        if options.model is None:
            print(catalog.listing())
            return
        _require(options.classes, "--classes", "source.n_classes")
        _require(options.image_size, "--image-size", "data.image_size")
        config, unit = catalog.named(options.model, options.blocks), Unit(options.unit)
        size = options.image_size or max(32, catalog.spec(config.full_name).least)
        catalog.check(config, unit, 0, size)
        names = catalog.spec(config.full_name, size).block_names(unit)
        from sweep.models.table import block_table  # noqa: PLC0415  torch takes seconds

        print(block_table(config.full_name, unit, size, options.classes, names))


def _require(value: int | None, flag: str, setting: str) -> None:
    """Raise UserError if this flag has a number that its setting does not take."""
    if value is not None and not RANGES[setting].holds(value):
        raise RANGES[setting].refuse(flag, value)


def _print_all(pattern: str) -> None:
    """Print a line for every model of these names: how many blocks it has, or why it cannot be cut."""
    from sweep.models.cards import timms_names  # noqa: PLC0415  torch takes seconds

    names = fnmatch.filter((*catalog.NAMES, *timms_names()), pattern)
    if not names:
        raise UserError(f"--all {pattern}: no model has such a name; use * for any letters, such as '*resnet*'")
    width, count = max(map(len, names)), 0
    for name in names:
        try:
            found = catalog.spec(name)
        except UserError as error:
            said = str(error).partition(": ")[2] or str(error)
        else:
            count += 1
            said = (
                f"{len(found.block_names(Unit.stage))} blocks, {len(found.block_names(Unit.block))} with freeze=block"
            )
        print(f"{name:{width}}  {said}", flush=True)
    print(f"{count} of {len(names)} can be cut")


if __name__ == "__main__":
    main()
