"""Real Wigner matrices: how a rotation acts on the functions of each degree on the sphere.

Axes: `...` any leading axes; m, n, k, j the 2l + 1 functions of one degree; a, b the three of degree 1.
"""

import functools
from collections.abc import Iterator

import numpy as np
import torch
from numpy.polynomial.legendre import Legendre, leggauss
from numpy.typing import NDArray
from torch import Tensor

from partial_equiv.errors import UserError


def wigner(rotation: Tensor, degree: int) -> Tensor:
    """Return D(R), by which the real spherical harmonics of one degree turn.

    Y(R x) = D(R) Y(x) for Y = (Y_-l, .., Y_l), so D(R S) = D(R) D(S) and D is orthogonal; D(R) is 1 for degree 0 and R
    on the coordinates (y, z, x) for degree 1. D is a polynomial in the entries of R, without angles and their locks.

    Args:
        rotation: Rotation matrices.
        degree: l, from 0.
    Shape:
        rotation [..., 3, 3] -> [..., 2l + 1, 2l + 1].
    Raises:
        UserError: a degree below 0.
    Source: the products of Ivanic & Ruedenberg 1996. Differs: their coefficients come from exact quadrature.
    """
    blocks = list(_blocks(rotation, degree))
    return blocks[-1]


def wigner_stack(rotation: Tensor, max_degree: int) -> Tensor:
    """Return the Wigner matrices of degree 0 to `max_degree`, each written row by row, in one line.

    Shape:
        rotation [..., 3, 3] -> [..., 1 + 9 + 25 + .. + (2 max_degree + 1)^2].
    Raises:
        UserError: a degree below 0.
    """
    return torch.cat([block.flatten(-2) for block in _blocks(rotation, max_degree)], dim=-1)


def stack_width(max_degree: int) -> int:
    """Return how many numbers `wigner_stack` gives."""
    return sum((2 * degree + 1) ** 2 for degree in range(max_degree + 1))


def _blocks(rotation: Tensor, max_degree: int) -> Iterator[Tensor]:
    """Yield D of degree 0 to `max_degree`: D_(l+1) = C^T (D_l x D_1) C for the coupling C of the two below it."""
    if max_degree < 0:
        raise UserError(f"degree {max_degree} of a Wigner matrix does not exist: give 0 or more")
    block = torch.ones_like(rotation[..., :1, :1])
    yield block
    first = rotation.roll((-1, -1), dims=(-2, -1))  # the functions of degree 1 are y, z and x, in this order
    for degree in range(max_degree):
        coupling = _coupling_on(degree, rotation.dtype, rotation.device)
        right = torch.einsum("...mn,nbj->...mbj", block, coupling)
        both = torch.einsum("...ab,...mbj->...maj", first, right)
        block = torch.einsum("mak,...maj->...kj", coupling, both)
        yield block


@functools.cache
def _coupling_on(degree: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the coupling as a tensor, kept: to send it to an accelerator in every step would make that wait."""
    with torch.inference_mode(False):  # what is made in that mode could not take part in a gradient later
        return torch.as_tensor(_coupling(degree), dtype=dtype, device=device)


@functools.cache
def _coupling(degree: int) -> NDArray[np.float64]:
    """Return the isometry C[m, a, k] of degree l + 1 into the products of degree l and 1.

    C is proportional to the mean of Y_l,m Y_1,a Y_(l+1),k over the sphere: by Gauss along z and by equal steps around
    z, both exact for polynomials of degree 2 l + 2.
    """
    heights, weights = leggauss(degree + 2)
    turns = 2 * np.pi * np.arange(2 * degree + 4) / (2 * degree + 4)
    z = np.repeat(heights, len(turns))
    weight = np.repeat(weights, len(turns)) / (2 * len(turns))
    around = np.tile(np.exp(1j * turns), len(heights)) * np.sqrt(1 - z**2)
    low, first, high = (_harmonics(around, z, weight, order) for order in (degree, 1, degree + 1))
    means = np.einsum("pm,pa,pk,p->mak", low, first, high, weight)
    coupling: NDArray[np.float64] = means / np.sqrt((means**2).sum(axis=(0, 1)))
    coupling[np.abs(coupling) < 1e-12] = 0  # rounding: the others are far from 0
    return coupling


def _harmonics(
    around: NDArray[np.complex128], z: NDArray[np.float64], weight: NDArray[np.float64], degree: int
) -> NDArray[np.float64]:
    """Return the real spherical harmonics at points (x + i y, z), mean square 1, order -l to l: [p, 2l + 1]."""
    functions = []
    for order in range(-degree, degree + 1):
        height = Legendre.basis(degree).deriv(abs(order))(z)
        power = around ** abs(order)
        functions.append(height * (power.imag if order < 0 else power.real))
    values = np.stack(functions, axis=-1)
    scaled: NDArray[np.float64] = values / np.sqrt(weight @ values**2)
    return scaled
