"""How well levels, poses, detections and clusters agree with what is known; every class counts once.

Axes: N images, K classes. All take tensors or arrays; angles go in as radians, errors come out in degrees.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from partial_equiv.symmetry.angles import circular_mean, wrap

Column = Tensor | NDArray[np.generic]


class LevelScores(NamedTuple):
    """Errors of levels, in degrees.

    class_mean: mean over classes of |mean level of the class - true level|, the published headline.
    sample: mean over classes of the mean |level - true level| of its images.
    spread: mean over classes of the standard deviation of the levels.
    constant: class_mean of the best single number for all, which needs no image.
    """

    class_mean: float
    sample: float
    spread: float
    constant: float


class PoseScores(NamedTuple):
    """Errors of poses, in degrees: mean and median over images of |pose - true pose - offset of the class|, wrapped."""

    mean_error: float
    median_error: float


class DetectionScores(NamedTuple):
    """Accuracy at threshold 0, area under the curve (nan if all images are of one kind), the better constant answer."""

    accuracy: float
    auroc: float
    baseline: float


class ClusterScores(NamedTuple):
    """How clusters agree with labels: share recognised, and normalised mutual information."""

    accuracy: float
    nmi: float


def score_levels(levels: Column, true_levels: Column, labels: Column) -> LevelScores:
    """Score levels against those of the classes.

    Args:
        levels: Radians.
        true_levels: Level of each image's class, radians.
        labels: Classes.
    Shape:
        [N], [N], [N].
    Source: Urbano & Romero 2023. Differs: means over images, not over batches of unequal size.
    """
    found, true, classes = _float(levels), _float(true_levels), torch.as_tensor(labels).cpu()
    members = [classes == label for label in classes.unique()]
    class_levels = torch.stack([true[member].mean() for member in members])
    means = torch.stack([found[member].mean() for member in members])
    samples = torch.stack([(found[member] - true[member]).abs().mean() for member in members])
    spreads = torch.stack([found[member].std(correction=0) for member in members])
    constant = (class_levels - class_levels.median()).abs()  # the median has the least mean distance
    columns = ((means - class_levels).abs(), samples, spreads, constant)
    return LevelScores(*(math.degrees(float(column.mean())) for column in columns))


def score_poses(poses: Column, true_poses: Column, labels: Column) -> PoseScores:
    """Score poses up to one offset for each class, since no label says which pose is upright.

    The offset is the circular median of pose - true pose, sought near the circular mean.

    Shape:
        [N], [N], [N], radians.
    """
    differences, classes = wrap(_float(poses) - _float(true_poses)), torch.as_tensor(labels).cpu()
    errors = torch.empty_like(differences)
    for label in classes.unique():
        member = classes == label
        rest = wrap(differences[member] - circular_mean(differences[member]).mean)
        errors[member] = wrap(rest - rest.median()).abs()
    return PoseScores(math.degrees(float(errors.mean())), math.degrees(float(errors.median())))


def score_detection(scores: Column, outside: Column) -> DetectionScores:
    """Score a detector that says "outside" where its score is above 0.

    Args:
        scores: As `ood_score`.
        outside: Truth, bool.
    Shape:
        [N], [N].
    """
    from sklearn.metrics import roc_auc_score

    found, truth = _float(scores), torch.as_tensor(outside).cpu().bool()
    share = float(truth.float().mean())
    auroc = float(roc_auc_score(truth.numpy(), found.numpy())) if 0 < share < 1 else math.nan
    return DetectionScores(float(((found > 0) == truth).float().mean()), auroc, max(share, 1 - share))


def score_clusters(ids: Column, labels: Column, test_ids: Column, test_labels: Column) -> ClusterScores:
    """Let each cluster take its most frequent training label, and score it on test images.

    A cluster without training images takes the most frequent label of all.

    Args:
        ids: Cluster of each training image.
        labels: Their classes.
        test_ids: Cluster of each test image.
        test_labels: Their classes.
    Shape:
        [N], [N], [M], [M].
    """
    from sklearn.metrics import normalized_mutual_info_score

    clusters, classes, test_clusters, test_classes = (
        torch.as_tensor(column).cpu().long() for column in (ids, labels, test_ids, test_labels)
    )
    no_clusters = 1 + int(torch.cat([clusters, test_clusters]).max())
    counts = torch.zeros(no_clusters, 1 + int(classes.max()), dtype=torch.int64)
    counts.index_put_((clusters, classes), torch.ones_like(clusters), accumulate=True)
    empty = counts.sum(dim=1) == 0
    counts[empty] = counts.sum(dim=0)
    right = counts.argmax(dim=1)[test_clusters] == test_classes
    return ClusterScores(
        float(right.float().mean()), float(normalized_mutual_info_score(test_classes.numpy(), test_clusters.numpy()))
    )


def _float(column: Column) -> Tensor:
    """Return a column as float64 on the CPU."""
    return torch.as_tensor(column).detach().cpu().double()
