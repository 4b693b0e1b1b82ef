"""SIREN: sine layers, for kernels with fine detail."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from partial_equiv.errors import UserError
from partial_equiv.kernels.kernel import Kernel
from partial_equiv.kernels.linear import linear_of_parts, make_linear, scale_

LOWEST_OMEGA0, HIGHEST_OMEGA0 = 1e-6, 1e6  # beyond, float32 holds no weights for it


class Sine(nn.Module):
    """One layer sin(omega0 (W x + b)).

    Args:
        in_features: Width of the input.
        out_features: Width of the output.
        omega0: Frequency; multiplies weights and bias.
        learn_omega0: Make the frequency a parameter of this layer.
        weight_norm: Learn length and direction of the weight rows apart.
        bound: Weights start uniform in [-bound, bound], biases at 0.
    """

    roles: ClassVar[dict[str, str]] = {"omega0": "omega0"}
    omega0: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        omega0: float,
        learn_omega0: bool,
        weight_norm: bool,
        bound: float,
    ) -> None:
        super().__init__()
        self.linear = make_linear(in_features, out_features, bound=bound, weight_norm=weight_norm)
        if learn_omega0:
            self.omega0 = nn.Parameter(torch.full((1,), float(omega0)))
        else:
            self.register_buffer("omega0", torch.full((1,), float(omega0)))

    def forward(self, *x: Tensor) -> Tensor:
        """Return sin(omega0 (W x + b)): [..., in], or parts of it, -> [..., out]."""
        return torch.sin(self.omega0 * linear_of_parts(self.linear, x))


class SIREN(Kernel):
    """Sine network: no_layers - 1 sine layers, then a linear one.

    First weights uniform in +-1/c, the others in +-sqrt(6/h)/omega0, biases 0. The scale of the last layer is free: a
    convolution normalises it.

    Args:
        in_features: c, coordinates of a position.
        out_features: o, values at a position.
        no_hidden: h, width of the sine layers.
        no_layers: Layers in all, at least 2.
        omega0: Frequency of every sine layer, above 0.
        learn_omega0: Learn one frequency a layer, starting from `omega0`.
        weight_norm: Learn length and direction of every layer's weight rows apart.
    Raises:
        UserError: fewer than 2 layers, or `omega0` not above 0.
    Source: Sitzmann et al. 2020. Differs: weight norm reaches every layer of every convolution.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        no_hidden: int,
        no_layers: int,
        omega0: float,
        learn_omega0: bool,
        weight_norm: bool,
    ) -> None:
        super().__init__()
        if no_layers < 2:
            raise UserError(f"kernel.no_layers={no_layers} is too few for SIREN: give 2 or more")
        if not LOWEST_OMEGA0 <= omega0 <= HIGHEST_OMEGA0:
            least, most = f"{LOWEST_OMEGA0:g}", f"{HIGHEST_OMEGA0:g}"
            raise UserError(
                f"kernel.omega0={omega0} must be above 0 for SIREN, between {least} and {most}, for example 10"
            )
        inner = math.sqrt(6 / no_hidden) / omega0
        layers = [
            Sine(
                no_hidden if index else in_features,
                no_hidden,
                omega0=omega0,
                learn_omega0=learn_omega0,
                weight_norm=weight_norm,
                bound=inner if index else 1 / in_features,
            )
            for index in range(no_layers - 1)
        ]
        self.layers = nn.Sequential(*layers)
        self.readout = make_linear(no_hidden, out_features, bound=inner, weight_norm=weight_norm)

    @torch.no_grad()
    def start_as_factor_(self, no_coordinates: int) -> None:
        """Scale the first weights to +-1/no_coordinates and draw the phases omega0 b uniform in [-pi, pi]."""
        first = self.layers[0]
        assert isinstance(first, Sine)
        scale_(first.linear, torch.tensor(first.linear.weight.shape[1] / no_coordinates))
        first.linear.bias.uniform_(-math.pi, math.pi).div_(first.omega0)

    def features(self, *points: Tensor) -> Tensor:
        """Return the last sine layer's output: [..., c], or parts of it, -> [..., h]."""
        first, *others = self.layers
        features: Tensor = first(*points)
        for layer in others:
            features = layer(features)
        return features
