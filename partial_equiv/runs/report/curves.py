"""Rows of a log as panels of lines over the epochs."""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from partial_equiv.runs.report.record import RunRecord, entry, number

PHASES = {"train": "training", "validation": "validation"}
LEARNED = ("levels", "mirror")
"""Lists of a row that are drawn as subsets."""
MOST_POINTS, MOST_LINES = 1000, 24
SHARES = ("accuracy", "top1")
"""Ends of names of metrics that are shown in percent."""
LOG_RATIO = 10.0

Row = dict[str, Any]


class Line(NamedTuple):
    """A line: a place and a value per point, None where there is no finite value.

    `tone` is the number of its look, for what keeps one in all panels; None is its number in the panel.
    """

    name: str
    places: Sequence[float]
    values: Sequence[float | None]
    tone: int | None = None


class Panel(NamedTuple):
    """Lines on common axes.

    Args:
        title: What the values are, with their unit.
        lines: In order.
        main: Whether it is a metric of the run itself, not one of many details.
        group: What the places are; panels of one group share a cursor.
    """

    title: str
    lines: Sequence[Line]
    main: bool = True
    group: str = "epoch"

    @property
    def log(self) -> bool:
        """Whether it reads better on a logarithmic axis: losses and rates, positive and over a wide range."""
        values = [value for line in self.lines for value in line.values if value is not None]
        falls = self.title.startswith(("loss", "lr"))
        return bool(values) and falls and min(values) > 0 and max(values) > LOG_RATIO * min(values)


def thinned(rows: Sequence[Row], most: int = MOST_POINTS, keep: Collection[int] = ()) -> list[Row]:
    """Return about `most` rows at most, evenly spread, with the first, the last and those of the epochs `keep`."""
    if len(rows) <= most:
        return list(rows)
    picked = {round(place * (len(rows) - 1) / (most - 1)) for place in range(most)}
    picked |= {place for place, row in enumerate(rows) if row["epoch"] in keep}
    return [rows[place] for place in sorted(picked)]


def best_epoch(record: RunRecord) -> int | None:
    """Return the epoch of the weights that were tested."""
    epoch = number(record.summary.get("best_epoch"))
    return int(epoch) if epoch else None


def thinned_rows(record: RunRecord, most: int = MOST_POINTS) -> list[Row]:
    """Return the rows of a run that are drawn, its best epoch always among them."""
    best = best_epoch(record)
    return thinned(record.rows, most, () if best is None else (best,))


def panels_of(rows: Sequence[Row]) -> list[Panel]:
    """Return a panel for each metric, training and validation in one, then one for each family of details.

    A key is "train/<metric>" or "validation/<metric>", the name of a number such as lr, or "<family>/<detail>"; a list
    is a line per entry.
    """
    lines: dict[tuple[str, bool], list[Line]] = {}
    epochs = [row["epoch"] for row in rows]
    for key in dict.fromkeys(key for row in rows for key in row):
        title, name, main = place_of(key)
        if key in ("epoch", "seconds", *LEARNED) or title == "gates":
            continue
        for label, values in _series(rows, key, name):
            lines.setdefault((title, main), []).append(Line(label, epochs, values))
    panels = [_scaled(Panel(title, found, main)) for (title, main), found in lines.items()]
    panels = [panel for panel in panels if any(value is not None for line in panel.lines for value in line.values)]
    # The metrics of the run first, its loss before all, the rate after them, and details last.
    return sorted(panels, key=lambda panel: (not panel.main, panel.title == "lr", panel.title != "loss"))


def place_of(key: str) -> tuple[str, str, bool]:
    """Return the title of the panel and the name of the line of a key, and whether it is no detail."""
    family, _, rest = key.partition("/")
    if family in PHASES and rest:
        metric, _, detail = rest.partition("/")
        return (metric, f"{detail}, {PHASES[family]}", False) if detail else (metric, PHASES[family], True)
    return (family, rest, False) if rest else (key, key, True)


def seconds_panel(rows: Sequence[Row]) -> Panel | None:
    """Return the duration of every epoch, None where it was not logged."""
    values = [number(row.get("seconds")) for row in rows]
    if all(value is None for value in values):
        return None
    return Panel("seconds per epoch", [Line("training and validation", [row["epoch"] for row in rows], values)])


def turn_panel(record: RunRecord) -> Panel | None:
    """Return the accuracy on turned test images against the turn in degrees, None where it was not measured."""
    angles, shares = record.orbit.get("angles"), record.orbit.get("accuracy")
    if not isinstance(angles, list) or not isinstance(shares, list) or len(angles) != len(shares):
        return None
    pairs = [(number(angle), number(share)) for angle, share in zip(angles, shares, strict=True)]
    known = [(math.degrees(angle), share) for angle, share in pairs if angle is not None]
    if not known:
        return None
    turns = [round((angle + 180) % 360 - 180, 3) for angle, _ in known]
    order = sorted(range(len(turns)), key=turns.__getitem__)
    values = [None if (share := known[place][1]) is None else 100 * share for place in order]
    return Panel("accuracy on turned images (%)", [Line("test", [turns[p] for p in order], values)], group="turn")


def overlaid(named: Iterable[tuple[str, Sequence[Panel]]]) -> list[Panel]:
    """Return a panel for each line that runs have in common or alone, with a line per run.

    Args:
        named: Label of a run and its panels; details are left out.
    """
    found: dict[str, list[Line]] = {}
    for tone, (label, panels) in enumerate(named):
        for panel in panels:
            for line in panel.lines if panel.main else ():
                title = panel.title if line.name == panel.title else f"{panel.title}, {line.name}"
                found.setdefault(title, []).append(line._replace(name=label, tone=tone))
    return [Panel(title, lines) for title, lines in found.items()]


def _series(rows: Sequence[Row], key: str, name: str) -> Iterable[tuple[str, list[float | None]]]:
    width = max((len(row[key]) for row in rows if isinstance(row.get(key), list)), default=0)
    if not width:
        return [(name, [number(row.get(key)) for row in rows])]
    columns = ([entry(row.get(key), place) for row in rows] for place in range(width))
    return [(f"{name} {place}", values) for place, values in enumerate(columns, start=1)]


def _scaled(panel: Panel) -> Panel:
    """Return shares in percent."""
    values = [value for line in panel.lines for value in line.values if value is not None]
    if not panel.title.endswith(SHARES) or not values or not 0 <= min(values) <= max(values) <= 1:
        return panel
    lines = [
        line._replace(values=[None if value is None else 100 * value for value in line.values]) for line in panel.lines
    ]
    return panel._replace(title=f"{panel.title} (%)", lines=lines)
