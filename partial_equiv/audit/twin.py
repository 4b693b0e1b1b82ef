"""A network's symmetrised twin: its filters averaged over a group, so that nothing but the grid can break equivariance.

Axes: O I channels, V U filter.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from partial_equiv.audit.moves import Move, make_moves
from partial_equiv.errors import UserError

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def symmetrised_twin(model: nn.Module, group: str = "D4") -> nn.Module:
    """Return a copy of a network whose 2-D filters are averaged over the moves of the pixel grid.

    w(x) -> mean_g w(g^-1 x): the twin's convolutions commute with the group wherever their sampling grid allows, their
    filters being symmetric to the last bit. What else breaks equivariance, such as a flattening or a table of
    positions, stays as it is: the twin is a test of the grid, not a repair.

    Args:
        model: Any module; it is left alone.
        group: A group of right angles: C2, C4, D1, D2, D4, flip_h, flip_w.
    Raises:
        UserError: the group interpolates, no filter is found, or one is not square (or its stride, padding or dilation
            differs between the axes) and the group exchanges them.
    Source: Edixhoven, Lengyel & van Gemert 2023 (the condition it tests).
    """
    moves = make_moves(group)
    if not all(move.exact for move in moves):
        raise UserError(f"group={group!r} interpolates between pixels: give one of C2, C4, D1, D2, D4, flip_h, flip_w")
    names = [name for name, layer in model.named_modules() if isinstance(layer, CONVOLUTIONS)]
    if not names:
        raise UserError(f"{type(model).__name__} has no Conv2d or ConvTranspose2d whose filters could be averaged")
    try:
        twin = copy.deepcopy(model)
    except RuntimeError as error:
        raise UserError(
            f"{type(model).__name__} cannot be copied ({error}): give it without computed weights"
        ) from error
    for name in names:
        layer: Any = twin.get_submodule(name)
        _check_square(name, layer, moves)
        if parametrize.is_parametrized(layer, "weight"):
            # Taking parametrisations off would take them off the original too: the copy shares its class.
            parametrize.register_parametrization(layer, "weight", Averaged(moves), unsafe=True)
        else:
            with torch.no_grad():
                layer.weight.copy_(averaged(layer.weight, moves))
    return twin


class Averaged(nn.Module):
    """A parametrisation: the filters averaged over the moves and the identity."""

    def __init__(self, moves: Sequence[Move]) -> None:
        super().__init__()
        self.moves = tuple(moves)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the mean."""
        return averaged(weight, self.moves)


def averaged(weight: Tensor, moves: Sequence[Move]) -> Tensor:
    """Return filters averaged over the moves and the identity, equal to the last bit at taps that a move exchanges.

    Shape:
        [O, I, V, U] -> the same.
    """
    height, width = weight.shape[-2:]
    places = torch.arange(height * width, device=weight.device).reshape(height, width)
    orbit = torch.stack([places, *(move.images(places) for move in moves)])
    # Every tap takes the mean of its orbit as the first tap of the orbit computes it: sums in another order differ.
    first = orbit.amin(dim=0).flatten()
    flat = weight.flatten(-2).double()
    mean = flat[..., orbit.flatten(1)].mean(dim=-2)
    return mean[..., first].reshape(weight.shape).to(weight.dtype)


def _check_square(name: str, layer: nn.Conv2d | nn.ConvTranspose2d, moves: Sequence[Move]) -> None:
    if not any(move.swaps_axes for move in moves):
        return
    pairs = {"kernel_size": layer.kernel_size, "stride": layer.stride, "padding": layer.padding}
    for key, pair in (pairs | {"dilation": layer.dilation}).items():
        if isinstance(pair, tuple) and len(set(pair)) > 1:
            raise UserError(
                f"{key}={tuple(pair)} of {name or type(layer).__name__} differs between rows and columns, which the "
                "group exchanges: give group='C2' or 'D2'"
            )
