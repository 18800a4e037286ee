"""What a chosen model's test leaves beside its records: predictions, and a few small images that it mistakes."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from sweep import paths
from sweep.data import bands
from sweep.data.types import Task
from sweep.report import mistakes
from sweep.train.loop import Scores

SIDE = 48  # pixels of an image that is kept, at most


def keep(folder: Path, seed: int, task: Task, scores: Scores) -> None:
    """Leave the predictions, and the images that have the largest loss of those that are wrong.

    Where images have names, predictions-<seed>.csv names them.
    """
    wrong = np.flatnonzero(~scores.correct)
    worst = wrong[np.argsort(-scores.losses[wrong], kind="stable")][: mistakes.WORST]
    images = [(int(place), _jpeg(task.test.pool[task.test.rows[place]])) for place in worst]
    labels = np.asarray(task.test.labels, np.int64)
    mistakes.write(folder, seed, mistakes.Tested(task.classes, labels, scores.predicted, tuple(images)))
    if task.names is not None:
        rows = [
            (image, task.classes[label], task.classes[predicted])
            for image, label, predicted in zip(task.names("test"), labels, scores.predicted, strict=True)
        ]
        paths.write_rows(folder / f"predictions-{seed}.csv", ["image", "class", "predicted"], rows)


def _jpeg(image: np.ndarray) -> str:
    """Return an image (C, S, S) uint8 as a JPEG in base64."""
    small = Image.fromarray(np.ascontiguousarray(bands.visible(image).transpose(1, 2, 0)))
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, format="jpeg", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()
