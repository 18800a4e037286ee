"""Training: a for loop over epochs and batches, one way to evaluate, and the same loop for many heads at once."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sweep.config import Augment, OptimizerConfig, Precision, Schedule
from sweep.data.task import Labels
from sweep.models import convolutions
from sweep.models.auxiliary import auxiliary_loss
from sweep.models.frozen import channels_last, mixed
from sweep.seeds import torch_seed

EVAL_BATCH = 512  # images
DEVICE_SHARE = 0.3  # of a GPU's free memory that one split may take; a larger one is streamed


@dataclass(frozen=True)
class Examples:
    """Inputs, images or features, with their labels.

    Inputs on another device than the labels are streamed: they may be a memory map larger than the device.
    """

    inputs: Tensor  # (M, ...)
    rows: Tensor  # (N,) int64: which of the inputs; on their device
    labels: Tensor  # (N,) int64, of these rows; on the device that computes

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, order: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and labels, on the labels' device, for each (B,) of places in 0..N-1, in order."""
        if self.inputs.device == self.labels.device:
            for index in order:
                # a third of the time of self.inputs[self.rows[index]], on a CPU
                yield _ready(self.inputs.index_select(0, self.rows[index])), self.labels[index]
        else:
            for index, inputs in zip(order, self.stream(order), strict=True):
                yield _ready(inputs), self.labels[index]

    def stream(self, order: Sequence[Tensor], ahead: int = 2) -> Iterator[Tensor]:
        """Yield inputs on the labels' device; a thread gathers the next batches while this one is computed on."""
        device = self.labels.device

        def gather(index: Tensor) -> Tensor:
            batch = self.inputs.index_select(0, self.rows[index.to(self.rows.device)])
            return batch.pin_memory() if device.type == "cuda" else batch

        with ThreadPoolExecutor(1) as pool:
            waiting = deque(pool.submit(gather, index) for index in order[:ahead])
            for place in range(len(order)):
                batch = waiting.popleft().result()
                if place + ahead < len(order):
                    waiting.append(pool.submit(gather, order[place + ahead]))
                yield batch.to(device, non_blocking=True)


def place(pool: Tensor, rows: Labels, labels: Labels, device: torch.device) -> Examples:
    """Return these rows of a CPU tensor as examples for a device: copied there if they leave room for the training.

    pool: (M, ...), perhaps memory-mapped. rows, labels: (N,).
    """
    index, numbers = torch.from_numpy(rows), torch.from_numpy(labels).to(device)
    if device.type == "cuda":
        needed = pool[:1].nbytes * len(rows)
        if needed <= DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
            return Examples(pool[index].to(device), torch.arange(len(rows), device=device), numbers)
    return Examples(pool, index, numbers)


def _ready(inputs: Tensor) -> Tensor:
    return inputs if inputs.dtype == torch.uint8 else channels_last(inputs.float())


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

    def then(self, later: "Curves") -> "Curves":
        """Return these curves followed by those of a later phase."""
        return Curves(
            *(first + second for first, second in zip(vars(self).values(), vars(later).values(), strict=True))
        )


@dataclass(frozen=True)
class Recipe:
    """How a member is trained, less what differs between members: seed and learning rate."""

    optimizer: OptimizerConfig
    epochs: int
    batch_size: int
    precision: Precision = Precision.fp32
    augment: Augment = Augment.none


