"""Features on a group: values, the elements they belong to, and how much each element counts."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from partial_equiv.sampling import Sample


class GroupFeatureMap(NamedTuple):
    """Features f(x, h) on the plane and on sampled elements h of the stabilizer.

    Args:
        closure: Pixel symmetries under which the elements are known to be closed, see `Sample`.
    Shape:
        values [B, C, G, Y, X]; elements [S, G, d], S = 1 or B; weights [S, G] in [0, 1], None where all are 1.
    """

    values: Tensor
    elements: Tensor
    weights: Tensor | None = None
    closure: int = 1

    @property
    def sample(self) -> Sample:
        """The elements alone, for a layer that has to end at the same ones."""
        return Sample(self.elements, self.weights, self.closure)

    def map(self, function: Callable[[Tensor], Tensor]) -> "GroupFeatureMap":
        """Return the map with `function` applied to its values."""
        return self._replace(values=function(self.values))

    def weighted(self) -> Tensor:
        """Return the values, each element's multiplied by its weight."""
        return self.values if self.weights is None else self.values * self.weights[:, None, :, None, None]
