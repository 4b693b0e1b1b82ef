"""Probes: what is measured of a model and is not a mean over batches. `PROBES` maps each name to its maker."""

from collections.abc import Callable, Mapping

from partial_equiv.probes.clusters import Clusters
from partial_equiv.probes.confusion import ClassAccuracy, confusion_counts
from partial_equiv.probes.data_symmetry import DataReport
from partial_equiv.probes.downstream import Downstream
from partial_equiv.probes.equivariance import Equivariance
from partial_equiv.probes.ood import OutOfDistribution
from partial_equiv.probes.orbit import Orbit
from partial_equiv.probes.probe import Artifact, Probe
from partial_equiv.probes.standardised import Upright, plain_batches, upright
from partial_equiv.probes.symmetry import Symmetry
from partial_equiv.probes.unlearning import Unlearning, tap_means

PROBES: Mapping[str, Callable[..., Probe]] = {
    "class_accuracy": ClassAccuracy,
    "orbit": Orbit,
    "audit": Equivariance,
    "unlearning": Unlearning,
    "symmetry": Symmetry,
    "ood": OutOfDistribution,
    "clusters": Clusters,
    "downstream": Downstream,
    "data_symmetry": DataReport,
}

__all__ = [
    "PROBES",
    "Artifact",
    "ClassAccuracy",
    "Clusters",
    "DataReport",
    "Downstream",
    "Equivariance",
    "Orbit",
    "OutOfDistribution",
    "Probe",
    "Symmetry",
    "Unlearning",
    "Upright",
    "confusion_counts",
    "plain_batches",
    "tap_means",
    "upright",
]
