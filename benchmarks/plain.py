"""The loop that a careful user writes: images decoded once, no gradient where none is needed."""

import copy
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn


class Result(NamedTuple):
    """seconds: of training and evaluation together. accuracy: on the test images, after the last epoch."""

    seconds: float
    accuracy: float


def loop(
    model: nn.Module,
    frozen: Sequence[str],
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    seed: int = 0,
) -> Result:
    """Train a copy of the model, with its submodules of these names frozen (parameters and BatchNorm statistics).

    train, test: normalised float images (N, 3, S, S) and labels (N,), on the model's device. Evaluates every epoch.
    """
    model = copy.deepcopy(model)
    parts = [model.get_submodule(name) for name in frozen]
    for part in parts:
        part.requires_grad_(False)
    device = train[1].device
    generator = torch.Generator().manual_seed(seed)
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=lr, weight_decay=0.01)
    steps = epochs * -(-len(train[1]) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    accuracy = 0.0
    _wait(device)
    start = time.perf_counter()
    for _ in range(epochs):
        model.train()
        for part in parts:
            part.eval()
        for index in torch.randperm(len(train[1]), generator=generator).to(device).split(batch_size):
            loss = F.cross_entropy(model(train[0][index]), train[1][index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            places = torch.arange(len(test[1]), device=device).split(batch_size)
            hits = sum((model(test[0][index]).argmax(1) == test[1][index]).sum().item() for index in places)
        accuracy = hits / len(test[1])
    _wait(device)
    return Result(time.perf_counter() - start, accuracy)


def resnet18(backbone: Mapping[str, Tensor], n_classes: int) -> nn.Module:
    """Return torchvision's model with these weights and a new head; layout and convolutions are the library's own."""
    model = torchvision.models.resnet18(num_classes=n_classes)
    model.load_state_dict(backbone, strict=False)
    torch.manual_seed(0)
    model.fc.reset_parameters()
    return model


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
