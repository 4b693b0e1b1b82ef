"""Pooling of features on a group: over pixels, over elements, or over everything.

Axes: B batch, C channels, G elements, Y X image.
"""

from torch import Tensor

from partial_equiv.convs.feature_map import GroupFeatureMap
from partial_equiv.convs.tiles import tile_maximum


def spatial_max_pool(f: GroupFeatureMap, size: int = 2) -> GroupFeatureMap:
    """Take the maximum over tiles of size x size pixels: [B, C, G, Y, X] -> [B, C, G, Y', X'].

    Exactly equivariant to right-angle turns only where `size` divides both sides of the map.
    """
    values = tile_maximum(f.values.flatten(1, 2), size)
    return f._replace(values=values.unflatten(1, f.values.shape[1:3]))


def max_readout(f: GroupFeatureMap) -> Tensor:
    """Take the maximum of the weighted values over elements and pixels: [B, C, G, Y, X] -> [B, C].

    For values of at least 0, an element of weight 0 has no say, and the maximum moves continuously with every weight.
    """
    return f.weighted().amax(dim=(2, 3, 4))


def mean_readout(f: GroupFeatureMap) -> Tensor:
    """Take the weighted mean over elements and pixels: [B, C, G, Y, X] -> [B, C]."""
    return element_mean(f).mean(dim=(-2, -1))


def element_mean(f: GroupFeatureMap) -> Tensor:
    """Take the weighted mean over elements: [B, C, G, Y, X] -> [B, C, Y, X]."""
    if f.weights is None:
        return f.values.mean(dim=2)
    return f.weighted().sum(dim=2) / f.weights.sum(dim=-1)[:, None, None, None]
