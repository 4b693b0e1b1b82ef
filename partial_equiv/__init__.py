"""Partial group convolutions, and what goes with them: learn, measure and audit symmetry in images."""

from partial_equiv.convs import GroupConv, GroupFeatureMap, LiftingConv, PointwiseConv
from partial_equiv.errors import UserError
from partial_equiv.groups import make_group
from partial_equiv.nets import build
from partial_equiv.sampling import make_sampler

__all__ = [
    "GroupConv",
    "GroupFeatureMap",
    "LiftingConv",
    "PointwiseConv",
    "UserError",
    "build",
    "make_group",
    "make_sampler",
]
__version__ = "0.1.0"
