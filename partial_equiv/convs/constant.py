"""Small tensors that follow from plain numbers alone: made once for a device, constants of a compiled graph."""

import functools
from collections.abc import Callable, Hashable
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T", bound=tuple[object, ...])


def constant(make: Callable[..., T]) -> Callable[..., T]:
    """Return `make` with a memory: a step then copies no indices to its device, which it would have to wait for.

    Args:
        make: Plain values -> a tuple of tensors and plain values, which nobody changes.
    """
    kept: dict[tuple[Hashable, ...], T] = {}

    @functools.wraps(make)
    def recall(*key: Hashable) -> T:
        if key not in kept:
            with torch.inference_mode(False), torch.no_grad():  # what is made in inference never meets autograd again
                made = make(*key)
            if any(isinstance(part, Tensor) and type(part) is not Tensor for part in made):
                return made  # stand-ins of a trace, which end with it
            kept[key] = made
        return kept[key]

    # What torch.compiler.assume_constant_result does; calling it would load the compiler, two seconds of every start.
    recall._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return recall
