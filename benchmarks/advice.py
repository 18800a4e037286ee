"""Does advise choose well, and cheaply? Judged by full sweeps, on pairs of target and source that it was not made with.

    python -m benchmarks.advice                     # compares; prints the tables of docs/evidence.md
    python -m benchmarks.advice run [PAIR ...]      # a pair's full sweep, then advise, in outputs/advice; half an hour
    python -m benchmarks.advice collect             # what run left, into docs/advice
    python -m benchmarks.advice curves FOLDER ...   # once: validation curves of the rule's study, beside its table

The pairs are those of the rule's study that were not drawn by lot for making the method. A full sweep is every depth
with three seeds, tuned, to a plateau, and what a depth loses is of the mean test accuracy of the seeds, against the
best depth by the same means. Whatever is compared may spend a fifth of the time that the full sweep took to train.

One source (docs/advice): advise has run, with that time. Three sources (docs/rule): a pair's seeds are replicates, each
from a source of its own, and advise sees one at a time; it is replayed with its own code, network by network, and may
only ask for those that the sweep has trained. All else is replayed in both. These differ: the best depth by the test
images of one seed, which nothing that sees validation images alone can beat, loses what the table says.
"""

import argparse
import itertools
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from tabulate import tabulate

from sweep.cli.search import choose, decades, usual_and_beyond
from sweep.cli.suite import CROSSED
from sweep.report.record import unpacked
from sweep.stats.belief import Run, believe
from sweep.stats.types import Floats

STUDY, ONE_SOURCE = Path("docs/rule"), Path("docs/advice")  # each has table.parquet and curves.parquet
RUNS = Path("outputs/advice")
ADVISED = "advised.json"  # what advise said of each pair, where it has run
KEPT = [
    *("task", "freeze_depth", "seed", "lr", "selected", "val_accuracy", "test_accuracy", "train_seconds"),
    *("val_correct", "n_val", "n_train", "n_test", "source_accuracy", "score_knn", "score_logme", "device"),
    "git_commit",
]
PAIRS, SHARE, DRAWS = 15, 0.2, 500
SEEDS = (0, 1, 2)
STARTS = (0.0003, 0.001)  # learning rates that every depth of the study begins with
RATES = "optimizer.lr=[0.0001,0.001,0.01]"  # of +experiment=tuned: the study's miss the best ones far from the source
POINT = 0.01  # accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("compare", "run", "collect", "curves"), default="compare")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    if options.what == "run":
        for pair in options.names or held_back():
            run(pair)
    elif options.what == "collect":
        collect()
    elif options.what == "curves":
        write_curves(map(Path, options.names), STUDY)
    else:
        print("\n\n".join(compare(folder) for folder in (ONE_SOURCE, STUDY) if folder.exists()))


def held_back() -> list[str]:
    """Return the pairs to judge by, as crossed= names them: all but the 15 that were drawn to make the method with."""
    pairs = sorted(CROSSED)
    made_with = random.Random(0).sample(pairs, PAIRS)
    return [pair for pair in pairs if pair not in made_with]


def run(pair: str) -> None:
    """Train a pair's full sweep from one source, then ask advise, which may take SHARE of the time that this took."""
    name = f"{RUNS.name}/{pair}"
    sweep = ["-m", "+experiment=rule", f"crossed={pair}", "replicate=r0", "seeds=0,1,2", RATES, f"name={name}/sweep"]
    subprocess.run([sys.executable, "-m", "sweep", *sweep], check=True)
    seconds = pd.read_parquet(RUNS / pair / "sweep/table.parquet").train_seconds.sum()
    asked = [f"+crossed={pair}", "source.seed=0", f"name={name}/advise", f"budget_minutes={SHARE * seconds / 60:.3f}"]
    subprocess.run([sys.executable, "-m", "sweep.advise", *asked], check=True)


def collect() -> None:
    """Write what run() left of all pairs that are whole: the sweeps' tables and curves, and what advise said."""
    whole = [pair for pair in held_back() if (RUNS / pair / "advise/advice.json").exists()]
    tables = {pair: pd.read_parquet(RUNS / pair / "sweep/table.parquet") for pair in whole}
    advised = {}
    for pair, table in tables.items():
        said = json.loads((RUNS / pair / "advise/advice.json").read_text())
        spent = sum(member["train_seconds"] for member in _members(RUNS / pair / "advise"))
        advised[pair] = Answer(
            said["freeze_depth"], spent / table.train_seconds.sum(), said["expected_loss"], said["probability_good"]
        )._asdict()
    ONE_SOURCE.mkdir(exist_ok=True)
    pd.concat(tables.values())[KEPT].to_parquet(ONE_SOURCE / "table.parquet", index=False)
    write_curves([RUNS / pair / "sweep" for pair in whole], ONE_SOURCE)
    (ONE_SOURCE / ADVISED).write_text(json.dumps(advised, indent=1) + "\n")


