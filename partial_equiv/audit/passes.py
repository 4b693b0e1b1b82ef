"""One pass through a network without data: tensors have shapes and no values, and every operation is followed."""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from partial_equiv.audit import cuts, mixing, resizes, views, windows  # noqa: F401  (their rules enter themselves)
from partial_equiv.audit.dims import Layout
from partial_equiv.audit.ops import Call, follow
from partial_equiv.audit.trace import Trace
from partial_equiv.audit.writes import overwritten, written

ONE_VALUE = {"zeros", "ones", "full", "scalar_tensor", "empty", "zeros_like", "ones_like", "full_like", "empty_like",
             "new_zeros", "new_ones", "new_full", "new_empty"}  # fmt: skip
SAME_VALUES = {"alias", "detach", "view", "_unsafe_view", "expand", "permute", "transpose", "t", "squeeze", "unsqueeze",
               "slice", "select", "clone", "_to_copy", "repeat", "split", "unbind", "fill", "zero"}  # fmt: skip


@dataclass(frozen=True)
class Signature:
    """What the schema of an operation says: its name without the underscore, arguments, whether it writes or views."""

    name: str
    arguments: tuple[tuple[str, Any], ...]
    writes: bool
    views: bool
    pointwise: bool

    def bind(self, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return all arguments by name, defaults included; a tensor given to receive the result is none."""
        given = dict(zip((name for name, _ in self.arguments), args, strict=False)) | kwargs
        return {name: given.get(name, default) for name, default in self.arguments}


@functools.cache
def signature(func: Any) -> Signature:
    """Return the signature of an operation of torch."""
    schema = func._schema
    name = schema.name.split("::")[1]
    taken = [argument for argument in schema.arguments if not argument.is_out]
    return Signature(
        name=name[:-1] if name.endswith("_") and not name.endswith("__") else name,
        arguments=tuple((argument.name, argument.default_value) for argument in taken),
        writes=schema.is_mutable,
        views=any(argument.alias_info and not argument.alias_info.is_write for argument in taken),
        pointwise=torch.Tag.pointwise in func.tags,
    )


class Follow(TorchDispatchMode):
    """Sees every operation, runs it, and follows the image's axes through it.

    Args:
        trace: Where to write what is found.
        device: Where the image is: "meta" for none.
    """

    def __init__(self, trace: Trace, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = trace
        self.device = device
        self.paused = False

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Follow nothing for a while."""
        self.paused = True
        try:
            yield
        finally:
            self.paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and follow it."""
        args, kwargs = self._gather(args, kwargs or {})
        if self.paused:
            return func(*args, **kwargs)
        about = signature(func)
        self.trace.step += 1
        self.trace.operation = about.name
        out = self._result(func, about, args, kwargs)
        call = Call(self.trace, about.name, about.bind(args, kwargs), out)
        if any(self.trace.layouts.get(t) is not None for t in call.tensors()):
            self._moving(call, about)
        else:
            _constant(call, about)
        if about.views:
            for made in call.outputs():
                self.trace.parents[made] = call
        return out

    def _result(self, func: Any, about: Signature, args: Any, kwargs: dict[str, Any]) -> Any:
        """Return the result; the shape of a batch norm is known, and torch takes a long way to it."""
        if self.device.type != "meta" or about.name != "native_batch_norm":
            return func(*args, **kwargs)
        image = args[0]
        return torch.empty_like(image), image.new_empty(0), image.new_empty(0)

    def _gather(self, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Bring constants that a network makes on another device to where the image is."""
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if self.device.type != "meta" or not any(t.is_meta for t in tensors):
            return args, kwargs
        if kwargs.get("device") is not None:
            kwargs = kwargs | {"device": self.device}
        if all(t.is_meta for t in tensors):
            return args, kwargs
        args, kwargs = tree_map(self._emptied, (args, kwargs))
        return args, kwargs

    def _emptied(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.is_meta:
            return value
        empty = value.to("meta")
        self.trace.uniform[empty] = self.trace.uniform.get(value, False)
        return empty

    def _moving(self, call: Call, about: Signature) -> None:
        if not call.outputs():
            dims = [dim for t in call.tensors() if (lay := self.trace.layouts.get(t)) for dim in lay.dims]
            self.trace.doubt(dims, f"{call.name} reads values of the image, on which the network may then depend")
            return
        for out, layout in zip(call.outputs(), follow(call, about.pointwise), strict=True):
            if about.writes:
                written(call, out, layout)
            elif layout is not None:
                self.trace.layouts[out] = layout


def _constant(call: Call, about: Signature) -> None:
    """Note which constants hold one value only: these are mirror images of themselves."""
    sources = call.tensors()[1:] if call.name in ("fill", "zero") else call.tensors()
    passes_on = about.pointwise or call.name in SAME_VALUES
    even = call.name in ONE_VALUE or (passes_on and all(map(call.is_uniform, sources)))
    for out in call.outputs():
        if about.writes:
            overwritten(call, out, even)
        elif even:
            call.trace.uniform[out] = True


class Circular(TorchFunctionMode):
    """Sees circular paddings, which torch makes of slices and copies."""

    def __init__(self, follower: Follow) -> None:
        super().__init__()
        self.follower = follower

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one function; follow a circular padding as one operation."""
        kwargs = kwargs or {}
        if func is not functional.pad or "circular" not in (*args[2:3], kwargs.get("mode")):
            return func(*args, **kwargs)
        trace = self.follower.trace
        with self.follower.pause():
            out = func(*args, **kwargs)
        trace.step += 1
        trace.operation = "pad"
        given = dict(zip(("self", "pad"), args, strict=False)) | kwargs
        call = Call(trace, "circular_pad", {"self": given.get("self", given.get("input")), "pad": given["pad"]}, out)
        if call.layout() is not None:
            layout: Layout | None
            (layout,) = follow(call, pointwise=False)
            trace.layouts[out] = layout
        return out
