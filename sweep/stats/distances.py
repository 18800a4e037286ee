"""How similar a task is to the source, and how well a depth's features suit its labels. Pure numpy, scipy, sklearn.

distances() compares the images of two tasks as features of one network, place() reads a distance on a scale from "the
source itself" to "no structure at all", scores() rates one depth's features for one task before anything is trained.
No score wins everywhere: they are covariates of a result, not a replacement for it.
"""

import importlib.util
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize, sparse, spatial, special
from sklearn.covariance import ledoit_wolf

from sweep.errors import UserError
from sweep.seeds import stream

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# 0 = alike. Only domain_similarity, exp(-g emd), runs from 0 to 1 = alike. otdd is there where POT is installed.
DISTANCES = ("frechet", "proxy_a", "emd", "domain_similarity", "otdd")
# Higher = the features suit the labels better. leep and nce need the source's class probabilities. Compare tasks of
# different class counts by the corrected ones only: the others encode the class count.
SCORES = (
    *("logme", "h_score", "h_score_corrected", "leep", "leep_corrected", "nce", "nce_corrected"),
    *("gbc", "gbc_corrected", "knn", "knn_corrected"),
)

COMPONENTS = 64  # principal components kept, as GBC's authors do: covariances in 512 dimensions need more images
IMAGES = 1000  # of each side, at most, for the distances that compare images: their time and their bias depend on it
GAMMA = 0.01  # of exp(-g emd); Cui et al. 2018
THRESHOLD = 0.5  # see place()
NEIGHBOURS = 5
FOLDS = 5


class Estimate(NamedTuple):
    """A value and its 95 % bootstrap interval over images."""

    value: float
    low: float
    high: float


class Placement(NamedTuple):
    """Where a task lies: 0 = the source itself, 1 = the control. similar: None where the interval has the threshold."""

    position: float
    low: float
    high: float
    similar: bool | None


# --- distances between two tasks ------------------------------------------------------------------------------


def distances(
    source: npt.ArrayLike,
    target: npt.ArrayLike,
    source_labels: npt.ArrayLike,
    target_labels: npt.ArrayLike,
    *,
    seed: int = 0,
    draws: int = 200,
    only: Collection[str] = DISTANCES,
) -> dict[str, Estimate]:
    """Return how far the target's images lie from the source's, by name (DISTANCES), in units of the features.

    source, target: (N, D) and (M, D) features of one network at one depth. Labels: (N,), (M,) integers. only: which
    distances (emd and domain_similarity come together). All is computed on the first 64 principal components of both
    sides together (with D <= 64 that is a rotation), and on equally many images of each side (1,000 at most) except for
    emd, whose class means take all. Compare with controls of the same sizes (see place).
    raises: UserError for NaN, shapes that do not fit, or fewer than two classes or two images more than classes.
    """
    source, source_labels = _checked(source, source_labels, "source")
    target, target_labels = _checked(target, target_labels, "target")
    if source.shape[1] != target.shape[1]:
        given = f"{source.shape[1]} and {target.shape[1]} features"
        raise UserError(f"similarity: source and target have {given}; take both from one network at one depth")
    if draws < 2:
        raise UserError(f"similarity: draws={draws}; use 2 or more, 200 for a 95 % interval")
    rng = stream(seed, "similarity")
    count = min(len(source), len(target), IMAGES)
    chosen = [np.sort(rng.permutation(len(side))[:count]) for side in (source, target)]
    mean, axes = _principal_axes(np.concatenate([source[chosen[0]], target[chosen[1]]]))
    a, b = (source - mean) @ axes, (target - mean) @ axes  # (N, C), (M, C)
    few_a, few_b = a[chosen[0]], b[chosen[1]]  # (count, C) each
    labels = source_labels[chosen[0]], target_labels[chosen[1]]
    found = {}
    if "frechet" in only:
        found["frechet"] = _frechet(few_a, few_b, rng, draws)
    if "proxy_a" in only:
        found["proxy_a"] = _proxy_a(few_a, few_b, rng, draws)
    if {"emd", "domain_similarity"} & set(only):
        emd = found["emd"] = _emd(a, b, source_labels, target_labels, rng, draws)
        found["domain_similarity"] = Estimate(*(float(np.exp(-GAMMA * emd[place])) for place in (0, 2, 1)))
    if "otdd" in only and importlib.util.find_spec("ot"):
        found["otdd"] = _otdd(few_a, few_b, *labels, rng, draws)
    return found


