"""Kernels of a whole coset from that of one element, where pixel symmetries map elements and pixels to one another.

Where q is a symmetry of the pixel grid that maps the output elements, the input elements and the taps onto themselves,
    k((q h)^-1 x, (q h)^-1 h') = k(h^-1 (q^-1 x), h^-1 (q^-1 h')),
so the kernel at q h is the kernel at h with taps and input elements permuted.

Axes: G output elements, G' of them one for each coset, F input elements (1 on the plane), T live taps (1 without any).
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from partial_equiv.convs.constant import constant
from partial_equiv.convs.expand import live_taps

Indices = NDArray[np.int64]


class Coset(NamedTuple):
    """Which elements stand for their cosets, and where the kernels of all elements are read.

    Shape:
        representatives [G'], places of elements; table [G, F, T], flat places in [G', F, T].
    """

    representatives: Tensor
    table: Tensor


@constant
def make_coset(
    closure: int, mirror: bool, no_outputs: int, no_inputs: int | None, size: int | None, device: torch.device
) -> Coset:
    """Return the cosets of quarter turns (closure 4), or of these and flips (8).

    Args:
        closure: Of output and input elements alike, see `Sample`.
        mirror: Whether the second half of the elements is mirrored.
        no_outputs: G, its turns a multiple of 4.
        no_inputs: F, its turns a multiple of 4; None for a kernel on the plane alone.
        size: Kernel side in pixels; None for a kernel on the elements alone.
        device: Where the tensors lie.
    """
    representative, quarter, flip = _decompose(closure, mirror, no_outputs)
    chosen, row = np.unique(representative, return_inverse=True)
    elements = np.zeros((no_outputs, 1), dtype=np.int64)
    if no_inputs is not None:
        elements = _moved_elements(mirror, no_inputs, quarter, flip)
    taps = np.zeros((no_outputs, 1), dtype=np.int64) if size is None else _moved_taps(size, quarter, flip)
    no_elements, no_taps = elements.shape[1], taps.shape[1]
    table = (row[:, None, None] * no_elements + elements[:, :, None]) * no_taps + taps[:, None, :]
    return Coset(torch.from_numpy(chosen).to(device), torch.from_numpy(table).to(device))


def _decompose(closure: int, mirror: bool, number: int) -> tuple[Indices, Indices, Indices]:
    """Return for each element h = q a the place of its representative a, and q: quarter turns, and 1 for a flip first.

    The turns are evenly spread, those of the mirrored half the same; with flips they start at 0.
    """
    turns = number // (2 if mirror else 1)
    half, place = np.divmod(np.arange(number), turns)
    quarter, rest = np.divmod(place, turns // 4)
    flip = half if closure == 8 else np.zeros_like(half)
    # (j pi / 2, flip) (r, 1) = (j pi / 2 - r, mirrored): the quarter turns are rounded up.
    up = -(-place // (turns // 4))
    return (
        np.where(flip, up * (turns // 4) - place, rest + (0 if closure == 8 else half * turns)),
        np.where(flip, up, quarter) % 4,
        flip,
    )


def _moved_elements(mirror: bool, number: int, quarter: Indices, flip: Indices) -> Indices:
    """Return the places of q^-1 h' for each q: [G], [G] -> [G, F]."""
    turns = number // (2 if mirror else 1)
    half, place = np.divmod(np.arange(number), turns)
    away = quarter[:, None] * (turns // 4)
    moved = np.where(flip[:, None], away - place, place - away) % turns
    places: Indices = moved + turns * np.where(flip[:, None], 1 - half, half)
    return places


def _moved_taps(size: int, quarter: Indices, flip: Indices) -> Indices:
    """Return the places of q^-1 x among the live taps for each q: [G], [G] -> [G, T]."""
    live = np.array(live_taps(size))
    rows, columns = (2 * part - (size - 1) for part in np.divmod(live, size))
    place = np.full(size * size, -1)
    place[live] = np.arange(len(live))
    moved = []
    for turns, mirrored in zip(quarter, flip, strict=True):
        y, x = rows, columns
        for _ in range(turns):  # a quarter turn back: (row, column) -> (column, -row)
            y, x = x, -y
        x = -x if mirrored else x
        moved.append(place[(y + size - 1) // 2 * size + (x + size - 1) // 2])
    return np.stack(moved)
