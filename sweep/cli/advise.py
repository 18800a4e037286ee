"""`python -m sweep.advise data=image_folder data.root=...`: which depth to keep frozen for one task, in limited time.

Scores of all depths from one pass through the frozen network give a first guess; then networks are trained, one depth
and one fold at a time, each time the one that is worth most for its time (sweep/stats/belief.py), and the belief about
the curve over depth is sharpened. Only validation images decide. Records are those of a sweep: what was trained is not
trained again.
"""

import dataclasses
import json
import math
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from sweep import interrupt, paths
from sweep.cli import compose
from sweep.cli.flags import SettingsCommand
from sweep.cli.progress import Progress
from sweep.cli.search import Search
from sweep.config import Which
from sweep.data import task as data
from sweep.errors import UserError
from sweep.paths import results_folder
from sweep.plan.point import Point, plan
from sweep.report import notebook
from sweep.report.outline import Block
from sweep.report.record import Record
from sweep.runs import measure
from sweep.runs.job import fetch
from sweep.runs.session import Session
from sweep.runs.tick import unheard
from sweep.stats import rule as verdict
from sweep.stats.types import MARGIN

WHAT = """\
Recommend how many blocks to keep frozen, in limited time: trains a network at a time, each time of the depth and the
learning rate that are worth most for their time, for budget_minutes=10 unless you say otherwise. Takes every setting of
python -m sweep but freeze_depth and pretrained, one value each. The advice is in outputs/<name>/advice.json, too."""
EXAMPLES = {
    "source=imagenet data=image_folder data.root=my/photos": "your own images, and ImageNet's weights",
    "data=digits budget_minutes=1": "a small data set, and letters as the source; no network needed",
}

BUDGET = 10.0  # minutes
NAME = "advise"  # below outputs/
# How networks are trained, unless the user says otherwise: to a plateau. Few networks choose a depth, so that each is
# judged on many images: a third, and each seed on another third.
RECIPE = ("batch_size=20", "optimizer.schedule=plateau", "data.rotate=true")
JUDGED = ("seeds=3", "data.val_fraction=0.333")
EPOCHS, STEPS = 40, 2000  # at most, unless the user says otherwise; one epoch at least
POSSIBLE = 0.05  # a depth is named beside the recommended one if it is good with this probability


def command() -> SettingsCommand:
    """Return what the command takes."""
    return SettingsCommand("sweep.advise", WHAT, EXAMPLES)


def main() -> None:
    """Run the command line; exit 0 with advice, 1 if no depth could be trained, 2 for bad input, 130 after Ctrl-C."""
    with interrupt.command():
        print(advise(command().read(sys.argv[1:])))


def advise(arguments: Sequence[str]) -> "Advice":
    """Return the advice; it is also in outputs/<name>/advice.json. raises: UserError."""
    deadline = time.monotonic() + 60 * _budget(arguments)
    overrides = [each for each in arguments if not each.startswith("budget_minutes=")]
    first = _plan(overrides)
    with Progress() as progress:
        session = Session(progress.hear)
        fetch([first], session)
    session.hear = unheard
    scores = score_depths(first, session)
    print(_first_guess(scores), flush=True)
    given = first.config.lr_list if any(each.startswith("optimizer.lr=") for each in overrides) else None
    search = Search(_bounded(first, overrides, session), results_folder(first.config.name), session, given)
    search.run(lambda: deadline - time.monotonic())
    made = Advice(search, scores, overrides)
    paths.write_text(search.root / "advice.json", json.dumps(made.as_dict(), indent=1))
    return made


def _budget(arguments: Sequence[str]) -> float:
    given = [each.partition("=")[2] for each in arguments if each.startswith("budget_minutes=")]
    try:
        minutes = float(given[-1]) if given else BUDGET
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise UserError(f"budget_minutes={given[-1]}: use a number of minutes above 0")
    return minutes


def _plan(overrides: Sequence[str]) -> Point:
    """Return the point with nothing frozen that these settings describe."""
    for each in overrides:
        key = each.lstrip("+~").partition("=")[0]
        if key in ("freeze_depth", "pretrained"):
            raise UserError(f"{each}: advise chooses the depth, of pretrained weights; leave it out")
    # what comes first gives way to the user's own
    try:
        whole = [f"name={NAME}", *RECIPE, *JUDGED, *overrides, "freeze_depth=0", "pretrained=true"]
        (point,) = compose.points(whole, multirun=False)
    except UserError as error:
        raise UserError(str(error).replace("several values need -m", "advise takes one value")) from error
    if point.config.dry_run or point.config.confirm_above is not None or point.config.tracker:
        raise UserError("dry_run, confirm_above, tracker: advise, whose time is budget_minutes, takes none of these")
    if point.config.freeze.which is not Which.prefix or point.config.freeze.epochs is not None:
        raise UserError("freeze.which, freeze.epochs: advise freezes the first blocks, for good; leave these out")
    if not point.config.data.val_fraction:
        raise UserError("data.val_fraction=0.0: advise chooses on validation images; use 0.1, for example")
    return point


