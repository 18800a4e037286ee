"""How similar a task is to the source, from the features of one network. Pure numpy, scipy and scikit-learn.

distances() compares the images of two tasks; place() reads a distance on a scale from "the source itself" to "no
structure at all"; overall() gives one answer for all depths.
"""

import importlib.util
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, sparse, spatial
from sklearn.covariance import ledoit_wolf

from sweep.errors import UserError
from sweep.seeds import stream
from sweep.stats.features import Sample, checked, class_gaussians, class_means, principal_axes
from sweep.stats.types import Floats, Ints

# 0 = alike. Only domain_similarity, exp(-g emd), runs from 0 to 1 = alike. otdd is there where POT is installed.
DISTANCES = ("frechet", "proxy_a", "emd", "domain_similarity", "otdd")

IMAGES = 1000  # of each side, at most, for the distances that compare images: their time and their bias depend on it
GAMMA = 0.01  # of exp(-g emd); Cui et al. 2018
THRESHOLD = 0.5  # see place()
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


def distances(
    source: Sample,
    target: Sample,
    *,
    seed: int = 0,
    draws: int = 200,
    only: Collection[str] = DISTANCES,
) -> dict[str, Estimate]:
    """Return how far the target's images lie from the source's, by name (DISTANCES), in units of the features.

    source, target: of one network at one depth.
    draws: of the bootstrap.
    only: which distances; emd and domain_similarity come together.
    raises: UserError for NaN, shapes that do not fit, fewer than two classes, or no more images than classes.

    All is computed on the first 64 principal components of both sides together (with D <= 64 that is a rotation), and
    on equally many images of each side (1,000 at most) except for emd, whose class means take all. Compare with
    controls of the same sizes (see place).
    """
    x, x_labels = checked(source, "source")
    y, y_labels = checked(target, "target")
    if x.shape[1] != y.shape[1]:
        given = f"{x.shape[1]} and {y.shape[1]} features"
        raise UserError(f"similarity: source and target have {given}; take both from one network at one depth")
    if draws < 2:
        raise UserError(f"similarity: draws={draws}; use 2 or more, 200 for a 95 % interval")
    rng = stream(seed, "similarity")
    count = min(len(x), len(y), IMAGES)
    rows_x, rows_y = (np.sort(rng.permutation(len(side))[:count]) for side in (x, y))
    mean, axes = principal_axes(np.concatenate([x[rows_x], y[rows_y]]))
    a, b = (x - mean) @ axes, (y - mean) @ axes  # (N, C), (M, C)
    few_a, few_b = a[rows_x], b[rows_y]  # (count, C) each
    found = {}
    if "frechet" in only:
        found["frechet"] = frechet(few_a, few_b, rng, draws)
    if "proxy_a" in only:
        found["proxy_a"] = proxy_a(few_a, few_b, rng, draws)
    if {"emd", "domain_similarity"} & set(only):
        moved = found["emd"] = emd(a, b, x_labels, y_labels, rng, draws)
        value, high, low = (float(np.exp(-GAMMA * each)) for each in moved)  # what is farther is less similar
        found["domain_similarity"] = Estimate(value, low, high)
    if "otdd" in only and importlib.util.find_spec("ot"):
        found["otdd"] = otdd(few_a, few_b, x_labels[rows_x], y_labels[rows_y], rng, draws)
    return found


