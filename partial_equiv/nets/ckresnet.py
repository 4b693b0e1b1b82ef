"""CKResNet: a residual group-convolutional network with continuous kernels.

Axes: B batch, C channels, G elements, Y X image.
"""

import torch
from torch import Tensor, nn

from partial_equiv.convs import (
    GroupFeatureMap,
    check_room,
    element_mean,
    instance_norm,
    max_readout,
    resolve_size,
    spatial_max_pool,
)
from partial_equiv.errors import UserError
from partial_equiv.nets.kit import ConvKit
from partial_equiv.nets.widths import block_widths, check_blocks, map_sizes


class ResidualBlock(nn.Module):
    """Two group convolutions and a shortcut that follows their elements.

    conv -> instance norm -> ReLU -> dropout -> conv -> instance norm -> ReLU, + shortcut, -> norm -> [pool] -> ReLU.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kit: Makers of the layers.
        dropout: Probability of dropping a feature, in [0, 1).
        pool: Halve the map.
    Shape:
        values [B, I, F, Y, X] -> [B, O, G, Y', X'].
    """

    def __init__(self, in_channels: int, out_channels: int, *, kit: ConvKit, dropout: float, pool: bool) -> None:
        super().__init__()
        self.conv1 = kit.group_conv(in_channels, out_channels)
        self.conv2 = kit.group_conv(out_channels, out_channels)
        follows = kit.resamples or in_channels != out_channels
        self.shortcut = kit.pointwise(in_channels, out_channels) if follows else None
        self.norm = kit.norm(out_channels)
        self.dropout, self.pool = nn.Dropout(dropout), pool

    def forward(self, f: GroupFeatureMap, generator: torch.Generator | None = None) -> GroupFeatureMap:
        """Apply the block."""
        out = instance_norm(self.conv1(f, generator)).map(torch.relu).map(self.dropout)
        out = instance_norm(self.conv2(out, generator)).map(torch.relu)
        shortcut = f if self.shortcut is None else self.shortcut(f, out.sample)
        out = self.norm(out.map(lambda values: values + shortcut.values))
        out = spatial_max_pool(out) if self.pool else out
        return out.map(torch.relu)


class CKResNet(nn.Module):
    """Lifting, residual blocks, one last unpadded group convolution, the maximum over everything, and a linear layer.

    Invariant to the elements its layers cover, where the pixel grid allows; with `learnable_final_pooling` it is not.

    Args:
        in_channels: Channels of the images.
        no_classes: Logits; None leaves the linear layer out, for who takes the `features`.
        size: (Y, X) of the images.
        kit: Makers of the layers.
        no_hidden: Base width.
        no_blocks: Residual blocks.
        dropout: Probability inside the blocks.
        block_width_factors: [f1, n1, f2, n2, ...]: n1 blocks of width f1 * no_hidden, then n2 of f2; null for all 1.
        pool_blocks: Blocks, counted from 1, that end with a 2x2 pooling; 0 pools after the lifting.
        last_conv_T2: Average over elements before the last convolution, which then is a plain one.
        learnable_final_pooling: Weigh elements and pixels by learned numbers instead of taking the maximum.
        final_spatial_dim: [Y, X] of the map after the last convolution, for the learned pooling.
    Shape:
        images [B, C, Y, X] -> logits [B, no_classes]; without `no_classes` the maxima [B, no_channels].
    Raises:
        UserError: factors or pools that do not fit `no_blocks`, a map too small for the last kernel, learned pooling of
            a partial network or of another map size.
    Source: Romero & Lohit 2022, section 5.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        no_classes: int | None,
        size: tuple[int, int],
        kit: ConvKit,
        no_hidden: int,
        no_blocks: int,
        dropout: float,
        block_width_factors: list[float] | None,
        pool_blocks: list[int],
        last_conv_T2: bool,
        learnable_final_pooling: bool,
        final_spatial_dim: list[int],
    ) -> None:
        super().__init__()
        check_blocks(no_hidden, no_blocks, dropout, pool_blocks, lowest=0)
        widths = [no_hidden, *block_widths(no_hidden, no_blocks, block_width_factors)]
        self.lifting, self.lifting_norm = kit.lifting(in_channels, no_hidden), kit.norm(no_hidden)
        self.lifting_pool = 0 in pool_blocks
        self.blocks = nn.ModuleList(
            ResidualBlock(widths[i], widths[i + 1], kit=kit, dropout=dropout, pool=i + 1 in pool_blocks)
            for i in range(no_blocks)
        )
        self.last_conv_T2 = last_conv_T2
        make_last = kit.translation_conv if last_conv_T2 else kit.group_conv
        self.last_conv = make_last(widths[-1], widths[-1], padding="valid")
        self.last_norm = kit.norm(widths[-1])
        final = _final_size(size, kit, no_blocks, pool_blocks)
        self.pooling: nn.Linear | None = None
        if learnable_final_pooling:
            no_elements = 1 if last_conv_T2 else kit.no_samples
            self.pooling = _make_pooling(kit, no_elements, final, final_spatial_dim)
        self.no_channels = widths[-1]
        self.head = nn.Linear(widths[-1], no_classes) if no_classes is not None else nn.Identity()

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the logits; `generator` draws the random elements, None is torch's own."""
        f = self.features(images, generator)
        pooled = max_readout(f) if self.pooling is None else self.pooling(f.values.flatten(2)).squeeze(-1)
        logits: Tensor = self.head(pooled)
        return logits

    def features(self, images: Tensor, generator: torch.Generator | None = None) -> GroupFeatureMap:
        """Return what the readout sees: values [B, no_channels, G, Y', X'], all 0 or more."""
        f = self.lifting_norm(self.lifting(images, generator))
        f = (spatial_max_pool(f) if self.lifting_pool else f).map(torch.relu)
        for block in self.blocks:
            f = block(f, generator)
        if self.last_conv_T2:
            identity = self.last_conv.group.identity(f.elements.dtype, f.elements.device)
            f = GroupFeatureMap(element_mean(f).unsqueeze(2), identity.reshape(1, 1, -1))
        last: GroupFeatureMap = self.last_norm(self.last_conv(f, generator))
        return last.map(torch.relu)


def _final_size(size: tuple[int, int], kit: ConvKit, no_blocks: int, pool_blocks: list[int]) -> tuple[int, int]:
    """Return the map size after the last convolution, having checked every layer on the way."""
    convs_per_stage = [1, *[2] * no_blocks]
    if kit.conv.padding != "same" and resolve_size(kit.kernel.size, *size) != 2 * _pixels(kit.conv.padding) + 1:
        raise UserError(
            f"conv.padding={kit.conv.padding!r} changes the map and the shortcuts of a CKResNet need it unchanged: "
            "set conv.padding=same"
        )
    *_, last = map_sizes(size, kit.kernel.size, kit.conv.padding, convs_per_stage, pool_blocks)
    side = resolve_size(kit.kernel.size, *last)
    check_room(*last, side, "valid")
    return last[0] - side + 1, last[1] - side + 1


def _pixels(padding: str | int) -> int:
    return padding if isinstance(padding, int) else 0


def _make_pooling(kit: ConvKit, no_elements: int, final: tuple[int, int], given: list[int]) -> nn.Linear:
    if kit.conv.partial_equiv:
        raise UserError(
            "net.learnable_final_pooling=True weighs fixed elements and conv.partial_equiv=True learns them: "
            "set one to False"
        )
    if tuple(given) != final:
        raise UserError(
            f"net.final_spatial_dim={list(given)} is not the map after the last convolution: set it to {list(final)}"
        )
    return nn.Linear(no_elements * final[0] * final[1], 1)
