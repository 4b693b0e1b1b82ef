"""The groups of the plane: T2, SE2, E2, C_n and D_n, all one algebra of turns and a mirror.

Axes: `...` any leading axes, d coordinates of an element: () for T2, (r,) with rotations, (r, m) with a mirror, m in
    {1, -1}.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from partial_equiv.errors import UserError
from partial_equiv.groups.group import Group

FULL_TURN = 2 * math.pi


@dataclass(frozen=True)
class PlanarGroup(Group):
    """Translations of the plane together with turns, and perhaps a mirror, about every point.

    The element (r, m) mirrors the columns where m = -1, then turns by r:
    matrix(r, m) = R(r) diag(1, m),  (r1, m1)(r2, m2) = (r1 + m1 r2, m1 m2),  (r, m)^-1 = (-m r, m).
    Exact on pixels only for right-angle turns and flips; elsewhere images must be interpolated.

    Args:
        name: How configurations call it.
        no_turns: Rotations in the group: 1 for none, n for C_n and D_n, None for the whole circle.
        mirror: Whether reflections belong to it.
    Source: Romero & Lohit 2022, section 2. Differs: counter-clockwise angles, and the mirror acts before the turn.
    """

    name: str
    no_turns: int | None
    mirror: bool = False

    @property
    def continuous(self) -> bool:  # type: ignore[override]
        """True where any angle is an element."""
        return self.no_turns is None

    @property
    def dimension(self) -> int:  # type: ignore[override]
        """Numbers per element."""
        return 2 if self.mirror else int(self.no_turns != 1)

    def identity(self, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None) -> Tensor:
        """Return the neutral element, shape [d]."""
        # 0, then 1 for the mirror: counted on the device, for a step that copied them would have to wait.
        return torch.arange(self.dimension, dtype=dtype, device=device)

    def product(self, first: Tensor, second: Tensor) -> Tensor:
        """Return first * second, angles reduced to [0, 2 pi)."""
        first, second = torch.broadcast_tensors(first, second)
        if self.dimension == 0:
            return first
        if not self.mirror:
            return torch.remainder(first + second, FULL_TURN)
        angle = torch.remainder(first[..., 0] + first[..., 1] * second[..., 0], FULL_TURN)
        return torch.stack([angle, first[..., 1] * second[..., 1]], dim=-1)

    def inverse(self, element: Tensor) -> Tensor:
        """Return the inverse, angles reduced to [0, 2 pi)."""
        if self.dimension == 0:
            return element
        if not self.mirror:
            return torch.remainder(-element, FULL_TURN)
        angle, mirror = element.unbind(-1)
        return torch.stack([torch.remainder(-mirror * angle, FULL_TURN), mirror], dim=-1)

    def matrix(self, element: Tensor) -> Tensor:
        """Return R(r) diag(1, m) on (row, column) positions, [..., 2, 2]."""
        angle = element[..., 0] if self.dimension else element.new_zeros(element.shape[:-1])
        mirror = element[..., 1] if self.mirror else torch.ones_like(angle)
        cos, sin = angle.cos(), angle.sin()
        rows = [torch.stack([cos, -mirror * sin], dim=-1), torch.stack([sin, mirror * cos], dim=-1)]
        return torch.stack(rows, dim=-2)

    def no_rotations(self, no_samples: int) -> int:
        """Return how many turns a set of `no_samples` elements holds: half of them where the other half is mirrored.

        Raises:
            UserError: `no_samples` is below 1, odd with a mirror, not 1 for T2, or not the order of a finite group.
        """
        sizes = "an even number from 2" if self.mirror else "a number from 1"
        if self.no_turns is None and (no_samples < 1 or (self.mirror and no_samples % 2)):
            near = f", the nearest are {no_samples - 1} and {no_samples + 1}" if no_samples > 2 else ""
            raise UserError(f"base_group.no_samples={no_samples} does not fit {self.name}: give {sizes}{near}")
        turns = no_samples // 2 if self.mirror else no_samples
        order = (self.no_turns or turns) * (2 if self.mirror else 1)
        if self.no_turns is not None and no_samples != order:
            raise UserError(
                f"base_group.no_samples={no_samples} does not fit {self.name}, which has {order} element(s): "
                f"set base_group.no_samples={order}"
            )
        return turns

    def from_angles(self, angles: Tensor) -> Tensor:
        """Return the elements with these turns, then, with a mirror, those mirrored: [..., n] -> [..., n', d]."""
        if self.dimension == 0:
            return angles.new_zeros(*angles.shape, 0)
        if not self.mirror:
            return angles.unsqueeze(-1)
        signs = torch.ones_like(angles)
        return torch.stack([torch.cat([angles, angles], dim=-1), torch.cat([signs, -signs], dim=-1)], dim=-1)

    def grid(
        self, no_samples: int, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
    ) -> Tensor:
        """Return the elements with turns 2 pi i / n, [no_samples, d], identity first."""
        turns = self.no_rotations(no_samples)
        return self.from_angles(torch.arange(turns, dtype=dtype, device=device) * (FULL_TURN / turns))

    def no_coordinates(self, angle: str) -> int:
        """Return the width of `coordinates`."""
        return 1 if self.dimension == 0 else (2 if angle == "circle" else 1) + int(self.mirror)

    def coordinates(self, element: Tensor, angle: str) -> Tensor:
        """Return (cos r, sin r) or r / pi - 1, then m; the single element of T2 is the constant 1."""
        if self.dimension == 0:
            return element.new_ones(*element.shape[:-1], 1)
        turn = element[..., :1]
        circle = [turn.cos(), turn.sin()] if angle == "circle" else [torch.remainder(turn, FULL_TURN) / math.pi - 1]
        return torch.cat([*circle, element[..., 1:]], dim=-1)