def fit(
    model: nn.Module,
    train: Examples,
    val: Examples,
    test: Examples | None = None,
    *,
    recipe: Recipe,
    lr: float,
    seed: int,
    phase: str = "",
    on_epoch: Callable[[Curves], None] = lambda curves: None,
) -> Curves:
    """Train the model's trainable parameters in place and return its curves.

    val may be empty. With test, its accuracy is recorded after every epoch; training does not depend on either. Batch
    order, augmentation and dropout follow from the seed alone, so members that differ in depth or learning rate see the
    same batches; phase names a later part of a training, which draws anew. Stops after an epoch whose loss is not
    finite. Nothing inside an epoch waits for the device.
    """
    order = torch.Generator().manual_seed(torch_seed(seed, "order" + phase))
    views = torch.Generator().manual_seed(torch_seed(seed, "augment" + phase))
    curves = Curves()
    device = train.labels.device
    forked = [device] if device.type == "cuda" else []
    with convolutions.seen_alone(model) as others, torch.random.fork_rng(devices=forked):
        torch.manual_seed(torch_seed(seed, "dropout" + phase))
        parameters = [p for p in (*model.parameters(), others) if p is not None and p.requires_grad]
        stepper = _optimizer([{"params": parameters, "lr": lr}], recipe.optimizer)
        schedule = _schedule(stepper, recipe, len(train))
        for _ in range(recipe.epochs):
            start = time.perf_counter()
            model.train()
            total = torch.zeros((), device=device)
            for inputs, labels in train.batches(_shuffled(len(train), recipe.batch_size, order, device)):
                if recipe.augment is Augment.flip_crop:
                    inputs = flip_crop(inputs, views)
                with mixed(device, recipe.precision):
                    logits = model(inputs)
                loss = F.cross_entropy(logits.float(), labels) + auxiliary_loss(model, labels)
                stepper.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                if others is not None:
                    others.grad = torch.zeros_like(others)
                stepper.step()
                schedule.step()
                total += loss.detach() * len(labels)
            curves.train_loss.append(total.item() / len(train))
            curves.epoch_seconds.append(time.perf_counter() - start)
            if len(val):
                scores = evaluate(model, val, recipe.precision)
                curves.val_loss.append(scores.loss)
                curves.val_accuracy.append(scores.accuracy)
            if test is not None:
                curves.test_accuracy.append(evaluate(model, test, recipe.precision).accuracy)
            on_epoch(curves)
            if curves.diverged:
                break
    return curves


def fit_heads(
    heads: Sequence[Sequence[nn.Module]],
    examples: Sequence[tuple[Examples, Examples, Examples | None]],
    *,
    recipe: Recipe,
    rates: Sequence[float],
    seeds: Sequence[int],
) -> list[list[Curves]]:
    """Train heads[seed][learning rate] in place, all at once, each as fit() would train it alone; return their curves.

    heads: each a linear layer, perhaps with dropout before it (see is_head). examples: train, val and test per seed, as
    for fit(); all train sets of one size. The heads of one seed see the same batches, so their weights stand side by
    side in one matrix; those of different seeds are batched. A head whose loss is not finite goes on beside the others,
    which it cannot touch, and its curves end there.
    """
    linears = [[_linear(head) for head in row] for row in heads]
    drop = max((module.p for module in heads[0][0].modules() if isinstance(module, nn.Dropout)), default=0.0)
    weights = [torch.stack([row[place].weight.detach() for row in linears]) for place in range(len(rates))]  # (S, C, D)
    biases = [torch.stack([row[place].bias.detach() for row in linears]) for place in range(len(rates))]  # (S, C)
    for tensor in (*weights, *biases):
        tensor.requires_grad_(True)
    groups = [{"params": [w, b], "lr": lr} for w, b, lr in zip(weights, biases, rates, strict=True)]
    stepper = _optimizer(groups, recipe.optimizer)
    n, device = len(examples[0][0]), examples[0][0].labels.device
    schedule = _schedule(stepper, recipe, n)
    orders = [torch.Generator().manual_seed(torch_seed(seed, "order")) for seed in seeds]
    dropouts = [torch.Generator(device).manual_seed(torch_seed(seed, "dropout")) for seed in seeds]
    curves = [[Curves() for _ in rates] for _ in seeds]
    shape = (len(seeds), len(rates))

    def logits(inputs: Tensor) -> Tensor:  # (S, B, D) to (S, L, C, B): a softmax over rows is the fast one on a CPU
        with mixed(device, recipe.precision):
            out = torch.baddbmm(torch.cat(biases, 1)[:, :, None], torch.cat(weights, 1), inputs.transpose(1, 2))
        return out.float().view(*shape, -1, out.shape[2])

    for _ in range(recipe.epochs):
        start = time.perf_counter()
        total = torch.zeros(shape, device=device)
        parts = [_shuffled(n, recipe.batch_size, order, device) for order in orders]
        for inputs, labels in _side_by_side([train for train, _, _ in examples], parts):
            if drop:
                inputs = torch.stack([_dropped(x, drop, rng) for x, rng in zip(inputs, dropouts, strict=True)])
            losses = _losses(logits(inputs), labels).mean(2)  # (S, L)
            stepper.zero_grad(set_to_none=True)
            losses.sum().backward()  # type: ignore[no-untyped-call]
            stepper.step()
            schedule.step()
            total += losses.detach() * labels.shape[1]
        means = (total / n).tolist()
        seconds = (time.perf_counter() - start) / (len(seeds) * len(rates))
        with torch.no_grad():
            val_scores = _score_heads(logits, [val for _, val, _ in examples], len(rates))
            test_scores = _score_heads(logits, [test for _, _, test in examples], len(rates))
        for place, row in enumerate(curves):
            for column, curve in enumerate(row):
                if curve.train_loss and curve.diverged:
                    continue
                curve.train_loss.append(means[place][column])
                curve.epoch_seconds.append(seconds)
                if val_scores:
                    accuracy, loss = val_scores[place][column]
                    curve.val_accuracy.append(accuracy)
                    curve.val_loss.append(loss)
                if test_scores:
                    curve.test_accuracy.append(test_scores[place][column][0])
    with torch.no_grad():
        for place, of_seed in enumerate(linears):
            for column, linear in enumerate(of_seed):
                linear.weight.copy_(weights[column][place])
                linear.bias.copy_(biases[column][place])
    return curves


