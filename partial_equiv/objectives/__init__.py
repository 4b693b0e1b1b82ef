"""Objectives: what a network is trained for, as a module that turns a batch into one step."""

from partial_equiv.objectives.canonicalization import CENTRES, Canonicalization
from partial_equiv.objectives.classification import Classification
from partial_equiv.objectives.method import Method, make_method
from partial_equiv.objectives.objective import Objective, Step
from partial_equiv.objectives.self_supervised import SelfSupervised
from partial_equiv.objectives.split_terms import SPLIT_TERMS
from partial_equiv.objectives.symmetry_level import SymmetryLevel
from partial_equiv.objectives.terms import (
    Record,
    Regulariser,
    Term,
    monotonic_penalty,
    published_weight_decay,
    recording,
)

__all__ = [
    "CENTRES",
    "SPLIT_TERMS",
    "Canonicalization",
    "Classification",
    "Method",
    "Objective",
    "Record",
    "Regulariser",
    "SelfSupervised",
    "Step",
    "SymmetryLevel",
    "Term",
    "make_method",
    "monotonic_penalty",
    "published_weight_decay",
    "recording",
]
