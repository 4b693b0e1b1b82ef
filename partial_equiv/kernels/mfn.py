"""Multiplicative filter networks: Fourier, Gabor and MAGNet kernels.

Axes: `...` any points, c coordinates of a point, h hidden features.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Gamma

from partial_equiv.errors import UserError
from partial_equiv.kernels.kernel import Kernel
from partial_equiv.kernels.linear import linear_of_parts

FREQUENCY_SCALE = 256.0  # of the filters' weights over torch's default, shared by the published networks


class FourierFilter(nn.Module):
    """f(x) = sin(W x + b), biases uniform in [-pi, pi].

    Args:
        in_features: c.
        out_features: h.
        scale: Factor on torch's default weights.
    """

    def __init__(self, in_features: int, out_features: int, *, scale: float) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        with torch.no_grad():
            self.linear.weight.mul_(scale)
        nn.init.uniform_(self.linear.bias, -math.pi, math.pi)

    def forward(self, *x: Tensor) -> Tensor:
        """Return sin(W x + b): [..., c], or parts of it, -> [..., h]."""
        return torch.sin(linear_of_parts(self.linear, x))


class GaborFilter(nn.Module):
    """f(x) = exp(-1/2 sum_c (gamma_c (x_c - mu_c))^2) sin(W x + b): waves in a Gaussian window.

    Args:
        in_features: c.
        out_features: h.
        scale: Factor on torch's default weights, besides gamma.
        concentration: gamma starts from Gamma(concentration, 1).
        anisotropic: A gamma for every coordinate instead of one for all.
    Shape:
        gamma [h, 1] or [h, c]; mu [h, c], uniform in [-1, 1].
    Source: Fathony et al. 2021; Romero et al. 2022 (FlexConv) for the anisotropic window.
    """

    def __init__(
        self, in_features: int, out_features: int, *, scale: float, concentration: float, anisotropic: bool
    ) -> None:
        super().__init__()
        self.mu = nn.Parameter(2 * torch.rand(out_features, in_features) - 1)
        widths = Gamma(concentration, 1.0).sample((out_features, in_features if anisotropic else 1))
        self.gamma = nn.Parameter(widths)
        self.wave = FourierFilter(in_features, out_features, scale=scale)
        with torch.no_grad():
            self.wave.linear.weight.mul_(widths)

    def forward(self, *x: Tensor) -> Tensor:
        """Return the windowed wave: [..., c], or parts of it, -> [..., h]."""
        square = self.gamma.square().expand_as(self.mu)
        # The square is multiplied out, so that no [..., h, c] tensor is made.
        distance = (square * self.mu.square()).sum(-1)
        widths = [part.shape[-1] for part in x]
        for part, gamma, slope in zip(x, square.split(widths, -1), (square * self.mu).split(widths, -1), strict=True):
            distance = distance + (part.square() @ gamma.T - 2 * (part @ slope.T))
        wave: Tensor = self.wave(*x)
        return torch.exp(-0.5 * distance.clamp_min(0)) * wave


class MultiplicativeFilterNetwork(Kernel):
    """z_0 = f_0(x), z_i = f_i(x) * (W_i z_{i-1} + b_i) for i = 1..L, then a linear layer.

    Args:
        in_features: c, coordinates of a position.
        out_features: o, values at a position.
        no_hidden: h.
        no_layers: L, hidden linear layers, at least 1; there are L + 1 filters.
        make_filter: Index of a filter -> the filter.
    Raises:
        UserError: no layer.
    Source: Fathony et al. 2021.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        no_hidden: int,
        no_layers: int,
        make_filter: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        if no_layers < 1:
            raise UserError(f"kernel.no_layers={no_layers} is too few: give 1 or more")
        self.filters = nn.ModuleList(make_filter(index) for index in range(no_layers + 1))
        linears = [nn.Linear(no_hidden, no_hidden) for _ in range(no_layers)]
        for linear in linears:
            nn.init.uniform_(linear.weight, -math.sqrt(1 / no_hidden), math.sqrt(1 / no_hidden))
        self.linears = nn.ModuleList(linears)
        self.readout = nn.Linear(no_hidden, out_features)

    def features(self, *points: Tensor) -> Tensor:
        """Return z_L: [..., c], or parts of it, -> [..., h]."""
        first, *others = self.filters
        z: Tensor = first(*points)
        for make_wave, linear in zip(others, self.linears, strict=True):
            z = make_wave(*points) * linear(z)
        return z


def make_mfn(
    in_features: int,
    out_features: int,
    *,
    no_hidden: int,
    no_layers: int,
    window: Literal["none", "isotropic", "anisotropic"],
) -> MultiplicativeFilterNetwork:
    """Return a multiplicative filter network with the published initialisation.

    Args:
        in_features: c.
        out_features: o.
        no_hidden: h.
        no_layers: L.
        window: "none" (Fourier), "isotropic" (Gabor) or "anisotropic" (MAGNet).
    """
    scale = FREQUENCY_SCALE / math.sqrt(no_layers + 1)

    def make_filter(index: int) -> nn.Module:
        if window == "none":
            return FourierFilter(in_features, no_hidden, scale=scale)
        concentration = 6 / (index + 1) if window == "anisotropic" else 6 / (no_layers + 1)
        return GaborFilter(
            in_features,
            no_hidden,
            scale=scale,
            concentration=concentration,
            anisotropic=window == "anisotropic",
        )

    return MultiplicativeFilterNetwork(
        in_features, out_features, no_hidden=no_hidden, no_layers=no_layers, make_filter=make_filter
    )


def make_fourier(in_features: int, out_features: int, *, no_hidden: int, no_layers: int) -> Kernel:
    """Return a Fourier network (see `make_mfn`)."""
    return make_mfn(in_features, out_features, no_hidden=no_hidden, no_layers=no_layers, window="none")


def make_gabor(in_features: int, out_features: int, *, no_hidden: int, no_layers: int) -> Kernel:
    """Return a Gabor network: isotropic windows (see `make_mfn`)."""
    return make_mfn(in_features, out_features, no_hidden=no_hidden, no_layers=no_layers, window="isotropic")


def make_magnet(in_features: int, out_features: int, *, no_hidden: int, no_layers: int) -> Kernel:
    """Return a MAGNet: anisotropic windows (see `make_mfn`)."""
    return make_mfn(in_features, out_features, no_hidden=no_hidden, no_layers=no_layers, window="anisotropic")
