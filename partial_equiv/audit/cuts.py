"""Operations that take pixels away, add some, join or move them: slices, paddings, concatenations, rolls."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from partial_equiv.audit.conditions import overhang, phase
from partial_equiv.audit.dims import (
    REPEATED,
    Atom,
    Dim,
    Layout,
    axes,
    image_axis,
    is_repeated,
    lost_layout,
    only_atom,
    plain,
    plain_layout,
    size_of,
)
from partial_equiv.audit.ops import Call, Layouts, dimensions, rule
from partial_equiv.audit.pointwise import broadcast


@rule("slice")
def slice_(call: Call) -> Layouts:
    """Take every step-th index from start on."""
    layout, args = call.followed(), call.args
    d = args["dim"] % len(layout.dims)
    start, _, step = slice(args["start"], args["end"], args["step"]).indices(size_of(layout.dims[d]))
    return cut(call, layout, d, start, step, call.out.shape[d])


@rule("select")
def select(call: Call) -> Layouts:
    """Take one index and drop the dimension."""
    layout, args = call.followed(), call.args
    d = args["dim"] % len(layout.dims)
    found = cut(call, layout, d, args["index"] % size_of(layout.dims[d]), 1, 1)
    dims = list(found.dims)
    call.trace.settle(dims.pop(d))
    return lost_layout(call.out.shape) if found.lost else Layout(tuple(dims), found.half)


@rule("split", "unsafe_split", "split_with_sizes", "unsafe_split_with_sizes", "chunk", "unsafe_chunk")
def split(call: Call) -> Layouts:
    """Cut a dimension into pieces."""
    layout = call.followed()
    d = call.args["dim"] % len(layout.dims)
    sizes = [out.shape[d] for out in call.outputs()]
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    return [cut(call, layout, d, start, 1, size) for start, size in zip(starts, sizes, strict=True)]


@rule("unbind")
def unbind(call: Call) -> Layouts:
    """Take all indices of a dimension apart."""
    layout = call.followed()
    d = call.args["dim"] % len(layout.dims)
    if axes(layout.dims[d]):
        return call.lose([layout.dims[d]], "takes the pixels of an axis apart, which is not followed")
    return [Layout(layout.dims[:d] + layout.dims[d + 1 :], layout.half)] * len(call.outputs())


def cut(call: Call, layout: Layout, d: int, start: int, step: int, count: int) -> Layout:
    """Return the layout after taking `count` indices of dimension d."""
    dim = layout.dims[d]
    if count == size_of(dim):
        return layout
    new = _cut(call, dim, start, step, count) if axes(dim) else _fewer(dim, count)
    if new is None:
        return lost_layout((*layout.shape[:d], count, *layout.shape[d + 1 :]))
    return Layout((*layout.dims[:d], new, *layout.dims[d + 1 :]), layout.half)


def _fewer(dim: Dim, count: int) -> Dim:
    if any(atom.parts for atom in dim):
        return plain(count)
    return (Atom(count, REPEATED),) if is_repeated(dim) and count > 1 else plain(count)


def _cut(call: Call, dim: Dim, start: int, step: int, count: int) -> Dim | None:
    if len(dim) == 1 and dim[0].parts:
        parts = _parts(dim[0], start, step, count)
        if parts is not None:
            return parts
    axis = image_axis(dim)
    if axis is None:
        call.trace.blame(call.name, [dim], "takes some of the pixels of the flattened image")
        return None
    if len(dim) > 1:
        dim = call.trace.settle(dim)
    return (_window(call, only_atom(dim), start, step, count),)


def _parts(joined: Atom, start: int, step: int, count: int) -> Dim | None:
    """Return what a cut takes of a concatenation, if it takes whole parts or falls into one that is no image."""
    begin, taken = 0, []
    for part in joined.parts:
        end = begin + size_of(part)
        if begin <= start and start + (count - 1) * step < end and not axes(part):
            return plain(count)
        if step == 1 and start <= begin and end <= start + count:
            taken.append(part)
        begin = end
    return _join(taken) if sum(map(size_of, taken)) == count else None


def _join(parts: Sequence[Dim]) -> Dim:
    return parts[0] if len(parts) == 1 else (Atom(sum(map(size_of, parts)), parts=tuple(parts)),)


def _window(call: Call, atom: Atom, start: int, step: int, count: int) -> Atom:
    """Return one axis after a cut: a layer of kernel 1 and stride `step` whose first window starts at `start`."""
    excess = overhang(atom.size, 1, step, -start, count, atom.lean)
    line = None if atom.line is None else (atom.line[0] / step, (atom.line[1] - 2 * start) / step)
    after = Atom(count, atom.axis, atom.jump * step, line)
    facts = {"i": atom.size, "k": 1, "s": step, "p": (-start, start + (count - 1) * step + 1 - atom.size), "o": count}
    call.trace.learn_line(atom.axis, line)
    call.trace.happen({atom.axis: f"cut {start}:{start + step * count}:{step}"})
    if excess == 0:
        call.trace.add(call.name, atom.axis, **facts, r=0, shift=0.0, reason="takes a centred part")
        return after
    r = phase(excess, step)
    facts |= {"r": r, "shift": float(r * atom.jump)}
    if excess % step:
        call.trace.settle((atom,))
        reason = f"takes every {step}. pixel from {start} on; from the other end these are others, {r} px away"
        call.trace.add(call.name, atom.axis, **facts, exact=False, reason=reason)
        return after
    cause = call.trace.add(
        call.name, atom.axis, **facts, reason=f"cuts unequal borders, off centre by {abs(excess) / 2:g} px"
    )
    return replace(after, lean=excess // step, causes=(*atom.causes, cause))


@rule("constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d",
      "replication_pad2d", "replication_pad3d", "circular_pad")  # fmt: skip
def pad(call: Call) -> Layouts:
    """Add a border; negative widths take one away."""
    layout, widths = call.followed(), list(call.args.get("pad") or call.args.get("padding") or ())
    zero = call.name == "constant_pad_nd" and call.args.get("value", 0) == 0
    dims = list(layout.dims)
    for n in range(len(widths) // 2):
        d, left, right = len(dims) - 1 - n, widths[2 * n], widths[2 * n + 1]
        if (left, right) == (0, 0):
            continue
        if image_axis(dims[d]):
            dims[d] = (_bordered(call, dims[d], left, right, zero),)
        elif axes(dims[d]):
            call.trace.blame("pad", [dims[d]], "adds a border to the flattened image")
            return lost_layout(call.out.shape)
        else:
            dims[d] = plain(call.out.shape[d])
    return Layout(tuple(dims))


def _bordered(call: Call, dim: Dim, left: int, right: int, zero: bool) -> Atom:
    if len(dim) > 1 or not (zero and dim[0].zero):  # a border of zeros continues a border of zeros, and nothing else
        dim = call.trace.settle(dim)
    atom = only_atom(dim)
    size, lean = atom.size + left + right, atom.lean + left - right
    line = None if atom.line is None else (atom.line[0], atom.line[1] + left + right)
    facts = {"i": atom.size, "p": (left, right), "o": size}
    call.trace.happen({atom.axis: f"border {left}, {right}"})
    call.trace.learn_line(atom.axis, line)
    after = Atom(size, atom.axis, atom.jump, line)
    if left == right and not atom.lean:
        call.trace.add("pad", atom.axis, **facts, r=0, shift=0.0, reason="equal borders")
        return after
    r = left - right
    facts |= {"r": r, "shift": float(r * atom.jump)}
    cause = call.trace.add("pad", atom.axis, **facts, reason=f"pads {left} before and {right} behind")
    if lean == 0:
        return after
    beyond = zero and left >= 0 and right >= 0
    return replace(after, lean=lean, zero=beyond, causes=(*atom.causes, cause))


@rule("cat", "concat")
def cat(call: Call) -> Layouts:
    """Join tensors along a dimension; all others must agree."""
    tensors = [t for t in call.args["tensors"] if t.numel() or t.ndim > 1]
    count = len(call.out.shape)
    d = call.args["dim"] % count
    layouts = [call.trace.layouts.get(t) for t in tensors]
    others = _without(call, tensors, layouts, d)
    along = [plain(t.shape[d]) if lay is None else lay.dims[d] for t, lay in zip(tensors, layouts, strict=True)]
    along = [call.trace.settle(dim) for dim, t in zip(along, tensors, strict=True) if t.shape[d]]
    if not any(axes(dim) or is_repeated(dim) for dim in along):
        joined = plain(call.out.shape[d])
    else:
        joined = _join(along)
        alone = [dim for dim in along if image_axis(dim) and axes(dim)]
        if alone and len(along) > 1:
            call.trace.doubt(alone, "concatenates along the image's axis, which may or may not be mirror symmetric")
    return Layout((*others[:d], joined, *others[d:]))


@rule("stack")
def stack(call: Call) -> Layouts:
    """Join tensors along a new dimension."""
    tensors = call.args["tensors"]
    d = call.args["dim"] % len(call.out.shape)
    layouts = [call.trace.layouts.get(t) for t in tensors]
    dims = broadcast(call, list(zip(tensors, layouts, strict=True)), tensors[0].shape)
    return Layout((*dims[:d], plain(len(tensors)), *dims[d:]))


def _without(call: Call, tensors: list[Tensor], layouts: Sequence[Layout | None], d: int) -> tuple[Dim, ...]:
    """Return the common dimensions of tensors, dimension d left out: put first, where nobody looks."""
    order = [None if lay is None else Layout((lay.dims[d], *lay.dims[:d], *lay.dims[d + 1 :])) for lay in layouts]
    known = [value if (value := call.trace.value(t)) is not None else t for t in tensors]
    shape = call.out.shape[:d] + call.out.shape[d + 1 :]
    return broadcast(call, list(zip([t.movedim(d, 0) for t in known], order, strict=True)), shape)


@rule("roll")
def roll(call: Call) -> Layouts:
    """Move pixels around the torus: a shift one way becomes a shift the other way when the axis is read backwards."""
    layout = call.followed()
    shifts = call.args["shifts"]
    turned = call.args.get("dims") or ()
    if not turned:
        return call.lose(layout.dims, "a roll of the flattened tensor is not followed")
    dims = list(layout.dims)
    for d, shift in zip(dimensions(turned, len(dims)), [shifts] if isinstance(shifts, int) else shifts, strict=True):
        if not axes(dims[d]):
            continue
        dims[d] = call.trace.settle(dims[d])
        axis, size = image_axis(dims[d]), size_of(dims[d])
        if axis is None:
            call.trace.blame("roll", [dims[d]], "rolls the flattened image")
            continue
        r = 2 * shift % size
        facts = {"i": size, "o": size, "r": r, "shift": float(r * only_atom(dims[d]).jump), "exact": r == 0}
        call.trace.happen({axis: f"rolled by {shift}"})
        reason = (
            f"rolls by {shift} px (shifted windows); read backwards this is a roll by {-shift}"
            if r
            else "a roll that is its own mirror image"
        )
        call.trace.add("roll", axis, **facts, reason=reason)
    return Layout(tuple(dims))


@rule("index", "index_select")
def index(call: Call) -> Layouts:
    """Pick by a table of indices, whose values a pass without data does not know."""
    layout = call.followed()
    given = call.args.get("indices")
    if given is None:
        given = [None] * (call.args["dim"] % len(layout.dims)) + [call.args["index"]]
    at = [d for d, tensor in enumerate(given) if tensor is not None]
    if any(call.trace.layouts.get(given[d]) is not None for d in at):
        return call.lose(layout.dims, "picks by indices that depend on the image")
    if any(axes(layout.dims[d]) for d in at):
        return call.lose([layout.dims[d] for d in at], "picks pixels by a table of indices")
    picked = len(call.out.shape) - (len(layout.dims) - len(at))
    first = at[0] if at == list(range(at[0], at[-1] + 1)) else 0
    rest = [dim for d, dim in enumerate(layout.dims) if d not in at]
    new = plain_layout(call.out.shape[first : first + picked]).dims
    return Layout((*rest[:first], *new, *rest[first:]))


@rule("embedding")
def embedding(call: Call) -> Layouts:
    """Look each index up in a table: pixel by pixel."""
    looked_up = call.layout("indices")
    if looked_up is None or call.layout("weight") is not None:
        return call.lose((call.layout("weight") or looked_up or plain_layout(())).dims, "looks pixels up in pixels")
    return Layout((*looked_up.dims, *plain_layout(call.out.shape[-1:]).dims))
