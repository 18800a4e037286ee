"""The loop that a careful user writes: images decoded once, no gradient where none is needed."""

import copy
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as everybody uses them


class Examples(NamedTuple):
    """images: (N, 3, S, S) float, normalised. labels: (N,)."""

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "Examples":
        return Examples(self.images.to(device), self.labels.to(device))


class Recipe(NamedTuple):
    """How to train. lr: at the start; it falls along half a cosine."""

    epochs: int
    batch_size: int  # images
    lr: float
    seed: int = 0


class Result(NamedTuple):
    """seconds: of training and evaluation together. accuracy: on the test images, after the last epoch."""

    seconds: float
    accuracy: float


def read(folder: Path) -> Examples:
    """Return all images of a folder with a folder per class, decoded and normalised; they have one size."""
    images, labels = zip(*ImageFolder(str(folder), ToTensor()), strict=True)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return Examples(torch.stack(images).sub_(mean).div_(std), torch.tensor(labels))


def loop(model: nn.Module, frozen: Sequence[str], train: Examples, test: Examples, recipe: Recipe) -> Result:
    """Train a copy of the model, with its submodules of these names frozen (parameters and BatchNorm statistics).

    train, test: on the model's device. Evaluates every epoch.
    """
    model = copy.deepcopy(model)
    parts = [model.get_submodule(name) for name in frozen]
    for part in parts:
        part.requires_grad_(False)
    device, size = train.labels.device, recipe.batch_size
    generator = torch.Generator().manual_seed(recipe.seed)
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=recipe.lr, weight_decay=0.01)
    steps = recipe.epochs * -(-len(train.labels) // size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    accuracy = 0.0
    wait(device)
    start = time.perf_counter()
    for _ in range(recipe.epochs):
        model.train()
        for part in parts:
            part.eval()
        order = torch.randperm(len(train.labels), generator=generator).to(device)
        for index in torch.split(order, size):
            loss = F.cross_entropy(model(train.images[index]), train.labels[index])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            places = torch.split(torch.arange(len(test.labels), device=device), size)
            hits = sum((model(test.images[index]).argmax(1) == test.labels[index]).sum().item() for index in places)
        accuracy = hits / len(test.labels)
    wait(device)
    return Result(time.perf_counter() - start, accuracy)


def resnet18(backbone: Mapping[str, Tensor], n_classes: int) -> nn.Module:
    """Return torchvision's model with these weights and a new head; layout and convolutions are the library's own."""
    model: nn.Module = torchvision.models.resnet18(num_classes=n_classes)
    model.load_state_dict(backbone, strict=False)
    torch.manual_seed(0)
    head = model.get_submodule("fc")
    assert isinstance(head, nn.Linear)
    head.reset_parameters()
    return model


def wait(device: torch.device) -> None:
    """Wait until the device has done all that it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
