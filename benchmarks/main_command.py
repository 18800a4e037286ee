"""The main command from nothing: how long, where the time goes, and what of it is arithmetic that must be done.

    python -m benchmarks.main_command [--repeats 1]

The floor counts every image that the grid has to train on, validate or test with, in fp32, at the best rate that this
machine reaches in one matrix product or convolution; nothing but arithmetic is in it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from safetensors import safe_open

from benchmarks import floor
from benchmarks.cases import RESULTS
from sweep.config import SourceConfig
from sweep.data import glyphs, task

COMMAND = ["-m", "sweep", "-m", "pretrained=true,false", "freeze_depth=0,2,4"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1)
    repeats = parser.parse_args().repeats
    rate = floor.best_rate(torch.float32)
    runs = [run() for _ in range(repeats)]
    row: dict[str, float | str] = {
        key: statistics.median(each[key] for each in runs) for key in runs[0] if key != "flops"
    }
    row |= {
        "floor": statistics.median(each["flops"] for each in runs) / rate,
        "gflops_per_second": rate / 1e9,
        "target": "<= 90",
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "main-command.json").write_text(json.dumps(row, indent=1) + "\n")
    print(json.dumps(row, indent=1))


def run() -> dict[str, float]:
    """Return seconds by part, and the FLOPs that are needed."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "SWEEP_CACHE": f"{folder}/cache"}
        start = time.perf_counter()
        subprocess.run([sys.executable, *COMMAND], cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)
        seconds = time.perf_counter() - start
        rows = pd.read_csv(f"{folder}/outputs/sweep/table.csv")
        (weights,) = Path(folder).glob("cache/sources/*.safetensors")
        with safe_open(weights, "pt") as file:
            source = float(file.metadata()["seconds"])
    training = float((rows["seconds_per_epoch"] * rows["epochs"]).sum())
    prefix = float(rows["prefix_seconds"].sum())
    return {
        "seconds": seconds,
        "source": source,
        "training": training,
        "prefix": prefix,
        "evaluation and other": seconds - source - training - prefix,
        "flops": flops(rows),
    }


def flops(rows: pd.DataFrame) -> float:
    """Return the FLOPs of the source, of all members' training, validation and test, and of the frozen blocks once."""
    each, source = floor.block_flops(), SourceConfig()
    letters = task.load(source.data, glyphs.SIZE)
    total = source.epochs * (
        len(letters.train.labels) * floor.step_flops(each, 0) + len(letters.val.labels) * sum(each)
    )
    for row in rows.to_dict("records"):
        depth = row["freeze_depth"]
        suffix = sum(each[depth:])
        total += row["epochs"] * (row["n_train"] * floor.step_flops(each, depth) + row["n_val"] * suffix)
        total += row["selected"] * row["n_test"] * suffix
    # Random weights differ by seed, pretrained ones do not: one pass for each, up to the deepest freeze.
    for _, arm in rows.groupby(["task", "pretrained"]):
        first = arm.iloc[0]
        passes = 1 if first["pretrained"] else arm["seed"].nunique()
        images = first["n_train"] + first["n_val"] + first["n_test"]
        total += passes * images * sum(each[: arm["freeze_depth"].max()])
    return float(total)


if __name__ == "__main__":
    main()
