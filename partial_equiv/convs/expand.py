"""From a continuous kernel to the weight of one dense convolution.

Axes: S sample sets, G output elements, F input elements, R = S * G rows, T live taps, V U kernel side, O I channels,
c kernel coordinates, h hidden features.
"""

import torch
from torch import Tensor
from torch.nn import functional

from partial_equiv.convs.coset import Coset, place
from partial_equiv.convs.taps import Taps
from partial_equiv.errors import UserError
from partial_equiv.groups import Group
from partial_equiv.kernels import Kernel

LARGEST_SIZE = 1_023  # "full" on 512 pixels; the taps are counted one by one


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
    if isinstance(size, str) and size.isascii() and size.isdigit():
        size = int(size)
    if size in ("same", "full"):
        return size
    if isinstance(size, str) or not 1 <= size <= LARGEST_SIZE:
        raise UserError(
            f"kernel.size={size!r} is not a size: give an odd number up to {LARGEST_SIZE}, 'same' or 'full'"
        )
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
    coset: Coset | None = None,
) -> Tensor:
    """Return the weight of a dense convolution: the kernel at `points`, times `scale`, zero at the dead taps.

    Without cosets the hidden features, not the weights, are scaled and spread over the taps, and one product then
    writes the weights where the convolution reads them. With cosets the kernels of the representatives are made, and
    read once for each element: those of a coset are equal bit by bit.

    Args:
        kernel: The continuous kernel, o = O * I values.
        points: Parts of [R', F, T, c]: R' = R, or the rows of the elements that represent their cosets.
        scale: What each input element counts, [S, F], or [S, 1] where all count alike.
        taps: The live taps; None where V = U = 1.
        channels: (O, I).
        coset: Where the kernels of all elements are read; None where every row is evaluated.
    Shape:
        -> [R * O, I * F, V, U].
    """
    hidden = kernel.features(*points)
    rows, inputs, no_taps = hidden.shape[:3]
    hidden = torch.cat([hidden, torch.ones_like(hidden[..., :1])], dim=-1)
    alike = scale.shape[1] == 1
    if coset is None or alike:
        spread = scale.unsqueeze(1).expand(len(scale), rows // len(scale), inputs)
        hidden = hidden * spread.reshape(rows, inputs, 1, 1)
    readout = torch.cat([kernel.readout.weight, kernel.readout.bias.unsqueeze(-1)], dim=-1)
    side, no_inputs = 1 if taps is None else taps.size, channels[1]
    if coset is not None:
        # One more value, 0, is what dead taps read.
        flat = functional.pad(hidden.flatten(1, 2), (0, 0, 0, 1))
        weight = place(_product(readout, flat), coset)
        if not alike:
            weight = weight.unflatten(0, (len(scale), -1)).unflatten(-1, (inputs, -1)) * scale[:, None, None, :, None]
    else:
        if taps is not None and no_taps < side * side:
            dense = hidden.new_zeros(rows, inputs, side * side, hidden.shape[-1])
            hidden = dense.index_copy(2, taps.live, hidden)
        weight = _product(readout, hidden.flatten(1, 2))
    return weight.reshape(-1, no_inputs * inputs, side, side)


def _product(readout: Tensor, features: Tensor) -> Tensor:
    """Return the values of features [R, F * T, h] as [R, O * I, F * T]: `matmul` would fold the rows and copy."""
    return torch.bmm(readout.expand(len(features), -1, -1), features.transpose(1, 2))


def mean_scale(elements: Tensor, weights: Tensor | None) -> Tensor:
    """Return what each input element counts in the mean over input elements: [S, F], or [S, 1] where all count alike.

    Args:
        elements: [S, F, d].
        weights: [S, F], None for a plain mean.
    """
    if weights is None:
        return elements.new_full((len(elements), 1), 1 / elements.shape[1])
    return weights / weights.sum(dim=-1, keepdim=True)
