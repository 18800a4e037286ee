"""How a job's time grows: seconds against depths, seeds, learning rates, images and classes, with fitted slopes.

    python -m benchmarks.growth [--repeats 3]

A slope is the exponent b of seconds = a * n^b, by least squares on logarithms: 1 = in proportion, 0 = for nothing.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np

from benchmarks import ours
from benchmarks.cases import RESULTS
from sweep.cli import compose
from sweep.paths import cache_folder
from sweep.runs.job import fetch
from sweep.runs.session import Session

mpl.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
BASE = ["data=glyphs_greek_cyrillic", "data.per_class=20", "seeds=2", "epochs=4", "optimizer.lr=[0.001]"]
HEAD, DEEP = "freeze_depth=5", "freeze_depth=3"
RATES = ("[0.001]", "[0.0005,0.001]", "[0.0003,0.0005,0.001,0.002]", "[1e-4,2e-4,3e-4,5e-4,1e-3,2e-3,3e-3,5e-3]")
# name -> numbers, and the overrides that each of them means
AXES: dict[str, dict[int, list[str]]] = {
    "depths": {n: [f"freeze_depth={','.join(map(str, range(6 - n, 6)))}"] for n in (1, 2, 4, 6)},
    "seeds, head only": {n: [HEAD, f"seeds={n}"] for n in (1, 2, 4, 8)},
    "seeds, depth 3": {n: [DEEP, f"seeds={n}"] for n in (1, 2, 4)},
    "learning rates, head only": {len(r.split(",")): [HEAD, f"optimizer.lr={r}"] for r in RATES},
    "learning rates, depth 3": {len(r.split(",")): [DEEP, f"optimizer.lr={r}"] for r in RATES[:3]},
    "images, head only": {40 * n: [HEAD, f"data.per_class={n}"] for n in (5, 10, 20)},
    "images, depth 3": {40 * n: [DEEP, f"data.per_class={n}"] for n in (5, 10, 20)},
    "classes, 80 images, head only": {
        n: [HEAD, f"data.per_class={80 // n}", f"data.classes={list(range(n))}"] for n in (5, 10, 20, 40)
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SWEEP_CACHE"] = cache  # it is emptied
        session = Session()
        measure([*BASE, HEAD], session)  # the source, and what the first job of a process loads
        rows = [row(name, values, session, repeats) for name, values in AXES.items()]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "growth.json").write_text(json.dumps(rows, indent=1) + "\n")
    draw(rows)


def row(name: str, values: dict[int, list[str]], session: Session, repeats: int) -> dict[str, object]:
    """Return the median seconds along one axis, and their slope."""
    seconds = [statistics.median(measure([*BASE, *each], session) for _ in range(repeats)) for each in values.values()]
    slope = float(np.polyfit(np.log([*values]), np.log(seconds), 1)[0])
    print(f"{name}: {', '.join(f'{n}: {s:.2f} s' for n, s in zip(values, seconds, strict=True))}; slope {slope:.2f}")
    return {"axis": name, "n": [*values], "seconds": seconds, "slope": slope}


def measure(overrides: list[str], session: Session) -> float:
    """Return the seconds that these points take with nothing in the prefix cache."""
    points = compose.points(overrides, multirun=True)
    fetch(points, session)
    shutil.rmtree(cache_folder() / "arrays", ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        return ours.train(points, Path(folder), session)


def draw(rows: list[dict[str, object]]) -> None:
    """Write the figure of README.md."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for each in rows:
        n, seconds = np.array(each["n"], float), np.array(each["seconds"])
        axes.loglog(n / n[0], seconds / seconds[0], marker="o", label=f"{each['axis']}: slope {each['slope']:.2f}")
    top = axes.get_xlim()[1]
    axes.loglog([1, top], [1, top], "k:", linewidth=1, label="in proportion: slope 1")
    axes.set(xlabel="times as many", ylabel="times as long", title="How a job's time grows")
    axes.legend(fontsize=8)
    figure.savefig(HERE / "growth.png", dpi=110)


if __name__ == "__main__":
    main()
