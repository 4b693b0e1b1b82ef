"""GConvNet: seven group convolutions for small digits, the P4CNN of its paper, and with C1 the plain Z2CNN.

Axes: B batch, C channels, G elements, Y X image.
"""

import torch
from torch import Tensor, nn

from partial_equiv.convs import CosetPool, GConv2d, GroupPool2d, InRep
from partial_equiv.errors import UserError
from partial_equiv.nets.kit import ConvKit
from partial_equiv.nets.pixelgroups import pixel_group, pixel_split, resolve_width

NO_CONVS = 7


class GConvNet(nn.Module):
    """Six 3x3 convolutions and one of 4x4 without padding, norm and ReLU after each, then means, a maximum, a layer.

    Mean over pixels, maximum over elements, linear layer. Exactly invariant where every 2x2 pooling meets a map of even
    sides: with one pooling on even images (28), with two on multiples of 4.

    Args:
        in_channels: Channels of the images.
        no_classes: Logits.
        size: (Y, X) of the images.
        kit: Its group is C1, C2, C4, D1, D2 or D4; its factorization that of the hidden filters.
        width: Channels of every layer, or "match:<parameters>"; published: 10 for C4, 20 for C1.
        pool_blocks: Convolutions, counted from 1, that end with a 2x2 maximum.
        dropout_blocks: Convolutions, counted from 1, that end with dropout of single features.
        dropout: Its probability, in [0, 1).
    Shape:
        images [B, C, Y, X] -> logits [B, no_classes].
    Raises:
        UserError: a group that does not permute pixels, a layer that does not exist, or images too small.
    Source: Cohen & Welling 2016, section 8.1. Differs: the mean over pixels comes before the maximum over elements.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        no_classes: int,
        size: tuple[int, int],
        kit: ConvKit,
        width: int | str,
        pool_blocks: list[int],
        dropout_blocks: list[int],
        dropout: float,
    ) -> None:
        super().__init__()
        group, split = pixel_group(kit, "GConvNet"), pixel_split(kit)
        check_layers([*pool_blocks, *dropout_blocks], dropout, size, len(pool_blocks))

        def assemble(channels: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for number in range(1, NO_CONVS + 1):
                first, last = number == 1, number == NO_CONVS
                inputs, rep = in_channels if first else channels, in_rep(first)
                size, padding = (4, 0) if last else (3, 1)
                own = None if first else split  # a lifting has no elements to split off
                conv = GConv2d(group, inputs, channels, size, in_rep=rep, padding=padding, split=own)
                layers += [conv, nn.BatchNorm3d(channels), nn.ReLU()]
                layers += [nn.Dropout(dropout)] * (number in dropout_blocks)
                layers += [GroupPool2d("max")] * (number in pool_blocks)
            return nn.Sequential(*layers, nn.AdaptiveAvgPool3d((None, 1, 1)), CosetPool("max"), nn.Flatten(1))

        def network(channels: int) -> nn.Sequential:
            return nn.Sequential(assemble(channels), nn.Linear(channels, no_classes))

        self.layers, self.classify = network(resolve_width(width, network, "GConvNet"))

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the logits; nothing is drawn, and `generator` is taken because other networks need one."""
        logits: Tensor = self.classify(self.layers(images))
        return logits


def in_rep(first: bool) -> InRep:
    """Return what a convolution reads: the images, or a field on the group."""
    return "trivial" if first else "regular"


def check_layers(blocks: list[int], dropout: float, size: tuple[int, int], no_pools: int) -> None:
    """Check the choices of a GConvNet.

    Raises:
        UserError: a layer that does not exist, no probability, or images smaller than the last filter leaves room for.
    """
    outside = [block for block in blocks if not 1 <= block < NO_CONVS]
    if outside:
        raise UserError(
            f"convolutions {outside} do not exist or are the last one: give numbers from 1 to {NO_CONVS - 1}"
        )
    if not 0 <= dropout < 1:
        raise UserError(f"net.dropout={dropout} is not a probability below 1: give a number in [0, 1)")
    if min(size) >> no_pools < 4:
        raise UserError(
            f"images of {size[0]}x{size[1]} pixels are too small for {no_pools} poolings and the last 4x4 filter: "
            "pool less often or use larger images"
        )
