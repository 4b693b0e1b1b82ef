"""The maximum over tiles of pixels, which remembers two bits for four pixels where torch's keeps its input and indices.

Axes: `...` any leading axes, Y X image.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from partial_equiv.convs.filters import laid_out


def tile_maximum(values: Tensor, size: int) -> Tensor:
    """Return the maximum over tiles of size x size pixels: [B, C, Y, X] -> [B, C, Y // size, X // size].

    It is `torch.nn.functional.max_pool2d`, and has its gradient: of equal values the first one gets it. On the CPU,
    where something is to be differentiated, tiles of 2 x 2 on even sides hold a tenth of the memory and take half the
    time; where nothing is, channels side by side take half the time, the copies included.
    """
    if values.device.type != "cpu" or torch.compiler.is_compiling():
        return functional.max_pool2d(values, size)
    if not (torch.is_grad_enabled() and values.requires_grad):
        return functional.max_pool2d(laid_out(values), size).contiguous()
    if size == 2 and values.shape[-2] % 2 == values.shape[-1] % 2 == 0:
        pooled: Tensor = _PairMaximum.apply(values)
        return pooled
    return functional.max_pool2d(values, size)


class _PairMaximum(torch.autograd.Function):
    """The maximum of neighbours in a row, then of these in a column."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        left, right = values[..., ::2], values[..., 1::2]
        pairs = torch.maximum(left, right)
        top, bottom = pairs[..., ::2, :], pairs[..., 1::2, :]
        ctx.save_for_backward(right > left, bottom > top)
        return torch.maximum(top, bottom)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        right, bottom = ctx.saved_tensors
        pairs = gradient.new_empty(right.shape)
        torch.mul(gradient, bottom, out=pairs[..., 1::2, :])
        torch.sub(gradient, pairs[..., 1::2, :], out=pairs[..., ::2, :])
        spread = gradient.new_empty(*right.shape[:-1], 2 * right.shape[-1])
        torch.mul(pairs, right, out=spread[..., 1::2])
        torch.sub(pairs, spread[..., 1::2], out=spread[..., ::2])
        return spread
