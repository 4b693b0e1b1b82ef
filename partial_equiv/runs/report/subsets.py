"""What layers learned of their group, epoch by epoch."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from partial_equiv.runs.report.curves import Line, Panel
from partial_equiv.runs.report.record import RunRecord, entry, number

GATES = "gates/"


class Layer(NamedTuple):
    """The learned subset of a layer over the epochs.

    Args:
        name: Of the layer.
        epochs: One per frame.
        level: Share of the circle kept, turns in +-pi times it; None where none is learned.
        mirror: Probability of the mirrored half; None where there is none.
        gates: Probability of every turn of a grid, identity first; empty where no grid is learned.
    """

    name: str
    epochs: Sequence[int]
    level: Sequence[float | None]
    mirror: Sequence[float | None]
    gates: Sequence[Sequence[float | None]]

    def words(self, epoch: int | None) -> list[str]:
        """Return level, turns kept and probability of the mirror at an epoch, else at the last; "-" for none."""
        place = -1 if epoch is None or epoch not in self.epochs else list(self.epochs).index(epoch)
        level, mirror = self.level[place], self.mirror[place]
        turns = "-" if level is None else f"±{180 * level:.1f}°"
        if self.gates:
            known = [gate for gate in self.gates[place] if gate is not None]
            turns = f"{sum(known):.1f} of {len(known)}"
        return ["-" if level is None else f"{level:.3f}", turns, "-" if mirror is None else f"{mirror:.2f}"]


def layers_of(record: RunRecord, rows: Sequence[Mapping[str, Any]]) -> list[Layer]:
    """Return every layer that learns a subset, from rows of the log, or from the summary where these tell nothing."""
    frames = [row for row in rows if isinstance(row.get("levels"), list) and row["levels"]]
    if not frames and isinstance(record.summary.get("levels"), list) and record.summary["levels"]:
        frames = [dict(record.summary) | {"epoch": int(number(record.summary.get("best_epoch")) or 0)}]
    no_layers = max((len(row["levels"]) for row in frames), default=0)
    names = _names(record, no_layers)
    epochs = [row["epoch"] for row in frames]
    layers = []
    grids = _grids(frames, names)
    for place, name in enumerate(names):
        level = [_share(row["levels"], place) for row in frames]
        mirror = [_share(row.get("mirror"), place) for row in frames]
        gates = [_units(row.get(grids[place])) for row in frames] if place in grids else []
        layers.append(Layer(name, epochs, level, mirror, gates))
    return [layer for layer in layers if layer.gates or any(v is not None for v in (*layer.level, *layer.mirror))]


def level_panels(layers: Sequence[Layer]) -> list[Panel]:
    """Return the levels and the probabilities of mirrors as lines over the epochs, where they are learned."""
    panels = []
    for title, key in (("level θ (1 = whole circle)", "level"), ("probability of the mirror", "mirror")):
        lines = [Line(layer.name, layer.epochs, getattr(layer, key)) for layer in layers]
        learned = [line for line in lines if any(value is not None for value in line.values)]
        if learned and len(learned[0].places) > 1:
            panels.append(Panel(title, learned))
    return panels


def _names(record: RunRecord, no_layers: int) -> list[str]:
    named = record.summary.get("layers")
    if isinstance(named, list) and len(named) == no_layers:
        return [str(name) for name in named]
    return [f"layer {place + 1}" for place in range(no_layers)]


def _grids(frames: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[int, str]:
    """Return the key of the gates of each layer that has some, by its place."""
    keys = [
        key for key in (frames[-1] if frames else {}) if key.startswith(GATES) and isinstance(frames[-1][key], list)
    ]
    found = {names.index(name): key for key in keys if (name := key.removeprefix(GATES)) in names}
    if found or not keys:
        return found
    # Without names, those of an unfinished run, the order is that of the layers that learn no level.
    free = [place for place in range(len(names)) if all(_share(row["levels"], place) is None for row in frames)]
    return dict(zip(free, keys, strict=False))


def _share(values: Any, place: int) -> float | None:
    return _unit(entry(values, place))


def _units(values: Any) -> list[float | None]:
    return [_unit(value) for value in values] if isinstance(values, list) else []


def _unit(value: Any) -> float | None:
    found = number(value)
    return None if found is None else min(max(found, 0.0), 1.0)
