"""Where the taps of a filter go when a group that permutes pixels acts on it.

Axes: G output elements, F input elements (1 on the plane), V U filter, d coordinates of an element.
"""

import torch
from torch import Tensor

from partial_equiv.errors import UserError
from partial_equiv.groups import FULL_TURN, PlanarGroup


def bank_table(group: PlanarGroup, no_inputs: int, size: int) -> Tensor:
    """Return from where each tap of the turned filters is read, as an index into the taps [F, V, U] of the filter.

    Entry [a, h, x] is the flat index of (a^-1 h, a^-1 x).

    Args:
        group: A group that permutes pixels.
        no_inputs: F: the order of the group, or 1 on the plane.
        size: V = U.
    Shape:
        -> int64 [G, F, V, U].
    """
    no_elements = check_pixel_group(group)
    elements = group.grid(no_elements, torch.float64)
    relative = group.product(group.inverse(elements).unsqueeze(1), elements)  # a^-1 h
    sources = element_index(group, relative) if no_inputs > 1 else torch.zeros(no_elements, 1, dtype=torch.int64)
    upright = torch.arange(size * size).reshape(size, size)
    assert group.no_turns is not None
    taps = [
        torch.rot90(
            upright.flip(-1) if number >= group.no_turns else upright, number % group.no_turns * 4 // group.no_turns
        )
        for number in range(no_elements)
    ]
    return sources[:, :, None, None] * size * size + torch.stack(taps).unsqueeze(1)


def element_index(group: PlanarGroup, elements: Tensor) -> Tensor:
    """Return the place of each element in the grid of a finite group: turns first, then mirrored turns.

    Shape:
        [..., d] -> int64 [...].
    """
    assert group.no_turns is not None
    if group.dimension == 0:
        return elements.new_zeros(elements.shape[:-1], dtype=torch.int64)
    turns = (elements[..., 0] * group.no_turns / FULL_TURN).round().long() % group.no_turns
    return turns + group.no_turns * (elements[..., 1] < 0).long() if group.mirror else turns


def check_pixel_group(group: PlanarGroup) -> int:
    """Return the order of a group that permutes pixels.

    Raises:
        UserError: the group is continuous, or has turns other than right angles.
    """
    if group.no_turns not in (1, 2, 4):
        raise UserError(
            f"the group {group.name} does not map pixels to pixels: give C1, C2, C4, D1, D2 or D4, "
            "or use GroupConv with a continuous kernel"
        )
    return group.no_turns * (1 + group.mirror)
