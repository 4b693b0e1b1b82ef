"""The law of the training angles, for figures and for the files of the orbit evaluator."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from partial_equiv.errors import UserError

Kind = Literal["upright", "uniform", "normal"]


class TrainingLaw(NamedTuple):
    """By how much the training images were turned.

    "upright": not at all. "uniform": evenly in centre -+ width. "normal": with mean `centre` and standard deviation
    `width`, wrapped around the circle.

    Args:
        kind: One of the three.
        centre: Radians.
        width: Radians; pi is the whole circle for "uniform".
    """

    kind: Kind
    centre: float = 0.0
    width: float = math.pi

    def density(self, angles: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the density per radian at each angle; 0 everywhere for "upright", which is a spike at 0."""
        away = (np.asarray(angles) - self.centre + math.pi) % (2 * math.pi) - math.pi
        if self.kind == "uniform":
            return np.where(np.abs(away) <= self.width + 1e-12, 1 / (2 * self.width), 0.0)
        if self.kind == "upright":
            return np.zeros_like(away)
        no_turns = math.ceil(6 * self.width / (2 * math.pi)) + 1  # six deviations: what lies beyond is under 1e-8
        turns = 2 * math.pi * np.arange(-no_turns, no_turns + 1)
        peaks = np.exp(-0.5 * ((away[..., None] + turns) / self.width) ** 2)
        total: NDArray[np.float64] = peaks.sum(axis=-1) / (self.width * math.sqrt(2 * math.pi))
        return total

    def to_dict(self) -> dict[str, Any]:
        """Return {"kind", "centre", "width"} in radians, for JSON."""
        return dict(self._asdict())

    def __str__(self) -> str:
        """Return the law in words, in degrees."""
        centre, width = (f"{round(math.degrees(value), 1):g}°" for value in (self.centre, self.width))
        if self.kind == "upright":
            return "upright"
        if self.kind == "normal":
            return f"normal, {centre} ± {width}"
        return "uniform" if self.width > math.pi - 1e-9 else f"uniform, {centre} ± {width}"


def read_law(data: Mapping[str, Any]) -> TrainingLaw:
    """Return the law that `TrainingLaw.to_dict` wrote; "centre" and "width" may be left out where they are 0 and pi.

    Raises:
        UserError: no such law, or numbers out of range.
    """
    kinds = get_args(Kind)
    wanted = f'give {{"kind": one of {", ".join(kinds)}, "centre": radians, "width": radians above 0}}'
    if not isinstance(data, Mapping) or data.get("kind") not in kinds or set(data) - {"kind", "centre", "width"}:
        raise UserError(f"law={data!r} is no law of angles: {wanted}")
    numbers = data.get("centre", 0.0), data.get("width", math.pi)
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in numbers):
        raise UserError(f"law={data!r} has no numbers: {wanted}")
    if not (0 < numbers[1] <= (math.pi if data["kind"] == "uniform" else 100)):
        raise UserError(f"law={data!r} has a width out of range, at most pi for uniform: {wanted}")
    return TrainingLaw(data["kind"], float(numbers[0]), float(numbers[1]))
