"""Does advise choose well, and cheaply? Against the full sweeps of docs/rule, on pairs of target and source.

    python -m benchmarks.advice run [--part 0/2]    # trains; each pair's answer goes to benchmarks/results/advice/
    python -m benchmarks.advice curves FOLDER ...   # once: validation curves of the sweeps' records, beside their table
    python -m benchmarks.advice                     # compares; prints the table of docs/evidence.md

The pairs are drawn by lot. The full sweep of a pair is its three replicates in docs/rule/table.parquet: every depth,
tuned, to a plateau. Advise gets a fifth of the training time that all three take on one core (three times replicate
r0's), once the source is there. It draws training and validation images with seeds that no replicate has, and was not
tuned on these tasks. What a depth loses is of the mean test accuracy of the three replicates, against the best depth of
the same means.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tabulate import tabulate

from benchmarks.cases import RESULTS
from sweep.cli.suite import CROSSED
from sweep.stats.types import Floats

TABLE, CURVES = Path("docs/rule/table.parquet"), Path("docs/rule/curves.parquet")
PAIRS, SHARE, DRAWS = 15, 0.2, 500
SEEDS = (10, 11, 12, 13, 14)  # of advise; the replicates have 0, 1 and 2
STARTS = (0.0003, 0.001)  # learning rates that every depth of the full sweep begins with
POINT = 0.01  # accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("run", "curves", "compare"), default="compare")
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--part", default="0/1", help="0/2 and 1/2 run half of the pairs each")
    options = parser.parse_args()
    if options.what == "run":
        part, parts = map(int, options.part.split("/"))
        for pair in drawn()[part::parts]:
            run(pair)
    elif options.what == "curves":
        write_curves(options.folders)
    else:
        print(compare())


def drawn() -> list[str]:
    """Return the pairs, as crossed= names them: a lot drawn before anything was run."""
    return random.Random(0).sample(sorted(CROSSED), PAIRS)


def run(pair: str) -> None:
    """Let advise answer for one pair and write down what it said and took."""
    rows = members(pair)
    budget = SHARE * 3 * rows[rows.seed == 0].train_seconds.sum()
    folder = RESULTS / "advice"
    folder.mkdir(parents=True, exist_ok=True)
    advise(pair, "warm", 1)  # trains the source, if need be
    start = time.monotonic()
    advise(pair, pair, budget)
    seconds = time.monotonic() - start
    made = json.loads(Path(f"outputs/{pair}/advice.json").read_text())
    found = {"pair": pair, "budget_s": budget, "seconds": seconds, "full_s": budget / SHARE, **made}
    (folder / f"{pair}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"{pair}: keep {made['freeze_depth']}, {seconds:.0f} s of {budget:.0f} s", flush=True)


def advise(pair: str, name: str, seconds: float) -> None:
    settings = ["+experiment=rule", f"crossed={pair}", "replicate=r0", f"seeds={list(SEEDS)}", f"name={name}"]
    command = [sys.executable, "-m", "sweep.advise", *settings, f"budget_minutes={seconds / 60:.3f}"]
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # as the replicates
    subprocess.run(command, check=True, env=os.environ | one_thread, stdout=subprocess.DEVNULL)


def members(pair: str) -> pd.DataFrame:
    """Return the rows of one pair: a row per network of the full sweep that was trained."""
    table: pd.DataFrame = pd.read_parquet(TABLE)
    rows: pd.DataFrame = table[table["task"] == CROSSED[pair]["data"]["label"]]
    return rows


def write_curves(folders: Iterable[Path]) -> None:
    """Write the validation accuracy after every epoch of every network that has a record under the folders."""
    rows = []
    for path in sorted(path for folder in folders for path in folder.rglob("seed-*.json")):
        for member in json.loads(path.read_text())["members"]:
            row = {key: member[key] for key in ("task", "freeze_depth", "seed", "lr", "seconds_per_epoch")}
            rows.append(row | {"val_accuracy": np.float32(member["curves"]["val_accuracy"])})
    keys = ["task", "freeze_depth", "seed", "lr"]
    pd.DataFrame(rows).drop_duplicates(keys).sort_values(keys).to_parquet(CURVES, index=False)


class Arm(NamedTuple):
    """One network of a full sweep. curve: validation accuracy after every epoch. price: of an epoch, of the sweep's."""

    depth: int
    seed: int
    curve: Floats
    price: float

    @property
    def whole(self) -> float:
        return len(self.curve) * self.price


@dataclass(frozen=True)
class Pair:
    """lost: accuracy by depth, below the best. scores: by name, then by depth; the images themselves have none."""

    name: str
    lost: Floats
    validation: Floats
    arms: list[Arm]
    scores: dict[str, Floats]


