"""Networks too large for this machine, refused before their memory is asked for: no swapping, no killed process."""

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from partial_equiv.errors import UserError

SHARE, LARGEST = 1 / 4, 1 / 16
"""Of the memory: for all weights, since a gradient and the averages of an optimiser take as much again, each; and for a
single tensor, since several live at a time."""
UNTOLD = 16 << 30  # bytes taken for the memory of a machine that does not tell
MOST_TENSORS = 20_000
CONTAINER = Path("/sys/fs/cgroup/memory.max")
MAKERS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.arange, torch.eye)
PRODUCTS = (torch.matmul, torch.bmm, Tensor.matmul, Tensor.__matmul__)
SPREADING = (torch.add, torch.sub, torch.mul, Tensor.add, Tensor.__add__, Tensor.__sub__, Tensor.__mul__, Tensor.mul)
REFUSALS = ("unpack", "overflowed", "allocate")
"""In torch's own words for sizes that no integer or no memory holds."""


@contextmanager
def memory_budget(where: str, memory: float | None = None) -> Iterator[None]:
    """Make a network in the block, unless its weights take a quarter of the memory, or a single tensor a 16th.

    Values and random numbers are those without the block.

    Args:
        where: Which keys to make smaller, for the message.
        memory: Bytes; None is that of this machine, or of the container that the process runs in.

    Raises:
        UserError: from the operation that would make too large a tensor, or one too many.
    """
    try:
        with Budget(where, usable_bytes() if memory is None else memory):
            yield
    except UserError:
        raise
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:
        if not (isinstance(error, OverflowError | MemoryError) or any(word in str(error) for word in REFUSALS)):
            raise
        raise UserError(f"this network is larger than any machine's memory: give smaller {where}") from error


class Budget(TorchFunctionMode):
    """Looks at tensors before they are made, see `memory_budget`: what is made of nothing, or larger than its sources.

    The meta device is free.
    """

    def __init__(self, where: str, memory: float) -> None:
        super().__init__()
        self.where, self.memory = where, memory
        self.spent, self.no_tensors = 0, 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Look, then do it."""
        kwargs = kwargs or {}
        if func in MAKERS and not on_meta(kwargs.get("device")):
            twin = func(*args, **kwargs | {"device": "meta"})  # of the same size, and of no memory
            self.no_tensors += 1
            self.spent += twin.numel() * twin.element_size()
            self.check(twin.numel() * twin.element_size())
        elif func is functional.linear and not on_meta(args[1].device):
            self.check(args[0].shape[:-1].numel() * len(args[1]) * args[1].element_size())
        elif func in PRODUCTS and not on_meta(args[1].device):
            self.check(args[0].shape[:-1].numel() * args[1].shape[-1] * args[1].element_size())
        elif func in SPREADING and all(isinstance(entry, Tensor) for entry in args[:2]) and not on_meta(args[1].device):
            self.check(spread(args[0].shape, args[1].shape) * args[1].element_size())
        return func(*args, **kwargs)

    def check(self, no_bytes: int) -> None:
        """Raise UserError if a tensor of so many bytes is too large, or if there are too many tensors."""
        remedy = f"give smaller {self.where}"
        if no_bytes > LARGEST * self.memory:
            most = f"at most {gibibytes(LARGEST * self.memory)} (a 16th of the memory) are made at once"
            raise UserError(f"this network needs a tensor of {gibibytes(no_bytes)}, and {most}: {remedy}")
        if self.spent > SHARE * self.memory:
            most = f"{gibibytes(SHARE * self.memory)} (a quarter of the memory)"
            raise UserError(f"this network has more than {most}, and its training takes four times as much: {remedy}")
        if self.no_tensors > MOST_TENSORS:
            raise UserError(f"this network has more than {MOST_TENSORS:,} tensors: {remedy}")


def spread(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many numbers two shapes have together; torch's own `broadcast_shapes` would load its compiler."""
    return math.prod(map(max, itertools.zip_longest(reversed(first), reversed(second), fillvalue=1)))


def gibibytes(no_bytes: float) -> str:
    """Return a number of bytes in words."""
    return f"{no_bytes / 2**30:,.3g} GiB"


def on_meta(device: torch.device | str | None) -> bool:
    """Say whether a device holds no memory."""
    return device is not None and torch.device(device).type == "meta"


def usable_bytes() -> float:
    """Return the bytes of memory of this machine, or of the container that this process runs in."""
    return min(machine_bytes(), container_bytes())


def machine_bytes() -> float:
    """Return the bytes of memory of this machine."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return UNTOLD


def container_bytes() -> float:
    """Return the bytes that this process may use, infinity outside a container with a limit."""
    try:
        return int(CONTAINER.read_text())
    except (OSError, ValueError):
        return math.inf
