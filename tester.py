"""Evaluation: means over a loader, and probes. Used by the trainer and by main."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from partial_equiv.datasets import moved
from partial_equiv.objectives import Objective, Step
from partial_equiv.probes import Probe, device_of, evaluating


class Averages:
    """Means of losses and metrics over examples, summed where the numbers lie, so that nothing waits for the device."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}
        self.sizes: dict[str, int] = {}

    def add(self, step: Step) -> None:
        """Count one step by its size."""
        for name, value in {"loss": step.loss, **step.metrics}.items():
            # Double precision, where there is any: sums over many batches should not depend on how they are cut.
            wide = torch.float32 if value.device.type == "mps" else torch.float64
            term = value.detach().to(wide) * step.size
            self.totals[name] = self.totals[name] + term if name in self.totals else term
            # Each by its own count: some metrics are not there at every step.
            self.sizes[name] = self.sizes.get(name, 0) + step.size

    def means(self) -> dict[str, float]:
        """Return the means so far; this waits for the device."""
        return {name: float(total) / self.sizes[name] for name, total in self.totals.items()}


def on_device(loader: Iterable[Any], device: torch.device, max_steps: int | None = None) -> Iterator[Any]:
    """Yield a loader's batches on a device, at most `max_steps` of them."""
    for batch in itertools.islice(loader, max_steps):
        yield moved(batch, device)


def evaluate(objective: Objective, loader: Iterable[Any], max_steps: int | None = None) -> dict[str, float]:
    """Return the loss and every metric of an objective over a loader, batches weighted by their size.

    Args:
        objective: Used in evaluation mode, left as it was.
        loader: Batches; they are moved to the objective's device.
        max_steps: Stop after so many batches, for a trial run; None goes through.
    """
    averages = Averages()
    with evaluating(objective):
        for batch in on_device(loader, device_of(objective), max_steps):
            averages.add(objective(batch))
    return averages.means()


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