def place(task: Estimate, near: Estimate, far: Estimate, threshold: float = THRESHOLD) -> Placement:
    """Return where a task's distance lies between that of the source's other half (0) and that of the control (1).

    task, near, far: the same distance at the same depth. near: between two halves of the source's images. far: between
    one half and a control without structure: the source's images, each with its pixels permuted. Position and interval
    are NaN, and similar is None, where the control is not clearly farther than the other half. The interval puts those
    of the three distances together as if they were independent (MOVER: Zou and Donner 2008).

    The distance to decide by is frechet. It sees images alone: the class count is the rule's other question, and emd
    and otdd mix it in. It does not saturate, as proxy_a does. The threshold, 0.5, is the nearer reference: a task is
    similar if it is nearer to the source than to noise. overall() decides over depths.

    Measured, ResNet-18 trained on glyphs_latin, 750 images a side (400 for digits and gratings), frechet after blocks 1
    to 5 (with 200 images block 1 has no position; tests/test_similarity.py checks the glyphs and the gratings): other
    letters of the source .00 -.05 .00 .00 .00; Greek and Cyrillic .25 .11 .21 .36 .50; digits of the same fonts .25 .22
    .24 .47 .77; gratings 4.5 1.9 1.2 1.1 1.1; scanned 8-pixel digits (scikit-learn's) 8.3 1.8 .82 .89 .83, so those are
    measured as not similar, whatever they depict. The last block holds the source's own classes apart, and any new
    class lies between them: there even the same fonts' digits are far.
    """
    span = far.value - near.value
    if far.low <= near.high:
        return _placement(float("nan"), float("nan"), float("nan"), threshold)
    position = (task.value - near.value) / span

    slopes = (1.0, position - 1, -position)  # of the position in task, near and far, times span

    def margin(sign: int) -> float:
        off = [
            slope * ((each.high if sign * slope > 0 else each.low) - each.value)
            for each, slope in zip((task, near, far), slopes, strict=True)
        ]
        return float(np.linalg.norm(off) / span)

    return _placement(position, position - margin(-1), position + margin(1), threshold)


def overall(placements: Sequence[Placement], threshold: float = THRESHOLD) -> Placement:
    """Return the median of the depths' positions and of their bounds: one answer for a network.

    Every block may be frozen, so none is preferred; positions have no unit, so depths can be compared; and a median
    leaves out the blocks that are special: the first, which sees little but colour, and the last, which sees the
    source's classes. Depths without a position do not count.
    """
    known = [each[:3] for each in placements if np.isfinite(each.position)]
    if not known:
        return _placement(float("nan"), float("nan"), float("nan"), threshold)
    # depths share their images, so their errors go together and bounds may be taken one by one
    position, low, high = np.median(known, axis=0)
    return _placement(float(position), float(low), float(high), threshold)


def _placement(position: float, low: float, high: float, threshold: float) -> Placement:
    return Placement(position, low, high, True if high < threshold else False if low > threshold else None)


def _estimate(value: float, draws: Floats, *, biased: bool) -> Estimate:
    """Return the estimate, less its bias if it has one, and the draws' 95 % interval around it.

    A distance between samples is too large by what the noise of either side adds; drawing the images again adds the
    same once more, so it can be taken off (Efron and Tibshirani 1993, chapter 10). No distance is below 0.
    """
    centre = float(draws.mean())
    best = 2 * value - centre if biased else value
    low, high = best + np.percentile(draws, [2.5, 97.5]) - centre
    return Estimate(max(0.0, best), max(0.0, float(low)), max(0.0, float(high)))


