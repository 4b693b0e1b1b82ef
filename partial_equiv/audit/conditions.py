"""When a sampling grid is its own mirror image: the conditions on sizes, kernels, strides and paddings.

Everything here is about one axis. A window starts at -p + j s and spans k' = d (k - 1) + 1 pixels.
"""

import functools
import math
from collections.abc import Iterable
from fractions import Fraction

import torch
from torch import Tensor

Line = tuple[Fraction, Fraction]
"""(a, b): a size n of the network's inside follows from the image's size i as n - 1 = a (i - 1) + b."""

Class = tuple[int, int]
"""(residue, modulus): the sizes i = residue mod modulus."""


def span(kernel: int, dilation: int = 1) -> int:
    """Return k' = d (k - 1) + 1, the pixels from the first tap to the last."""
    return dilation * (kernel - 1) + 1


def overhang(size: int, window: int, stride: int, padding: int, outputs: int, lean: int = 0) -> int:
    """Return how far the grid is from its mirror image: i + lean + 2 p - k' - (o - 1) s, in pixels.

    Reversing the axis sends the window that starts at a to the one that starts at i + lean - k' - a. The grid is its
    own mirror image iff this exchanges the first and the last window, that is iff the overhang is 0.

    Args:
        size: i, pixels of the layer's input.
        window: k', pixels that a window spans.
        stride: s.
        padding: p, on both sides.
        outputs: o, number of windows.
        lean: Pixels added on the left less those added on the right, by paddings before this layer.
    """
    return size + lean + 2 * padding - window - (outputs - 1) * stride


def phase(excess: int, stride: int) -> int:
    """Return the offset of a grid against its mirror image as a phase in [0, s); in pixels if it is whole strides."""
    return excess % stride or excess


def same_pixels(
    size: int, kernel: int, stride: int, padding: int, outputs: int, dilation: int = 1, *, counted: bool = False
) -> bool:
    """Return whether the windows of a pooling hold mirror images of each other's pixels, the padding left out.

    True where the overhang is 0, and for windows that hang over the border, as `ceil_mode` makes them, above the same
    pixels on both sides: 2 pixels under one window of 3.

    Args:
        size: i.
        kernel: k.
        stride: s.
        padding: p.
        outputs: o.
        dilation: d.
        counted: Whether padding counts in a mean, so that windows must hold as much of it too.
    """
    windows = [
        range(a, a + span(kernel, dilation), dilation) for a in range(-padding, outputs * stride - padding, stride)
    ]
    pixels = [{p for p in window if 0 <= p < size} for window in windows]
    counts = [sum(p < size + padding for p in window) if counted else 0 for window in windows]
    turned = [{size - 1 - p for p in held} for held in reversed(pixels)]
    return pixels == turned and counts == counts[::-1]


def resize_offset(mode: str, size: int, outputs: int, align: bool = False, scale: float | None = None) -> float | None:
    """Return 0.0 if a resize commutes with reversal, else the pixels between its grid and the mirror image of it.

    A resize is linear, so it is asked itself: one row of noise tells whether it commutes, a ramp where it samples.
    None for a grid that is centred and yet not its own mirror image: a tie that `nearest` rounds to one side.

    Args:
        mode: "nearest", "nearest_exact", "linear", "cubic", or the latter two with "_aa" for antialiasing.
        size: i.
        outputs: o.
        align: Corners aligned.
        scale: Output over input, where the caller gave a scale rather than a size.
    """
    return _resize_offset(mode, size, outputs, align, scale)


@functools.lru_cache(maxsize=512)
def _resize_offset(mode: str, size: int, outputs: int, align: bool, scale: float | None) -> float | None:
    # `nearest` rounds in single precision, so it is asked in single precision.
    dtype = torch.float32 if mode.startswith("nearest") else torch.float64
    noise = torch.rand(size, generator=torch.Generator().manual_seed(0), dtype=dtype)
    there = resize_row(noise.flip(0), mode, outputs, align, scale)
    back = resize_row(noise, mode, outputs, align, scale).flip(0)
    if torch.allclose(there, back, rtol=0, atol=1e-9):
        return 0.0
    ends = resize_row(torch.arange(size, dtype=dtype), mode, outputs, align, scale)[[0, -1]]
    offset = size - 1 - float(ends.sum())
    return offset if abs(offset) > 1e-9 else None


