"""A trained symmetry inference as one object: poses, levels, families and upright versions of anyone's images."""

from partial_equiv.detector.symmetry_detector import SHIPPED, SymmetryDetector

__all__ = ["SHIPPED", "SymmetryDetector"]
