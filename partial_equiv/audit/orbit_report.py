"""What the orbit evaluator found, from counts alone."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partial_equiv.audit.moves import Move
from partial_equiv.audit.statistics import Interval, counts_t_interval, wilson
from partial_equiv.errors import UserError


@dataclass(frozen=True)
class OrbitReport:
    """Accuracy of one classifier on the moved images of one test set; all shares lie in [0, 1].

    Intervals are of 95 %: Wilson's where an image gives one yes or no. Where it gives several, at several elements,
    these are not independent: the t-interval over the images' own means.

    Args:
        group: Name of the group.
        moves: Its elements, the identity first.
        no_right: Correct answers at each element.
        histogram: Images that are right at 0, 1, .. all elements.
        unseen_histogram: The same over the elements without the identity.
        no_consistent: Images that get one and the same answer, right or wrong, at every element.
        fill: What lay outside the frame.
        border: "none" or "circle".
    """

    group: str
    moves: tuple[Move, ...]
    no_right: tuple[int, ...]
    histogram: tuple[int, ...]
    unseen_histogram: tuple[int, ...]
    no_consistent: int
    fill: str
    border: str

    @property
    def no_images(self) -> int:
        """Images evaluated."""
        return sum(self.histogram)

    @property
    def acc_per_element(self) -> dict[str, float]:
        """Accuracy at each element, by its name, the identity first."""
        return {move.name: right / self.no_images for move, right in zip(self.moves, self.no_right, strict=True)}

    @property
    def acc_upright(self) -> float:
        """Accuracy on the images as they are."""
        return self.no_right[0] / self.no_images

    @property
    def acc_unseen(self) -> float:
        """Mean accuracy over the elements without the identity."""
        return counts_t_interval(self.unseen_histogram).value

    @property
    def acc_mean(self) -> float:
        """Mean accuracy over all elements."""
        return counts_t_interval(self.histogram).value

    @property
    def acc_worst(self) -> float:
        """Lowest accuracy over all elements."""
        return min(self.no_right) / self.no_images

    @property
    def worst(self) -> str:
        """Name of the element with the lowest accuracy, the first of equals."""
        return self.moves[self.no_right.index(min(self.no_right))].name

    @property
    def spread(self) -> float:
        """Highest minus lowest accuracy over all elements; 0 for a network that is exactly invariant."""
        return (max(self.no_right) - min(self.no_right)) / self.no_images

    @property
    def consistency(self) -> float:
        """Share of images that get one and the same answer, right or wrong, at every element."""
        return self.no_consistent / self.no_images

    @property
    def ci95(self) -> dict[str, Interval]:
        """Intervals of "acc_upright", "acc_unseen", "acc_mean" and "consistency"; those of elements: `element_ci95`."""
        return {
            "acc_upright": wilson(self.no_right[0], self.no_images),
            "acc_unseen": counts_t_interval(self.unseen_histogram),
            "acc_mean": counts_t_interval(self.histogram),
            "consistency": wilson(self.no_consistent, self.no_images),
        }

    @property
    def element_ci95(self) -> dict[str, Interval]:
        """Wilson's interval at each element, by its name."""
        return {move.name: wilson(right, self.no_images) for move, right in zip(self.moves, self.no_right, strict=True)}

    @property
    def angles(self) -> NDArray[np.float64]:
        """Turns in radians, in the order of `accuracy`.

        Raises:
            UserError: some elements mirror, so that there is no curve over the angle.
        """
        if any(move.mirror for move in self.moves):
            raise UserError(f"group={self.group!r} mirrors images: a curve over the angle needs C<n> or SO2")
        return np.array([move.angle for move in self.moves])

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Accuracy at each element."""
        return np.array(self.no_right) / self.no_images

    def table(self) -> str:
        """Return the report as text, accuracies in percent."""
        over = f"fill {self.fill}, border {self.border}"
        lines = [f"accuracy over {self.group}, {self.no_images:,} images, {over}", f"{'':16}{'%':>8}   95 % interval"]
        lines += [_line(name, interval) for name, interval in self.element_ci95.items()]
        lines += [_line(name.removeprefix("acc_"), interval) for name, interval in self.ci95.items()]
        lines += [
            f"{'worst':16}{100 * self.acc_worst:8.2f}   at {self.worst}",
            f"{'spread':16}{100 * self.spread:8.2f}",
        ]
        return "\n".join(lines) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data for JSON; angles in radians, null where there is no number."""
        turns_only = not any(move.mirror for move in self.moves)
        numbers = ("no_images", "acc_upright", "acc_unseen", "acc_mean", "acc_worst", "worst", "spread", "consistency")
        rows = zip(self.moves, self.no_right, self.element_ci95.values(), strict=True)
        return {
            "group": self.group,
            "fill": self.fill,
            "border": self.border,
            **{key: getattr(self, key) for key in numbers},
            "ci95": {key: _ends(interval) for key, interval in self.ci95.items()},
            "elements": [
                {
                    "name": move.name,
                    "angle": move.angle,
                    "mirror": move.mirror,
                    "no_right": right,
                    "accuracy": interval.value,
                    "ci95": _ends(interval),
                }
                for move, right, interval in rows
            ],
            "angles": self.angles.tolist() if turns_only else None,
            "accuracy": self.accuracy.tolist() if turns_only else None,
        }


def _line(name: str, interval: Interval) -> str:
    ends = "none of one image" if math.isnan(interval.low) else f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"
    return f"{name:16}{100 * interval.value:8.2f}   {ends}"


def _ends(interval: Interval) -> list[float] | None:
    return None if math.isnan(interval.low) else [interval.low, interval.high]
