"""What a continuous kernel is: a small network from positions to convolution weights.

Axes: `...` any points, c coordinates of a point, h hidden features, o kernel values (output channels times input
    channels). Points come in parts: tensors whose last axes together are the c coordinates and whose other axes
    broadcast, so that a position met at every element of a group is multiplied once, not once for each.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from partial_equiv.kernels.linear import WeightNormLinear, scale_


class Kernel(nn.Module, ABC):
    """A network that gives the values of a convolution kernel at any position.

    k(x) = W phi(x) + b: features of a position, then one linear layer. A convolution computes phi at its few
    positions only and lets the linear layer write the weights in their final layout.

    Shape:
        points [..., c], or parts of them, -> values [..., o].
    """

    readout: nn.Linear | WeightNormLinear

    @abstractmethod
    def features(self, *points: Tensor) -> Tensor:
        """Return phi(x): [..., c], or parts of it, -> [..., h]."""

    def start_as_factor_(self, no_coordinates: int) -> None:
        """Prepare a fresh kernel, in place, to be one factor of a product; most kernels need nothing.

        A product of two odd kernels is the same at two elements half a turn apart, and so are their gradients: nothing
        would ever tell the elements apart. So a factor must not start as an odd function.

        Args:
            no_coordinates: Of a position in all factors together; where a kernel's frequencies depend on the number,
                the product then has those of one kernel of all coordinates.
        """

    def forward(self, *points: Tensor) -> Tensor:
        """Return the kernel's values: [..., c], or parts of it, -> [..., o]."""
        values: Tensor = self.readout(self.features(*points))
        return values


@torch.no_grad()
def normalise_(kernel: Kernel, *points: Tensor) -> None:
    """Scale the last layer in place so that the kernel's values have a mean square of 1 over `points`.

    A convolution can then fix the variance of its output by one constant, for every kernel type and shape.

    Args:
        kernel: The kernel, freshly initialised.
        points: Where it will be evaluated, [..., c] or parts of it.
    """
    spread = kernel(*points).square().mean().sqrt()
    scale = torch.where(spread > torch.finfo(spread.dtype).eps, spread, 1).reciprocal()  # a kernel that is 0 stays
    scale_(kernel.readout, scale)


@torch.no_grad()
def normalise_product_(first: Kernel, second: Kernel, points: Tensor, others: Tensor, no_outputs: int) -> None:
    """Scale the last layer of `second` in place so that products of two kernels' values have a mean square of 1.

    Args:
        first: Its values at `points` are [O * I].
        second: Its values at `others` are [O * I], or [O] for all input channels.
        points: Where the first will be evaluated, [..., c].
        others: Where the second will be, [..., c'].
        no_outputs: O.
    """
    power = first(points).square().flatten(0, -2).mean(0).reshape(no_outputs, -1)
    other = second(others).square().flatten(0, -2).mean(0).reshape(no_outputs, -1)
    spread = (power * other).mean().sqrt()
    scale_(second.readout, torch.where(spread > torch.finfo(spread.dtype).eps, spread, 1).reciprocal())
