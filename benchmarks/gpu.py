"""One GPU: are the results those of the CPU, and how fast? ResNet-18 at 32 pixels, batch 512, images made up.

    python -m benchmarks.gpu [--images 50000] [--test 10000] [--epochs 3] [--device cuda]

Writes benchmarks/results/gpu.json, part after part, so that a run cut short keeps what it measured. `--device cpu
--images 200 --test 100 --epochs 1` tries the script itself.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks import floor, ours, plain
from benchmarks.cases import BATCH, LR, RESULTS
from sweep.cli import compose
from sweep.models import build
from sweep.plan.point import Point
from sweep.runs import machine
from sweep.runs.session import Session

CLASSES = 10


@dataclass(frozen=True)
class Setup:
    """What all measurements share. root: holds images/, weights.safetensors and what is trained."""

    root: Path
    device: torch.device
    images: int
    test: int
    epochs: int
    session: Session

    @property
    def weights(self) -> Path:
        return self.root / "weights.safetensors"

    def points(self, *overrides: str) -> list[Point]:
        """Return the points that these overrides make of the shared settings."""
        fixed = [
            *("data=image_folder", f"data.root={self.root / 'images'}", "data.image_size=32", "data.val_fraction=0"),
            *("source=checkpoint", f"source.path={self.weights}", "source.image_size=32", "test_every_epoch=true"),
            *(f"epochs={self.epochs}", f"batch_size={BATCH}", f"optimizer.lr={LR}", "seeds=1"),
            f"device={self.device}",
        ]
        return compose.points([*fixed, *overrides], multirun=True)

    def seconds(self, name: str, *overrides: str) -> float:
        """Return the seconds that these points take; their records lie under the name."""
        return ours.train(self.points(*overrides), self.root / name, self.session)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("images", 50_000), ("test", 10_000), ("epochs", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SWEEP_CACHE"] = f"{folder}/cache"
        setup = Setup(Path(folder), device, options.images, options.test, options.epochs, Session())
        write_images(setup.root / "images", options.images, options.test)
        save_file(build.random_state("resnet18", 32, 0), setup.weights)
        report: dict[str, object] = {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
            "torch": torch.__version__,
            "images": [options.images, options.test],
        }
        for what, found in measured(setup):
            report[what] = found
            write(report, "gpu.json" if device.type == "cuda" else "gpu-tried-on-cpu.json")
            print(what, json.dumps(found), flush=True)


def measured(setup: Setup) -> Iterator[tuple[str, object]]:
    """Yield what is measured, by name; the epochs' rows grow by one depth at a time."""
    kinds = (torch.float32, torch.bfloat16)
    yield "matmul_tflops", {str(kind): matmul(setup.device, kind) / 1e12 for kind in kinds}
    yield "agreement", {str(depth): agreement(setup, depth) for depth in (0, 3, 5)}
    yield "members_8x4", members(setup)
    yield "origin_s", origin(setup)
    rows: list[dict[str, float]] = []
    for row in epoch_times(setup):
        rows.append(row)
        yield "epochs", rows


def write(report: Mapping[str, object], name: str) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / name).write_text(json.dumps(report, indent=1) + "\n")


def write_images(folder: Path, images: int, test: int) -> None:
    """Write noise around a colour per class: time does not depend on what is seen."""
    rng = np.random.default_rng(0)
    for split, count in (("train", images), ("test", test)):
        for label in range(CLASSES):
            (folder / split / str(label)).mkdir(parents=True)
            for number in range(count // CLASSES):
                pixels = rng.integers(0, 156, (32, 32, 3), dtype=np.uint8) + np.uint8(10 * label)
                Image.fromarray(pixels).save(folder / split / str(label) / f"{number}.png")


def matmul(device: torch.device, kind: torch.dtype) -> float:
    """Return the FLOP/s of a large matrix product."""
    size = 8192 if device.type == "cuda" else 1024
    product = nn.Linear(size, size, bias=False, device=device, dtype=kind)
    x = torch.randn(size, size, device=device, dtype=kind)
    best = 0.0
    with torch.no_grad():
        for _ in range(10):
            start = time.perf_counter()
            product(x)
            plain.wait(device)
            best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def agreement(setup: Setup, depth: int) -> float:
    """Return the largest difference of logits between this device and the CPU, against their largest size."""
    logits = []
    for device in (setup.device, torch.device("cpu")):
        (point,) = setup.points(f"freeze_depth={depth}", f"device={device}")
        machine.set_precision(point.config.precision)
        images = torch.from_numpy(setup.session.task(point.config.data, 32).test.images[:64])
        with torch.no_grad():
            logits.append(setup.session.network(point, 0).eval()(images.to(device)).cpu())
    here, there = logits
    return float((here - there).abs().max() / there.abs().max())


def epoch_times(setup: Setup) -> Iterator[dict[str, float]]:
    """Yield a row per depth: seconds per epoch of the plain loop and of ours, and what ours computes per second."""
    weights, flops = load_file(setup.weights), floor.block_flops()
    train, test = (plain.read(setup.root / "images" / split).to(setup.device) for split in ("train", "test"))
    for depth in range(6):
        network = plain.resnet18(weights, CLASSES).to(setup.device)
        frozen = [name for block in floor.BLOCKS[:depth] for name in block]
        loop = plain.loop(network, frozen, train, test, plain.Recipe(setup.epochs, BATCH, LR))
        row = {"depth": depth, "plain_s_per_epoch": loop.seconds / setup.epochs}
        for precision in ("fp32", "bf16"):
            name, overrides = f"{precision}-{depth}", (f"freeze_depth={depth}", f"precision={precision}")
            seconds = setup.seconds(name, *overrides)
            (point,) = setup.points(*overrides)
            epoch = ours.chosen(point, setup.root / name).seconds_per_epoch or float("nan")
            row[f"ours_{precision}_s_per_epoch"] = epoch
            row[f"ours_{precision}_tflops"] = floor.step_flops(flops, depth) * setup.images / epoch / 1e12
            row[f"ours_{precision}_s_in_all"] = seconds
        yield row


def members(setup: Setup) -> dict[str, float]:
    """Return the seconds of 32 heads trained together and of one, and how many times the members per second that is."""
    head = ("freeze_depth=5", "data.val_fraction=0.1")
    together = setup.seconds("together", *head, "seeds=8", "optimizer.lr=[0.0003,0.001,0.003,0.01]")
    alone = setup.seconds("alone", *head, "seeds=[1]", "optimizer.lr=0.0003")
    return {"together_s": together, "one_s": alone, "throughput_ratio": 32 * alone / together}


def origin(setup: Setup) -> float:
    """Return the seconds of both arms of the blog post's comparison."""
    recipe = ("optimizer=origin_sgd", "epochs=10", "data.normalize=none", "freeze.batchnorm=track")
    return setup.seconds("origin", "freeze_depth=5", "pretrained=true,false", *recipe)


if __name__ == "__main__":
    main()
