"""Operations whose windows or samples lie on a grid: convolutions, poolings, unfoldings, resizes."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from partial_equiv.audit.conditions import Line, overhang, phase, same_pixels, span
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
    size_of,
)
from partial_equiv.audit.ops import Call, Layouts, per_dimension, rule

UNFOLDS = ("kernel_size", "dilation", "padding", "stride")


@rule("convolution", "_convolution")
def convolution(call: Call) -> Layouts:
    """Slide filters over the image; channels must hold no pixels, for the weights would tell them apart."""
    args, layout = call.args, call.followed()
    weight = call.layout("weight")
    if weight is not None and weight.axes():
        return call.lose(weight.dims, "the filters themselves extend over the image")
    if mixed(call, layout.dims[2:]):
        return lost_layout(call.out.shape)
    reason = "its channels hold pixels, and its weights tell them apart (space to depth)"
    call.trace.blame("conv", layout.dims[1:2], reason)
    dims: list[Dim] = [layout.dims[0], plain(call.out.shape[1])]
    deeds = {}
    for n, dim in enumerate(layout.dims[2:]):
        kernel, size, extra = args["weight"].shape[2 + n], call.out.shape[2 + n], _nth(args["output_padding"], n)
        stride, padding, dilation = (_nth(args[key], n) for key in ("stride", "padding", "dilation"))
        window, axis = span(kernel, dilation), image_axis(dim)
        if axis is None:
            dims.append(beside(dim, size, padding))
            continue
        deeds[axis] = f"kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}, {extra}"
        if args["transposed"]:
            dims.append((spread(call, dim, window, stride, padding, size, extra),))
        else:
            dims.append((slide(call, dim, "conv", window, stride, padding, size, zeros=True),))
    call.trace.happen(deeds, layout.axes())
    return made_of(call, dims)


def _nth(value: int | Sequence[int], n: int) -> int:
    """Return the n-th of numbers given one for each dimension, or one for all."""
    return value if isinstance(value, int) else value[min(n, len(value) - 1)]


@rule("max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool2d", "avg_pool3d", "avg_pool1d", "max_pool1d")
def pool(call: Call) -> Layouts:
    """Take the largest or the mean of each window; the indices of the largest are not followed."""
    args, layout = call.args, call.followed()
    count = 3 if "3d" in call.name else 1 if "1d" in call.name else 2
    kernels = per_dimension(args["kernel_size"], count)
    strides = per_dimension(args.get("stride") or kernels, count)
    paddings = per_dimension(args.get("padding") or 0, count)
    dilations = per_dimension(args.get("dilation") or 1, count)
    counted = bool(args.get("count_include_pad")) and args.get("divisor_override") is None
    kind = "max_pool" if "max" in call.name else "avg_pool"
    outputs = call.outputs()[0].shape
    dims = list(layout.dims)
    if mixed(call, dims[-count:]):
        return [lost_layout(out.shape) for out in call.outputs()]
    deeds = {}
    for n, d in enumerate(range(len(dims) - count, len(dims))):
        axis = image_axis(dims[d])
        if axis is None:
            dims[d] = beside(dims[d], outputs[d], paddings[n])
            continue
        kernel, stride, padding, dilation = kernels[n], strides[n], paddings[n], dilations[n]
        deeds[axis] = f"kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}"
        same = same_pixels(size_of(dims[d]), kernel, stride, padding, outputs[d], dilation, counted=counted)
        dims[d] = (slide(call, dims[d], kind, span(kernel, dilation), stride, padding, outputs[d], mirrored=same),)
    call.trace.happen(deeds, layout.axes())
    return made_of(call, dims)


def mixed(call: Call, dims: Sequence[Dim]) -> bool:
    """Return whether windows slide over a dimension that holds an image axis and something else, and write it down."""
    found = [dim for dim in dims if axes(dim) and image_axis(dim) is None]
    call.trace.blame("mixed", found, "slides over a dimension in which an image axis is mixed with something else")
    return bool(found)


def beside(dim: Dim, size: int, padding: int = 0) -> Dim:
    """Return a dimension that is no image axis after windows have slid over it."""
    return (Atom(size, REPEATED),) if is_repeated(dim) and padding == 0 else plain(size)


def made_of(call: Call, dims: Sequence[Dim]) -> Layouts:
    """Return dimensions as the layout of a result; a second result says where the largest values lay."""
    return [Layout(tuple(dims)), *(lost_layout(out.shape, "positions") for out in call.outputs()[1:])]


def slide(
    call: Call,
    dim: Dim,
    kind: str,
    window: int,
    stride: int,
    padding: int,
    outputs: int,
    *,
    zeros: bool = False,
    mirrored: bool = False,
) -> Atom:
    """Return one image axis after windows have slid over it, and write down whether their grid is centred.

    A padding before this layer that is not symmetric is made up for if all of it together is centred.

    Args:
        call: The operation.
        dim: The dimension.
        kind: Of the row.
        window: k'.
        stride: s.
        padding: p.
        outputs: o.
        zeros: Whether the layer's own padding counts as zeros.
        mirrored: Whether the windows hold mirror images of each other's pixels, be they centred or not.
    """
    if len(dim) > 1:
        dim = call.trace.settle(dim)
    atom = only_atom(dim)
    inside = padding == 0 and (outputs - 1) * stride + window <= atom.size  # ceil_mode hangs windows over the border
    continued = inside or (zeros and atom.zero)
    excess = overhang(atom.size, window, stride, padding, outputs, atom.lean)
    if atom.lean and (excess % stride or not continued):
        atom = call.trace.settle((atom,))[0]
        excess = overhang(atom.size, window, stride, padding, outputs)
    line = _slid(atom.line, stride, window - 1 - 2 * padding - atom.lean)
    call.trace.learn_line(atom.axis, line)
    after = Atom(outputs, atom.axis, atom.jump * stride, line)
    facts = {"i": atom.size, "k": window, "s": stride, "p": (padding, padding), "o": outputs}
    if atom.lean and excess:
        reason = "centred by itself, hands on that its input is not"
        call.trace.add(kind, atom.axis, **facts, r=0, shift=0.0, reason=reason)
        return replace(after, lean=excess // stride, causes=atom.causes)
    r = 0 if mirrored and not atom.lean else phase(excess, stride)
    reason = _reason(excess, stride, r, atom.lean)
    call.trace.add(kind, atom.axis, **facts, r=r, shift=float(r * atom.jump), exact=r == 0, reason=reason)
    return after


def _reason(excess: int, stride: int, r: int, lean: int) -> str:
    if excess and not r:
        return "off centre, but over the border: the windows hold the same pixels on both sides"
    if excess and not excess % stride:
        return f"off centre by {r} px"
    if lean:
        return f"(i {'+' if lean > 0 else '-'} {abs(lean)} + 2p - k') mod s = 0, which makes up for the padding before"
    return f"(i + 2p - k') mod s = {r}"


def _slid(line: Line | None, stride: int, shrinkage: int) -> Line | None:
    return None if line is None else (line[0] / stride, (line[1] - shrinkage) / stride)


def spread(call: Call, dim: Dim, window: int, stride: int, padding: int, outputs: int, extra: int) -> Atom:
    """Return one image axis after a transposed convolution: an output padding is added on one side alone."""
    atom = only_atom(call.trace.settle(dim))
    reason = "transposed, no output padding" if extra == 0 else f"output_padding={extra} is added on one side alone"
    r = Fraction(extra, stride)
    facts = {"i": atom.size, "k": window, "s": stride, "p": (padding, padding), "o": outputs, "r": float(r)}
    call.trace.add("conv_transpose", atom.axis, **facts, shift=float(r * atom.jump), exact=extra == 0, reason=reason)
    line = None
    if atom.line is not None:
        line = (atom.line[0] * stride, atom.line[1] * stride + window - 1 - 2 * padding + extra)
    call.trace.learn_line(atom.axis, line)
    return Atom(outputs, atom.axis, atom.jump / stride, line)


@rule("im2col")
def im2col(call: Call) -> Layouts:
    """Lay the taps of each window out as channels: [B, C taps, windows]; both are read backwards with the image."""
    layout, args = call.followed(), call.args
    taps: list[Atom] = []
    windows: list[Atom] = []
    for n, dim in enumerate(layout.dims[-2:]):
        kernel, dilation, padding, stride = (_nth(args[key], n) for key in UNFOLDS)
        if image_axis(dim) is None:
            return call.lose(layout.dims, "unfolds what is not an image")
        count = (size_of(dim) + 2 * padding - span(kernel, dilation)) // stride + 1
        atom = only_atom(dim)
        windows.append(slide(call, dim, "unfold", span(kernel, dilation), stride, padding, count, zeros=True))
        taps.append(Atom(kernel, atom.axis, atom.jump * dilation))
        call.trace.happen({atom.axis: f"kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}"})
    return Layout((*layout.dims[:-3], (*layout.dims[-3], *taps), tuple(windows)))


@rule("col2im")
def col2im(call: Call) -> Layouts:
    """Add windows up into an image, the reverse of im2col."""
    layout, args = call.followed(), call.args
    windows = [atom for atom in layout.dims[-1] if atom.axis]
    taps = [atom for atom in layout.dims[-2] if atom.axis][-2:]
    if [a.axis for a in windows] != [a.axis for a in taps] or len(windows) != 2 or not layout.axes():
        return call.lose(layout.dims, "folds windows that did not come from an image in this order")
    made: list[Dim] = []
    for n, atom in enumerate(windows):
        kernel, dilation, padding, stride = (_nth(args[key], n) for key in UNFOLDS)
        size, window = call.out.shape[-2 + n], span(kernel, dilation)
        atom = call.trace.settle((atom,))[0]
        excess = overhang(size, window, stride, padding, atom.size)
        facts = {"i": atom.size, "k": window, "s": stride, "p": (padding, padding), "o": size}
        reason = f"windows end {excess} px before the border" if excess else "centred"
        call.trace.add("fold", atom.axis, **facts, exact=excess == 0, reason=reason)
        call.trace.learn_line(atom.axis, None)
        call.trace.happen({atom.axis: f"kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}"})
        made.append((Atom(size, atom.axis, atom.jump / stride),))
    channels = plain(call.out.shape[-3])
    return Layout((*layout.dims[:-2], channels, *made))


@rule("unfold")
def unfold(call: Call) -> Layouts:
    """Cut one dimension into windows, whose taps become a new last dimension."""
    layout, args = call.followed(), call.args
    d = args["dimension"] % len(layout.dims)
    dim, size, step, count = layout.dims[d], args["size"], args["step"], call.out.shape[d]
    axis = image_axis(dim)
    if mixed(call, [dim]):
        return lost_layout(call.out.shape)
    if axis is None:
        made, taps = beside(dim, count), plain(size)
    else:
        made = (slide(call, dim, "unfold", size, step, 0, count),)
        taps = (Atom(size, axis, only_atom(dim).jump),)
        call.trace.happen({axis: f"windows of {size} every {step}"})
    return Layout((*layout.dims[:d], made, *layout.dims[d + 1 :], taps))
