"""From a planned point to its records: the task, the frozen blocks, the members.

`sweep.run(...)` is the function of that name in sweep/__init__.py, whose place this package takes when it is imported:
so it can be called, too, and does the same.
"""

import importlib
import sys
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweep.report.render import Result


class _Callable(types.ModuleType):
    def __call__(self, overrides: Sequence[str] = (), multirun: bool = False) -> "Result":
        """Train what the settings describe, as `python -m sweep` does, and return what came of it."""
        result: Result = importlib.import_module("sweep.cli.api").run(overrides, multirun)
        return result


sys.modules[__name__].__class__ = _Callable
