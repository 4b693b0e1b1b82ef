"""How a group acts on tensors: on images, on flattened images, on regular fields.

Axes: B batch, C channels, G F elements, N tokens, Y X image, d coordinates of an element.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from partial_equiv.audit.fields import tensor_of, with_tensor
from partial_equiv.audit.moves import Move
from partial_equiv.groups import make_group

IDENTITY = Move(0.0)

Action = Callable[[Any, Move], Any]


class Unmeasured(ValueError):
    """Says why an error has no number; the audit catches it and reports the reason."""


@dataclass(frozen=True)
class Representation:
    """An action (rho(g) f) of moves on a field, and the axes that hold the plane, for the mask of interpolated turns.

    Args:
        name: For tables.
        act: (field, move) -> the moved field; raises `Unmeasured` where the move has no meaning.
        plane: The two axes of the image; empty where there are none.
        grids: Axis -> (Y, X, leading class tokens) for axes that hold a flattened image.
    """

    name: str
    act: Action
    plane: tuple[int, ...] = ()
    grids: tuple[tuple[int, int, int, int], ...] = ()

    def mask(self, like: Tensor) -> Tensor | None:
        """Return which values lie in the inscribed disc of the plane, as a tensor that broadcasts; None for all."""
        masks = []
        if self.plane:
            rows, columns = (axis % like.dim() for axis in self.plane)
            shape = [like.shape[axis] if axis in (rows, columns) else 1 for axis in range(like.dim())]
            masks.append(disc(like.shape[rows], like.shape[columns], like.device).reshape(shape))
        for axis, height, width, extra in self.grids:
            flat = torch.cat([torch.ones(extra, dtype=torch.bool), disc(height, width).flatten()]).to(like.device)
            masks.append(flat.reshape([-1 if i == axis else 1 for i in range(like.dim())]))
        return functools.reduce(torch.logical_and, masks) if masks else None


def disc(height: int, width: int, device: torch.device | str | None = None) -> Tensor:
    """Return which pixels of a map have their centre within reach of every turn, bool [Y, X]."""
    rows = torch.arange(height, device=device) * 2 - (height - 1)
    columns = torch.arange(width, device=device) * 2 - (width - 1)
    return rows[:, None] ** 2 + columns[None] ** 2 <= (min(height, width) - 1) ** 2


def border_median(x: Tensor) -> Tensor:
    """Return the median of the border pixels of each image and channel, [..., 1, 1]: what lies beyond the frame."""
    edges = [x[..., 0, :], x[..., -1, :], x[..., 1:-1, 0], x[..., 1:-1, -1]]
    return torch.cat(edges, dim=-1).median(dim=-1).values[..., None, None]


def turned(x: Tensor, move: Move) -> Tensor:
    """Return the last two axes moved, contiguous; beyond the frame lies the median of the border."""
    fill: Tensor | float = 0.0 if move.exact else border_median(x)
    return move.images(x, fill).contiguous()


def plane(name: str = "trivial", axes: tuple[int, int] = (-2, -1)) -> Representation:
    """Return the action on the image alone: (rho(g) f)(x) = f(g^-1 x)."""

    def act(field: Any, move: Move) -> Any:
        values = tensor_of(field).movedim(axes, (-2, -1))
        return with_tensor(field, turned(values, move).movedim((-2, -1), axes).contiguous())

    return Representation(name, act, axes)


def invariant() -> Representation:
    """Return the action that changes nothing."""
    return Representation("invariant", lambda field, move: with_tensor(field, tensor_of(field).clone()))


def tokens(shape: Sequence[int], axes: Sequence[int], size: tuple[int, int]) -> Representation:
    """Return the action on flattened images: along each of `axes` tokens are moved like the pixels they stand for.

    Args:
        shape: Shape of the tensor.
        axes: Axes with as many tokens as a grid of the images' aspect has places, or one more (a class token, first).
        size: (Y, X) of the images.
    """
    grids = tuple((axis, *found) for axis in axes if (found := grid_of(shape[axis], size)))

    def act(field: Any, move: Move) -> Any:
        values = tensor_of(field)
        for axis, height, width, extra in grids:
            moved = values.movedim(axis, -1)
            places = turned(moved[..., extra:].unflatten(-1, (height, width)), move).flatten(-2)
            values = torch.cat([moved[..., :extra], places], dim=-1).movedim(-1, axis)
        return with_tensor(field, values.contiguous())

    label = "tokens" if tuple(axes) == (1,) else f"tokens on axes {', '.join(map(str, axes))}"
    return Representation(label, act, grids=grids)


def regular(name: str, elements: tuple[Move, ...]) -> Representation:
    """Return the action on [B, C, G, Y, X]: (rho(g) f)(x, h) = f(g^-1 x, g^-1 h).

    Args:
        name: Of the group of the features, which may be larger than the audited one.
        elements: Its elements in the order of the axis G.
    """

    def act(field: Any, move: Move) -> Any:
        order = sources(elements, move)
        if order is None:
            raise Unmeasured(f"a field of {len(elements)} elements ({name}) does not carry such a move")
        values = tensor_of(field)
        return with_tensor(field, turned(values[:, :, torch.tensor(order, device=values.device)], move))

    return Representation(f"regular {name}", act, (-2, -1))


def given(function: Callable[[Tensor, Move], Tensor]) -> Representation:
    """Return the action that the user gave."""
    # On a copy: what it returns is handed to layers, and one may write to it.
    return Representation("given", lambda field, move: with_tensor(field, function(tensor_of(field).clone(), move)))


@functools.cache
def sources(elements: tuple[Move, ...], move: Move) -> tuple[int, ...] | None:
    """Return for each h the place of g^-1 h among the elements; None where one is missing."""
    group, rows = make_group("E2"), torch.tensor([_pair(element) for element in elements], dtype=torch.float64)
    wanted = group.product(group.inverse(torch.tensor(_pair(move), dtype=torch.float64)), rows)
    apart = distances(wanted, rows)
    nearest_ones = apart.min(dim=-1)
    return tuple(nearest_ones.indices.tolist()) if float(nearest_ones.values.max()) < 1e-6 else None


def distances(first: Tensor, second: Tensor) -> Tensor:
    """Return how far elements are apart, angles on the circle: [..., G, d], [..., F, d] -> [..., G, F]."""
    gap = (first.unsqueeze(-2) - second.unsqueeze(-3)).abs()
    if first.shape[-1]:
        angle = torch.remainder(gap[..., :1], 2 * math.pi)
        gap = torch.cat([torch.minimum(angle, 2 * math.pi - angle), gap[..., 1:]], dim=-1)
    return gap.sum(dim=-1)


def grid_of(number: int, size: tuple[int, int]) -> tuple[int, int, int] | None:
    """Return (Y, X, class tokens) of a grid with this number of tokens and the aspect of the images."""
    for extra in (0, 1):
        height = math.isqrt(max((number - extra) * size[0] // size[1], 0))
        if height and (number - extra) % height == 0 and height * size[1] == (number - extra) // height * size[0]:
            return height, (number - extra) // height, extra
    return None


def _pair(move: Move) -> tuple[float, float]:
    return move.angle, -1.0 if move.mirror else 1.0
