"""GResNet: a residual network of exact group convolutions, plain (C1) or equivariant to right angles and mirrors.

Axes: B batch, C channels, G elements, Y X image.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from partial_equiv.convs import CosetPool, GConv2d, GroupPool2d, Split, check_pixel_group
from partial_equiv.errors import UserError
from partial_equiv.groups import PlanarGroup
from partial_equiv.nets.kit import ConvKit
from partial_equiv.nets.pixelgroups import pixel_group, pixel_split, resolve_width

Head = Literal["coset_max", "coset_mean", "flat"]
Downsample = Literal["stride3", "stride4", "pool", "blur4"]
Stem = Literal["3x3", "7x7"]
LAYOUTS = {18: (2, 2, 2, 2), 44: (7, 7, 7)}
"""Depth -> residual blocks of each stage; every stage but the first halves the map."""


@dataclass(frozen=True)
class Recipe:
    """How the hidden layers of one network are made.

    Args:
        group: Of the fields.
        split: Factorisation of the filters.
        downsample: How a map is halved: exact on odd sides ("stride3") or on even ones (the others).
    """

    group: PlanarGroup
    split: Split
    downsample: Downsample

    def conv(self, in_channels: int, out_channels: int, size: int, *, stride: int = 1, padding: int = 0) -> GConv2d:
        """Return a fresh convolution without bias, for a norm follows; a filter of one pixel has nothing to split."""
        split = self.split if size > 1 else None
        return GConv2d(
            self.group, in_channels, out_channels, size, stride=stride, padding=padding, bias=False, split=split
        )

    def pool(self) -> GroupPool2d:
        """Return the layer that halves a map where no convolution does."""
        return GroupPool2d("blur4" if self.downsample == "blur4" else "avg")

    def spatial(self, in_channels: int, out_channels: int, stride: int) -> nn.Module:
        """Return the first convolution of a block, with what halves its map for a stride of 2."""
        if stride == 1:
            return self.conv(in_channels, out_channels, 3, padding=1)
        if self.downsample in ("stride3", "stride4"):
            return self.conv(in_channels, out_channels, int(self.downsample[-1]), stride=2, padding=1)
        return nn.Sequential(self.conv(in_channels, out_channels, 3, padding=1), self.pool())

    def shortcut(self, in_channels: int, out_channels: int, stride: int) -> nn.Module:
        """Return what leads the raw input past a block: itself, or a 1x1 convolution on the grid of the block."""
        if stride == 1 and in_channels == out_channels:
            return nn.Identity()
        strided = self.downsample == "stride3"
        conv = self.conv(in_channels, out_channels, 1, stride=stride if strided else 1)
        halved = [] if strided or stride == 1 else [self.pool()]
        return nn.Sequential(*halved, conv, nn.BatchNorm3d(out_channels))


class PreActivationBlock(nn.Module):
    """Norm, ReLU and convolution, twice, plus the raw input.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        stride: 1, or 2 to halve the map.
        recipe: Makes the layers.
    Shape:
        [B, I, G, Y, X] -> [B, O, G, Y', X'].
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, recipe: Recipe) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm3d(in_channels), recipe.spatial(in_channels, out_channels, stride)
        self.norm2, self.conv2 = nn.BatchNorm3d(out_channels), recipe.spatial(out_channels, out_channels, 1)
        self.shortcut = recipe.shortcut(in_channels, out_channels, stride)

    def forward(self, f: Tensor) -> Tensor:
        """Apply the block."""
        out = self.conv1(torch.relu(self.norm1(f)))
        out = self.conv2(torch.relu(self.norm2(out)))
        added: Tensor = out + self.shortcut(f)
        return added


