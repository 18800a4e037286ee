import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import linalg, optimize, spatial, stats
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import KNeighborsClassifier

from sweep.config import BatchNorm, DataConfig, SourceConfig, Unit
from sweep.data import task as data
from sweep.errors import UserError
from sweep.models import build as models
from sweep.models import frozen as freeze
from sweep.plan import sources as source
from sweep.runs.session import Session
from sweep.stats import distances as distance
from sweep.stats import transfer
from sweep.stats.distances import DISTANCES, Estimate, Placement, distances, overall, place
from sweep.stats.features import Sample
from sweep.stats.transfer import SCORES, scores
from sweep.stats.types import Floats, Ints


def blobs(classes: int, images: int, gap: float, *, shift: float = 0.0, seed: int = 0) -> tuple[Floats, Ints]:
    """Return Gaussian classes, `images` each, whose centres are `gap` times standard normal."""
    centres = gap * np.random.default_rng(99).standard_normal((classes, 6))
    labels = np.repeat(np.arange(classes), images)
    noise = np.random.default_rng(seed).standard_normal((len(labels), 6))
    return centres[labels] + noise + shift, labels


def rotation(dims: int) -> Floats:
    turned: Floats = stats.ortho_group.rvs(dims, random_state=0)
    return turned


# --- distances ------------------------------------------------------------------------------------------------


def test_frechet_is_the_formula_with_a_matrix_root() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((50, 5)) @ rng.standard_normal((5, 5)), rng.standard_normal((50, 5)) + 2
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    (found,) = distance.frechet_squared(a.mean(0)[None], s[None], b.mean(0)[None], t[None])
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s + t - 2 * linalg.sqrtm(s @ t).real)
    assert found == pytest.approx(expected)


def test_draws_are_fitted_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    side = rng.standard_normal((30, 4)) + 5
    picks = rng.integers(30, size=(3, 30))
    means, covariances = distance.gaussians(side, picks)
    for mean, covariance, rows in zip(means, covariances, [np.arange(30), *picks], strict=True):
        np.testing.assert_allclose(mean, side[rows].mean(axis=0))
        amount = LedoitWolf().fit(side).shrinkage_
        plain = np.cov(side[rows].T, bias=True)
        ridge = np.trace(plain) / 4 * np.eye(4)
        np.testing.assert_allclose(covariance, (1 - amount) * plain + amount * ridge, atol=1e-12)


def test_frechet_of_singular_covariances_is_finite_and_right() -> None:
    line = np.diag([1.0, 0.0])  # turned by 90 degrees: nothing in common
    means, others = np.zeros((2, 2)), np.array([[0.0, 0.0], [3.0, 0.0]])
    found = distance.frechet_squared(means, np.array([line, line]), others, np.array([line, np.diag([0.0, 4.0])]))
    assert found == pytest.approx([0, 14])


@pytest.mark.parametrize("images", [40, 1000])
def test_frechet_finds_the_true_distance_whatever_the_number_of_images(images: int) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((images, 8)), rng.standard_normal((images, 8)) + 0.5
    found = distance.frechet(a, b, rng, 200)
    assert found.low < np.sqrt(8 * 0.25) < found.high
    moments = (each[None] for side in (a, b) for each in (side.mean(0), np.cov(side.T)))
    plain = distance.frechet_squared(*moments)[0] ** 0.5
    assert abs(found.value - np.sqrt(2)) < 0.25
    assert found.value < plain  # the bias that was taken off


def test_intervals_hold_the_true_frechet_distance_about_as_often_as_they_say() -> None:
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        a, b = rng.standard_normal((100, 4)), rng.standard_normal((100, 4)) * 1.5 + 1
        found = distance.frechet(a, b, rng, 100)
        held += found.low <= np.sqrt(4 + 4 * 0.25) <= found.high
    assert held >= 51  # 57 of 60 are expected; fewer than 51 with p < .01


def test_two_halves_are_at_0_and_a_far_task_is_not() -> None:
    x, y = blobs(4, 200, 3)
    z, w = blobs(4, 200, 3, seed=1)
    found = distances(Sample(x, y), Sample(z, w))
    assert found["frechet"].low == 0
    assert found["frechet"].value < 0.3
    assert found["proxy_a"].value < 0.15
    assert found["emd"].value < 0.3
    assert found["domain_similarity"].value > 0.99
    far = distances(Sample(x, y), Sample(z + 20, w))
    for name in set(found) - {"domain_similarity"}:
        assert far[name].low > found[name].high
    assert far["proxy_a"].value == 2
    assert far["domain_similarity"].high < found["domain_similarity"].low


