"""Operations that mix pixels all over the image: reductions, normalisations, products, attention."""

from collections.abc import Iterable

from torch import Tensor

from partial_equiv.audit.dims import Dim, Layout, alike, axes, is_repeated, lost_layout, plain, size_of
from partial_equiv.audit.ops import Call, Layouts, dimensions, rule
from partial_equiv.audit.pointwise import MEET, TABLE, broadcast, same

WEIGHTED = "sums over pixels, each with a weight of its own (flatten, then linear)"


@rule("mean", "sum", "nansum", "amax", "amin", "max", "min", "prod", "var", "std", "var_mean", "std_mean", "all", "any",
      "linalg_vector_norm", "norm", "logsumexp", "median", "aminmax", "count_nonzero")  # fmt: skip
def reduce(call: Call) -> Layouts:
    """Reduce whole dimensions, in which order plays no part; only where an extreme lies is lost."""
    if isinstance(call.args.get("other"), Tensor):  # max(a, b), element by element
        return Layout(broadcast(call, [(t, call.trace.layouts.get(t)) for t in call.tensors()], call.out.shape))
    layout = call.followed()
    named = call.args.get("dim", call.args.get("dims"))
    gone = dimensions(named, len(layout.dims))
    # A border of zeros on one side alone is as good as on the other: only what was cut away is missed.
    unequal = [any(atom.lean and not atom.zero for atom in dim) for dim in layout.dims]
    dims = [call.trace.settle(dim) if d in gone and unequal[d] else dim for d, dim in enumerate(layout.dims)]
    half = _reduced(call, layout, [layout.dims[d] for d in gone])
    keep = call.args.get("keepdim", False)
    left = tuple(() if d in gone else dim for d, dim in enumerate(dims) if keep or d not in gone)
    more = call.outputs()[1:]
    result = Layout(left, half)
    over_image = any(axes(layout.dims[d]) for d in gone)
    positions = call.name in ("max", "min", "median") and over_image
    return [result, *(lost_layout(out.shape, "positions") if positions else result for out in more)]


def _reduced(call: Call, layout: Layout, gone: list[Dim]) -> tuple[str, int, int] | None:
    """Note a reduction. One axis after the other is as good as both at once, if nothing comes between."""
    touched = frozenset().union(*map(axes, gone))
    if not touched:
        return layout.half
    trace, deed = call.trace, f"{call.name} of all"
    left = layout.axes() - touched
    if layout.half and layout.half[0] == call.name and not left:
        for axis, at in zip(("H", "W"), layout.half[1:], strict=True):
            event = trace.history[axis][at]
            trace.history[axis][at] = type(event)(event.step, event.name, deed)
        return None
    sizes = {axis: [a.size for dim in gone for a in dim if a.axis == axis] for axis in touched}
    trace.happen({axis: f"{call.name} of {sizes[axis]}" for axis in touched}, layout.axes())
    return (call.name, len(trace.history["H"]) - 1, len(trace.history["W"]) - 1) if left and len(touched) == 1 else None


@rule("argmax", "argmin", "cumsum", "cumprod", "sort", "topk", "argsort", "logcumsumexp", "msort")
def along(call: Call) -> Layouts:
    """Work along one dimension whose order matters: followed where it is no image axis."""
    layout = call.followed()
    named = call.args.get("dim", -1)
    touched = dimensions(named, len(layout.dims))
    if any(axes(layout.dims[d]) for d in touched):
        return call.lose([layout.dims[d] for d in touched], f"{call.name} along the image is not followed")
    dropped = call.name in ("argmax", "argmin") and not call.args.get("keepdim")
    if dropped:
        return Layout(tuple(dim for d, dim in enumerate(layout.dims) if d not in touched))
    shape = call.outputs()[0].shape
    return Layout(tuple(plain(shape[d]) if d in touched else dim for d, dim in enumerate(layout.dims)))


@rule("_softmax", "_log_softmax", "_safe_softmax", "softmax", "log_softmax")
def softmax(call: Call) -> Layouts:
    """Normalise along one dimension."""
    layout = call.followed()
    return _normalised(call, layout, dimensions(call.args["dim"], len(layout.dims)))


def _normalised(call: Call, layout: Layout, over: Iterable[int]) -> Layout:
    over = list(over)
    dims = [call.trace.settle(dim) if d in over else dim for d, dim in enumerate(layout.dims)]
    touched = Layout(tuple(layout.dims[d] for d in over)).axes()
    if touched:
        call.trace.happen(dict.fromkeys(touched, "normalised"), layout.axes())
    return Layout(tuple(dims))


@rule("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
      "_batch_norm_no_update", "batch_norm")  # fmt: skip
def batch_norm(call: Call) -> Layouts:
    """Scale and shift each channel."""
    layout = call.followed()
    tables = ("weight", "bias", "running_mean", "running_var")
    if any(call.args.get(key) is not None for key in tables):
        call.trace.blame("table", layout.dims[1:2], TABLE)
    measured = call.args.get("training") or call.args.get("running_mean") is None
    over = [d for d in range(len(layout.dims)) if d != 1] if measured else []
    return [_normalised(call, layout, over), *[None] * (len(call.outputs()) - 1)]


