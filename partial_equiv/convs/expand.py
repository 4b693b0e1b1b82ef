"""From a continuous kernel to the weight of one dense convolution.

Axes: S sample sets, G output elements, F input elements, R = S * G rows, T live taps, V U kernel side, O I channels,
c kernel coordinates, h hidden features.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from partial_equiv.convs.constant import constant
from partial_equiv.errors import UserError
from partial_equiv.groups import Group
from partial_equiv.kernels import Kernel

NOMINAL_SIZE = 7  # where `size` follows the image, the initial scale is measured on a kernel of this side


class Taps(NamedTuple):
    """The taps of a kernel that lie in the disc of radius 1: no other one stays inside the kernel under all turns.

    Shape:
        positions [T, 2], rows and columns in [-1, 1]; live [T], indices into the V * U taps.
    """

    size: int
    positions: Tensor
    live: Tensor


@constant
def make_taps(size: int, dtype: torch.dtype, device: torch.device) -> Taps:
    """Return the live taps of a square kernel of `size` pixels a side."""
    side = (
        torch.linspace(-1, 1, size, dtype=dtype, device=device)
        if size > 1
        else torch.zeros(1, dtype=dtype, device=device)
    )
    grid = torch.stack(torch.meshgrid(side, side, indexing="ij"), dim=-1).reshape(-1, 2)
    # A turn keeps the norm, so the disc is found once, upright, where taps at distance 1 have it to rounding.
    live = torch.tensor(live_taps(size), device=device)
    return Taps(size, grid[live], live)


def nominal_taps(size: int | str) -> Taps:
    """Return the taps that the initial scale is measured on."""
    side = size if isinstance(size, int) else NOMINAL_SIZE
    return make_taps(side, torch.get_default_dtype(), torch.device("cpu"))


@functools.cache
def live_taps(size: int) -> tuple[int, ...]:
    """Return the flat indices of the taps within distance 1 of the centre, in exact integer arithmetic."""
    half = size - 1  # twice the radius in pixels, so that even sizes stay integers too
    rows = [2 * index - half for index in range(size)]
    return tuple(v * size + u for v, y in enumerate(rows) for u, x in enumerate(rows) if y * y + x * x <= half * half)


def resolve_size(size: int | str, height: int, width: int) -> int:
    """Return the kernel's side in pixels on a map of height x width.

    Args:
        size: An odd number; "same" for the longer side of the map; "full" for twice that less 1.
        height: Rows of the map.
        width: Columns of the map.
    """
    longer = max(height, width)
    return longer if size == "same" else 2 * longer - 1 if size == "full" else int(size)


def check_size(size: int | str) -> int | str:
    """Return `size` if it is one a convolution can use.

    Raises:
        UserError: not odd and positive, and neither "same" nor "full".
    """
    if isinstance(size, str) and size.isdigit():
        size = int(size)
    if size in ("same", "full"):
        return size
    if isinstance(size, str) or size < 1:
        raise UserError(f"kernel.size={size!r} is not a size: give an odd number, 'same' or 'full'")
    if size % 2 == 0:
        raise UserError(f"kernel.size={size} is even, so it has no middle tap: give {size - 1} or {size + 1}")
    return size


def kernel_points(
    group: Group, outputs: Tensor, inputs: Tensor | None, positions: Tensor | None, angle: str
) -> tuple[Tensor, ...]:
    """Return where the kernel is evaluated: h^-1 x for the taps x, and h^-1 h' for the input elements h'.

    Args:
        group: The group.
        outputs: h, [S, G, d].
        inputs: h', [S, F, d]; None for a kernel on the plane alone.
        positions: x, [T, 2]; None for a kernel on the elements alone.
        angle: How angles become coordinates, see `Group.coordinates`.
    Shape:
        -> the parts of the points that there are: [R, 1, T, 2] and [R, F, 1, c].
    """
    inverse = group.inverse(outputs)
    parts = []
    if positions is not None:
        turned = group.act(inverse.flatten(0, 1).unsqueeze(1), positions)
        parts.append(turned.unsqueeze(1))
    if inputs is not None:
        relative = group.product(inverse.unsqueeze(2), inputs.unsqueeze(1))
        parts.append(group.coordinates(relative, angle).flatten(0, 1).unsqueeze(2))
    return tuple(parts)


def expand_kernel(
    kernel: Kernel,
    points: tuple[Tensor, ...],
    scale: Tensor,
    taps: Taps | None,
    channels: tuple[int, int],
    table: Tensor | None = None,
) -> Tensor:
    """Return the weight of a dense convolution: the kernel at `points`, times `scale`, zero at the dead taps.

    The hidden features, not the weights, are spread over cosets and taps, and one product then writes the weights
    where the convolution reads them: no tensor of the size of the weights is copied.

    Args:
        kernel: The continuous kernel, o = O * I values.
        points: Parts of [R', F, T, c]: R' = R, or the rows of the elements that represent their cosets.
        scale: What each input element counts, [S, F].
        taps: The live taps; None where V = U = 1.
        channels: (O, I).
        table: Where the kernels of all elements are read, see `Coset`; None where every row is evaluated.
    Shape:
        -> [R * O, I * F, V, U].
    """
    hidden = kernel.features(*points)
    no_sets, inputs, no_taps, width = scale.shape[0], *hidden.shape[1:]
    if table is not None:
        spread = hidden.reshape(no_sets, -1, width).index_select(1, table.flatten())
        hidden = spread.reshape(-1, inputs, no_taps, width)
    rows = hidden.shape[0]
    scaled = scale.unsqueeze(1).expand(no_sets, rows // no_sets, inputs).reshape(rows, inputs, 1, 1)
    hidden = torch.cat([hidden, torch.ones_like(hidden[..., :1])], dim=-1) * scaled
    side = 1 if taps is None else taps.size
    if taps is not None and taps.live.numel() < side * side:
        dense = hidden.new_zeros(rows, inputs, side * side, hidden.shape[-1])
        hidden = dense.index_copy(2, taps.live, hidden)
    readout = torch.cat([kernel.readout.weight, kernel.readout.bias.unsqueeze(-1)], dim=-1)
    flat = hidden.reshape(rows, inputs * side * side, -1)
    if len(readout) == 1:  # a product with one row adds up in an order that depends on the place of the point
        weight = (flat * readout).sum(dim=-1)
    else:
        # A batched product writes [R, O * I, F * V * U] in place; `matmul` would fold the rows and copy the result.
        weight = torch.bmm(readout.expand(rows, -1, -1), flat.transpose(1, 2))
    no_outputs, no_inputs = channels
    return weight.reshape(rows * no_outputs, no_inputs * inputs, side, side)


def mean_scale(elements: Tensor, weights: Tensor | None) -> Tensor:
    """Return what each input element counts in the mean over input elements: [S, F], summing to 1.

    Args:
        elements: [S, F, d].
        weights: [S, F], None for a plain mean.
    """
    if weights is None:
        return elements.new_full(elements.shape[:2], 1 / elements.shape[1])
    return weights / weights.sum(dim=-1, keepdim=True)
