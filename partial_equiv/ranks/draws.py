"""Random numbers of examples: each is what it would be in one process.

Global generators are alike on all ranks (see `agree_random`), and stay alike as long as all ranks draw the same. So
what is drawn per example is drawn for the examples of all ranks, and each rank keeps the rows of its own.

Axes: B examples of one rank, M examples of all ranks.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from partial_equiv.ranks.collectives import no_shares, rank, stack_ranks


class Rows(NamedTuple):
    """Where the examples of this rank lie among those of all.

    Args:
        first: Place of the first one.
        last: One past the last one.
        total: M.
    """

    first: int
    last: int
    total: int

    def of(self, x: Tensor) -> Tensor:
        """Return the own rows: [M, ...] -> [B, ...]."""
        return x[self.first : self.last]


def own_rows(no_rows: int) -> Rows:
    """Return where this rank's examples of a batch lie; every rank must call it, in the same order.

    Ranks may hold different numbers. They are exchanged over the CPU, so that no device is waited for; where nothing is
    shared (see `no_shares`) nothing is exchanged.

    Args:
        no_rows: B.
    """
    if no_shares() == 1:
        return Rows(0, no_rows, no_rows)
    sizes = stack_ranks(torch.tensor(no_rows)).tolist()
    first = sum(sizes[: rank()])
    return Rows(first, first + no_rows, sum(sizes))


def rand_rows(no_rows: int, *, device: torch.device) -> Tensor:
    """Return a uniform number in [0, 1) for each example of this rank, drawn from the global generator: -> [B]."""
    rows = own_rows(no_rows)
    return rows.of(torch.rand(rows.total, device=device))


def rank_dropout(x: Tensor, p: float, *, training: bool, whole_channels: bool = False) -> Tensor:
    """Return dropout whose masks are drawn for the examples of all ranks; where nothing is shared, torch's own.

    y = x * mask / (1 - p), mask 0 with probability p. On a CPU the masks are those of one process with all examples, if
    its tensor lies in memory in the same order of axes; on CUDA torch's fused kernel draws others from the same seed.

    Args:
        x: Examples of this rank.
        p: Probability of a 0, in [0, 1].
        training: Outside training nothing is dropped.
        whole_channels: Draw one number a channel, for all that lies behind it.
    Shape:
        [B, ...] -> the same; [B, C, G, Y, X] for whole channels.
    """
    if not training or p in (0, 1) or no_shares() == 1:
        return (functional.dropout3d if whole_channels else functional.dropout)(x, p, training)
    rows = own_rows(len(x))
    # Torch draws in the order of memory, which behind a convolution need not be that of the axes.
    order = [0, *sorted(range(1, x.ndim), key=x.stride, reverse=True)]
    shape = [1 if whole_channels and axis > 1 else x.shape[axis] for axis in order[1:]]
    noise = x.new_empty(rows.total, *shape).bernoulli_(1 - p).div_(1 - p)
    return x * rows.of(noise.permute([order.index(axis) for axis in range(x.ndim)]))


class RankDropout(nn.Module):
    """`rank_dropout` as a layer.

    Args:
        p: Probability of a 0, in [0, 1].
    Shape:
        [B, ...] -> the same.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop in training, and nothing in evaluation."""
        return rank_dropout(x, self.p, training=self.training)
