"""Equivariance audit: say of any torch module, layer by layer, how equivariant it is, and why not.

`from partial_equiv import audit` gives this package, and it can be called: audit(model, x, "C4") is audit.audit(...).
"""

import sys
import types
from typing import Any

from partial_equiv.audit.assertion import assert_equivariant, equivariance_error
from partial_equiv.audit.dynamic import audit
from partial_equiv.audit.exactness import ExactnessReport, check_exactness
from partial_equiv.audit.figures import errors_over_epochs
from partial_equiv.audit.law import TrainingLaw
from partial_equiv.audit.moves import Move, make_moves
from partial_equiv.audit.orbit import evaluate_orbit, orbit_images
from partial_equiv.audit.orbit_report import OrbitReport
from partial_equiv.audit.pages import audit_page
from partial_equiv.audit.phase import PhaseReport, phase_report
from partial_equiv.audit.report import AuditReport, LayerError
from partial_equiv.audit.twin import symmetrised_twin

__all__ = [
    "AuditReport",
    "ExactnessReport",
    "LayerError",
    "Move",
    "OrbitReport",
    "PhaseReport",
    "TrainingLaw",
    "assert_equivariant",
    "audit",
    "audit_page",
    "check_exactness",
    "equivariance_error",
    "errors_over_epochs",
    "evaluate_orbit",
    "make_moves",
    "orbit_images",
    "phase_report",
    "symmetrised_twin",
]


class _Package(types.ModuleType):
    """A package that can be called by the name of its main function, which is its own."""

    def __call__(self, *args: Any, **keywords: Any) -> AuditReport:
        return audit(*args, **keywords)


sys.modules[__name__].__class__ = _Package
