"""What networks of finite groups on the pixel grid share: their group, and a width that meets a parameter budget."""

from collections.abc import Callable

import torch
from torch import nn

from partial_equiv.convs import BatchNorm, Split, check_pixel_group
from partial_equiv.errors import UserError
from partial_equiv.groups import PlanarGroup
from partial_equiv.nets.kit import ConvKit

MATCH = "match:"
LONGEST = 12  # digits of a width, or of parameters to match


def pixel_group(kit: ConvKit, name: str) -> PlanarGroup:
    """Return the group of a kit, for a network whose filters are permuted and not interpolated.

    Args:
        kit: What the configuration chose.
        name: Of the network, for messages.

    Raises:
        UserError: the group does not permute pixels, subsets are to be learned, or another norm is asked for.
    """
    group = kit.group
    assert isinstance(group, PlanarGroup)
    if kit.conv.partial_equiv:
        raise UserError(f"net.type={name} has fixed elements and learns no subset of them: set conv=full")
    try:
        check_pixel_group(group)
    except UserError:
        raise UserError(
            f"net.type={name} permutes pixels and base_group.name={group.name} does not: set base_group=C4, D4 or C1"
        ) from None
    if kit.norm is not BatchNorm:
        raise UserError(f"net.type={name} has batch normalisation alone: set net.norm=BatchNorm")
    return group


def pixel_split(kit: ConvKit, split: Split = None) -> Split:
    """Return the factorisation of the hidden filters: `net.split` where a network has one, else conv.factorization.

    Raises:
        UserError: the two ask for different ones.
    """
    asked: Split = None if kit.conv.factorization == "full" else kit.conv.factorization
    if split is not None and asked is not None and split != asked:
        raise UserError(f"net.split={split} and conv.factorization={asked} are two answers to one question: give one")
    return split or asked


def resolve_width(width: int | str, make: Callable[[int], nn.Module], name: str) -> int:
    """Return a width in channels: the number itself, or for "match:<n>" the one whose network has nearly n parameters.

    Args:
        width: Channels, or "match:<parameters>".
        make: Width -> network; it is called on the meta device, where nothing is allocated.
        name: Of the network, for messages.

    Raises:
        UserError: no number, or below 1.
    """
    text = str(width)
    target = text.removeprefix(MATCH)
    if not (target.isascii() and target.isdigit() and len(target) <= LONGEST and int(target) > 0):
        raise UserError(f"net.width={width!r} is no width of a {name}: give channels from 1, or match:<parameters>")
    if not text.startswith(MATCH):
        return int(target)

    def count(channels: int) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in make(channels).parameters())

    high = 1
    while count(high) < int(target):
        high *= 2
    low = high // 2
    while high - low > 1:  # parameters grow with the width
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < int(target) else (low, middle)
    return min((max(low, 1), high), key=lambda channels: abs(count(channels) - int(target)))
