"""Whether weights were trained: what no initialisation leaves behind, whatever library drew it."""

from typing import NamedTuple

from torch import Tensor

from sweep.models.build import State

LEAST = 8  # rows, and numbers in a row, of a matrix that is looked at
DEVIATIONS = 8.0  # by which the spread of its rows must be beyond that of independent numbers


class Proof(NamedTuple):
    """What was found in a state.

    moved, norms: BatchNorm layers whose running statistics are not those of a new layer, and all.
    uneven, matrices: weights whose rows differ more in size than rows of independent numbers do, and all.
    """

    moved: int
    norms: int
    uneven: int
    matrices: int

    @property
    def trained(self) -> bool:
        """Return whether most of what can tell says that the weights were trained."""
        return 2 * (self.moved + self.uneven) > self.norms + self.matrices

    def line(self) -> str:
        """Return it in words."""
        told = []
        if self.norms:
            told.append(f"running statistics have moved in {self.moved} of {self.norms} BatchNorm layers")
        if self.matrices:
            told.append(
                f"{self.uneven} of {self.matrices} weights have rows of more unequal size than an initialisation draws"
            )
        return f"{'pretrained' if self.trained else 'not trained, it seems'}: {', '.join(told) or 'nothing can tell'}"


def look(state: State) -> Proof:
    """Return what there is to see in the backbone's tensors."""
    means = [key for key in state if key.endswith("running_mean")]
    moved = [key for key in means if _moved(state[key], state.get(key.removesuffix("mean") + "var"))]
    found = [_uneven(each) for key, each in state.items() if key.endswith("weight") and each.dim() >= 2]
    judged = [each for each in found if each is not None]
    return Proof(len(moved), len(means), sum(judged), len(judged))


def _moved(mean: Tensor, variance: Tensor | None) -> bool:
    return bool(mean.abs().max() > 1e-6) or (variance is not None and bool((variance - 1).abs().max() > 1e-6))


def _uneven(weight: Tensor) -> bool | None:
    """Return whether rows differ in mean square more than rows of independent numbers would; None if it is too small.

    Of independent numbers w, the mean square of d of them has the variance (E w^4 - (E w^2)^2) / d.
    """
    rows = weight.detach().flatten(1).double()
    if min(rows.shape) < LEAST:
        return None
    squares = rows.square()
    expected = squares.var() / rows.shape[1]
    if not expected > 0:
        return False
    ratio = float(squares.mean(1).var() / expected)
    spread = float((2 / rows.shape[0]) ** 0.5)  # of a sample variance
    return ratio > 1 + DEVIATIONS * spread
