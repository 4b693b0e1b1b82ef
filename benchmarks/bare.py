"""The bare convolutions of a network: every convolution of one pass, of the same shapes, and nothing else."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

CONVOLUTIONS = (functional.conv2d, torch.conv2d, functional.conv_transpose2d)
NORMS = (functional.batch_norm, functional.layer_norm, functional.group_norm, functional.instance_norm)


class Call(NamedTuple):
    """A convolution or a norm with its arguments, as it was called; the tensors are copies."""

    function: Callable[..., Tensor]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shape: torch.Size

    def __call__(self) -> Tensor:
        """Run it."""
        return self.function(*self.args, **self.kwargs)

    def leaves(self) -> list[Tensor]:
        """Return the tensors that get a gradient."""
        given = [*self.args, *self.kwargs.values()]
        return [entry for entry in given if isinstance(entry, Tensor) and entry.requires_grad]


class RecordCalls(TorchFunctionMode):
    """Writes down every call of some functions that runs inside it.

    Under autocast a convolution is handed single precision and computes in half of it: the copies are in half.
    """

    def __init__(self, functions: tuple[Callable[..., Any], ...], *, copies: bool = True) -> None:
        super().__init__()
        self.functions, self.copies = functions, copies
        self.calls: list[Call] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note a call, then let it run."""
        out = func(*args, **(kwargs or {}))
        if func in self.functions:
            keys = {key: self.kept(func, entry) for key, entry in (kwargs or {}).items()}
            self.calls.append(Call(func, tuple(self.kept(func, entry) for entry in args), keys, out.shape))
        return out

    def kept(self, function: Callable[..., Any], entry: Any) -> Any:
        """Return a copy of a tensor as a leaf, without copies one on the meta device; anything else as it is."""
        if not isinstance(entry, Tensor):
            return entry
        halved = function in CONVOLUTIONS and torch.is_autocast_enabled(entry.device.type)
        copy = entry.detach().clone() if self.copies else torch.empty_like(entry, device="meta")
        return (copy.bfloat16() if halved else copy).requires_grad_(entry.requires_grad)


def record(
    run: Callable[[], object], functions: tuple[Callable[..., Any], ...] = CONVOLUTIONS, *, copies: bool = True
) -> list[Call]:
    """Return the calls of a pass, in order."""
    mode = RecordCalls(functions, copies=copies)
    with mode:
        run()
    return mode.calls


def train_bare(calls: list[Call]) -> Callable[[], None]:
    """Return a function that runs every convolution forward and backward, each alone."""
    gradients = [call().detach() for call in calls]

    def run() -> None:
        for call, gradient in zip(calls, gradients, strict=True):
            for leaf in call.leaves():
                leaf.grad = None
            call().backward(gradient)

    return run


def evaluate_bare(calls: list[Call]) -> Callable[[], None]:
    """Return a function that runs every convolution forward."""

    def run() -> None:
        with torch.no_grad():
            for call in calls:
                call()

    return run


def flops(calls: list[Call]) -> float:
    """Return the multiplications and additions of plain convolutions, forward and for every gradient."""
    total = 0.0
    for call in calls:
        values, weight = call.args[:2]
        once = 2.0 * call.shape[0] * call.shape[-1] * call.shape[-2] * weight.numel()
        total += once * (1 + values.requires_grad + weight.requires_grad)
    return total