def read(pair: str, curves: pd.DataFrame) -> Pair:
    """Return what the full sweep says of a pair. Each replicate counts a third of the cost, whatever it ran on."""
    rows = members(pair)
    test, validation = (
        rows[rows.selected].groupby("freeze_depth")[column].mean().to_numpy()
        for column in ("test_accuracy", "val_accuracy")
    )
    cost = 3 * rows.groupby("seed").train_seconds.sum()
    own = curves[(curves.task == CROSSED[pair]["data"]["label"]) & curves.lr.isin(STARTS)]
    arms = [
        Arm(each.freeze_depth, each.seed, each.val_accuracy, each.seconds_per_epoch / cost[each.seed])
        for each in own.itertuples()
    ]
    scores = {name: rows.groupby("freeze_depth")[f"score_{name}"].mean().to_numpy() for name in ("knn", "logme")}
    return Pair(pair, test.max() - test, validation, arms, scores)


Outcome = tuple[float, float, float]  # accuracy lost, share of draws that lose a point at most, share of the cost


def compare() -> str:
    """Return a table: what each way to choose a depth loses on the drawn pairs, and costs."""
    curves = pd.read_parquet(CURVES)
    everything = {pair: read(pair, curves) for pair in sorted(CROSSED)}
    answers = {pair: json.loads((RESULTS / "advice" / f"{pair}.json").read_text()) for pair in drawn()}
    others = {
        pair: np.mean([each.lost for each in everything.values() if not alike(each, pair)], axis=0) for pair in answers
    }
    ways: dict[str, Callable[[Pair], Outcome]] = {
        "advise": lambda each: lost(each, answers[each.name]["freeze_depth"], share(answers[each.name])),
        "full sweep, best on validation": lambda each: lost(each, int(each.validation.argmax()), 1.0),
        "one constant depth, best for the other targets": lambda each: lost(each, int(others[each.name].argmin())),
        "head only": lambda each: lost(each, len(each.lost) - 1),
        "nothing frozen": lambda each: lost(each, 0),
        "best k-NN": lambda each: lost(each, int(np.nanargmax(each.scores["knn"]))),
        "best LogME": lambda each: lost(each, int(np.nanargmax(each.scores["logme"]))),
        "successive halving": halving,
        "random search": random_search,
    }
    rows = []
    for name, way in ways.items():
        losses, within, costs = np.array([way(everything[pair]) for pair in answers]).T
        rows.append(
            {
                "way": name,
                "mean loss, points": f"{100 * losses.mean():.1f}",
                "at most 1 point, %": f"{100 * within.mean():.0f}",
                "largest": f"{100 * losses.max():.1f}",
                "cost, % of the full sweep": "-" if np.isnan(costs).any() else f"{100 * costs.mean():.0f}",
            }
        )
    said = np.array([[each["expected_loss"], each["probability_good"]] for each in answers.values()]).mean(axis=0)
    claim = (
        f"Advise expected to lose {100 * said[0]:.1f} points, and to be within one in {100 * said[1]:.0f} % of cases."
    )
    return f"{tabulate(rows, headers='keys', tablefmt='github', disable_numparse=True)}\n\n{claim}"


def alike(each: Pair, pair: str) -> bool:
    return each.name.split("_")[0] == pair.split("_")[0]


def share(answer: dict[str, float]) -> float:
    """Return what an answer took of the full sweep's time; all of it counts, imports and scores too."""
    return answer["seconds"] / answer["full_s"]


def lost(pair: Pair, depth: int, cost: float = float("nan")) -> Outcome:
    loss = float(pair.lost[depth])
    return loss, float(loss <= POINT), cost


def halving(pair: Pair) -> Outcome:
    """Return the mean over seeds of successive halving, begun with as many epochs as SHARE pays for."""
    found = []
    for seed in sorted({arm.seed for arm in pair.arms}):
        arms = [arm for arm in pair.arms if arm.seed == seed]
        tries = [halved(arms, epochs) for epochs in range(1, 40)]
        best, cost = max((each for each in tries if each[1] <= SHARE), key=lambda each: each[1], default=tries[0])
        found.append(lost(pair, best, cost))
    means = np.mean(found, axis=0)
    return float(means[0]), float(means[1]), float(means[2])


def halved(arms: list[Arm], epochs: int) -> tuple[int, float]:
    """Return the depth that is left, and the cost: after each round the worse half goes, and epochs double."""
    trained = dict.fromkeys(range(len(arms)), 0)
    alive = list(trained)
    while True:
        for index in alive:
            trained[index] = min(epochs, len(arms[index].curve))
        alive.sort(key=lambda index: float(arms[index].curve[: trained[index]].max()), reverse=True)
        if len(alive) == 1:
            break
        alive, epochs = alive[: -(-len(alive) // 2)], 2 * epochs
    return arms[alive[0]].depth, sum(count * arms[index].price for index, count in trained.items())


def random_search(pair: Pair) -> Outcome:
    """Return the mean of many random searches: networks drawn by lot, trained whole, until SHARE is spent."""
    rng, found = np.random.default_rng(0), []
    for _ in range(DRAWS):
        spent, best = 0.0, (-1.0, 0)
        for index in rng.permutation(len(pair.arms)):
            arm = pair.arms[index]
            if spent + arm.whole <= SHARE:
                spent += arm.whole
                best = max(best, (float(arm.curve.max()), arm.depth))
        found.append(lost(pair, best[1], spent))
    means = np.mean(found, axis=0)
    return float(means[0]), float(means[1]), float(means[2])


if __name__ == "__main__":
    main()
