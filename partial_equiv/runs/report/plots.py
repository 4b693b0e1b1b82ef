"""What the script of the page draws, collected while the page is written; see report.js for the other side."""

from collections.abc import Mapping, Sequence
from typing import Any

from partial_equiv.runs.report.curves import MOST_LINES, Line, Panel
from partial_equiv.runs.report.html import Markup, escaped
from partial_equiv.runs.report.subsets import Layer

MOST_STEPS = 1000
GROUPS: Mapping[str, tuple[str, str, int | None]] = {"epoch": ("epoch", "", None), "turn": ("turn", "°", 90)}
"""Group of panels -> the name and the unit of their places, and the stride of their ticks where it is fixed."""


class Plots:
    """Collects lines and subsets. Each is handed back as the place in the page where the script will draw it."""

    def __init__(self, start: int | None = None) -> None:
        """Begin with nothing.

        Args:
            start: Epoch that is shown first; None is the last.
        """
        self._start = start
        self._axes: list[list[float]] = []
        self._panels: list[dict[str, Any]] = []
        self._layers: list[dict[str, Any]] = []
        self._places: dict[str, set[float]] = {}

    def panel(self, panel: Panel) -> Markup:
        """Return the place of a panel; of very many lines the first are drawn, and the page says so."""
        shown = panel.lines[:MOST_LINES]
        lines = [
            {
                "name": line.name,
                "axis": self._axis(line.places, panel.group),
                "values": [None if value is None else float(f"{value:.5g}") for value in line.values],
                "tone": number if line.tone is None else line.tone,
            }
            for number, line in enumerate(shown)
        ]
        self._panels.append({"group": panel.group, "log": panel.log, "text": in_words(panel, shown), "lines": lines})
        left = len(panel.lines) - len(shown)
        more = f" <small>{len(shown)} of {len(panel.lines)} lines are drawn</small>" if left else ""
        place = f'data-panel="{len(self._panels) - 1}"'
        return Markup(f'<figure class="plot" {place}><figcaption>{escaped(panel.title)}{more}</figcaption></figure>')

    def layer(self, layer: Layer) -> Markup:
        """Return the place of a layer's subset."""

        def rounded(values: Sequence[float | None]) -> list[float | None]:
            return [None if value is None else round(value, 4) for value in values]

        self._layers.append(
            {
                "name": layer.name,
                "axis": self._axis(layer.epochs, "epoch"),
                "level": rounded(layer.level),
                "mirror": rounded(layer.mirror),
                "gates": [rounded(gates) for gates in layer.gates],
            }
        )
        place = f'data-layer="{len(self._layers) - 1}"'
        return Markup(f'<figure class="polar" {place}><figcaption>{escaped(layer.name)}</figcaption></figure>')

    def slider(self, group: str = "epoch") -> Markup:
        """Return a slider that moves the cursors of a group of panels, and every other slider of the group."""
        name, *_ = GROUPS[group]
        words = f'<span>{name}</span><input type="range" min="0" max="0" step="1" value="0" data-group="{group}">'
        return Markup(f'<label class="slider">{words}<span class="value" aria-hidden="true"></span></label>')

    def payload(self) -> dict[str, Any]:
        """Return everything that was collected, as plain values for JSON."""
        groups = {group: self._group(group, places) for group, places in self._places.items()}
        return {"groups": groups, "axes": self._axes, "panels": self._panels, "layers": self._layers}

    def _axis(self, places: Sequence[float], group: str) -> int:
        """Return the number of an axis; lines of one run share theirs."""
        self._places.setdefault(group, set()).update(places)
        axis = list(places)
        if axis not in self._axes:
            self._axes.append(axis)
        return self._axes.index(axis)

    def _group(self, group: str, places: set[float]) -> Mapping[str, Any]:
        name, unit, stride = GROUPS[group]
        steps = sorted(places)
        if len(steps) > MOST_STEPS:
            picked = {round(i * (len(steps) - 1) / (MOST_STEPS - 1)) for i in range(MOST_STEPS)}
            steps = [step for place, step in enumerate(steps) if place in picked or step == self._start]
        wanted = self._start if group == "epoch" else 0
        start = steps.index(wanted) if wanted in steps else len(steps) - 1
        return {"name": name, "unit": unit, "stride": stride, "steps": steps, "start": start}


def in_words(panel: Panel, lines: Sequence[Line]) -> str:
    """Return what a panel shows, for those who cannot see it."""
    name, unit, _ = GROUPS[panel.group]
    found = []
    for line in lines:
        points = [(place, value) for place, value in zip(line.places, line.values, strict=True) if value is not None]
        if points:
            (first, begin), (last, end) = points[0], points[-1]
            low, high = min(value for _, value in points), max(value for _, value in points)
            ends = f"{begin:.4g} at {name} {first:g}{unit}, {end:.4g} at {name} {last:g}{unit}"
            found.append(f"{line.name}: {ends}, between {low:.4g} and {high:.4g}")
    return f"{panel.title} against {name}. {'; '.join(found)}."