class GResNet(nn.Module):
    """Stem, stages of pre-activation blocks that double the width, norm, ReLU, head, mean over pixels, linear layer.

    Its features are exactly equivariant where every halving has a symmetric grid: with "stride3" for sides of 1 mod 4
    (depth 44) or 1 mod 8 (depth 18), with the others for multiples of 4 or 8 (stem 3x3). The logits are then invariant
    with a coset head, never with "flat". With C1 it is a plain network of the same layout.

    Args:
        in_channels: Channels of the images.
        no_classes: Logits.
        size: Unused: the network takes any size.
        kit: Its group is C1, C2, C4, D1, D2 or D4.
        depth: 18 (stages of 2, 2, 2, 2 blocks) or 44 (7, 7, 7).
        width: Channels of the first stage, doubled from stage to stage, or "match:<parameters>".
        stage_widths: Channels of each stage instead; null goes by `width`.
        split: Factorisation of the hidden filters: "g" or "gc" (see `GConv2d`); null goes by conv.factorization.
        head: "coset_max" or "coset_mean" over elements, or "flat": channels x elements.
        downsample: "stride3" (3x3, stride 2), "stride4" (4x4, stride 2), "pool" (3x3, then 2x2 mean) or "blur4".
        stem: "3x3" at full resolution, or "7x7" of stride 2 with a norm, a ReLU and a 3x3 maximum of stride 2.
    Shape:
        images [B, C, Y, X] -> logits [B, no_classes].
    Raises:
        UserError: a group that does not permute pixels, an unknown depth, or widths that do not fit.
    Source: Edixhoven et al. 2023; He et al. 2016. Differs: the features are a method, not a second output; one initial
        scale serves all groups.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        no_classes: int,
        size: tuple[int, int],
        kit: ConvKit,
        depth: int,
        width: int | str,
        stage_widths: list[int] | None,
        split: Split,
        head: Head,
        downsample: Downsample,
        stem: Stem,
    ) -> None:
        super().__init__()
        group = pixel_group(kit, "GResNet")
        if depth not in LAYOUTS:
            raise UserError(f"net.depth={depth} is not one of: {', '.join(map(str, LAYOUTS))}")
        blocks, recipe = LAYOUTS[depth], Recipe(group, pixel_split(kit, split), downsample)

        def assemble(widths: list[int]) -> nn.ModuleDict:
            last = widths[-1] * (check_pixel_group(group) if head == "flat" else 1)
            return nn.ModuleDict(
                {
                    "stem": make_stem(group, in_channels, widths[0], stem),
                    "stages": make_stages(widths, blocks, recipe),
                    "norm": nn.BatchNorm3d(widths[-1]),
                    "coset": nn.Flatten(1, 2)
                    if head == "flat"
                    else CosetPool("max" if head == "coset_max" else "mean"),
                    "pool": nn.AdaptiveAvgPool2d(1),
                    "classify": nn.Linear(last, no_classes),
                }
            )

        if stage_widths is None:
            first = resolve_width(width, lambda channels: assemble(doubled(channels, len(blocks))), "GResNet")
            stage_widths = doubled(first, len(blocks))
        if len(stage_widths) != len(blocks) or min(stage_widths) < 1:
            raise UserError(
                f"net.stage_widths={stage_widths} does not fit net.depth={depth}: give {len(blocks)} widths from 1"
            )
        self.layers = assemble(stage_widths)

    def features(self, images: Tensor) -> Tensor:
        """Return the last field, after its ReLU: [B, C, Y, X] -> [B, C', G, Y', X']."""
        layers = self.layers
        return torch.relu(layers["norm"](layers["stages"](layers["stem"](images))))

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the logits; nothing is drawn, and `generator` is taken because other networks need one."""
        layers = self.layers
        logits: Tensor = layers["classify"](layers["pool"](layers["coset"](self.features(images))).flatten(1))
        return logits


def doubled(first: int, no_stages: int) -> list[int]:
    """Return the width of each stage, twice that of the one before."""
    return [first * 2**stage for stage in range(no_stages)]


def make_stages(widths: list[int], blocks: tuple[int, ...], recipe: Recipe) -> nn.Sequential:
    """Return the stages; the first block of each but the first stage halves the map."""
    stages, channels = nn.Sequential(), widths[0]
    for stage, (width, no_blocks) in enumerate(zip(widths, blocks, strict=True)):
        strides = [2 if stage else 1, *[1] * (no_blocks - 1)]
        inputs = [channels, *[width] * (no_blocks - 1)]
        pairs = zip(inputs, strides, strict=True)
        stages.append(nn.Sequential(*(PreActivationBlock(i, width, stride=s, recipe=recipe) for i, s in pairs)))
        channels = width
    return stages


def make_stem(group: PlanarGroup, in_channels: int, width: int, stem: Stem) -> nn.Module:
    """Return the lifting convolution, and for "7x7" what follows it up to a quarter of the resolution."""
    if stem == "3x3":
        return GConv2d(group, in_channels, width, 3, in_rep="trivial", padding=1, bias=False)
    lifting = GConv2d(group, in_channels, width, 7, in_rep="trivial", stride=2, padding=3, bias=False)
    # One element at a time: a maximum over 1 x 3 x 3.
    return nn.Sequential(
        lifting, nn.BatchNorm3d(width), nn.ReLU(), nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
    )
