"""Operations that name the same pixels anew: views, permutations, repetitions, reversals."""

from collections.abc import Callable

from partial_equiv.audit.dims import AXES, REPEATED, Atom, Dim, Layout, image_axis, only_atom, plain, regroup, size_of
from partial_equiv.audit.ops import Call, Layouts, dimensions, rule


@rule("alias", "clone", "contiguous", "detach", "lift_fresh", "_to_copy", "view_as", "native_channel_shuffle")
def keep(call: Call) -> Layouts:
    """The same tensor again."""
    return call.followed()


@rule("view", "_unsafe_view", "_reshape_alias", "reshape")
def view(call: Call) -> Layouts:
    """Cut the same atoms at other places."""
    return reshape(call, call.followed(), tuple(call.out.shape))


def reshape(call: Call, layout: Layout, shape: tuple[int, ...]) -> Layouts:
    """Return the layout in new dimensions; splitting an axis is noted, for quarter turns must find both split alike."""
    found = regroup(layout.dims, shape)
    if found is None:
        return call.lose(layout.dims, f"a view from {list(layout.shape)} to {list(shape)} cuts across the image's axes")
    leaning = [atom for atom in layout.atoms() if atom.lean]
    if any((atom,) not in found.dims for atom in leaning):
        return reshape(call, call.trace.settle_all(layout), shape)
    for atom, outer, inner in found.splits:
        call.trace.happen({atom.axis: f"split into {outer} x {inner}"})
    return Layout(found.dims, layout.half)


@rule("as_strided")
def as_strided(call: Call) -> Layouts:
    """Followed only where nothing moves."""
    layout = call.followed()
    return layout if layout.shape == tuple(call.out.shape) else call.lose(layout.dims, "as_strided is not followed")


@rule("permute")
def permute(call: Call) -> Layouts:
    """Reorder dimensions."""
    layout = call.followed()
    return _ordered(layout, dimensions(call.args["dims"], len(layout.dims)))


@rule("transpose", "t")
def transpose(call: Call) -> Layouts:
    """Exchange two dimensions."""
    layout = call.followed()
    count = len(layout.dims)
    order = list(range(count))
    if count > 1:
        first, second = call.args.get("dim0", 0) % count, call.args.get("dim1", 1) % count
        order[first], order[second] = second, first
    return _ordered(layout, order)


def _ordered(layout: Layout, order: list[int]) -> Layout:
    return Layout(tuple(layout.dims[d] for d in order), layout.half)


@rule("squeeze")
def squeeze(call: Call) -> Layouts:
    """Drop dimensions of one index."""
    layout = call.followed()
    named = dimensions(call.args.get("dim"), len(layout.dims))
    return Layout(tuple(d for n, d in enumerate(layout.dims) if n not in named or size_of(d) > 1), layout.half)


@rule("unsqueeze")
def unsqueeze(call: Call) -> Layouts:
    """Insert a dimension of one index."""
    layout = call.followed()
    at = call.args["dim"] % (len(layout.dims) + 1)
    return Layout((*layout.dims[:at], (), *layout.dims[at:]), layout.half)


@rule("expand")
def expand(call: Call) -> Layouts:
    """Repeat what has one index."""
    layout, shape = call.followed(), call.out.shape
    dims = ((),) * (len(shape) - len(layout.dims)) + layout.dims
    return Layout(tuple(d if size_of(d) == n else (Atom(n, REPEATED),) for d, n in zip(dims, shape, strict=True)))


@rule("repeat")
def repeat(call: Call) -> Layouts:
    """Lay copies side by side: they are read backwards as a whole."""
    layout, repeats = call.trace.settle_all(call.followed()), call.args["repeats"]
    dims = ((),) * (len(repeats) - len(layout.dims)) + layout.dims
    return Layout(tuple(_copies(dim, times) for dim, times in zip(dims, repeats, strict=True)))


def _copies(dim: Dim, times: int) -> Dim:
    if times == 1:
        return dim
    is_image = any(atom.axis in AXES or atom.parts for atom in dim)
    return (Atom(times, REPEATED), *dim) if is_image or not dim else plain(times * size_of(dim))


@rule("flip")
def flip(call: Call) -> Layouts:
    """Read dimensions backwards, which commutes with reading the image backwards."""
    layout = call.followed()
    turned = dimensions(call.args["dims"], len(layout.dims))
    for d in turned:
        call.trace.happen({atom.axis: "flipped" for atom in layout.dims[d] if atom.axes()})
    return Layout(tuple(_flipped(dim) if d in turned else dim for d, dim in enumerate(layout.dims)))


def _flipped(dim: Dim) -> Dim:
    return tuple(Atom(a.size, a.axis, a.jump, a.line, -a.lean, a.zero, a.causes, a.parts[::-1]) for a in dim)


@rule("rot90")
def rot90(call: Call) -> Layouts:
    """Turn two dimensions: reversals and, for odd turns, an exchange."""
    layout = call.followed()
    times = call.args["k"] % 4
    first, second = dimensions(call.args["dims"], len(layout.dims))
    dims = list(layout.dims)
    backwards = {0: (), 1: (second,), 2: (first, second), 3: (first,)}[times]
    for d in backwards:
        dims[d] = _flipped(dims[d])
    if times % 2:
        dims[first], dims[second] = dims[second], dims[first]
    touched = {
        atom.axis: f"turned by {min(times, 4 - times)}" for d in (first, second) for atom in dims[d] if atom.axes()
    }
    call.trace.happen(touched)
    return Layout(tuple(dims))


@rule("channel_shuffle")
def channel_shuffle(call: Call) -> Layouts:
    """Permute channels."""
    layout = call.followed()
    if layout.axes() & Layout(layout.dims[1:2]).axes():
        return call.lose(layout.dims[1:2], "a shuffle of channels that hold pixels is not followed")
    return layout


@rule("pixel_shuffle")
def pixel_shuffle(call: Call) -> Layouts:
    """Lay channels out as pixels: their order within a block does not turn with the image."""
    layout, factor = call.trace.settle_all(call.followed()), call.args["upscale_factor"]
    call.trace.blame(
        "pixel_shuffle", layout.dims[-2:], "channels become pixels in an order that stays when the image turns"
    )
    return _scaled(call, layout, lambda atom: Atom(atom.size * factor, atom.axis, atom.jump / factor))


@rule("pixel_unshuffle")
def pixel_unshuffle(call: Call) -> Layouts:
    """Lay pixels out as channels: their order does not turn with the image."""
    layout, factor = call.trace.settle_all(call.followed()), call.args["downscale_factor"]
    call.trace.blame(
        "space_to_depth", layout.dims[-2:], "pixels become channels whose order stays when the image turns"
    )
    return _scaled(call, layout, lambda atom: Atom(atom.size // factor, atom.axis, atom.jump * factor))


def _scaled(call: Call, layout: Layout, change: Callable[[Atom], Atom]) -> Layout:
    shape = call.out.shape
    plane = zip(layout.dims[-2:], shape[-2:], strict=True)
    changed = [(change(only_atom(dim)),) if image_axis(dim) else plain(size) for dim, size in plane]
    return Layout((*layout.dims[:-3], plain(shape[-3]), *changed))
