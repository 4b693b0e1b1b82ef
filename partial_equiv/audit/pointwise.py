"""Operations element by element, and what constants do there: a table of numbers that stay while the image turns."""

from collections.abc import Sequence

import torch
from torch import Tensor

from partial_equiv.audit.dims import REPEATED, Atom, Dim, Layout, alike, axes, image_axis, is_repeated, plain, size_of
from partial_equiv.audit.ops import Call, Layouts, rule

TABLE = "adds or multiplies numbers that differ from pixel to pixel and stay when the image turns (a positional table)"
MEET = "the axes of the image meet in one dimension, which is not followed"


@rule("pointwise", "copy", "fill", "zero", "masked_fill", "floor_divide", "remainder", "rsub", "polar", "isnan",
      "hardswish", "_prelu_kernel", "log_sigmoid_forward", "angle", "copysign", "where")  # fmt: skip
def pointwise(call: Call) -> Layouts:
    """Combine tensors element by element, those of one index repeated."""
    shape = max((out.shape for out in call.outputs()), key=len, default=call.source.shape)
    tensors = [(t, call.trace.layouts.get(t)) for t in call.tensors()]
    if call.name in ("copy", "fill", "zero") and tensors[0][1] is None:  # what was there before is gone
        tensors = tensors[1:]
    dims = broadcast(call, tensors, shape)
    layout = Layout(dims)
    return [layout if out.shape == shape else None for out in call.outputs()]


def broadcast(call: Call, tensors: Sequence[tuple[Tensor, Layout | None]], shape: Sequence[int]) -> tuple[Dim, ...]:
    """Return the dimensions of tensors combined, and write down where they do not turn alike.

    Args:
        call: The operation.
        tensors: With the layout of each, None for a constant.
        shape: Shape of the result.
    """
    dims = []
    for back in range(1, len(shape) + 1):
        moving = [lay.dims[-back] for _, lay in tensors if lay is not None and back <= len(lay.dims)]
        constants = [t for t, lay in tensors if lay is None and back <= t.ndim and t.shape[-back] > 1]
        dims.append(meet(call, moving, constants, back, shape[-back]))
    return tuple(reversed(dims))


def meet(call: Call, moving: Sequence[Dim], constants: Sequence[Tensor], back: int, size: int) -> Dim:
    """Return one dimension of a result, from the same dimension of those that are combined.

    Args:
        call: The operation.
        moving: The dimension in tensors that depend on the image.
        constants: Tensors that do not, and extend over it.
        back: Its number, counted from the last one, which is 1.
        size: Its size in the result.
    """
    wide = [dim for dim in moving if size_of(dim) == size]
    if size == 1:
        return next((dim for dim in wide if dim), ())
    images = [dim for dim in wide if axes(dim)]
    others = [dim for dim in wide if not axes(dim)]
    if not images:
        repeated = bool(others) and all(map(is_repeated, others)) and all(same(call, t, back) for t in constants)
        return (Atom(size, REPEATED),) if repeated else plain(size)
    images = _upright(call, images)
    if not all(alike(images[0], dim) for dim in images[1:]):
        call.trace.doubt(images, MEET)
    tables = [t for t in constants if not same(call, t, back)]
    axis = image_axis(images[0])
    if not all(map(is_repeated, others)) or not all(axis and mirrored(call, t, back) for t in tables):
        call.trace.blame("table", images[:1], TABLE)
    elif axis:
        for table in tables:
            call.trace.happen({axis: f"a table like {_digest(call, table, back)}"})
    return images[0]


def same(call: Call, constant: Tensor, back: int) -> bool:
    """Return whether a constant is known to hold one value, repeated, along a dimension."""
    if constant.stride(-back) == 0:  # it was expanded
        return True
    value = call.trace.value(constant)
    if value is None or not torch.equal(value.narrow(-back, 0, 1), value.narrow(-back, 1, 1)):
        return False
    return bool((value == value.narrow(-back, 0, 1)).all())


def mirrored(call: Call, constant: Tensor, back: int) -> bool:
    """Return whether a constant is known to read the same backwards along a dimension, to rounding."""
    value = call.trace.value(constant)
    if value is None:
        return False
    if not value.is_floating_point():
        return torch.equal(value, value.flip(-back))
    largest = value[value.isfinite()].abs().amax() if value.isfinite().any() else 0.0
    slack = 8 * torch.finfo(value.dtype).eps * float(largest)
    return torch.allclose(value, value.flip(-back), rtol=0.0, atol=slack)


def _digest(call: Call, constant: Tensor, back: int) -> str:
    """Return a number for what a constant holds, a dimension first: two axes are treated alike if theirs agree."""
    value = call.trace.value(constant)
    assert value is not None
    turned = value.movedim(-back, 0).double().nan_to_num()
    # Weights that no symmetry of the values can cancel.
    order = torch.arange(1, 1 + turned.numel(), dtype=torch.float64, device=turned.device).sqrt()
    return f"{list(turned.shape)} {float((turned.flatten() * order).sum()):.6g}"


def _upright(call: Call, images: list[Dim]) -> list[Dim]:
    """Return dimensions to be combined, settled unless all lean alike; what lies beyond them is zeros no more."""
    leans = {tuple(atom.lean for atom in dim) for dim in images}
    if len(leans) > 1:
        return [call.trace.settle(dim) for dim in images]
    if not any(atom.lean for atom in images[0]):
        return images
    causes = tuple(sorted({cause for dim in images for atom in dim for cause in atom.causes}))
    return [tuple(Atom(a.size, a.axis, a.jump, a.line, a.lean, False, causes if a.lean else ()) for a in images[0])]


@rule("native_dropout", "bernoulli")
def noise(call: Call) -> Layouts:
    """Random numbers differ from pixel to pixel."""
    layout = call.followed()
    call.trace.doubt(layout.dims, "draws random numbers pixel by pixel")
    return [layout] * len(call.outputs())


@rule("glu")
def glu(call: Call) -> Layouts:
    """Gate one half of a dimension with the other."""
    layout = call.followed()
    d = call.args["dim"] % len(layout.dims)
    if axes(layout.dims[d]):
        return call.lose([layout.dims[d]], "gates one half of the image with the other")
    return Layout((*layout.dims[:d], plain(call.out.shape[d]), *layout.dims[d + 1 :]))
