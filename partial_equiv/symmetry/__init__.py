"""Symmetry inference, its mathematics: from poses of neighbours to the centre, level and family of their law.

No network and no training. `FAMILIES` names the laws, `PUBLISHED_ESTIMATORS` the estimators of the paper.
"""

from partial_equiv.symmetry.angles import CircularMean, circular_mean, wrap
from partial_equiv.symmetry.data_symmetry import DataSymmetry, SymmetryTest, symmetry_of_data
from partial_equiv.symmetry.families import FAMILIES, SYMMETRY_FAMILIES, SymmetryFamily, family_levels
from partial_equiv.symmetry.neighbourhood import Neighbourhood, estimate, likeliest_noise
from partial_equiv.symmetry.neighbours import Neighbours, nearest_neighbours
from partial_equiv.symmetry.noise import noise_floor
from partial_equiv.symmetry.ood import negative_log_density, ood_score
from partial_equiv.symmetry.published import PUBLISHED_ESTIMATORS, cyclic_order_published, estimate_published
from partial_equiv.symmetry.scores import (
    ClusterScores,
    DetectionScores,
    LevelScores,
    PoseScores,
    score_clusters,
    score_detection,
    score_levels,
    score_poses,
)
from partial_equiv.symmetry.suggestion import Suggestion, suggest
from partial_equiv.symmetry.two_sample import TwoSample, two_sample_test

__all__ = [
    "FAMILIES",
    "PUBLISHED_ESTIMATORS",
    "SYMMETRY_FAMILIES",
    "CircularMean",
    "ClusterScores",
    "DataSymmetry",
    "DetectionScores",
    "LevelScores",
    "Neighbourhood",
    "Neighbours",
    "PoseScores",
    "Suggestion",
    "SymmetryFamily",
    "SymmetryTest",
    "TwoSample",
    "circular_mean",
    "cyclic_order_published",
    "estimate",
    "estimate_published",
    "family_levels",
    "likeliest_noise",
    "nearest_neighbours",
    "negative_log_density",
    "noise_floor",
    "ood_score",
    "score_clusters",
    "score_detection",
    "score_levels",
    "score_poses",
    "suggest",
    "symmetry_of_data",
    "two_sample_test",
    "wrap",
]
