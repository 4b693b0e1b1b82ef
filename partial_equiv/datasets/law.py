"""The law of the angle by which the images of one class are turned.

Axes: B angles, n elements of a cyclic group, K whole turns.
"""

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from partial_equiv.datasets.counter import uniform
from partial_equiv.datasets.rotation import check_interval, check_normal, normal_angles, random_angles
from partial_equiv.errors import UserError

WRITTEN = "none, full, uniform:<bound>, normal:<std> (degrees, above 0, up to 180) or cyclic:<order, 1 to 360>"
MOST = {"uniform": 180, "normal": 180, "cyclic": 360}
"""Kinds that take a number, and the largest one."""
ATOM = math.radians(3)  # radians: the width at which a single angle is drawn as a density
EDGE = 1e-9  # radians: what a wrapped angle may lose to rounding
TURNS = 4  # whole turns to either side: a normal law of 180 degrees has 1e-15 of its mass beyond them


@dataclasses.dataclass(frozen=True)
class Law:
    """How the angles of one class are distributed about 0.

    none: 0. uniform: in +-value. normal: deviation value, not wrapped. cyclic: the multiples of 2 pi / value, alike.
    full: uniform on the circle. As a text: "none", "uniform:60", "normal:9", "cyclic:4", "full".

    Args:
        kind: One of none, uniform, normal, cyclic, full.
        value: Degrees for uniform (bound) and normal (standard deviation), order for cyclic, 0 for none and full.

    Raises:
        UserError: no such law.
    """

    kind: str
    value: float = 0.0

    def __post_init__(self) -> None:
        """Check kind and value."""
        if self.kind in MOST:
            valid = 0 < self.value <= MOST[self.kind] and (self.kind != "cyclic" or self.value % 1 == 0)
        else:
            valid = self.kind in ("none", "full") and self.value == 0
        if not valid:
            raise UserError(f"law={str(self)!r} is no law of angles: give {WRITTEN}")

    @classmethod
    def parse(cls, text: str) -> "Law":
        """Return the law that a text names.

        Raises:
            UserError: it names none.
        """
        kind, colon, number = str(text).partition(":")
        try:
            value = float(number) if colon else 0.0
        except ValueError:
            value = math.nan
        if math.isnan(value) or (colon and kind not in MOST):
            raise UserError(f"law={str(text)!r} is no law of angles: give {WRITTEN}")
        return cls(kind, value)

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        number = repr(float(self.value)).removesuffix(".0")
        return f"{self.kind}:{number}" if self.kind in MOST or self.value else self.kind

    @property
    def level(self) -> float:
        """Radians: 0, the bound, the deviation, the angle 2 pi / n between neighbours, or pi for full."""
        if self.kind == "cyclic":
            return 2 * math.pi / self.value
        return math.pi if self.kind == "full" else math.radians(self.value)

    @property
    def elements(self) -> Tensor:
        """Angles of a cyclic law or of none, in radians, float64 [n], from -pi (excluded) to pi."""
        order = int(self.value) if self.kind == "cyclic" else 1
        number = torch.arange(order, dtype=torch.float64)
        return torch.where(2 * number > order, number - order, number) * (2 * math.pi / order)

    def angles(self, index: Tensor, *, seed: int, stream: int) -> Tensor:
        """Draw an angle for each position, as a pure function of seed, stream and position.

        Args:
            index: Positions.
            seed: Of the data set.
            stream: Tells splits with equal positions apart.
        Shape:
            index [B] -> [B] in radians, float64.
        """
        if self.kind == "normal":
            return normal_angles(index, rot_normal=(0, self.value), seed=seed, stream=stream)
        if self.kind in ("uniform", "full"):
            bound = 180 if self.kind == "full" else self.value
            return random_angles(index, rot_interval=bound, seed=seed, stream=stream)
        chosen = uniform(seed, stream, index.numpy()) * len(self.elements)
        return self.elements[torch.from_numpy(chosen).long()]

    def contains(self, angles: Tensor, margin: float) -> Tensor:
        """Say which angles belong to the law: within the bound or one deviation, or near an element; wrapped.

        Args:
            angles: Radians, any number of turns.
            margin: Radians about an element; for none and cyclic alone.
        Shape:
            angles [B] -> bool [B].
        """
        if self.kind in ("none", "cyclic"):
            distances = wrap(angles.double()[:, None] - self.elements.to(angles.device)).abs()
            return distances.min(dim=1).values <= margin + EDGE
        return wrap(angles.double()).abs() <= self.level + EDGE

    def density(self, angles: Tensor) -> Tensor:
        """Return the density per radian on the circle, for drawing; an atom is a wrapped normal of 3 degrees.

        Shape:
            angles [B] in radians, any number of turns -> float64 [B].
        """
        wrapped = wrap(angles.double())
        if self.kind in ("uniform", "full"):
            return (wrapped.abs() <= self.level + EDGE).double() / (2 * self.level)
        centres = self.elements.to(angles.device) if self.kind != "normal" else wrapped.new_zeros(1)
        deviation = self.level if self.kind == "normal" else ATOM
        turns = 2 * math.pi * torch.arange(-TURNS, TURNS + 1).to(wrapped)
        distances = wrapped[:, None, None] - centres[:, None] + turns
        bells = torch.exp(-0.5 * (distances / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))
        return bells.sum(dim=2).mean(dim=1)