def is_head(suffix: nn.Module) -> bool:
    """Return whether fit_heads() can train this: nothing but a linear layer, perhaps with dropout before it."""
    leaves = [module for module in suffix.modules() if not list(module.children())]
    last = leaves[-1]
    biased = isinstance(last, nn.Linear) and last.bias is not None
    return biased and all(isinstance(leaf, nn.Dropout) for leaf in leaves[:-1])


def _linear(head: nn.Module) -> nn.Linear:
    return next(module for module in head.modules() if isinstance(module, nn.Linear))


def _dropped(inputs: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Return F.dropout(inputs, p), drawn from this generator as fit() draws it from the global one."""
    with torch.random.fork_rng(devices=[inputs.device] if inputs.device.type == "cuda" else []):
        _set_state(inputs.device, generator.get_state())
        out = F.dropout(inputs, p)
        generator.set_state(_get_state(inputs.device))
    return out


def _set_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def _get_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _side_by_side(examples: Sequence[Examples], orders: Sequence[Sequence[Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs (S, B, D) and labels (S, B), a batch of each of S examples; what they share is gathered once."""
    first, count = examples[0], len(examples)
    if all(each is first for each in examples) and all(order is orders[0] for order in orders):
        for inputs, labels in first.batches(orders[0]):
            yield inputs.expand(count, *inputs.shape), labels.expand(count, *labels.shape)
    elif all(each.inputs is first.inputs for each in examples):
        rows = torch.cat([each.rows for each in examples])
        pooled = Examples(first.inputs, rows, torch.cat([each.labels for each in examples]))
        starts = accumulate(map(len, examples[:-1]), initial=0)
        places = [[part + start for part in order] for order, start in zip(orders, starts, strict=True)]
        for inputs, labels in pooled.batches([torch.cat(each) for each in zip(*places, strict=True)]):
            yield inputs.view(count, -1, inputs.shape[1]), labels.view(count, -1)
    else:
        feeds = (each.batches(order) for each, order in zip(examples, orders, strict=True))
        for batch in zip(*feeds, strict=True):
            yield torch.stack([inputs for inputs, _ in batch]), torch.stack([labels for _, labels in batch])


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return cross-entropy (S, L, B) of logits (S, L, C, B) for labels (S, B)."""
    wide = labels[:, None].expand(-1, logits.shape[1], -1)
    return F.cross_entropy(logits.flatten(0, 1), wide.flatten(0, 1), reduction="none").view(wide.shape)


def _score_heads(
    logits: Callable[[Tensor], Tensor], examples: Sequence[Examples | None], rates: int
) -> list[list[tuple[float, float]]]:
    """Return (accuracy, mean loss) per seed and learning rate; [] where there are no images."""
    present = [each for each in examples if each is not None and len(each)]
    if not present:
        return []
    n, device = len(present[0]), present[0].labels.device
    sums = torch.zeros(2, len(present), rates, dtype=torch.float64, device=device)
    parts = torch.split(torch.arange(n, device=device), EVAL_BATCH)
    for inputs, labels in _side_by_side(present, [parts] * len(present)):
        out = logits(inputs)  # (S, L, C, B)
        # a contiguous copy, because argmax over another dimension than the last is 20 times as slow on a CPU
        sums[0] += (out.transpose(2, 3).contiguous().argmax(3) == labels[:, None]).sum(2)
        sums[1] += _losses(out, labels).double().sum(2)
    accuracies, losses = (sums / n).tolist()
    return [list(zip(*pair, strict=True)) for pair in zip(accuracies, losses, strict=True)]


def _shuffled(n: int, batch_size: int, generator: torch.Generator, device: torch.device) -> list[Tensor]:
    return batches(torch.randperm(n, generator=generator).to(device), batch_size)


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


def flip_crop(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return every image mirrored with probability 1/2 and shifted by up to an eighth of its side, black moving in.

    images: (N, 3, S, S) uint8, on any device; drawn on the CPU, so that every device sees the same views.
    """
    n, channels, size, _ = images.shape
    pad = max(1, size // 8)
    shifts = torch.randint(2 * pad + 1, (2, n, 1), generator=generator)
    flips = torch.rand(n, 1, generator=generator) < 0.5
    rows, columns = shifts + torch.arange(size)  # (N, S) each
    columns = torch.where(flips, columns.flip(1), columns)
    padded = F.pad(images, (pad, pad, pad, pad))
    rows, columns = rows.to(images.device), columns.to(images.device)
    place = torch.arange(n, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return padded[place, channel, rows[:, None, :, None], columns[:, None, None, :]]  # (N, 3, S, S)


def evaluate(model: nn.Module, examples: Examples, precision: Precision = Precision.fp32) -> Scores:
    """Return the scores of a model in evaluation mode; it is left in that mode."""
    model.eval()
    losses, hits = [], []
    device = examples.labels.device
    with torch.no_grad():
        for inputs, labels in examples.batches(torch.split(torch.arange(len(examples), device=device), EVAL_BATCH)):
            with mixed(device, precision):
                logits = model(inputs).float()  # (N, classes)
            losses.append(F.cross_entropy(logits, labels, reduction="none"))
            hits.append((logits.argmax(1) == labels).double())
        hit = torch.cat(hits)
        totals = torch.bincount(examples.labels).double()
        per_class = torch.bincount(examples.labels, weights=hit) / totals  # NaN for a class without images
        return Scores(hit.mean().item(), per_class.nanmean().item(), torch.cat(losses).double().mean().item())


def _optimizer(groups: list[dict[str, object]], config: OptimizerConfig) -> torch.optim.Optimizer:
    # fused: one pass over the weights instead of four; at batch 64 that is a fifth of ResNet-18's step on a CPU
    if config.name == "adamw":
        return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)
    return torch.optim.SGD(groups, lr=1e-3, momentum=config.momentum, weight_decay=config.weight_decay, fused=True)


def _schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, n: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Return the per-step factor on the learning rate: 1, or a warm-up over a tenth and a cosine to zero."""
    steps = recipe.epochs * len(batches(torch.arange(n), recipe.batch_size))
    warm = max(1, steps // 10)

    def factor(step: int) -> float:
        if recipe.optimizer.schedule is Schedule.constant:
            return 1.0
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
