"""Training: a for loop over epochs and batches, and one way to evaluate."""

import math
import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from sweep.config import Augment, OptimizerConfig, Precision
from sweep.models import convolutions
from sweep.models.auxiliary import auxiliary_loss
from sweep.models.frozen import fingerprint, mixed
from sweep.seeds import torch_seed
from sweep.train.course import Course
from sweep.train.examples import Examples, Splits, batches, flip_crop, shuffled
from sweep.train.resume import NOWHERE, Slot, State, random_state, set_random_state
from sweep.train.team import ALONE, Team

EVAL_BATCH = 512  # images


@dataclass(frozen=True)
class Scores:
    accuracy: float  # share of all images, each as its weight says
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

    def add(
        self, train_loss: float, seconds: float, val: tuple[float, float] | None, test: tuple[float, float] | None
    ) -> None:
        """Add an epoch; val, test: (accuracy, loss) of these images, where there are such."""
        self.train_loss.append(train_loss)
        self.epoch_seconds.append(seconds)
        if val:
            self.val_accuracy.append(share(val[0]))
            self.val_loss.append(val[1])
        if test:
            self.test_accuracy.append(share(test[0]))

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
    team: the processes that train it together.
    """

    optimizer: OptimizerConfig
    epochs: int
    batch_size: int
    min_steps: int = 0
    precision: Precision = Precision.fp32
    augment: Augment = Augment.none
    phase: str = ""
    team: Team = ALONE

    def course(self, n: int) -> Course:
        """Return the course of a training on n images."""
        steps = len(batches(torch.arange(n), self.batch_size))
        return Course(self.optimizer.schedule, steps, self.epochs, self.min_steps)


def fit(model: nn.Module, splits: Splits, recipe: Recipe, *, lr: float, seed: int, slot: Slot = NOWHERE) -> Curves:
    """Train the model's trainable parameters in place and return its curves.

    Training depends on splits.train alone; how long it goes on, also on splits.val (see Course). Batch order,
    augmentation and dropout follow from the seed alone, so members that differ in depth or learning rate see the same
    batches. Stops after an epoch whose loss is not finite. Nothing inside an epoch waits for the device.

    slot: where the training is kept, so that another process can go on from it; on the CPU, bit for bit.
    """
    device = splits.train.labels.device
    forked = [device] if device.type == "cuda" else []
    with convolutions.seen_alone(model) as others, torch.random.fork_rng(devices=forked):
        training = _Training(model, splits, recipe, (lr, seed), others)
        with slot.kept(training):
            recipe.team.begin(training)
            while not training.over:
                training.run_epoch(slot)
        training.optimizer.state.clear()  # it may take more memory than the model
    return training.curves


class _Training:
    """One training under way.

    changing, frozen: the tensors that training changes, and the model's others.
    done: batches of the epoch under way. drawn: what the order of its images was drawn from.
    """

    def __init__(
        self, model: nn.Module, splits: Splits, recipe: Recipe, member: tuple[float, int], others: nn.Parameter | None
    ) -> None:
        self.model, self.splits, self.recipe, self.others = model, splits, recipe, others
        self.lr, seed = member
        self.device = splits.train.labels.device
        self.order, self.views = (
            torch.Generator().manual_seed(torch_seed(seed, use + recipe.phase)) for use in ("order", "augment")
        )
        torch.manual_seed(torch_seed(seed, "dropout" + recipe.phase))
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        parameters = [*self.parameters, *([] if others is None else [others])]
        self.optimizer = make_optimizer([{"params": parameters, "lr": self.lr}], recipe.optimizer)
        model.train()
        moving = [module for module in model.modules() if module.training]  # nothing that is frozen, unless tracked
        self.changing = [*parameters, *(buffer for each in moving for buffer in each.buffers(recurse=False))]
        known = {id(tensor) for tensor in self.changing}
        self.frozen = [each for each in (*model.parameters(), *model.buffers()) if id(each) not in known]
        self.course = recipe.course(len(splits.train))
        self.curves = Curves()
        self.step, self.whole = 0, True
        self._next_epoch()

    def _next_epoch(self) -> None:
        self.drawn, self.done, self.seconds = self.order.get_state(), 0, 0.0
        self.total = torch.zeros((), device=self.device)

    @property
    def over(self) -> bool:
        return self.course.over or self.curves.diverged

    def run_epoch(self, slot: Slot) -> None:
        """Train and evaluate an epoch, or what is left of it."""
        model, recipe, train, optimizer = self.model, self.recipe, self.splits.train, self.optimizer
        team = recipe.team
        start = time.perf_counter() - self.seconds
        model.train()
        parts = shuffled(len(train), recipe.batch_size, self.order, self.device)[self.done :]
        own = [team.part(len(part)) for part in parts]
        given = train.batches([part[which] for part, which in zip(parts, own, strict=True)])
        for part, which, (inputs, labels) in zip(parts, own, given, strict=True):
            self.whole = False
            n = len(part)
            seen = flip_crop(inputs, self.views, n, which) if recipe.augment is Augment.flip_crop else inputs
            with mixed(self.device, recipe.precision), team.batch(n):
                logits = model(seen)
            loss = F.cross_entropy(logits.float(), labels) + auxiliary_loss(model, labels)
            optimizer.param_groups[0]["lr"] = self.lr * self.course.factor(self.step)
            optimizer.zero_grad(set_to_none=True)
            loss = team.backward(loss, self.parameters)
            if self.others is not None:
                self.others.grad = torch.zeros_like(self.others)
            optimizer.step()
            self.total += loss * n
            self.step += 1
            self.done += 1
            self.seconds = time.perf_counter() - start
            self.whole = True
            slot.after_batch()
        mean = self.total.item() / len(train)
        self.seconds = time.perf_counter() - start
        val, test = (_judged(model, each, recipe) for each in (self.splits.val, self.splits.test))
        self.whole = False
        self.curves.add(mean, self.seconds, val, test)
        if not self.curves.diverged:
            self.curves.tell(self.course)
        self._next_epoch()
        self.whole = True
        slot.on_epoch(self.curves)
        slot.after_epoch()

    def state(self) -> State:
        """Return what it takes to go on; see Training."""
        state = {
            "tensors": [tensor.detach() for tensor in self.changing],
            "curves": vars(self.curves),
            "course": self.course.state(),
        }
        if self.over:
            return state
        return state | {
            "frozen": fingerprint(self.frozen),
            "optimizer": self.optimizer.state_dict(),
            "order": self.drawn,
            "views": self.views.get_state(),
            "random": random_state(self.device),
            "total": self.total,
            "counts": [self.step, self.done],
            "seconds": self.seconds,
        }

    def load(self, state: State) -> bool:
        """Go on from this state; see Training."""
        if "frozen" in state and state["frozen"] != fingerprint(self.frozen):
            return False
        with torch.no_grad():
            for tensor, kept in zip(self.changing, state["tensors"], strict=True):
                tensor.copy_(kept)
        self.curves = Curves(**state["curves"])
        self.course.load(state["course"])
        if self.over:
            return True
        self.optimizer.load_state_dict(state["optimizer"])
        self.order.set_state(state["order"])
        self._next_epoch()
        self.views.set_state(state["views"])
        set_random_state(self.device, state["random"])
        self.total, self.seconds = state["total"].to(self.device), state["seconds"]
        self.step, self.done = state["counts"]
        return True


def share(accuracy: float) -> float:
    """Return an accuracy that rounding of its weights may have put above 1."""
    return min(accuracy, 1.0)


def _judged(model: nn.Module, examples: Examples | None, recipe: Recipe) -> tuple[float, float] | None:
    """Return accuracy and loss, where there are such images."""
    if examples is None or not len(examples):
        return None
    n, team = len(examples), recipe.team
    scores = evaluate(model, examples.part(team.part(n)), recipe.precision)
    accuracy, loss = team.mean((scores.accuracy, scores.loss), n)
    return accuracy, loss


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
        counted = hit if examples.weights is None else hit * examples.weights
        return Scores(
            counted.mean().item(),
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
