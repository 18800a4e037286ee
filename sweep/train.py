"""One member's training: a for loop over epochs and batches, and one way to evaluate."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sweep.config import OptimizerConfig, Schedule
from sweep.seeds import torch_seed

EVAL_BATCH = 512  # images


@dataclass(frozen=True)
class Examples:
    """Inputs on the device, images or features, with their labels."""

    inputs: Tensor  # (N, ...)
    labels: Tensor  # (N,) int64

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Scores:
    accuracy: float  # share of all images
    balanced_accuracy: float  # mean over classes of the share of each class's images
    loss: float  # mean cross-entropy, nats


@dataclass
class Curves:
    """One value per finished epoch; none where there were no such images."""

    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)  # only where it is asked for
    epoch_seconds: list[float] = field(default_factory=list)  # training only, evaluation not counted

    @property
    def diverged(self) -> bool:
        """Return whether the last epoch's training or validation loss is not a finite number."""
        return not all(math.isfinite(losses[-1]) for losses in (self.train_loss, self.val_loss) if losses)


def fit(
    model: nn.Module,
    train: Examples,
    val: Examples,
    test: Examples | None = None,
    *,
    optimizer: OptimizerConfig,
    lr: float,
    epochs: int,
    batch_size: int,
    seed: int,
    on_epoch: Callable[[Curves], None] = lambda curves: None,
) -> Curves:
    """Train the model's trainable parameters in place and return its curves.

    val may be empty. With test, its accuracy is recorded after every epoch; training does not depend on either.
    Batch order and dropout follow from the seed alone, so members that differ in depth or learning rate see the same
    batches. Stops after an epoch whose loss is not finite. Nothing inside an epoch waits for the device.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    steps_per_epoch = len(batches(torch.arange(len(train)), batch_size))
    stepper = _optimizer(parameters, optimizer, lr)
    schedule = _schedule(stepper, optimizer.schedule, epochs * steps_per_epoch)
    order = torch.Generator().manual_seed(torch_seed(seed, "order"))
    curves = Curves()
    device = train.inputs.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(torch_seed(seed, "dropout"))
        for _ in range(epochs):
            start = time.perf_counter()
            model.train()
            total = torch.zeros((), device=device)
            for index in batches(torch.randperm(len(train), generator=order).to(device), batch_size):
                loss = F.cross_entropy(model(train.inputs[index]), train.labels[index])
                stepper.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                stepper.step()
                schedule.step()
                total += loss.detach() * len(index)
            curves.train_loss.append(total.item() / len(train))
            curves.epoch_seconds.append(time.perf_counter() - start)
            if len(val):
                scores = evaluate(model, val)
                curves.val_loss.append(scores.loss)
                curves.val_accuracy.append(scores.accuracy)
            if test is not None:
                curves.test_accuracy.append(evaluate(model, test).accuracy)
            on_epoch(curves)
            if curves.diverged:
                break
    return curves


def batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """Split an order of images into batches.

    A last batch of one image joins the batch before it: BatchNorm cannot normalise a single vector.

    >>> [len(batch) for batch in batches(torch.arange(9), 4)]
    [4, 5]
    """
    parts = list(torch.split(order, batch_size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def evaluate(model: nn.Module, examples: Examples) -> Scores:
    """Return the scores of a model in evaluation mode; it is left in that mode."""
    model.eval()
    losses, hits = [], []
    with torch.no_grad():
        for inputs, labels in zip(
            torch.split(examples.inputs, EVAL_BATCH), torch.split(examples.labels, EVAL_BATCH), strict=True
        ):
            logits = model(inputs)  # (N, classes)
            losses.append(F.cross_entropy(logits, labels, reduction="none"))
            hits.append((logits.argmax(1) == labels).double())
        hit = torch.cat(hits)
        totals = torch.bincount(examples.labels).double()
        per_class = torch.bincount(examples.labels, weights=hit) / totals  # NaN for a class without images
        return Scores(hit.mean().item(), per_class.nanmean().item(), torch.cat(losses).double().mean().item())


def _optimizer(parameters: list[nn.Parameter], config: OptimizerConfig, lr: float) -> torch.optim.Optimizer:
    # fused: one pass over the weights instead of four; at batch 64 that is a fifth of ResNet-18's step on a CPU
    if config.name == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=config.weight_decay, fused=True)
    return torch.optim.SGD(parameters, lr=lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True)


def _schedule(optimizer: torch.optim.Optimizer, schedule: Schedule, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Return the per-step factor on the learning rate: 1, or a warm-up over a tenth and a cosine to zero."""
    warm = max(1, steps // 10)

    def factor(step: int) -> float:
        if schedule is Schedule.constant:
            return 1.0
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
