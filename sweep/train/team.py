"""One training in several processes: each computes its part of every batch, and what comes of the parts is added up.

The parts give what the whole batch gives in one process, up to rounding: the loss is the mean over the whole batch,
gradients are summed, and BatchNorm normalises by the whole batch.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed
from torch.overrides import TorchFunctionMode

from sweep.train.resume import Training


class Team:
    """The processes that train a model together: this one alone, unless it is a Joined.

    rank: the number of this process, the first being 0. size: how many they are.
    """

    rank, size = 0, 1

    def call(self, seed: int, lr: float) -> None:
        """Have the others train this member, too."""

    def begin(self, training: Training) -> None:
        """Let the training start with the same weights and the same state in every process."""

    def part(self, n: int) -> slice:
        """Return which of a batch of n images are this process's own."""
        return slice(0, n)

    def batch(self, n: int) -> AbstractContextManager[object]:
        """Return the context in which the model sees its part of a batch of n images."""
        return nullcontext()

    def backward(self, loss: Tensor, parameters: Sequence[torch.nn.Parameter]) -> Tensor:
        """Give the parameters their gradients, and return the loss, both of the whole batch. loss: of the part."""
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def mean(self, scores: Sequence[float], n: int) -> list[float]:
        """Return the scores of n images. scores: means over the part."""
        return [*scores]


ALONE = Team()


class Joined(Team):
    """Several processes, joined by torch.distributed.

    share: of the batch under way that is this process's part; 0 where there are fewer images than processes. It then
        computes one of another's, which counts for nothing: not every network takes a batch of no images.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size, self.share = rank, size, 0.0

    def part(self, n: int) -> slice:
        start, stop = self._bounds(n)
        return slice(start, stop) if start < stop else slice(0, 1)

    def batch(self, n: int) -> AbstractContextManager[object]:
        self.share = self._share(n)
        return _Interception({F.batch_norm: self._batch_norm})

    def backward(self, loss: Tensor, parameters: Sequence[torch.nn.Parameter]) -> Tensor:
        (loss * self.share).backward()  # type: ignore[no-untyped-call]
        given = [each.grad is not None for each in parameters]  # a layer that was left out has none, in one process too
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
        counts = torch.tensor(given, dtype=loss.dtype, device=loss.device)
        added = _added([*(each.flatten() for each in gradients), counts, self.share * loss.detach().view(1)])
        *sums, counts, whole = torch.split(added, [*(each.numel() for each in parameters), len(parameters), 1])
        for parameter, total, own, count in zip(parameters, sums, given, counts, strict=True):
            if own and parameter.grad is not None:
                parameter.grad.copy_(total.view_as(parameter))
            elif count > 0:
                parameter.grad = total.view_as(parameter).to(parameter.dtype)
        return whole.view(())

    def mean(self, scores: Sequence[float], n: int) -> list[float]:
        device = torch.device("cuda", torch.cuda.current_device()) if distributed.get_backend() == "nccl" else "cpu"
        own = torch.tensor(scores, dtype=torch.float64, device=device)
        return [float(each) for each in _added([self._share(n) * own])]

    def _bounds(self, n: int) -> tuple[int, int]:
        return n * self.rank // self.size, n * (self.rank + 1) // self.size

    def _share(self, n: int) -> float:
        start, stop = self._bounds(n)
        return (stop - start) / n

    def _batch_norm(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        *,
        training: bool = False,
        **options: Any,
    ) -> Tensor:
        """Return what torch.nn.functional.batch_norm() gives for the whole batch, for this process's part of it.

        torch's own nn.SyncBatchNorm does this on GPUs alone.
        """
        if not training:
            return F.batch_norm(x, running_mean, running_var, training=False, **options)
        wide, channels = x.float(), x.shape[1]
        var, mean = torch.var_mean(wide, [0, *range(2, x.dim())], correction=0)  # (C,)
        count = mean.new_full((1,), x.numel() // channels if self.share else 0)
        own = torch.cat([mean, var, count])[None]  # (1, 2C + 1)
        every: Tensor = _Sum.apply(F.pad(own, (0, 0, self.rank, self.size - 1 - self.rank)))  # (size, 2C + 1)
        means, variances, counts = torch.split(every, [channels, channels, 1], dim=1)
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        var = (counts * (variances + (means - mean).square())).sum(0) / total
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), options["momentum"])
                running_var.lerp_((var * total / (total - 1)).to(running_var.dtype), options["momentum"])
        scale = torch.rsqrt(var + options["eps"])
        if options.get("weight") is not None:
            scale = scale * options["weight"]
        shift = -mean * scale if options.get("bias") is None else options["bias"] - mean * scale
        shape = (1, channels, *[1] * (x.dim() - 2))
        return torch.addcmul(shift.view(shape), wide, scale.view(shape)).to(x.dtype)


class _Interception(TorchFunctionMode):
    """Within this, functions of torch are replaced, whichever module calls them: nn.BatchNorm2d, timm's, the user's."""

    def __init__(self, replaced: Mapping[Callable[..., Any], Callable[..., Any]]) -> None:
        super().__init__()
        self.replaced = replaced

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return self.replaced.get(func, func)(*args, **(kwargs or {}))


class _Sum(torch.autograd.Function):
    """The sum of what every process gives, in each of them; and so of the gradients."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        return _added([own])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _added([gradient])


def _added(own: Sequence[Tensor]) -> Tensor:
    """Return one tensor of all of these, added up over the processes; the same bits in each of them."""
    total = torch.cat([*own])
    distributed.all_reduce(total)
    return total
