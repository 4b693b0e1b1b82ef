"""Losses of self-supervised methods as pure functions of representations and embeddings.

All are computed in float32 at least, also under autocast: squares of small covariances vanish in half precision.
Statistics and contrasts are over the examples of all ranks, plain means over one's own (see `partial_equiv.ranks`).

Axes: B examples of one rank, M examples of all ranks, D numbers, K classes.
"""

import functools
from collections.abc import Callable, Mapping
from typing import ParamSpec

import torch
from torch import Tensor
from torch.nn import functional

from partial_equiv.errors import UserError
from partial_equiv.ranks import gather

EPSILON = 1e-4
"""Under the root of the variance term, so that its gradient stays finite where all examples agree."""

P = ParamSpec("P")


def wide(x: Tensor) -> Tensor:
    """Return x in float32 at least; integers, such as labels, stay."""
    return x.float() if x.is_floating_point() and x.dtype != torch.float64 else x


def in_full_precision(term: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Return a term that widens its tensors and switches autocast off."""

    @functools.wraps(term)
    def full(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        tensors = [wide(x) for x in args if isinstance(x, Tensor)]
        assert len(tensors) == len(args), "terms take their tensors by position and all else by name"
        with torch.autocast(tensors[0].device.type, enabled=False):
            return term(*tensors, **kwargs)  # type: ignore[arg-type]

    return full


@in_full_precision
def mse(a: Tensor, b: Tensor) -> Tensor:
    """Return mean_(b, d) (a - b)^2.

    Shape:
        [B, D], [B, D] -> [].
    """
    assert a.shape == b.shape, f"{tuple(a.shape)} against {tuple(b.shape)}"
    return (a - b).square().mean()


@in_full_precision
def variance(*matrices: Tensor) -> Tensor:
    """Return sum_A 1/2 mean_d max(0, 1 - sqrt(Var_d(A) + 1e-4)), the variance unbiased and over all ranks.

    Args:
        matrices: Each counts by half, so that a pair of views counts once.
    Shape:
        [B, D], ... -> [].
    Raises:
        UserError: a batch of 1.
    Source: Bardes et al. 2022.
    """
    return torch.stack([half_hinge(examples(matrix)) for matrix in matrices]).sum()


def half_hinge(x: Tensor) -> Tensor:
    """Return 1/2 mean_d max(0, 1 - sqrt(Var_d(x) + 1e-4)): [M, D] -> []."""
    return 0.5 * torch.relu(1 - torch.sqrt(x.var(dim=0) + EPSILON)).mean()


@in_full_precision
def covariance(*matrices: Tensor) -> Tensor:
    """Return sum_A sum_(i != j) C_ij^2 / D with C = A^T A / (M - 1), A centred and over all ranks.

    White embeddings do not reach 0 in a batch: see `noise_floor`.

    Args:
        matrices: Each counts whole.
    Shape:
        [B, D], ... -> [].
    Raises:
        UserError: a batch of 1.
    Source: Bardes et al. 2022. Differs from Garrido et al. 2023: divides by the rows that are there, where theirs
        divides by the batch size even of a last batch that is smaller.
    """
    return torch.stack([off_diagonal(examples(matrix)) for matrix in matrices]).sum()


def off_diagonal(x: Tensor) -> Tensor:
    """Return sum_(i != j) Cov(x)_ij^2 / D: [M, D] -> []."""
    centred = x - x.mean(dim=0)
    matrix = centred.mT @ centred / (len(x) - 1)
    return 2 * matrix.triu(1).square().sum() / x.shape[1]


@in_full_precision
def info_nce(a: Tensor, b: Tensor, *, temperature: float) -> Tensor:
    """Return the mean over 2 M anchors of -log(exp(s_+ / t) / sum exp(s / t)), s cosines to the 2 M - 1 others.

    Rows of a and b are examples in one order: the positive of an anchor is the same row of the other matrix, and the
    2 M - 2 negatives are all other rows of both.

    Args:
        a: First view.
        b: Second view, or the prediction of it.
        temperature: t, cosines are divided by it.
    Shape:
        [B, D], [B, D] -> [].
    Raises:
        UserError: a batch of 1, which has no negatives.
    Source: Chen et al. 2020 (SimCLR).
    """
    first, second = examples(a), examples(b)
    z = functional.normalize(torch.cat([first, second]), dim=-1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    logits = (z @ z.mT / temperature).masked_fill(itself, -torch.inf)
    positive = torch.arange(len(z), device=z.device).roll(len(first))
    return functional.cross_entropy(logits, positive)


@in_full_precision
def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy of classes.

    Shape:
        logits [B, K], labels [B] -> [].
    """
    return functional.cross_entropy(logits, labels)


def examples(x: Tensor) -> Tensor:
    """Return the rows of all ranks: [B, D] -> [M, D].

    Raises:
        UserError: there is only one.
    """
    rows = gather(x)
    if len(rows) < 2:
        raise UserError(
            "a batch of 1 has no variance, covariance or negatives: "
            "give a train.batch_size of 2 or more, of which no batch of 1 is left over at the end of an epoch"
        )
    return rows


def noise_floor(no_dims: int, batch_size: int) -> float:
    """Return what `covariance` expects of one matrix of white noise, by chance alone: (D - 1) / (M - 1).

    Args:
        no_dims: D.
        batch_size: M, examples of all ranks, 2 or more.
    """
    return (no_dims - 1) / (batch_size - 1)


SPLIT_TERMS: Mapping[str, Callable[..., Tensor]] = {
    "mse": mse,
    "variance": variance,
    "covariance": covariance,
    "info_nce": info_nce,
    "cross_entropy": cross_entropy,
}
