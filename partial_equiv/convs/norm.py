"""Norms over features on a group, in which every element counts by its weight.

Axes: B batch, C channels, G elements, Y X image.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from partial_equiv.convs.feature_map import GroupFeatureMap
from partial_equiv.ranks import merge_moments


def weighted_moments(f: GroupFeatureMap, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return mean and (biased) variance of the values over `axes`, each element counted by its weight, axes kept."""
    assert f.weights is not None
    weights = f.weights[:, None, :, None, None].expand_as(f.values)
    total = weights.sum(axes, keepdim=True)
    mean = (weights * f.values).sum(axes, keepdim=True) / total
    return mean, (weights * (f.values - mean).square()).sum(axes, keepdim=True) / total


class BatchNorm(nn.Module):
    """Batch normalisation per channel over batch, elements and pixels, with running statistics for evaluation.

    The batch is that of all ranks (`partial_equiv.ranks.joined` sees to the norm inside).

    Shape:
        values [B, C, G, Y, X] -> the same.
    """

    def __init__(self, no_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(no_channels)

    def forward(self, f: GroupFeatureMap) -> GroupFeatureMap:
        """Normalise; weighted statistics where elements carry weights."""
        if f.weights is None or not self.training:
            return f.map(self.norm)
        own, spread = weighted_moments(f, (0, 2, 3, 4))
        mean, variance, count = merge_moments(own.flatten(), spread.flatten(), _count(f))
        self._update(mean, variance, count)
        mean, variance = mean.view_as(own), variance.view_as(own)
        scale = torch.rsqrt(variance + self.norm.eps)
        return f._replace(values=_affine((f.values - mean) * scale, self.norm.weight, self.norm.bias))

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
        momentum = norm.momentum if norm.momentum is not None else 0.1
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
        unbiased = variance * (count / (count - 1).clamp_min(1))
        norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), momentum)


class LayerNorm(nn.Module):
    """Layer normalisation per image over channels, elements and pixels, then a learned scale and shift per channel.

    Shape:
        values [B, C, G, Y, X] -> the same.
    """

    def __init__(self, no_channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, no_channels, eps=1e-12)

    def forward(self, f: GroupFeatureMap) -> GroupFeatureMap:
        """Normalise; weighted statistics where elements carry weights."""
        if f.weights is None:
            return f.map(self.norm)
        mean, variance = weighted_moments(f, (1, 2, 3, 4))
        scale = torch.rsqrt(variance + self.norm.eps)
        return f._replace(values=_affine((f.values - mean) * scale, self.norm.weight, self.norm.bias))


def instance_norm(f: GroupFeatureMap, eps: float = 1e-5) -> GroupFeatureMap:
    """Normalise per image and channel over elements and pixels, nothing learned: [B, C, G, Y, X] -> the same."""
    if f.weights is None:
        return f.map(lambda values: functional.layer_norm(values, values.shape[2:], eps=eps))
    mean, variance = weighted_moments(f, (2, 3, 4))
    return f._replace(values=(f.values - mean) * torch.rsqrt(variance + eps))


def _count(f: GroupFeatureMap) -> Tensor:
    """Return how many values of a channel count, each element by its weight."""
    assert f.weights is not None
    batch, _, _, height, width = f.values.shape
    return f.weights.sum() * (batch // len(f.weights) * height * width)


def _affine(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return values * weight[:, None, None, None] + bias[:, None, None, None]


NORMS = {"BatchNorm": BatchNorm, "LayerNorm": LayerNorm}
