"""The memory of one pass through a network: layouts of tensors, rows about layers, events for quarter turns."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from partial_equiv.audit.conditions import Line
from partial_equiv.audit.dims import AXES, Dim, Layout, axes
from partial_equiv.audit.rows import Row

SPOKEN = {
    "max_pool2d_with_indices": "max_pool2d",
    "max_pool3d_with_indices": "max_pool3d",
    "constant_pad_nd": "pad",
    "addmm": "linear",
    "mm": "linear",
    "convolution": "conv",
    "_convolution": "conv",
    "_adaptive_avg_pool2d": "adaptive_avg_pool2d",
}


class BrokenError(BaseException):
    """Stops a pass at the first layer that is not exact; not an `Exception`, so that no network can swallow it."""


@dataclass(frozen=True)
class Event:
    """What was done along an axis; a network fits quarter turns iff both axes have the same history."""

    step: int
    name: str
    deed: str


class Trace:
    """Everything that one pass found out.

    Args:
        impatient: Axes at whose first inexact row the pass may stop.
        values: Of constants that lie beside the image and show their shape alone.
    """

    def __init__(self, impatient: Iterable[str] = (), values: Any = None) -> None:
        self.impatient = frozenset(impatient)
        self.layouts: Any = WeakTensorKeyDictionary()
        self.values: Any = WeakTensorKeyDictionary() if values is None else values
        self.parents: Any = WeakTensorKeyDictionary()
        self.path: list[tuple[str, bool]] = []
        self.step = 0
        self.operation = ""
        self.drafts: list[tuple[int, Row]] = []
        self.history: dict[str, list[Event]] = {axis: [] for axis in AXES}
        self.lines: dict[str, list[tuple[str, Line | None]]] = {axis: [] for axis in AXES}
        self._named: Counter[str] = Counter()
        self._name = (-1, "")

    def name(self) -> str:
        """Return the name of the operation at hand: the module's path, with the operation where it holds others."""
        if self._name[0] != self.step:
            path, leaf = self.path[-1] if self.path else ("", False)
            name = path
            if not (leaf and path):
                spoken = SPOKEN.get(self.operation, self.operation.strip("_"))
                name = f"{path}:{spoken}" if path else spoken
                self._named[name] += 1
                if self._named[name] > 1:
                    name = f"{name}#{self._named[name]}"
            self._name = (self.step, name)
        return self._name[1]

    def value(self, tensor: Tensor) -> Tensor | None:
        """Return a constant with its values; None for what depends on the image, or has no values."""
        if self.layouts.get(tensor) is not None:
            return None
        found: Tensor | None = self.values.get(tensor) if tensor.is_meta else tensor
        return found

    def add(self, kind: str, axis: str, **facts: Any) -> int:
        """Write a row about the operation at hand, once; return its number."""
        draft = (self.step, Row(self.name(), kind, axis, **facts))
        if draft in self.drafts[-2:]:
            return self.drafts.index(draft)
        self.drafts.append(draft)
        self._stop(draft[1])
        return len(self.drafts) - 1

    def _stop(self, row: Row) -> None:
        if row.exact is not True and row.axis in self.impatient:
            raise BrokenError

    def blame(self, kind: str, dims: Collection[Dim], reason: str) -> None:
        """Write an inexact row for each image axis in `dims`: no image size mends what the operation does."""
        for axis in AXES:
            touched = [atom for dim in dims for atom in dim if axis in atom.axes()]
            if touched:
                size = touched[0].size
                self.add(kind, axis, i=size, exact=False, reason=reason, always=True)

    def doubt(self, dims: Collection[Dim], reason: str) -> None:
        """Write a row that says "not known" for each image axis in `dims`."""
        for axis in AXES:
            if any(axis in axes(dim) for dim in dims):
                self.add("unknown", axis, exact=None, reason=reason)

    def settle(self, dim: Dim) -> Dim:
        """Hold whoever shifted a tensor against its mirror image responsible: nothing after it mended that."""
        for cause in {cause for atom in dim for cause in atom.causes}:
            step, row = self.drafts[cause]
            if row.exact:
                row = replace(row, exact=False, reason=f"{row.reason}, and no later layer makes up for it")
                self.drafts[cause] = (step, row)
                self._stop(row)
        return tuple(atom.upright() for atom in dim)

    def settle_all(self, layout: Layout) -> Layout:
        """Settle every dimension of a layout."""
        return Layout(tuple(map(self.settle, layout.dims)), layout.half)

    def happen(self, deeds: dict[str, str], present: Iterable[str] = ()) -> None:
        """Note what was done along each axis; axes that are `present` and untouched note that they were kept."""
        for axis in AXES:
            if axis in deeds:
                self.history[axis].append(Event(self.step, self.name(), deeds[axis]))
            elif axis in present:
                self.history[axis].append(Event(self.step, self.name(), f"{self.operation} beside it"))

    def learn_line(self, axis: str, line: Line | None) -> None:
        """Note how the size that the operation at hand makes follows from the image's; None if that is not known."""
        self.lines[axis].append((self.name(), line))

    def forget(self) -> None:
        """Let go of the tensors of the pass."""
        self.layouts.clear()
        self.parents.clear()