def place(task: Estimate, near: Estimate, far: Estimate, threshold: float = THRESHOLD) -> Placement:
    """Return where a task's distance lies between that of the source's other half (0) and that of the control (1).

    task, near, far: the same distance at the same depth.
    near: between two halves of the source's images.
    far: between one half and a control without structure: the source's images, each with its pixels permuted.

    Position and interval are NaN, and similar is None, where the control is not clearly farther than the other half.
    The interval puts those of the three distances together as if they were independent (MOVER: Zou and Donner 2008).

    The distance to decide by is frechet. It sees images alone: the class count is the rule's other question, and emd
    and otdd mix it in. It does not saturate, as proxy_a does. The threshold, 0.5, is the nearer reference: a task is
    similar if it is nearer to the source than to noise. overall() decides over depths.
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


def frechet(a: Floats, b: Floats, rng: np.random.Generator, draws: int) -> Estimate:
    """Return the Frechet distance of the Gaussians fitted to a and b: Dowson and Landau 1982; its square is the FID of
    Heusel et al. 2017.

    Both sides have the same number of images, covariances are shrunk (Ledoit and Wolf 2004) by what the whole sample
    asks for, and the bias that is left is taken off: it falls with one over the images and would make small tasks far.
    """
    picks = np.array([[rng.integers(len(side), size=len(side)) for side in (a, b)] for _ in range(draws)])
    (means_a, covs_a), (means_b, covs_b) = (gaussians(side, picks[:, index]) for index, side in enumerate((a, b)))
    squared = frechet_squared(means_a, covs_a, means_b, covs_b)
    found = _estimate(float(squared[0]), squared[1:], biased=True)
    return Estimate(*(float(np.sqrt(each)) for each in found))


def gaussians(side: Floats, picks: Ints) -> tuple[Floats, Floats]:
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


def frechet_squared(means_a: Floats, covs_a: Floats, means_b: Floats, covs_b: Floats) -> Floats:
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


def proxy_a(a: Floats, b: Floats, rng: np.random.Generator, draws: int) -> Estimate:
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


def emd(a: Floats, b: Floats, labels_a: Ints, labels_b: Ints, rng: np.random.Generator, draws: int) -> Estimate:
    """Return the earth mover's distance of the class means, weighted by the classes' shares: Cui et al. 2018.

    Draws are stratified by class. They move the means and keep the value's own plan, which is right to first order
    (envelope theorem) and needs one linear programme instead of one per draw. Between tasks that are the same, some of
    the noise of the means stays in the value: it is read beside that of two halves.
    """
    weights_a, weights_b = (np.bincount(labels) / len(labels) for labels in (labels_a, labels_b))
    means_a, means_b = class_means(a, labels_a), class_means(b, labels_b)
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


def otdd(a: Floats, b: Floats, labels_a: Ints, labels_b: Ints, rng: np.random.Generator, draws: int) -> Estimate:
    """Return the optimal transport distance of the two data sets: Alvarez-Melis and Fusi 2020.

    The squared cost of two images is the squared distance of their features plus that of their classes, which are
    Gaussians with diagonal covariance in the principal axes. Draws move the weights and keep the dual potentials,
    right to first order (Sommerfeld and Munk 2018). It is not 0 for two halves of one task: compare with place().
    """
    ot = importlib.import_module("ot")  # an optional package, which imports torch

    (_, a_of), (_, b_of) = (np.unique(labels, return_inverse=True) for labels in (labels_a, labels_b))
    classes_a, classes_b = (np.hstack(class_gaussians(x, y)) for x, y in ((a, a_of), (b, b_of)))  # mean, deviation
    between = spatial.distance.cdist(classes_a, classes_b, "sqeuclidean")
    costs = spatial.distance.cdist(a, b, "sqeuclidean") + between[np.ix_(a_of, b_of)]
    uniform = np.full(len(a), 1 / len(a))
    value, log = ot.emd2(uniform, uniform, costs, numItermax=10_000_000, log=True)
    shares = rng.multinomial(len(a), uniform, size=(2, draws)) / len(a)  # (2, draws, images)
    found = _estimate(float(value), shares[0] @ log["u"] + shares[1] @ log["v"], biased=False)
    return Estimate(*(float(np.sqrt(each)) for each in found))


def _drawn_means(x: Floats, y: Ints, rng: np.random.Generator) -> Floats:
    """Return the class means (K, D) of as many images of each class, drawn with replacement."""
    counts = np.bincount(y)
    order = np.argsort(y, kind="stable")
    drawn = (rng.random(len(y)) * np.repeat(counts, counts)).astype(np.int64)
    rows = order[np.repeat(np.cumsum(counts) - counts, counts) + drawn]
    return class_means(x[rows], y[order])
