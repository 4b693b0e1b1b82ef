"""Numbers of the evaluations of split encoders: goodness of fit, ranks, and what chance would reach.

Axes: M examples, k numbers of a target, Q queries, V views of a gallery, D numbers of an embedding, K classes.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

TIE = 1e-12
"""Scores closer than this share of the largest are equal: double precision leaves no more."""
QUERIES, GALLERY = 4_096, 16_384  # of a block of scores that is held at once


class Fit(NamedTuple):
    """How well predictions fit targets; NaN where nothing varies that could be explained.

    Args:
        r2: 1 - sum of squared errors / sum of squares around the mean of each number (variance-weighted): the honest
            one, 0 for the best constant.
        r2_flat: The same around one mean of all numbers: the published one, above 0 for a constant when the numbers
            have different means.
        r2_uniform: Mean of the R^2 of the numbers that vary.
        mse: Mean squared error of a number.
    """

    r2: float
    r2_flat: float
    r2_uniform: float
    mse: float


def fit_scores(predicted: Tensor, target: Tensor) -> Fit:
    """Return how well predictions fit; computed in double precision.

    Shape:
        predicted, target [M, k].
    """
    predicted, target = predicted.double(), target.double()
    errors = (target - predicted).square().sum(dim=0)
    spread = (target - target.mean(dim=0)).square().sum(dim=0)
    # A constant column keeps a rounding error of its mean: it does not vary.
    varies = spread > 1e-12 * target.square().sum(dim=0)
    spread = spread * varies
    flat = float((target - target.mean()).square().sum())
    each = 1 - errors[varies] / spread[varies]
    return Fit(
        r2=explained(float(errors.sum()), float(spread.sum())),
        r2_flat=explained(float(errors.sum()), flat if float(spread.sum()) else 0.0),
        r2_uniform=float(each.mean()),  # NaN of none
        mse=float((target - predicted).square().mean()),
    )


def explained(errors: float, spread: float) -> float:
    """Return 1 - errors / spread, NaN where nothing varies."""
    return 1 - errors / spread if spread > 0 else math.nan


def ranks(scores: Tensor, target: Tensor) -> Tensor:
    """Return the place of the target among the scores: 1 + how many are higher + half of the others that are equal.

    Scores may all be negative. Ties count half, so that equal scores of everything give the mean place. Among scores
    that are not all finite a target has no place: NaN.

    Shape:
        scores [..., V], target int64 [...] -> float64 [...].
    """
    scores = scores.double()
    own = scores.gather(-1, target[..., None])
    slack = TIE * scores.abs().amax(dim=-1, keepdim=True)
    higher = (scores > own + slack).sum(dim=-1)
    equal = ((scores - own).abs() <= slack).sum(dim=-1) - 1
    return (1 + higher + equal / 2.0).where(scores.isfinite().all(dim=-1), math.nan)


def similarities(queries: Tensor, gallery: Tensor, *, normalise: bool) -> Tensor:
    """Return the dot product of every query with every item, of unit vectors where `normalise`; double precision.

    Shape:
        queries [..., Q, D], gallery [..., V, D] -> [..., Q, V].
    """
    queries, gallery = queries.double(), gallery.double()
    if normalise:
        queries, gallery = functional.normalize(queries, dim=-1), functional.normalize(gallery, dim=-1)
    return queries @ gallery.mT


def nearest(queries: Tensor, gallery: Tensor, *, normalise: bool) -> Tensor:
    """Return the item of the highest dot product for every query, the first of equals.

    Blocks of scores are computed one after another, on the device of the queries; the gallery may lie elsewhere.

    Shape:
        queries [Q, D], gallery [G, D] -> int64 [Q].
    """
    best = queries.new_full([len(queries)], -math.inf)
    place = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    if normalise:
        queries = functional.normalize(queries, dim=-1)
    for start in range(0, len(gallery), GALLERY):
        items = gallery[start : start + GALLERY].to(queries.device)
        if normalise:
            items = functional.normalize(items, dim=-1)
        for rows in torch.arange(len(queries), device=queries.device).split(QUERIES):
            value, index = (queries[rows] @ items.mT).max(dim=-1)
            better = value > best[rows]
            best[rows] = torch.where(better, value, best[rows])
            place[rows] = torch.where(better, index + start, place[rows])
    return place


def reciprocal_rank(places: Tensor) -> float:
    """Return the mean of 1 / rank (MRR)."""
    return float((1 / places).mean())


def hit_rate(places: Tensor, k: int) -> float:
    """Return the share of ranks of at most k (H@k); a tie that reaches over k is no hit, nor is a place that is NaN."""
    return float((places <= k).double().mean())


def chance_reciprocal_rank(no_items: int) -> float:
    """Return the mean of 1 / rank of a random order: H_V / V, with the harmonic number H_V."""
    return sum(1 / place for place in range(1, no_items + 1)) / no_items


def pose_errors(true: Tensor, found: Tensor) -> Tensor:
    """Return 1 - <q, q'>^2 = sin^2(angle / 2) of unit quaternions, whose sign has no say (PRE).

    Shape:
        true, found [..., 4] -> [...].
    """
    return 1 - (true * found).sum(dim=-1).square()


def random_pose_error(true: Tensor, gallery: Tensor) -> float:
    """Return the mean PRE of a random item of the gallery, exactly: 1 - tr(A B), of the second moments A and B.

    Shape:
        true [M, 4], gallery [G, 4].
    """
    first, second = (poses.double().mT @ poses.double() / len(poses) for poses in (true, gallery))
    return 1 - float((first * second).sum())


def top_shares(logits: Tensor, labels: Tensor, ks: tuple[int, ...]) -> list[float]:
    """Return for each k the share of examples whose class is among the k highest.

    Shape:
        logits [M, K], labels int64 [M].
    """
    places = ranks(logits, labels)
    return [hit_rate(places, k) for k in ks]