def test_distances_grow_with_the_shift() -> None:
    x, y = blobs(3, 100, 2)
    found = [
        distances(Sample(x, y), Sample(*blobs(3, 100, 2, shift=shift, seed=1)), draws=20)
        for shift in (0.0, 0.5, 1.0, 2.0)
    ]
    for name in set(found[0]) - {"domain_similarity", "proxy_a"}:
        assert np.all(np.diff([each[name].value for each in found]) > 0), name
    assert np.all(np.diff([each["proxy_a"].value for each in found]) >= 0)


def test_distances_do_not_see_rotations_or_the_names_of_labels() -> None:
    x, y = blobs(3, 40, 2)
    z, w = blobs(4, 30, 2, shift=1.0, seed=1)
    turn = rotation(x.shape[1])
    found, turned = (
        distances(Sample(x, y), Sample(z, w)),
        distances(Sample(x @ turn, np.array([7, -1, 5])[y]), Sample(z @ turn, 3 - w)),
    )
    for name in ("frechet", "proxy_a", "emd", "otdd"):
        assert turned[name].value == pytest.approx(found[name].value, rel=0.02), name  # emd's draws are by class


def test_distances_are_fixed_by_the_seed() -> None:
    (x, y), (z, w) = blobs(3, 40, 2), blobs(3, 30, 2, seed=1)
    assert distances(Sample(x, y), Sample(z, w)) == distances(Sample(x, y), Sample(z, w))
    assert distances(Sample(x, y), Sample(z, w)) != distances(Sample(x, y), Sample(z, w), seed=1)


def test_emd_by_hand() -> None:
    # Three quarters of the source lie at 0, a quarter at 4; the target half at 0, half at 4: a quarter moves by 4.
    x, y = np.array([[0.0], [0.0], [0.0], [4.0]]), np.array([0, 0, 0, 1])
    z, w = np.array([[0.0], [0.0], [4.0], [4.0]]), np.array([0, 0, 1, 1])
    found = distances(Sample(x, y), Sample(z, w))
    assert found["emd"].value == pytest.approx(1)
    assert found["domain_similarity"].value == pytest.approx(np.exp(-0.01))


def test_transport_is_exact() -> None:
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(0)
    a, b, costs = rng.dirichlet(np.ones(7)), rng.dirichlet(np.ones(11)), rng.random((7, 11))
    plan = distance.transport(a, b, costs)
    assert plan.sum(1) == pytest.approx(a)
    assert plan.sum(0) == pytest.approx(b)
    assert (plan * costs).sum() == pytest.approx(ot.emd2(a, b, costs))


def test_proxy_a_is_the_error_of_the_best_line() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((1000, 3)), rng.normal([2, 0, 0], size=(1000, 3))
    found = distance.proxy_a(a, b, rng, 200)
    best = 2 * (1 - 2 * stats.norm.cdf(-1))  # two unit Gaussians two apart
    assert found.low < best < found.high
    assert found.value == pytest.approx(best, abs=0.08)


def test_otdd_is_transport_with_the_distance_of_the_classes_gaussians() -> None:
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((20, 1)), rng.standard_normal((20, 1)) * 2 + 3
    y, w = np.arange(20) % 2, np.arange(20) % 4

    def gaussian(x: Floats) -> tuple[Floats, Floats]:
        return x.mean(axis=0), np.cov(x.T, bias=True).reshape(1, 1)

    def apart(p: Floats, q: Floats) -> float:
        (m, s), (n, t) = gaussian(p), gaussian(q)
        return float(ot.gaussian.bures_wasserstein_distance(m, n, s, t))

    between = np.array([[apart(a[y == k], b[w == other]) for other in range(4)] for k in range(2)])
    costs = spatial.distance.cdist(a, b) ** 2 + between[y][:, w] ** 2
    rows, columns = optimize.linear_sum_assignment(costs)
    found = distance.otdd(a, b, y, w, rng, 50)
    assert found.value == pytest.approx(np.sqrt(costs[rows, columns].mean()))
    assert found.low < found.value < found.high


