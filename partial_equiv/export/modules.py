"""The few plain modules that torch.nn lacks.

Axes: B batch, C channels, G elements, Y X image. Features are [B, C * G, Y, X], flattened as (channel, element).
"""

import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from partial_equiv.convs import REDUCTIONS
from partial_equiv.nets import LevelHead, SymmetryNet, framed
from partial_equiv.symmetry import FAMILIES, family_levels


class Scale(nn.Module):
    """Multiply channels by fixed numbers: [B, C, Y, X] -> the same.

    Args:
        factors: [C].
    """

    factors: Tensor

    def __init__(self, factors: Tensor) -> None:
        super().__init__()
        self.register_buffer("factors", factors.detach().clone()[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        return x * self.factors


class Residual(nn.Module):
    """The sum of two branches.

    Args:
        main: The first.
        shortcut: The second.
    """

    def __init__(self, main: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.main, self.shortcut = main, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Add."""
        total: Tensor = self.main(x) + self.shortcut(x)
        return total


class WeightedNorm(nn.Module):
    """Group norm in which every channel counts by its weight: [B, C, Y, X] -> the same.

    Args:
        no_groups: Groups of neighbouring channels, each normalised by its own moments.
        weights: What a channel counts, [C].
        eps: Added to the variance.
    """

    weights: Tensor

    def __init__(self, no_groups: int, weights: Tensor, eps: float) -> None:
        super().__init__()
        self.no_groups, self.eps = no_groups, eps
        shares = weights.detach().reshape(no_groups, -1)
        self.register_buffer("weights", (shares / shares.sum(dim=1, keepdim=True)).clone())

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        grouped = x.unflatten(1, (self.no_groups, -1))
        shares = self.weights[:, :, None, None]
        mean = (shares * grouped).sum(2, keepdim=True).mean((3, 4), keepdim=True)
        centred = grouped - mean
        variance = (shares * centred.square()).sum(2, keepdim=True).mean((3, 4), keepdim=True)
        normalised: Tensor = (centred * torch.rsqrt(variance + self.eps)).flatten(1, 2)
        return normalised


class OverElements(nn.Module):
    """Reduce over the elements: [B, C * G, Y, X] -> [B, C, Y, X].

    Args:
        no_channels: C.
        kind: "max", "mean" or "logsumexp".
    """

    def __init__(self, no_channels: int, kind: Literal["max", "mean", "logsumexp"]) -> None:
        super().__init__()
        self.no_channels, self.kind = no_channels, kind

    def forward(self, x: Tensor) -> Tensor:
        """Reduce."""
        return REDUCTIONS[self.kind](x.unflatten(1, (self.no_channels, -1)), dim=2)


class WeightedMean(nn.Module):
    """Weighted mean over the elements: [B, C * G, Y, X] -> [B, C, Y, X].

    Args:
        weights: What each element counts, [G].
    """

    shares: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("shares", (weights / weights.sum()).detach().clone()[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Average."""
        mean: Tensor = (x.unflatten(1, (-1, len(self.shares))) * self.shares).sum(dim=2)
        return mean


class Maximum(nn.Module):
    """The maximum over elements and pixels: [B, C * G, Y, X] -> [B, C].

    Args:
        no_channels: C.
    """

    def __init__(self, no_channels: int) -> None:
        super().__init__()
        self.no_channels = no_channels

    def forward(self, x: Tensor) -> Tensor:
        """Take the maximum."""
        largest: Tensor = x.unflatten(1, (self.no_channels, -1)).amax(dim=(2, 3, 4))
        return largest


class MaximumAndMean(nn.Module):
    """Maximum and mean over the pixels, one after the other: [B, C, Y, X] -> [B, 2 C, 1, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        """Reduce."""
        axes = (-2, -1)
        return torch.cat([x.amax(axes, keepdim=True), x.mean(axes, keepdim=True)], dim=1)


class TurnedCopies(nn.Module):
    """Copies of every image, each warped by its own grid: [B, C, Y, X] -> [G * B, C, Y, X].

    Args:
        grid: Where the pixels are read, as `torch.nn.functional.grid_sample` takes it, [G, Y, X, 2].
    """

    grid: Tensor

    def __init__(self, grid: Tensor) -> None:
        super().__init__()
        self.register_buffer("grid", grid.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Warp."""
        channels, height, width = x.shape[1:]
        # Images as channels: one grid serves them all.
        planes = x.reshape(1, -1, height, width).expand(len(self.grid), -1, -1, -1)
        return functional.grid_sample(planes, self.grid, align_corners=False).reshape(-1, channels, height, width)


class MeanOfCopies(nn.Module):
    """Weighted mean over what a network says of each copy: [G * B, K] -> [B, K].

    Args:
        weights: What each copy counts, [G].
    """

    shares: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("shares", (weights / weights.sum()).detach().clone()[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Average."""
        mean: Tensor = (self.shares * x.unflatten(0, (len(self.shares), -1))).sum(dim=0)
        return mean


class Frame(nn.Module):
    """Images resized to their disc, see `partial_equiv.nets.framed`: [B, C, Y, X] -> [B, C, R, R].

    Args:
        resolution: R.
    """

    def __init__(self, resolution: int) -> None:
        super().__init__()
        self.resolution = resolution

    def forward(self, x: Tensor) -> Tensor:
        """Resize."""
        return framed(x, self.resolution)


class Levels(nn.Module):
    """The level of the most probable family, by the head of a `SymmetryNet`: z [B, d] -> [B], radians.

    Args:
        net: Its head and its choice of families are copied.
    """

    ruled_out: Tensor

    def __init__(self, net: SymmetryNet) -> None:
        super().__init__()
        self.head: LevelHead = copy.deepcopy(net.head)
        logits = net.head.last.weight.new_zeros(1, len(FAMILIES))
        self.register_buffer("ruled_out", net.restricted(logits).isinf())

    def forward(self, z: Tensor) -> Tensor:
        """Read off the level."""
        prediction = self.head(z)
        family = prediction.logits.masked_fill(self.ruled_out, -torch.inf).argmax(dim=-1)
        return family_levels(family, prediction.levels)
