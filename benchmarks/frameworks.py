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
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

BATCH, LR = 512, 0.001
CASES = {"head": 5, "depth4": 4}
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--python", help="interpreter of the environment with fastai and lightning")
    for name, value in (("images", 5000), ("test", 5000), ("epochs", 5), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--bundle", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(_other(options)))
        return
    from benchmarks import cases

    found: dict[str, dict[str, Any]] = {"ours": {}, "fastai": {}, "lightning": {}}
    with tempfile.TemporaryDirectory() as folder:
        options.weights = cases._weights(Path(folder))
        bundle = _bundle(options, Path(folder))
        for case in CASES:
            runs: dict[str, list[dict[str, float]]] = {side: [] for side in found}
            for _ in range(options.repeats):
                runs["ours"].append(cases._spawn(case, "ours", options))
                for side in ("fastai", "lightning"):
                    command = [options.python, __file__, f"--side={side}", f"--case={case}", f"--bundle={bundle}"]
                    done = subprocess.run(
                        [*command, f"--epochs={options.epochs}"], stdout=subprocess.PIPE, text=True, check=True
                    )
                    runs[side].append(json.loads(done.stdout.splitlines()[-1]))
                print(case, {side: each[-1]["seconds"] for side, each in runs.items()}, file=sys.stderr, flush=True)
            ours = statistics.median(each["seconds"] for each in runs["ours"])
            for side, each in runs.items():
                seconds = statistics.median(run["seconds"] for run in each)
                found[side][case] = {"seconds": seconds, "ratio": seconds / ours, "accuracy": each[-1]["accuracy"]}
                found[side]["version"] = each[-1].get("version")
    rows = [{"what": side, **values} for side, values in found.items()]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "frameworks.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


def _bundle(options: argparse.Namespace, folder: Path) -> Path:
    """Write normalised images, labels and weights for an environment without this package."""
    from safetensors.torch import load_file

    from benchmarks import cases
    from sweep.cli import compose
    from sweep.data import task as data

    overrides = cases._overrides("head", options, cases._subset(options, folder), options.weights)
    task = data.load(compose.points(overrides, multirun=False)[0].config.data, 32)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    arrays = {}
    for name, split in (("train", task.train), ("test", task.test)):
        arrays[name] = (torch.from_numpy(split.images).float().div_(255) - mean) / std
        arrays[f"{name}_labels"] = torch.from_numpy(split.labels)
    torch.save({"arrays": arrays, "weights": load_file(options.weights)}, folder / "bundle.pt")
    return folder / "bundle.pt"


def _other(options: argparse.Namespace) -> dict[str, Any]:
    import torchvision

    torch.manual_seed(0)
    bundle = torch.load(options.bundle, weights_only=True)
    model = torchvision.models.resnet18(num_classes=10)
    model.load_state_dict({**model.state_dict(), **bundle["weights"]})
    arrays = bundle["arrays"]
    sets = [torch.utils.data.TensorDataset(arrays[each], arrays[f"{each}_labels"]) for each in ("train", "test")]
    run = {"fastai": _fastai, "lightning": _lightning}[options.side]
    return run(model, sets, CASES[options.case], options.epochs)


def _groups(model: Any) -> list[list[nn.Module]]:
    stem = [model.conv1, model.bn1]
    return [stem, *([getattr(model, f"layer{number}")] for number in (1, 2, 3, 4)), [model.fc]]


def _fastai(model: Any, sets: Any, depth: int, epochs: int) -> dict[str, Any]:
    import fastai
    from fastai.callback import progress, schedule  # noqa: F401, they give Learner its methods
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.metrics import accuracy

    def splitter(model: Any) -> list[list[Tensor]]:
        return [[p for module in group for p in module.parameters()] for group in _groups(model)]

    loaders = DataLoaders.from_dsets(*sets, bs=BATCH, num_workers=0, device=torch.device("cpu"))
    learner = Learner(
        loaders, model, loss_func=nn.CrossEntropyLoss(), metrics=accuracy, splitter=splitter, train_bn=False
    )
    learner.freeze_to(depth)
    start = time.perf_counter()
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(epochs, LR)
    return {
        "seconds": time.perf_counter() - start,
        "accuracy": float(learner.recorder.values[-1][-1]),
        "version": f"fastai {fastai.__version__}, torch {torch.__version__}",
    }


def _lightning(model: Any, sets: Any, depth: int, epochs: int) -> dict[str, Any]:
    import lightning

    frozen = [module for group in _groups(model)[:depth] for module in group]
    for module in frozen:
        module.requires_grad_(False)

    class Tuning(lightning.LightningModule):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.model, self.hits, self.seen, self.accuracy = model, 0, 0, 0.0

        def on_train_epoch_start(self) -> None:
            for module in frozen:
                module.eval()

        def training_step(self, batch: Any, _: int) -> Tensor:
            return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            self.hits += int((self.model(batch[0]).argmax(1) == batch[1]).sum())
            self.seen += len(batch[1])

        def on_validation_epoch_end(self) -> None:
            self.accuracy, self.hits, self.seen = self.hits / self.seen, 0, 0

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=LR, weight_decay=0.01)

    module = Tuning()
    loaders = [torch.utils.data.DataLoader(each, BATCH, shuffle=each is sets[0]) for each in sets]
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    start = time.perf_counter()
    trainer.fit(module, *loaders)
    return {
        "seconds": time.perf_counter() - start,
        "accuracy": module.accuracy,
        "version": f"lightning {lightning.__version__}, torch {torch.__version__}",
    }


if __name__ == "__main__":
    main()