@rule("native_layer_norm", "native_group_norm", "_fused_rms_norm")
def layer_norm(call: Call) -> Layouts:
    """Normalise over dimensions, whole; then scale and shift each index of some."""
    layout = call.followed()
    count = len(layout.dims)
    if call.name == "native_group_norm":
        over, scaled = range(1, count), layout.dims[1:2]
    else:
        first = count - len(call.args["normalized_shape"])
        over, scaled = range(first, count), layout.dims[first:]
    if any(call.args.get(key) is not None for key in ("weight", "bias")):
        call.trace.blame("table", scaled, TABLE)
    return [_normalised(call, layout, over), *[None] * (len(call.outputs()) - 1)]


@rule("mm", "bmm", "mv", "dot", "addmm", "baddbmm", "addmv", "addbmm", "linear")
def product(call: Call) -> Layouts:
    """Sum over a common dimension: the last of the one, the last but one of the other."""
    args = dict(call.args)
    added = args.pop("self") if call.name in ("addmm", "baddbmm", "addmv", "addbmm") else args.get("bias")
    one, two = [value for value in args.values() if isinstance(value, Tensor)][:2]
    first, second = (call.trace.layouts.get(t) for t in (one, two))
    left = first.dims if first else tuple(map(plain, one.shape))
    right = second.dims if second else tuple(map(plain, two.shape))
    if call.name == "linear":
        right = right[::-1]
    at = -2 if len(right) > 1 else -1
    left, right = _contracted(call, (one, first, left), (two, second, right), at)
    batch = _batch(call, left, right)
    if call.name == "addbmm":
        return call.lose((*left, *right), "addbmm is not followed")
    dims = (*batch, *left[len(batch) : -1], *right[len(right) - 1 if at == -2 else len(right) :])
    if isinstance(added, Tensor):
        dims = broadcast(call, [(call.out, Layout(dims)), (added, call.trace.layouts.get(added))], call.out.shape)
    return Layout(dims)


def _batch(call: Call, left: tuple[Dim, ...], right: tuple[Dim, ...]) -> tuple[Dim, ...]:
    if not call.name.endswith("bmm"):
        return ()
    if not alike(left[0], right[0]) and axes(left[0]) and axes(right[0]):
        call.trace.doubt([left[0], right[0]], MEET)
    return (left[0] if axes(left[0]) else right[0],)


Factor = tuple[Tensor, Layout | None, tuple[Dim, ...]]


def _contracted(call: Call, one: Factor, two: Factor, at: int) -> tuple[tuple[Dim, ...], tuple[Dim, ...]]:
    """Check the dimension that two factors are summed over; return their dimensions, settled there."""
    left, right = list(one[2]), list(two[2])
    left[-1], right[at] = call.trace.settle(left[-1]), call.trace.settle(right[at])
    mine, other = left[-1], right[at]
    touched = axes(mine) | axes(other)
    if touched:
        factors = ((*one[:2], mine, 1), (*two[:2], other, -at))
        still = [factor for factor in factors if not axes(factor[2])]
        harmless = [is_repeated(dim) or (lay is None and same(call, t, back)) for t, lay, dim, back in still]
        present = Layout(one[2]).axes() | Layout(two[2]).axes()
        if not all(harmless):
            call.trace.blame("linear", [mine, other], WEIGHTED)
        elif not still and not alike(mine, other):
            call.trace.doubt([mine, other], MEET)
        else:
            call.trace.happen(dict.fromkeys(touched, "summed"), present)
    return tuple(left), tuple(right)


@rule("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
      "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention")  # fmt: skip
def attention(call: Call) -> Layouts:
    """Attend from each token to all: whatever permutes the tokens permutes the result."""
    args = call.args
    query, key, value = (
        call.layout(name) or Layout(tuple(map(plain, args[name].shape))) for name in ("query", "key", "value")
    )
    tokens = call.trace.settle(key.dims[-2])
    if not alike(tokens, call.trace.settle(value.dims[-2])):
        return call.lose([tokens], MEET) if axes(tokens) else [lost_layout(out.shape) for out in call.outputs()]
    bias = args.get("attn_mask", args.get("attn_bias"))
    if args.get("is_causal"):
        call.trace.blame("table", [tokens], "attends to earlier pixels alone")
    if isinstance(bias, Tensor):
        logits = (*query.dims[:-1], tokens)
        shape = tuple(map(size_of, logits))
        broadcast(call, [(call.out[0], Layout(logits)), (bias, call.trace.layouts.get(bias))], shape)
    for dims in (query.dims[-1:], value.dims[-1:]):
        if axes(dims[0]):
            return call.lose(dims, "features of tokens hold pixels")
    if axes(tokens):
        call.trace.happen(dict.fromkeys(axes(tokens), "summed"), query.axes() | key.axes())
    result = Layout((*query.dims[:-1], value.dims[-1]))
    return [result, *(lost_layout(out.shape, "positions") for out in call.outputs()[1:])]