def test_otdd_is_absent_without_pot(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = blobs(3, 20, 2)
    assert tuple(distances(Sample(x, y), Sample(x, y), draws=5)) == DISTANCES
    monkeypatch.setitem(sys.modules, "ot", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert tuple(distances(Sample(x, y), Sample(x, y), draws=5)) == DISTANCES[:-1]


# --- the scale ------------------------------------------------------------------------------------------------


def test_place_by_hand() -> None:
    near, far = Estimate(1, 1, 1), Estimate(5, 5, 5)
    assert place(Estimate(2, 1.5, 2.5), near, far) == (0.25, 0.125, 0.375, True)
    assert place(Estimate(4, 3.5, 4.5), near, far) == (0.75, 0.625, 0.875, False)
    assert place(Estimate(3, 2.5, 3.5), near, far) == (0.5, 0.375, 0.625, None)
    assert place(Estimate(3, 2.5, 3.5), near, far, threshold=0.7).similar is True
    # at half of the span the references count half each: 0.5 * hypot(2, 2, 0) / 4, upward where near is lower
    wide = place(Estimate(3, 3, 3), Estimate(1, -1, 1), Estimate(5, 3, 5))
    assert (wide.low, wide.high) == pytest.approx((0.5, 0.5 + np.hypot(1, 1) / 4))


def test_no_scale_where_the_control_is_as_near_as_the_source() -> None:
    found = place(Estimate(3, 2, 4), Estimate(1, 0, 2), Estimate(2.5, 1.9, 3))
    assert np.isnan(found.position)
    assert found.similar is None
    assert overall([found]).similar is None


def test_overall_is_the_median_of_the_depths_that_have_a_position() -> None:
    near, far, none = Estimate(0, 0, 0), Estimate(1, 1, 1), Estimate(0, 0, 2)
    depths = [place(Estimate(at, at - 0.1, at + 0.1), near, far) for at in (0.2, 0.3, 0.9)]
    assert overall([*depths, place(far, none, far)]) == pytest.approx((0.3, 0.2, 0.4, True))
    assert overall(depths, threshold=0.35).similar is None
    assert overall(depths[2:]).similar is False


# --- scores ---------------------------------------------------------------------------------------------------


def log_evidence(x: Floats, y: Floats, a: float, b: float) -> float:
    """Return the log density of y under N(0, 1/b + xx'/a): the same evidence, written without m."""
    return float(stats.multivariate_normal.logpdf(y, np.zeros(len(y)), np.eye(len(y)) / b + x @ x.T / a))


@pytest.mark.parametrize(("images", "dims"), [(40, 3), (20, 30)])
def test_logme_is_the_largest_evidence(images: int, dims: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((images, dims)), np.arange(images) % 3
    x[:, 0] += 2 * y
    best = []
    for k in range(3):
        tries = [
            optimize.minimize(
                lambda logs, k=k: -log_evidence(x, (y == k).astype(float), *np.exp(logs)), start, method="Nelder-Mead"
            ).fun
            for start in ([0, 0], [3, 1], [-3, 3])
        ]
        best.append(-min(tries) / images)
    assert transfer.logme(x, y) == pytest.approx(np.mean(best), abs=1e-5)


def test_h_score_is_the_formula_with_sklearns_shrinkage() -> None:
    x, y = blobs(4, 15, 1)
    fitted = LedoitWolf().fit(x)
    means = np.array([x[y == label].mean(0) for label in y])
    expected = (1 - fitted.shrinkage_) * np.trace(np.linalg.inv(fitted.covariance_) @ np.cov(means.T, bias=True))
    assert transfer.h_score(x, y) == pytest.approx(expected)
    apart = scores(*blobs(4, 50, 100))
    assert apart["h_score"] == pytest.approx(3, rel=0.02)  # K - 1 at most
    assert apart["h_score_corrected"] == pytest.approx(1, rel=0.02)


def test_leep_and_nce_by_hand() -> None:
    # z = 0 holds labels 0, 0, 1; z = 1 holds label 1
    theta = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = scores(np.arange(8.0).reshape(4, 2), np.array([0, 0, 1, 1]), theta)
    conditional = (3 / 4) * (np.log(3) - (2 / 3) * np.log(2))
    assert found["nce"] == pytest.approx(-conditional)
    assert found["leep"] == pytest.approx((2 * np.log(2 / 3) + np.log(1 / 3)) / 4)
    assert found["leep"] == pytest.approx(found["nce"])  # they are one where the source is certain
    assert found["nce_corrected"] == pytest.approx(1 - conditional / np.log(2))
    soft = scores(np.arange(8.0).reshape(4, 2), np.array([0, 0, 1, 1]), np.full((4, 2), 0.5))
    assert (soft["leep"], soft["leep_corrected"]) == pytest.approx((-np.log(2), 0))


def test_gbc_by_hand() -> None:
    # means 0 and 4, variances 1 and 9, average 5
    x, y = np.array([[-1.0], [1.0], [1.0], [7.0]]), np.array([0, 0, 1, 1])
    overlap = np.exp(-(16 / 5 / 8 + np.log(5 / 3) / 2))
    assert transfer.gbc(x, y) == pytest.approx(-2 * overlap)
    assert scores(x, y)["gbc_corrected"] == pytest.approx(-overlap)


def test_knn_is_sklearns_leave_one_out() -> None:
    x, y = blobs(4, 300, 0.5)  # more than one chunk of rows
    nearest = KNeighborsClassifier(5).fit(x, y).kneighbors(return_distance=False)  # of its own images: itself left out
    votes = stats.mode(y[nearest], axis=1).mode
    assert transfer.knn(x, y) == np.mean(votes == y)


def test_scores_rise_as_classes_part() -> None:
    parts = [blobs(5, 40, gap) for gap in (0.0, 0.5, 1.0, 3.0)]
    found = [scores(x * [4, 3, 2, 1, 1, 1], y) for x, y in parts]  # no sphere: its H-score is 0
    for name in found[0]:
        assert np.all(np.diff([each[name] for each in found]) > 0), name


def test_corrected_scores_do_not_rise_with_the_class_count_alone() -> None:
    rng = np.random.default_rng(0)
    x, theta = rng.standard_normal((800, 5)), rng.dirichlet(np.ones(6), 800)
    few, many = (scores(x, rng.permutation(np.arange(800) % classes), theta) for classes in (2, 40))
    for name in ("h_score", "leep", "nce", "gbc", "knn"):
        corrected = [each[f"{name}_corrected"] for each in (few, many)]
        raw = [each[name] for each in (few, many)]
        assert abs(corrected[1] - corrected[0]) < 0.12, name
        assert abs(raw[1] - raw[0]) > 2 * abs(corrected[1] - corrected[0]), name


@pytest.mark.parametrize("classes", [2, 20])
def test_corrected_scores_of_separate_classes_do_not_depend_on_their_number(classes: int) -> None:
    x, y = blobs(classes, 40, 100)
    found = scores(x, y, np.eye(classes)[y])
    for name, best in {"leep": 1, "nce": 1, "knn": 1, "gbc": 0}.items():
        assert found[f"{name}_corrected"] == pytest.approx(best, abs=1e-6), name


def test_scores_do_not_see_rotations_or_the_names_of_labels() -> None:
    x, y = blobs(4, 30, 0.7)
    theta = np.random.default_rng(0).dirichlet(np.ones(3), len(y))
    found, turned = scores(x, y, theta), scores(x @ rotation(x.shape[1]), np.array([9, -2, 4, 100])[y], theta)
    assert tuple(found) == SCORES
    for name in SCORES:
        if name != "knn" and name != "knn_corrected":  # a tie goes to the smallest label
            assert turned[name] == pytest.approx(found[name], rel=1e-6), name
    assert scores(x, y, theta) == found


@pytest.mark.parametrize(
    "data",
    [
        (np.ones((10, 3)), np.arange(10) % 2),
        (np.zeros((10, 3)), np.arange(10) % 2),
        (np.eye(6, 50), np.array([0, 0, 0, 1, 1, 1])),
        (np.random.default_rng(0).standard_normal((20, 4)), np.array([0] + [1] * 19)),
        (np.random.default_rng(0).standard_normal((3, 600)), np.array([0, 0, 1])),
        (np.hstack([blobs(2, 5, 1)[0], np.zeros((10, 40))]), np.arange(10) % 2),
        (1e8 * blobs(2, 5, 1)[0].astype(np.float32), np.arange(10) % 2),
    ],
    ids=["constant", "zero", "images on axes", "class of one image", "three images", "dead features", "large numbers"],
)
def test_hard_features_have_finite_scores_and_distances(data: tuple[Floats, Ints]) -> None:
    x, y = data
    assert np.isfinite(list(scores(x, y, np.eye(3)[np.arange(len(y)) % 3]).values())).all()
    assert np.isfinite([tuple(each) for each in distances(Sample(x, y), Sample(x + 1, y), draws=10).values()]).all()


def test_features_that_say_nothing_score_no_better_than_chance() -> None:
    found = scores(np.ones((100, 3)), np.arange(100) % 4)
    assert found["h_score"] == pytest.approx(0)
    assert found["gbc_corrected"] == pytest.approx(-1)
    assert found["knn_corrected"] <= 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: scores(np.where(x > 1, np.nan, x), y), "features has values that are not finite"),
        (lambda x, y: scores(x, y[:-1]), r"features of shape \(8, 6\) with labels of shape \(7,\); use pooled"),
        (lambda x, y: scores(x[:, :, None], y), "use pooled features"),
        (lambda x, y: scores(x, 0 * y), "8 images of 1 classes; use two classes or more"),
        (lambda x, y: scores(x, np.arange(8)), "8 images of 8 classes; use .* more images than classes"),
        (lambda x, y: scores(x, y, np.ones((8, 3))), "not probabilities; give the softmax"),
        (lambda x, y: scores(x, y, np.ones((7, 1))), r"source_probabilities has shape \(7, 1\); use \(8, source"),
        (lambda x, y: distances(Sample(x, y), Sample(x[:, :3], y)), "6 and 3 features; take both from one network"),
        (lambda x, y: distances(Sample(x, y), Sample(x * np.inf, y)), "target has values that are not finite"),
        (lambda x, y: distances(Sample(x, y), Sample(x, y), draws=1), "draws=1; use 2 or more"),
    ],
)
def test_wrong_input_is_refused_in_one_line(call: Callable[[Floats, Ints], object], message: str) -> None:
    x, y = blobs(2, 4, 1)
    with pytest.raises(UserError, match=message) as caught, np.errstate(invalid="ignore"):
        call(x, y)
    assert "\n" not in str(caught.value)


