"""Scores against scikit-learn, slow loops, closed forms and the chance levels of the published evaluation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from sklearn.metrics import r2_score

from partial_equiv.probes import scores


def sampled_poses(count, seed=0):
    """Return absolute poses as published: each Euler angle within +-90 degrees."""
    return Rotation.from_euler("xyz", np.random.default_rng(seed).uniform(-math.pi / 2, math.pi / 2, (count, 3)))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_fits_equal_scikit_learn(rows, columns, seed):
    generator = np.random.default_rng(seed)
    target = generator.normal(size=(rows, columns)) * generator.uniform(0.1, 3, columns) + generator.normal(
        size=columns
    )
    predicted = target + generator.normal(size=(rows, columns))
    found = scores.fit_scores(torch.from_numpy(predicted), torch.from_numpy(target))
    assert found.r2 == pytest.approx(r2_score(target, predicted, multioutput="variance_weighted"), abs=1e-9)
    assert found.r2_uniform == pytest.approx(r2_score(target, predicted, multioutput="uniform_average"), abs=1e-9)
    assert found.r2_flat == pytest.approx(r2_score(target.reshape(-1), predicted.reshape(-1)), abs=1e-9)
    assert found.mse == pytest.approx(((target - predicted) ** 2).mean())


def test_a_constant_explains_nothing_honestly_and_229_thousandths_flatly():
    first, second = sampled_poses(20_000, 1), sampled_poses(20_000, 2)
    target = torch.from_numpy((first.inv() * second).as_quat(canonical=False))
    found = scores.fit_scores(target.mean(dim=0).expand_as(target), target)
    assert found.r2 == pytest.approx(0, abs=1e-12)
    assert found.r2_uniform == pytest.approx(0, abs=1e-12)
    assert found.r2_flat == pytest.approx(0.229, abs=0.005)


def test_what_does_not_vary_cannot_be_explained():
    constant = torch.full((7, 2), 0.1)
    assert all(math.isnan(value) for value in scores.fit_scores(constant + 0.01, constant)[:3])
    mixed = torch.stack([torch.full((7,), 0.1), torch.arange(7.0)], dim=1)
    found = scores.fit_scores(mixed, mixed)
    assert found == pytest.approx((1, 1, 1, 0))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**32 - 1), st.booleans())
def test_ranks_equal_a_slow_loop(rows, items, seed, negative):
    generator = np.random.default_rng(seed)
    table = generator.integers(0, 4, (rows, items)) - (10 if negative else 0)  # many ties
    target = generator.integers(0, items, rows)
    expected = []
    for row, own in zip(table, target, strict=True):
        others = [score for place, score in enumerate(row) if place != own]
        expected.append(1 + sum(s > row[own] for s in others) + sum(s == row[own] for s in others) / 2)
    found = scores.ranks(torch.from_numpy(table), torch.from_numpy(target))
    assert found.tolist() == expected


def test_a_collapsed_gallery_ties_everything():
    vector = torch.randn(33, generator=torch.Generator().manual_seed(0))
    table = scores.similarities(vector.expand(50, 33), vector.expand(50, 33), normalise=True)
    assert scores.ranks(table, torch.arange(50)).tolist() == [25.5] * 50


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_scores_that_are_no_numbers_are_no_hits(wrong):
    table = torch.tensor([[wrong, 1.0, 2.0], [0.0, 1.0, 2.0], [0.0, wrong, 2.0]])
    places = scores.ranks(table, torch.tensor([0, 2, 2]))
    assert places.isnan().tolist() == [True, False, True] and places[1] == 1
    assert scores.hit_rate(places, 1) == pytest.approx(1 / 3)
    assert scores.top_shares(torch.full((2, 3), wrong), torch.tensor([0, 1]), (1, 2)) == [0, 0]


def test_random_embeddings_reach_chance():
    generator = torch.Generator().manual_seed(0)
    gallery, queries = (torch.randn(200, 50, 16, generator=generator) for _ in range(2))
    places = scores.ranks(scores.similarities(queries, gallery, normalise=True), torch.arange(50).expand(200, 50))
    chance = scores.chance_reciprocal_rank(50)
    assert chance == pytest.approx(0.0900, abs=1e-4)
    assert scores.reciprocal_rank(places) == pytest.approx(chance, abs=0.006)
    for k in (1, 2, 5, 10):
        assert scores.hit_rate(places, k) == pytest.approx(k / 50, abs=0.01)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_nearest_item_over_many_blocks(monkeypatch, sign):
    monkeypatch.setattr(scores, "QUERIES", 7)
    monkeypatch.setattr(scores, "GALLERY", 5)
    generator = torch.Generator().manual_seed(0)
    # With sign -1 all dot products are negative: a running best that starts at 0 would find nothing.
    queries = torch.rand(23, 6, generator=generator)
    gallery = sign * torch.rand(31, 6, generator=generator) * torch.arange(1, 32)[:, None]
    for normalise in (True, False):
        found = scores.nearest(queries, gallery, normalise=normalise)
        expected = []
        for query in queries:
            dots = [float(query @ item / (item.norm() * query.norm() if normalise else 1)) for item in gallery]
            expected.append(dots.index(max(dots)))
        assert found.tolist() == expected
    # Exact in binary whatever the order of the sum, so that all nine are equally near.
    alike = torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0, 0.0]]).expand(9, 6)
    assert scores.nearest(alike.repeat(3, 1), alike, normalise=True).tolist() == [0] * 27


def test_errors_of_poses_and_their_chance_levels():
    true, gallery = sampled_poses(20_000), sampled_poses(20_000, 1)
    poses, items = (torch.from_numpy(sampled.as_quat()) for sampled in (true, gallery))
    angles = (true.inv() * gallery).magnitude()
    np.testing.assert_allclose(scores.pose_errors(poses, items), np.sin(angles / 2) ** 2, atol=1e-12)
    identity = torch.tensor([0.0, 0, 0, 1], dtype=torch.float64)
    assert float(scores.pose_errors(poses, identity).mean()) == pytest.approx(0.446, abs=0.005)
    assert scores.random_pose_error(poses, items) == pytest.approx(0.627, abs=0.005)
    slow = scores.pose_errors(poses[:30, None], items[None, :20]).mean()
    assert scores.random_pose_error(poses[:30], items[:20]) == pytest.approx(float(slow))


def test_shares_of_the_highest_classes():
    logits = torch.tensor([[3.0, 2, 1], [-3, -2, -1], [0, 0, 0]])
    assert scores.top_shares(logits, torch.tensor([0, 1, 2]), (1, 2, 3)) == pytest.approx([1 / 3, 1, 1])
