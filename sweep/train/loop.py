"""Training: a for loop over epochs and batches, and one way to evaluate."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from sweep.config import Augment, OptimizerConfig, Precision
from sweep.models import convolutions
from sweep.models.auxiliary import auxiliary_loss
from sweep.models.frozen import mixed
from sweep.seeds import torch_seed
from sweep.train.course import Course
from sweep.train.examples import Examples, Splits, batches, flip_crop, shuffled

EVAL_BATCH = 512  # images


@dataclass(frozen=True)
class Scores:
    accuracy: float  # share of all images
    balanced_accuracy: float  # mean over classes of the share of each class's images
    loss: float  # mean cross-entropy, nats
    correct: npt.NDArray[np.bool_]  # (N,)
    predicted: npt.NDArray[np.int64]  # (N,) labels
    losses: npt.NDArray[np.float64]  # (N,) cross-entropy of each image


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

    def tell(self, course: Course) -> None:
        """Tell the course of the last epoch."""
        course.after(
            len(self.train_loss), *(values[-1] if values else None for values in (self.val_accuracy, self.val_loss))
        )

    def then(self, later: "Curves") -> "Curves":
        """Return these curves followed by those of a later phase."""
        return Curves(
            *(first + second for first, second in zip(vars(self).values(), vars(later).values(), strict=True))
        )


@dataclass(frozen=True)
class Recipe:
    """How a member is trained, less what differs between members: seed and learning rate.

    epochs: at most.
    min_steps: see Course.
    phase: names a later part of a training, which draws its batches anew.
    """

    optimizer: OptimizerConfig
    epochs: int
    batch_size: int
    min_steps: int = 0
    precision: Precision = Precision.fp32
    augment: Augment = Augment.none
    phase: str = ""

    def course(self, n: int) -> Course:
        """Return the course of a training on n images."""
        steps = len(batches(torch.arange(n), self.batch_size))
        return Course(self.optimizer.schedule, steps, self.epochs, self.min_steps)


def fit(
    model: nn.Module,
    splits: Splits,
    recipe: Recipe,
    *,
    lr: float,
    seed: int,
    on_epoch: Callable[[Curves], None] = lambda curves: None,
) -> Curves:
    """Train the model's trainable parameters in place and return its curves.

    Training depends on splits.train alone; how long it goes on, also on splits.val (see Course). Batch order,
    augmentation and dropout follow from the seed alone, so members that differ in depth or learning rate see the same
    batches. Stops after an epoch whose loss is not finite. Nothing
    inside an epoch waits for the device.
    """
    curves, train = Curves(), splits.train
    order, views = (torch.Generator().manual_seed(torch_seed(seed, use + recipe.phase)) for use in ("order", "augment"))
    device = train.labels.device
    forked = [device] if device.type == "cuda" else []
    with convolutions.seen_alone(model) as others, torch.random.fork_rng(devices=forked):
        torch.manual_seed(torch_seed(seed, "dropout" + recipe.phase))
        parameters = [p for p in (*model.parameters(), others) if p is not None and p.requires_grad]
        optimizer = make_optimizer([{"params": parameters, "lr": lr}], recipe.optimizer)
        course = recipe.course(len(train))
        step = 0
        while not course.over:
            start = time.perf_counter()
            model.train()
            total = torch.zeros((), device=device)
            for inputs, labels in train.batches(shuffled(len(train), recipe.batch_size, order, device)):
                seen = flip_crop(inputs, views) if recipe.augment is Augment.flip_crop else inputs
                with mixed(device, recipe.precision):
                    logits = model(seen)
                loss = F.cross_entropy(logits.float(), labels) + auxiliary_loss(model, labels)
                optimizer.param_groups[0]["lr"] = lr * course.factor(step)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                if others is not None:
                    others.grad = torch.zeros_like(others)
                optimizer.step()
                step += 1
                total += loss.detach() * len(labels)
            curves.train_loss.append(total.item() / len(train))
            curves.epoch_seconds.append(time.perf_counter() - start)
            _evaluate_epoch(model, splits, recipe.precision, curves)
            on_epoch(curves)
            if curves.diverged:
                break
            curves.tell(course)
    return curves


def _evaluate_epoch(model: nn.Module, splits: Splits, precision: Precision, curves: Curves) -> None:
    if len(splits.val):
        scores = evaluate(model, splits.val, precision)
        curves.val_loss.append(scores.loss)
        curves.val_accuracy.append(scores.accuracy)
    if splits.test is not None:
        curves.test_accuracy.append(evaluate(model, splits.test, precision).accuracy)


def evaluate(model: nn.Module, examples: Examples, precision: Precision = Precision.fp32) -> Scores:
    """Return the scores of a model in evaluation mode; it is left in that mode."""
    model.eval()
    losses, predictions = [], []
    device = examples.labels.device
    with torch.no_grad():
        for inputs, labels in examples.batches(torch.split(torch.arange(len(examples), device=device), EVAL_BATCH)):
            with mixed(device, precision):
                logits = model(inputs).float()  # (N, classes)
            losses.append(F.cross_entropy(logits, labels, reduction="none"))
            predictions.append(logits.argmax(1))
        predicted = torch.cat(predictions)
        hit = (predicted == examples.labels).double()
        totals = torch.bincount(examples.labels).double()
        per_class = torch.bincount(examples.labels, weights=hit) / totals  # NaN for a class without images
        each = torch.cat(losses).double()
        return Scores(
            hit.mean().item(),
            per_class.nanmean().item(),
            each.mean().item(),
            *(values.cpu().numpy() for values in (hit.bool(), predicted, each)),
        )


def make_optimizer(groups: list[dict[str, object]], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the optimizer of these groups of parameters, each with its own lr."""
    # fused: one pass over the weights instead of four; at batch 64 that is a fifth of ResNet-18's step on a CPU
    if config.name == "adamw":
        return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)
    return torch.optim.SGD(groups, lr=1e-3, momentum=config.momentum, weight_decay=config.weight_decay, fused=True)
