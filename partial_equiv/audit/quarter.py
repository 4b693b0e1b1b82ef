"""Quarter turns exchange rows and columns, so a network that fits them must treat both alike."""

from itertools import zip_longest

from partial_equiv.audit.rows import BOTH, Row
from partial_equiv.audit.trace import Event, Trace


def unlike_rows(trace: Trace, turned: Trace) -> list[tuple[int, Row]]:
    """Return (step, row) for each operation that treats the two axes differently.

    What happens to H in the image must happen to W in the turned image, and the other way round: a kernel of 1 x 3
    would have to become one of 3 x 1.

    Args:
        trace: A pass at (H, W).
        turned: A pass at (W, H); the same pass if the image is square.
    """
    found: dict[tuple[int, str], Row] = {}
    for axis, other in (("H", "W"), ("W", "H")):
        for mine, theirs in _differences(trace.history[axis], turned.history[other]):
            event = mine or theirs
            assert event is not None
            found.setdefault((event.step, event.name), _row(event, axis, other, mine, theirs))
    return [(step, row) for (step, _), row in found.items()]


def _differences(history: list[Event], other: list[Event]) -> list[tuple[Event | None, Event | None]]:
    """Return pairs of events that differ; of histories of unequal length only the first, for the rest is displaced."""
    pairs = zip_longest(history, other)
    unequal = [(a, b) for a, b in pairs if a is None or b is None or a.deed != b.deed]
    return unequal if len(history) == len(other) else unequal[:1]


def _row(event: Event, axis: str, other: str, mine: Event | None, theirs: Event | None) -> Row:
    words = f"{_told(mine)} along {axis} and {_told(theirs)} along {other}: no quarter turn exchanges them"
    return Row(event.name, "unlike", BOTH, exact=False, reason=words, always=True)


def _told(event: Event | None) -> str:
    return "nothing" if event is None else event.deed
