"""Kernels of a whole coset from that of one element, where pixel symmetries map elements and pixels to one another.

Where q is a symmetry of the pixel grid that maps the output elements, the input elements and the taps onto themselves,
    k((q h)^-1 x, (q h)^-1 h') = k(h^-1 (q^-1 x), h^-1 (q^-1 h')),
so the kernel at q h is the kernel at h with taps and input elements permuted.

Axes: G output elements, G' of them one for each coset, S sample sets, F input elements (1 on the plane), T live taps (1
    without any), V U kernel side, O products of channels.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from partial_equiv.convs.constant import constant
from partial_equiv.convs.taps import live_taps

Indices = NDArray[np.int64]


class Coset(NamedTuple):
    """Which elements stand for their cosets, and where the kernels of all elements are read.

    Shape:
        representatives [G'], places of elements; rows, the representative of each of the G elements; places
        [G, F * V * U], among the F * T values of the representative, F * T where a tap is dead; back [G, F * T], the
        other way.
    """

    representatives: Tensor
    rows: tuple[int, ...]
    places: Tensor
    back: Tensor


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
    live = np.array(live_taps(size or 1))
    no_elements, no_taps, no_pixels = elements.shape[1], len(live), (size or 1) ** 2
    values = (elements[:, :, None] * no_taps + taps[:, None, :]).reshape(no_outputs, -1)
    pixels = (np.arange(no_elements)[:, None] * no_pixels + live).reshape(-1)
    places = np.full((no_outputs, no_elements * no_pixels), no_elements * no_taps)
    places[:, pixels] = values
    back = pixels[np.argsort(values, axis=1)]
    tensors = (torch.from_numpy(part).to(device) for part in (chosen, places, back))
    chosen_elements, places_of_pixels, back_to_values = tensors
    return Coset(chosen_elements, tuple(row.tolist()), places_of_pixels, back_to_values)


class _Place(torch.autograd.Function):
    """The gradient of a permutation reads where `gather` would add up; each element is written where it stays."""

    @staticmethod
    def forward(context: Any, values: Tensor, coset: Coset) -> Tensor:
        """Read values [S * G', O, F * T + 1] as weights [S * G, O, F * V * U]."""
        context.coset, context.shape = coset, values.shape
        rows = _rows(coset, len(values))
        out = values.new_empty(len(rows), values.shape[1], coset.places.shape[1])
        for index, row in enumerate(rows):
            torch.gather(values[row], 1, _place(coset, index, values.shape[1]), out=out[index])
        return out

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Add up what the elements of each coset say."""
        coset, total = context.coset, gradient.new_zeros(context.shape)
        for index, row in enumerate(_rows(coset, len(total))):
            back = coset.back[index % len(coset.rows)].expand(total.shape[1], -1)
            total[row, :, :-1] += gradient[index].gather(1, back)
        return total, None


def place(values: Tensor, coset: Coset) -> Tensor:
    """Return the kernels of all elements, permutations of those of the representatives, bit by bit.

    Args:
        values: The last one of every row is that of dead taps.
        coset: Which permutations.
    Shape:
        values [S * G', O, F * T + 1] -> [S * G, O, F * V * U].
    """
    if torch.compiler.is_compiling():  # the compiler writes this loop into one buffer by itself
        rows = _rows(coset, len(values))
        read = [values[row].gather(1, _place(coset, index, values.shape[1])) for index, row in enumerate(rows)]
        return torch.stack(read)
    placed: Tensor = _Place.apply(values, coset)
    return placed


def _rows(coset: Coset, no_values: int) -> list[int]:
    """Return the representative of each element of every set."""
    no_chosen = len(coset.representatives)
    return [number * no_chosen + row for number in range(no_values // no_chosen) for row in coset.rows]


def _place(coset: Coset, index: int, no_channels: int) -> Tensor:
    return coset.places[index % len(coset.rows)].expand(no_channels, -1)


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
