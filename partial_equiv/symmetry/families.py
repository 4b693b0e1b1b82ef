"""Families of laws of the turns of an image about its centre, each seen through the noise of the poses.

Axes: `...` angles and parameters, broadcast; P parameters of a grid; W whole turns; F families.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from partial_equiv.symmetry.angles import wrap

NO_SPREADS = 49
WIDEST_NORMAL = math.radians(100)  # wider normal laws look full to any number of neighbours we can afford
NOISE_MULTIPLES = (1.0, math.sqrt(2))
TURNS = 5
FLATTEST = 4.0  # radians: a wrapped normal law of this deviation is flat to 1e-3
NARROWEST = 1e-4  # radians: an interval of bound 0
NO_ORDERS = 8


class SymmetryFamily(ABC):
    """A law of turns about a centre, known up to one parameter.

    The parameter is a spread to be found, or where the law has none, what multiplies the noise of the poses: images of
    one class differ, so that their poses are less certain than those of one image turned.
    """

    @property
    @abstractmethod
    def order(self) -> int:
        """The n such that a turn by 2 pi / n leaves the law as it is; 0 where every turn does."""

    @property
    @abstractmethod
    def has_spread(self) -> bool:
        """Whether the parameter is a spread, and hence the level."""

    @abstractmethod
    def parameters(self) -> Tensor:
        """Return the parameters that are tried, each as probable as the next: float64 [P]."""

    @abstractmethod
    def density(self, angles: Tensor, parameter: Tensor, noise: float) -> Tensor:
        """Return the density per radian on the circle of pose = turn + noise.

        Args:
            angles: Poses from the centre, radians in (-pi, pi].
            parameter: As `parameters`.
            noise: Standard deviation of a pose, radians in (0, pi].
        Shape:
            [...], [...] -> [...], broadcast.
        """

    @abstractmethod
    def level(self, parameter: Tensor) -> Tensor:
        """Return the level, radians: 0 for none, the bound, the deviation, 2 pi / n for C_n, pi for full."""

    @abstractmethod
    def excess(self, angles: Tensor, level: Tensor, margin: float) -> Tensor:
        """Return how far angles lie outside the law, above 0 for outside, radians; the margin widens single angles."""


class Uniform(SymmetryFamily):
    """Uniform on [-t, t]; t from 0 to pi.

    With noise s: (Phi((t - a) / s) - Phi((-t - a) / s)) / 2t, summed over whole turns.
    """

    order = 1
    has_spread = True

    def parameters(self) -> Tensor:
        """Return bounds t from 0 to pi."""
        return _spreads(math.pi)

    def density(self, angles: Tensor, parameter: Tensor, noise: float) -> Tensor:
        """Return the density."""
        bound = parameter.clamp(min=NARROWEST)
        turned = _turned(angles)
        upper = torch.special.ndtr((bound.unsqueeze(-1) - turned) / noise)
        lower = torch.special.ndtr((-bound.unsqueeze(-1) - turned) / noise)
        density: Tensor = (upper - lower).sum(dim=-1) / (2 * bound)
        return density

    def level(self, parameter: Tensor) -> Tensor:
        """Return t."""
        return parameter

    def excess(self, angles: Tensor, level: Tensor, margin: float) -> Tensor:
        """Return |a| - t."""
        return wrap(angles).abs() - level


class Normal(SymmetryFamily):
    """Normal of deviation sigma from 0 to 100 degrees, wrapped; noise adds its variance."""

    order = 1
    has_spread = True

    def parameters(self) -> Tensor:
        """Return deviations from 0 to 100 degrees."""
        return _spreads(WIDEST_NORMAL)

    def density(self, angles: Tensor, parameter: Tensor, noise: float) -> Tensor:
        """Return the density."""
        return wrapped_normal(angles, (parameter.square() + noise**2).sqrt())

    def level(self, parameter: Tensor) -> Tensor:
        """Return sigma."""
        return parameter

    def excess(self, angles: Tensor, level: Tensor, margin: float) -> Tensor:
        """Return |a| - sigma."""
        return wrap(angles).abs() - level


class Cyclic(SymmetryFamily):
    """The multiples of 2 pi / n alike, each a normal law of the noise; n = 1 is an image that is never turned.

    The law of a is that of n a, a wrapped normal of deviation n s.

    Args:
        order: n.
    """

    order = 1
    has_spread = False

    def __init__(self, order: int) -> None:
        self.order = order

    def parameters(self) -> Tensor:
        """Return multiples of the noise."""
        return torch.tensor(NOISE_MULTIPLES, dtype=torch.float64)

    def density(self, angles: Tensor, parameter: Tensor, noise: float) -> Tensor:
        """Return the density."""
        return wrapped_normal(wrap(self.order * angles), self.order * parameter * noise)

    def level(self, parameter: Tensor) -> Tensor:
        """Return 2 pi / n, and 0 for n = 1."""
        return torch.full_like(parameter, 2 * math.pi / self.order if self.order > 1 else 0)

    def excess(self, angles: Tensor, level: Tensor, margin: float) -> Tensor:
        """Return the distance to the nearest element, less the margin."""
        return wrap(self.order * angles).abs() / self.order - margin


class Full(SymmetryFamily):
    """Every turn alike: 1 / 2 pi."""

    order = 0
    has_spread = False

    def parameters(self) -> Tensor:
        """Return the one way to be full."""
        return torch.ones(1, dtype=torch.float64)

    def density(self, angles: Tensor, parameter: Tensor, noise: float) -> Tensor:
        """Return 1 / 2 pi."""
        return torch.full_like(angles + parameter, 1 / (2 * math.pi))

    def level(self, parameter: Tensor) -> Tensor:
        """Return pi."""
        return torch.full_like(parameter, math.pi)

    def excess(self, angles: Tensor, level: Tensor, margin: float) -> Tensor:
        """Return -1: no turn is foreign."""
        return torch.full_like(angles, -1)


SYMMETRY_FAMILIES: Mapping[str, SymmetryFamily] = {
    "none": Cyclic(1),
    "uniform": Uniform(),
    "normal": Normal(),
    **{f"C{order}": Cyclic(order) for order in range(2, NO_ORDERS + 1)},
    "full": Full(),
}
FAMILIES = tuple(SYMMETRY_FAMILIES)
"""Their names; `family` and `posterior` of an estimate count by them."""


def family_levels(family: Tensor, levels: Tensor) -> Tensor:
    """Return the level of each image by its family.

    Args:
        family: Places in FAMILIES.
        levels: Bound if uniform, deviation if normal, radians.
    Shape:
        [B], [B, 2] -> [B], radians.
    """
    normal = FAMILIES.index("normal")
    columns = [member.level(levels[:, int(i == normal)]) for i, member in enumerate(SYMMETRY_FAMILIES.values())]
    return torch.stack(columns, dim=-1).gather(-1, family.unsqueeze(-1)).squeeze(-1)


def wrapped_normal(angles: Tensor, deviation: Tensor) -> Tensor:
    """Return the density of a normal law about 0 wound around the circle, per radian: [...], [...] -> [...]."""
    spread = deviation.clamp(max=FLATTEST)
    bells = torch.exp(-0.5 * (_turned(angles) / spread.unsqueeze(-1)).square())
    return bells.sum(dim=-1) / (spread * math.sqrt(2 * math.pi))


def _spreads(most: float) -> Tensor:
    """Return spreads from 0 to the largest one, closer together where they are small: float64 [P].

    Each is as probable as the next, so the density of the prior falls as spread^(-1/3), between an even one and one
    that knows no scale.
    """
    steps: Tensor = torch.linspace(0, 1, NO_SPREADS, dtype=torch.float64)
    return most * steps**1.5


def _turned(angles: Tensor) -> Tensor:
    """Return angles plus whole turns: [...] -> [..., W]."""
    turns = torch.arange(-TURNS, TURNS + 1, dtype=angles.dtype, device=angles.device)
    return angles.unsqueeze(-1) + 2 * math.pi * turns
