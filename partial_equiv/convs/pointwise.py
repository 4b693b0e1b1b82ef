"""Convolution over the elements alone, with continuous kernels.

Axes: B batch, S sample sets (1 or B), G output elements, F input elements, O I channels, Y X image, d element
    coordinates.
"""

import math

from torch import nn

from partial_equiv.convs.cache import KernelCache
from partial_equiv.convs.convolution import Angle, ContinuousConv, convolve, nominal_elements
from partial_equiv.convs.expand import kernel_points
from partial_equiv.convs.feature_map import GroupFeatureMap
from partial_equiv.convs.filters import PlainFilter, dense_filters
from partial_equiv.convs.group import MakeKernel, align
from partial_equiv.groups import Group
from partial_equiv.kernels import normalise_
from partial_equiv.sampling import Sample


class PointwiseConv(ContinuousConv):
    """Convolution over the elements alone, pixel by pixel: the shortcut of a residual block.

    (f * k)(x, h) = mean_h' f(x, h') k(h^-1 h'). It has no bias and draws no elements: it follows the branch it is
    added to.

    Args:
        in_channels: I.
        out_channels: O.
        group: Where h and h' live.
        make_kernel: (coordinates, values) -> a fresh kernel.
        no_samples: Input elements F that the initial variance is measured for.
        angle: How relative angles enter the kernel, see `GroupConv`.
    Shape:
        values [B, I, F, Y, X], elements [S, F, d] -> values [B, O, G, Y, X], elements [S, G, d].
    Source: Romero & Lohit 2022, appendix.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        group: Group,
        make_kernel: MakeKernel,
        no_samples: int,
        angle: Angle = "circle",
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.no_samples = in_channels, out_channels, no_samples
        self.group, self.angle, self.padding = group, angle, "valid"
        self.kernel = make_kernel(group.no_coordinates(angle), out_channels * in_channels)
        self.bias = None
        self.kernel_hook, self.cache = nn.Identity(), KernelCache()
        elements = nominal_elements(group, no_samples)
        normalise_(self.kernel, *kernel_points(group, elements[:, :1], elements, None, angle))

    def forward(self, f: GroupFeatureMap, sample: Sample) -> GroupFeatureMap:
        """Convolve at given elements [S, G, d]."""
        return self.at(f, sample)

    def at(self, f: GroupFeatureMap, sample: Sample) -> GroupFeatureMap:
        """Convolve at given elements [S, G, d]."""
        aligned, inputs = align(f.sample, sample)
        weight = self.weight(self.kernel, self.cache, aligned, inputs, self.gain, None)
        values = convolve(f.values, weight, None, self.padding, (len(aligned.elements), self.out_channels))
        return GroupFeatureMap(values, aligned.elements, sample.weights, sample.closure)

    def filters(self, sample: Sample, inputs: Sample | None, size: tuple[int, int]) -> tuple[PlainFilter, ...]:
        """Return the plain convolution that does the same for one set of elements, see `ContinuousConv`."""
        assert inputs is not None
        weight = self.weight(self.kernel, self.cache, *align(inputs, sample), self.gain, None)
        return dense_filters(weight, None, self.padding, 1, self.out_channels)

    @property
    def gain(self) -> float:
        """The factor sqrt(F / I) that keeps the variance of white inputs."""
        return math.sqrt(self.no_samples / self.in_channels)
