"""GCNN: a plain stack of group convolutions with continuous kernels."""

import torch
from torch import Tensor, nn

from partial_equiv.convs import GroupFeatureMap, mean_readout, spatial_max_pool
from partial_equiv.nets.kit import ConvKit
from partial_equiv.nets.widths import block_widths, check_blocks, map_sizes
from partial_equiv.ranks import rank_dropout


class ConvBlock(nn.Module):
    """Group convolution -> norm -> ReLU -> [pool] -> [dropout of whole channels].

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kit: Makers of the layers.
        dropout: Probability of dropping a channel, over all elements and pixels.
        pool: Halve the map.
    Shape:
        values [B, I, F, Y, X] -> [B, O, G, Y', X'].
    """

    def __init__(self, in_channels: int, out_channels: int, *, kit: ConvKit, dropout: float, pool: bool) -> None:
        super().__init__()
        self.conv, self.norm = kit.group_conv(in_channels, out_channels), kit.norm(out_channels)
        self.dropout, self.pool = dropout, pool

    def forward(self, f: GroupFeatureMap, generator: torch.Generator | None = None) -> GroupFeatureMap:
        """Apply the block."""
        f = self.norm(self.conv(f, generator)).map(torch.relu)
        f = spatial_max_pool(f) if self.pool else f
        if not self.dropout:
            return f
        return f.map(lambda x: rank_dropout(x, self.dropout, training=self.training, whole_channels=True))


class GCNN(nn.Module):
    """Lifting, a plain stack of group convolutions, the mean over everything, and a linear layer.

    Args:
        in_channels: Channels of the images.
        no_classes: Logits.
        size: (Y, X) of the images.
        kit: Makers of the layers.
        no_hidden: Base width.
        no_blocks: Group convolutions after the lifting.
        dropout: Probability of dropping a channel after the blocks in `dropout_blocks`.
        block_width_factors: [f1, n1, f2, n2, ...] or null, see `CKResNet`.
        pool_blocks: Blocks, counted from 1, that end with a 2x2 pooling.
        dropout_blocks: Blocks, counted from 1, that end with dropout.
    Shape:
        images [B, C, Y, X] -> logits [B, no_classes].
    Raises:
        UserError: factors, pools or dropouts that do not fit `no_blocks`, or a map that gets too small.
    Source: Romero & Lohit 2022, appendix.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        no_classes: int,
        size: tuple[int, int],
        kit: ConvKit,
        no_hidden: int,
        no_blocks: int,
        dropout: float,
        block_width_factors: list[float] | None,
        pool_blocks: list[int],
        dropout_blocks: list[int],
    ) -> None:
        super().__init__()
        check_blocks(no_hidden, no_blocks, dropout, [*pool_blocks, *dropout_blocks], lowest=1)
        list(map_sizes(size, kit.kernel.size, kit.conv.padding, [1] * (no_blocks + 1), pool_blocks))
        widths = [no_hidden, *block_widths(no_hidden, no_blocks, block_width_factors)]
        self.lifting, self.lifting_norm = kit.lifting(in_channels, no_hidden), kit.norm(no_hidden)
        self.blocks = nn.ModuleList(
            ConvBlock(
                widths[i],
                widths[i + 1],
                kit=kit,
                dropout=dropout if i + 1 in dropout_blocks else 0.0,
                pool=i + 1 in pool_blocks,
            )
            for i in range(no_blocks)
        )
        self.head = nn.Linear(widths[-1], no_classes)

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the logits; `generator` draws the random elements, None is torch's own."""
        f = self.lifting_norm(self.lifting(images, generator)).map(torch.relu)
        for block in self.blocks:
            f = block(f, generator)
        logits: Tensor = self.head(mean_readout(f))
        return logits
