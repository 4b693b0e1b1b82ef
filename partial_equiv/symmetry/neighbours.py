"""The images that are nearest in the invariant part of the latent space.

Axes: N images, M images of the bank, d latent numbers, k neighbours.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from partial_equiv.errors import UserError

BLOCK = 2**24
"""Similarities held at once: 64 MiB of them."""
EXCLUDED = -2.0  # below every cosine


class Neighbours(NamedTuple):
    """The k nearest images of each image, nearest first.

    Shape:
        index [N, k], int64: places in the bank; similarity [N, k]: cosine, in [-1, 1].
    """

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nothing needs of neighbours
    similarity: Tensor


@torch.no_grad()
def nearest_neighbours(z: Tensor, no_neighbours: int, bank: Tensor | None = None, *, block: int = BLOCK) -> Neighbours:
    """Return the k images of the bank whose z has the largest cosine with that of each image.

    All cosines are computed, `block` at a time and never N x M of them. A zero vector has no direction: its cosine with
    everything is 0. Which of several equal cosines is kept is not said.

    Args:
        z: Invariant part, finite.
        no_neighbours: k.
        bank: Where to look; None looks in z itself and leaves each image out of its own neighbours.
        block: Cosines held at once.
    Shape:
        z [N, d], bank [M, d] -> [N, k], [N, k], on the device of z.

    Raises:
        UserError: too few images, or values that are not finite.
    Source: Urbano & Romero 2023, section 3.2. Differs: blocks instead of an N x N matrix.
    """
    searched = z if bank is None else bank
    _check(z, searched, no_neighbours, no_itself=int(bank is None))
    towards = functional.normalize(searched.float(), dim=-1)
    queries = towards if bank is None else functional.normalize(z.float(), dim=-1)
    rows = max(1, block // len(towards))
    found = []
    for start in range(0, len(queries), rows):
        cosines = queries[start : start + rows] @ towards.T
        if bank is None:
            cosines.diagonal(offset=start).fill_(EXCLUDED)
        found.append(cosines.topk(no_neighbours, dim=-1))
    similarity, index = (torch.cat(column) for column in zip(*found, strict=True))
    return Neighbours(index, similarity.clamp(-1, 1).to(z.dtype))


def _check(z: Tensor, searched: Tensor, no_neighbours: int, *, no_itself: int) -> None:
    """Raise UserError for too few images or numbers that are not finite."""
    if no_neighbours < 1:
        raise UserError(f"train.no_neighbours={no_neighbours} is out of range: give 1 or more")
    if len(searched) < no_neighbours + no_itself:
        beside = " beside itself" if no_itself else ""
        raise UserError(
            f"train.no_neighbours={no_neighbours} looks for {no_neighbours} images{beside} among {len(searched)}: "
            f"give at most {len(searched) - no_itself}, or at least {no_neighbours + no_itself} images"
        )
    for values in (z, searched):
        if not bool(torch.isfinite(values).all()):
            wrong = int((~torch.isfinite(values)).any(dim=-1).sum())
            raise UserError(
                f"z of {wrong} of {len(values)} images holds NaN or infinity: lower train.lr, and train again"
            )
