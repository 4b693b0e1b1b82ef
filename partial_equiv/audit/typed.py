"""How a group acts on fields that say so themselves: maps on sampled elements, and escnn's geometric tensors.

Axes: B batch, C channels, S sample sets, G F elements, Y X image, d coordinates of an element.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from partial_equiv.audit.fields import Sampled, with_elements, with_tensor
from partial_equiv.audit.moves import Move
from partial_equiv.audit.representations import Representation, Unmeasured, distances, plane, turned
from partial_equiv.groups import PlanarGroup, make_group

SAME = 1e-4  # radians within which two elements are one


def sampled(field: Any) -> list[Representation]:
    """Return the actions on a map on sampled elements.

    (g f)(g x, g h) = f(x, h): the values move on the plane, keep the order of their elements, and the elements move.
    A map on the plane alone (d = 0) has no elements to move; one with a single element may be such a map in disguise.
    """
    in_disguise = plane("trivial, on one element")
    if field.elements.shape[-1] == 0:
        return [plane()]
    moved = Representation("sampled", lambda f, move: moved_map(f, move), (-2, -1))
    return [moved, in_disguise] if field.elements.shape[-2] == 1 else [moved]


def moved_map(field: Any, move: Move) -> Any:
    """Return g f with f's elements in their order: values on the plane and elements moved."""
    return with_elements(field._replace(values=turned(field.values, move)), moved_elements(field.elements, move))


def moved_elements(elements: Tensor, move: Move) -> Tensor:
    """Return g h for every element h, [S, G, d].

    Raises:
        Unmeasured: elements of so few numbers cannot take the move.
    """
    group = _group(elements)
    if group is None:
        return elements
    element = move.element(elements.shape[-1], elements)
    if element is None:
        raise Unmeasured(f"elements of {elements.shape[-1]} number hold no mirror")
    return group.product(element, elements)


def asked(actual: Any, recorded: Any, move: Move) -> Sampled:
    """Return g^-1 h for the elements h of a map of g x, weighted like the nearest own elements of the map of x.

    Args:
        actual: The map of g x.
        recorded: The map of x.
        move: g.
    Raises:
        Unmeasured: elements of so few numbers cannot take the move.
    """
    elements = moved_elements(actual.elements, move.inverse())
    if recorded.weights is None:
        return Sampled(elements)
    # Ten radians: an element of the other mirror sign is never the nearest.
    scale = torch.ones_like(elements[0, 0])
    scale[1:] = 10.0
    no_sets = max(elements.shape[0], recorded.elements.shape[0])
    near = distances(elements.expand(no_sets, -1, -1) * scale, recorded.elements.expand(no_sets, -1, -1) * scale)
    weights = recorded.weights.expand(no_sets, -1).gather(1, near.argmin(dim=-1))
    return Sampled(elements.expand(no_sets, -1, -1), weights)


def aligned(actual: Any, expected: Any) -> Any:
    """Return the map `actual` with its elements in the order of those of `expected`.

    Raises:
        Unmeasured: the two have other elements.
    """
    mine, wanted = actual.elements, expected.elements
    if mine.shape[1:] != wanted.shape[1:]:
        raise Unmeasured(f"the map has {mine.shape[1]} elements on x turned and {wanted.shape[1]} on x")
    if mine.shape[-1] == 0:
        return actual
    near = distances(wanted, mine).min(dim=-1)
    order = near.indices
    if float(near.values.max()) > SAME or any(len(set(row)) < len(row) for row in order.tolist()):
        raise Unmeasured("its elements are not closed under the move, so g f has no value at them")
    index = order[:, None, :, None, None].expand(*actual.values.shape[:2], -1, *actual.values.shape[3:])
    weights = getattr(actual, "weights", None)
    if weights is not None:
        actual = actual._replace(weights=weights.expand(len(order), -1).gather(1, order))
    return actual._replace(values=actual.values.gather(2, index))


def weighted(field: Any) -> Tensor:
    """Return the values of a map, each element's times its weight."""
    weights = getattr(field, "weights", None)
    values: Tensor = field.values
    return values if weights is None else values * weights[:, None, :, None, None]


def geometric(field: Any) -> Representation:
    """Return the action on a geometric tensor of escnn: its own matrices, our exact turns."""
    kind = field.type

    def act(value: Any, move: Move) -> Any:
        tensor = value.tensor
        if tensor.dim() != 4:
            raise Unmeasured(f"a geometric tensor of shape {list(tensor.shape)} is no map on the plane")
        matrix = torch.as_tensor(np.asarray(kind.representation(element_of(kind.gspace, move))))
        fibres = torch.einsum("oc,bcyx->boyx", matrix.to(tensor), tensor)
        return with_tensor(value, turned(fibres, move))

    return Representation(f"escnn {kind.gspace.fibergroup.name}", act, (-2, -1))


def element_of(gspace: Any, move: Move) -> Any:
    """Return escnn's name of a move: the element whose action on the plane (x to the right, y upwards) is the move's.

    Raises:
        Unmeasured: the space's group has no such element.
    """
    cos, sin, mirror = math.cos(move.angle), math.sin(move.angle), -1.0 if move.mirror else 1.0
    wanted = np.array([[cos * mirror, -sin], [sin * mirror, cos]])
    group = gspace.fibergroup
    if gspace.dimensionality != 2:
        raise Unmeasured("a geometric tensor on another space than the plane")
    for element in _elements(gspace, wanted):
        if np.abs(np.asarray(gspace.basespace_action(element)) - wanted).max() < 1e-6:
            return element
    raise Unmeasured(f"the group {group.name} of the geometric tensor does not hold such a move")


def _elements(gspace: Any, wanted: Any) -> Any:
    """Return the elements that may act as `wanted`: all of a finite group, or those found by their angle."""
    group = gspace.fibergroup
    if not group.continuous:
        return list(gspace.testing_elements)
    if wanted[0, 0] * wanted[1, 1] - wanted[0, 1] * wanted[1, 0] > 0:
        angle = math.atan2(wanted[1, 0], wanted[0, 0]) % (2 * math.pi)
        return [group.element(name, "radians") for name in _names(group, angle, 0)]
    start = [group.element(name, "radians") for name in _names(group, 0.0, 1)]
    if not start:
        return []
    turn = wanted @ np.linalg.inv(np.asarray(gspace.basespace_action(start[0])))
    angle = math.atan2(turn[1, 0], turn[0, 0]) % (2 * math.pi)
    return [group.element(name, "radians") for name in _names(group, angle, 1)]


def _names(group: Any, angle: float, mirror: int) -> list[Any]:
    """Return how a continuous group of escnn calls a turn: SO(2) by its angle, O(2) by (mirror, angle)."""
    if isinstance(group.identity.value, tuple):
        return [(mirror, angle)]
    return [] if mirror else [angle]


def _group(elements: Tensor) -> PlanarGroup | None:
    return None if elements.shape[-1] == 0 else make_group("SE2" if elements.shape[-1] == 1 else "E2")
