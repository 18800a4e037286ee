"""The commands as functions for Python and notebooks: what is wrong is a UserError, and nothing ends the process."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.core.global_hydra import GlobalHydra

from sweep import interrupt
from sweep.cli import advise as advise_
from sweep.cli import arguments, compose, main, multirun
from sweep.cli import inspect as inspect_
from sweep.cli.advise import Advice
from sweep.cli.translate import translated
from sweep.errors import UserError
from sweep.paths import results_folder
from sweep.plan.point import Point
from sweep.report import render
from sweep.report.render import Result


@contextmanager
def called(overrides: Sequence[str]) -> Iterator[None]:
    """Run a command's body inside of another program."""
    if isinstance(overrides, str):
        raise UserError(f"{overrides}: one string; give a list of settings, such as ['data=digits', 'freeze_depth=0']")
    for each in overrides:
        if not isinstance(each, str):
            raise UserError(f"{each}: settings are strings, such as 'freeze_depth=0'")
        if each.startswith(("-", arguments.MODE)):
            raise UserError(f"{each}: a flag of the command line; give settings alone, such as freeze_depth=0")
        if each.startswith("hydra/sweeper="):
            raise UserError(f"{each}: {main.SWEEPER}")
    with interrupt.caught(), translated():
        try:
            yield
        except UserError as error:
            raise UserError(str(error).replace("need -m", "need multirun=True")) from error
        interrupt.check()


def run(overrides: Sequence[str], many: bool) -> Result:
    """Return what came of one point, or of all combinations of values; see sweep.run()."""
    with called(overrides):
        if many:
            with compose.own_loader():
                hydra = GlobalHydra.instance().hydra
                assert hydra, "it has just been initialized"
                given = arguments.overrides(overrides, multirun=True)
                result: Result | None = hydra.multirun("config", multirun.from_python, given)
            return result or _there(compose.points(overrides, multirun=True))
        (point,) = compose.points(overrides, multirun=False)
        main.train(point)
        return _there([point])


def _there(points: Sequence[Point]) -> Result:
    """Return what is there already of these points."""
    config = points[0].config
    entries = [multirun.entry(*each) for each in zip(points, compose.varied(points), strict=True)]
    return render.of(results_folder(config.name), entries, config.study)


def advise(overrides: Sequence[str]) -> Advice:
    """Return advice; see sweep.advise()."""
    with called(overrides):
        return advise_.advise(overrides)


def inspect(overrides: Sequence[str]) -> list[str]:
    """Print what a sweep would start from, and return the warnings; see sweep.inspect()."""
    with called(overrides):
        return inspect_.inspect(overrides)
