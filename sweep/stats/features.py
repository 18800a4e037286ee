"""What distances and transferability scores ask of features: checked, in principal axes, per class."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from sweep.errors import UserError
from sweep.stats.types import Floats, Ints

COMPONENTS = 64  # principal components kept, as GBC's authors do: covariances in 512 dimensions need more images


class Sample(NamedTuple):
    """Images of one task as features (N, D) of one network at one depth, and their labels (N,), integers."""

    features: npt.ArrayLike
    labels: npt.ArrayLike


def checked(sample: Sample, name: str) -> tuple[Floats, Ints]:
    """Return float64 features (N, D) and labels renumbered from 0 without gaps (N,).

    raises: UserError for NaN, shapes that do not fit, fewer than two classes, or no more images than classes.
    """
    x, y = np.asarray(sample.features, dtype=np.float64), np.asarray(sample.labels)
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


def principal_axes(x: Floats) -> tuple[Floats, Floats]:
    """Return the mean (D,) and the first 64 principal axes (D, C), largest variance first.

    Not scikit-learn's PCA: its exact solvers find all axes, of which this asks for the first 64 only.
    """
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


def class_means(x: Floats, y: Ints) -> Floats:
    """Return the means (K, D) of the classes 0..K-1."""
    counts = np.bincount(y)
    means: Floats = sparse.csr_array((1 / counts[y], (y, np.arange(len(y)))), shape=(len(counts), len(y))) @ x
    return means


def class_gaussians(x: Floats, y: Ints) -> tuple[Floats, Floats]:
    """Return the classes' means and standard deviations, (K, D) each.

    A class of one image has no spread of its own and takes that of all classes. No spread is below a thousandth of
    the features' own: a constant feature would divide by 0.
    """
    means, counts = class_means(x, y), np.bincount(y)
    within = (x - means[y]) ** 2
    variances = class_means(within, y)
    variances[counts == 1] = within.mean(axis=0)
    floor = max(1e-6 * float(x.var(axis=0).mean()), np.finfo(float).tiny)
    return means, np.sqrt(np.maximum(variances, floor))