def _frechet(a: Floats, b: Floats, rng: np.random.Generator, draws: int) -> Estimate:
    """Return the Frechet distance of the Gaussians fitted to a and b: Dowson and Landau 1982; its square is the FID of
    Heusel et al. 2017.

    Both sides have the same number of images, covariances are shrunk (Ledoit and Wolf 2004) by what the whole sample
    asks for, and the bias that is left is taken off: it falls with one over the images and would make small tasks far.
    """
    picks = np.array([[rng.integers(len(side), size=len(side)) for side in (a, b)] for _ in range(draws)])
    (means_a, covs_a), (means_b, covs_b) = (_gaussians(side, picks[:, place]) for place, side in enumerate((a, b)))
    squared = _frechet_squared(means_a, covs_a, means_b, covs_b)
    found = _estimate(float(squared[0]), squared[1:], biased=True)
    return Estimate(*(float(np.sqrt(each)) for each in found))


def _gaussians(side: Floats, picks: Ints) -> tuple[Floats, Floats]:
    """Return means (1 + R, C) and shrunk covariances (1 + R, C, C): of all rows, then of each (N,) of the R picks."""
    amount = ledoit_wolf(side)[1]
    counts = [np.ones(len(side)), *(np.bincount(pick, minlength=len(side)) for pick in picks)]
    weights = np.stack(counts) / len(side)
    mean = side.mean(axis=0)
    centred = side - mean
    shifts = weights @ centred
    products = weights @ (centred[:, :, None] * centred[:, None]).reshape(len(side), -1)  # one product for all picks
    covariances = products.reshape(len(weights), *shifts.shape[1:], -1) - shifts[:, :, None] * shifts[:, None]
    variances = np.trace(covariances, axis1=1, axis2=2)[:, None, None] / side.shape[1]
    return mean + shifts, (1 - amount) * covariances + amount * variances * np.eye(side.shape[1])


def _frechet_squared(means_a: Floats, covs_a: Floats, means_b: Floats, covs_b: Floats) -> Floats:
    """Return |m - n|^2 + tr(S + T - 2 (S^1/2 T S^1/2)^1/2) of R pairs (R,): means (R, C), covariances (R, C, C)."""
    roots = _roots(covs_a)
    products = np.linalg.eigvalsh(roots.transpose(0, 2, 1) @ covs_b @ roots)  # symmetric: their eigenvalues are real
    traces = np.trace(covs_a, axis1=1, axis2=2) + np.trace(covs_b, axis1=1, axis2=2)
    shared = np.sqrt(np.clip(products, 0, None)).sum(axis=1)
    squared: Floats = np.sum((means_a - means_b) ** 2, axis=1) + traces - 2 * shared
    return squared


def _roots(covariances: Floats) -> Floats:
    """Return an L with L L^T = S for each S; whichever it is, L^T T L has the eigenvalues of S^1/2 T S^1/2."""
    try:
        roots = np.asarray(np.linalg.cholesky(covariances), float)
    except np.linalg.LinAlgError:  # one is singular
        values, vectors = np.linalg.eigh(covariances)
        roots = vectors * np.sqrt(np.clip(values, 0, None))[:, None]
    return roots


def _proxy_a(a: Floats, b: Floats, rng: np.random.Generator, draws: int) -> Estimate:
    """Return 2 (1 - 2e), e: the error of telling the sides apart (Ben-David et al. 2007); 0 = not at all, 2 = always.

    The linear classifier is Fisher's, with shrunk covariance, and e is from five-fold cross-validation. The interval
    draws held-out answers, not classifiers. It saturates: at 2 it no longer tells far from farther.
    """
    folds = [rng.permutation(len(side)) % min(FOLDS, len(side)) for side in (a, b)]
    wrong = np.zeros((2, len(a)))
    for fold in range(min(FOLDS, len(a))):
        train_a, train_b = a[folds[0] != fold], b[folds[1] != fold]
        mean_a, mean_b = train_a.mean(axis=0), train_b.mean(axis=0)
        within = np.concatenate([train_a - mean_a, train_b - mean_b])
        weights = np.linalg.pinv(ledoit_wolf(within, assume_centered=True)[0], hermitian=True) @ (mean_b - mean_a)
        middle = (mean_a + mean_b) / 2
        wrong[0, folds[0] == fold] = (a[folds[0] == fold] - middle) @ weights > 0
        wrong[1, folds[1] == fold] = (b[folds[1] == fold] - middle) @ weights <= 0
    errors = rng.binomial(len(a), wrong.mean(axis=1), size=(draws, 2)).mean(axis=1) / len(a)
    return _estimate(float(2 * (1 - 2 * wrong.mean())), 2 * (1 - 2 * errors), biased=False)