def write_curves(folders: Iterable[Path], to: Path) -> None:
    """Write the validation accuracy after every epoch of every network that has a record under the folders."""
    rows = []
    for member in itertools.chain(*map(_members, folders)):
        row = {key: member[key] for key in ("task", "freeze_depth", "seed", "lr", "seconds_per_epoch")}
        rows.append(row | {"val_accuracy": np.float32(member["curves"]["val_accuracy"])})
    keys = ["task", "freeze_depth", "seed", "lr"]
    pd.DataFrame(rows).drop_duplicates(keys).sort_values(keys).to_parquet(to / "curves.parquet", index=False)


def _members(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.rglob("seed-*.json")):
        yield from json.loads(path.read_text())["members"]


class Arm(NamedTuple):
    """One network of a full sweep.

    curve: validation accuracy after every epoch. price: of an epoch, of what the whole sweep took.
    correct: which of its fold's validation images it gets right in the end (N,).
    """

    depth: int
    seed: int
    lr: float
    curve: Floats
    price: float
    correct: npt.NDArray[np.bool_]

    @property
    def whole(self) -> float:
        return len(self.curve) * self.price


@dataclass(frozen=True)
class Pair:
    """lost: accuracy by depth, below the best. test, validation: by depth and seed. scores: by name, then by depth."""

    name: str
    lost: Floats
    test: Floats
    validation: Floats
    arms: list[Arm]
    scores: dict[str, Floats]

    def starts(self) -> list[Arm]:
        """The networks at rates that every depth and seed has."""
        rates: dict[tuple[int, int], set[float]] = {}
        for arm in self.arms:
            rates.setdefault((arm.depth, arm.seed), set()).add(arm.lr)
        return [arm for arm in self.arms if arm.lr in set.intersection(*rates.values())]


def read(rows: pd.DataFrame, curves: pd.DataFrame, pair: str, one_source: bool) -> Pair:
    """Return what the full sweep says of a pair, from its rows of the table.

    one_source: all seeds ran on one machine; else each, a replicate, counts a third of the cost, whatever it ran on.
    """
    test, validation = (
        rows[rows.selected].pivot_table(index="freeze_depth", columns="seed", values=column).to_numpy()
        for column in ("test_accuracy", "val_accuracy")
    )
    own = rows.groupby("seed").train_seconds.sum()
    cost = pd.Series(own.sum(), own.index) if one_source else 3 * own
    keys = ["task", "freeze_depth", "seed", "lr"]
    both = rows[[*keys, "val_correct", "n_val"]].merge(curves, on=keys)
    arms = [
        Arm(
            each["freeze_depth"],
            each["seed"],
            each["lr"],
            each["val_accuracy"],
            each["seconds_per_epoch"] / cost[each["seed"]],
            unpacked(each["val_correct"], each["n_val"]),
        )
        for each in both.to_dict("records")
    ]
    scores = {name: rows.groupby("freeze_depth")[f"score_{name}"].mean().to_numpy() for name in ("knn", "logme")}
    mean = test.mean(axis=1)
    return Pair(pair, mean.max() - mean, test, validation, arms, scores)


Outcome = tuple[float, float, float]  # accuracy lost, share of cases that lose a point at most, share of the cost


