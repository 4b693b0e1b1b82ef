"""Symmetry inference, its mathematics: from poses of neighbours to the centre, level and family of their law.

No network and no training. `FAMILIES` names the laws, `PUBLISHED_ESTIMATORS` the estimators of the paper.
"""

from partial_equiv.symmetry.angles import CircularMean, circular_mean, wrap
from partial_equiv.symmetry.families import FAMILIES, SYMMETRY_FAMILIES, SymmetryFamily, family_levels
from partial_equiv.symmetry.neighbourhood import Neighbourhood, estimate
from partial_equiv.symmetry.neighbours import Neighbours, nearest_neighbours
from partial_equiv.symmetry.noise import noise_floor
from partial_equiv.symmetry.ood import negative_log_density, ood_score
from partial_equiv.symmetry.published import PUBLISHED_ESTIMATORS, cyclic_order_published, estimate_published
from partial_equiv.symmetry.scores import (
    ClusterScores,
    DetectionScores,
    LevelScores,
    PoseScores,
    class_deviations,
    score_clusters,
    score_detection,
    score_levels,
    score_poses,
)

__all__ = [
    "FAMILIES",
    "PUBLISHED_ESTIMATORS",
    "SYMMETRY_FAMILIES",
    "CircularMean",
    "ClusterScores",
    "DetectionScores",
    "LevelScores",
    "Neighbourhood",
    "Neighbours",
    "PoseScores",
    "SymmetryFamily",
    "circular_mean",
    "class_deviations",
    "cyclic_order_published",
    "estimate",
    "estimate_published",
    "family_levels",
    "nearest_neighbours",
    "negative_log_density",
    "noise_floor",
    "ood_score",
    "score_clusters",
    "score_detection",
    "score_levels",
    "score_poses",
    "wrap",
]
