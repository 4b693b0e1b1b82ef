"""Borrowing a network: it is evaluated in another dtype and mode, and comes back bit for bit as it was."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

NESTED = ("_parameters", "_buffers", "_modules")


@contextmanager
def frozen(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Within this context the network is in evaluation mode, in `dtype`, and its forward passes leave no trace.

    Parameters and buffers are lent copies and get their own storage back; training flags, plain attributes, the random
    generators of torch, numpy and Python, and the TF32 switches are put back too, whatever happens inside. Objects that
    a module holds and changes by itself, such as a cache of its own, are not looked into.

    Args:
        model: The network; used in place.
        dtype: Floating point type of the evaluation; complex numbers follow it.
    """
    with ExitStack() as undo:
        _borrow_generators(undo)
        _borrow_precision(undo)
        for module in model.modules():
            _borrow_attributes(undo, module, dtype)
        for tensor in {id(t): t for t in chain(model.parameters(), model.buffers())}.values():
            _borrow_storage(undo, tensor, dtype)
        for kind in {tensor.device.type for tensor in model.parameters()} | {"cpu"}:
            undo.enter_context(torch.autocast(kind, enabled=False))
        model.eval()
        yield


def device_of(model: nn.Module, x: Tensor) -> torch.device:
    """Return the device of a network's first parameter or buffer, or that of `x` where it has none."""
    first = next(chain(model.parameters(), model.buffers()), x)
    return first.device


def converted(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a copy of a tensor, in `dtype`, or its complex type, where it has fractions."""
    if tensor.is_complex():
        return tensor.to(dtype.to_complex(), copy=True)
    return tensor.to(dtype, copy=True) if tensor.is_floating_point() else tensor.clone()


def _borrow_attributes(undo: ExitStack, module: nn.Module, dtype: torch.dtype) -> None:
    """Put a module's attributes back at the end, and lend it copies of those that are plain floating tensors."""
    attributes = dict(module.__dict__)
    nested = {key: dict(attributes[key]) for key in NESTED}

    def restore() -> None:
        module.__dict__.clear()
        module.__dict__.update(attributes)
        for key, content in nested.items():
            attributes[key].clear()
            attributes[key].update(content)

    undo.callback(restore)
    for key, value in attributes.items():
        if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
            module.__dict__[key] = converted(value.detach(), dtype)


def _borrow_storage(undo: ExitStack, tensor: Tensor, dtype: torch.dtype) -> None:
    own = tensor.data
    undo.callback(setattr, tensor, "data", own)
    tensor.data = converted(own, dtype)


def _borrow_generators(undo: ExitStack) -> None:
    undo.callback(random.setstate, random.getstate())
    undo.callback(np.random.set_state, np.random.get_state())
    undo.callback(torch.default_generator.set_state, torch.default_generator.get_state())
    if torch.cuda.is_initialized():
        undo.callback(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
    if torch.backends.mps.is_available():
        undo.callback(torch.mps.set_rng_state, torch.mps.get_rng_state())


def _borrow_precision(undo: ExitStack) -> None:
    """Switch off what rounds the factors of float32 products: TF32, and bfloat16 on the CPU."""
    backends: Any = torch.backends
    cards = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    for owner in [*cards, backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]:
        undo.callback(setattr, owner, "fp32_precision", owner.fp32_precision)
        owner.fp32_precision = "ieee"
