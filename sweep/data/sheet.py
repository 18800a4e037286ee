"""A contact sheet: some images of every class and split on one picture, as the network will see them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sweep.data import bands
from sweep.data.types import Images, Split, Task
from sweep.seeds import stream

CLASSES = 24  # at most
SHOWN = {"training": 4, "validation": 2, "test": 3}  # images of a class
CELL, GAP, LINE, MARGIN = 96, 4, 22, 12  # pixels


def draw(task: Task, title: str) -> bytes:
    """Return a PNG: a row per class, its name and counts above it; of more than CLASSES classes the first ones."""
    splits = {"training": task.train, "validation": task.val, "test": task.test}
    shown = task.classes[:CLASSES]
    left = f"; {len(task.classes) - len(shown)} more classes are not shown" if len(task.classes) > len(shown) else ""
    starts, x = {}, MARGIN
    for name, count in SHOWN.items():
        starts[name] = x
        x += count * (CELL + GAP) + 2 * MARGIN
    top = MARGIN + 2 * LINE + GAP
    row = LINE + CELL + 2 * GAP
    sheet = Image.new("RGB", (x - MARGIN, top + row * len(shown) + MARGIN), "white")
    pen, font = ImageDraw.Draw(sheet), _font()
    pen.text((MARGIN, MARGIN), title + left, fill="black", font=font)
    for name, start in starts.items():
        pen.text((start, MARGIN + LINE), f"{name}, {len(splits[name].labels)} images", fill="gray", font=font)
    for label, class_name in enumerate(shown):
        y = top + label * row
        counts = {name: int((split.labels == label).sum()) for name, split in splits.items()}
        said = ", ".join(f"{count} {name}" for name, count in counts.items())
        pen.text((MARGIN, y), f"{_cut(class_name)}   ({said})", fill="black", font=font)
        for name, start in starts.items():
            for number, image in enumerate(_some(splits[name], label, SHOWN[name])):
                sheet.paste(_thumbnail(image), (start + number * (CELL + GAP), y + LINE))
    written = io.BytesIO()
    sheet.save(written, "PNG")
    return written.getvalue()


def _some(split: Split, label: int, count: int) -> Images:
    """Return some images of a class, drawn by lot, the same ones each time."""
    places = np.flatnonzero(split.labels == label)
    chosen = stream(0, "contact sheet").permutation(places)[:count]
    return split.take(np.sort(chosen)).images


def _thumbnail(image: Images) -> Image.Image:
    whole = Image.fromarray(bands.visible(image).transpose(1, 2, 0))
    larger = image.shape[-1] < CELL
    return whole.resize((CELL, CELL), Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS)


def _cut(name: str) -> str:
    return name if len(name) <= 60 else f"{name[:57]}..."


def _font() -> ImageFont.FreeTypeFont:
    import matplotlib  # noqa: PLC0415  slow to import, and needed only for its font

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 13)
