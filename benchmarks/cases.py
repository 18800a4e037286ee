"""Ours against a plain loop: ResNet-18 at 32 pixels on CIFAR-10 images, alternating, every run in its own process.

    python -m benchmarks.cases --root FOLDER [--only head ...] [--images 5000] [--test 5000] [--epochs 10] [--repeats 3]

FOLDER holds train/<class>/ and test/<class>/. Importing is timed on neither side, decoding only for the origin's
script, which decodes every image in every epoch, and for ours beside it, which decodes once.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import plain

RESULTS = Path(__file__).parent / "results"
BATCH = 512  # images
LR = 0.001
BLOCKS = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))  # of torchvision's ResNet-18

# name -> (what it is, target ratio, overrides of ours, depth of the plain loop or which other one)
CASES: dict[str, tuple[str, str, list[str], int]] = {
    "head": ("head only, cold cache, fp32", ">= 8", ["freeze_depth=5"], 5),
    "head-bf16": ("head only, cold cache, prefix bf16", ">= 12", ["freeze_depth=5", "freeze.precision=bf16"], 5),
    "head-warm": ("head only, warm cache", ">= 60", ["freeze_depth=5"], 5),
    "depth4": ("depth 4, cold cache", ">= 2", ["freeze_depth=4"], 4),
    "depth2": ("depth 2, cold cache", ">= 1.3", ["freeze_depth=2"], 2),
    "depth0-bf16": ("depth 0, bf16, channels_last", ">= 1.5", ["freeze_depth=0", "precision=bf16"], 0),
    "depth0": ("depth 0, fp32", "", ["freeze_depth=0"], 0),
    "members": (
        "16 members (4 seeds x 4 lr), warm, against one of ours",
        "<= 2 x the time",
        ["freeze_depth=5", "seeds=4", "optimizer.lr=[0.0003,0.001,0.003,0.01]"],
        -1,
    ),
    "grid": ("pretrained x freeze_depth=0..5 x 3 seeds", ">= 1.8", [], -2),
    "origin": (
        "a script of the origin's shape (PIL, DataLoader, all gradients) against the frozen arm",
        ">= 10",
        ["freeze_depth=5", "optimizer=origin_sgd", "data.normalize=none"],
        -3,
    ),
}


def main() -> None:
    options = _options()
    if options.side:
        print(json.dumps(_run(options)))
        return
    RESULTS.mkdir(exist_ok=True)
    rates = {precision: best_rate(precision) for precision in (torch.float32, torch.bfloat16)}
    options.weights = _weights(Path(tempfile.mkdtemp()))
    for case in options.only or CASES:
        runs: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}
        repeats = 1 if case == "grid" else options.repeats
        for _ in range(repeats):
            for side, found in runs.items():
                found.append(_spawn(case, side, options))
                print(f"{case} {side}: {found[-1]['seconds']:.2f} s", file=sys.stderr, flush=True)
        rate = rates[torch.bfloat16 if case.endswith("bf16") else torch.float32]
        medians = {side: statistics.median(each["seconds"] for each in found) for side, found in runs.items()}
        result = {
            "case": CASES[case][0],
            "target": CASES[case][1],
            "plain_seconds": medians["plain"],
            "ours_seconds": medians["ours"],
            "ratio": medians["plain"] / medians["ours"],
            "spread": [min(_ratios(runs)), max(_ratios(runs))],
            "runs": runs,
            "floor_seconds": _floor(case, options) / rate,
            "gflops_per_second": rate / 1e9,
            "images": options.images,
            "test_images": options.test,
            "epochs": options.epochs,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        (RESULTS / f"{case}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(
            f"{case}: plain {medians['plain']:.2f} s, ours {medians['ours']:.2f} s, {result['ratio']:.1f} x", flush=True
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


def _spawn(case: str, side: str, options: argparse.Namespace) -> dict[str, float]:
    """Run one side of a case in a process of its own, so that memory and caches are its own, too."""
    with tempfile.TemporaryDirectory() as cache:
        command = [
            sys.executable,
            "-m",
            "benchmarks.cases",
            "--root",
            str(options.root),
            "--only",
            case,
            "--side",
            side,
        ]
        sizes = {key: getattr(options, key) for key in ("images", "test", "epochs", "weights")}
        command += [f"--{key}={value}" for key, value in sizes.items()]
        done = subprocess.run(
            command, env={**os.environ, "SWEEP_CACHE": cache}, stdout=subprocess.PIPE, text=True, check=True
        )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _run(options: argparse.Namespace) -> dict[str, float]:
    (case,) = options.only
    folder = Path(tempfile.mkdtemp())
    try:
        subset = _subset(options, folder)
        found = _plain(case, options, subset) if options.side == "plain" else _ours(case, options, subset, folder)
    finally:
        shutil.rmtree(folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": found.seconds, "accuracy": found.accuracy, "peak_mb": peak}


def _subset(options: argparse.Namespace, folder: Path) -> Path:
    """Return an image folder of links to the first images of every class."""
    for split, total in (("train", options.images), ("test", options.test)):
        classes = sorted((options.root / split).iterdir())
        for each in classes:
            target = folder / "images" / split / each.name
            target.mkdir(parents=True)
            for file in sorted(each.iterdir())[: total // len(classes)]:
                (target / file.name).symlink_to(file.resolve())
    return folder / "images"


def _overrides(case: str, options: argparse.Namespace, subset: Path, weights: Path) -> list[str]:
    return [
        *("data=image_folder", f"data.root={subset}", "data.image_size=32", "data.val_fraction=0", "seeds=1"),
        *("source=checkpoint", f"source.path={weights}", "source.image_size=32", "test_every_epoch=true"),
        *(f"optimizer.lr={LR}", f"epochs={options.epochs}", f"batch_size={BATCH}", *CASES[case][2]),
    ]


def _weights(folder: Path) -> Path:
    """Write what both sides start from: the embedded source, trained on first use."""
    from safetensors.torch import save_file

    from sweep.config import SourceConfig
    from sweep.plan import sources as source

    path = folder / "weights.safetensors"
    save_file(source.resolve(SourceConfig(), "resnet18").load("cpu").state, path)
    return path


def _ratios(runs: dict[str, list[dict[str, float]]]) -> list[float]:
    return [a["seconds"] / b["seconds"] for a, b in zip(runs["plain"], runs["ours"], strict=True)]


def _ours(case: str, options: argparse.Namespace, subset: Path, folder: Path) -> plain.Result:
    """Run points as the command line does, less imports, and, but for the origin, decoding and reading the weights."""
    from sweep.cli import compose
    from sweep.report import record, table
    from sweep.run import job as run

    overrides = _overrides(case, options, subset, options.weights)
    if case == "members":
        overrides = [each for each in overrides if each != "data.val_fraction=0"] + ["data.val_fraction=0.1"]
        overrides.remove("seeds=1")
    if case == "grid":
        overrides += ["freeze_depth=0,1,2,3,4,5", "pretrained=true,false"]
        overrides[overrides.index("seeds=1")] = "seeds=3"
    points = compose.points(overrides, multirun=case == "grid")
    if case != "origin":
        run.fetch(points)
    if case in ("head-warm", "members"):
        warm = compose.points([*overrides, "epochs=1"], multirun=False)
        assert run.run_point(warm[0], folder / "warm").error is None
    jobs = [{"job": each.job, "seeds": each.config.seed_list, "common": each.common, "varied": {}} for each in points]
    (folder / "out").mkdir()
    start = time.perf_counter()
    table.write_manifest(folder / "out", jobs)  # as the command line does: one pass then fills all depths
    outcomes = [run.run_point(point, folder / "out") for point in points]
    seconds = time.perf_counter() - start
    assert all(each.error is None for each in outcomes), outcomes
    members = record.read_members(record.job_folder(folder / "out", points[0].job), 0) or []
    return plain.Result(seconds, next(each.test_accuracy or 0.0 for each in members if each.selected))


def _plain(case: str, options: argparse.Namespace, subset: Path) -> plain.Result:
    from safetensors.torch import load_file

    from sweep.cli import compose
    from sweep.data import task as data
    from sweep.data.types import Split

    depth = CASES[case][3]
    if case == "members":  # one member of ours
        CASES["members"][2][1:] = [f"optimizer.lr={LR}", "seeds=[0]"]
        return _ours("members", options, subset, subset.parent)
    if case == "origin":
        return _origin(options, subset)
    config = compose.points(_overrides("head", options, subset, options.weights), multirun=False)[0].config
    task = data.load(config.data, 32)

    def tensors(split: Split) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(split.images).float().div_(255)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        return (images - mean) / std, torch.from_numpy(split.labels)

    def model() -> nn.Module:
        return plain.resnet18(load_file(options.weights), len(task.classes))

    train, test = tensors(task.train), tensors(task.test)
    depths = range(6) if case == "grid" else [depth]
    found = [
        plain.loop(
            model(),
            [name for block in BLOCKS[:each] for name in block],
            train,
            test,
            epochs=options.epochs,
            batch_size=BATCH,
            lr=LR,
        )
        for each in depths
    ]
    # A plain loop takes the same time for every seed, pretrained or not: one of six is run.
    seconds = sum(each.seconds for each in found) * (6 if case == "grid" else 1)
    return plain.Result(seconds, found[0].accuracy)


def _origin(options: argparse.Namespace, subset: Path) -> plain.Result:
    """Train as the blog post's script did: an image at a time through PIL, gradients for all, only fc stepped."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, models, transforms

    torch.manual_seed(0)
    model = models.resnet18()
    model.fc = nn.Linear(model.fc.in_features, 10)
    optimizer = torch.optim.SGD(model.fc.parameters(), lr=1e-3, momentum=0.9)
    train, test = (
        DataLoader(datasets.ImageFolder(str(subset / split), transforms.ToTensor()), BATCH, shuffle=split == "train")
        for split in ("train", "test")
    )
    hits = 0
    start = time.perf_counter()
    for _ in range(options.epochs):
        model.train()
        for images, labels in train:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            hits = sum((model(images).argmax(1) == labels).sum().item() for images, labels in test)
    return plain.Result(time.perf_counter() - start, hits / len(test.dataset))  # type: ignore[arg-type]


