"""A network made ready for passes without data: a copy of it, each module of which says where the pass is."""

import contextlib
import copy
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from partial_equiv.audit.dims import AXES, Atom, Dim, Layout, axes, image_axis, plain
from partial_equiv.audit.passes import Circular, Follow, address
from partial_equiv.audit.trace import Trace
from partial_equiv.errors import UserError

FAULTS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError)
"""What networks raise at images that they cannot take."""

PARAMETRIZED = "parametrizations"
WITHOUT_VALUES = re.compile(r"meta (tensor|device)|data[- ](in)?dependent", re.IGNORECASE)
READS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim", "unique_consecutive")


class Network:
    """A network and what it is to be fed.

    The network itself is never run, moved, hooked or put in another mode: a copy is. Its tensors have no values either,
    but the values of its constants are known, should the network look at them.

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
        held = [t for t in tree_leaves([vars(m) for m in model.modules()]) if isinstance(t, Tensor)]
        self._guarded = {address(t) for t in held} - {0}
        self._home = next((t.device for t in held if not t.is_meta), torch.device("cpu"))
        self._values: Any = WeakTensorKeyDictionary()
        self._trace = Trace(values=self._values)
        self._ready: nn.Module | None = None
        if example is None:
            self._template = _copied(model, {id(t): _shape(t, self._values) for t in held})
        else:  # what is left of an earlier pass, such as a weight under weight_norm, refuses to be copied
            self._template = _copied(model, {id(t): t.detach().clone() for t in held if not t.is_leaf}).cpu()
        self._evaluate()
        floats = [p.dtype for p in model.parameters() if p.is_floating_point()]
        self.dtype = floats[0] if floats else torch.get_default_dtype()

    def _evaluate(self) -> None:
        """Put the copy in evaluation, in which some networks compute their filters."""
        try:
            with self._following():
                self._template.eval()
        except FAULTS as error:
            words = f"the network's eval() fails ({error}): mend it, or pass a part of the network"
            raise UserError(words) from error

    @contextlib.contextmanager
    def _following(self) -> Iterator[None]:
        """Follow operations, without gradients, a trace in the random state, or fused kernels that hide their parts."""
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        follower = Follow(self._trace, self.device, self._home, self._guarded)
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]), follower, Circular(follower):
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)

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
            # What a network remembers of an earlier pass may not fit this one: a new copy remembers nothing.
            with contextlib.suppress(UserError):
                return self._pass(self._ready, height, width, impatient)
        self._ready = self._announced()
        return self._pass(self._ready, height, width, impatient)

    def _pass(self, network: nn.Module, height: int, width: int, impatient: Iterable[str]) -> Trace:
        self._trace = trace = Trace(impatient, self._values)
        image = self._image(height, width)
        sides = [
            (Atom(size, axis, line=(Fraction(1), Fraction(0))),)
            for axis, size in zip(AXES, image.shape[2:], strict=True)
        ]
        trace.layouts[image] = Layout((*map(plain, image.shape[:2]), *sides))
        try:
            with self._following():
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
        trace.forget()
        return trace

    def _announced(self) -> nn.Module:
        """Return a copy whose modules tell the trace where it is."""
        kept = (*self._template.parameters(), *self._template.buffers())
        network = copy.deepcopy(self._template, {id(t): t for t in kept})
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
                f"the network reads values of the image ({trace.operation} in {where}), and a pass on shapes has none: "
                "pass example=images [B, C, H, W] to run it on real ones"
            )
        size = f"{self.in_channels}x{height}x{width}"
        return UserError(
            f"the network cannot take images of {size}: {trace.operation or 'a check'} in {where} says {words!r}; "
            "give another input_size= or in_channels="
        )


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


def _copied(model: nn.Module, shapes: dict[int, Any]) -> nn.Module:
    """Return a copy of a module that holds `shapes` in the place of tensors, by their id."""
    try:
        return copy.deepcopy(model, shapes)
    except (TypeError, RuntimeError, AttributeError, ValueError) as error:
        raise UserError(
            f"the network cannot be copied ({error}), and it is never run itself: give its parts a __deepcopy__ "
            "or take off what cannot be copied"
        ) from error


def _shape(tensor: Tensor, values: MutableMapping[Tensor, Tensor]) -> Tensor:
    """Return a tensor without values that stands for another one, and note what it stands for."""
    if tensor.is_meta:
        return tensor
    shape = tensor.detach().to("meta")
    if isinstance(tensor, nn.Parameter):
        shape = nn.Parameter(shape, requires_grad=False)
    # A network may write its buffers, in the copy; parameters are too large to be held twice.
    values[shape] = tensor.detach() if isinstance(tensor, nn.Parameter) else tensor.detach().clone()
    return shape


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
