"""Probes: what is measured of a model and is not a mean over batches. `PROBES` maps each name to its maker."""

from collections.abc import Callable, Mapping

from partial_equiv.probes.confusion import ClassAccuracy, confusion_counts
from partial_equiv.probes.probe import Probe

PROBES: Mapping[str, Callable[..., Probe]] = {"class_accuracy": ClassAccuracy}

__all__ = ["PROBES", "ClassAccuracy", "Probe", "confusion_counts"]