def _emd(a: Floats, b: Floats, labels_a: Ints, labels_b: Ints, rng: np.random.Generator, draws: int) -> Estimate:
    """Return the earth mover's distance of the class means, weighted by the classes' shares: Cui et al. 2018.

    Draws are stratified by class. They move the means and keep the value's own plan, which is right to first order
    (envelope theorem) and needs one linear programme instead of one per draw. Between tasks that are the same, some of
    the noise of the means stays in the value: it is read beside that of two halves.
    """
    weights_a, weights_b = (np.bincount(labels) / len(labels) for labels in (labels_a, labels_b))
    means_a, means_b = _class_means(a, labels_a), _class_means(b, labels_b)
    plan = transport(weights_a, weights_b, spatial.distance.cdist(means_a, means_b))
    rows, columns = np.nonzero(plan)

    def along(x: Floats, y: Floats) -> float:
        return float(plan[rows, columns] @ np.linalg.norm(x[rows] - y[columns], axis=1))

    drawn = [along(_drawn_means(a, labels_a, rng), _drawn_means(b, labels_b, rng)) for _ in range(draws)]
    return _estimate(along(means_a, means_b), np.array(drawn), biased=True)


def transport(a: Floats, b: Floats, costs: Floats) -> Floats:
    """Return the exact optimal plan (K, L) that moves the weights a (K,) to b (L,) at these costs (K, L)."""
    rows = sparse.kron(sparse.eye(len(a)), np.ones((1, len(b))))
    columns = sparse.kron(np.ones((1, len(a))), sparse.eye(len(b)))
    # the solver's tolerances are absolute
    scaled = costs.ravel() / max(float(costs.max()), np.finfo(float).tiny)
    ends = np.concatenate([a, b])
    solved = optimize.linprog(scaled, A_eq=sparse.vstack([rows, columns], format="csc"), b_eq=ends, method="highs")
    if solved.x is None:
        raise RuntimeError(f"the linear programme of {costs.shape} was not solved: {solved.message}")
    plan: Floats = solved.x.reshape(costs.shape)
    return plan


def _otdd(a: Floats, b: Floats, labels_a: Ints, labels_b: Ints, rng: np.random.Generator, draws: int) -> Estimate:
    """Return the optimal transport distance of the two data sets: Alvarez-Melis and Fusi 2020.

    The squared cost of two images is the squared distance of their features plus that of their classes, which are
    Gaussians with diagonal covariance in the principal axes. Draws move the weights and keep the dual potentials,
    right to first order (Sommerfeld and Munk 2018). It is not 0 for two halves of one task: compare with place().
    """
    import ot

    (_, a_of), (_, b_of) = (np.unique(labels, return_inverse=True) for labels in (labels_a, labels_b))
    classes_a, classes_b = (np.hstack(_class_gaussians(x, y)) for x, y in ((a, a_of), (b, b_of)))  # mean, deviation
    between = spatial.distance.cdist(classes_a, classes_b, "sqeuclidean")
    costs = spatial.distance.cdist(a, b, "sqeuclidean") + between[np.ix_(a_of, b_of)]
    uniform = np.full(len(a), 1 / len(a))
    value, log = ot.emd2(uniform, uniform, costs, numItermax=10_000_000, log=True)
    shares = rng.multinomial(len(a), uniform, size=(2, draws)) / len(a)  # (2, draws, images)
    found = _estimate(float(value), shares[0] @ log["u"] + shares[1] @ log["v"], biased=False)
    return Estimate(*(float(np.sqrt(each)) for each in found))


