"""The same loop for many heads at once: linear layers on features that are there already, in one matrix product."""

import itertools
import time
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sweep.config import Precision
from sweep.models.frozen import mixed
from sweep.seeds import torch_seed
from sweep.train.examples import Examples, Splits, shuffled
from sweep.train.loop import EVAL_BATCH, Curves, Recipe, make_optimizer
from sweep.train.resume import NOWHERE, Slot, State, random_state, set_random_state


def fit_heads(
    heads: Sequence[Sequence[nn.Module]],
    splits: Sequence[Splits],
    recipe: Recipe,
    *,
    rates: Sequence[Sequence[float]],
    seeds: Sequence[int],
    slot: Slot = NOWHERE,
) -> list[list[Curves]]:
    """Train heads[seed][learning rate] in place, all at once, each as fit() would train it alone; return their curves.

    heads: each a linear layer, perhaps with dropout before it (see is_head).
    splits: one per seed, as for fit(); all train sets of one size.
    rates: of every head; as many for each seed.
    slot: as for fit().

    A head that is done stands still beside the others; one whose loss is not finite cannot touch them.
    """
    training = _Together(_Stack(heads, recipe.precision), splits, recipe, rates, seeds)
    with slot.kept(training):
        while not training.over:
            training.run_epoch(slot)
    training.stack.write_back()
    training.optimizer.state.clear()
    return training.curves


class _Together:
    """One training of many heads under way.

    courses: of the heads that are still trained, by their places.
    done: batches of the epoch under way. drawn: what the orders of its images were drawn from.
    """

    def __init__(
        self,
        stack: "_Stack",
        splits: Sequence[Splits],
        recipe: Recipe,
        rates: Sequence[Sequence[float]],
        seeds: Sequence[int],
    ) -> None:
        self.stack, self.splits, self.recipe, self.rates = stack, splits, recipe, rates
        first = splits[0].train
        self.n, self.device = len(first), first.labels.device
        self.optimizer = make_optimizer(stack.groups(), recipe.optimizer)
        self.places = list(itertools.product(range(len(seeds)), range(len(rates[0]))))
        self.courses = {place: recipe.course(self.n) for place in self.places}
        self.orders = [torch.Generator().manual_seed(torch_seed(seed, "order")) for seed in seeds]
        self.dropouts = [torch.Generator(self.device).manual_seed(torch_seed(seed, "dropout")) for seed in seeds]
        self.curves = [[Curves() for _ in row] for row in rates]
        self.step, self.whole = 0, True
        self._next_epoch()

    def _next_epoch(self) -> None:
        self.drawn, self.done, self.seconds = [order.get_state() for order in self.orders], 0, 0.0
        self.total = torch.zeros(self.stack.shape, device=self.device)

    @property
    def over(self) -> bool:
        return not self.courses

    def run_epoch(self, slot: Slot) -> None:
        """Train and evaluate an epoch, or what is left of it."""
        stack, train = self.stack, [each.train for each in self.splits]
        start = time.perf_counter() - self.seconds
        parts = [shuffled(self.n, self.recipe.batch_size, order, self.device) for order in self.orders]
        for inputs, labels in _side_by_side(train, [part[self.done :] for part in parts]):
            self.whole = False
            if stack.dropout:
                dropped = [_dropped(x, stack.dropout, rng) for x, rng in zip(inputs, self.dropouts, strict=True)]
                inputs = torch.stack(dropped)
            losses = _losses(stack.logits(inputs), labels).mean(2)  # (S, L)
            for place, group in zip(self.places, self.optimizer.param_groups, strict=True):
                factor = self.courses[place].factor(self.step) if place in self.courses else 0.0
                group["lr"] = self.rates[place[0]][place[1]] * factor
            self.optimizer.zero_grad(set_to_none=True)
            losses.sum().backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.total += losses.detach() * labels.shape[1]
            self.step += 1
            self.done += 1
            self.seconds = time.perf_counter() - start
            self.whole = True
            slot.after_batch()
        means = (self.total / self.n).tolist()
        seconds = (time.perf_counter() - start) / len(self.courses)
        with torch.no_grad():
            val_scores = _score_heads(stack, [each.val for each in self.splits])
            test_scores = _score_heads(stack, [each.test for each in self.splits])
        self.whole = False
        for (row, column), course in list(self.courses.items()):
            curve = self.curves[row][column]
            scores = (each[row][column] if each else None for each in (val_scores, test_scores))
            curve.add(means[row][column], seconds, *scores)
            curve.tell(course)
            if curve.diverged or course.over:
                del self.courses[row, column]
        self._next_epoch()
        self.whole = True
        slot.on_epoch(curve)
        slot.after_epoch()

    def state(self) -> State:
        """Return what it takes to go on; see Training."""
        state = {
            "tensors": [tensor.detach() for tensor in (*self.stack.weights, *self.stack.biases)],
            "curves": [[vars(curve) for curve in row] for row in self.curves],
            "courses": [[place, course.state()] for place, course in self.courses.items()],
        }
        if self.over:
            return state
        return state | {
            "optimizer": self.optimizer.state_dict(),
            "orders": self.drawn,
            "dropouts": [each.get_state() for each in self.dropouts],
            "total": self.total,
            "counts": [self.step, self.done],
            "seconds": self.seconds,
        }

    def load(self, state: State) -> bool:
        """Go on from this state; see Training. Nothing here is frozen."""
        with torch.no_grad():
            for tensor, kept in zip((*self.stack.weights, *self.stack.biases), state["tensors"], strict=True):
                tensor.copy_(kept)
        self.curves = [[Curves(**curve) for curve in row] for row in state["curves"]]
        left = {tuple(place): course for place, course in state["courses"]}
        self.courses = {place: course for place, course in self.courses.items() if place in left}
        for place, course in self.courses.items():
            course.load(left[place])
        if self.over:
            return True
        self.optimizer.load_state_dict(state["optimizer"])
        for order, drawn in zip(self.orders, state["orders"], strict=True):
            order.set_state(drawn)
        self._next_epoch()
        for dropout, kept in zip(self.dropouts, state["dropouts"], strict=True):
            dropout.set_state(kept)
        self.total, self.seconds = state["total"].to(self.device), state["seconds"]
        self.step, self.done = state["counts"]
        return True


