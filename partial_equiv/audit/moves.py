"""What is done to an image and undone on features: turns about the centre, with or without a mirror.

Axes: B batch, C channels, Y X image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from partial_equiv.datasets import rotate_images
from partial_equiv.errors import UserError
from partial_equiv.groups import PlanarGroup, make_group

RIGHT = math.pi / 2
FLIPS = {"flip_w": (0, True), "flip_h": (2, True)}
"""Single reflections, as (right-angle turns after the mirror of the columns)."""


@dataclass(frozen=True)
class Move:
    """One element of the group that a network is measured against: mirror the columns, or not, then turn.

    g = R(angle) M with M the mirror of the columns, as `PlanarGroup` has it; R counter-clockwise as displayed, so that
    an angle of pi/2 is torch.rot90(x, 1, dims=(-2, -1)).

    Args:
        angle: Radians in [0, 2 pi).
        mirror: Mirror the columns first.
    """

    angle: float
    mirror: bool = False

    @property
    def right_turns(self) -> int | None:
        """How many right angles the turn has, 0 to 3; None where it has a rest and pixels must be interpolated."""
        turns = self.angle / RIGHT
        return round(turns) % 4 if abs(turns - round(turns)) < 1e-9 else None

    @property
    def exact(self) -> bool:
        """Whether the move only permutes pixels."""
        return self.right_turns is not None

    @property
    def name(self) -> str:
        """The move in words, for tables: "90°", "mirror", "mirror, 90°"."""
        degrees = f"{round(math.degrees(self.angle), 4):g}°"
        if not self.mirror:
            return degrees
        return "mirror" if self.right_turns == 0 else f"mirror, {degrees}"

    @property
    def swaps_axes(self) -> bool:
        """Whether rows become columns."""
        return self.right_turns in (1, 3)

    @property
    def reversed_axes(self) -> tuple[str, ...]:
        """Axes of the input, "H" or "W", that the move reads backwards: these the sampling grid must allow.

        A quarter turn is a reversal of the columns, then a transposition, which no sampling grid can break.

        Raises:
            UserError: the move does not only permute pixels.
        """
        if self.right_turns is None:
            raise UserError(f"a turn by {self.name} interpolates pixels: give right angles, for example group='C4'")
        width = (self.right_turns in (1, 2)) != self.mirror
        height = self.right_turns in (2, 3)
        return ("H",) * height + ("W",) * width

    def images(self, x: Tensor, fill: Tensor | float = 0.0) -> Tensor:
        """Return g x on the last two axes: (g x)(p) = x(g^-1 p).

        Args:
            x: Images or features.
            fill: What lies outside the frame, for turns that are no right angles; anything that broadcasts to `x`.
        Shape:
            [..., Y, X] -> the same, the last two axes exchanged for odd right angles.
        """
        moved = x.flip(-1) if self.mirror else x
        if self.right_turns is not None:
            return torch.rot90(moved, self.right_turns, dims=(-2, -1))
        planes = (moved - fill).reshape(1, -1, *x.shape[-2:])  # as channels: one sampling grid serves all
        turned = rotate_images(planes, torch.tensor(self.angle, dtype=torch.float64))
        return turned.reshape(x.shape) + fill

    def element(self, dimension: int, like: Tensor) -> Tensor | None:
        """Return the move as an element [d] of a planar group, None where that group has no such element.

        Args:
            dimension: d, numbers per element: 0 for T2, 1 with rotations, 2 with a mirror too.
            like: Gives dtype and device.
        """
        if (self.mirror and dimension < 2) or (self.angle and dimension < 1):
            return None
        numbers = [self.angle, -1.0 if self.mirror else 1.0][:dimension]
        return torch.tensor(numbers, dtype=like.dtype, device=like.device)

    def inverse(self) -> "Move":
        """Return g^-1; a reflection is its own."""
        return self if self.mirror else Move((-self.angle) % (2 * math.pi))


def make_moves(group: str, angles: Sequence[float] | None = None) -> tuple[Move, ...]:
    """Return the elements of a group, the identity left out.

    Args:
        group: "C2", "C4", "D1", "D2", "D4", any "C<n>" or "D<n>"; "flip_h" or "flip_w" for the one reflection that
            reverses that axis; "SO2" or "O2" together with `angles`.
        angles: Radians, counter-clockwise: the turns to take of SO2 (of O2 also mirrored).

    Raises:
        UserError: no such group, or angles are missing or not wanted.
    """
    if group in FLIPS:
        turns, mirror = FLIPS[group]
        return (Move(turns * RIGHT, mirror),)
    if group in ("SO2", "O2"):
        if not angles:
            raise UserError(f"group={group!r} has infinitely many elements: give angles=[...] in radians")
        found = [
            Move(float(angle) % (2 * math.pi), m) for m in (False, True)[: 1 + (group == "O2")] for angle in angles
        ]
        return tuple(move for move in found if move.angle or move.mirror)
    if angles is not None:
        raise UserError(f"angles= belong to group='SO2' or 'O2', and {group!r} has its own: leave them out")
    return tuple(Move(angle, mirror) for angle, mirror in _elements(_finite(group))[1:])


def _finite(group: str) -> PlanarGroup:
    words = "C2, C4, D1, D2, D4, any C<n> or D<n>, flip_h, flip_w, or SO2 and O2 with angles=[...]"
    try:
        found = make_group(group)
    except UserError:
        raise UserError(f"group={group!r} is not one of: {words}") from None
    if found.no_turns is None:
        raise UserError(f"group={group!r} is not one of: {words}")
    if found.no_turns == 1 and not found.mirror:
        raise UserError(f"group={group!r} holds nothing but the identity: give one of {words}")
    return found


def _elements(group: PlanarGroup) -> list[tuple[float, bool]]:
    """Return (angle, mirrored) of every element in the order of `PlanarGroup.grid`, the identity first."""
    assert group.no_turns is not None
    turns = [2 * math.pi * r / group.no_turns for r in range(group.no_turns)]
    return [(angle, mirror) for mirror in (False, True)[: 1 + group.mirror] for angle in turns]
