"""How many pretrained layers should stay frozen for my task? One sweep, one table, one verdict."""

import importlib
import importlib.metadata
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from torch.nn import Module

    from sweep.cli.advise import Advice
    from sweep.export import Classifier
    from sweep.report.render import Result

__all__ = ["UserError", "advise", "inspect", "load", "load_table", "run"]
try:
    __version__ = importlib.metadata.version("freeze-sweep")
except importlib.metadata.PackageNotFoundError:  # files that were only copied somewhere
    __version__ = "0+unknown"

# Threads of OpenMP that wait for others spin for so long that two of them, on two cores with one busy process beside,
# may be ten times slower than one. This is read once, when torch is loaded; on idle cores it costs nothing.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# Modules are imported by name when a function is called: nothing below imports upward, and torch takes seconds.


def run(overrides: Sequence[str] = (), multirun: bool = False) -> "Result":
    """Train what the settings describe and is not trained yet, as `python -m sweep` does, and return what came of it.

    overrides: settings as on the command line, one string each, such as "freeze_depth=0,5"; no quotes for a shell.
    multirun: whether values separated by commas are several, as with -m; else one point is trained.
    returns: its table, summary, verdict and report. A point that fails is in `missing`, and raises nothing.
    raises: UserError, one line, for settings, images or weights that cannot be right; KeyboardInterrupt after Ctrl-C,
        with what is finished kept and reported.
    """
    result: Result = importlib.import_module("sweep.cli.api").run(overrides, multirun)
    return result


def advise(overrides: Sequence[str]) -> "Advice":
    """Return which depth to keep frozen for one task, and what that is expected to lose, as `python -m sweep.advise`.

    overrides: settings as on the command line, one value each, and budget_minutes=10.
    raises: UserError, also where no depth could be trained; KeyboardInterrupt after Ctrl-C.
    """
    advice: Advice = importlib.import_module("sweep.cli.api").advise(overrides)
    return advice


def inspect(overrides: Sequence[str]) -> list[str]:
    """Print what a sweep would start from, as `python -m sweep.inspect` does, and return the warnings among it.

    raises: UserError, with strict=true also for a warning.
    """
    warnings: list[str] = importlib.import_module("sweep.cli.api").inspect(overrides)
    return warnings


def load_table(folder: str | Path) -> "pd.DataFrame":
    """Return the table of a sweep that ran before: a row per point, seed and learning rate, accuracies in 0..1.

    folder: outputs/<name>, or the folder of a report, with table.parquet. raises: UserError if it is neither.
    """
    table: pd.DataFrame = importlib.import_module("sweep.report.render").rows_of(Path(folder), Path(folder).name)
    return table


def load(path: str | Path, factory: "Callable[..., Module] | None" = None) -> "Classifier":
    """Return the model of an export folder, ready to classify: a torch module from uint8 images to logits.

    Its `prepare` makes such images of files, its `classes` names the logits' columns. Nothing in the files is executed.

    factory: for a model of your own, the function that model.factory named.
    raises: UserError if it is no such folder, or not whole.
    """
    model: Classifier = importlib.import_module("sweep.export").load(path, factory)
    return model