def resize_row(row: Tensor, mode: str, outputs: int, align: bool = False, scale: float | None = None) -> Tensor:
    """Return one row resized by torch's own operator, [i] -> [o]."""
    ops, line, plane = torch.ops.aten, row[None, None], row[None, None, None]
    if mode == "nearest":
        found = ops.upsample_nearest1d(line, [outputs], scale)
    elif mode == "nearest_exact":
        found = ops._upsample_nearest_exact1d(line, [outputs], scale)
    elif mode == "linear":
        found = ops.upsample_linear1d(line, [outputs], align, scale)
    elif mode == "linear_aa":
        found = ops._upsample_bilinear2d_aa(plane, [1, outputs], align, None, scale)
    elif mode == "cubic":
        found = ops.upsample_bicubic2d(plane, [1, outputs], align, None, scale)
    else:
        assert mode == "cubic_aa", mode
        found = ops._upsample_bicubic2d_aa(plane, [1, outputs], align, None, scale)
    result: Tensor = found.flatten()
    return result


def solve(lines: Iterable[Line]) -> Class | None:
    """Return the image sizes i for which every size inside is whole, as i = residue mod modulus; None if none is.

    Each centred layer satisfies z_in = s z_out + k' - 1 - 2 p with z = size - 1, so each line a (i - 1) + b must be an
    integer: one congruence each, intersected here.
    """
    residue, modulus = 0, 1
    for slope, offset in lines:
        common = math.lcm(slope.denominator, offset.denominator)
        factor, rest = int(slope * common), int(-offset * common)
        shared = math.gcd(factor, common)
        if rest % shared:
            return None
        wanted, step = common // shared, rest // shared
        found = _meet(residue, modulus, step * pow(factor // shared, -1, wanted) % wanted, wanted)
        if found is None:
            return None
        residue, modulus = found
    return (residue + 1) % modulus, modulus


def _meet(first: int, step: int, second: int, stride: int) -> Class | None:
    """Return the numbers that are `first` mod `step` and `second` mod `stride`."""
    shared = math.gcd(step, stride)
    if (second - first) % shared:
        return None
    times = (second - first) // shared * pow(step // shared, -1, stride // shared) % (stride // shared)
    modulus = step // shared * stride
    return (first + step * times) % modulus, modulus


def repairs(size: int, kernel: int, stride: int, padding: int, outputs: int, pool: bool) -> list[str]:
    """Return replacements for a layer that are exact at its input size and give as many outputs, spec 4.4.

    "k4s2p1": other kernel and padding. "pool2": the same layer at stride 1, then a 2 x 2 pooling (for a pooling: that
    one alone). "blur4": the same layer at stride 1, then a blur of 4 taps with stride 2 and padding 1.

    Args:
        size: i.
        kernel: k.
        stride: s.
        padding: p.
        outputs: o.
        pool: Whether the layer is a pooling.
    """
    near = [(k, p) for p in (padding, padding + 1) for k in range(kernel, kernel + stride + 1) if p <= k // 2]
    found = [f"k{k}s{stride}p{p}" for k, p in near if _fits(size, k, stride, p, outputs)]
    dense = size if pool else size + 2 * padding - kernel + 1  # what reaches the pooling or the blur
    if stride > 1 and _fits(dense, stride, stride, 0, outputs):
        found.append(f"pool{stride}")
    if stride == 2 and not pool and _fits(dense, 4, 2, 1, outputs):
        found.append("blur4")
    return found


def _fits(size: int, window: int, stride: int, padding: int, outputs: int) -> bool:
    room = size + 2 * padding - window
    return room >= 0 and room % stride == 0 and room // stride + 1 == outputs