# --- scores of one depth for one task -------------------------------------------------------------------------


def scores(
    features: npt.ArrayLike, labels: npt.ArrayLike, source_probabilities: npt.ArrayLike | None = None
) -> dict[str, float]:
    """Return the transferability scores of one depth's features, by name (SCORES); higher is better.

    features: (N, D). labels: (N,) integers. source_probabilities: (N, Z), the source's class probabilities for the
    same images; without them there is no leep and no nce.
    raises: UserError for NaN, shapes that do not fit, or fewer than two classes or no more images than classes.

    >>> features, labels = np.repeat(np.eye(2), 10, axis=0), np.repeat([0, 1], 10)
    >>> scores(features, labels)["knn_corrected"]
    1.0
    """
    x, y = _checked(features, labels, "features")
    classes = int(y.max()) + 1
    shares = np.bincount(y) / len(y)
    h, overlap, right = _h_score(x, y), _gbc(x, y), _knn(x, y)
    found = {
        "logme": _logme(x, y),
        "h_score": h,
        "h_score_corrected": h / (classes - 1),
        "gbc": overlap,
        "gbc_corrected": overlap / (classes * (classes - 1)),
        "knn": right,
        # against always naming the commonest class
        "knn_corrected": float((right - shares.max()) / (1 - shares.max())),
    }
    if source_probabilities is not None:
        theta = np.asarray(source_probabilities, dtype=np.float64)
        if theta.ndim != 2 or len(theta) != len(y):
            raise UserError(f"similarity: source_probabilities has shape {theta.shape}; use ({len(y)}, source classes)")
        if not (np.isfinite(theta).all() and (theta >= 0).all() and np.allclose(theta.sum(axis=1), 1, atol=1e-3)):
            raise UserError("similarity: source_probabilities are not probabilities; give the softmax of the logits")
        entropy = float(special.entr(shares).sum())
        leep, nce = _leep(theta, y), _nce(theta.argmax(axis=1), y)
        found |= {"leep": leep, "leep_corrected": 1 + leep / entropy, "nce": nce, "nce_corrected": 1 + nce / entropy}
    return {name: found[name] for name in SCORES if name in found}


def _logme(x: Floats, y: Ints) -> float:
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


def _h_score(x: Floats, y: Ints) -> float:
    """Return tr(cov(f)^-1 cov(E[f|y])): Bao et al. 2019, with cov(f) shrunk as Ledoit and Wolf 2004.

    The share that was shrunk away counts nothing, as in the shrinkage H-score of Ibrahim et al. 2022: H could exceed
    K - 1 otherwise. So H is 0 where the features are a sphere to the eye of so few images.
    """
    covariance, shrinkage = ledoit_wolf(x)
    means = (_class_means(x, y) - x.mean(axis=0)) * np.sqrt(np.bincount(y) / len(y))[:, None]  # (K, D)
    inverse = np.linalg.pinv(covariance, hermitian=True)
    return float((1 - shrinkage) * np.einsum("kd,de,ke->", means, inverse, means, optimize=True))


def _leep(theta: Floats, y: Ints) -> float:
    """Return the mean log of sum_z P(y_i|z) theta(x_i)_z, at most 0: LEEP, Nguyen et al. 2020."""
    joint = np.eye(int(y.max()) + 1)[y].T @ theta / len(y)  # (K, Z)
    marginal = joint.sum(axis=0)
    given = np.divide(joint, marginal, out=np.zeros_like(joint), where=marginal > 0)  # P(y|z)
    return float(np.log((given[y] * theta).sum(axis=1)).mean())


def _nce(z: Ints, y: Ints) -> float:
    """Return -H(Y|Z) in nats, at most 0, with z the source's most probable class: NCE, Tran et al. 2019."""
    joint = np.zeros((int(y.max()) + 1, int(z.max()) + 1))
    np.add.at(joint, (y, z), 1 / len(y))
    return float(special.entr(joint.sum(axis=0)).sum() - special.entr(joint).sum())


