"""Lifting convolution, from the plane to the group, with continuous kernels.

Axes: B batch, S sample sets (1 or B), G output elements, O I channels, Y X image, d element coordinates.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from partial_equiv.convs.cache import KernelCache
from partial_equiv.convs.convolution import (
    Angle,
    ContinuousConv,
    Factorization,
    check_stride,
    convolve,
    nominal_elements,
)
from partial_equiv.convs.expand import check_size, kernel_points, resolve_size
from partial_equiv.convs.feature_map import GroupFeatureMap
from partial_equiv.convs.filters import Padding, PlainFilter, dense_filters
from partial_equiv.convs.group import MakeKernel, check_factorization
from partial_equiv.convs.taps import make_taps, nominal_taps
from partial_equiv.errors import UserError
from partial_equiv.groups import Group
from partial_equiv.kernels import normalise_
from partial_equiv.sampling import Sample, Sampler, draw_sets


class LiftingConv(ContinuousConv):
    """Convolution from the plane to the group.

    (f * k)(x, h) = int f(x') k(h^-1 (x' - x)) dx': the kernel is turned to each sampled element h.
    Exact at the sampled elements for turns the pixel grid allows; elsewhere interpolation leaks.
    A kernel of an even side ("same" on an even map) has its middle half a pixel off, and is not exact under turns.

    A factorised kernel is k_oi(x) = p_oi k_o(x) ("gc"): it saves parameters, not time.

    Args:
        in_channels: I.
        out_channels: O.
        size: Kernel side in pixels: an odd number, "same" (the longer side of the map) or "full" (twice that less 1).
        group: Where h lives.
        make_kernel: (coordinates, values) -> a fresh kernel; it gets 2 and O * I.
        sampler: Draws h; it covers the whole group.
        padding: "same", "valid" or pixels.
        bias: Learn one number per output channel.
        per_batch_element: Draw one set of elements for every image instead of one for the batch.
        angle: Unused on the plane, kept so that all convolutions are configured alike.
        stride: Pixels between outputs; exact only where (side + 2 padding - size) mod stride = 0.
        factorization: "full" or "gc".
    Shape:
        [B, I, Y, X] -> values [B, O, G, Y', X'], elements [S, G, d].
    Raises:
        UserError: `size` is even, a factorization over elements, or the map is smaller than the kernel where nothing
            pads it.
    Source: Romero & Lohit 2022, section 3; factors: Knigge et al. 2022. Differs: the kernel's scale keeps the variance
        of white inputs.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        size: int | str,
        group: Group,
        make_kernel: MakeKernel,
        sampler: Sampler,
        padding: Padding = "same",
        bias: bool = True,
        per_batch_element: bool = False,
        angle: Angle = "circle",
        stride: int = 1,
        factorization: Factorization = "full",
    ) -> None:
        super().__init__()
        if check_factorization(factorization) == "g":
            raise UserError("conv.factorization=g splits elements off and a lifting has none: give full or gc")
        self.in_channels, self.out_channels, self.size = in_channels, out_channels, check_size(size)
        self.group, self.angle, self.padding, self.per_batch_element = group, angle, padding, per_batch_element
        self.stride, self.factorization = check_stride(stride, padding), factorization
        self.sampler = sampler
        self.kernel_hook, self.cache = nn.Identity(), KernelCache()
        taps = nominal_taps(self.size)
        points = kernel_points(group, nominal_elements(group, sampler.no_samples), None, taps.positions, angle)
        self.channels: nn.Parameter | None = None
        if factorization == "full":
            self.kernel = make_kernel(2, out_channels * in_channels)
            normalise_(self.kernel, *points)
        else:
            mixing = torch.empty(out_channels, in_channels).uniform_(-1, 1)
            self.channels = nn.Parameter(nn.functional.normalize(mixing, dim=1))
            self.spatial_kernel = make_kernel(2, out_channels)
            self.spatial_kernel.start_as_factor_(2)
            normalise_(self.spatial_kernel, *points)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> GroupFeatureMap:
        """Draw elements and convolve at them."""
        return self.at(images, draw_sets(self.sampler, len(images) if self.per_batch_element else None, generator))

    def at(self, images: Tensor, sample: Sample) -> GroupFeatureMap:
        """Convolve at given elements [S, G, d]."""
        weight, shape = self._weight(sample, images.shape[-2:]), (len(sample.elements), self.out_channels)
        values = convolve(images.unsqueeze(2), weight, self.bias, self.padding, shape, self.stride)
        return GroupFeatureMap(values, sample.elements, sample.weights, sample.closure)

    def filters(self, sample: Sample, inputs: Sample | None, size: tuple[int, int]) -> tuple[PlainFilter, ...]:
        """Return the plain convolution that does the same for one set of elements, see `ContinuousConv`."""
        return dense_filters(self._weight(sample, size), self.bias, self.padding, self.stride, self.out_channels)

    def _weight(self, sample: Sample, size: Sequence[int]) -> Tensor:
        """Return the dense weight, [S * G * O, I, V, U], factors multiplied out: an image has few channels."""
        taps = make_taps(resolve_size(self.size, *size), sample.elements.dtype, sample.elements.device)
        spatial = 1 / math.sqrt(taps.live.shape[0])
        if self.channels is None:
            return self.weight(self.kernel, self.cache, sample, None, spatial / math.sqrt(self.in_channels), taps)
        mixing = self._observed(self.channels)[..., None, None]
        shared = self.weight(self.spatial_kernel, self.cache, sample, None, spatial, taps)
        return shared * mixing.repeat(len(shared) // self.out_channels, 1, 1, 1)
