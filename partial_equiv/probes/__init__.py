"""Probes: what is measured of a model and is not a mean over batches. `PROBES` maps each name to its maker."""

from collections.abc import Callable, Mapping

from partial_equiv.probes.classification import HeadClassification
from partial_equiv.probes.clusters import Clusters
from partial_equiv.probes.color import Color
from partial_equiv.probes.confusion import Answers, ClassAccuracy, answers_of
from partial_equiv.probes.data_symmetry import DataReport
from partial_equiv.probes.downstream import Downstream
from partial_equiv.probes.equivariance import Equivariance
from partial_equiv.probes.features import device_of, evaluating
from partial_equiv.probes.ood import OutOfDistribution
from partial_equiv.probes.orbit import Orbit
from partial_equiv.probes.prediction_error import PredictionError
from partial_equiv.probes.probe import Artifact, Probe
from partial_equiv.probes.retrieval import Retrieval
from partial_equiv.probes.rotation import Rotation
from partial_equiv.probes.spectrum import Spectrum
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
    "classification": HeadClassification,
    "rotation": Rotation,
    "color": Color,
    "prediction_error": PredictionError,
    "retrieval": Retrieval,
    "spectrum": Spectrum,
}

__all__ = [
    "PROBES",
    "Answers",
    "Artifact",
    "ClassAccuracy",
    "Clusters",
    "Color",
    "DataReport",
    "Downstream",
    "Equivariance",
    "HeadClassification",
    "Orbit",
    "OutOfDistribution",
    "PredictionError",
    "Probe",
    "Retrieval",
    "Rotation",
    "Spectrum",
    "Symmetry",
    "Unlearning",
    "Upright",
    "answers_of",
    "device_of",
    "evaluating",
    "plain_batches",
    "tap_means",
    "upright",
]
