"""The configuration that follows from the symmetry of a data set, as words that the command line accepts."""

import dataclasses
import math
import shlex
from collections.abc import Iterable, Sequence

from partial_equiv.errors import UserError
from partial_equiv.symmetry.data_symmetry import DataSymmetry

NEAR_ZERO = math.radians(8)
"""Below this level images count as never turned: what a good detector reads of a never-turned class."""

SMALLEST_LEVEL = 0.05  # of the circle: a learned interval must have room to grow


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """Choices of a network that fit the symmetry of the data.

    Args:
        base_group: SE2, E2 or T2.
        conv: full or partial.
        initial_level: Share of the circle that learned intervals start from; None where the configuration says.
        reasons: Sentences.
    """

    base_group: str
    conv: str
    initial_level: float | None
    reasons: tuple[str, ...]

    def overrides(self) -> list[str]:
        """Return the choices as words of the command line."""
        level = [] if self.initial_level is None else [f"conv.initial_level={self.initial_level:g}"]
        return [f"base_group={self.base_group}", f"conv={self.conv}", *level]

    def command(self, dataset: Sequence[str] = ()) -> str:
        """Return the line that trains the suggested network.

        Args:
            dataset: Words that choose the data set, such as ["dataset=MNIST", "dataset.rot_interval=45"].
        """
        return shlex.join(["python", "main.py", *dataset, *self.overrides()])

    def words(self) -> str:
        """Return why, in a few sentences."""
        return " ".join(self.reasons)


def suggest(report: DataSymmetry, levels: Iterable[float | None] | None = None) -> Suggestion:
    """Suggest a group and its start from the tests and the measured levels; turns and the mirror are judged apart.

    Turns not rejected: the whole circle. Rejected, and no class turned by 8 degrees or more: translations alone.
    Otherwise learned intervals that start from the largest level of a class. Mirrored elements where D1 stands.

    Args:
        report: With tests of D1 and SO2.
        levels: How far each class turns, in radians, 0 to pi; None for a class, or for all, where it is not known.

    Raises:
        UserError: a test is missing, or a level is out of range.
    """
    level = largest(levels)
    mirror, turns = not report.rejected("D1"), not report.rejected("SO2")
    group = "E2" if mirror else "SE2"
    because = f"Turns by any angle are {verdict(report, 'SO2')}"
    judged = f"The left-right mirror is {verdict(report, 'D1')}"
    flip = f"{judged}, so {'mirrored elements belong to the group' if mirror else 'no mirrored elements'}."
    if turns:
        return Suggestion(group, "full", None, (f"{because}, so convolutions cover the whole circle.", flip))
    quarter = quarter_turns(report, mirror)
    if level is None:
        start = f"{because}, and no levels were measured, so intervals are learned from their usual start."
        return Suggestion(group, "partial", None, (start, flip, *quarter))
    extent = f"{because}, and the largest level of a class is {math.degrees(level):.0f} degrees, so"
    if level < NEAR_ZERO:
        if mirror:
            flip = f"{judged}: base_group=D4 base_group.name=D1 base_group.no_samples=2 would keep it."
        return Suggestion("T2", "full", None, (f"{extent} translations are enough.", flip))
    share = max(SMALLEST_LEVEL, round(level / math.pi, 2))
    start = f"{extent} intervals are learned from {share:g} of the circle on."
    return Suggestion(group, "partial", share, (start, flip, *quarter))


def verdict(report: DataSymmetry, group: str) -> str:
    """Return what the report says of a group, with its strongest evidence."""
    test = report.strongest(group)
    where = "the whole set" if test.label is None else f"class {test.name}"
    return f"{'' if report.rejected(group) else 'not '}rejected (least adjusted p {test.holm:.2g}, {where})"


def quarter_turns(report: DataSymmetry, mirror: bool) -> list[str]:
    """Return a sentence where quarter turns, though not all turns, are not rejected."""
    if "C4" not in report.groups or report.rejected("C4"):
        return []
    return [
        f"Quarter turns are {verdict(report, 'C4')}: base_group={'D4' if mirror else 'C4'} conv=full has them alone."
    ]


def largest(levels: Iterable[float | None] | None) -> float | None:
    """Return the largest known level, or None.

    Raises:
        UserError: a level that is no number from 0 to pi.
    """
    known = [float(level) for level in (() if levels is None else levels) if level is not None]
    for level in known:
        if not 0 <= level <= math.pi + 1e-6:
            raise UserError(f"level {level:g} is out of range: give radians from 0 to pi, or None for an unknown class")
    return max(known, default=None)
