"""How many pretrained layers should stay frozen for my task? One sweep, one table, one verdict."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweep.export import Classifier

__version__ = "0.2.0"


def load(path: str | Path) -> "Classifier":
    """Return the model of an export folder, ready to classify: see sweep.export.load."""
    # By name: nothing below imports upward, and torch takes seconds.
    model: Classifier = importlib.import_module("sweep.export").load(path)
    return model
