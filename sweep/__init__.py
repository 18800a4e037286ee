"""How many pretrained layers should stay frozen for my task? One sweep, one table, one verdict."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.nn import Module

    from sweep.export import Classifier

__version__ = "0.2.0"


def load(path: str | Path, factory: "Callable[..., Module] | None" = None) -> "Classifier":
    """Return the model of an export folder, ready to classify: see sweep.export.load.

    factory: for a model of your own, the function that model.factory named.
    """
    # By name: nothing below imports upward, and torch takes seconds.
    model: Classifier = importlib.import_module("sweep.export").load(path, factory)
    return model
