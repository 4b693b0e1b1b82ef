"""A network made ready for passes without data: a copy of it without values, each module of which says where it is."""

import contextlib
import copy
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from partial_equiv.audit.dims import AXES, Atom, Dim, Layout, axes, image_axis, plain
from partial_equiv.audit.passes import Circular, Follow
from partial_equiv.audit.trace import Trace
from partial_equiv.errors import UserError

FAULTS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError)
"""What networks raise at images that they cannot take."""

PARAMETRIZED = "parametrizations"
WITHOUT_VALUES = re.compile(r"meta (tensor|device)|data[- ](in)?dependent", re.IGNORECASE)
READS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim", "unique_consecutive")


class Network:
    """A network and what it is to be fed.

    The network itself is never run, moved, hooked or put in another mode: a copy is, whose tensors have no values.

    Args:
        model: Any module that takes images [B, C, H, W].
        in_channels: C.
        example: Images to run in the place of tensors without values, for networks that read values.

    Raises:
        UserError: the module is not initialised, takes more than images, or cannot be copied.
    """

    def __init__(self, model: nn.Module, in_channels: int, example: Tensor | None = None) -> None:
        _check(model, in_channels, example)
        self.in_channels = in_channels if example is None else example.shape[1]
        self.example = example
        self.device = torch.device("meta" if example is None else "cpu")
        self._template = _copied(model, with_values=example is not None).eval()
        self._ready: nn.Module | None = None
        self._trace = Trace()
        floats = [p.dtype for p in model.parameters() if p.is_floating_point()]
        self.dtype = floats[0] if floats else torch.get_default_dtype()

    def run(self, height: int, width: int, impatient: Iterable[str] = ()) -> Trace:
        """Return what one pass at a size finds.

        Args:
            height: H.
            width: W.
            impatient: Axes at whose first inexact row to stop, by `BrokenError`.

        Raises:
            UserError: the network cannot take this size, or reads values that are not there.
        """
        if self._ready is not None:
            # What a network remembers of an earlier pass has no values either: a new copy remembers nothing.
            with contextlib.suppress(UserError):
                return self._pass(self._ready, height, width, impatient)
        self._ready = self._announced()
        return self._pass(self._ready, height, width, impatient)

    def _pass(self, network: nn.Module, height: int, width: int, impatient: Iterable[str]) -> Trace:
        self._trace = trace = Trace(impatient)
        image = self._image(height, width)
        sides = [
            (Atom(size, axis, line=(Fraction(1), Fraction(0))),)
            for axis, size in zip(AXES, image.shape[2:], strict=True)
        ]
        trace.layouts[image] = Layout((*map(plain, image.shape[:2]), *sides))
        follower = Follow(trace, self.device)
        try:
            with _quiet(), follower, Circular(follower):
                out = network(image)
        except UserError:
            raise
        except FAULTS as error:
            raise self._refusal(error, height, width) from error
        found = tensors_in(out)
        if not found:
            raise UserError(f"the network returns {type(out).__name__} without a tensor: return features or logits")
        trace.step += 1
        trace.operation, trace.path = "output", []
        layouts = [layout for tensor in found if (layout := trace.layouts.get(tensor)) is not None]
        for layout in layouts:
            _finish(trace, layout)
        if not layouts:
            reason = "no result comes from the image by operations of torch that can be followed"
            for axis in AXES:
                trace.add("unknown", axis, exact=None, reason=reason)
        return trace

    def _announced(self) -> nn.Module:
        """Return a copy whose modules tell the trace where it is."""
        shared = {id(t): t for t in (*self._template.parameters(), *self._template.buffers())}
        network = copy.deepcopy(self._template, shared)
        for name, module in network.named_modules():
            # Scripted modules take no hooks; a parametrization only makes the weights of the module that it lies in.
            if not isinstance(module, torch.jit.ScriptModule) and PARAMETRIZED not in name.split("."):
                self._announce(name, module)
        return network

    def _announce(self, name: str, module: nn.Module) -> None:
        entry = (name, all(child == PARAMETRIZED for child, _ in module.named_children()))

        def enter(*_: Any) -> None:
            self._trace.path.append(entry)

        def leave(*_: Any) -> None:
            path = self._trace.path
            while path and path.pop() is not entry:
                pass  # a module that raised, and was forgiven, is still on the path

        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)

    def _image(self, height: int, width: int) -> Tensor:
        if self.example is None:
            return torch.empty(2, self.in_channels, height, width, dtype=self.dtype, device="meta")
        example = self.example.detach().cpu()
        if example.shape[2:] == (height, width):
            return example.clone()
        return functional.interpolate(example, (height, width), mode="bilinear", align_corners=False)

    def _refusal(self, error: Exception, height: int, width: int) -> UserError:
        trace = self._trace
        where = repr(trace.path[-1][0]) if trace.path and trace.path[-1][0] else "the network itself"
        words = next(iter(str(error).strip().splitlines()), type(error).__name__)
        reads = trace.operation in READS or WITHOUT_VALUES.search(str(error))
        if self.example is None and reads:
            return UserError(
                f"the network reads values of tensors ({trace.operation} in {where}), and a pass on shapes has none: "
                "pass example=images [B, C, H, W] to run it on real ones"
            )
        size = f"{self.in_channels}x{height}x{width}"
        return UserError(
            f"the network cannot take images of {size}: {trace.operation or 'a check'} in {where} says {words!r}; "
            "give another input_size= or in_channels="
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave no gradient, no trace in the random state, and no fused kernel that hides what it does."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _check(model: nn.Module, in_channels: int, example: Tensor | None) -> None:
    if not isinstance(model, nn.Module):
        raise UserError(f"model is {type(model).__name__}, not a torch module: wrap it in torch.nn.Module")
    lazy = [name for name, t in (*model.named_parameters(), *model.named_buffers()) if is_lazy(t)]
    if lazy:
        raise UserError(f"the parameter {lazy[0]!r} is lazy and not initialised: run the network on one batch first")
    if isinstance(in_channels, bool) or not isinstance(in_channels, int) or in_channels < 1:
        raise UserError(f"in_channels={in_channels!r} is not a number of channels: give 1 or more")
    if example is not None and (not isinstance(example, Tensor) or example.ndim != 4 or not example.numel()):
        shape = list(example.shape) if isinstance(example, Tensor) else type(example).__name__
        raise UserError(f"example is {shape}, not images: give a tensor [B, C, H, W]")
    if isinstance(model, torch.jit.ScriptModule):
        return  # its forward has no signature
    try:
        inspect.signature(model.forward).bind(example)
    except TypeError as error:
        raise UserError(
            f"{type(model).__name__}.forward does not take one batch of images alone ({error}): "
            "wrap it in a module whose forward(x) fills in the rest"
        ) from error


def _copied(model: nn.Module, with_values: bool) -> nn.Module:
    """Return a copy of a module; without values it takes no memory."""
    memo: dict[int, Any] = {}
    try:
        if not with_values:
            for module in model.modules():
                memo.update({id(t): _empty(t) for t in tree_leaves(vars(module)) if isinstance(t, Tensor)})
        twin = copy.deepcopy(model, memo)
        return twin.cpu() if with_values else twin
    except (TypeError, RuntimeError, AttributeError, ValueError) as error:
        raise UserError(
            f"the network cannot be copied ({error}), and it is never run itself: give its parts a __deepcopy__ "
            "or take off what cannot be copied"
        ) from error


def _empty(tensor: Tensor) -> Tensor:
    empty = tensor.detach().to("meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in what a network returns: a tensor, a tuple, a dict, or an object that holds some."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [t for part in value.values() for t in tensors_in(part)]
    if isinstance(value, (list, tuple)):
        return [t for part in value for t in tensors_in(part)]
    return [t for t in getattr(value, "__dict__", {}).values() if isinstance(t, Tensor)]


def _finish(trace: Trace, layout: Layout) -> None:
    """Check a result: no later layer can make up for anything, and pixels must not be mixed with channels."""
    if layout.lost == "positions":
        for axis in AXES:
            trace.add("unknown", axis, exact=None, reason="the result says where pixels are")
    for dim in layout.dims:
        trace.settle(dim)
        if len(axes(dim)) == 1 and image_axis(dim) is None and _ends_plain(dim):
            trace.doubt([dim], "a dimension of the result mixes pixels of an axis with channels")


def _ends_plain(dim: Dim) -> bool:
    last = [atom for atom in dim if atom.size > 1][-1]
    return not last.axis and not last.parts
