"""LiftingNet: one lifting convolution and means, the smallest network that can learn to break its symmetry.

Axes: B batch, C channels, G elements, Y X image.
"""

import torch
from torch import Tensor, nn

from partial_equiv.convs import CosetPool, GConv2d
from partial_equiv.errors import UserError
from partial_equiv.nets.kit import ConvKit
from partial_equiv.nets.pixelgroups import pixel_group


class LiftingNet(nn.Module):
    """One lifting convolution, mean over pixels, maximum over elements, linear layer; no other nonlinearity.

    On a symmetric grid, (size + 2 padding - kernel_size) mod stride = 0, its logits are the same for an image and its
    turn, whatever it learns: their cross entropy stays at ln 2. On any other grid each tap visits another lattice of
    the turned image, and the filter can weigh that difference.

    Args:
        in_channels: Channels of the images.
        no_classes: Logits.
        size: Unused: the network takes any size.
        kit: Its group is C1, C2, C4, D1, D2 or D4.
        width: Channels of the convolution.
        kernel_size: Side of the filter in pixels.
        stride: Pixels between outputs.
        padding: Pixels of zeros on each side.
    Shape:
        images [B, C, Y, X] -> logits [B, no_classes].
    Raises:
        UserError: a group that does not permute pixels, a factorization, or numbers below 1.
    Source: Edixhoven et al. 2023, the demonstration of learned un-equivariance.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        no_classes: int,
        size: tuple[int, int],
        kit: ConvKit,
        width: int,
        kernel_size: int,
        stride: int,
        padding: int,
    ) -> None:
        super().__init__()
        group = pixel_group(kit, "LiftingNet")
        if kit.conv.factorization != "full":
            raise UserError(
                f"net.type=LiftingNet has one lifting, which conv.factorization={kit.conv.factorization} cannot split: "
                "set conv.factorization=full"
            )
        self.lifting = GConv2d(
            group, in_channels, width, kernel_size, in_rep="trivial", stride=stride, padding=padding, bias=True
        )
        self.pool, self.coset = nn.AdaptiveAvgPool3d((None, 1, 1)), CosetPool("max")
        self.classify = nn.Linear(width, no_classes)

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the logits; nothing is drawn, and `generator` is taken because other networks need one."""
        logits: Tensor = self.classify(self.coset(self.pool(self.lifting(images))).flatten(1))
        return logits
