"""Convolutions on groups with continuous kernels, and what goes between them."""

from partial_equiv.convs.convolution import Angle, ContinuousConv, Factorization, check_room
from partial_equiv.convs.expand import check_size, resolve_size
from partial_equiv.convs.feature_map import GroupFeatureMap
from partial_equiv.convs.filters import Padding, PlainFilter, apply_filters
from partial_equiv.convs.gconv2d import GConv2d, InRep, Split
from partial_equiv.convs.group import GroupConv, MakeKernel
from partial_equiv.convs.lifting import LiftingConv
from partial_equiv.convs.norm import NORMS, BatchNorm, LayerNorm, instance_norm
from partial_equiv.convs.permutation import bank_table, check_pixel_group, element_index
from partial_equiv.convs.pointwise import PointwiseConv
from partial_equiv.convs.pool import element_mean, max_readout, mean_readout, spatial_max_pool
from partial_equiv.convs.regular import REDUCTIONS, CosetPool, GroupPool2d, binomial

__all__ = [
    "NORMS",
    "REDUCTIONS",
    "Angle",
    "BatchNorm",
    "ContinuousConv",
    "CosetPool",
    "Factorization",
    "GConv2d",
    "GroupConv",
    "GroupFeatureMap",
    "GroupPool2d",
    "InRep",
    "LayerNorm",
    "LiftingConv",
    "MakeKernel",
    "Padding",
    "PlainFilter",
    "PointwiseConv",
    "Split",
    "apply_filters",
    "bank_table",
    "binomial",
    "check_pixel_group",
    "check_room",
    "check_size",
    "element_index",
    "element_mean",
    "instance_norm",
    "max_readout",
    "mean_readout",
    "resolve_size",
    "spatial_max_pool",
]
