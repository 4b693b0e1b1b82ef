"""Evaluation: means over a loader, and probes. Used by the trainer and by main."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from partial_equiv.datasets import moved
from partial_equiv.objectives import Objective, Step
from partial_equiv.probes import Probe, device_of, evaluating
from partial_equiv.ranks import no_ranks, rank, summed


class Averages:
    """Means of losses and metrics over examples, summed where the numbers lie, so that nothing waits for the device.

    Args:
        finite_only: Leave out the steps whose loss is not finite, as a training does.
    """

    def __init__(self, *, finite_only: bool = False) -> None:
        self.finite_only = finite_only
        self.totals: dict[str, Tensor] = {}
        self.sizes: dict[str, Tensor] = {}

    def add(self, step: Step) -> None:
        """Count one step by its size."""
        wide = precision_of_sums(step.loss.device)
        size = torch.full((), step.size, dtype=wide, device=step.loss.device)
        if self.finite_only:
            size = torch.where(step.loss.isfinite(), size, 0)
        for name, value in {"loss": step.loss, **step.metrics}.items():
            term = value.detach().to(wide) * size
            term = torch.where(size > 0, term, 0) if self.finite_only else term
            self.totals[name] = self.totals[name] + term if name in self.totals else term
            # Each by its own count: some metrics are not there at every step.
            self.sizes[name] = self.sizes[name] + size if name in self.sizes else size

    def load(self, totals: Mapping[str, float], sizes: Mapping[str, float], like: Tensor) -> None:
        """Take back sums that the host had read, on the device of `like`."""
        wide = precision_of_sums(like.device)
        self.totals = {name: torch.tensor(value, dtype=wide, device=like.device) for name, value in totals.items()}
        self.sizes = {name: torch.tensor(value, dtype=wide, device=like.device) for name, value in sizes.items()}

    def means(self, *, shared: bool = False) -> dict[str, float]:
        """Return the means so far, `shared` those of all ranks; this waits for the device."""
        totals, sizes = ({name: float(x) for name, x in sums.items()} for sums in (self.totals, self.sizes))
        if shared:
            totals, sizes = summed(totals), summed(sizes)
        return {name: total / sizes[name] for name, total in totals.items()}


def precision_of_sums(device: torch.device) -> torch.dtype:
    """Return double precision, where there is any: sums over many batches should not depend on how they are cut."""
    return torch.float32 if device.type == "mps" else torch.float64


def on_device(loader: Iterable[Any], device: torch.device, max_steps: int | None = None) -> Iterator[Any]:
    """Yield a loader's batches on a device, at most `max_steps` of them."""
    for batch in itertools.islice(loader, max_steps):
        yield moved(batch, device)


def evaluate(
    objective: Objective, loader: Iterable[Any], max_steps: int | None = None, *, shared: bool = False
) -> dict[str, float]:
    """Return the loss and every metric of an objective over a loader, batches weighted by their size.

    Args:
        objective: Used in evaluation mode, left as it was.
        loader: Batches; they are moved to the objective's device.
        max_steps: Stop after so many batches, for a trial run; None goes through.
        shared: Each rank takes some of the batches, whole ones, and all return the means over all of them.
    """
    averages, device = Averages(), device_of(objective)
    own = itertools.islice(loader, rank(), max_steps, no_ranks()) if shared else itertools.islice(loader, max_steps)
    with evaluating(objective):
        for batch in on_device(own, device):
            averages.add(objective(batch))
    return averages.means(shared=shared)


def run_probes(
    objective: Objective, loader: Iterable[Any], probes: Mapping[str, Probe], max_steps: int | None = None
) -> dict[str, float]:
    """Return the numbers of every probe; most measure the objective's model."""
    found: dict[str, float] = {}
    with evaluating(objective):
        for probe in probes.values():
            measured = objective if probe.whole else objective.model
            found |= probe(measured, on_device(loader, device_of(objective), max_steps))
    return found