class _Stack:
    """Heads of several seeds and learning rates as one: those of one seed see the same batches, so their weights stand
    side by side in one matrix; those of different seeds are batched.
    """

    def __init__(self, heads: Sequence[Sequence[nn.Module]], precision: Precision) -> None:
        self.linears = [[_linear(head) for head in row] for row in heads]
        self.dropout = max(
            (module.p for module in heads[0][0].modules() if isinstance(module, nn.Dropout)), default=0.0
        )
        self.precision = precision
        self.shape = (len(heads), len(heads[0]))
        flat = [linear for row in self.linears for linear in row]
        self.weights = [linear.weight.detach().clone().requires_grad_(True) for linear in flat]  # (C, D) each
        self.biases = [linear.bias.detach().clone().requires_grad_(True) for linear in flat]  # (C,) each

    def groups(self) -> list[dict[str, object]]:
        """Return the parameters by head, as an optimizer takes them."""
        return [{"params": list(pair), "lr": 0.0} for pair in zip(self.weights, self.biases, strict=True)]

    def logits(self, inputs: Tensor) -> Tensor:
        """Return (S, L, C, B) of inputs (S, B, D): a softmax over rows is the fast one on a CPU."""
        with mixed(inputs.device, self.precision):
            seeds, features = self.shape[0], inputs.shape[2]
            biases = torch.cat(self.biases).view(seeds, -1, 1)
            weights = torch.cat(self.weights).view(seeds, -1, features)  # the heads of a seed one below the other
            out = torch.baddbmm(biases, weights, inputs.transpose(1, 2))
        return out.float().view(*self.shape, -1, out.shape[2])

    def write_back(self) -> None:
        """Give every head its trained weights."""
        flat = [linear for row in self.linears for linear in row]
        with torch.no_grad():
            for linear, weight, bias in zip(flat, self.weights, self.biases, strict=True):
                linear.weight.copy_(weight)
                linear.bias.copy_(bias)


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
        set_random_state(inputs.device, generator.get_state())
        out = F.dropout(inputs, p)
        generator.set_state(random_state(inputs.device))
    return out


def _side_by_side(examples: Sequence[Examples], orders: Sequence[Sequence[Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs (S, B, D) and labels (S, B), a batch of each of S examples; what they share is gathered once."""
    first, count = examples[0], len(examples)
    if all(each is first for each in examples) and all(order is orders[0] for order in orders):
        for inputs, labels in first.batches(orders[0]):
            yield inputs.expand(count, *inputs.shape), labels.expand(count, *labels.shape)
    elif all(each.inputs is first.inputs for each in examples):
        rows = torch.cat([each.rows for each in examples])
        pooled = Examples(first.inputs, rows, torch.cat([each.labels for each in examples]))
        starts = itertools.accumulate(map(len, examples[:-1]), initial=0)
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


def _score_heads(stack: _Stack, examples: Sequence[Examples | None]) -> list[list[tuple[float, float]]]:
    """Return (accuracy, mean loss) per seed and learning rate; [] where there are no images."""
    present = [each for each in examples if each is not None and len(each)]
    if not present:
        return []
    n, device = len(present[0]), present[0].labels.device
    sums = torch.zeros(2, *stack.shape, dtype=torch.float64, device=device)
    parts = torch.split(torch.arange(n, device=device), EVAL_BATCH)
    weights = torch.stack([torch.ones(n, device=device) if x.weights is None else x.weights for x in present])
    for part, (inputs, labels) in zip(parts, _side_by_side(present, [parts] * len(present)), strict=True):
        out = stack.logits(inputs)  # (S, L, C, B)
        # a contiguous copy, because argmax over another dimension than the last is 20 times as slow on a CPU
        hit = out.transpose(2, 3).contiguous().argmax(3) == labels[:, None]
        sums[0] += (hit * weights[:, None, part]).sum(2)
        sums[1] += _losses(out, labels).double().sum(2)
    accuracies, losses = (sums / n).tolist()
    return [list(zip(*pair, strict=True)) for pair in zip(accuracies, losses, strict=True)]
