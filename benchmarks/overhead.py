"""What a sweep costs beside training: start-up, a point, a resumed sweep, a report over 10,000 records.

    python -m benchmarks.overhead [--repeats 3]

Commands run in a cache and a folder of their own, so the first one also trains the embedded source.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.cases import RESULTS
from sweep.config import StudyConfig
from sweep.plan.facts import Facts
from sweep.report import record, render, table
from sweep.report.record import Record
from sweep.report.table import Entry

SWEEP = [sys.executable, "-m", "sweep"]
POINTS = ["-m", "data=textures", "data.per_class=4", "freeze_depth=5", "pretrained=true", "seeds=1", "epochs=1"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)

        def command(*arguments: str) -> float:
            environment = {**os.environ, "SWEEP_CACHE": str(root / "cache")}
            start = time.perf_counter()
            subprocess.run([*SWEEP, *arguments], cwd=root, env=environment, stdout=subprocess.DEVNULL, check=True)
            return time.perf_counter() - start

        def points(count: int, name: str) -> float:
            """Train that many points that differ in learning rate alone, so that they share everything else."""
            rates = ",".join(f"{0.001 + number * 1e-6:g}" for number in range(count))
            return command(*POINTS, f"name={name}", f"optimizer.lr={rates}")

        points(1, "first")
        rows = [
            row("python -m sweep --help, s", "< 4", lambda: command("--help"), repeats),
            row("a resumed sweep of 1 point, s", "< 4", lambda: points(1, "first"), repeats),
        ]
        trained = {}
        for count in (5, 45):
            whole = min(points(count, f"{count}-{each}") for each in range(repeats))
            # Every point has a learning rate of its own, and so a figure, which a point of a grid has not.
            trained[count] = whole - report_seconds(root / "outputs" / f"{count}-0")
        more = (trained[45] - trained[5]) / 40 * 1000
        rows.append({"what": "one more point in a process, ms", "target": "< 200", "median": more})
        write_records(root / "large", 10_000)
        rows.append(row("report over 10,000 records, s", "< 10", lambda: report_seconds(root / "large"), repeats))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "overhead.json").write_text(json.dumps(rows, indent=1) + "\n")
    for each in rows:
        print(f"{each['what']}: {each['median']:.2f} (target {each['target']})")


def row(what: str, target: str, measure: Callable[[], float], repeats: int) -> dict[str, object]:
    """Return the median of what is measured, beside its lowest and highest."""
    found = [measure() for _ in range(repeats)]
    return {"what": what, "target": target, "median": statistics.median(found), "spread": [min(found), max(found)]}


def report_seconds(root: Path) -> float:
    """Return how long it takes to make the report of this sweep's records."""
    start = time.perf_counter()
    render.build(root)
    return time.perf_counter() - start


def write_records(root: Path, count: int) -> None:
    """Write a sweep of that many records: 30 tasks x 2 arms x 6 depths x seeds x 4 learning rates."""
    seeds = range(count // (30 * 2 * 6 * 4) + 1)
    cases = ("similar_fewer", "similar_more", "dissimilar")
    entries = []
    for number in range(30 * 2 * 6):
        task, rest = divmod(number, 12)
        pretrained, depth = bool(rest // 6), rest % 6
        facts = Facts(
            task=f"task{task}", case=cases[task % 3], source="src", model="resnet18", n_classes=10,
            source_classes=26, image_size=32, pretrained=pretrained, freeze_depth=depth, n_blocks=5,
            unit="stage", batchnorm="frozen", optimizer="adamw", epochs=2, batch_size=50,
            precision="fp32", prefix_precision="fp32", augment="none",
        )  # fmt: skip
        job = f"job{number}"
        entries.append(Entry(job, list(seeds), facts, {}))
        for seed in seeds:
            chosen = Record(
                facts=facts, job=job, status="ok", seed=seed, lr=0.1, selected=True, n_train=200, val_accuracy=0.5,
                test_accuracy=0.5 + 0.01 * ((task * depth + seed) % 7), seconds_per_epoch=0.5, device="cpu",
                curves={"train_loss": [2.0, 1.0], "val_accuracy": [0.1, 0.5], "epoch_seconds": [0.5, 0.5]},
            )  # fmt: skip
            others = [
                dataclasses.replace(chosen, lr=lr, selected=False, test_accuracy=None) for lr in (0.01, 0.02, 0.05)
            ]
            record.write_members(record.job_folder(root, job), seed, [*others, chosen])
    table.write_manifest(root, entries, StudyConfig())


if __name__ == "__main__":
    main()
