"""What a write into one tensor does to the tensors that share its memory."""

from torch import Tensor

from partial_equiv.audit.dims import Dim, Layout, axes, lost_layout, plain, size_of
from partial_equiv.audit.ops import Call

PARTS = ("slice", "split", "unsafe_split", "split_with_sizes")
SINGLES = ("select", "unbind")


def written(call: Call, tensor: Tensor, layout: Layout | None) -> None:
    """Follow the result of an operation in place; a tensor that it is a view of holds it too.

    Args:
        call: The operation.
        tensor: What it wrote into.
        layout: What it holds now.
    """
    trace = call.trace
    if layout is None:
        return
    trace.layouts[tensor] = layout
    view = trace.parents.get(tensor)
    if view is None:
        return
    base = view.source
    held = trace.layouts.get(base)
    if held is None:
        held = _around(call, view, layout)
    elif _is_part(view, held):
        call.trace.doubt([held.dims[_dimension(view, held)]], "writes into some of the pixels of an axis")
    written(call, base, held)


def _dimension(view: Call, base: Layout) -> int:
    d: int = view.args["dim"] % len(base.dims)
    return d


def _is_part(view: Call, base: Layout) -> bool:
    """Return whether a view holds some of the pixels of an image axis and not all."""
    if view.name not in PARTS + SINGLES:
        return False
    dim = base.dims[_dimension(view, base)]
    whole = view.name in PARTS and all(out.shape == view.source.shape for out in view.outputs())
    return bool(axes(dim)) and not whole


def _around(call: Call, view: Call, layout: Layout) -> Layout:
    """Return the layout of a constant into part of which something of the image was written."""
    shape = tuple(view.source.shape)
    if view.name in PARTS + SINGLES:
        d = view.args["dim"] % len(shape)
        part: Dim = layout.dims[d] if view.name in PARTS else ()
        if not axes(part) or size_of(part) == shape[d]:
            rest = layout.dims[d + 1 :] if view.name in PARTS else layout.dims[d:]
            return Layout((*layout.dims[:d], part if axes(part) else plain(shape[d]), *rest))
    elif shape == layout.shape and view.name in ("alias", "detach", "view"):
        return layout
    call.trace.doubt(layout.dims, "writes pixels into part of another tensor, which is not followed")
    return lost_layout(shape)