def _bounded(point: Point, overrides: Sequence[str], session: Session) -> Point:
    """Return the point with as many epochs as EPOCHS and STEPS allow, unless the user set them."""
    if any(each.startswith("epochs=") for each in overrides):
        return point
    config = point.config
    task = session.task(config.data, point.facts.image_size, config.cache.max_gb)
    count = len(data.draw(config.data, task, config.seed_list[0]).train)
    epochs = max(1, min(EPOCHS, STEPS * config.batch_size // count))
    return plan(dataclasses.replace(config, epochs=epochs))


def score_depths(point: Point, session: Session) -> list[dict[str, float]]:
    """Return the transferability scores of every depth, from one pass."""
    config, facts = point.config, point.facts
    task = session.task(config.data, facts.image_size, config.cache.max_gb)
    chosen = task.fit.take(data.draw(config.data, task, config.seed_list[0]).train)
    head = session.weights(point.source, session.device(point)).head
    return measure.score_depths(session.network(point, 0, facts.n_blocks), chosen, head)


def _first_guess(scores: Sequence[Mapping[str, float]]) -> str:
    known = {depth: each["knn"] for depth, each in enumerate(scores) if "knn" in each}
    if not known:
        return "Too few images for scores of the depths; training."
    return f"First guess, by the nearest neighbours of features: {max(known, key=known.__getitem__)}. Training."


class Advice:
    """What is advised: in print() the text of the terminal, in a notebook a table and sentences. Losses are in 0..1.

    depth: how many blocks to keep frozen.
    chosen: the record of the first network of that depth and its best learning rate.
    rule: what the rule of thumb would have said.
    command: trains the model and exports it.
    folder: where the records and advice.json are.
    """

    def __init__(self, search: Search, scores: Sequence[Mapping[str, float]], overrides: Sequence[str]) -> None:
        # Not the search itself: its session has images and weights.
        self.point, self.folder, self.runs, self.notes = search.point, search.root, search.runs, search.notes
        self.scores, self.rates, self.tried, self.n_depths = scores, search.rates, search.tried, search.n_depths
        self.belief = search.belief()
        # What was not trained is not recommended, whatever is believed of it.
        self.depth = self.belief.keep(self.tried)
        self.chosen = search.member(self.belief.best(self.depth, self.tried))
        self.losses = self.belief.expected_loss()
        self.good = self.belief.good(MARGIN)
        placed = next((each for each in search.members if each.similarity is not None), None)
        self.rule = rule(search.point, placed)
        self.command = self._command(overrides)

    @property
    def expected_loss(self) -> float:
        """Test accuracy that the depth is expected to lose against the best one, whichever that is."""
        return float(self.losses[self.depth])

    @property
    def probabilities(self) -> dict[int, float]:
        """The probability of every depth to lose at most one accuracy point against the best."""
        return {depth: float(share) for depth, share in enumerate(self.good)}

    @property
    def table(self) -> pd.DataFrame:
        """A row per depth: what is believed of it and how sure that is, networks trained, scores as score_x."""
        rows = []
        for each in self.as_dict()["depths"]:
            scores = {f"score_{name}": value for name, value in each.pop("scores").items()}
            rows.append({**each, "networks": len(each["networks"]), **scores})
        return pd.DataFrame(rows)

    def rows(self) -> list[dict[str, str]]:
        """Return the table: a row per depth."""
        lines = []
        runs, tried, belief = self.runs, self.tried, self.belief
        for depth in range(self.n_depths):
            own = [run for run in runs if run.depth == depth]
            rate = int(belief.mean[depth].argmax())
            line = {"frozen": f"{depth}/{self.n_depths - 1}" + (" <-" if depth == self.depth else "")}
            line["networks"] = str(len(own))
            best = belief.best(depth, tried) if own else (depth, rate)
            line["best lr"] = f"{self.rates[best[1]]:g}" if own else "-"
            shares = [run.correct.mean() for run in own if run.cell == best]
            line["validation %"] = f"{100 * np.mean(shares):.1f}" if own else "-"
            line["believed %"] = f"{100 * belief.mean[depth, rate]:.1f} ± {196 * belief.sd[depth, rate]:.1f}"
            line["expected loss"] = f"{100 * self.losses[depth]:.1f}"
            line["good, %"] = f"{100 * self.good[depth]:.0f}"
            line["s/network"] = f"{np.mean([run.seconds for run in own]):.3g}" if own else "-"
            for name, title, scale, style in (("logme", "LogME", 1, ".3f"), ("knn", "5-NN %", 100, ".1f")):
                value = self.scores[depth].get(name)
                line[title] = "-" if value is None else f"{scale * value:{style}}"
            lines.append(line)
        return lines

    def _command(self, overrides: Sequence[str]) -> str:
        """Return the command for the recommended depth. overrides: what the user said."""
        point = self.point
        settings = [each for each in overrides if not each.startswith(("name=", "optimizer.lr=", "epochs="))]
        named = {each.partition("=")[0] for each in settings}
        settings += [each for each in RECIPE if each.partition("=")[0] not in named]
        settings += [f"epochs={point.config.epochs}", f"optimizer.lr={self.chosen.lr:g}", "pretrained=true"]
        settings += [f"freeze_depth={self.depth}", f"name={point.config.name}", "export=best"]
        return f"python -m sweep {shlex.join(settings)}"

    def sentences(self) -> list[str]:
        """Return the advice in words."""
        chosen = self.chosen
        others = [depth for depth in range(self.n_depths) if self.good[depth] >= POSSIBLE and depth != self.depth]
        as_good = f"; {', '.join(map(str, others))} may be as good" if others else ""
        tried = {run.depth for run in self.runs}
        untried = [
            each for each in range(self.n_depths) if each not in tried and self.losses[each] < self.expected_loss
        ]
        named = ", ".join(map(str, untried))
        hint = [f"No network was trained with {named} frozen, which may lose less: give more time."] if untried else []
        n_val, kind = len(self.runs[0].correct), "Balanced accuracy" if chosen.val_classes else "Accuracy"
        return [
            *(f"Note: {note}." for note in self.notes),
            f"Keep {self.depth} of {self.n_depths - 1} blocks frozen{as_good}.",
            *hint,
            f"Expected loss against the best depth: {100 * self.expected_loss:.1f} accuracy points; at most "
            f"{100 * MARGIN:g} with a probability of {100 * self.good[self.depth]:.0f} %.",
            f"{kind} on test images, of one network trained on {chosen.n_train} images: "
            f"{100 * (chosen.test_accuracy or 0):.1f} %.",
            f"believed: ± 95 %, of {len(self.runs)} networks judged on {n_val} validation images each;"
            " neighbouring depths and rates are believed to be alike. good: at most a point below the best.",
            self.rule,
        ]

    def __str__(self) -> str:
        shown = tabulate(self.rows(), headers="keys", disable_numparse=True, stralign="right")
        return "\n".join(["", shown, "", *self.sentences(), "", "Train and export it:", f"  {self.command}"])

    def __repr__(self) -> str:
        loss = f"{100 * self.expected_loss:.1f}"
        return f"<Advice: keep {self.depth} of {self.n_depths - 1} blocks frozen, expected to lose {loss} points>"

    def _repr_html_(self) -> str:
        said = [*self.sentences(), f"Train and export it: {self.command}"]
        return notebook.html([Block("table", rows=self.rows()), Block("list", said)])

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values; accuracies and losses in 0..1, test accuracy of the recommended depth only."""
        return {
            "freeze_depth": self.depth,
            "expected_loss": self.expected_loss,
            "probability_good": float(self.good[self.depth]),
            "margin": MARGIN,
            "test_accuracy": self.chosen.test_accuracy,
            "rule": self.rule,
            "depths": [
                {
                    "freeze_depth": depth,
                    "believed": float(self.belief.mean[depth].max()),
                    "sd": float(self.belief.sd[depth, self.belief.mean[depth].argmax()]),
                    "expected_loss": float(self.losses[depth]),
                    "probability_good": float(self.good[depth]),
                    "networks": [
                        {"lr": self.rates[run.rate], "fold": run.fold, "val_accuracy": float(run.correct.mean())}
                        for run in self.runs
                        if run.depth == depth
                    ],
                    "scores": dict(self.scores[depth]),
                }
                for depth in range(self.n_depths)
            ],
        }


def rule(point: Point, placed: Record | None) -> str:
    """Return what the rule of thumb would have said of this task; placed: a record with the measured similarity."""
    case, n_classes, source_classes = point.facts.case, point.facts.n_classes, point.facts.source_classes
    depths = np.arange(point.facts.n_blocks + 1)
    fewer = "similar_fewer" if n_classes < source_classes else "similar_more"
    counts = f"{n_classes} classes, the source {source_classes}"
    if case == "unknown" and placed and placed.similar is not None:
        case = fewer if placed.similar else "dissimilar"
        counts += f"; measured at {placed.similarity:.2f} between the source (0) and noise (1)"
    if case != "unknown":
        return f"The rule of thumb says {verdict.rule_depth(case, depths)} ({case.replace('_', ', ')}: {counts})."
    return (
        f"The rule of thumb says {verdict.rule_depth(fewer, depths)} if the images are similar to the source's, else "
        f"{verdict.rule_depth('dissimilar', depths)} ({counts}; no measurement decides which)."
    )
