"""Ours against fastai and Lightning: the same images, weights, epochs and learning rate, head only and depth 4.

    python -m venv other && other/bin/pip install fastai lightning
    python -m benchmarks.frameworks --root FOLDER --python other/bin/python [--images 5000] [--test 5000] [--epochs 5]

Each side runs in a process of its own, ours in this environment, the others in theirs (their torch may be older).
They are used as their documentation shows: a DataLoader of tensors in memory, freeze_to(), a LightningModule; neither
evaluates more than once per epoch, and both keep the model and all frozen layers in the training pass.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks import cases, others, ours, plain

SIDES = ("ours", "fastai", "lightning")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--python", required=True, help="interpreter of the environment with fastai and lightning")
    for name, value in (("images", 5000), ("test", 5000), ("epochs", 5), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = {side: {} for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        options.weights = ours.write_weights(Path(folder))
        bundle = _bundle(options, Path(folder))
        for case in others.DEPTHS:
            runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
            for _ in range(options.repeats):
                for side, done in runs.items():
                    done.append(_run(side, case, options, bundle))
                print(case, {side: each[-1]["seconds"] for side, each in runs.items()}, file=sys.stderr, flush=True)
            seconds = {side: statistics.median(run["seconds"] for run in each) for side, each in runs.items()}
            for side, each in runs.items():
                ratio = seconds[side] / seconds["ours"]
                found[side][case] = {"seconds": seconds[side], "ratio": ratio, "accuracy": each[-1]["accuracy"]}
                found[side]["version"] = each[-1].get("version")
    rows = [{"what": side, **values} for side, values in found.items()]
    cases.RESULTS.mkdir(exist_ok=True)
    (cases.RESULTS / "frameworks.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


def _run(side: str, case: str, options: argparse.Namespace, bundle: Path) -> dict[str, Any]:
    """Return seconds and accuracy of one run, and the version of a framework that is not ours."""
    if side == "ours":
        return dict(cases.spawn(case, side, options))
    command = [options.python, others.__file__, f"--side={side}", f"--case={case}", f"--bundle={bundle}"]
    done = subprocess.run([*command, f"--epochs={options.epochs}"], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _bundle(options: argparse.Namespace, folder: Path) -> Path:
    """Write normalised images, labels and weights for an environment without this package."""
    subset = cases.link_subset(options, folder)
    arrays = {split: tuple(plain.read(subset / split)) for split in ("train", "test")}
    torch.save({**arrays, "weights": load_file(options.weights)}, folder / "bundle.pt")
    return folder / "bundle.pt"


if __name__ == "__main__":
    main()
