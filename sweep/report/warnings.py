"""What a reader should know before trusting a table: each a sentence, from the summary of its cells. Pure pandas."""

from collections.abc import Iterator

import pandas as pd

from sweep.config import Config
from sweep.report.costs import half_shown

EMBEDDED = "glyphs_latin"  # the letters source
FEW_STEPS = Config.min_steps  # of the optimizer: before as many, no plateau may end a training
APART, UNLIKE = 1.0, 0.03  # decades between the seeds' rates; SD of their test accuracies


def warnings(summary: pd.DataFrame) -> list[str]:
    """Return the sentences. summary: see table.summary()."""
    kinds = (_of_metric, _of_seeds, _of_random_weights, _of_training, _of_source)
    return [sentence for kind in kinds for sentence in kind(summary)]


def _of_metric(summary: pd.DataFrame) -> Iterator[str]:
    balanced = summary.loc[summary["metric"].str.contains("balanced", na=False), "task"].unique()
    if len(balanced):
        yield f"Accuracies of {', '.join(balanced)} are balanced: means over classes, whatever these have of images."
    cells = summary[summary["n"] > 0].groupby("task", sort=False)["metric"]
    if mixed := [str(task) for task, metrics in cells if len(set(", ".join(metrics).split(", "))) > 1]:
        yield (
            f"Accuracies of {', '.join(mixed)} are balanced in some points and not in others, which were trained "
            "before: force=true trains all of them again."
        )


def _of_seeds(summary: pd.DataFrame) -> Iterator[str]:
    if (summary["n"] == 1).any():
        yield "One seed: no interval, and differences may be luck."
    elif summary["n"].max() == 2:
        yield "Two seeds: hardly an interval, so that many depths may be as good; three say much more."


def _of_random_weights(summary: pd.DataFrame) -> Iterator[str]:
    arms = summary.pivot_table(index=["task", "freeze_depth"], columns="pretrained", values="mean", sort=False)
    if not {True, False} <= set(arms.columns):
        return
    if worse := [f"{task} at {depth}" for task, depth in arms.index[arms[True] < arms[False]]]:
        yield f"Random weights did better than pretrained ones on {', '.join(worse)}."
    lower_shown = summary["mean"] - half_shown(summary)
    low = summary["low"].where(summary["n"] > 2, lower_shown.fillna(summary["mean"]))
    chance = summary[~summary["pretrained"].astype(bool) & (low <= 1 / summary["n_classes"])]
    if len(chance):
        random = summary[~summary["pretrained"].astype(bool)]
        yield f"Random weights cannot be told from chance in {_cells(chance, random)}: gain says no more there."


def _of_training(summary: pd.DataFrame) -> Iterator[str]:
    """Yield whether some depths were tuned less than others: too briefly, or at rates that may not be the best."""
    few = summary.loc[summary["steps"] < FEW_STEPS, "steps"]
    if len(few):
        span = " to ".join(dict.fromkeys(f"{each:.0f}" for each in (few.min(), few.max())))
        favour = f"{span} steps of training favour depths that learn fast"
        yield f"A first look: {favour}; +experiment=tuned trains to a plateau."
    rising = summary[summary["rising"] > summary["n"] / 2]
    if len(rising):
        yield f"Validation accuracy still rose at the end in {_cells(rising, summary)}: raise epochs."
    edge = summary[summary["at_edge"] > 0]
    if len(edge):
        place = _cells(edge, summary)
        yield f"The best learning rate lies at an end of those tried in {place}: optimizer.extend=4 tries more."
    unsure = summary[(summary["lr_spread"] >= APART) & (summary["std"] > UNLIKE)]
    if len(unsure):
        yield (
            f"Seeds chose learning rates a decade or more apart, and differ, in {_cells(unsure, summary)}: validation "
            "may have missed the best ones; give more images (data.val_fraction) or rates farther apart."
        )


def _of_source(summary: pd.DataFrame) -> Iterator[str]:
    # Only the embedded source is known to reach more; what another source should reach, its own task decides.
    low = summary.loc[(summary["source_accuracy"] < 0.9) & summary["source"].eq(EMBEDDED), "source_accuracy"]
    if len(low):
        yield f"The source was learned poorly: validation accuracy {low.min():.2f} on its own task."


def _cells(cells: pd.DataFrame, summary: pd.DataFrame) -> str:
    """Return how many rows of those with results these are, and which if they are few."""
    weights = cells["pretrained"].map({True: "pretrained", False: "random"})
    arms = [
        f"{task} {arm} {depth}" for task, arm, depth in zip(cells["task"], weights, cells["freeze_depth"], strict=True)
    ]
    return f"{len(arms)} of {(summary['n'] > 0).sum()} cells" + (f" ({', '.join(arms)})" if len(arms) <= 6 else "")
