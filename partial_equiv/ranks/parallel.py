"""One step on several ranks: each computes on its share of the batch, and all take the step of the whole batch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from partial_equiv.ranks.collectives import no_ranks
from partial_equiv.ranks.draws import own_rows


class Parallel:
    """An objective as one process with all examples would see it.

    The step that it returns has the numbers of the whole batch: loss and metrics are means over the examples of all
    ranks, and so is the size. Its gradient is this rank's share, sum_b d loss_b / M times the number of ranks, so that
    the average over ranks, which torch's DistributedDataParallel takes while the backward pass goes on, is the gradient
    of the whole batch, also where ranks hold different numbers of examples.

    DistributedDataParallel waits for a gradient of every parameter that it was shown. It is shown those that the loss
    depends on, which the first batch tells; looking for unused ones in every step would make CUDA wait for the host.
    Heads that watch are trained in some steps only and share their gradients by themselves. Buffers are not sent:
    they are a function of what all ranks know.

    Args:
        objective: Turns a batch into a step; see `partial_equiv.objectives`.
        device: Where.
        watchers: The heads of the objective that learn from `Step.extra`.
    """

    def __init__(self, objective: nn.Module, device: torch.device, watchers: nn.Module | None) -> None:
        self.objective, self.device, self.watchers = objective, device, watchers
        self.wrapped: DistributedDataParallel | None = None
        self.in_step = True
        for parameter in watchers.parameters() if watchers is not None else ():
            parameter.register_hook(averaged)

    def __call__(self, batch: Any) -> Any:
        """Return the step of a batch, of which this rank holds a share."""
        if self.wrapped is None:
            self.wrapped = wrapped(self.objective, trained(self.objective, batch, self.device))
        with nullcontext() if self.in_step else self.wrapped.no_sync():
            step = self.wrapped(batch)
        rows = own_rows(step.size)
        values = {"": step.loss, **step.metrics} | ({} if step.extra is None else {"/": step.extra})
        means = dict(zip(values, mean_over_ranks(list(values.values()), step.size, rows.total), strict=True))
        weight = no_ranks() * step.size / rows.total
        return step._replace(
            loss=valued(weight * step.loss, means.pop("")),
            extra=None if step.extra is None else valued(weight * step.extra, means.pop("/")),
            metrics=means,
            size=rows.total,
        )


def parallel(
    objective: nn.Module, device: torch.device, watchers: nn.Module | None = None
) -> Callable[[Any], Any] | nn.Module:
    """Return an objective that learns from the examples of all ranks, see `Parallel`; on one rank itself."""
    return objective if no_ranks() == 1 else Parallel(objective, device, watchers)


@contextmanager
def without_sync(forward: Callable[[Any], Any]) -> Iterator[None]:
    """Within this context nothing is averaged: for all but the last of the batches whose gradients make one step.

    Args:
        forward: From `parallel`.
    """
    if not isinstance(forward, Parallel):
        yield
        return
    forward.in_step = False
    try:
        yield
    finally:
        forward.in_step = True


def trained(objective: nn.Module, batch: Any, device: torch.device) -> set[str]:
    """Return the names of the parameters that the loss of a batch depends on; the look leaves no trace."""
    before = [(buffer, buffer.clone()) for buffer in objective.buffers()]
    learning = {name: parameter for name, parameter in objective.named_parameters() if parameter.requires_grad}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        loss = objective(batch).loss
    gradients = torch.autograd.grad(loss, list(learning.values()), allow_unused=True)
    with torch.no_grad():
        for buffer, value in before:
            buffer.copy_(value)
    return {name for name, gradient in zip(learning, gradients, strict=True) if gradient is not None}


def wrapped(objective: nn.Module, names: set[str]) -> DistributedDataParallel:
    """Return an objective that averages the gradients of some of its parameters over ranks."""
    others = [x for name, x in objective.named_parameters() if x.requires_grad and name not in names]
    # What needs no gradient now is left to itself for good, so that it may be trained by other means.
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        found = DistributedDataParallel(objective, gradient_as_bucket_view=True)
    finally:
        for parameter in others:
            parameter.requires_grad_(True)
    found.broadcast_buffers = False  # set here, for as an argument torch 2.15 warns of it and 2.11 knows no other
    return found


def averaged(gradient: Tensor) -> Tensor:
    """Return the mean of a gradient over ranks."""
    total = gradient.detach().contiguous().clone()
    dist.all_reduce(total)
    return total / no_ranks()


@torch.no_grad()
def mean_over_ranks(values: list[Tensor], size: int, total: int) -> list[Tensor]:
    """Return means over the examples of all ranks from means over each rank's own.

    Args:
        values: Each [], on one device.
        size: Examples of this rank.
        total: Examples of all.
    """
    # Shares in double precision, so that a share of hits times the size of the batch is the count again.
    wide = torch.stack([value.double() for value in values]) * (size / total)
    dist.all_reduce(wide)
    return [mean.to(value.dtype) for mean, value in zip(wide, values, strict=True)]


def valued(x: Tensor, value: Tensor) -> Tensor:
    """Return a tensor with the gradient of x and another value."""
    return value + (x - x.detach())
