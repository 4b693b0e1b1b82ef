"""The taps of a square kernel that count.

Axes: T live taps, V U kernel side.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from partial_equiv.convs.constant import constant

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
