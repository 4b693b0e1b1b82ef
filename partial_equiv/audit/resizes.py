"""Operations that bring a map to a given size: adaptive poolings and interpolations."""

from fractions import Fraction
from typing import Any

from partial_equiv.audit.conditions import Line, resize_offset
from partial_equiv.audit.dims import REPEATED, Atom, Dim, image_axis, is_repeated, lost_layout, only_atom, size_of
from partial_equiv.audit.ops import Call, Layouts, per_dimension, rule
from partial_equiv.audit.windows import beside, made_of, mixed

RESIZES = {
    "upsample_nearest1d": "nearest",
    "upsample_nearest2d": "nearest",
    "upsample_nearest3d": "nearest",
    "_upsample_nearest_exact1d": "nearest_exact",
    "_upsample_nearest_exact2d": "nearest_exact",
    "_upsample_nearest_exact3d": "nearest_exact",
    "upsample_linear1d": "linear",
    "upsample_bilinear2d": "linear",
    "upsample_trilinear3d": "linear",
    "upsample_bicubic2d": "cubic",
    "_upsample_bilinear2d_aa": "linear_aa",
    "_upsample_bicubic2d_aa": "cubic_aa",
}


@rule("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
      "adaptive_max_pool2d", "adaptive_max_pool3d", "adaptive_max_pool1d")  # fmt: skip
def adaptive_pool(call: Call) -> Layouts:
    """Pool to a given size: window j begins at floor(j i / o) and ends at ceil((j + 1) i / o), mirror images always."""
    layout = call.followed()
    count = len(per_dimension(call.args["output_size"], 1))
    outputs = call.outputs()[0].shape
    dims, deeds = list(layout.dims), {}
    if mixed(call, dims[-count:]):
        return [lost_layout(out.shape) for out in call.outputs()]
    for d in range(len(dims) - count, len(dims)):
        if image_axis(dims[d]) is None:
            dims[d] = beside(dims[d], outputs[d])
            continue
        atom = only_atom(call.trace.settle(dims[d]))
        facts = {"i": atom.size, "o": outputs[d], "r": 0, "shift": 0.0, "reason": "adaptive"}
        call.trace.add("adaptive_pool", atom.axis, **facts)
        deeds[atom.axis] = f"{atom.size} to {outputs[d]}"
        dims[d] = (_to_size(call, atom, outputs[d]),)
    call.trace.happen(deeds, layout.axes())
    return made_of(call, dims)


def _to_size(call: Call, atom: Atom, size: int, line: Line | None = None) -> Atom:
    line = line or (Fraction(0), Fraction(size - 1))
    call.trace.learn_line(atom.axis, line)
    return Atom(size, atom.axis, atom.jump * atom.size / size, line)


@rule(*RESIZES)
def resize(call: Call) -> Layouts:
    """Sample between the pixels; exact where the samples lie symmetrically."""
    layout, args = call.followed(), call.args
    count = len(args["output_size"])
    dims, deeds = list(layout.dims), {}
    if mixed(call, dims[-count:]):
        return lost_layout(call.out.shape)
    scales = _scales(args, count)
    for n, d in enumerate(range(len(dims) - count, len(dims))):
        size = call.out.shape[d]
        if image_axis(dims[d]) is None:
            dims[d] = _stretched(dims[d], size)
            continue
        atom = only_atom(call.trace.settle(dims[d]))
        offset = resize_offset(RESIZES[call.name], atom.size, size, bool(args.get("align_corners")), scales[n])
        reason = "samples lie symmetrically" if offset == 0 else "its samples do not lie symmetrically"
        r = {} if offset is None else {"r": offset, "shift": float(offset * atom.jump)}
        call.trace.add("resize", atom.axis, i=atom.size, o=size, **r, exact=offset == 0, reason=reason)
        deeds[atom.axis] = f"{atom.size} to {size}"
        times = Fraction(scales[n] or 0).limit_denominator(1000)
        line = None
        if times and atom.line is not None:
            line = (atom.line[0] * times, (atom.line[1] + 1) * times - 1)
        dims[d] = (_to_size(call, atom, size, line),)
    call.trace.happen(deeds, layout.axes())
    return made_of(call, dims)


def _scales(args: dict[str, Any], count: int) -> list[float | None]:
    """Return the scale of each dimension; the last is called scales_w, or scales if it is the only one."""
    names = ("scales",) if count == 1 else ("scales_d", "scales_h", "scales_w")[-count:]
    return [args.get(name) for name in names]


def _stretched(dim: Dim, size: int) -> Dim:
    if size_of(dim) == 1 or is_repeated(dim):
        return (Atom(size, REPEATED),) if size > 1 else ()
    return beside(dim, size)
