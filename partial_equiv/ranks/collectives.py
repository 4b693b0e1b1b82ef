"""What all ranks hold, with gradient, and what they agree on.

Axes: N ranks, B examples of one rank.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from partial_equiv.errors import UserError


def no_ranks() -> int:
    """Return how many processes train together, 1 where torch.distributed is not started."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return which of them this one is, counted from 0."""
    return dist.get_rank() if no_ranks() > 1 else 0


def no_shares() -> int:
    """Return in how many shares a batch is cut: one a rank in training, and 1 where gradients are off.

    An evaluation is its rank's own: it exchanges nothing, so that each rank may evaluate what it likes, or nothing.
    """
    return no_ranks() if torch.is_grad_enabled() else 1


class _Stack(torch.autograd.Function):
    """Forward: x of every rank. Backward: every rank's loss depends on this x, so the sum of what all say of it."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        """Exchange x [...] -> [N, ...]; all ranks must hold one shape."""
        found = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(no_ranks())]
        dist.all_gather(found, x.contiguous())
        return torch.stack(found)

    @staticmethod
    @once_differentiable
    def backward(_: Any, gradient: Tensor) -> Tensor:
        """Add up the gradients of all ranks and take the own share."""
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[dist.get_rank()]


def stack_ranks(x: Tensor) -> Tensor:
    """Return the x of every rank, in rank order, with gradient to all of them: [...] -> [N, ...]."""
    if no_ranks() == 1:
        return x[None]
    stacked: Tensor = _Stack.apply(x)
    return stacked


def gather(x: Tensor) -> Tensor:
    """Return the examples of all ranks, one rank after the other: concat_r x_r; x itself where nothing is shared.

    The gradient of x_r is the sum over ranks of d loss_q / d x_r. With gradients averaged over ranks, as
    DistributedDataParallel does, means over local examples and functions of gathered ones then both train exactly as
    one process with all examples would. Every rank must call it, in the same order; with gradients off it exchanges
    nothing (see `no_shares`).

    Shape:
        [B, ...] -> [N B, ...].
    Raises:
        UserError: ranks hold different numbers of examples, of which no average of gradients would be exact.
    """
    if no_shares() == 1:
        return x
    # A collective over unequal shapes hangs or mixes up memory, so this wait for the device is worth its microseconds.
    sizes = stack_ranks(torch.tensor(len(x), device=x.device)).tolist()
    if len(set(sizes)) > 1:
        raise UserError(
            f"the processes hold {', '.join(map(str, sizes))} examples of one batch: "
            "give each of them the same number, as a DistributedSampler with drop_last=True does"
        )
    return stack_ranks(x).flatten(0, 1)


@torch.no_grad()
def agree(flags: Tensor) -> Tensor:
    """Set every flag to the largest that any rank holds, in place, and return the flags; on one rank they stay.

    Nothing waits for the device: on CUDA the exchange is queued there like any other work.

    Args:
        flags: Truth values or numbers, contiguous; every rank must call it with one shape, in the same order.
    Shape:
        [...] -> the same.
    """
    if no_ranks() > 1:
        dist.all_reduce(flags, dist.ReduceOp.MAX)
    return flags
