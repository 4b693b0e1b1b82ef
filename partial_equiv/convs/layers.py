"""Lifting, group and pointwise convolutions with continuous kernels.

Axes: B batch, S sample sets (1 or B), G output elements, F input elements, O I channels, Y X image, d element
    coordinates.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from partial_equiv.convs.convolution import Angle, ContinuousConv, Padding, convolve
from partial_equiv.convs.expand import (
    NOMINAL_SIZE,
    KernelCache,
    Taps,
    check_size,
    kernel_points,
    make_taps,
    mean_scale,
    resolve_size,
)
from partial_equiv.convs.feature_map import GroupFeatureMap
from partial_equiv.errors import UserError
from partial_equiv.groups import Group
from partial_equiv.kernels import Kernel, normalise_
from partial_equiv.sampling import Sample, Sampler

MakeKernel = Callable[[int, int], Kernel]


class LiftingConv(ContinuousConv):
    """Convolution from the plane to the group.

    (f * k)(x, h) = int f(x') k(h^-1 (x' - x)) dx': the kernel is turned to each sampled element h.
    Exact at the sampled elements for turns the pixel grid allows; elsewhere interpolation leaks.
    A kernel of an even side ("same" on an even map) has its middle half a pixel off, and is not exact under turns.

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
    Shape:
        [B, I, Y, X] -> values [B, O, G, Y', X'], elements [S, G, d].
    Raises:
        UserError: `size` is even, or the map is smaller than the kernel where nothing pads it.
    Source: Romero & Lohit 2022, section 3. Differs: the kernel's scale keeps the variance of white inputs.
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
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.size = in_channels, out_channels, check_size(size)
        self.group, self.angle, self.padding, self.per_batch_element = group, angle, padding, per_batch_element
        self.stride = _check_stride(stride, padding)
        self.kernel = make_kernel(2, out_channels * in_channels)
        self.sampler = sampler
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.kernel_hook, self.cache = nn.Identity(), KernelCache()
        elements = _nominal_elements(group, sampler.no_samples)
        normalise_(self.kernel, kernel_points(group, elements, None, _nominal_taps(self.size).positions, angle))

    def gain(self, taps: Taps | None) -> float:
        """Return 1 / sqrt(I T)."""
        assert taps is not None
        return 1 / math.sqrt(self.in_channels * len(taps.live))

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> GroupFeatureMap:
        """Draw elements and convolve at them."""
        return self.at(images, self.sampler(_no_sets(self, images), generator))

    def at(self, images: Tensor, sample: Sample) -> GroupFeatureMap:
        """Convolve at given elements [S, G, d]."""
        elements = sample.elements
        taps = make_taps(resolve_size(self.size, *images.shape[-2:]), elements.dtype, elements.device)
        weight = self.weight(sample, None, elements.new_ones(1, 1), taps)
        values = convolve(
            images.unsqueeze(2), weight, self.bias, self.padding, (elements.shape[0], self.out_channels), self.stride
        )
        return GroupFeatureMap(values, elements, sample.weights)