def wrap(angles: Tensor) -> Tensor:
    """Return equal angles in [-pi, pi), radians."""
    return torch.remainder(angles + math.pi, 2 * math.pi) - math.pi


def parse_laws(choice: str | Sequence[str], no_classes: int) -> tuple[Law, ...]:
    """Return the law of each class.

    Args:
        choice: One text for all classes, or one for each.
        no_classes: Of the data set; 1 where it has no labels.

    Raises:
        UserError: a text that names no law, or another number of them.
    """
    if isinstance(choice, str):
        return (Law.parse(choice),) * no_classes
    laws = tuple(Law.parse(text) for text in choice)
    check_number(laws, no_classes)
    return laws


def check_number(laws: Sequence[Law], no_classes: int) -> None:
    """Raise UserError if there is not one law for each class."""
    if len(laws) != no_classes:
        due = f"for each of the {no_classes} classes" if no_classes > 1 else "because the images have no labels"
        raise UserError(f"{len(laws)} laws of angles are given ({brief(laws)}): give one {due}")


def laws_of_turns(
    no_classes: int, rot_interval: float, rot_normal: Sequence[float] | None = None
) -> tuple[Law, ...] | None:
    """Return the law of each class where all are turned alike; None for a normal law that is not about 0, or too wide.

    Args:
        no_classes: Of the data set.
        rot_interval: Degrees, 0 (upright) to 180 (full circle).
        rot_normal: Mean and standard deviation in degrees; None leaves the choice to rot_interval.

    Raises:
        UserError: a value out of range.
    """
    if rot_normal is None:
        check_interval(rot_interval)
        if rot_interval in (0, 180):
            return (Law("full" if rot_interval else "none"),) * no_classes
        law = Law("uniform", rot_interval)
    else:
        check_normal(rot_normal)
        mean, deviation = rot_normal
        if mean or deviation > MOST["normal"]:
            return None
        law = Law("normal", deviation) if deviation else Law("none")
    return (law,) * no_classes


def brief(laws: Sequence[Law]) -> str:
    """Return the laws of the classes in a few words, runs of equal ones together."""
    if len(set(laws)) == 1:
        return str(laws[0])
    starts = [label for label, law in enumerate(laws) if not label or law != laws[label - 1]]
    ends = [*(start - 1 for start in starts[1:]), len(laws) - 1]
    parts = [
        f"{laws[a]} (class {a})" if a == b else f"{laws[a]} (classes {a}-{b})"
        for a, b in zip(starts, ends, strict=True)
    ]
    return ", ".join(parts if len(parts) <= 4 else [*parts[:2], "...", parts[-1]])
