"""What every probe is."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Union

from torch import nn

from partial_equiv.datasets import Batch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Artifact = Union["Figure", str, dict[str, Any]]
"""What goes into a file of its own: a picture, a page, or plain data."""


class Probe(ABC):
    """Measures a model on data and returns named numbers; the model is left as it was."""

    whole: ClassVar[bool] = False
    """Whether it is called with the objective, which has parts that only training needs, in the place of its model."""

    @abstractmethod
    def __call__(self, model: nn.Module, loader: Iterable[Batch]) -> dict[str, float]:
        """Return the numbers; the model is in evaluation mode and gradients are off."""

    # The two below are offers, not duties: most probes say all with their numbers.

    def words(self) -> str:
        """Return what the last call found as text for the terminal; empty where the numbers say it."""
        return ""

    def artifacts(self) -> dict[str, Artifact]:
        """Return, by file name, what the last call found beyond its numbers; nothing is written here."""
        return {}
