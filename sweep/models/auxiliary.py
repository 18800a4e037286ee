"""Auxiliary heads: classifiers in the middle of a network that add to its loss in training and do nothing else."""

import torch.nn.functional as F
from torch import Tensor, nn


class WithAuxiliary(nn.Module):
    """A block whose output an auxiliary head takes, too.

    In training mode the head's logits are kept for auxiliary_loss(); in evaluation mode, in which a frozen block always
    is, the head does not run. Nor does it on maps smaller than `least` pixels, which it cannot take.
    """

    def __init__(self, block: nn.Module, head: nn.Module, weight: float, least: int) -> None:
        super().__init__()
        self.block = block
        self.head = head
        self.weight = weight
        self.least = least
        self._logits: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)
        if self.training and min(out.shape[2:]) >= self.least:
            self._logits = self.head(out)
        return out

    def loss(self, labels: Tensor) -> Tensor | float:
        """Return the weighted loss of the last forward pass in training mode; 0.0 if there was none since the last."""
        logits, self._logits = self._logits, None  # a kept graph would hold its memory
        return 0.0 if logits is None else self.weight * F.cross_entropy(logits.float(), labels)


def auxiliary_loss(model: nn.Module, labels: Tensor) -> Tensor | float:
    """Return what the model's auxiliary heads add to the loss of the batch that it was just given.

    labels: (N,). returns: a scalar, 0.0 for a model without such heads, or where their blocks are frozen.
    """
    return sum((part.loss(labels) for part in model.modules() if isinstance(part, WithAuxiliary)), 0.0)
