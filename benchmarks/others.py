"""The sides of fastai and Lightning. Run by frameworks.py, with an interpreter that has them and not our package."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

DEPTHS = {"head": 5, "depth4": 4}  # frozen blocks of the cases that are compared
BATCH, LR = 512, 0.001


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", choices=("fastai", "lightning"), required=True)
    parser.add_argument("--case", choices=DEPTHS, required=True)
    parser.add_argument("--bundle", type=Path, required=True, help="images, labels and weights, as frameworks.py wrote")
    parser.add_argument("--epochs", type=int, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    bundle = torch.load(options.bundle, weights_only=True)
    model = torchvision.models.resnet18(num_classes=10)
    model.load_state_dict({**model.state_dict(), **bundle["weights"]})
    sets = [TensorDataset(*bundle[split]) for split in ("train", "test")]
    run = {"fastai": _fastai, "lightning": _lightning}[options.side]
    print(json.dumps(run(model, sets, DEPTHS[options.case], options.epochs)))


def _groups(model: Any) -> list[list[nn.Module]]:
    stem = [model.conv1, model.bn1]
    return [stem, *([getattr(model, f"layer{number}")] for number in (1, 2, 3, 4)), [model.fc]]


# Each side imports its own framework alone, so that neither loads the other's.


def _fastai(model: Any, sets: list[TensorDataset], depth: int, epochs: int) -> dict[str, Any]:
    import fastai  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415
    from fastai.callback import (  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415
        progress,  # noqa: F401  it gives Learner its methods
        schedule,  # noqa: F401
    )
    from fastai.data.core import DataLoaders  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415
    from fastai.learner import Learner  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415
    from fastai.metrics import accuracy  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415

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


def _lightning(model: Any, sets: list[TensorDataset], depth: int, epochs: int) -> dict[str, Any]:
    import lightning  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415

    frozen = [module for group in _groups(model)[:depth] for module in group]
    for module in frozen:
        module.requires_grad_(False)

    class Tuning(lightning.LightningModule):  # type: ignore[misc,unused-ignore]
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
    loaders = [DataLoader(each, BATCH, shuffle=each is sets[0]) for each in sets]
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
