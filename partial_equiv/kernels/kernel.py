"""What a continuous kernel is: a small network from positions to convolution weights.

Axes: `...` any points, c coordinates of a point, h hidden features, o kernel values (output channels times input
    channels).
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
        points [..., c] -> values [..., o].
    """

    readout: nn.Linear | WeightNormLinear

    @abstractmethod
    def features(self, points: Tensor) -> Tensor:
        """Return phi(x): [..., c] -> [..., h]."""

    def forward(self, points: Tensor) -> Tensor:
        """Return the kernel's values: [..., c] -> [..., o]."""
        values: Tensor = self.readout(self.features(points))
        return values


@torch.no_grad()
def normalise_(kernel: Kernel, points: Tensor) -> None:
    """Scale the last layer in place so that the kernel's values have a mean square of 1 over `points`.

    A convolution can then fix the variance of its output by one constant, for every kernel type and shape.

    Args:
        kernel: The kernel, freshly initialised.
        points: Where it will be evaluated, [..., c].
    """
    spread = kernel(points).square().mean().sqrt()
    scale = torch.where(spread > torch.finfo(points.dtype).eps, spread, 1).reciprocal()  # a kernel that is 0 stays
    scale_(kernel.readout, scale)