def _gbc(x: Floats, y: Ints) -> float:
    """Return minus the summed overlap exp(-D_B) of all ordered pairs of classes, at most 0: GBC, Pandy et al. 2022.

    Classes are Gaussians with diagonal covariance on 64 principal components, as there.
    """
    mean, axes = _principal_axes(x)
    means, deviations = _class_gaussians((x - mean) @ axes, y)  # (K, C) each
    overlap = 0.0
    for first in range(len(means)):
        average = (deviations[first] ** 2 + deviations**2) / 2
        far = ((means[first] - means) ** 2 / average).sum(axis=1) / 8
        far += np.log(average / (deviations[first] * deviations)).sum(axis=1) / 2
        overlap += np.exp(-far).sum() - 1  # less that with itself
    return float(-overlap)


def _knn(x: Floats, y: Ints) -> float:
    """Return the accuracy of the five nearest other images' majority (the smallest label wins a tie)."""
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


# --- shared ---------------------------------------------------------------------------------------------------


def _checked(features: npt.ArrayLike, labels: npt.ArrayLike, name: str) -> tuple[Floats, Ints]:
    """Return float64 features (N, D) and labels renumbered from 0 without gaps (N,)."""
    x, y = np.asarray(features, dtype=np.float64), np.asarray(labels)
    if x.ndim != 2 or y.shape != x.shape[:1]:
        given = f"{name} of shape {x.shape} with labels of shape {y.shape}"
        raise UserError(f"similarity: {given}; use pooled features (N, D) and labels (N,)")
    if not np.isfinite(x).all():
        raise UserError(f"similarity: {name} has values that are not finite; look at the images and the weights")
    classes, numbers = np.unique(y, return_inverse=True)
    if len(classes) < 2 or len(x) <= len(classes):
        given = f"{len(x)} images of {len(classes)} classes"
        raise UserError(f"similarity: {name} has {given}; use two classes or more, and more images than classes")
    return x, numbers.astype(np.int64)


def _principal_axes(x: Floats) -> tuple[Floats, Floats]:
    """Return the mean (D,) and the first 64 principal axes (D, C), largest variance first."""
    mean = x.mean(axis=0)
    centred = x - mean
    count = min(COMPONENTS, *x.shape)
    size = min(x.shape)
    small = centred @ centred.T if len(x) < x.shape[1] else centred.T @ centred
    values, vectors = linalg.eigh(small, subset_by_index=(size - count, size - 1))
    if len(x) < x.shape[1]:
        least = max(len(x) * np.finfo(float).eps * values[-1], np.finfo(float).tiny)  # below it lies no axis, but noise
        vectors = centred.T @ vectors / np.sqrt(np.maximum(values, least))
    axes: Floats = vectors[:, ::-1]
    return mean, axes


def _class_means(x: Floats, y: Ints) -> Floats:
    """Return the means (K, D) of the classes 0..K-1."""
    counts = np.bincount(y)
    means: Floats = sparse.csr_array((1 / counts[y], (y, np.arange(len(y)))), shape=(len(counts), len(y))) @ x
    return means


def _class_gaussians(x: Floats, y: Ints) -> tuple[Floats, Floats]:
    """Return the classes' means and standard deviations, (K, D) each.

    A class of one image has no spread of its own and takes that of all classes. No spread is below a thousandth of
    the features' own: a constant feature would divide by 0.
    """
    means, counts = _class_means(x, y), np.bincount(y)
    within = (x - means[y]) ** 2
    variances = _class_means(within, y)
    variances[counts == 1] = within.mean(axis=0)
    floor = max(1e-6 * float(x.var(axis=0).mean()), np.finfo(float).tiny)
    return means, np.sqrt(np.maximum(variances, floor))


def _drawn_means(x: Floats, y: Ints, rng: np.random.Generator) -> Floats:
    """Return the class means (K, D) of as many images of each class, drawn with replacement."""
    counts = np.bincount(y)
    order = np.argsort(y, kind="stable")
    drawn = (rng.random(len(y)) * np.repeat(counts, counts)).astype(np.int64)
    rows = order[np.repeat(np.cumsum(counts) - counts, counts) + drawn]
    return _class_means(x[rows], y[order])
