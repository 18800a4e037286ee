"""Features of a network for similarity and scores: pooled rightly, placed on the scale, and left in the records."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sweep.config import Config, DataConfig, Transform
from sweep.data import task as data
from sweep.plan.point import plan
from sweep.report import record, table
from sweep.runs import measure
from sweep.runs.job import run_point
from sweep.runs.session import Session
from sweep.stats import transfer
from sweep.train.examples import Examples

pytestmark = pytest.mark.slow

Tiny = Callable[..., Config]


def test_maps_and_tokens_are_averaged_and_vectors_kept() -> None:
    maps, tokens, vectors = torch.rand(2, 3, 4, 5), torch.rand(2, 7, 3), torch.rand(2, 3).bfloat16()
    np.testing.assert_allclose(measure.pooled(maps), maps.flatten(2).mean(2).numpy(), rtol=1e-6)
    np.testing.assert_allclose(measure.pooled(tokens), tokens.mean(1).numpy(), rtol=1e-6)
    np.testing.assert_array_equal(measure.pooled(vectors), vectors.double().numpy())


def test_scores_take_the_rows_of_the_examples_and_the_sources_own_classifier() -> None:
    features = torch.randn(30, 8)
    rows, labels = torch.arange(29, -1, -1), torch.arange(30) % 3
    head = {"weight": torch.randn(5, 8), "bias": torch.randn(5)}
    found = measure.scores(Examples(features, rows, labels), head)
    logits = features.flip(0).double() @ head["weight"].double().T + head["bias"].double()
    expected = transfer.scores(features.flip(0).numpy(), labels.numpy(), logits.softmax(1).numpy())
    assert found == pytest.approx(expected)
    assert {"leep", "nce"} <= found.keys()
    assert "leep" not in measure.scores(Examples(features, rows, labels))


def test_too_few_images_have_no_scores() -> None:
    assert measure.scores(Examples(torch.randn(3, 8), torch.arange(3), torch.arange(3))) == {}


def test_the_source_is_near_and_its_permuted_pixels_are_far(tiny: Tiny, session: Session) -> None:
    network = session.network(plan(tiny(freeze_depth=5, pretrained=False)), 0)
    source = data.load(DataConfig(name="glyphs_digits"), 32)
    reference = measure.Reference(network, source)
    own = reference.compare(network, source.train).placement
    far = reference.compare(network, data.load(DataConfig(name="glyphs_digits", transform=Transform.permute), 32).train)
    assert own.similar is not False
    assert abs(own.position) < 0.2, "a random network sees little, so the interval is wide"
    assert far.placement.similar is False
    assert far.placement.position == pytest.approx(1, abs=0.2)
    assert {"frechet", "proxy_a", "emd", "domain_similarity"} <= far.distances.keys()


def test_similarity_and_scores_are_those_of_pretrained_weights_alone(
    tiny: Tiny, tmp_path: Path, session: Session
) -> None:
    points = [plan(tiny(freeze_depth=depth, pretrained=p)) for p in (True, False) for depth in (0, 5)]
    for point in points:
        assert run_point(point, tmp_path, session).error is None
    entries = [table.Entry(each.job, [0], each.facts, {}) for each in points]
    rows = table.collect("sweep", table.read(tmp_path, entries))
    assert rows["similarity"].notna().tolist() == [True, True, False, False]
    assert rows["distance_frechet"].notna().tolist() == [True, True, False, False]
    assert rows["score_logme"].notna().tolist() == [False, True, False, False]
    (member,) = record.read_members(record.job_folder(tmp_path, points[1].job), 0) or []
    assert member.similarity is not None
    assert member.distances["frechet_low"] <= member.distances["frechet"] <= member.distances["frechet_high"]
