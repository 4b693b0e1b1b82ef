"""From a trained network to plain torch.nn modules, and to files of torch.export and ONNX."""

from partial_equiv.export.agreement import Agreement, compare, largest_difference
from partial_equiv.export.files import FORMATS, Exported, Loaded, export_network
from partial_equiv.export.modules import (
    Frame,
    Levels,
    Maximum,
    MaximumAndMean,
    MeanOfCopies,
    OverElements,
    Residual,
    Scale,
    TurnedCopies,
    WeightedMean,
    WeightedNorm,
)
from partial_equiv.export.networks import CONVERTERS
from partial_equiv.export.plain import compared_plain, random_images, to_plain

__all__ = [
    "CONVERTERS",
    "FORMATS",
    "Agreement",
    "Exported",
    "Frame",
    "Levels",
    "Loaded",
    "Maximum",
    "MaximumAndMean",
    "MeanOfCopies",
    "OverElements",
    "Residual",
    "Scale",
    "TurnedCopies",
    "WeightedMean",
    "WeightedNorm",
    "compare",
    "compared_plain",
    "export_network",
    "largest_difference",
    "random_images",
    "to_plain",
]
