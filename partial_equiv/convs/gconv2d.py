"""Group convolution on the pixel grid: filters turned and mirrored by permuting their taps, so nothing is interpolated.

Axes: B batch, O I channels, G output elements, F input elements (1 on the plane), Y X image, V U filter.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from partial_equiv.convs.cache import KernelCache
from partial_equiv.convs.filters import PlainFilter, laid_out
from partial_equiv.convs.permutation import bank_table, check_pixel_group
from partial_equiv.errors import UserError
from partial_equiv.groups import PlanarGroup

InRep = Literal["trivial", "regular"]
Split = Literal["g", "gc"] | None
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class GConv2d(nn.Module):
    """Group convolution of a finite group that permutes pixels, its filters free at every tap.

    (f * w)(x, a) = sum_h sum_x' f(x', h) w(a^-1 (x' - x), a^-1 h): the dense filter bank is
    W[o, a, i, h, x] = w[o, i, a^-1 h, a^-1 x], an exact permutation of the weights for filters of odd and even sides.
    Exactly equivariant where the sampling grid is symmetric, (size + 2 padding - dilation (kernel_size - 1) - 1) mod
    stride = 0 on both axes; elsewhere only nearly (`partial_equiv.audit.check_exactness`).

    The factors of a split filter are w[o, i, h, x] = p[o, i, h] s[o, i, x] ("g") or p[o, i, h] s[o, x] ("gc"). With
    "gc" channels and elements are mixed first, at the input's resolution, then space; "g" is multiplied out, for I
    times as many features between two convolutions cost more than one dense convolution.

    Args:
        group: C1, C2, C4, D1, D2 or D4.
        in_channels: I.
        out_channels: O.
        kernel_size: Side of the filter in pixels, odd or even.
        in_rep: "trivial" for images [B, I, Y, X] (lifting), "regular" for features [B, I, G, Y, X].
        stride: Pixels between outputs.
        padding: Pixels on each side.
        dilation: Pixels between taps.
        bias: Learn one number per output channel, shared by its elements.
        split: None for a full filter, or its factorisation; a lifting has no elements to mix and is never split.
        padding_mode: As in `torch.nn.Conv2d`.
    Shape:
        [B, I, Y, X] or [B, I, G, Y, X] -> [B, O, G, Y', X'], elements in the order of `PlanarGroup.grid`: turns, then
        mirrored turns.
    Raises:
        UserError: a group that does not permute pixels, numbers below 1, or a split lifting.
    Source: Cohen & Welling 2016; splits: Lengyel & van Gemert 2021. Differs: even filters for mirrored groups too; the
        initial scale counts the input elements.
    """

    table: Tensor

    def __init__(
        self,
        group: PlanarGroup,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        in_rep: InRep = "regular",
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        bias: bool = True,
        split: Split = None,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        no_elements = check_pixel_group(group)
        _check_numbers(in_channels, out_channels, kernel_size, stride, padding, dilation)
        if split is not None and in_rep == "trivial":
            raise UserError(
                f"split={split!r} mixes elements and a lifting (in_rep='trivial') has none: give split=None"
            )
        self.group, self.in_channels, self.out_channels, self.in_rep = group, in_channels, out_channels, in_rep
        self.kernel_size, self.stride, self.padding, self.dilation = kernel_size, stride, padding, dilation
        self.split, self.padding_mode, self.no_elements = split, padding_mode, no_elements
        self.no_inputs = no_elements if in_rep == "regular" else 1
        side = kernel_size
        if split is None:
            self.weight = nn.Parameter(torch.empty(out_channels, in_channels, self.no_inputs, side, side))
        else:
            shared = in_channels if split == "g" else 1
            self.pointwise = nn.Parameter(torch.empty(out_channels, in_channels, self.no_inputs))
            self.spatial = nn.Parameter(torch.empty(out_channels, shared, side, side))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.register_buffer("table", bank_table(group, self.no_inputs, side), persistent=False)
        self.caches = {"bank": KernelCache(), "mixing": KernelCache(), "depthwise": KernelCache()}
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw weights that keep the variance through a ReLU (He et al. 2015), input elements counted; biases at 0."""
        elements, taps = self.in_channels * self.no_inputs, self.kernel_size**2
        if self.split is None:
            self.weight.uniform_(-1, 1).mul_(math.sqrt(6 / (elements * taps)))
        else:
            self.pointwise.uniform_(-1, 1).mul_(math.sqrt(3 / elements))
            self.spatial.uniform_(-1, 1).mul_(math.sqrt(6 / taps))
        if self.bias is not None:
            self.bias.zero_()

    def full_weight(self) -> Tensor:
        """Return the filter at the identity, its factors multiplied out: [O, I, F, V, U]."""
        if self.split is None:
            return self.weight
        return self.pointwise[..., None, None] * self.spatial[:, :, None]

    def bank(self) -> Tensor:
        """Return the dense filter bank [O * G, I * F, V, U] that does the same on [B, I * F, Y, X]."""
        dense = self.full_weight().flatten(2)[:, :, self.table]  # [O, I, G, F, V, U]
        return dense.transpose(1, 2).flatten(2, 3).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve: [B, I, Y, X] or [B, I, G, Y, X] -> [B, O, G, Y', X']."""
        values = x if self.in_rep == "trivial" else x.flatten(1, 2)
        if self.split == "gc":
            mixed = laid_out(functional.conv2d(values, self._kept("mixing")))
            out = self._convolve(mixed, self._kept("depthwise"), self.out_channels * self.no_elements).contiguous()
        else:
            out = self._convolve(values, self._kept("bank"))
        fields: Tensor = out.unflatten(1, (self.out_channels, self.no_elements))
        return fields if self.bias is None else fields + self.bias[:, None, None, None]

    def filters(self) -> tuple[PlainFilter, ...]:
        """Return the plain convolutions that do the same in this order, on channels in the order (channel, element).

        Raises:
            UserError: the padding is not of zeros.
        """
        if self.padding_mode != "zeros":
            raise UserError(f"padding_mode={self.padding_mode!r} is no plain convolution's here: give 'zeros'")
        bias = None if self.bias is None else self.bias.repeat_interleave(self.no_elements)
        weight = self._kept("depthwise" if self.split == "gc" else "bank")
        spatial = PlainFilter(weight, bias, self.stride, self.padding, dilation=self.dilation)
        if self.split != "gc":
            return (spatial,)
        return PlainFilter(self._kept("mixing")), spatial._replace(groups=len(weight))

    def _convolve(self, values: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
        padding = self.padding
        if padding and self.padding_mode != "zeros":
            values, padding = functional.pad(values, [padding] * 4, mode=self.padding_mode), 0
        return functional.conv2d(values, weight, None, self.stride, padding, self.dilation, groups)

    def _kept(self, name: Literal["bank", "mixing", "depthwise"]) -> Tensor:
        """Return the filters of that name, made once in evaluation and kept while the weights stay."""
        weights: list[Tensor] = [weight for key, weight in self.named_parameters() if key != "bias"]
        differentiable = torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)
        make: Callable[[], Tensor] = getattr(self, name)
        return self.caches[name].recall(not (self.training or differentiable), lambda: weights, make)

    def mixing(self) -> Tensor:
        """Return the 1x1 filters of the split "gc", [O * G, I * F, 1, 1]."""
        taps = self.table[:, :, 0, 0].div(self.kernel_size**2, rounding_mode="floor")
        mixed = self.pointwise[:, :, taps].transpose(1, 2)  # [O, G, I, F]
        return mixed.flatten(2, 3).flatten(0, 1)[..., None, None]

    def depthwise(self) -> Tensor:
        """Return the spatial filters of the split "gc", turned to each element: [O * G, 1, V, U]."""
        taps = self.table[:, 0].remainder(self.kernel_size**2)
        return self.spatial.flatten(2)[:, :, taps].transpose(1, 2).flatten(0, 1)

    def extra_repr(self) -> str:
        """Say what the layer is, as it is printed."""
        split = "" if self.split is None else f", split={self.split!r}"
        return (
            f"{self.group.name}, {self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"in_rep={self.in_rep!r}, stride={self.stride}, padding={self.padding}{split}"
        )


def _check_numbers(
    in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int, dilation: int
) -> None:
    given = {"in_channels": in_channels, "out_channels": out_channels, "kernel_size": kernel_size, "stride": stride}
    for name, number in (given | {"dilation": dilation}).items():
        if number < 1:
            raise UserError(f"{name}={number} is out of range: give 1 or more")
    if padding < 0:
        raise UserError(f"padding={padding} is negative: give pixels from 0")