class GroupConv(ContinuousConv):
    """Convolution on the group, equivariant to the whole of it or to a learned part.

    (f * k)(x, h) = mean_h' int f(x', h') k(h^-1 (x' - x), h^-1 h') dx', the mean weighted by how much each h' counts.
    Exact at the sampled elements for turns the pixel grid allows; elsewhere interpolation leaks, and so does a kernel
    of an even side, its middle half a pixel off. A partial layer obeys the law on its own subset of the group.

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
    Shape:
        values [B, I, F, Y, X], elements [S, F, d] -> values [B, O, G, Y', X'], elements [S, G, d].
    Raises:
        UserError: `size` is even, or the map is smaller than the kernel where nothing pads it.
    Source: Romero & Lohit 2022, section 3. Differs: a mean over h' instead of a sum, and a kernel that keeps the
        variance.
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
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.size = in_channels, out_channels, check_size(size)
        self.group, self.angle, self.padding, self.per_batch_element = group, angle, padding, per_batch_element
        self.stride = _check_stride(stride, padding)
        self.kernel = make_kernel(2 + group.no_coordinates(angle), out_channels * in_channels)
        self.sampler, self.no_samples = sampler, no_samples
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.kernel_hook, self.cache = nn.Identity(), KernelCache()
        elements = _nominal_elements(group, no_samples)
        positions = _nominal_taps(self.size).positions
        normalise_(self.kernel, kernel_points(group, elements[:, :1], elements, positions, angle))

    def gain(self, taps: Taps | None) -> float:
        """Return sqrt(F / (I T))."""
        assert taps is not None
        return math.sqrt(self.no_samples / (self.in_channels * len(taps.live)))

    def forward(self, f: GroupFeatureMap, generator: torch.Generator | None = None) -> GroupFeatureMap:
        """Draw elements, or keep the input's, and convolve at them."""
        if self.sampler is None:
            return self.at(f, Sample(f.elements, f.weights))
        return self.at(f, self.sampler(_no_sets(self, f.values), generator))

    def at(self, f: GroupFeatureMap, sample: Sample) -> GroupFeatureMap:
        """Convolve at given elements [S, G, d]."""
        elements, inputs, scale = _aligned(f, sample)
        taps = make_taps(resolve_size(self.size, *f.values.shape[-2:]), elements.dtype, elements.device)
        weight = self.weight(sample._replace(elements=elements), inputs, scale, taps)
        values = convolve(
            f.values, weight, self.bias, self.padding, (elements.shape[0], self.out_channels), self.stride
        )
        return GroupFeatureMap(values, elements, sample.weights)


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
        elements = _nominal_elements(group, no_samples)
        normalise_(self.kernel, kernel_points(group, elements[:, :1], elements, None, angle))

    def gain(self, taps: Taps | None) -> float:
        """Return sqrt(F / I)."""
        return math.sqrt(self.no_samples / self.in_channels)

    def forward(self, f: GroupFeatureMap, sample: Sample) -> GroupFeatureMap:
        """Convolve at given elements [S, G, d]."""
        return self.at(f, sample)

    def at(self, f: GroupFeatureMap, sample: Sample) -> GroupFeatureMap:
        """Convolve at given elements [S, G, d]."""
        elements, inputs, scale = _aligned(f, sample)
        weight = self.weight(sample._replace(elements=elements), inputs, scale, None)
        values = convolve(f.values, weight, None, self.padding, (elements.shape[0], self.out_channels))
        return GroupFeatureMap(values, elements, sample.weights)


def _check_stride(stride: int, padding: Padding) -> int:
    if stride < 1 or (stride > 1 and padding == "same"):
        raise UserError(f"stride={stride} does not fit padding={padding!r}: give a stride of 1, or pixels of padding")
    return stride


def _nominal_taps(size: int | str) -> Taps:
    side = size if isinstance(size, int) else NOMINAL_SIZE
    return make_taps(side, torch.get_default_dtype(), torch.device("cpu"))


def _nominal_elements(group: Group, no_samples: int) -> Tensor:
    """Return the elements [1, N, d] for which the initial scale is measured."""
    elements = group.identity().unsqueeze(0) if no_samples == 1 else group.grid(no_samples)
    return elements.unsqueeze(0)


def _no_sets(conv: LiftingConv | GroupConv, values: Tensor) -> int:
    return values.shape[0] if conv.per_batch_element else 1


def _aligned(f: GroupFeatureMap, sample: Sample) -> tuple[Tensor, Tensor, Tensor]:
    """Return output elements, input elements and the input elements' scale, all with the same number of sets S."""
    scale = mean_scale(f.elements, f.weights)
    no_sets = max(f.elements.shape[0], sample.elements.shape[0], scale.shape[0])
    elements, inputs, scale = (t.expand(no_sets, *t.shape[1:]) for t in (sample.elements, f.elements, scale))
    return elements, inputs, scale
