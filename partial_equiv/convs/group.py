"""Group convolution with continuous kernels.

Axes: B batch, S sample sets (1 or B), G output elements, F input elements, O I channels, Y X image, d element
    coordinates.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from partial_equiv.convs.cache import KernelCache
from partial_equiv.convs.convolution import (
    Angle,
    ContinuousConv,
    Factorization,
    Inputs,
    check_room,
    check_stride,
    convolve,
    nominal_elements,
)
from partial_equiv.convs.expand import check_size, kernel_points, mean_scale, resolve_size
from partial_equiv.convs.feature_map import GroupFeatureMap
from partial_equiv.convs.filters import Padding, PlainFilter, apply_filters, dense_filters, mixed_filters
from partial_equiv.convs.taps import make_taps, nominal_taps
from partial_equiv.errors import UserError
from partial_equiv.groups import Group
from partial_equiv.kernels import Kernel, normalise_, normalise_product_
from partial_equiv.sampling import Sample, Sampler, draw_sets

MakeKernel = Callable[[int, int], Kernel]


class GroupConv(ContinuousConv):
    """Convolution on the group, equivariant to the whole of it or to a learned part.

    (f * k)(x, h) = mean_h' int f(x', h') k(h^-1 (x' - x), h^-1 h') dx', the mean weighted by how much each h' counts.
    Exact at the sampled elements for turns the pixel grid allows; elsewhere interpolation leaks, and so does a kernel
    of an even side, its middle half a pixel off. A partial layer obeys the law on its own subset of the group.

    A factorised kernel is a product of one on the elements and one on the plane, k_oi(x, h) = k_oi(h) k_oi(x) ("g") or
    k_oi(h) k_o(x) ("gc"). With "gc" channels and elements are mixed at each pixel, then each output is filtered on the
    plane, which costs about as much as a plain convolution; "g" is multiplied out and saves kernel evaluations alone.

    Args:
        in_channels: I.
        out_channels: O.
        size: Kernel side in pixels: an odd number, "same" or "full".
        group: Where h and h' live.
        make_kernel: (coordinates, values) -> a fresh kernel.
        sampler: Draws h; None computes at the input's elements.
        no_samples: Input elements F that the initial variance is measured for.
        padding: "same", "valid" or pixels.
        bias: Learn one number per output channel.
        per_batch_element: Draw one set of elements for every image.
        angle: How relative angles enter the kernel: "circle", continuous at 0 = 2 pi, or "linear", the published r /
            pi - 1.
        stride: Pixels between outputs; exact only where (side + 2 padding - size) mod stride = 0.
        factorization: "full", "g" or "gc".
    Shape:
        values [B, I, F, Y, X], elements [S, F, d] -> values [B, O, G, Y', X'], elements [S, G, d].
    Raises:
        UserError: `size` is even, an unknown factorization, or the map is smaller than the kernel where nothing pads
            it.
    Source: Romero & Lohit 2022, section 3; factors: Knigge et al. 2022. Differs: a mean over h' instead of a sum, and
        kernels that keep the variance.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        size: int | str,
        group: Group,
        make_kernel: MakeKernel,
        sampler: Sampler | None,
        no_samples: int,
        padding: Padding = "same",
        bias: bool = True,
        per_batch_element: bool = False,
        angle: Angle = "circle",
        stride: int = 1,
        factorization: Factorization = "full",
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.size = in_channels, out_channels, check_size(size)
        self.group, self.angle, self.padding, self.per_batch_element = group, angle, padding, per_batch_element
        self.stride, self.factorization = check_stride(stride, padding), check_factorization(factorization)
        self.sampler, self.no_samples = sampler, no_samples
        self.kernel_hook = nn.Identity()
        self.cache, self.spatial_cache, self.product_cache = KernelCache(), KernelCache(), KernelCache()
        self._make_kernels(make_kernel)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def _make_kernels(self, make_kernel: MakeKernel) -> None:
        """Make the kernel, or its factors, with values (or products) of a mean square of 1."""
        outputs, inputs, group = self.out_channels, self.in_channels, self.group
        elements, taps = nominal_elements(group, self.no_samples), nominal_taps(self.size)
        coordinates = group.no_coordinates(self.angle)
        plane, *relative = kernel_points(group, elements[:, :1], elements, taps.positions, self.angle)
        self.spatial_kernel: Kernel | None = None
        if self.factorization == "full":
            self.kernel = make_kernel(2 + coordinates, outputs * inputs)
            normalise_(self.kernel, plane, *relative)
            return
        self.kernel = make_kernel(coordinates, outputs * inputs)
        self.spatial_kernel = make_kernel(2, outputs * (inputs if self.factorization == "g" else 1))
        for factor in (self.kernel, self.spatial_kernel):
            factor.start_as_factor_(2 + coordinates)
        normalise_(self.kernel, *relative)
        normalise_(self.spatial_kernel, plane)
        normalise_product_(self.kernel, self.spatial_kernel, relative[0], plane, outputs)

    def forward(self, f: GroupFeatureMap, generator: torch.Generator | None = None) -> GroupFeatureMap:
        """Draw elements, or keep the input's, and convolve at them."""
        if self.sampler is None:
            return self.at(f, f.sample)
        return self.at(f, draw_sets(self.sampler, len(f.values) if self.per_batch_element else None, generator))

    def at(self, f: GroupFeatureMap, sample: Sample) -> GroupFeatureMap:
        """Convolve at given elements [S, G, d]."""
        aligned, inputs = align(f.sample, sample)
        (height, width), no_sets = f.values.shape[-2:], len(aligned.elements)
        size = resolve_size(self.size, height, width)
        weight, *spatial = self._weights(aligned, inputs, size)
        if spatial:
            check_room(height, width, size, self.padding)
            filters = self._filters(weight, spatial, no_sets)
            values = apply_filters(f.values.flatten(1, 2), filters, no_sets).unflatten(1, (self.out_channels, -1))
        else:
            values = convolve(f.values, weight, self.bias, self.padding, (no_sets, self.out_channels), self.stride)
        return GroupFeatureMap(values, aligned.elements, sample.weights, sample.closure)

    def filters(self, sample: Sample, inputs: Sample | None, size: tuple[int, int]) -> tuple[PlainFilter, ...]:
        """Return the plain convolutions that do the same for one set of elements, see `ContinuousConv`."""
        assert inputs is not None
        weight, *spatial = self._weights(*align(inputs, sample), resolve_size(self.size, *size))
        return self._filters(weight, spatial, 1)

    def _weights(self, sample: Sample, inputs: Inputs, size: int) -> list[Tensor]:
        """Return the dense weight, or with "gc" the mixing one and the spatial one."""
        taps = make_taps(size, sample.elements.dtype, sample.elements.device)
        gain, spatial_gain = math.sqrt(self.no_samples / self.in_channels), 1 / math.sqrt(taps.live.shape[0])
        if self.spatial_kernel is None:
            return [self.weight(self.kernel, self.cache, sample, inputs, gain * spatial_gain, taps)]
        mixing = self.weight(self.kernel, self.cache, sample, inputs, gain, None)
        spatial = self.weight(self.spatial_kernel, self.spatial_cache, sample, None, spatial_gain, taps)
        if self.factorization == "gc":
            return [mixing, spatial]
        return [self._product(mixing, spatial)]

    def _product(self, mixing: Tensor, spatial: Tensor) -> Tensor:
        """Return the factors of "g" multiplied out: I times as many features between two convolutions cost more."""

        def make() -> Tensor:
            product: Tensor = (mixing.unflatten(1, (self.in_channels, -1)) * spatial.unsqueeze(2)).flatten(1, 2)
            return product

        if torch.compiler.is_compiling():
            return make()
        frozen = not self.training and not (torch.is_grad_enabled() and (mixing.requires_grad or spatial.requires_grad))
        return self.product_cache.recall(frozen, lambda: [mixing, spatial], make)

    def _filters(self, weight: Tensor, spatial: list[Tensor], no_sets: int) -> tuple[PlainFilter, ...]:
        if not spatial:
            return dense_filters(weight, self.bias, self.padding, self.stride, self.out_channels)
        return mixed_filters(weight, spatial[0], self.bias, self.padding, self.stride, (no_sets, self.out_channels))


def check_factorization(factorization: Factorization) -> Factorization:
    """Return the factorization.

    Raises:
        UserError: there is none of this name.
    """
    if factorization not in ("full", "g", "gc"):
        raise UserError(f"conv.factorization={factorization!r} is not one of: full, g, gc")
    return factorization


def align(inputs: Sample, sample: Sample) -> tuple[Sample, Inputs]:
    """Return output elements, input elements and how much these count, all with the same number of sets S."""
    scale = mean_scale(inputs.elements, inputs.weights)
    no_sets = max(inputs.elements.shape[0], sample.elements.shape[0], scale.shape[0])
    outputs, elements, scale = (t.expand(no_sets, *t.shape[1:]) for t in (sample.elements, inputs.elements, scale))
    return Sample(outputs, sample.weights, sample.closure), Inputs(elements, scale, inputs.closure)
