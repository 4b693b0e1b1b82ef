"""Whether two networks say the same, and are equivariant alike.

Axes: B batch, C channels, Y X image.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from partial_equiv.audit import equivariance_error
from partial_equiv.errors import UserError
from partial_equiv.groups import Group

TOLERANCES = {torch.float32: (1e-5, 1e-4), torch.float64: (1e-12, 1e-9)}
"""What rounding allows: of the outputs, relative to the largest (or to 1), and of the equivariance error."""


class Agreement(NamedTuple):
    """How far a plain network is from its original.

    Args:
        difference: Largest |plain(x) - model(x)|, over the largest |model(x)| where that is above 1.
        error: Equivariance error of the original under `group`, see `partial_equiv.audit.equivariance_error`.
        plain_error: The same of the plain network.
        group: Of the moves: right angles, flips too where the network knows them.
    """

    difference: float
    error: float
    plain_error: float
    group: str


def compare(model: nn.Module, plain: nn.Module, images: Tensor) -> Agreement:
    """Return how far two networks in evaluation mode agree on images [B, C, Y, X], two or more."""
    group = _moves(model, images)
    before, after = (equivariance_error(net, images, group, dtype=images.dtype) for net in (model, plain))
    return Agreement(largest_difference(model, plain, images), before, after, group)


@torch.no_grad()
def largest_difference(first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor], images: Tensor) -> float:
    """Return max |second(x) - first(x)| / max(1, max |first(x)|); infinite for outputs of another shape or NaN."""
    wanted, found = first(images), second(images)
    if found.shape != wanted.shape:
        return math.inf
    difference = float((found - wanted).abs().max()) / max(1.0, float(wanted.abs().max()))
    return math.inf if math.isnan(difference) else difference


def check(agreement: Agreement, dtype: torch.dtype) -> None:
    """Check that a plain network agrees with its original.

    Raises:
        UserError: a figure is above what rounding allows; it is named.
    """
    allowed, allowed_error = TOLERANCES[dtype]
    if agreement.difference > allowed:
        raise UserError(
            f"the plain network differs from its original by {agreement.difference:.2g}, at most {allowed:g} is "
            f"rounding in {str(dtype).removeprefix('torch.')}: export in double precision with model.double(), and "
            "report it if that differs too"
        )
    before, after = agreement.error, agreement.plain_error
    if not (before == after or abs(after - before) <= allowed_error * max(1.0, before)):
        raise UserError(
            f"the plain network has an equivariance error of {after:.2g} under {agreement.group} and its original "
            f"{before:.2g}: export in double precision with model.double(), and report it if that differs too"
        )


def _moves(model: nn.Module, images: Tensor) -> str:
    """Return the group of right angles that images of this size turn by, with flips where the network knows them."""
    groups = [getattr(module, "group", None) for module in model.modules()]
    mirrored = any(isinstance(group, Group) and group.mirror for group in groups)
    return f"{'D' if mirrored else 'C'}{4 if images.shape[-2] == images.shape[-1] else 2}"
