"""The register of operations: what each does to the dimensions of its tensors, and what it breaks.

A rule is asked only where a tensor that extends over the image's axes takes part. What has no rule is written down as
unknown.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from partial_equiv.audit.dims import AXES, Dim, Layout, lost_layout, plain_layout
from partial_equiv.audit.trace import Trace

Layouts = Layout | None | Sequence[Layout | None]


@dataclass
class Call:
    """One operation that has run.

    Args:
        trace: What the pass knows.
        name: Name in torch.ops.aten, without the underscore of variants that work in place.
        args: Arguments by their names in the schema.
        out: The result.
    """

    trace: Trace
    name: str
    args: dict[str, Any]
    out: Any

    @property
    def source(self) -> Any:
        """The first argument, which schemas call "self" or "input"."""
        return next(iter(self.args.values()))

    def layout(self, key: str | None = None) -> Layout | None:
        """Return the layout of an argument, by default the first one; None for a constant."""
        value = self.source if key is None else self.args.get(key)
        return self.trace.layouts.get(value) if isinstance(value, Tensor) else None

    def followed(self) -> Layout:
        """Return the layout of the first argument; a constant counts as a tensor that does not turn with the image."""
        return self.layout() or plain_layout(self.source.shape)

    def tensors(self) -> list[Tensor]:
        """Return all tensors among the arguments."""
        return [leaf for leaf in tree_leaves(self.args) if isinstance(leaf, Tensor)]

    def outputs(self) -> list[Tensor]:
        """Return all tensors of the result."""
        return [leaf for leaf in tree_leaves(self.out) if isinstance(leaf, Tensor)]

    def lose(self, dims: Collection[Dim], reason: str) -> Layouts:
        """Write down that the operation is not understood, and follow its result no further."""
        self.trace.doubt(dims, reason)
        return [lost_layout(out.shape) for out in self.outputs()]


SPREADS = ("expand", "repeat", "upsample")
"""Beginnings of operations that repeat one value, which makes a tensor the same everywhere along an axis."""

KEEPS_ZEROS = ("constant_pad_nd", "view", "_unsafe_view", "permute", "transpose", "squeeze", "unsqueeze", "flip",
               "clone", "contiguous", "detach", "alias", "_to_copy")  # fmt: skip
"""Operations after which a border of zeros is still one, which the zeros of a later layer continue."""

RULES: dict[str, Callable[[Call], Layouts]] = {}


def rule(*names: str) -> Callable[[Callable[[Call], Layouts]], Callable[[Call], Layouts]]:
    """Enter a function as the rule of the operations `names`."""

    def enter(function: Callable[[Call], Layouts]) -> Callable[[Call], Layouts]:
        RULES.update(dict.fromkeys(names, function))
        return function

    return enter


def follow(call: Call, pointwise: bool) -> Sequence[Layout | None]:
    """Return the layout of each output tensor of a call, by the rule of its operation.

    Args:
        call: The operation.
        pointwise: Whether torch says of it that it works element by element.
    """
    outputs = call.outputs()
    layouts = [found for t in call.tensors() if (found := call.trace.layouts.get(t)) is not None]
    if any(layout.lost == "positions" for layout in layouts):
        for axis in AXES:
            call.trace.add("unknown", axis, exact=None, reason=f"{call.name} works with the positions of pixels")
    if any(layout.lost for layout in layouts):
        return [lost_layout(out.shape) for out in outputs]
    if all(layout.plain for layout in layouts) and not call.name.strip("_").startswith(SPREADS):
        return [plain_layout(out.shape) for out in outputs]
    known = RULES.get(call.name) or (RULES["pointwise"] if pointwise else _unknown)
    found = known(call)
    made = [found] * len(outputs) if found is None or isinstance(found, Layout) else found
    return made if call.name in KEEPS_ZEROS else [layout and layout.computed() for layout in made]


def _unknown(call: Call) -> Layouts:
    layouts = [found for t in call.tensors() if (found := call.trace.layouts.get(t)) is not None]
    call.trace.doubt([dim for layout in layouts for dim in layout.dims], f"unknown operation {call.name}")
    if not any(layout.axes() for layout in layouts):
        return [plain_layout(out.shape) for out in call.outputs()]
    same = {layout.shape: Layout(layout.dims) for layout in reversed(layouts)}
    return [same.get(tuple(out.shape), lost_layout(out.shape)) for out in call.outputs()]


def per_dimension(value: int | Sequence[int], count: int) -> list[int]:
    """Return one number for each of `count` dimensions, from one for all or one for each."""
    numbers = [value] if isinstance(value, int) else list(value)
    return numbers * count if len(numbers) == 1 else numbers


def dimensions(value: int | Sequence[int] | None, count: int) -> list[int]:
    """Return the dimensions that a reduction names, counted from the front; none named means all."""
    if value is None or (not isinstance(value, int) and len(value) == 0):
        return list(range(count))
    return [d % count for d in per_dimension(value, 1)]