def best_rate(dtype: torch.dtype) -> float:
    """Return the FLOP/s of the faster of a large matrix product and one of ResNet's own convolutions."""
    a, b = torch.randn(2, 1024, 1024).to(dtype)
    x = torch.randn(256, 128, 8, 8).to(dtype, memory_format=torch.channels_last)
    conv = nn.Conv2d(128, 128, 3, padding=1, bias=False).to(dtype, memory_format=torch.channels_last)
    best = 0.0
    with torch.no_grad():
        for step, flops in ((lambda: a @ b, 2 * 1024**3), (lambda: conv(x), 2 * 256 * 64 * 128 * 128 * 9)):
            for _ in range(20):
                start = time.perf_counter()
                step()
                best = max(best, flops / (time.perf_counter() - start))
    return best


def block_flops() -> list[int]:
    """Return the FLOPs of one image's forward pass through each block of ResNet-18 at 32 pixels, and the head."""
    from sweep.config import Unit
    from sweep.models import build as models

    network = models.build("resnet18", models.random_state("resnet18", 32, 0), 10, 32, head_seed=0)
    blocks, head = models.blocks(network, "resnet18", Unit.stage)
    x = torch.randn(2, 3, 32, 32)
    each: list[int] = []
    with torch.no_grad():
        for part in [*blocks, head]:
            with FlopCounterMode(display=False) as counter:
                x = part(x)
            each.append(counter.get_total_flops() // 2)
    return each


def step_flops(each: list[int], depth: int) -> int:
    """Return the FLOPs of training one image: backward costs twice the forward, but no gradient for what is frozen."""
    return 3 * sum(each[depth:]) - each[depth]


def _floor(case: str, options: argparse.Namespace) -> float:
    """Return the FLOPs that our way of doing it cannot avoid: prefix once, suffix forward and backward per epoch."""
    each = block_flops()

    def at(depth: int) -> float:
        prefix, suffix = sum(each[:depth]), sum(each[depth:])
        once = prefix * (options.images + options.test) if case not in ("head-warm", "members") else 0
        return once + options.epochs * (step_flops(each, depth) * options.images + suffix * options.test)

    if case == "grid":  # pretrained: one prefix for all depths and seeds; random: one for each seed
        images, steps = options.images + options.test, sum(at(depth) for depth in range(6))
        once = sum(sum(each[:depth]) for depth in range(6)) * images
        return 6 * (steps - once) + 4 * sum(each[:5]) * images
    return at(5 if CASES[case][3] < 0 else CASES[case][3]) * (16 if case == "members" else 1)


if __name__ == "__main__":
    main()
