"""How well a depth's features suit a task's labels, before anything is trained. Pure numpy, scipy and scikit-learn.

No score wins everywhere: they are covariates of a result, not a replacement for it.
"""

import numpy as np
import numpy.typing as npt
from scipy import optimize, special
from sklearn.covariance import ledoit_wolf

from sweep.errors import UserError
from sweep.stats.features import Sample, checked, class_gaussians, class_means, principal_axes
from sweep.stats.types import Floats, Ints

# Higher = the features suit the labels better. leep and nce need the source's class probabilities. Compare tasks of
# different class counts by the corrected ones only: the others encode the class count.
SCORES = (
    *("logme", "h_score", "h_score_corrected", "leep", "leep_corrected", "nce", "nce_corrected"),
    *("gbc", "gbc_corrected", "knn", "knn_corrected"),
)

NEIGHBOURS = 5


def scores(
    features: npt.ArrayLike, labels: npt.ArrayLike, source_probabilities: npt.ArrayLike | None = None
) -> dict[str, float]:
    """Return the transferability scores of one depth's features, by name (SCORES); higher is better.

    features: (N, D).
    labels: (N,) integers.
    source_probabilities: (N, Z), the source's class probabilities for the same images; without them there is no leep
    and no nce.
    raises: UserError for NaN, shapes that do not fit, fewer than two classes, or no more images than classes.

    >>> features, labels = np.repeat(np.eye(2), 10, axis=0), np.repeat([0, 1], 10)
    >>> scores(features, labels)["knn_corrected"]
    1.0
    """
    x, y = checked(Sample(features, labels), "features")
    classes = int(y.max()) + 1
    shares = np.bincount(y) / len(y)
    found = {"logme": logme(x, y), "h_score": h_score(x, y), "gbc": gbc(x, y), "knn": knn(x, y)}
    found |= {
        "h_score_corrected": found["h_score"] / (classes - 1),
        "gbc_corrected": found["gbc"] / (classes * (classes - 1)),
        # against always naming the commonest class
        "knn_corrected": float((found["knn"] - shares.max()) / (1 - shares.max())),
    }
    if source_probabilities is not None:
        theta = _probabilities(source_probabilities, len(y))
        entropy = float(special.entr(shares).sum())
        found |= {"leep": leep(theta, y), "nce": nce(theta.argmax(axis=1), y)}
        found |= {f"{name}_corrected": 1 + found[name] / entropy for name in ("leep", "nce")}
    return {name: found[name] for name in SCORES if name in found}


def _probabilities(given: npt.ArrayLike, count: int) -> Floats:
    theta = np.asarray(given, dtype=np.float64)
    if theta.ndim != 2 or len(theta) != count:
        raise UserError(f"similarity: source_probabilities has shape {theta.shape}; use ({count}, source classes)")
    if not (np.isfinite(theta).all() and (theta >= 0).all() and np.allclose(theta.sum(axis=1), 1, atol=1e-3)):
        raise UserError("similarity: source_probabilities are not probabilities; give the softmax of the logits")
    return theta


def logme(x: Floats, y: Ints) -> float:
    """Return the mean over classes of (1/N) max log evidence of a Bayesian linear model: LogME, You et al. 2021.

    The best b is known for every ratio t = a/b, which leaves one variable: the paper's fixed point is this maximum.
    One eigendecomposition serves all classes.
    """
    n = len(x)
    targets = np.eye(int(y.max()) + 1)[y]  # (N, K)
    if n <= x.shape[1]:
        values, left = np.linalg.eigh(x @ x.T)
        projected = left.T @ targets
    else:
        values, right = np.linalg.eigh(x.T @ x)
        projected = right.T @ (x.T @ targets) / np.sqrt(np.clip(values, np.finfo(float).tiny, None))[:, None]
    kept = values > max(x.shape) * np.finfo(float).eps * max(float(values.max()), np.finfo(float).tiny)
    values, z2 = values[kept], projected[kept] ** 2  # (R,), (R, K)
    beyond = np.clip((targets**2).sum(axis=0) - z2.sum(axis=0), 1e-10, None)  # (K,) what no weights can fit

    def evidence(log_ratio: float, of: slice) -> Floats:
        ratio = np.exp(log_ratio)
        # |Fm - y|^2 + t |m|^2 at the best m
        misfit = beyond[of] + (ratio / (values + ratio)) @ z2[:, of]
        per_class: Floats = -np.log1p(values / ratio).sum() / 2 - n / 2 * (np.log(2 * np.pi * misfit / n) + 1)
        return per_class

    centre = float(np.log(values.mean())) if len(values) else 0.0
    grid = centre + np.linspace(-25, 25, 101)
    curves = np.array([evidence(each, slice(None)) for each in grid])  # (101, K)
    best = []
    for k, peak in enumerate(curves.argmax(axis=0)):
        around = grid[max(peak - 1, 0)], grid[min(peak + 1, len(grid) - 1)]
        solved = optimize.minimize_scalar(
            lambda t, k=k: -evidence(t, slice(k, k + 1))[0], bounds=around, method="bounded"
        )
        best.append(max(-solved.fun, curves[peak, k]))
    return float(np.mean(best) / n)


