"""One GPU: are the results those of the CPU, and how fast? ResNet-18 at 32 pixels, batch 512, images made up.

    python -m benchmarks.gpu [--images 50000] [--test 10000] [--epochs 3] [--device cuda]

Writes benchmarks/results/gpu.json. Not yet run on a GPU: the numbers in README.md are a CPU's; `--device cpu --images
512 --test 512 --epochs 1` tries the script itself.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from benchmarks import plain
from benchmarks.cases import BATCH, BLOCKS, LR, block_flops, step_flops
from sweep.cli import compose
from sweep.data import task as data
from sweep.models import build as models
from sweep.report import record
from sweep.run import job as run
from sweep.run.job import Point

RESULTS = Path(__file__).parent / "results"
CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("images", 50_000), ("test", 10_000), ("epochs", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["SWEEP_CACHE"] = str(root / "cache")
        write_images(root / "images", options.images, options.test)
        weights = models.random_state("resnet18", 32, 0)
        save_file(weights, root / "weights.safetensors")

        def points(name: str, *overrides: str) -> list[Point]:
            fixed = [
                *(f"name={name}", "data=image_folder", f"data.root={root / 'images'}", "data.image_size=32"),
                *("source=checkpoint", f"source.path={root / 'weights.safetensors'}", "source.image_size=32"),
                *("data.val_fraction=0", "test_every_epoch=true", f"epochs={options.epochs}", f"batch_size={BATCH}"),
                *(f"optimizer.lr={LR}", "seeds=1", f"device={device}"),
            ]
            return compose.points([*fixed, *overrides], multirun=True)

        def ours(name: str, *overrides: str) -> tuple[float, list[list[record.Record]]]:
            made = points(name, *overrides)
            start = time.perf_counter()
            for point in made:
                outcome = run.run_point(point, root / name)
                assert outcome.error is None, outcome.error
            seconds = time.perf_counter() - start
            folders = [record.job_folder(root / name, point.job) for point in made]
            return seconds, [record.read_members(each, 0) or [] for each in folders]

        report: dict[str, object] = {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
            "torch": torch.__version__,
            "images": [options.images, options.test],
            "matmul_tflops": {str(kind): matmul(device, kind) / 1e12 for kind in (torch.float32, torch.bfloat16)},
        }
        first = points("same", "freeze_depth=0")[0]
        task = data.load(first.config.data, 32)
        report["agreement"] = {
            str(depth): agreement(points("same", f"freeze_depth={depth}")[0], device) for depth in (0, 3, 5)
        }
        mean, std = (
            torch.tensor(values, device=device).view(3, 1, 1) for values in (first.source.mean, first.source.std)
        )
        train, test = (
            (
                (torch.from_numpy(split.images).to(device).float() / 255 - mean) / std,
                torch.from_numpy(split.labels).to(device),
            )
            for split in (task.train, task.test)
        )
        rows, each = [], block_flops()
        for depth in range(6):
            network = plain.resnet18(weights, CLASSES).to(device)
            names = [name for block in BLOCKS[:depth] for name in block]
            loop = plain.loop(network, names, train, test, epochs=options.epochs, batch_size=BATCH, lr=LR)
            row = {"depth": depth, "plain_s_per_epoch": loop.seconds / options.epochs}
            for precision in ("fp32", "bf16"):
                seconds, found = ours(f"{precision}-{depth}", f"freeze_depth={depth}", f"precision={precision}")
                epoch = found[0][0].seconds_per_epoch or float("nan")
                row[f"ours_{precision}_s_per_epoch"] = epoch
                row[f"ours_{precision}_tflops"] = step_flops(each, depth) * options.images / epoch / 1e12
                row[f"ours_{precision}_s_in_all"] = seconds
            rows.append(row)
            print(row, flush=True)
        report["epochs"] = rows
        lrs = "[0.0003,0.001,0.003,0.01]"
        head = ("freeze_depth=5", "data.val_fraction=0.1")
        together, _ = ours("together", *head, "seeds=8", f"optimizer.lr={lrs}")
        apart, _ = ours("apart", *head, "seeds=[1]", "optimizer.lr=0.0003")
        report["members_8x4"] = {"together_s": together, "one_s": apart, "throughput_ratio": 32 * apart / together}
        report["origin_s"], _ = ours(
            "origin", "freeze_depth=5", "pretrained=true,false", "freeze.batchnorm=track", "optimizer=origin_sgd",
            "epochs=10", "data.normalize=none",
        )  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    name = "gpu.json" if device.type == "cuda" else "gpu-tried-on-cpu.json"
    (RESULTS / name).write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def write_images(folder: Path, images: int, test: int) -> None:
    """Write noise around a colour per class: time does not depend on what is seen."""
    rng = np.random.default_rng(0)
    for split, count in (("train", images), ("test", test)):
        for label in range(CLASSES):
            (folder / split / str(label)).mkdir(parents=True)
            for number in range(count // CLASSES):
                pixels = rng.integers(0, 156, (32, 32, 3), dtype=np.uint8) + np.uint8(10 * label)
                Image.fromarray(pixels).save(folder / split / str(label) / f"{number}.png")


def agreement(point: Point, device: torch.device) -> float:
    """Return the largest difference of logits between this device and the CPU, against their largest size."""
    images = torch.from_numpy(data.load(point.config.data, 32).test.images[:64])
    with torch.no_grad():
        here = run._network(point, 0, device).eval()(images.to(device)).cpu()
        there = run._network(point, 0, torch.device("cpu")).eval()(images)
    return float((here - there).abs().max() / there.abs().max())


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
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


if __name__ == "__main__":
    main()