def compare(folder: Path) -> str:
    """Return a table: what each way to choose a depth loses on the pairs of a folder, and costs."""
    table, curves = (pd.read_parquet(folder / f"{name}.parquet") for name in ("table", "curves"))
    of_pairs = {pair: table[table["task"] == CROSSED[pair]["data"]["label"]] for pair in held_back()}
    ran = folder / ADVISED
    judged = [read(own, curves, pair, ran.exists()) for pair, own in of_pairs.items() if len(own)]
    advised = {pair: [Answer(**said)] for pair, said in json.loads(ran.read_text()).items()} if ran.exists() else {}
    answers = advised or {each.name: [replay(each, seed) for seed in SEEDS] for each in judged}
    ways: dict[str, Callable[[Pair], Outcome]] = {
        "advise": lambda each: mean(lost(each, made.depth, made.cost) for made in answers[each.name]),
        "full sweep, best on validation": lambda each: lost(each, int(each.validation.mean(axis=1).argmax()), 1.0),
        "one seed of it, best on validation": lambda each: mean(
            lost(each, int(each.validation[:, seed].argmax()), 1 / 3) for seed in SEEDS
        ),
        "one seed of it, best on its test images": lambda each: mean(
            lost(each, int(each.test[:, seed].argmax()), 1 / 3) for seed in SEEDS
        ),
        "one constant depth, best for the other targets": lambda each: lost(
            each, int(np.mean([other.lost for other in judged if not alike(other, each)], axis=0).argmin())
        ),
        "head only": lambda each: lost(each, len(each.lost) - 1),
        "nothing frozen": lambda each: lost(each, 0),
        "best k-NN": lambda each: lost(each, int(np.nanargmax(each.scores["knn"]))),
        "best LogME": lambda each: lost(each, int(np.nanargmax(each.scores["logme"]))),
        "successive halving": halving,
        "random search": random_search,
    }
    rows = []
    for name, way in ways.items():
        losses, within, costs = np.array([way(each) for each in judged]).T
        rows.append(
            {
                "way": name,
                "mean loss, points": f"{100 * losses.mean():.1f}",
                "at most 1 point, %": f"{100 * within.mean():.0f}",
                "largest": f"{100 * losses.max():.1f}",
                "cost, % of the full sweep": "-" if np.isnan(costs).any() else f"{100 * costs.mean():.0f}",
            }
        )
    loss, good = 100 * np.array([made[2:] for each in answers.values() for made in each]).mean(axis=0)
    claim = f"Advise expected to lose {loss:.1f} points, and at most one in {good:.0f} % of cases."
    shown = tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)
    return f"{folder}: {len(judged)} pairs\n\n{shown}\n\n{claim}"


def alike(each: Pair, other: Pair) -> bool:
    return each.name.split("_")[0] == other.name.split("_")[0]


def lost(pair: Pair, depth: int, cost: float = float("nan")) -> Outcome:
    loss = float(pair.lost[depth])
    return loss, float(loss <= POINT), cost


def mean(outcomes: Iterable[Outcome]) -> Outcome:
    loss, within, cost = np.mean(list(outcomes), axis=0)
    return float(loss), float(within), float(cost)


class Answer(NamedTuple):
    depth: int
    cost: float
    expected_loss: float
    probability_good: float


def replay(pair: Pair, seed: int) -> Answer:
    """Return what advise answers if it may train the networks of one replicate, in place of its own."""
    rates = usual_and_beyond(STARTS)
    arms = {(arm.depth, rates.index(arm.lr)): arm for arm in pair.arms if arm.seed == seed and arm.lr in rates}
    runs = list[Run]()
    while True:
        belief = believe(len(pair.lost), decades(rates), runs, [seed])
        fresh = [cell for cell in arms if cell not in {run.cell for run in runs}]
        action = choose(belief, runs, fresh, lambda: SHARE - sum(run.seconds for run in runs))
        if action is None:
            break
        cell, _ = action
        runs.append(Run(*cell, seed, arms[cell].correct, arms[cell].whole))
    depth = belief.keep({run.cell for run in runs})
    cost = sum(run.seconds for run in runs)
    return Answer(depth, cost, float(belief.expected_loss()[depth]), float(belief.good(POINT)[depth]))


def halving(pair: Pair) -> Outcome:
    """Return the mean over seeds of successive halving, begun with as many epochs as SHARE pays for."""
    found = []
    for seed in SEEDS:
        arms = [arm for arm in pair.starts() if arm.seed == seed]
        tries = [halved(arms, epochs) for epochs in range(1, 40)]
        best, cost = max((each for each in tries if each[1] <= SHARE), key=lambda each: each[1], default=tries[0])
        found.append(lost(pair, best, cost))
    return mean(found)


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
    rng, found, arms = np.random.default_rng(0), [], pair.starts()
    for _ in range(DRAWS):
        spent, best = 0.0, (-1.0, 0)
        for index in rng.permutation(len(arms)):
            arm = arms[index]
            if spent + arm.whole <= SHARE:
                spent += arm.whole
                best = max(best, (float(arm.curve.max()), arm.depth))
        found.append(lost(pair, best[1], spent))
    return mean(found)


if __name__ == "__main__":
    main()
