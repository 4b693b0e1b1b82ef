"""One pass through a network without data: tensors have shapes and no values, and every operation is followed."""

import contextlib
import functools
from collections.abc import Collection, Iterator
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
from partial_equiv.audit.writes import written

FRESH = ("new_empty", "new_empty_strided", "new_zeros", "new_ones", "new_full", "empty_like", "zeros_like",
         "ones_like", "full_like", "rand_like", "randn_like", "randint_like")  # fmt: skip
"""Operations that make constants and take no more than a shape from a tensor."""


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

    What depends on the image has a shape and no values. What does not is computed: a network may look at its own
    constants, and whether they are mirror images of themselves can be asked.

    Args:
        trace: Where to write what is found.
        device: Where the image is: "meta" for none.
        home: Where constants are computed.
        guarded: Addresses of memory that belongs to the user's network and is not to be written.
    """

    def __init__(self, trace: Trace, device: torch.device, home: torch.device, guarded: Collection[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = trace
        self.device = device
        self.home = home
        self.guarded = guarded
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
        kwargs, about, trace = kwargs or {}, signature(func), self.trace
        if self.paused:
            return self._shapes(func, about, args, kwargs)
        trace.step += 1
        trace.operation = about.name
        moving = about.name not in FRESH and any(trace.layouts.get(t) is not None for t in _tensors(args, kwargs))
        run = self._shapes if moving else self._constants
        out = run(func, about, args, kwargs)
        call = Call(trace, about.name, about.bind(args, kwargs), out)
        if moving:
            _moved(call, about)
        if about.views:
            for made in call.outputs():
                trace.parents[made] = call
        return out

    def _shapes(self, func: Any, about: Signature, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run an operation on shapes alone."""
        if self.device.type != "meta":
            return func(*args, **kwargs)
        images = [t for t in _tensors(args, kwargs) if t.is_meta]
        if about.name == "native_batch_norm" and images:  # a known shape, to which torch takes a long way
            return torch.empty_like(images[0]), images[0].new_empty(0), images[0].new_empty(0)
        full = {id(t): t for t in _tensors(args, kwargs) if not t.is_meta}
        empty = {key: t.to("meta") for key, t in full.items()}
        filled = {id(empty[key]): t for key, t in full.items()}
        if kwargs.get("device") is not None:
            kwargs = kwargs | {"device": self.device}
        args, kwargs = tree_map(lambda v: empty.get(id(v), v), (args, kwargs))
        # What is written in place is still the tensor that the network holds.
        return tree_map(lambda v: filled.get(id(v), v), func(*args, **kwargs))

    def _constants(self, func: Any, about: Signature, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run an operation on constants, whose values are known; those beside the image show it their shape alone."""
        trace, tensors = self.trace, _tensors(args, kwargs)
        known = {id(t): value for t in tensors if (value := trace.value(t)) is not None}
        if any(id(t) not in known and trace.layouts.get(t) is None for t in tensors):
            return self._shapes(func, about, args, kwargs)
        beside = kwargs.get("device")
        if about.name in FRESH and beside is None:
            beside = tensors[0].device
        shown = any(t.is_meta for t in tensors) or (beside is not None and beside.type == "meta")
        if beside is not None and beside.type == "meta":
            kwargs = kwargs | {"device": self.home}
        if about.writes:
            for t in tensors:
                self._unshare(t, known)
        held = {id(value): t for t in tensors if (value := known.get(id(t))) is not None}
        args, kwargs = tree_map(lambda v: known.get(id(v), v), (args, kwargs))
        out = func(*args, **kwargs)
        return tree_map(lambda v: held[id(v)] if id(v) in held else self._shown(v) if shown else v, out)

    def _unshare(self, tensor: Tensor, known: dict[int, Tensor]) -> None:
        """Let the copy write into memory of its own where the values of a constant are the user's."""
        if address(known[id(tensor)]) in self.guarded:
            known[id(tensor)] = known[id(tensor)].clone()
            if tensor.is_meta:
                self.trace.values[tensor] = known[id(tensor)]

    def _shown(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.is_meta:
            return value
        shape = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
        self.trace.values[shape] = value
        return shape


def address(tensor: Tensor) -> int:
    """Return where the memory of a tensor begins; 0 for one that has none."""
    return 0 if tensor.is_meta else tensor.untyped_storage().data_ptr()


def _tensors(args: Any, kwargs: dict[str, Any]) -> list[Tensor]:
    return [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]


def _moved(call: Call, about: Signature) -> None:
    """Write down what an operation did to the image's axes."""
    trace = call.trace
    if not call.outputs():
        dims = [dim for t in call.tensors() if (lay := trace.layouts.get(t)) for dim in lay.dims]
        trace.doubt(dims, f"{call.name} reads values of the image, on which the network may then depend")
        return
    for out, layout in zip(call.outputs(), follow(call, about.pointwise), strict=True):
        if about.writes:
            written(call, out, layout)
        elif layout is not None:
            trace.layouts[out] = layout


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
