"""How much faster two workers are than one, on all of this machine's cores, and what it costs to start them.

    python -m benchmarks.workers [--repeats 3]

A grid of eight equal points with nothing frozen; images are decoded before. The ways take turns, and every run is a
command of its own. *start* is what the same command takes when all points are finished: Python, imports, composing, and
the report.
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

from tabulate import tabulate

from benchmarks.cases import RESULTS
from benchmarks.table import fill

GRID = [
    *("-m", "data=textures", "pretrained=false", "freeze_depth=0", "epochs=8", "seeds=1", "export=none"),
    "optimizer.lr=" + ",".join(f"{1 + number / 10:g}e-3" for number in range(8)),
]
WAYS = {
    "one process, all cores": ["hydra/launcher=basic"],
    "one process, one thread": ["hydra/launcher=basic", "threads=1"],
    "one worker, one thread": ["hydra/launcher=local", "hydra.launcher.n_jobs=1", "hydra.launcher.threads=1"],
    "two workers, one thread each": ["hydra/launcher=local", "hydra.launcher.n_jobs=2", "hydra.launcher.threads=1"],
}
START, END = "<!-- table: python -m benchmarks.workers -->", "<!-- end of workers -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        run(folder, "warm", WAYS["one process, all cores"])
        for number in range(repeats):
            for place, (way, settings) in enumerate(WAYS.items()):
                name = f"{number}-{place}"
                found[way].append((run(folder, name, settings), run(folder, name, settings)))
    medians = {way: [statistics.median(each) for each in zip(*times, strict=True)] for way, times in found.items()}
    alone = medians["one process, one thread"][0]
    rows = [[way, f"{whole:.1f}", f"{alone / whole:.2f}", f"{start:.1f}"] for way, (whole, start) in medians.items()]
    made = {"cores": os.cpu_count(), "seconds": found}
    (RESULTS / "workers.json").write_text(json.dumps(made, indent=1) + "\n")
    table = tabulate(rows, ["", "seconds", "times as fast", "start"], tablefmt="github", disable_numparse=True)
    fill(Path(__file__).with_name("README.md"), START, END, table)
    print(table)


def run(folder: str, name: str, settings: list[str]) -> float:
    """Return the seconds of one command."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "sweep", *GRID, *settings, f"name={name}"],
        cwd=folder,
        env=environment | {"SWEEP_CACHE": f"{folder}/cache"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