@pytest.mark.campaign
def test_letters_are_near_and_gratings_far_on_a_trained_network() -> None:
    """Repeat the measurement of docs/similarity.md: a ResNet-18 is trained on Latin letters, in about a minute."""
    src = source.resolve(SourceConfig(), "resnet18")
    net = models.build(
        "resnet18", Session().weights(src, torch.device("cpu")).state, src.n_classes, src.image_size, head_seed=0
    )
    blocks, head = models.blocks(net, "resnet18", Unit.stage)
    network = freeze.Network(freeze.Normalize(src.mean, src.std), blocks, head, len(blocks), BatchNorm.frozen).eval()
    rng = np.random.default_rng(0)

    def features(images: np.ndarray) -> list[Floats]:
        with torch.no_grad():
            outs = [out.mean((2, 3)) if out.dim() == 4 else out for out in network.steps(torch.from_numpy(images))]
        return [out.double().numpy() for out in outs]

    def some(name: str, split: str, count: int) -> tuple[np.ndarray, Ints]:
        found = getattr(data.load(DataConfig(name), src.image_size), split)
        found = found.take(rng.permutation(len(found.labels))[:count])
        return found.images, found.labels

    images, labels = some("glyphs_latin", "train", 1000)
    here, half = slice(0, 500), slice(500, 1000)
    permuted = np.stack([image[:, rng.permutation(32 * 32)] for image in images[half].reshape(-1, 3, 32 * 32)])
    base, near, far = (features(each) for each in (images[here], images[half], permuted.reshape(-1, 3, 32, 32)))

    def place_task(name: str, split: str) -> Placement:
        target, target_labels = some(name, split, 500)
        depths = []
        for depth, out in enumerate(features(target)):
            task, other, control = (
                distances(Sample(base[depth], labels[here]), Sample(side, own), draws=100)["frechet"]
                for side, own in ((out, target_labels), (near[depth], labels[half]), (far[depth], labels[half]))
            )
            depths.append(place(task, other, control))
        return overall(depths)

    assert abs(place_task("glyphs_latin", "test").position) < 0.1
    # 500 images place letters nearer to the source than to noise; more would be needed for the interval to say so, too.
    assert place_task("glyphs_digits", "train").position < distance.THRESHOLD
    assert place_task("glyphs_greek_cyrillic", "train").position < distance.THRESHOLD
    assert place_task("textures", "train").similar is False
