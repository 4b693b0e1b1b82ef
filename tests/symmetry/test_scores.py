"""Scores against loops over images, and sklearn."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score, roc_auc_score

from partial_equiv.symmetry import (
    score_clusters,
    score_detection,
    score_levels,
    score_poses,
    wrap,
)

DRAWS = np.random.default_rng(0)
LABELS = np.array([0] * 10 + [2] * 40 + [5] * 7)
TRUE = {0: math.radians(0), 2: math.radians(36), 5: math.radians(144)}


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_levels_are_scored_class_by_class(convert):
    true = np.array([TRUE[label] for label in LABELS])
    levels = true + DRAWS.normal(0.05, 0.2, len(true))
    found = score_levels(convert(levels), convert(true), convert(LABELS))
    by_class = {label: levels[label == LABELS] for label in TRUE}
    expected = (
        np.mean([abs(by_class[label].mean() - TRUE[label]) for label in TRUE]),
        np.mean([np.abs(by_class[label] - TRUE[label]).mean() for label in TRUE]),
        np.mean([by_class[label].std() for label in TRUE]),
        np.mean([abs(TRUE[label] - TRUE[2]) for label in TRUE]),
    )
    assert list(found) == pytest.approx([math.degrees(value) for value in expected])
    assert all(type(value) is float for value in found)


def test_the_constant_baseline_is_the_best_single_number():
    true = torch.deg2rad(18 * torch.arange(10.0)).repeat(3)
    found = score_levels(true, true, torch.arange(10).repeat(3))
    tries = [np.mean([abs(18 * k - x) for k in range(10)]) for x in np.linspace(0, 180, 361)]
    assert found.constant == pytest.approx(min(tries), abs=1e-4)
    assert found.class_mean == found.sample == found.spread == 0


def test_poses_are_scored_up_to_one_offset_for_each_class():
    true = torch.tensor(DRAWS.uniform(-math.pi, math.pi, len(LABELS)))
    offsets = torch.tensor(np.choose((LABELS > 0).astype(int) + (LABELS > 2), [3.1, -2.0, 0.4]))
    exact = score_poses(wrap(true + offsets), true, LABELS)
    assert exact.mean_error == pytest.approx(0, abs=1e-6)
    noise = np.radians(DRAWS.normal(0, 4, len(LABELS)))
    noisy = score_poses(wrap(true + offsets + torch.tensor(noise)), true, LABELS)
    errors = np.concatenate([np.abs(part - np.median(part)) for part in (noise[k == LABELS] for k in TRUE)])
    assert noisy.mean_error == pytest.approx(math.degrees(errors.mean()), rel=0.05)
    assert noisy.median_error == pytest.approx(math.degrees(np.median(errors)), rel=0.1)
    one_offset_for_all = score_poses(wrap(true + offsets + torch.tensor(noise)), true, np.zeros_like(LABELS))
    assert one_offset_for_all.mean_error > 3 * noisy.mean_error


def test_a_minority_turned_upside_down_does_not_move_the_offset():
    labels, true = torch.zeros(100, dtype=torch.int64), torch.zeros(100)
    poses = torch.full((100,), 1.0)
    poses[:30] += math.pi
    found = score_poses(poses, true, labels)
    assert found.median_error == pytest.approx(0, abs=1e-3)
    assert found.mean_error == pytest.approx(0.3 * 180, abs=1e-2)


def test_detection_is_scored_at_zero_and_over_all_thresholds():
    truth = DRAWS.random(200) < 0.7
    scores = DRAWS.normal(0, 1, 200) + truth
    found = score_detection(scores, truth)
    assert found.accuracy == pytest.approx(((scores > 0) == truth).mean())
    assert found.auroc == pytest.approx(roc_auc_score(truth, scores))
    assert found.baseline == pytest.approx(max(truth.mean(), 1 - truth.mean()))
    alone = score_detection(-np.ones(5), np.zeros(5, dtype=bool))
    assert (alone.accuracy, alone.baseline) == (1, 1) and math.isnan(alone.auroc)


def test_clusters_take_the_most_frequent_label_of_their_training_images():
    ids, labels = np.array([0, 0, 0, 1, 1, 3]), np.array([2, 2, 1, 0, 0, 2])
    test_ids, test_labels = np.array([0, 0, 1, 2, 2, 3]), np.array([2, 1, 0, 2, 0, 2])
    found = score_clusters(ids, labels, test_ids, test_labels)
    # Cluster 2 has no training image, so it takes the most frequent label, 2.
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.nmi == pytest.approx(normalized_mutual_info_score(test_labels, test_ids))
