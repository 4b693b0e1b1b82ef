"""Continuous kernels: networks from positions to weights, and the menu by name. They know no group."""

from collections.abc import Callable

from partial_equiv.kernels.kernel import Kernel, normalise_, normalise_product_
from partial_equiv.kernels.mfn import MultiplicativeFilterNetwork, make_fourier, make_gabor, make_magnet
from partial_equiv.kernels.mlp import MLP
from partial_equiv.kernels.siren import SIREN

__all__ = ["KERNELS", "MLP", "SIREN", "Kernel", "MultiplicativeFilterNetwork", "normalise_", "normalise_product_"]

KERNELS: dict[str, Callable[..., Kernel]] = {
    "SIREN": SIREN,
    "MLP": MLP,
    "Fourier": make_fourier,
    "Gabor": make_gabor,
    "MAGNet": make_magnet,
}
