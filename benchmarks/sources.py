"""How well each model learns the letters, and in what time: the weights that source=glyphs_latin makes.

    python -m benchmarks.sources [MODEL ...] [--source glyphs_latin glyphs_latin_64]

Trains what is not in the cache folder (minutes for each model), keeps the numbers in results/sources.json and writes
all that are there to docs/sources.md.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from tabulate import tabulate

from benchmarks.table import fill
from sweep.cli import compose
from sweep.errors import UserError
from sweep.runs import machine, pretrain
from sweep.runs.session import Session
from sweep.runs.tick import Tick

MODELS = (
    *("resnet18", "resnet34", "resnet50", "vgg11_bn", "densenet121", "efficientnet_b0", "mobilenet_v2"),
    *("convnext_tiny", "swin_t", "vit_b_16"),
)
RESULTS = Path(__file__).parent / "results" / "sources.json"
PAGE = Path(__file__).parent.parent / "docs" / "sources.md"
START, END = "<!-- table: python -m benchmarks.sources -->", "<!-- end -->"

Row = dict[str, str | int | float]


def measure(model: str, source: str) -> Row:
    """Return how well the weights are on the letters' validation images, and the time that they took."""
    (point,) = compose.points([f"model={model}", f"source={source}", "data=glyphs_digits", "pretrained=true"], False)
    try:
        Session(_show).weights(point.source, torch.device("cpu"))
    except UserError as error:  # they have not learnt; the file says how much
        print(error)
    with safe_open(pretrain.path(point.source), "pt") as opened:
        told = opened.metadata()
    how = point.source.config
    return {
        "model": model,
        "source": source,
        "pixels": point.source.image_size,
        "epochs": how.epochs,
        "batch": how.batch_size,
        "accuracy": float(told["val_accuracy"]),
        "seconds": float(told["seconds"]),
        "threads": torch.get_num_threads(),
        "device": machine.device_name(torch.device("cpu")),
        "torch": torch.__version__,
    }


def _show(tick: Tick) -> None:
    print(f"{tick.what}: epoch {tick.epoch} of {tick.epochs}, {tick.val_accuracy}", file=sys.stderr, flush=True)


def kept() -> list[Row]:
    """Return all rows that were measured, in the order of MODELS."""
    rows: list[Row] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    return sorted(rows, key=lambda row: (str(row["source"]), MODELS.index(str(row["model"]))))


def table(rows: list[Row]) -> str:
    """Return rows as a table in Markdown."""
    cells = [
        [
            row["model"],
            f"source={row['source']}",
            row["pixels"],
            f"{row['epochs']} of batches of {row['batch']}",
            f"{100 * float(row['accuracy']):.1f} %",
            f"{float(row['seconds']) / 60:.1f}",
        ]
        for row in rows
    ]
    heads = ["model", "weights", "pixels", "epochs", "knows", "minutes"]
    return tabulate(cells, headers=heads, tablefmt="github", disable_numparse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--source", nargs="+", default=["glyphs_latin", "glyphs_latin_64"])
    options = parser.parse_args()
    for source in options.source:
        for model in options.models:
            row = measure(model, source)
            others = [each for each in kept() if (each["model"], each["source"]) != (model, source)]
            RESULTS.write_text(json.dumps([*others, row], indent=1) + "\n", encoding="utf-8")
            fill(PAGE, START, END, table(kept()))
            print(table([row]), flush=True)


if __name__ == "__main__":
    main()