def h_score(x: Floats, y: Ints) -> float:
    """Return tr(cov(f)^-1 cov(E[f|y])): Bao et al. 2019, with cov(f) shrunk as Ledoit and Wolf 2004.

    The share that was shrunk away counts nothing, as in the shrinkage H-score of Ibrahim et al. 2022: H could exceed
    K - 1 otherwise. So H is 0 where the features are a sphere to the eye of so few images.
    """
    covariance, shrinkage = ledoit_wolf(x)
    means = (class_means(x, y) - x.mean(axis=0)) * np.sqrt(np.bincount(y) / len(y))[:, None]  # (K, D)
    inverse = np.linalg.pinv(covariance, hermitian=True)
    return float((1 - shrinkage) * np.einsum("kd,de,ke->", means, inverse, means, optimize=True))


def leep(theta: Floats, y: Ints) -> float:
    """Return the mean log of sum_z P(y_i|z) theta(x_i)_z, at most 0: LEEP, Nguyen et al. 2020."""
    joint = np.eye(int(y.max()) + 1)[y].T @ theta / len(y)  # (K, Z)
    marginal = joint.sum(axis=0)
    given = np.divide(joint, marginal, out=np.zeros_like(joint), where=marginal > 0)  # P(y|z)
    return float(np.log((given[y] * theta).sum(axis=1)).mean())


def nce(z: Ints, y: Ints) -> float:
    """Return -H(Y|Z) in nats, at most 0, with z the source's most probable class: NCE, Tran et al. 2019."""
    joint = np.zeros((int(y.max()) + 1, int(z.max()) + 1))
    np.add.at(joint, (y, z), 1 / len(y))
    return float(special.entr(joint.sum(axis=0)).sum() - special.entr(joint).sum())


def gbc(x: Floats, y: Ints) -> float:
    """Return minus the summed overlap exp(-D_B) of all ordered pairs of classes, at most 0: GBC, Pandy et al. 2022.

    Classes are Gaussians with diagonal covariance on 64 principal components, as there.
    """
    mean, axes = principal_axes(x)
    means, deviations = class_gaussians((x - mean) @ axes, y)  # (K, C) each
    overlap = 0.0
    for first in range(len(means)):
        average = (deviations[first] ** 2 + deviations**2) / 2
        far = ((means[first] - means) ** 2 / average).sum(axis=1) / 8
        far += np.log(average / (deviations[first] * deviations)).sum(axis=1) / 2
        overlap += np.exp(-far).sum() - 1  # less that with itself
    return float(-overlap)


def knn(x: Floats, y: Ints) -> float:
    """Return the accuracy of the five nearest other images' majority (the smallest label wins a tie).

    Not scikit-learn's NearestNeighbors: for a thousand images of few features it takes more than twice as long, and of
    neighbours at the same distance it takes others.
    """
    neighbours = min(NEIGHBOURS, len(x) - 1)
    x = x - x.mean(axis=0)
    squares = (x**2).sum(axis=1)
    right = 0
    for first in range(0, len(x), 1000):
        rows = np.arange(first, min(first + 1000, len(x)))
        distance = squares - 2 * x[rows] @ x.T  # less a constant of the row
        distance[np.arange(len(rows)), rows] = np.inf
        nearest = y[np.argpartition(distance, neighbours - 1, axis=1)[:, :neighbours]]
        votes = np.zeros((len(rows), int(y.max()) + 1))
        np.add.at(votes, (np.arange(len(rows))[:, None], nearest), 1)
        right += int((votes.argmax(axis=1) == y[rows]).sum())
    return right / len(x)
