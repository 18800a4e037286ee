"""`python -m sweep.models resnet18` prints a model's blocks and what each freeze_depth leaves to train."""

from sweep import interrupt
from sweep.commands import Command
from sweep.config import Unit
from sweep.errors import UserError
from sweep.plan import catalog


def main(argv: list[str] | None = None) -> None:
    """Print the models that there are, or one model's blocks."""
    parser = Command(
        "sweep.models",
        "Print a model's blocks: name, parameters, output shape, what each freeze_depth leaves to train.",
        {"": "the models that there are", "resnet18": "one of them", "resnet18 --unit block": "freeze=block counts so"},
    )
    parser.add_argument(
        "model", nargs="?", help="a name of torchvision's, timm/NAME, or module/FILE:NAME (none: list them)"
    )
    parser.add_argument("--blocks", nargs="+", metavar="REGEX", help="model.blocks, for module/FILE:NAME")
    parser.add_argument("--unit", choices=[unit.value for unit in Unit], default="stage", help="freeze.unit")
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="default: 32, or the least that it takes")
    parser.add_argument("--classes", type=int, default=10, metavar="N")
    with interrupt.command():
        options = parser.parse_args(argv)
        if options.model is None:
            print(catalog.listing())
            return
        if options.classes < 1:
            raise UserError(f"--classes {options.classes}: use 1 or more")
        config, unit = catalog.named(options.model, options.blocks), Unit(options.unit)
        size = options.image_size or max(32, catalog.spec(config.full_name).least)
        catalog.check(config, unit, 0, size)
        names = catalog.spec(config.full_name, size).block_names(unit)
        from sweep.models.table import block_table  # noqa: PLC0415  torch takes seconds

        print(block_table(config.full_name, unit, size, options.classes, names))


if __name__ == "__main__":
    main()
