"""Ours against a plain loop: ResNet-18 at 32 pixels on CIFAR-10 images, alternating, every run in its own process.

    python -m benchmarks.cases --root FOLDER [--only head ...] [--images 5000] [--test 5000] [--epochs 10] [--repeats 3]

FOLDER holds train/<class>/ and test/<class>/. Importing is timed on neither side, decoding only for the origin's
script, which decodes every image in every epoch, and for ours beside it, which decodes once.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

from benchmarks import floor, plain

RESULTS = Path(__file__).parent / "results"
BATCH = 512  # images
LR = 0.001


class Case(NamedTuple):
    """One comparison.

    what: what it is, for the table.
    target: of the ratio; "" if there is none.
    depth: how many blocks both sides freeze; the grid freezes every number of them.
    settings: of ours, beside those that all cases have.
    """

    what: str
    target: str
    depth: int
    settings: Mapping[str, str] = {}


CASES = {
    "head": Case("head only, cold cache, fp32", ">= 8", 5),
    "head-bf16": Case("head only, cold cache, prefix bf16", ">= 12", 5, {"freeze.precision": "bf16"}),
    "head-warm": Case("head only, warm cache", ">= 60", 5),
    "depth4": Case("depth 4, cold cache", ">= 2", 4),
    "depth2": Case("depth 2, cold cache", ">= 1.3", 2),
    "depth0-bf16": Case("depth 0, bf16, channels_last", ">= 1.5", 0, {"precision": "bf16"}),
    "depth0": Case("depth 0, fp32", "", 0),
    "members": Case(
        "16 members (4 seeds x 4 lr), warm, against one of ours",
        "<= 2 x the time",
        5,
        {"seeds": "4", "optimizer.lr": "[0.0003,0.001,0.003,0.01]", "data.val_fraction": "0.1"},
    ),
    "grid": Case(
        "pretrained x freeze_depth=0..5 x 3 seeds",
        ">= 1.8",
        0,
        {"pretrained": "true,false", "freeze_depth": "0,1,2,3,4,5", "seeds": "3"},
    ),
    "origin": Case(
        "a script of the origin's shape (PIL, DataLoader, all gradients) against the frozen arm",
        ">= 10",
        5,
        {"optimizer": "origin_sgd", "data.normalize": "none"},
    ),
}
WARM = ("head-warm", "members")  # nothing is left to do for the frozen blocks


def main() -> None:
    options = _options()
    if options.side:
        print(json.dumps(_run(options)))
        return
    from benchmarks import ours  # noqa: PLC0415  the plain side's memory is measured without our package

    RESULTS.mkdir(exist_ok=True)
    rates = {precision: floor.best_rate(precision) for precision in (torch.float32, torch.bfloat16)}
    with tempfile.TemporaryDirectory() as folder:
        options.weights = ours.write_weights(Path(folder))
        for case in options.only or CASES:
            rate = rates[torch.bfloat16 if case.endswith("bf16") else torch.float32]
            result = _compare(case, options, rate)
            (RESULTS / f"{case}.json").write_text(json.dumps(result, indent=1) + "\n")
            print(
                f"{case}: plain {result['plain_seconds']:.2f} s, ours {result['ours_seconds']:.2f} s, "
                f"{result['ratio']:.1f} x",
                flush=True,
            )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=CASES)
    parser.add_argument("--images", type=int, default=5000, help="to train on")
    parser.add_argument("--test", type=int, default=5000, help="to evaluate on after every epoch")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=("plain", "ours"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _compare(case: str, options: argparse.Namespace, rate: float) -> dict[str, object]:
    """Run both sides in turn and return what the table needs. rate: the machine's best, in FLOP/s."""
    runs: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}
    for _ in range(1 if case == "grid" else options.repeats):
        for side, found in runs.items():
            found.append(spawn(case, side, options))
            print(f"{case} {side}: {found[-1]['seconds']:.2f} s", file=sys.stderr, flush=True)
    medians = {side: statistics.median(each["seconds"] for each in found) for side, found in runs.items()}
    ratios = [a["seconds"] / b["seconds"] for a, b in zip(runs["plain"], runs["ours"], strict=True)]
    return {
        "case": CASES[case].what,
        "target": CASES[case].target,
        "plain_seconds": medians["plain"],
        "ours_seconds": medians["ours"],
        "ratio": medians["plain"] / medians["ours"],
        "spread": [min(ratios), max(ratios)],
        "runs": runs,
        "floor_seconds": _needed_flops(case, options) / rate,
        "gflops_per_second": rate / 1e9,
        "images": options.images,
        "test_images": options.test,
        "epochs": options.epochs,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def spawn(case: str, side: str, options: argparse.Namespace) -> dict[str, float]:
    """Run one side of a case in a process of its own, so that memory and caches are its own, too.

    options: root, images, test, epochs and weights.
    returns: seconds, accuracy and peak_mb.
    """
    command = [sys.executable, "-m", "benchmarks.cases", "--only", case, "--side", side]
    command += [f"--{key}={getattr(options, key)}" for key in ("root", "images", "test", "epochs", "weights")]
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "SWEEP_CACHE": cache}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _run(options: argparse.Namespace) -> dict[str, float]:
    (case,) = options.only
    with tempfile.TemporaryDirectory() as folder:
        subset = link_subset(options, Path(folder))
        found = _plain(case, options, subset) if options.side == "plain" else _ours(case, options, subset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": found.seconds, "accuracy": found.accuracy, "peak_mb": peak}


def link_subset(options: argparse.Namespace, folder: Path) -> Path:
    """Return an image folder of links to the first images of every class. options: root, images and test."""
    for split, total in (("train", options.images), ("test", options.test)):
        classes = sorted((options.root / split).iterdir())
        for each in classes:
            target = folder / "images" / split / each.name
            target.mkdir(parents=True)
            for file in sorted(each.iterdir())[: total // len(classes)]:
                (target / file.name).symlink_to(file.resolve())
    return folder / "images"


def _ours(
    case: str, options: argparse.Namespace, subset: Path, settings: Mapping[str, str] | None = None
) -> plain.Result:
    """Run points as the command line does, less imports, and, but for the origin, decoding and reading the weights."""
    from benchmarks import ours  # noqa: PLC0415  the plain side's memory is measured without our package

    all_settings = {
        **{"data": "image_folder", "data.root": subset, "data.image_size": 32, "data.val_fraction": 0, "seeds": 1},
        **{"source": "checkpoint", "source.path": options.weights, "source.image_size": 32},
        **{"optimizer.lr": LR, "epochs": options.epochs, "batch_size": BATCH, "test_every_epoch": "true"},
        **{"freeze_depth": CASES[case].depth, **CASES[case].settings, **(settings or {})},
    }
    overrides = [f"{key}={value}" for key, value in all_settings.items()]
    return ours.run(overrides, multirun=case == "grid", fetched=case != "origin", warm=case in WARM)


def _plain(case: str, options: argparse.Namespace, subset: Path) -> plain.Result:
    if case == "members":
        return _ours(case, options, subset, {"seeds": "[0]", "optimizer.lr": f"{LR}"})
    if case == "origin":
        return _origin(options, subset)
    train, test = plain.read(subset / "train"), plain.read(subset / "test")
    recipe = plain.Recipe(options.epochs, BATCH, LR)
    found = []
    for depth in range(6) if case == "grid" else [CASES[case].depth]:
        model = plain.resnet18(load_file(options.weights), int(train.labels.max()) + 1)
        frozen = [name for block in floor.BLOCKS[:depth] for name in block]
        found.append(plain.loop(model, frozen, train, test, recipe))
    # A plain loop takes the same time for every seed, pretrained or not: one of six is run.
    seconds = sum(each.seconds for each in found) * (6 if case == "grid" else 1)
    return plain.Result(seconds, found[0].accuracy)


def _origin(options: argparse.Namespace, subset: Path) -> plain.Result:
    """Train as the blog post's script did: an image at a time through PIL, gradients for all, only fc stepped."""
    torch.manual_seed(0)
    model = torchvision.models.resnet18()
    model.fc = nn.Linear(model.fc.in_features, 10)
    optimizer = torch.optim.SGD(model.fc.parameters(), lr=LR, momentum=0.9)
    images = {split: ImageFolder(str(subset / split), ToTensor()) for split in ("train", "test")}
    train, test = (DataLoader(each, BATCH, shuffle=split == "train") for split, each in images.items())
    hits = 0
    start = time.perf_counter()
    for _ in range(options.epochs):
        model.train()
        for x, labels in train:
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(model(x), labels))
            optimizer.step()
        model.eval()
        with torch.no_grad():
            hits = sum(int((model(x).argmax(1) == labels).sum()) for x, labels in test)
    return plain.Result(time.perf_counter() - start, hits / len(images["test"]))


def _needed_flops(case: str, options: argparse.Namespace) -> float:
    """Return the FLOPs that our way of doing it cannot avoid: prefix once, suffix forward and backward per epoch."""
    each = floor.block_flops()
    sizes = (options.images, options.test)
    if case == "grid":  # pretrained: one prefix for all depths and seeds; random: one for each seed
        steps = sum(floor.job_flops(each, depth, sizes, options.epochs)[1] for depth in range(6))
        return 6 * steps + 4 * floor.job_flops(each, 5, sizes, 0)[0]
    prefix, steps = floor.job_flops(each, CASES[case].depth, sizes, options.epochs)
    return (16 if case == "members" else 1) * (steps + (0 if case in WARM else prefix))


if __name__ == "__main__":
    main()
