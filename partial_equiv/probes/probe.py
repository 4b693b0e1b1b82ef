"""What every probe is."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import nn

from partial_equiv.datasets import Batch


class Probe(ABC):
    """Measures a model on data and returns named numbers; the model is left as it was."""

    @abstractmethod
    def __call__(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """Return the numbers; the model is in evaluation mode and gradients are off."""
