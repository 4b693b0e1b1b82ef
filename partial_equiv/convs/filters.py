"""A group convolution as a short list of plain convolutions, on channels in the order (channel, element).

Axes: B batch, S sample sets (1 or B), G output elements, F input elements, O I channels, Y X image, V U kernel.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Padding = Literal["same", "valid"] | int


class PlainFilter(NamedTuple):
    """One plain convolution of those that make a group convolution.

    Args:
        weight: [rows, columns / groups, V, U].
        bias: [rows], or None.
        stride: Pixels between outputs.
        padding: "same" (an even kernel has its extra pixel at the end), "valid" or pixels.
        groups: Channel groups that do not mix.
        dilation: Pixels between taps.
    """

    weight: Tensor
    bias: Tensor | None = None
    stride: int = 1
    padding: Padding = 0
    groups: int = 1
    dilation: int = 1


def dense_filters(
    weight: Tensor, bias: Tensor | None, padding: Padding, stride: int, no_channels: int
) -> tuple[PlainFilter, ...]:
    """Return the convolution of a full weight for one set of elements: [G * O, I * F, V, U] -> rows (O, G)."""
    rows = by_channel(weight, 1, no_channels)
    return (PlainFilter(rows, _spread(bias, 1, len(rows) // no_channels), stride, padding),)


def mixed_filters(
    mixing: Tensor, spatial: Tensor, bias: Tensor | None, padding: Padding, stride: int, shape: tuple[int, int]
) -> tuple[PlainFilter, ...]:
    """Return the convolutions of a kernel whose spatial factor all input channels share: a mix, then a depthwise one.

    Args:
        mixing: [S * G * O, I * F, 1, 1].
        spatial: [S * G * O, 1, V, U].
        bias: [O] or None.
        padding: Of the spatial convolution.
        stride: Of the spatial convolution.
        shape: (S, O).
    """
    no_sets, no_outputs = shape
    first, space = (by_channel(weight, no_sets, no_outputs) for weight in (mixing, spatial))
    spread = _spread(bias, no_sets, len(space) // (no_sets * no_outputs))
    return PlainFilter(first, groups=no_sets), PlainFilter(space, spread, stride, padding, groups=len(space))


def apply_filters(values: Tensor, filters: Sequence[PlainFilter], no_sets: int = 1) -> Tensor:
    """Return what the convolutions make of a map, one after the other: [B, I * F, Y, X] -> [B, O * G, Y', X'].

    With one set of elements per image (S = B), each image meets its own weights.
    """
    batch = len(values)
    for weight, bias, stride, padding, groups, dilation in filters:
        values = values.reshape(1, -1, *values.shape[-2:]) if no_sets > 1 else values
        if groups == len(weight) and no_sets == 1:
            values = laid_out(values)
        values, margin = pad_same(values, weight.shape[-1], padding)
        values = functional.conv2d(values, weight, bias, stride, margin, dilation, groups)
        values = values.reshape(batch, -1, *values.shape[-2:]) if no_sets > 1 else values
    return values.contiguous()


def laid_out(values: Tensor) -> Tensor:
    """Return a map in the memory layout that a depthwise convolution or a pooling is fastest in.

    On the CPU, gradients of depthwise weights take a half to a third of the time where channels lie side by side. The
    mix before it would gain little, and its input would be held twice.
    """
    return values.contiguous(memory_format=torch.channels_last) if values.device.type == "cpu" else values


def pad_same(values: Tensor, side: int, padding: Padding) -> tuple[Tensor, Padding]:
    """Return the map and the padding that is left: torch would give an even kernel its extra pixel too, and warn."""
    if padding == "same" and side % 2 == 0:
        return functional.pad(values, [(side - 1) // 2, side // 2] * 2), 0
    return values, padding


def by_channel(weight: Tensor, no_sets: int, no_channels: int) -> Tensor:
    """Return the rows (S, G, O) in the order (S, O, G)."""
    rows: Tensor = weight.unflatten(0, (no_sets, -1, no_channels)).transpose(1, 2).flatten(0, 2)
    return rows


def _spread(bias: Tensor | None, no_sets: int, no_elements: int) -> Tensor | None:
    return None if bias is None else bias.repeat_interleave(no_elements).repeat(no_sets)
