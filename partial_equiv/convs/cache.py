"""The weights of a convolution in evaluation, made once and kept while what they were made from stays."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class KernelCache:
    """Remembers one weight and everything that it was made from; a copy or a pickle of it is empty.

    The sources are compared by value, so that every way to change a weight is noticed, `.data` included.
    """

    def __init__(self) -> None:
        self.weight: Tensor | None = None
        self.sources: list[Tensor] = []

    def __reduce__(self) -> tuple[type["KernelCache"], tuple[()]]:
        return KernelCache, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> "KernelCache":
        return KernelCache()

    def get(self, sources: list[Tensor]) -> Tensor | None:
        """Return the remembered weight if it was made from equal sources."""
        if self.weight is None or len(sources) != len(self.sources):
            return None
        return self.weight if all(map(_equal, sources, self.sources)) else None

    def put(self, sources: list[Tensor], weight: Tensor) -> None:
        """Remember a weight and copies of its sources."""
        self.sources, self.weight = [source.detach().clone() for source in sources], weight

    def clear(self) -> None:
        """Forget the weight."""
        self.weight, self.sources = None, []

    def recall(self, frozen: bool, sources: Callable[[], list[Tensor]], make: Callable[[], Tensor]) -> Tensor:
        """Return what `make` makes: anew where something may be learned, else once for equal sources.

        Args:
            frozen: Whether nothing is learned, so that the weight can be kept.
            sources: -> everything that the weight is made from.
            make: -> the weight.
        """
        if not frozen:
            self.clear()
            return make()
        found = sources()
        kept = self.get(found)
        if kept is None:
            # A tensor made in inference mode could never meet autograd again.
            with torch.inference_mode(False), torch.no_grad():
                kept = make()
                self.put(found, kept)
        return kept


def _equal(first: Tensor, second: Tensor) -> bool:
    alike = first.dtype == second.dtype and first.device == second.device and first.shape == second.shape
    return alike and torch.equal(first, second)
