"""What a group must offer to be convolved over: pure mathematics on tensors, without parameters or counters.

Axes: `...` any leading axes, d coordinates of an element, 2 the plane as (row, column).
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Group(ABC):
    """A group of the form R^2 x| H, described by its stabilizer H.

    An element h of H is a row of `dimension` numbers. The laws that the conformance suite proves for every group:
    (a b) c = a (b c),  a a^-1 = e,  matrix(a b) = matrix(a) matrix(b),  act(a b, x) = act(a, act(b, x)).

    Positions are (row, column), as pixels are indexed; angles are radians, counter-clockwise as displayed, so that
    the turn by +pi/2 moves an image like `torch.rot90(image, 1, dims=(-2, -1))`.
    """

    name: str
    dimension: int
    """Numbers per element: 0 for T2, 1 with rotations, 2 with rotations and a mirror."""
    continuous: bool
    """True where the rotations form the whole circle, so that any angle is an element."""
    mirror: bool
    """True where the group holds reflections."""

    @abstractmethod
    def identity(self, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None) -> Tensor:
        """Return the neutral element, shape [d]."""

    @abstractmethod
    def product(self, first: Tensor, second: Tensor) -> Tensor:
        """Return first * second (second acts first), leading axes broadcast: [..., d], [..., d] -> [..., d]."""

    @abstractmethod
    def inverse(self, element: Tensor) -> Tensor:
        """Return the inverse of each element: [..., d] -> [..., d]."""

    @abstractmethod
    def matrix(self, element: Tensor) -> Tensor:
        """Return the action on (row, column) positions as matrices: [..., d] -> [..., 2, 2]."""

    @abstractmethod
    def grid(
        self, no_samples: int, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
    ) -> Tensor:
        """Return evenly spread elements that start with the identity, [no_samples, d].

        Rotations come first, in the order of their angles; with a mirror, the second half repeats them mirrored.

        Raises:
            UserError: the group has no such grid; the message names the nearest sizes that exist.
        """

    @abstractmethod
    def no_rotations(self, no_samples: int) -> int:
        """Return how many of `no_samples` elements are unmirrored turns.

        Raises:
            UserError: the group has no such set; the message names the nearest sizes that exist.
        """

    @abstractmethod
    def from_angles(self, angles: Tensor) -> Tensor:
        """Return the elements with these turns, then, with a mirror, those mirrored: [..., n] -> [..., n', d]."""

    @abstractmethod
    def coordinates(self, element: Tensor, angle: str) -> Tensor:
        """Return the numbers by which a continuous kernel sees elements: [..., d] -> [..., c].

        Args:
            element: Group elements.
            angle: "circle" for (cos r, sin r), continuous at 0 = 2 pi; "linear" for r / pi - 1, the published form,
                which jumps there.
        """

    @abstractmethod
    def no_coordinates(self, angle: str) -> int:
        """Return c, the width of `coordinates`."""

    def act(self, element: Tensor, positions: Tensor) -> Tensor:
        """Return h x for positions x on the plane: [..., d], [..., 2] -> [..., 2], leading axes broadcast."""
        return (self.matrix(element) @ positions.unsqueeze(-1)).squeeze(-1)
